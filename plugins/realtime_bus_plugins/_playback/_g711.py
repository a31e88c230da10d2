"""The `audioop` module, wherever this Python has it."""

from __future__ import annotations

import warnings
from types import ModuleType

from realtime_bus import MissingExtra

__all__ = ["load_audioop"]


def load_audioop() -> ModuleType:
    """Return `audioop`: the standard library's before Python 3.13, audioop-lts from then on.

    Raises:
        MissingExtra: Python is 3.13 or newer and audioop-lts is not installed.
    """
    try:
        with warnings.catch_warnings():
            # 3.11 and 3.12 announce the module's removal; the replacement is in the extras
            warnings.simplefilter("ignore", DeprecationWarning)
            import audioop  # noqa: PLC0415 - only G.711 and resampling need it
    except ImportError as error:
        raise MissingExtra("audioop-lts", extra="server") from error
    return audioop

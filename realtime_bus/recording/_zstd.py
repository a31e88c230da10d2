"""zstd, which Python brings along from 3.14 on."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from realtime_bus.errors import MissingExtra


def zstd() -> Any:
    """Return the module.

    Raises:
        MissingExtra: It is not installed.
    """
    module: ModuleType
    if sys.version_info >= (3, 14):
        from compression import zstd as module  # noqa: PLC0415  # of that version's library
    else:
        try:
            from backports import zstd as module  # noqa: PLC0415  # of the extra
        except ImportError:
            raise MissingExtra("backports.zstd", extra="zstd") from None
    return module


def check_compression() -> None:
    """Complain if recordings cannot be compressed here.

    Raises:
        MissingExtra: What does so is not installed.
    """
    zstd()

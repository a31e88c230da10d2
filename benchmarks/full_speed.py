"""Socket to handler at full speed, beside all peers."""

from __future__ import annotations

from collections.abc import Callable

from realtime_bus.cli._bench import _socket
from realtime_bus.cli._bench._figures import Section

from . import _peers
from ._peers import rows

__all__ = ["rows", "section"]


def section(*, rounds: int, progress: Callable[[], object] = lambda: None) -> Section:
    """Measure all that is installed."""
    return _socket.full_speed(rows(), module=_peers.__name__, rounds=rounds, progress=progress)

"""Memory: an idle session, and a second of audio that waits for its handler."""

from __future__ import annotations

from collections.abc import Callable

from realtime_bus.cli._bench import _socket
from realtime_bus.cli._bench._figures import Section
from realtime_bus.cli._bench._rows import FLOOR, OURS

from . import _peers
from ._peers import LIVEKIT, PIPECAT, rows

__all__ = ["idle", "queued", "rows"]


def idle(*, progress: Callable[[], object] = lambda: None) -> Section:
    """Measure all that is installed; not Pipecat, whose sessions are whole pipelines."""
    fit = [row for row in rows() if row.name != PIPECAT]
    return _socket.idle_memory(fit, module=_peers.__name__, progress=progress)


def queued(*, progress: Callable[[], object] = lambda: None) -> Section:
    """Measure those that read on while a handler is busy; the others leave it to the kernel."""
    fit = [row for row in rows() if row.name in {OURS, FLOOR, LIVEKIT}]
    return _socket.queued_memory(fit, module=_peers.__name__, progress=progress)

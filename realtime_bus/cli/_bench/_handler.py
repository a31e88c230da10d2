"""What every library is given to do with its events: the same work for all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from time import perf_counter_ns
from typing import Literal, NamedTuple

import anyio

__all__ = ["Backlog", "Row", "Tally"]


class Tally:
    """Counts frames and bytes of audio, and notes how late each was, if that was asked for.

    Args:
        expected: After how many frames `ended` is set.
        clocked: Whether event ids hold the time of sending.
    """

    def __init__(self, *, expected: int = -1, clocked: bool = False) -> None:
        self.frames = 0
        self.audio_bytes = 0
        self.late_ns: list[int] = []
        self.ended = anyio.Event()
        self._expected = expected
        self._clocked = clocked

    def text(self, event_id: str) -> None:
        """Handle a transcript delta."""
        self._count(event_id)

    def audio(self, audio: bytes, event_id: str) -> None:
        """Handle an audio delta."""
        self.audio_bytes += len(audio)
        self._count(event_id)

    def _count(self, event_id: str) -> None:
        self.frames += 1
        if self._clocked and event_id:
            self.late_ns.append(perf_counter_ns() - int(event_id[6:]))
        if self.frames == self._expected:
            self.ended.set()


class Backlog:
    """Takes its time over audio, and notes how late the news of speech arrives."""

    def __init__(self, *, takes_s: float) -> None:
        self.takes_s = takes_s
        self.late_ns = 0
        self.heard = anyio.Event()

    async def audio(self, audio: bytes) -> None:  # noqa: ARG002  # decoded by whoever calls
        """Handle an audio delta."""
        await anyio.sleep(self.takes_s)

    def speech(self, event_id: str) -> None:
        """Handle the start of speech."""
        if not self.heard.is_set():
            self.late_ns = perf_counter_ns() - int(event_id[6:])
            self.heard.set()


class Row(NamedTuple):
    """One way to receive events over a socket.

    Attributes:
        name: What the tables call it.
        rule: What of it is measured: the fair rule of this row.
        needs: The module without which it is left out, or None.
        connect: Open a session whose events go to a `Tally`; None if it does not fit.
        connect_slow: Open one whose events go to a `Backlog`; None if it does not fit.
        backend: What runs it.
    """

    name: str
    rule: str
    needs: str | None
    connect: Callable[[str, Tally], AbstractAsyncContextManager[object]] | None
    connect_slow: Callable[[str, Backlog], AbstractAsyncContextManager[object]] | None = None
    backend: Literal["asyncio", "trio", "uvloop"] = "asyncio"

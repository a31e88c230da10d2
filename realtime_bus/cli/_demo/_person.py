"""The person: a microphone that is always on, and sometimes has speech in it."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import anyio

from realtime_bus.errors import SessionClosed
from realtime_bus.session import Session

__all__ = ["Person"]

_CHUNK_MS = 20
_BYTES_PER_MS = 48  # PCM16, 24 kHz


class Person:
    """Streams audio into a session in real time: silence, and what `say` was given.

    Attributes:
        speaking: Whether there is speech in what is being sent.
        said: Everything that was sent, PCM16 at 24 kHz.
        started_s: When its first sample was sent, on the clock of `time.perf_counter`.
        level: How loud the last chunk was, from 0 to 1.
    """

    def __init__(self, session: Session, *, on_change: Callable[[], None] = lambda: None) -> None:
        self._session = session
        self._on_change = on_change
        self._speech = bytearray()
        self._finished = anyio.Event()
        self.speaking = False
        self.said = bytearray()
        self.started_s = 0.0
        self.level = 0.0

    async def say(self, pcm: bytes) -> None:
        """Speak, in real time, and return when the last word is out."""
        self._finished = anyio.Event()
        self._speech += pcm
        await self._finished.wait()

    async def run(self) -> None:
        """Stream until the session ends."""
        self.started_s = started_s = perf_counter()
        sent = 0
        try:
            while True:
                chunk = self._next_chunk()
                self.said += chunk
                await self._session.append_audio(chunk)
                sent += 1
                # paced against the start, so that lateness does not add up
                await anyio.sleep(max(0.0, started_s + sent * _CHUNK_MS / 1000 - perf_counter()))
        except SessionClosed:
            return

    def _next_chunk(self) -> bytes:
        length = _CHUNK_MS * _BYTES_PER_MS
        chunk = bytes(self._speech[:length])
        del self._speech[:length]
        self._note(chunk)
        return chunk.ljust(length, b"\0")

    def _note(self, chunk: bytes) -> None:
        speaking = bool(chunk)
        self.level = _loudness(chunk)
        if speaking != self.speaking:
            self.speaking = speaking
            self._on_change()
        if not self._speech:
            self._finished.set()


def _loudness(chunk: bytes) -> float:
    """Return the peak of PCM16 audio, from 0 to 1."""
    if not chunk:
        return 0.0
    samples = memoryview(chunk).cast("h")
    return max(*samples, -min(samples)) / 32768

"""What a microphone gives: frames of 10 ms at 24 kHz, filtered, gated, and waiting to be read.

The rules:

1. The device's thread does the work, frame by frame: one channel of them all, 24 kHz, the filters
   (echo cancellation) in the order in which they were added, then the gate. A frame that comes out
   of the gate waits for the reader.
2. A gate is asked when a frame was recorded, not when it is read: what was said before a mute
   ended is not heard. What it keeps back becomes silence, so that the other side's clock goes on,
   or nothing at all.
3. The queue is bounded: the oldest makes room, and is counted. What is read at a time always fits.
4. A filter that raises is told of, and its frame passes as it was: a device whose thread is raised
   into would end.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TypeAlias

import anyio

from realtime_bus.audio import Resampler
from realtime_bus.log import Repeats, get_logger
from realtime_bus_plugins._playback import RATE_HZ

FRAME_MS = 10
CHUNK_FRAMES = 2
_FRAME_BYTES = 2 * RATE_HZ * FRAME_MS // 1000
_SILENCE = bytes(_FRAME_BYTES)
_log = get_logger("realtime_bus.plugins.devices")

Filter: TypeAlias = Callable[[bytes], bytes]
"""Takes 10 ms of PCM16 at 24 kHz in the device's thread, and returns what is to become of them."""

CallSoon: TypeAlias = Callable[[Callable[[], object]], None]

Passage: TypeAlias = Literal["open", "silent", "closed"]
"""What becomes of a frame: it passes, silence passes in its place, or nothing does."""


class Recorder:
    """Takes what a device records, and keeps it until it is read.

    Args:
        limit_s: How much may wait.
        gate: Says what becomes of the frame that was just recorded.
        on_drop: Called for each frame that made room for a newer one.
        filters: Called anew for every frame: the filters to apply.
    """

    def __init__(
        self,
        limit_s: float,
        *,
        gate: Callable[[], Passage],
        on_drop: Callable[[], object],
        filters: Callable[[], list[Filter]],
    ) -> None:
        self._frames: deque[bytes] = deque(
            maxlen=max(CHUNK_FRAMES, round(limit_s * 1000 / FRAME_MS))
        )
        self._gate = gate
        self._on_drop = on_drop
        self._filters = filters
        self._call_soon = from_other_threads()
        self._filled = anyio.Event()
        self._starved = anyio.Event()
        self._waiting = False  # or the reader has something to do
        self._rest = bytearray()
        self._resampler = Resampler(RATE_HZ, RATE_HZ)
        self._repeats = Repeats()
        self._ended = False

    def use(self, rate_hz: int) -> None:
        """Record from a device of this rate from now on."""
        self._resampler = Resampler(rate_hz, RATE_HZ, piece_ms=FRAME_MS)
        self._rest.clear()

    def take(self, buffer: Any, channels: int) -> None:
        """Take what the device recorded, in its thread."""
        pcm = bytes(buffer) if channels == 1 else _mean(bytes(buffer), channels)
        self._rest += self._resampler.feed(pcm)
        recorded = False
        while len(self._rest) >= _FRAME_BYTES:
            frame = bytes(self._rest[:_FRAME_BYTES])
            del self._rest[:_FRAME_BYTES]
            for apply in self._filters():
                frame = self._filtered(apply, frame)
            passage = self._gate()
            if passage != "closed":
                self._keep(frame if passage == "open" else _SILENCE)
                recorded = True
        if recorded:
            self._call_soon(self._wake)

    def _filtered(self, apply: Filter, frame: bytes) -> bytes:
        try:
            return apply(frame)
        except Exception as error:  # noqa: BLE001  # somebody else's: rule 4
            suppressed = self._repeats.due("filter", error=error)
            if suppressed is not None:
                _log.error("device.filter_failed", exc_info=error, **suppressed)
            return frame

    def _keep(self, frame: bytes) -> None:
        if len(self._frames) == self._frames.maxlen:
            self._on_drop()
        self._frames.append(frame)

    def forget(self) -> None:
        """Throw away what waits."""
        self._frames.clear()

    def end_soon(self) -> None:
        """Let `next` give what still waits, and then None; in any thread."""
        self._ended = True
        self._call_soon(self._wake)

    async def next(self) -> bytes | None:
        """Return the oldest `CHUNK_FRAMES`, once there are so many; at the end fewer, then None."""
        self._waiting = True
        while len(self._frames) < CHUNK_FRAMES and not self._ended:
            self._filled = anyio.Event()
            if len(self._frames) < CHUNK_FRAMES:  # still: the device has its own thread
                self._starved.set()
                await self._filled.wait()
        self._waiting = False
        count = min(CHUNK_FRAMES, len(self._frames))
        return b"".join(self._frames.popleft() for _ in range(count)) if count else None

    async def wait_empty(self) -> None:
        """Wait until the reader has done with all there was, and waits for more."""
        while not self._waiting or len(self._frames) >= CHUNK_FRAMES:
            self._starved = anyio.Event()
            await self._starved.wait()

    def _wake(self) -> None:
        self._filled.set()


def _mean(pcm: bytes, channels: int) -> bytes:
    """Return one channel of several."""
    import numpy as np  # noqa: PLC0415 - of the extra

    frames = np.frombuffer(pcm, "<i2").reshape(-1, channels)
    return bytes(np.rint(frames.mean(axis=1)).astype("<i2"))


def from_other_threads() -> CallSoon:
    """Return what schedules a call in the running event loop from another thread, while it runs.

    anyio's `from_thread.run_sync` waits for the call, which an audio callback must not.
    """
    trio = sys.modules.get("trio")
    schedule: Callable[[Callable[[], object]], object]
    if trio is not None and trio.lowlevel.in_trio_run():
        schedule = trio.lowlevel.current_trio_token().run_sync_soon
    else:
        schedule = asyncio.get_running_loop().call_soon_threadsafe

    def call_soon(function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody is there to be told
            schedule(function)

    return call_soon

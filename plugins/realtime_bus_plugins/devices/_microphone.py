"""The microphone."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import anyio
import anyio.to_thread

from realtime_bus import Session, SessionClosed
from realtime_bus import events as ev
from realtime_bus.events import AudioFormat
from realtime_bus_plugins._playback import ToSession, input_format

from ._open import CHUNK_MS, Device, open_stream

__all__ = ["Microphone"]


class Microphone:
    """A source and plugin that streams a microphone into the session, 20 ms at a time.

    The device is opened when the server has sent ``session.created``, and closed with the
    session. Audio waits in a queue of at most ``limit_s``; beyond that the oldest is dropped
    and counted in `dropped_chunks`: late speech is worth less than new speech.

    Args:
        device: Which microphone; None for the default.
        limit_s: How much recorded audio may wait for the network, in seconds.
    """

    def __init__(self, device: Device = None, *, limit_s: float = 2.0) -> None:
        self._device = device
        self._limit = max(1, round(limit_s * 1000 / CHUNK_MS))
        self.dropped_chunks = 0

    def attach(self, session: Session) -> None:
        """Stream into a session. Called by the bus."""
        created = anyio.Event()

        def begun(event: ev.SessionCreated) -> None:  # noqa: ARG001 - a handler
            if not created.is_set():
                created.set()

        session.on(ev.SessionCreated)(begun)
        session.start_soon(self._stream, session, created)

    async def chunks(self, audio_format: AudioFormat) -> AsyncGenerator[bytes, None]:
        """Yield audio in the given format as it is recorded, 20 ms at a time.

        Close it when you stop reading (`contextlib.aclosing`): that closes the device.

        Raises:
            MissingExtra: The package sounddevice, or what the format needs, is not installed.
            NoSoundDevice: The device could not be opened.
        """
        converter = ToSession(audio_format)
        async with aclosing(self._recorded()) as recorded:
            async for pcm in recorded:
                yield converter.convert(pcm)

    async def _stream(self, session: Session, created: anyio.Event) -> None:
        await created.wait()
        converter = ToSession(input_format(session.config))
        async with aclosing(self._recorded()) as recorded:
            async for pcm in recorded:
                wanted = input_format(session.config)
                if wanted != converter.audio_format:
                    converter = ToSession(wanted)
                try:
                    await session.append_audio(converter.convert(pcm))
                except SessionClosed:
                    return  # the session's end cancels this task, too; it may be seen here first

    async def _recorded(self) -> AsyncGenerator[bytes, None]:
        """Yield PCM16 at 24 kHz from the device, which is open as long as this is."""
        tape = _Tape(self._limit, self._drop)
        # opening a device takes tens of milliseconds: not in the reader's thread
        stream = await anyio.to_thread.run_sync(
            open_stream, "RawInputStream", self._device, tape.recorded
        )
        try:
            while True:
                yield await tape.next()
        finally:
            stream.abort()
            stream.close()

    def _drop(self) -> None:
        self.dropped_chunks += 1


class _Tape:
    """What was recorded and not yet read: written by PortAudio's thread, read by a task."""

    def __init__(self, limit: int, on_drop: Callable[[], None]) -> None:
        self._chunks: deque[bytes] = deque(maxlen=limit)  # full: the oldest makes room
        self._on_drop = on_drop
        self._call_soon = _from_other_threads()
        self._filled = anyio.Event()

    def recorded(self, audio: Any, frames: int, time: Any, status: Any) -> None:  # noqa: ARG002 - PortAudio's signature
        """Take what the device recorded. Runs in PortAudio's thread."""
        if len(self._chunks) == self._chunks.maxlen:
            self._on_drop()
        self._chunks.append(bytes(audio))
        self._call_soon(self._wake)

    async def next(self) -> bytes:
        """Return the oldest chunk, once there is one."""
        while not self._chunks:
            self._filled = anyio.Event()
            await self._filled.wait()
        return self._chunks.popleft()

    def _wake(self) -> None:
        self._filled.set()


def _from_other_threads() -> Callable[[Callable[[], object]], object]:
    """Return what schedules a call in the running event loop from another thread.

    anyio's `from_thread.run_sync` waits for the call, which an audio callback must not.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        schedule: Callable[[Callable[[], object]], object] = (
            trio.lowlevel.current_trio_token().run_sync_soon
        )
        return schedule
    return asyncio.get_running_loop().call_soon_threadsafe

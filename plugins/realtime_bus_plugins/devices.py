"""The machine's own microphone and loudspeaker, through PortAudio (package sounddevice).

::

    speaker = Speaker()
    bus = Bus(plugins=[Microphone(), speaker, Interruption(speaker)])

Without headphones the microphone hears the loudspeaker, and the assistant interrupts itself:
use headphones, or a device that cancels echo.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Self, TypeAlias

import anyio
import anyio.to_thread

from realtime_bus import MissingExtra, RealtimeBusError, Session, SessionClosed
from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem, SessionSlot, feed_sink
from realtime_bus.events import AudioFormat

from ._playback import RATE_HZ, Ribbon, ToSession

__all__ = ["Device", "Microphone", "NoSoundDevice", "Speaker"]

_CHUNK_MS = 20
_STREAM = {
    "samplerate": RATE_HZ,
    "channels": 1,
    "dtype": "int16",
    "blocksize": RATE_HZ * _CHUNK_MS // 1000,
}

Device: TypeAlias = int | str | None
"""A device by its number or (part of) its name; None is the system's default."""


class NoSoundDevice(RealtimeBusError):  # noqa: N818 - named for what it tells, as the core's
    """A microphone or loudspeaker could not be opened.

    Attributes:
        device: Which one was asked for; None for the default.
    """

    def __init__(self, message: str, *, device: Device = None) -> None:
        super().__init__(message)
        self.device = device


class Speaker:
    """A sink and plugin that plays on a loudspeaker.

    The device is opened when the speaker is attached to a session, and closed with it; what is
    still queued then is not played: wait until `playing` is false to hear the end. What counts
    as played is what the device has taken, at most its own latency (some 10 to 50 ms) before a
    person hears it; after `flush` the device gets silence.

    Args:
        device: Which loudspeaker; None for the default.
    """

    def __init__(self, device: Device = None) -> None:
        self._device = device
        self._stream: Any = None
        # PortAudio calls from a thread of its own; nothing slow is done while holding the lock
        self._lock = threading.Lock()
        self._timeline = Timeline(rate_hz=RATE_HZ)
        self._converter = FromSession()
        self._queue = bytearray()
        self._taken = 0
        self._slot = SessionSlot(
            self, "bus.connect(..., plugins=[speaker := Speaker(), Interruption(speaker)])"
        )

    def attach(self, session: Session) -> None:
        """Play a session's output audio, on a device that is opened now.

        Raises:
            UsageError: It is attached to a session already.
            MissingExtra: The package sounddevice is not installed.
            NoSoundDevice: The device could not be opened.
        """
        self.open()
        self._slot.take(session)
        feed_sink(session, self)
        session.on_close(self.close)

    def open(self) -> None:
        """Open the device; nothing happens if it is open.

        Raises:
            MissingExtra: The package sounddevice is not installed.
            NoSoundDevice: The device could not be opened.
        """
        if self._stream is None:
            self._stream = _open_stream("RawOutputStream", self._device, self._wanted)

    def close(self) -> None:
        """Fall silent and close the device; nothing happens if it is closed."""
        self.flush()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
            stream.close()

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of the audio that follows.

        Raises:
            MissingExtra: The format must be decoded, and audioop-lts is missing (Python 3.13).
        """
        self._converter.use(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Queue audio of an item behind what is already queued."""
        pcm = self._converter.convert(audio, (item_id, content_index))
        with self._lock:
            self._timeline.write(
                self._taken, len(pcm) // 2, item_id=item_id, content_index=content_index
            )
            self._queue.extend(pcm)

    def flush(self) -> list[PlayedItem]:
        """Fall silent now, and return every item that was playing or queued, in order."""
        with self._lock:
            self._queue.clear()
            played = self._timeline.flush(self._taken)
        self._converter.forget()
        return played

    def positions(self) -> list[PlayedItem]:
        """Return the same as `flush` would, without stopping anything."""
        with self._lock:
            return self._timeline.positions(self._taken)

    @property
    def playing(self) -> bool:
        """Whether something can be heard now, or is queued to be."""
        with self._lock:
            return self._timeline.playing(self._taken)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _wanted(self, out: Any, frames: int, time: Any, status: Any) -> None:  # noqa: ARG002 - PortAudio's signature
        """Hand the device what it plays next: the queue, then silence."""
        with self._lock:
            audio = bytes(self._queue[: 2 * frames])
            del self._queue[: 2 * frames]
            self._taken += frames
        out[:] = audio.ljust(2 * frames, b"\0")


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
        self._limit = max(1, round(limit_s * 1000 / _CHUNK_MS))
        self._slot = SessionSlot(self, "bus.connect(..., plugins=[Microphone()])")
        self.dropped_chunks: int = 0

    def attach(self, session: Session) -> None:
        """Stream into a session, one at a time.

        Raises:
            UsageError: It is attached to a session already.
        """
        self._slot.take(session)
        created = anyio.Event()

        def begun(event: ev.SessionCreated) -> None:  # noqa: ARG001 - a handler
            created.set()

        if session.settings.echo is not None:
            created.set()
        session.once(ev.SessionCreated)(begun)
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
        converter = ToSession(session.settings.input_format)
        async with aclosing(self._recorded()) as recorded:
            async for pcm in recorded:
                wanted = session.settings.input_format
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
            _open_stream, "RawInputStream", self._device, tape.recorded
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


def _open_stream(kind: str, device: Device, callback: Callable[..., None]) -> Any:
    """Open and start a stream of sounddevice, which has no types.

    Raises:
        MissingExtra: The package sounddevice is not installed.
        NoSoundDevice: There is no PortAudio or no such device, or it does not take 24 kHz mono.
    """
    try:
        sounddevice: Any = importlib.import_module("sounddevice")
    except ImportError as error:
        raise MissingExtra("sounddevice", extra="devices") from error
    except OSError as error:
        raise NoSoundDevice(
            f"sounddevice cannot be used: {error}; install PortAudio "
            "(Debian and Ubuntu: the package libportaudio2)"
        ) from error
    try:
        stream = getattr(sounddevice, kind)(
            **_STREAM, device=device, latency="low", callback=callback
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        name = "the default sound device" if device is None else f"sound device {device!r}"
        raise NoSoundDevice(
            f"{name} cannot be opened: {error}; list the devices with: python -m sounddevice",
            device=device,
        ) from error
    return stream

"""The machine's own microphone and loudspeaker, through PortAudio (package sounddevice).

::

    microphone, speaker = Microphone(), Speaker()
    bus = Bus(
        plugins=[
            microphone,
            speaker,
            EchoCancellation(microphone, speaker),  # of realtime_bus_plugins.echo_cancellation
            Interruption(speaker),
        ]
    )

Without echo cancellation or headphones the microphone hears the loudspeaker, and the assistant
interrupts itself; ``Microphone(half_duplex=speaker)`` is deaf while it speaks.

Devices are opened at the rate and with the channels that they take, off the event loop, before
the session begins. One that is lost is told of (`DeviceLost`), and opened again (`DeviceReopened`).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol, Self

import anyio
import anyio.to_thread

from realtime_bus import Session, SessionClosed, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem, SessionSlot, feed_sink
from realtime_bus.events import AudioFormat

from ._devices import (
    CHUNK_FRAMES,
    FRAME_MS,
    Device,
    DeviceLost,
    DeviceReopened,
    Filter,
    Keeper,
    NoSoundDevice,
    Passage,
    Player,
    Recorder,
    Stream,
    load_sounddevice,
)
from ._playback import ToSession

__all__ = [
    "Device",
    "DeviceLost",
    "DeviceReopened",
    "InputLevel",
    "Microphone",
    "NoSoundDevice",
    "Plays",
    "Speaker",
    "list_devices",
]

_CHUNK_MS = CHUNK_FRAMES * FRAME_MS
_SHORTEST_MS = 100  # of a turn that the server takes (input_audio_buffer_commit_empty)


class Speaker:
    """A sink and plugin that plays on a loudspeaker.

    The device is opened before the session begins, and closed with it; what the device has taken
    by then is heard to its end, what is still queued is not: wait until `playing` is false.

    What counts as played is what the device has taken. After `flush`, which returns in
    microseconds, the device is given a fade of 4 ms and then silence; a person hears that when the
    device has played what it had taken before, its `latency_s` later. So the account holds what
    the person will have heard, less those 4 ms.

    What is queued waits 3 s for a device that was lost, and is dropped then; without a session, in
    which it would be opened again, at once.

    Args:
        device: Which loudspeaker; None for the default.
    """

    def __init__(self, device: Device = None) -> None:
        self._player = Player()
        self._lost_for_good = False
        self._keeper = Keeper("speaker", device, self._block, on_given_up=self._give_up)
        self._slot = SessionSlot(
            self, "bus.connect(..., plugins=[speaker := Speaker(), Interruption(speaker)])"
        )

    async def prepare(self, session: Session) -> None:  # noqa: ARG002 - what the session calls
        """Open the device, without holding up the event loop.

        Raises:
            UsageError: It is attached to a session already.
            MissingExtra: The package sounddevice is not installed.
            NoSoundDevice: The device could not be opened.
        """
        self._slot.check_free()
        await anyio.to_thread.run_sync(self._keeper.open)

    def attach(self, session: Session) -> None:
        """Play a session's output audio.

        Raises:
            UsageError: It is attached to a session already.
        """
        self._slot.take(session)
        feed_sink(session, self)
        session.on_close(self.close)
        self._keeper.want()
        session.start_soon(self._keeper.keep, session)

    def open(self) -> None:
        """Open the device; nothing happens if it is open. Takes 300 ms the first time.

        Raises:
            MissingExtra: The package sounddevice is not installed.
            NoSoundDevice: The device could not be opened.
        """
        self._keeper.open()

    def close(self) -> None:
        """Drop what is queued, and close the device, once it has played what it has taken.

        Returns at once: a thread waits for the device. Nothing happens if it is closed.
        """
        self.flush()
        self._keeper.close()

    async def aclose(self) -> None:
        """Do what `close` does, and return when the device is closed."""
        self.flush()
        await anyio.to_thread.run_sync(functools.partial(self._keeper.close, wait=True))

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of the audio that follows.

        Raises:
            MissingExtra: The format must be decoded, and what does it is not installed.
        """
        self._player.start(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Queue audio of an item behind what is already queued."""
        if not self._lost_for_good:
            self._player.write(audio, item_id=item_id, content_index=content_index)

    def flush(self) -> list[PlayedItem]:
        """Fall silent now, and return every item that was playing or queued, in order."""
        return self._player.flush()

    def positions(self) -> list[PlayedItem]:
        """Return the same as `flush` would, without stopping anything."""
        return self._player.positions()

    @property
    def playing(self) -> bool:
        """Whether something is to be heard that the device has not taken yet."""
        return self._player.playing

    @property
    def dropped_bytes(self) -> int:
        """Audio that was not queued: half an hour of it waited already."""
        return self._player.dropped_bytes

    @property
    def latency_s(self) -> float:
        """How long what the device has taken is on its way to the ear, as far as it knows."""
        stream = self._keeper.stream
        return 0.0 if stream is None else stream.latency_s

    @property
    def underruns(self) -> int:
        """How often the device, as it is open now, was not given audio in time."""
        stream = self._keeper.stream
        return 0 if stream is None else stream.xruns

    def add_tap(self, tap: Callable[[bytes], object]) -> Callable[[], None]:
        """Call a function with all that the device is given: the reference of an echo canceller.

        Args:
            tap: Called with PCM16 at 24 kHz in the device's own thread: it must be quick.

        Returns:
            What takes it off again.
        """
        return self._player.add_tap(tap)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.flush()
        self._keeper.close(wait=True)

    def _block(self, stream: Stream) -> Callable[[Any, int], None]:
        self._player.use(stream.rate_hz)
        self._lost_for_good = False
        stream.on_lost = self._give_up  # unless a session's task keeps it

        def fill(buffer: Any, frames: int) -> None:
            self._player.fill(buffer, frames, stream.channels)

        return fill

    def _give_up(self) -> None:
        self._lost_for_good = True
        self.flush()


def list_devices() -> list[str]:
    """Return the machine's sound devices, a line each, as PortAudio knows them.

    The number at the beginning names a device, and so does (part of) its name; ``>`` marks the
    default microphone, ``<`` the default loudspeaker.

    Raises:
        MissingExtra: The package sounddevice is not installed.
        NoSoundDevice: There is no PortAudio.
    """
    return str(load_sounddevice().query_devices()).splitlines()


class InputLevel(ev.BusEvent, frozen=True, kw_only=True, tag="bus.input_level"):
    """How loud the microphone is, a few times a second: for a meter.

    Attributes:
        dbfs: RMS of what was sent since the last one, in dB below full scale; -100 for silence.
    """

    dbfs: float


class Plays(Protocol):
    """What a half-duplex microphone asks of a sink; every `AudioSink` has it."""

    @property
    def playing(self) -> bool:
        """Whether something can be heard now, or is queued to be. Asked in a device's thread."""
        ...


class Microphone:
    """A source and plugin that streams a microphone into the session, 20 ms at a time.

    The device is opened before the session begins, and closed with it; what it records is sent once
    the server has sent ``session.created``. Audio waits in a queue of at most ``limit_s``; beyond
    that the oldest is dropped and counted in `dropped_ms`: late speech is worth less than new.

    Emits `DeviceLost` and `DeviceReopened` when the device goes and comes back, and
    `InputLevel` if asked for.

    Args:
        device: Which microphone; None for the default.
        limit_s: How much recorded audio may wait for the network, in seconds.
        half_duplex: Be deaf while this sink plays: for loudspeakers without echo cancellation. The
            server gets silence, and nobody can interrupt.
        tail_s: How long the room goes on after the sink has been given its last sample: the
            device's latency, and the echo.
        push_to_talk: Send nothing but what is said between `press` and `release`.
        level_every_s: How often `InputLevel` is emitted, for a meter; None for never.

    Attributes:
        muted: Send silence.
        dropped_ms: How much recorded audio was dropped.
    """

    def __init__(
        self,
        device: Device = None,
        *,
        limit_s: float = 2.0,
        half_duplex: Plays | None = None,
        tail_s: float = 0.3,
        push_to_talk: bool = False,
        level_every_s: float | None = None,
    ) -> None:
        self._device = device
        self._limit_s = limit_s
        self._half_duplex = half_duplex
        self._tail_s = tail_s
        self._deaf_until_s = 0.0
        self._passing = not push_to_talk
        self._level_every_ms = None if level_every_s is None else 1000 * level_every_s
        self._filters: list[Filter] = []
        self._session: Session | None = None
        self._recorder: Recorder | None = None
        self._keeper: Keeper | None = None
        self._said_ms = 0
        self._slot = SessionSlot(self, "bus.connect(..., plugins=[Microphone()])")
        self.muted: bool = False
        self.dropped_ms: int = 0

    async def prepare(self, session: Session) -> None:  # noqa: ARG002 - what the session calls
        """Open the device, without holding up the event loop.

        Raises:
            UsageError: It is attached to a session already.
            MissingExtra: The package sounddevice is not installed.
            NoSoundDevice: The device could not be opened.
        """
        self._slot.check_free()
        self._recorder, self._keeper = self._make()
        await anyio.to_thread.run_sync(self._keeper.open)

    def attach(self, session: Session) -> None:
        """Stream into a session, one at a time.

        Raises:
            UsageError: It is attached to a session already.
        """
        self._slot.take(session)
        self._session = session
        session.on_close(self._detach)
        if self._recorder is None or self._keeper is None:  # nobody has prepared it
            self._recorder, self._keeper = self._make()
        recorder, keeper = self._recorder, self._keeper
        created = anyio.Event()

        def begun(event: ev.SessionCreated) -> None:  # noqa: ARG001 - a handler
            recorder.forget()
            created.set()

        if session.settings.echo is not None:
            created.set()
        session.once(ev.SessionCreated)(begun)
        keeper.want()
        session.start_soon(keeper.keep, session)
        session.start_soon(self._send, session, recorder, created)

    def _detach(self) -> None:
        keeper = self._keeper
        self._session = self._recorder = self._keeper = None
        if keeper is not None:
            keeper.close()

    async def chunks(self, audio_format: AudioFormat) -> AsyncGenerator[bytes, None]:
        """Yield audio in the given format as it is recorded, 20 ms at a time.

        Close it when you stop reading (`contextlib.aclosing`): that closes the device.

        Raises:
            MissingExtra: The package sounddevice, or what the format needs, is not installed.
            NoSoundDevice: The device could not be opened, or was lost.
        """
        converter = ToSession(audio_format)
        recorder, keeper = self._make(end_when_lost=True)
        try:
            await anyio.to_thread.run_sync(keeper.open)
            while (pcm := await recorder.next()) is not None:
                yield converter.convert(pcm)
        finally:
            keeper.close()
        name = "the default microphone" if self._device is None else repr(self._device)
        raise NoSoundDevice(f"{name} was lost", device=self._device)

    # --- push-to-talk ------------------------------------------------------------------------

    def press(self) -> None:
        """Let what is said from now on through: the button is down."""
        self._said_ms = 0
        if self._recorder is not None:
            self._recorder.forget()
        self._passing = True

    async def release(self) -> bool:
        """Let nothing more through, commit what was said, and ask for an answer: button up.

        Returns:
            Whether enough was said for a turn, which is 100 ms; otherwise it is thrown away.

        Raises:
            UsageError: The microphone is attached to no session, or no more.
            SessionClosed: The session ended meanwhile.
        """
        self._passing = False
        session, recorder = self._session, self._recorder
        if session is None or recorder is None:
            raise UsageError(
                "this Microphone is attached to no open session; give it to the bus: "
                "bus.connect(..., plugins=[Microphone(push_to_talk=True)])"
            )
        await recorder.wait_empty()
        if self._said_ms < _SHORTEST_MS:
            await session.clear_input()
            return False
        await session.commit_input()
        session.respond()
        return True

    # --- from the device to the session ------------------------------------------------------

    def add_filter(self, function: Filter) -> Callable[[], None]:
        """Let a function change what is recorded, before anybody hears it: an echo canceller.

        Args:
            function: Takes 10 ms of PCM16 at 24 kHz, and returns as much. Called in the device's
                own thread: it must be quick.

        Returns:
            What takes it off again.
        """
        self._filters = [*self._filters, function]

        def remove() -> None:
            self._filters = [other for other in self._filters if other is not function]

        return remove

    def _make(self, *, end_when_lost: bool = False) -> tuple[Recorder, Keeper]:
        recorder = Recorder(
            self._limit_s, gate=self._gate, on_drop=self._drop, filters=lambda: self._filters
        )

        def block(stream: Stream) -> Callable[[Any, int], None]:
            recorder.use(stream.rate_hz)
            if end_when_lost:
                stream.on_lost = recorder.end_soon

            def take(buffer: Any, frames: int) -> None:  # noqa: ARG001 - as the speaker's
                recorder.take(buffer, stream.channels)

            return take

        return recorder, Keeper("microphone", self._device, block)

    def _gate(self) -> Passage:
        """Say what becomes of the frame that was just recorded; in the device's thread."""
        if not self._passing:
            return "closed"
        if self.muted:
            return "silent"
        if self._half_duplex is None:
            return "open"
        now_s = time.monotonic()
        if self._half_duplex.playing:
            self._deaf_until_s = now_s + self._tail_s
        return "silent" if now_s < self._deaf_until_s else "open"

    def _drop(self) -> None:
        self.dropped_ms += FRAME_MS

    async def _send(self, session: Session, recorder: Recorder, created: anyio.Event) -> None:
        await created.wait()
        converter = ToSession(session.settings.input_format)
        meter = _Meter(session, self._level_every_ms)
        while (pcm := await recorder.next()) is not None:
            wanted = session.settings.input_format
            if wanted != converter.audio_format:
                converter = ToSession(wanted)
            try:
                await session.append_audio(converter.convert(pcm))
            except SessionClosed:
                return  # the session's end cancels this task, too; it may be seen here first
            self._said_ms += _CHUNK_MS
            meter.hear(pcm)


class _Meter:
    """Tells how loud it is, every so often."""

    def __init__(self, session: Session, every_ms: float | None) -> None:
        self._session = session
        self._every_ms = every_ms
        self._heard = b""

    def hear(self, pcm: bytes) -> None:
        if self._every_ms is None:
            return
        self._heard += pcm
        if len(self._heard) >= 48 * self._every_ms:
            self._session.emit(InputLevel(dbfs=_dbfs(self._heard)))
            self._heard = b""


def _dbfs(pcm: bytes) -> float:
    import numpy as np  # noqa: PLC0415 - of the extra

    rms = float(np.sqrt(np.mean(np.square(np.frombuffer(pcm, "<i2").astype("f4")))))
    return 20 * math.log10(rms / 32_768) if rms else -100.0

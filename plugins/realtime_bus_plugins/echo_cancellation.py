"""Echo cancellation: loudspeaker and microphone in one room, without headphones.

::

    microphone, speaker = Microphone(), Speaker()
    bus = Bus(
        plugins=[
            microphone,
            speaker,
            EchoCancellation(microphone, speaker),
            Interruption(speaker),
        ]
    )

WebRTC's echo canceller, which livekit's package carries (extra `aec`). It is given what the
loudspeaker was given, the reference, and takes it out of what the microphone hears, however the
room has changed it: 10 ms at a time, in the devices' own threads.

The rules:

1. The canceller finds out by itself how late the echo comes, but loses it when a person speaks at
   the very moment when the loudspeaker begins; then the assistant interrupts itself, each time so
   early that nothing is learned. So it is found out here: the lag at which what was recorded looks
   like what was played, which is looked for twice a second (`_EchoDelay`), and believed when they
   look very much alike.
2. Being told is not enough, for the canceller only begins with what it is told. So the reference
   is held back until `_AHEAD_MS` before its echo, where nothing is to be lost; and a canceller that
   has learned from another one is replaced.
3. No noise suppression is offered: it helps a listener, not a detector of speech.
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import anyio.to_thread

from realtime_bus import MissingExtra, Session
from realtime_bus.audio import SessionSlot

__all__ = ["EchoCancellation", "EchoCanceller", "Filtered", "Tapped"]

_RATE_HZ = 24_000
_FRAME = _RATE_HZ // 100
_FRAME_BYTES = 2 * _FRAME
_AHEAD_MS, _MOST_MS = 20, 500
_WAY = "bus.connect(..., plugins=[mic, speaker, EchoCancellation(mic, speaker), ...])"


class Tapped(Protocol):
    """A loudspeaker that lets others hear what it plays; `devices.Speaker` is one."""

    def add_tap(self, tap: Callable[[bytes], object], /) -> Callable[[], None]:
        """Call a function with all that is played, PCM16 at 24 kHz; return what ends it."""
        ...


class Filtered(Protocol):
    """A microphone that lets others change what it records; `devices.Microphone` is one."""

    def add_filter(self, function: Callable[[bytes], bytes], /) -> Callable[[], None]:
        """Pass 10 ms of PCM16 at 24 kHz at a time through a function; return what ends it."""
        ...


class EchoCanceller:
    """Take one sound out of another, 10 ms at a time. Each method may be called by one thread.

    Args:
        delay_ms: How long after `played` its echo is recorded, if that is known already.

    Raises:
        MissingExtra: The package livekit is not installed.
    """

    def __init__(self, *, delay_ms: int | None = None) -> None:
        try:
            self._rtc: Any = importlib.import_module("livekit.rtc")
        except ImportError as error:
            raise MissingExtra("livekit", extra="aec") from error
        self._rest = bytearray()
        self._delay = _EchoDelay(importlib.import_module("numpy"), delay_ms)
        silence = [bytes(_FRAME_BYTES)] * (1 + _MOST_MS // 10)
        self._held = deque(silence, len(silence))  # of the reference, in frames
        self._begin()

    def _begin(self) -> None:
        """Begin anew, with a reference that stands just before its echo."""
        self._delay_ms = self.delay_ms
        self._lag = max(0, (self.delay_ms or 0) - _AHEAD_MS) // 10
        self._module = self._rtc.AudioProcessingModule(  # takes a millisecond
            echo_cancellation=True,
            noise_suppression=False,
            high_pass_filter=True,  # which the canceller wants: rumble is no echo
            auto_gain_control=False,
        )

    @property
    def delay_ms(self) -> int | None:
        """How long after `played` its echo is recorded, as far as it is known."""
        return self._delay.found_ms

    def played(self, pcm: bytes) -> None:
        """Take note of what the loudspeaker is given, in any length: PCM16 at 24 kHz."""
        self._rest += pcm
        while len(self._rest) >= _FRAME_BYTES:
            frame = bytes(self._rest[:_FRAME_BYTES])
            del self._rest[:_FRAME_BYTES]
            self._delay.played(frame)
            self._held.append(frame)
            self._module.process_reverse_stream(self._frame(self._held[-1 - self._lag]))

    def recorded(self, frame: bytes) -> bytes:
        """Return what was recorded without the echo: 10 ms of PCM16 at 24 kHz."""
        self._delay.recorded(frame)
        before_ms, now_ms = self._delay_ms, self.delay_ms
        if now_ms is not None and (before_ms is None or abs(now_ms - before_ms) > _AHEAD_MS):
            self._begin()
        cleaned = self._frame(frame)
        self._module.set_stream_delay_ms(_AHEAD_MS)
        self._module.process_stream(cleaned)
        return bytes(cleaned.data)

    def _frame(self, pcm: bytes) -> Any:
        return self._rtc.AudioFrame(bytearray(pcm), _RATE_HZ, 1, _FRAME)


class _EchoDelay:
    """Finds how late an echo comes: the lag at which the last 2 s of both sounds correlate.

    Attributes:
        found_ms: The delay, once it is known.
    """

    _STEP = 8  # samples are looked at together: speech is loudest below 1.5 kHz
    _KEPT = 2 * _RATE_HZ
    _MOST = _MOST_MS * _RATE_HZ // 1000 // _STEP
    _EVERY = _RATE_HZ // 2
    _SPREAD = _RATE_HZ // 20 // _STEP
    _LEAST = _RATE_HZ // 5 // _STEP  # so much must have played
    _ALIKE = 0.6  # correlation, where 1 is the same sound

    def __init__(self, numpy: Any, found_ms: int | None) -> None:
        self.found_ms = found_ms
        self._np = numpy
        self._played = numpy.zeros(self._KEPT, "<i2")  # rings: each has its writer
        self._recorded = numpy.zeros(self._KEPT, "<i2")
        self._played_at = self._recorded_at = 0

    def played(self, frame: bytes) -> None:
        self._played_at = self._put(self._played, self._played_at, frame)

    def recorded(self, frame: bytes) -> None:
        self._recorded_at = self._put(self._recorded, self._recorded_at, frame)
        if self._recorded_at % self._EVERY == 0:
            self._look()

    def _put(self, ring: Any, at: int, frame: bytes) -> int:
        ring[at : at + _FRAME] = self._np.frombuffer(frame, "<i2")
        return (at + _FRAME) % self._KEPT

    def _last(self, ring: Any, at: int) -> Any:
        """Return the last 2 s, a sample for each step."""
        return self._np.roll(ring, -at).reshape(-1, self._STEP).mean(axis=1)

    def _look(self) -> None:
        np = self._np
        played = self._last(self._played, self._played_at)
        # only what can be the echo of something that is still known
        recorded = self._last(self._recorded, self._recorded_at)[self._MOST :]
        length = 2 * len(played)
        spectrum = np.fft.rfft(played, length)
        products = np.fft.irfft(np.conj(np.fft.rfft(recorded, length)) * spectrum, length)
        # recorded[n] looks like played[n + _MOST - lag]
        by_lag = np.abs(products[: self._MOST + 1][::-1])
        lag = int(np.argmax(by_lag))
        start = self._MOST - lag
        heard = played[start : start + len(recorded)]
        # what was said while nothing played makes the two no less alike
        loud = np.convolve(np.abs(heard), np.ones(self._SPREAD), "same") > self._SPREAD
        energy = np.sum(heard**2) * np.sum(recorded[loud] ** 2)
        if np.sum(loud) > self._LEAST and by_lag[lag] > self._ALIKE * np.sqrt(energy):
            self.found_ms = 1000 * lag * self._STEP // _RATE_HZ


class EchoCancellation:
    """A plugin that takes what the loudspeaker plays out of what the microphone records.

    It takes a second of the assistant's first words to know the room.

    Args:
        microphone: What records; a `devices.Microphone`.
        speaker: What plays in the same room; a `devices.Speaker`.
    """

    def __init__(self, microphone: Filtered, speaker: Tapped) -> None:
        self._microphone = microphone
        self._speaker = speaker
        self._canceller: EchoCanceller | None = None
        self._delay_ms: int | None = None
        self._slot = SessionSlot(self, _WAY)

    async def prepare(self, session: Session) -> None:  # noqa: ARG002 - what the session calls
        """Load the canceller, without holding up the event loop.

        Raises:
            UsageError: It is attached to a session already.
            MissingExtra: The package livekit is not installed.
        """
        self._slot.check_free()
        self._canceller = await anyio.to_thread.run_sync(self._make)

    def attach(self, session: Session) -> None:
        """Stand between the two devices for as long as the session lasts.

        Raises:
            UsageError: It is attached to a session already.
            MissingExtra: The package livekit is not installed.
        """
        self._slot.take(session)
        canceller = self._canceller or self._make()
        self._canceller = None  # the next session may be in another room

        def note_delay() -> None:  # but the devices are the same
            self._delay_ms = canceller.delay_ms

        session.on_close(note_delay)
        session.on_close(self._speaker.add_tap(canceller.played))
        session.on_close(self._microphone.add_filter(canceller.recorded))

    def _make(self) -> EchoCanceller:
        return EchoCanceller(delay_ms=self._delay_ms)

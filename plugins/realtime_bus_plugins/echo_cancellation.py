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

No noise suppression is offered: it helps a listener, not a detector of speech.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import anyio.to_thread

from realtime_bus import MissingExtra, Session
from realtime_bus.audio import SessionSlot

__all__ = ["EchoCancellation", "EchoCanceller", "Filtered", "Tapped"]

_RATE_HZ = 24_000
_FRAME = _RATE_HZ // 100
_FRAME_BYTES = 2 * _FRAME
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

    Raises:
        MissingExtra: The package livekit is not installed.
    """

    def __init__(self) -> None:
        try:
            self._rtc: Any = importlib.import_module("livekit.rtc")
        except ImportError as error:
            raise MissingExtra("livekit", extra="aec") from error
        self._module: Any = self._rtc.AudioProcessingModule(
            echo_cancellation=True,
            noise_suppression=False,
            high_pass_filter=True,  # which the canceller wants: rumble is no echo
            auto_gain_control=False,
        )
        self._rest = bytearray()

    def played(self, pcm: bytes) -> None:
        """Take note of what the loudspeaker is given, in any length: PCM16 at 24 kHz."""
        self._rest += pcm
        while len(self._rest) >= _FRAME_BYTES:
            self._module.process_reverse_stream(self._frame(self._rest[:_FRAME_BYTES]))
            del self._rest[:_FRAME_BYTES]

    def recorded(self, frame: bytes) -> bytes:
        """Return what was recorded without the echo: 10 ms of PCM16 at 24 kHz."""
        cleaned = self._frame(frame)
        self._module.process_stream(cleaned)
        return bytes(cleaned.data)

    def expect_after(self, delay_ms: int) -> None:
        """Say how long after `played` its echo is recorded, about; it is found out, too."""
        self._module.set_stream_delay_ms(delay_ms)

    def _frame(self, pcm: bytes | bytearray) -> Any:
        return self._rtc.AudioFrame(bytearray(pcm), _RATE_HZ, 1, _FRAME)


class EchoCancellation:
    """A plugin that takes what the loudspeaker plays out of what the microphone records.

    The first second or so of a conversation is how long it takes to know the room.

    Args:
        microphone: What records; a `devices.Microphone`.
        speaker: What plays in the same room; a `devices.Speaker`.
    """

    def __init__(self, microphone: Filtered, speaker: Tapped) -> None:
        self._microphone = microphone
        self._speaker = speaker
        self._canceller: EchoCanceller | None = None
        self._slot = SessionSlot(self, _WAY)

    async def prepare(self, session: Session) -> None:  # noqa: ARG002 - what the session calls
        """Load the canceller, without holding up the event loop.

        Raises:
            UsageError: It is attached to a session already.
            MissingExtra: The package livekit is not installed.
        """
        self._slot.check_free()
        self._canceller = await anyio.to_thread.run_sync(EchoCanceller)

    def attach(self, session: Session) -> None:
        """Stand between the two devices for as long as the session lasts.

        Raises:
            UsageError: It is attached to a session already.
            MissingExtra: The package livekit is not installed.
        """
        self._slot.take(session)
        canceller = self._canceller or EchoCanceller()
        self._canceller = None  # the next session may be in another room
        session.on_close(self._speaker.add_tap(canceller.played))
        session.on_close(self._microphone.add_filter(canceller.recorded))

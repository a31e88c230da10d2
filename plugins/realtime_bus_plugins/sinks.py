"""Sinks that play against a clock instead of on a device.

`WavSink` keeps what a person would have heard, `NullSink` keeps only the account of it. Both are
plugins: they play the session they are attached to.
"""

from __future__ import annotations

import os
import time
import wave
from collections.abc import Callable
from typing import Self, TypeAlias

import msgspec

from realtime_bus import Session
from realtime_bus.audio import PlayedItem, SessionSlot, feed_sink
from realtime_bus.events import AudioFormat

from ._playback import RATE_HZ, Ribbon

__all__ = ["NullSink", "Track", "WavSink", "write_stereo_wav", "write_wav"]

_StrPath: TypeAlias = str | os.PathLike[str]


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a conversation.

    Attributes:
        pcm: PCM16 little-endian mono.
        start_s: When its first sample was heard or said, on a clock that both sides share.
    """

    pcm: bytes
    start_s: float = 0.0


class _ClockSink:
    """Plays at the pace of a clock; sample 0 is at the first `start` or `write`."""

    _counting_only = True

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.perf_counter
        self._own_clock = clock is not None
        self._ahead_s = 0.0  # by which it goes on where another clock has stopped
        self._origin_s: float | None = None
        self._ribbon = Ribbon(counting_only=self._counting_only)
        name = type(self).__name__
        self._slot = SessionSlot(
            self, f"bus.connect(..., plugins=[sink := {name}(), Interruption(sink)])"
        )

    def attach(self, session: Session) -> None:
        """Play a session's output audio, one session at a time: sounds are not mixed.

        Raises:
            UsageError: It is attached to a session already.
        """
        self._slot.take(session)
        if not self._own_clock:
            self._go_by(session.clock)
        feed_sink(session, self)
        session.on_close(self._leave)

    def _leave(self) -> None:
        try:
            self.close()
        finally:
            if not self._own_clock:
                self._go_by(time.perf_counter)

    def _go_by(self, clock: Callable[[], float]) -> None:
        """Go by another clock; nothing that was begun is heard earlier or later for it."""
        if self._origin_s is not None:
            self._ahead_s += self._clock() - clock()
        self._clock = clock

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of the audio that follows, and start the clock.

        Raises:
            MissingExtra: The format must be decoded, and what does it is not installed.
        """
        self._begin()
        self._ribbon.start(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Queue audio of an item behind what is already queued."""
        self._begin()
        self._ribbon.write(self._now(), audio, item_id=item_id, content_index=content_index)

    @property
    def dropped_bytes(self) -> int:
        """Audio that was not queued: half an hour of it waited already."""
        return self._ribbon.dropped_bytes

    def flush(self) -> list[PlayedItem]:
        """Fall silent now, and return every item that was playing or queued, in order."""
        return self._ribbon.flush(self._now())

    def positions(self) -> list[PlayedItem]:
        """Return the same as `flush` would, without stopping anything."""
        return self._ribbon.positions(self._now())

    @property
    def playing(self) -> bool:
        """Whether something can be heard now, or is queued to be."""
        return self._ribbon.playing(self._now())

    @property
    def remaining_s(self) -> float:
        """How long what is queued will still play, in seconds."""
        return self._ribbon.remaining(self._now()) / RATE_HZ

    @property
    def started_s(self) -> float | None:
        """What the clock showed at the first sample, or None if nothing started it yet.

        In a session, and without a clock of its own, that is `Session.clock`.
        """
        return self._origin_s

    def close(self) -> None:
        """Fall silent. The session's end does it, too; the sink can be used again."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _begin(self) -> None:
        if self._origin_s is None:
            self._origin_s = self._clock()

    def _now(self) -> int:
        """Return the sample that is played now."""
        if self._origin_s is None:
            return 0
        now_s = self._clock() + self._ahead_s
        # a thousandth of a sample more: seconds as floats fall that much short of a whole one
        return int((now_s - self._origin_s) * RATE_HZ + 1e-3)


class NullSink(_ClockSink):
    """Play into nothing, at the pace of a clock: for tests, benchmarks and headless bots.

    Args:
        clock: Returns seconds; any zero point. By default a session's clock goes in a session,
            and `time.perf_counter` outside of one.
    """


class WavSink(_ClockSink):
    """Keep what a person would have heard, in its real positions, and write it to a WAV file.

    Silence stands where nothing played, and what was flushed is not in it. The file is PCM16,
    24 kHz, mono, whatever the session's format. It is written by `close`, which the end of the
    session calls; until then the audio is kept in memory (2.9 MB a minute).

    Args:
        path: Where to write it; None to keep it in memory only.
        clock: Returns seconds; any zero point. By default a session's clock goes in a session,
            and `time.perf_counter` outside of one.
    """

    _counting_only = False

    def __init__(
        self, path: _StrPath | None = None, *, clock: Callable[[], float] | None = None
    ) -> None:
        super().__init__(clock=clock)
        self.path = path

    @property
    def heard(self) -> bytes:
        """What was heard until now, from the first sample on: PCM16, 24 kHz, mono."""
        return self._ribbon.until(self._now())

    @property
    def track(self) -> Track:
        """What was heard until now, as one side of `write_stereo_wav`."""
        pcm = self.heard
        return Track(pcm=pcm, start_s=self._origin_s or 0.0)

    def close(self) -> None:
        """Fall silent and write the file. Called by the session's end; may be called again.

        Raises:
            OSError: The file cannot be written.
        """
        super().close()
        if self.path is not None:
            write_wav(self.path, self.heard)


def write_wav(path: _StrPath, pcm: bytes, *, rate_hz: int = 24_000, channels: int = 1) -> None:
    """Write PCM16 as a WAV file.

    Raises:
        OSError: The file cannot be written.
    """
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm)


def write_stereo_wav(path: _StrPath, left: Track, right: Track, *, rate_hz: int = 24_000) -> None:
    """Write both sides of a conversation into one WAV file, each at its own time.

    The file starts with whichever track starts first, and ends with whichever ends last.

    Args:
        path: Where to.
        left: By custom the person.
        right: By custom the assistant.
        rate_hz: Sample rate of both.

    Raises:
        OSError: The file cannot be written.
    """
    zero_s = min(left.start_s, right.start_s)
    sides: list[bytes] = []
    for track in (left, right):
        silence = bytes(2 * round((track.start_s - zero_s) * rate_hz))
        sides.append(silence + track.pcm[: len(track.pcm) // 2 * 2])
    mixed = bytearray(2 * max(map(len, sides)))
    for channel, side in enumerate(sides):
        full = side.ljust(len(mixed) // 2, b"\0")
        # byte by byte, so that it does not depend on the machine's own byte order
        mixed[2 * channel :: 4] = full[0::2]
        mixed[2 * channel + 1 :: 4] = full[1::2]
    write_wav(path, bytes(mixed), rate_hz=rate_hz, channels=2)

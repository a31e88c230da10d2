"""Sinks whose speaker is a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from realtime_bus import Session
from realtime_bus.audio import PlayedItem
from realtime_bus.events import AudioFormat
from realtime_bus_plugins._playback import RATE_HZ, FromSession, Timeline, feed_sink

from ._wav import StrPath, Track, write_wav

__all__ = ["NullSink", "WavSink"]


class _ClockSink:
    """Plays at the pace of a clock; sample 0 is at the first `start` or `write`."""

    _counting_only = True

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._origin_s: float | None = None
        self._timeline = Timeline(rate_hz=RATE_HZ)
        self._converter = FromSession(counting_only=True)

    def attach(self, session: Session) -> None:
        """Play a session's output audio. One session at a time: sounds are not mixed."""
        feed_sink(session, self)
        session.on_close(self.close)

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of the audio that follows, and start the clock.

        Raises:
            MissingExtra: The format must be decoded, and audioop-lts is missing (Python 3.13).
        """
        self._now()
        if audio_format != self._converter.audio_format:
            self._converter = FromSession(audio_format, counting_only=self._counting_only)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Queue audio of an item behind what is already queued."""
        samples = self._converter.samples(audio, (item_id, content_index))
        self._timeline.write(self._now(), samples, item_id=item_id, content_index=content_index)

    def flush(self) -> list[PlayedItem]:
        """Fall silent now, and return every item that was playing or queued, in order."""
        return self._timeline.flush(self._now())

    def positions(self) -> list[PlayedItem]:
        """Return the same as `flush` would, without stopping anything."""
        return self._timeline.positions(self._now())

    @property
    def playing(self) -> bool:
        """Whether something can be heard now, or is queued to be."""
        return self._timeline.playing(self._now())

    @property
    def remaining_s(self) -> float:
        """How long what is queued will still play, in seconds."""
        return self._timeline.remaining(self._now()) / RATE_HZ

    @property
    def started_s(self) -> float | None:
        """What the clock showed at the first sample, or None if nothing started it yet."""
        return self._origin_s

    def close(self) -> None:
        """Fall silent. The session's end does it, too; the sink can be used again."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _now(self) -> int:
        now_s = self._clock()
        if self._origin_s is None:
            self._origin_s = now_s
        # a thousandth of a sample more: seconds as floats fall that much short of a whole one
        return int((now_s - self._origin_s) * RATE_HZ + 1e-3)


class NullSink(_ClockSink):
    """Play into nothing, at the pace of a clock: for tests, benchmarks and headless bots.

    Args:
        clock: Returns seconds; any zero point.
    """


class WavSink(_ClockSink):
    """Keep what a person would have heard, in its real positions, and write it to a WAV file.

    Silence stands where nothing played, and what was flushed is not in it. The file is PCM16,
    24 kHz, mono, whatever the session's format. It is written by `close`, which the end of the
    session calls; until then the audio is kept in memory (2.9 MB a minute).

    Args:
        path: Where to write it; None to keep it in memory only.
        clock: Returns seconds; any zero point.
    """

    _counting_only = False

    def __init__(
        self, path: StrPath | None = None, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        super().__init__(clock=clock)
        self.path = path
        self._ribbon = bytearray()

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Queue audio of an item behind what is already queued."""
        pcm = self._converter.convert(audio, (item_id, content_index))
        start = self._timeline.write(
            self._now(), len(pcm) // 2, item_id=item_id, content_index=content_index
        )
        self._ribbon.extend(bytes(2 * start - len(self._ribbon)))
        self._ribbon.extend(pcm)

    def flush(self) -> list[PlayedItem]:
        """Fall silent now, and return every item that was playing or queued, in order."""
        now = self._now()
        del self._ribbon[2 * now :]
        return self._timeline.flush(now)

    @property
    def heard(self) -> bytes:
        """What was heard until now, from the first sample on: PCM16, 24 kHz, mono."""
        return bytes(self._ribbon[: 2 * self._now()])

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
            write_wav(self.path, bytes(self._ribbon))

"""What is heard when, and the samples themselves: a `Timeline`, and PCM16 at 24 kHz on it.

The rules:

1. Positions are samples since the beginning, as the timeline counts them. Where nobody's audio
   lies, there is silence.
2. A resampler knows the last few milliseconds of an item's audio for certain only when more has
   come. Until then they lie there as if silence followed, for they are due: what comes next takes
   their place, as far as they have not been taken.
3. What lies before a position that was taken (`take`) or before the time of a flush never changes.
4. What a full timeline has no place for is dropped, counted, and told.
"""

from __future__ import annotations

from realtime_bus.audio import PlayedItem
from realtime_bus.events import AudioFormat
from realtime_bus.log import Repeats, get_logger

from ._pcm import RATE_HZ, FromSession
from ._timeline import Timeline

_REMEMBERED_PARTS = 64

_log = get_logger("realtime_bus.sinks")


class Ribbon:
    """Take a session's audio, and give it as PCM16 at 24 kHz. All positions are in samples.

    Args:
        counting_only: No sample is kept: only the timeline is.

    Attributes:
        first: The position of the first sample that was not taken.
        dropped_bytes: Audio that came when the timeline was full.
    """

    def __init__(self, *, counting_only: bool = False) -> None:
        self._counting_only = counting_only
        self._timeline = Timeline(rate_hz=RATE_HZ)
        self._converter = FromSession(counting_only=counting_only)
        self._pcm = bytearray()
        self.first = 0
        self.dropped_bytes = 0
        self._repeats = Repeats()
        self._last: dict[object, tuple[int, int]] = {}  # where each part's last stretch lies

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of what is written next.

        Raises:
            MissingExtra: The format must be decoded, and what does it is not installed.
        """
        self._converter.use(audio_format)

    def write(self, now: int, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Queue audio of an item; not before what was taken, which may be ahead of ``now``."""
        if self._timeline.full(now):
            self._drop(audio)
            return
        source = (item_id, content_index)
        pcm, revised = b"", 0
        if self._counting_only:
            samples = self._converter.samples(audio, source)
        else:
            pcm, revised = self._converter.convert(audio, source)
            samples = len(pcm) // 2 - revised
        start = self._timeline.write(
            now, samples, item_id=item_id, content_index=content_index, not_before=self.first
        )
        if self._counting_only:
            return
        self._revise(max(now, self.first), source, pcm[: 2 * revised])
        self._pcm.extend(bytes(2 * (start - self.first) - len(self._pcm)))
        self._pcm.extend(pcm[2 * revised :])
        self._note(source, start, start + samples)

    def _drop(self, audio: bytes) -> None:
        self.dropped_bytes += len(audio)
        suppressed = self._repeats.due("full")
        if suppressed is not None:
            about = {"dropped_bytes": self.dropped_bytes}
            _log.warning("more audio is queued than anybody will hear", **about, **suppressed)

    def _revise(self, now: int, source: object, pcm: bytes) -> None:
        """Put samples in place of a part's last ones, where these were not heard yet."""
        start, end = self._last.get(source, (0, 0))
        begin = max(start, end - len(pcm) // 2, now)
        if pcm and begin < end:
            at = 2 * (begin - self.first)
            self._pcm[at : at + 2 * (end - begin)] = pcm[-2 * (end - begin) :]

    def _note(self, source: object, start: int, end: int) -> None:
        before = self._last.pop(source, None)
        if before is not None and before[1] == start:
            start = before[0]
        if len(self._last) >= _REMEMBERED_PARTS:
            del self._last[next(iter(self._last))]
        self._last[source] = (start, end)

    def take(self, samples: int) -> bytes:
        """Return the samples that come next, and keep them no longer."""
        pcm = bytes(self._pcm[: 2 * samples])
        del self._pcm[: 2 * samples]
        self.first += samples
        return pcm.ljust(2 * samples, b"\0")

    def until(self, end: int) -> bytes:
        """Return what is kept before a position."""
        return bytes(self._pcm[: max(0, 2 * (end - self.first))])

    def flush(self, now: int) -> list[PlayedItem]:
        """Cut everything behind ``now``; return every part that was playing or queued, in order."""
        self._converter.forget()
        self._last.clear()
        del self._pcm[max(0, 2 * (now - self.first)) :]
        return self._timeline.flush(now)

    def turn_back(self, now: int) -> None:
        """Begin again at ``now``, which is before what was taken; right after a flush."""
        self.first = now

    def positions(self, now: int) -> list[PlayedItem]:
        """Return how much of each part that is not over yet has been heard, in order."""
        return self._timeline.positions(now)

    def playing(self, now: int) -> bool:
        """Tell whether something is still to be heard."""
        return self._timeline.playing(now)

    def sounding(self, now: int) -> bool:
        """Tell whether something has begun to be heard, and is not over."""
        return self._timeline.sounding(now)

    def remaining(self, now: int) -> int:
        """Return how many samples are still to be heard."""
        return self._timeline.remaining(now)

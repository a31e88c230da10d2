"""Where playback stands: a ribbon of samples, and who fills which stretch of it.

The rules:

1. Time is a count of samples that never goes back. Whoever owns the clock (a wall clock, or a
   device that asks for samples) passes it in as ``now``; nothing here waits or measures.
2. Audio that is written starts where the queue ends, or now if the queue has run dry: then the
   stretch between is a gap, in which nothing can be heard. A device that is given silence ahead
   of time has a gap before it, too (``not_before``).
3. What lies before ``now`` has been heard, what lies behind it is queued. So an item's played
   audio never exceeds what was written of it, and it never shrinks.
4. An item is reported, in the order of what is left of the queue, while something of it is
   still to be heard. When it has been heard to its end it is no longer reported, but its
   length is remembered for a while: the network may only have stalled, and the item's position
   counts from the item's own first sample, across gaps.
5. `flush` cuts the ribbon at ``now``: it returns what rule 4 reports and forgets everything.
   What is written next starts at ``now``, and counts from zero.
6. Milliseconds are rounded down: a truncation may fall short of what was heard by less than a
   millisecond, and never goes beyond it.

What was received must be played, and a response's length bounds it; but a server may send what it
likes. So a queue is `full` at half an hour or 1024 stretches: whoever writes then drops the audio.
Lengths of fully played items are remembered for the last 64.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from realtime_bus.audio import PlayedItem

_REMEMBERED_ITEMS = 64
_FULL_S, _FULL_STRETCHES = 1800, 1024


class _Part(NamedTuple):
    """A content part of an item: what audio belongs to."""

    item_id: str
    content_index: int


class _Total:
    """What was written of a part, and what of it lies in stretches that have ended."""

    __slots__ = ("finished", "written")

    def __init__(self) -> None:
        self.written = 0
        self.finished = 0


class _Stretch:
    """Consecutive samples of one part."""

    __slots__ = ("end", "part", "start")

    def __init__(self, part: _Part, start: int, end: int) -> None:
        self.part = part
        self.start = start
        self.end = end


class Timeline:
    """Keep account of what is heard when. All times and lengths are in samples.

    Args:
        rate_hz: Samples per second; only used to report milliseconds.
    """

    def __init__(self, *, rate_hz: int = 24_000) -> None:
        self.rate_hz = rate_hz
        self._now = 0
        self._end = 0
        self._queue: deque[_Stretch] = deque()
        self._totals: dict[_Part, _Total] = {}

    def write(
        self,
        now: int,
        samples: int,
        *,
        item_id: str,
        content_index: int = 0,
        not_before: int = 0,
    ) -> int:
        """Queue so many samples of an item's part; return where on the ribbon they start.

        Args:
            now: What time it is.
            samples: How many.
            item_id: Whose they are.
            content_index: Which content part's.
            not_before: Up to where silence is on its way already.
        """
        self._advance(now)
        start = max(self._now, self._end, not_before)
        if samples <= 0:
            return start
        part = _Part(item_id, content_index)
        self._total(part).written += samples
        self._end = start + samples
        last = self._queue[-1] if self._queue else None
        if last is not None and (last.part, last.end) == (part, start):
            last.end = self._end
        else:
            self._queue.append(_Stretch(part, start, self._end))
        return start

    def full(self, now: int) -> bool:
        """Tell whether so much is queued that nobody will ever listen to it."""
        long = self.remaining(now) >= _FULL_S * self.rate_hz
        return long or len(self._queue) >= _FULL_STRETCHES

    def flush(self, now: int) -> list[PlayedItem]:
        """Cut everything behind ``now``; return what `positions` would have."""
        played = self.positions(now)
        self._queue.clear()
        self._totals.clear()
        self._end = self._now
        return played

    def positions(self, now: int) -> list[PlayedItem]:
        """Return how much of each part that is not over yet has been heard, in order."""
        self._advance(now)
        parts = dict.fromkeys(stretch.part for stretch in self._queue)
        return [self._played(part) for part in parts]

    def playing(self, now: int) -> bool:
        """Tell whether something is still to be heard."""
        return self.remaining(now) > 0

    def sounding(self, now: int) -> bool:
        """Tell whether something has begun to be heard, and is not over."""
        self._advance(now)
        return bool(self._queue) and self._queue[0].start < self._now

    def remaining(self, now: int) -> int:
        """Return how many samples are still to be heard."""
        self._advance(now)
        return max(0, self._end - self._now)

    def _advance(self, now: int) -> None:
        self._now = max(self._now, now)
        while self._queue and self._queue[0].end <= self._now:
            over = self._queue.popleft()
            self._totals[over.part].finished += over.end - over.start

    def _total(self, part: _Part) -> _Total:
        if part not in self._totals:
            self._forget_oldest()
            self._totals[part] = _Total()
        return self._totals[part]

    def _forget_oldest(self) -> None:
        """Keep the lengths of fully played parts to a bound."""
        if len(self._totals) < _REMEMBERED_ITEMS:
            return
        queued = {stretch.part for stretch in self._queue}
        oldest = next((part for part in self._totals if part not in queued), None)
        if oldest is not None:
            del self._totals[oldest]

    def _played(self, part: _Part) -> PlayedItem:
        total = self._totals[part]
        head = self._queue[0]
        # only the first stretch can be half heard: the others start where it ends, or later;
        # and it may be due only in a moment, behind silence that is on its way
        partly = max(0, self._now - head.start) if head.part == part else 0
        return PlayedItem(
            item_id=part.item_id,
            content_index=part.content_index,
            played_ms=self._to_ms(total.finished + partly),
            written_ms=self._to_ms(total.written),
        )

    def _to_ms(self, samples: int) -> int:
        return samples * 1000 // self.rate_hz

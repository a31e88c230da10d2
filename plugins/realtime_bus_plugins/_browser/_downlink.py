"""What goes down to a page, and what of it was heard: a pure state machine.

The rules:

1. Audio has its place in a stream of samples that never goes back. It waits here, and is handed
   out at most ``ahead`` samples before what was heard: were all of it sent at once, a flush would
   stand behind it in the network's queues, and a page that cannot play would be filled up.
2. States (see `_messages`) go before audio, the flush before all. A newer state replaces an older
   one that has not gone out: a page that is slow gets fewer of them, never a longer queue.
3. What the page says was played was heard, if it was sent; a page cannot have heard more.
4. A flush voids all audio up to the stream's end. What was heard of it at that moment is not
   known exactly: the page plays on until the flush arrives, and answers where it fell silent.
   Until then the old account is kept, to be settled by that answer. One flush is settled at a
   time: a second one before the answer makes the first as settled as it was.
5. A page that comes back says what it has received. What it has not is handed out again, and it
   is told all states that still matter, and of the last flush: it may have missed it.

Bounds: audio, by what the model says; states, by the last 64 captions.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

from realtime_bus.audio import PlayedItem
from realtime_bus_plugins._playback import RATE_HZ, Converted, Timeline

from ._messages import Flush, ToPage, write

_PIECE_SAMPLES = RATE_HZ // 10
_MAX_STATES = 64


class _Piece(NamedTuple):
    """Consecutive samples of one part."""

    part: tuple[str, int]
    start: int
    pcm: bytearray

    @property
    def end(self) -> int:
        return self.start + len(self.pcm) // 2


class Downlink:
    """The stream to one page.

    Args:
        ahead_ms: How much audio may be under way: sent and not known to be heard.
    """

    def __init__(self, *, ahead_ms: int = 1000) -> None:
        self._ahead = ahead_ms * RATE_HZ // 1000
        self._timeline = Timeline(rate_hz=RATE_HZ)
        self._audio: deque[_Piece] = deque()  # what was not heard yet
        self._end = self._sent = self._heard = 0
        self._void = 0  # everything before it was flushed
        self._flush_due = False
        self._unsettled: tuple[Timeline, list[PlayedItem], int] | None = None
        self._due: dict[str, ToPage] = {}
        self._told: dict[str, ToPage] = {}

    # --- the sink's side ---------------------------------------------------------------------

    def write(self, converted: Converted, *, item_id: str, content_index: int) -> int:
        """Queue audio; return where in the stream it begins."""
        part = (item_id, content_index)
        pcm = converted.pcm[2 * converted.revised :]
        self._revise(part, converted.pcm[: 2 * converted.revised])
        samples = len(pcm) // 2
        self._timeline.write(self._heard, samples, item_id=item_id, content_index=content_index)
        start = self._end
        self._audio.append(_Piece(part, start, bytearray(pcm)))
        self._end += samples
        return start

    def _revise(self, part: tuple[str, int], pcm: bytes) -> None:
        """Put samples in place of a part's last ones, as far as they have not been sent."""
        if pcm and self._audio and self._audio[-1].part == part:
            last = self._audio[-1]
            samples = min(len(pcm) // 2, self._end - max(self._sent, last.start))
            if samples > 0:
                last.pcm[-2 * samples :] = pcm[-2 * samples :]

    def flush(self) -> list[PlayedItem]:
        """Void what was not heard, and return what `positions` would have; rule 4."""
        reported = self.positions()
        if reported:
            self._unsettled = (self._timeline, reported, self._sent)
            self._timeline = Timeline(rate_hz=RATE_HZ)
        if self._void < self._end:
            self._void = self._sent = self._heard = self._end
            self._audio.clear()
            self._flush_due = True
        return reported

    def positions(self) -> list[PlayedItem]:
        """Return what was heard of each part that is not over."""
        return self._timeline.positions(self._heard)

    @property
    def playing(self) -> bool:
        """Whether something is still to be heard."""
        return self._timeline.playing(self._heard)

    # --- the page's side ---------------------------------------------------------------------

    def tell(self, key: str, state: ToPage) -> None:
        """Let the page know; a state replaces what was told under the same key."""
        self._due[key] = state
        self._told.pop(key, None)
        self._told[key] = state
        if len(self._told) > _MAX_STATES:
            del self._told[next(iter(self._told))]

    def next(self) -> str | bytes | None:
        """Return what is to be sent next, or None if nothing may be sent now."""
        if self._flush_due:
            self._flush_due = False
            return write(Flush(before=self._void))
        for key in self._due:
            return write(self._due.pop(key))
        room = min(self._heard + self._ahead, self._end) - self._sent
        if room <= 0:
            return None
        piece = next(piece for piece in self._audio if self._sent < piece.end)
        offset = self._sent - piece.start
        samples = min(room, _PIECE_SAMPLES, piece.end - self._sent)
        head = struct.pack("<I", self._sent)
        self._sent += samples
        return head + piece.pcm[2 * offset : 2 * (offset + samples)]

    def played(self, position: int) -> None:
        """Take note of what the page has played; rule 3."""
        self._heard = max(self._heard, min(position, self._sent))
        while self._audio and self._audio[0].end <= self._heard:
            self._audio.popleft()

    def flushed(self, before: int, position: int) -> list[PlayedItem] | None:
        """Return what was heard of what the last flush cut off; None if that is not the answer."""
        if self._unsettled is None or before != self._void:
            return None
        (timeline, reported, sent), self._unsettled = self._unsettled, None
        left = {
            (part.item_id, part.content_index): part
            for part in timeline.positions(min(position, sent))
        }
        return [
            # what is no longer there was heard to its end
            left.get((part.item_id, part.content_index), _heard_whole(part))
            for part in reported
        ]

    def resume(self, received: int) -> None:
        """Begin again with a page that came back; rule 5."""
        self._sent = max(self._heard, min(received, self._sent))
        self._flush_due = self._void > 0
        self._due = {**self._told}


def _heard_whole(part: PlayedItem) -> PlayedItem:
    return PlayedItem(
        item_id=part.item_id,
        content_index=part.content_index,
        played_ms=part.written_ms,
        written_ms=part.written_ms,
    )

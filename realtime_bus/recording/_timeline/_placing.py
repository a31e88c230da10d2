"""When the person said what was sent: a pure function of when each piece of it was sent.

The rules:

1. Nothing is sent before it was said: each chunk was over, at the latest, when it was sent.
2. What is sent without a pause was said without one. So a chunk that is sent late, and those
   that are sent at once after it to catch up, lie where they would have lain in time: as late as
   rule 1 lets them for all that follow.
3. A pause of half a second in the sending begins anew: what was held back until the end of an
   outage lies in the outage.
4. Nothing overlaps, and nothing lies before the recording's beginning: where a whole file is sent
   at once there is no room for it before its sending, and it lies behind that.
5. A gap of less than 60 ms is none: a timer of a computer is no better.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence

from ._moments import Piece

_PAUSE_MS = 500.0
_TOLERANCE_MS = 60.0


class Sending:
    """Chunks of a stream, and when each was sent."""

    def __init__(self) -> None:
        self._sent_ms = array("d")
        self._ends_ms = array("d")
        self.length_ms = 0.0

    def __len__(self) -> int:
        return len(self._sent_ms)

    def add(self, at_ms: float, length_ms: float) -> None:
        """Note that so much more of the stream was sent."""
        self.length_ms += length_ms
        self._sent_ms.append(at_ms)
        self._ends_ms.append(self.length_ms)

    def pieces(self) -> list[Piece]:
        """Return where the stream lies in time."""
        offsets = self._offsets()
        pieces: list[Piece] = []
        begin = shift = 0.0
        position = 0.0
        for index, offset in enumerate(offsets):
            if index and offset > shift + _TOLERANCE_MS:
                pieces.append(_piece(begin, position, shift))
                begin = position
                shift = offset
            elif not index:
                shift = max(0.0, offset)
            position = self._ends_ms[index]
        if position > begin:
            pieces.append(_piece(begin, position, shift))
        return [piece for piece in pieces if piece.length_ms > 0]

    def _offsets(self) -> array[float]:
        """Return, for each chunk, how much later than its position in the stream it lies."""
        sent, ends = self._sent_ms, self._ends_ms
        offsets = array("d", bytes(8 * len(sent)))
        lowest = float("inf")
        following = float("inf")
        for index in range(len(sent) - 1, -1, -1):
            if following - sent[index] >= _PAUSE_MS:
                lowest = float("inf")
            following = sent[index]
            lowest = min(lowest, sent[index] - ends[index])
            offsets[index] = lowest
        return offsets


def _piece(begin: float, end: float, shift: float) -> Piece:
    return Piece(at_ms=begin + shift, from_ms=begin, length_ms=end - begin)


def moment_of(pieces: Sequence[Piece], position_ms: float) -> float:
    """Return when a position in a stream was heard; beyond its ends, as if it went on there."""
    if not pieces:
        return position_ms
    index = bisect_right(pieces, position_ms, key=lambda piece: piece.from_ms) - 1
    piece = pieces[max(0, index)]
    return piece.at_ms + position_ms - piece.from_ms

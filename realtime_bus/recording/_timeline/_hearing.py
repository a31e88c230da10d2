"""What was heard when: a pure machine, told what was received and what the sink said of it.

The rules:

1. Audio is written to the sink when it comes, and plays in order, each as soon as what was
   written before it is over: that is where it lies if nobody says otherwise.
2. What the sink says it has played by a moment is at least heard by then. So what it says later of
   the same run of audio (without a gap in rule 1) bounds by how much all that came before it was
   late. Lateness only grows within a run, and growth of less than 25 ms is none.
3. A flush cuts each item where the sink says. An item that it does not name was heard to its end.
   What the sink gets of an item after that, it counts from zero.
4. What comes after a flush of an item that it has cut, or of a response that was interrupted, is
   dropped before it reaches the sink; unless the sink says later that it got it.
5. Without a sink in the recording, a truncation that the client sends is taken for a flush.
6. What is still to be heard when the recording ends never is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from realtime_bus.audio import PlayedItem

from ._moments import HeardFrom, Piece

_TOLERANCE_MS = 25.0
_RECENT = 256  # stretches of a part that may still play
_OVER_MS = 250.0  # a sink may be so much ahead of us with what it does not name any more


class PartKey(NamedTuple):
    """A content part of an item: what audio belongs to."""

    item_id: str
    content_index: int


class _Stretch:
    """Consecutive audio of one part, where rule 1 has it."""

    __slots__ = ("anchors", "at_ms", "from_ms", "length_ms", "part")

    def __init__(self, part: Part, at_ms: float, from_ms: float) -> None:
        self.part = part
        self.at_ms = at_ms
        self.from_ms = from_ms
        self.length_ms = 0.0
        self.anchors: list[tuple[float, float]] = []  # (position, at most so late), in order

    @property
    def end_ms(self) -> float:
        return self.at_ms + self.length_ms


class Part:
    """What is known of a part's audio.

    Attributes:
        key: Which part.
        response_id: The response that generated it.
        deltas: Each delta at its arrival.
        generated_ms: How long it is by now.
        heard: Where it was heard.
        heard_ms: How much of it.
        silenced_ms: When it was cut off.
        told_ms: How much of it was heard, as somebody has said when it was cut off.
    """

    def __init__(self, key: PartKey, response_id: str) -> None:
        self.key = key
        self.response_id = response_id
        self.deltas: list[Piece] = []
        self.generated_ms = 0.0
        self.heard: list[Piece] = []
        self.heard_ms = 0.0
        self.silenced_ms: float | None = None
        self.dropped = False
        self.told_ms: float | None = None
        self.limit_ms: float | None = None  # the same, until it is settled
        self.base_ms = 0.0  # from where the sink counts
        self.stretches: list[_Stretch] = []

    @property
    def written_ms(self) -> float:
        """How much of it the sink was given."""
        return self.stretches[-1].from_ms + self.stretches[-1].length_ms if self.stretches else 0.0


class Hearing:
    """Follow what is played.

    Attributes:
        parts: All that was generated, in order.
        known_from: How it is known what was heard.
    """

    def __init__(self) -> None:
        self.parts: dict[PartKey, Part] = {}
        self.known_from: HeardFrom = "arrival"
        self._run: list[_Stretch] = []  # since the last flush
        self._end_ms = 0.0  # of what is written, by rule 1
        self._heard_until_ms = 0.0
        self._silenced: set[str] = set()
        self._flush: tuple[float, bool] | None = None  # when, and whether the sink said so

    def received(self, at_ms: float, key: PartKey, response_id: str, length_ms: float) -> Part:
        """Note audio that came."""
        part = self.parts.get(key)
        if part is None:
            part = self.parts[key] = Part(key, response_id)
            part.dropped = response_id in self._silenced
        part.deltas.append(Piece(at_ms=at_ms, from_ms=part.generated_ms, length_ms=length_ms))
        if not (part.dropped or response_id in self._silenced):
            self._write(part, at_ms, part.generated_ms, length_ms)
        part.generated_ms += length_ms
        return part

    def _write(self, part: Part, at_ms: float, from_ms: float, length_ms: float) -> None:
        self._settle_flush()
        last = self._run[-1] if self._run else None
        if last is None or last.part is not part or at_ms > self._end_ms:
            last = _Stretch(part, max(at_ms, self._end_ms), from_ms)
            self._run.append(last)
            part.stretches.append(last)
        last.length_ms += length_ms
        self._end_ms = last.end_ms

    # --- what the sink says ------------------------------------------------------------------

    def played(self, at_ms: float, items: Iterable[PlayedItem]) -> None:
        """Note what the sink has played by now."""
        self.known_from = "sink"
        named = [*items]
        if not named:
            return
        self._settle_flush()
        for item in named:
            part = self.parts.get(PartKey(item.item_id, item.content_index))
            if part is not None and part.dropped and item.written_ms > 0:
                self._take_back(part)
        self._anchor(at_ms, named[0])

    def _anchor(self, at_ms: float, item: PlayedItem) -> None:
        part = self.parts.get(PartKey(item.item_id, item.content_index))
        if part is None:
            return
        played_ms = part.base_ms + item.played_ms
        for stretch in reversed(part.stretches[-_RECENT:]):
            if stretch.from_ms <= played_ms and stretch.at_ms <= at_ms:
                position_ms = min(played_ms, stretch.from_ms + stretch.length_ms)
                late_ms = at_ms - (stretch.at_ms + position_ms - stretch.from_ms)
                stretch.anchors.append((position_ms, max(0.0, late_ms)))
                return

    def _take_back(self, part: Part) -> None:
        """Write what was taken for dropped after all."""
        part.dropped = False
        self._silenced.discard(part.response_id)
        for delta in part.deltas:
            if delta.from_ms >= part.written_ms:
                self._write(part, delta.at_ms, delta.from_ms, delta.length_ms)

    def silence(self, response_ids: Iterable[str]) -> None:
        """Drop what is still to come of responses."""
        self._silenced.update(response_ids)
        self._silenced.discard("")

    def flushed(
        self, at_ms: float, items: Iterable[PlayedItem], *, by_sink: bool = True, exact: bool = True
    ) -> bool:
        """Note that there is silence; return whether anything was cut off by it.

        Told again before anything else is played, only what was heard is brought up to date.

        Args:
            at_ms: When.
            items: What was playing or queued.
            by_sink: Whether the sink says so; else it is a client's truncation.
            exact: Whether it was then; else it was a little before.
        """
        if by_sink:
            self.known_from = "sink"
        elif self.known_from == "arrival":
            self.known_from = "truncations"
        named = {PartKey(item.item_id, item.content_index): item for item in items}
        if by_sink and exact and self._flush is None:
            for item in [*named.values()][:1]:
                if item.played_ms < item.written_ms:  # else nobody knows since when it is over
                    self._anchor(at_ms, item)
        self._flush = self._flush or (at_ms, by_sink)
        cut = False
        for key, item in named.items():
            part = self.parts.get(key)
            if part is not None and part.stretches:
                heard_ms = part.base_ms + item.played_ms
                part.limit_ms = part.told_ms = max(heard_ms, part.limit_ms or 0.0)
                part.silenced_ms = at_ms if part.silenced_ms is None else part.silenced_ms
                part.dropped = True
                cut = cut or part.limit_ms < part.generated_ms - 1
        return cut

    def settled(self, item: PlayedItem) -> None:
        """Note what was heard of what the last flush cut off: a far end says so a moment later."""
        part = self.parts.get(PartKey(item.item_id, item.content_index))
        if part is not None and part.limit_ms is not None:
            part.limit_ms = part.told_ms = max(part.limit_ms, part.base_ms + item.played_ms)

    def was_told(self, item_id: str, content_index: int) -> bool:
        """Tell whether somebody has said how much of a part was heard."""
        part = self.parts.get(PartKey(item_id, content_index))
        return self.known_from == "sink" or (part is not None and part.told_ms is not None)

    def ended(self, at_ms: float) -> None:
        """Note that the recording ends."""
        self._settle_flush()
        self._settle(at_ms, all_heard=False)
        for part in self.parts.values():
            _finish(part)

    # --- when each stretch was heard ---------------------------------------------------------

    def _settle_flush(self) -> None:
        if self._flush is not None:
            (at_ms, by_sink), self._flush = self._flush, None
            self._settle(at_ms, all_heard=by_sink)

    def _settle(self, at_ms: float, *, all_heard: bool) -> None:
        """Place what was written since the last flush; cut what was not heard by now.

        Args:
            at_ms: Now.
            all_heard: Whether what has no limit was heard to its end, as the sink says.
        """
        run, self._run = self._run, []
        for stretch, steps in zip(run, _lateness(run), strict=True):
            for from_ms, to_ms, late_ms in steps:
                due_ms = stretch.at_ms + from_ms - stretch.from_ms + late_ms
                heard_ms = self._place(stretch.part, due_ms, from_ms, to_ms, at_ms, all_heard)
                if heard_ms < to_ms - from_ms - 1e-6 and stretch.part.silenced_ms is None:
                    stretch.part.silenced_ms = at_ms
        for part in {stretch.part.key: stretch.part for stretch in run}.values():
            part.limit_ms, part.base_ms = None, part.written_ms
        self._end_ms = min(self._end_ms, at_ms)

    def _place(
        self, part: Part, due_ms: float, from_ms: float, to_ms: float, until_ms: float, whole: bool
    ) -> float:
        """Place audio of a part that is due at some time; return how much of it was heard."""
        start_ms = max(due_ms, self._heard_until_ms)
        length_ms = (to_ms if part.limit_ms is None else min(to_ms, part.limit_ms)) - from_ms
        over_ms = start_ms + length_ms - until_ms
        if over_ms > 0 and part.limit_ms is not None:  # the sink was that much ahead
            start_ms = max(start_ms - over_ms, self._heard_until_ms)
        elif over_ms > 0 and not (whole and over_ms <= _OVER_MS):
            length_ms -= over_ms
        if length_ms > 0:
            _append(part.heard, Piece(at_ms=start_ms, from_ms=from_ms, length_ms=length_ms))
            self._heard_until_ms = start_ms + length_ms
        return length_ms


def _lateness(run: list[_Stretch]) -> list[list[tuple[float, float, float]]]:
    """Return, for each stretch, from where to where in its part it was how late."""
    result: list[list[tuple[float, float, float]]] = []
    begin = 0
    for index in range(1, len(run) + 1):
        if index == len(run) or run[index].at_ms > run[index - 1].end_ms + 1e-6:
            result += _lateness_of(run[begin:index])
            begin = index
    return result


def _lateness_of(run: list[_Stretch]) -> list[list[tuple[float, float, float]]]:
    """Return the same for stretches without a gap between them."""
    bounds = [(n, position, late) for n, s in enumerate(run) for position, late in s.anchors]
    lowest = float("inf")
    for index in range(len(bounds) - 1, -1, -1):
        number, position, late = bounds[index]
        lowest = min(lowest, late)
        bounds[index] = (number, position, lowest)
    # from where on it was how late: growth begins where the sink was last known to be in time
    changes = deque([(0, run[0].from_ms, bounds[0][2] if bounds else 0.0)])
    for (number, position, _), (_, _, late) in pairwise(bounds):
        if late > changes[-1][2] + _TOLERANCE_MS:
            changes.append((number, position, late))
    result: list[list[tuple[float, float, float]]] = []
    current = 0.0
    for number, stretch in enumerate(run):
        begin, end = stretch.from_ms, stretch.from_ms + stretch.length_ms
        steps: list[tuple[float, float, float]] = []
        while changes and changes[0][0] == number:
            _, position, late = changes.popleft()
            if position > begin:
                steps.append((begin, position, current))
                begin = position
            current = late
        if end > begin:
            steps.append((begin, end, current))
        result.append(steps)
    return result


def _append(pieces: list[Piece], piece: Piece) -> None:
    last = pieces[-1] if pieces else None
    if last is not None and _close(last.end_ms, piece.at_ms) and _close(last.to_ms, piece.from_ms):
        length = last.length_ms + piece.length_ms
        pieces[-1] = Piece(at_ms=last.at_ms, from_ms=last.from_ms, length_ms=length)
    else:
        pieces.append(piece)


def _close(one: float, other: float) -> bool:
    return abs(one - other) < 1e-6


def _finish(part: Part) -> None:
    part.heard_ms = sum(piece.length_ms for piece in part.heard)
    if part.heard_ms >= part.generated_ms - 1:
        part.silenced_ms = None

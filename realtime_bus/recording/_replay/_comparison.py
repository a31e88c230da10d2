"""What a replayed session does, beside what was done then. Pure: no clock, no tasks.

Rules:

1. What is compared are acts: commands that are sent, events that the application emits, handlers
   that fail. Audio that is sent is not: nobody speaks in a replay.
2. An act of now corresponds to one of then that is of the same kind, about the same thing (the
   call that is answered, the item that is cut), and within `_WINDOW_US` of where the recording is:
   to the nearest that says the same, and to one that is left to the recording only if there is no
   other. One that says something else corresponds at once if what it is about leaves no doubt;
   otherwise when the recording's answer is due, or at the end.
3. What a client makes up is no difference: ids of commands and of items, and the mark that a
   request for a response bears. They are learned from what corresponds: what the recording's
   server says of an old id is said of the new one, and what is sent is read with the old one.
4. What was done then and not now is missing, unless it is left to the recording; what is done now
   and was not then is extra. What corresponds may be different, or late.
5. At the very end of a recording that was cut off nothing is missing, and nothing extra: nobody
   knows what came next.
6. Of a text that was left out of the recording only the length is compared, of a key nothing. Two
   texts that are JSON, such as outputs of tools, are compared field by field.
7. The order of acts that do not depend on each other is no difference, but noted (`reordered`).

Bounds: `_MAX_UNPAIRED` acts that correspond to nothing; more are only counted. Of one kind,
`_LOOKED_AT` are looked at on either side of a time.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from realtime_bus._secrets import redact
from realtime_bus.codec._frame import NotAnObject, parse_object
from realtime_bus.recording._timeline._frames import with_names

from ._act import Act, leaves, nameless
from ._difference import Change, Difference, stamp

_WINDOW_US: Final = 60_000_000
_LOOKED_AT: Final = 32  # acts on either side: there may be ten of a kind in a second
_MAX_UNPAIRED: Final = 1000
_AT_ONCE_US: Final = 10_000  # within it, what comes first is chance
_LEFT_OUT: Final = re.compile("x+")


def _time(act: Act) -> int:
    return act.t_us


class _Row:
    """Acts in the order of time."""

    def __init__(self) -> None:
        self._acts: list[Act] = []

    def append(self, act: Act) -> None:
        """Add one at the end."""
        self._acts.append(act)

    def around(self, t_us: int) -> list[Act]:
        """Return those next to a time."""
        place = bisect_left(self._acts, t_us, key=_time)
        return self._acts[max(place - _LOOKED_AT, 0) : place + _LOOKED_AT]

    def until(self, t_us: int) -> list[Act]:
        """Return those up to a time."""
        return self._acts[: bisect_right(self._acts, t_us, key=_time)]

    def discard(self, act: Act) -> None:
        """Take one out."""
        place = bisect_left(self._acts, act.t_us, key=_time)
        del self._acts[self._acts.index(act, place)]


class Comparison:
    """Pairs what is done now with what was done then.

    Args:
        then: The acts of the recording, in order.
        ignore: Paths whose values do not matter, such as ``item.output`` or ``session.*``.
        late_us: How much later is late.
        audio_within_ms: How far apart two truncations may be.

    Attributes:
        paired: How many acts correspond to one of then.
        now: How many acts there were now.
    """

    def __init__(
        self,
        then: Sequence[Act],
        *,
        ignore: Sequence[str] = (),
        late_us: int = 1_000_000,
        audio_within_ms: int = 50,
    ) -> None:
        self.paired: int = 0
        self.now: int = 0
        self._then = sorted(then, key=_time)
        self._ignored = [re.compile(re.escape(each).replace(r"\*", ".*")) for each in ignore]
        self._late_us = late_us
        self._audio_within_ms = audio_within_ms
        self._open: dict[object, _Row] = {}  # what nobody has done yet, by its key
        self._same: dict[object, _Row] = {}  # the same, by all that it says
        self._cut = {act for act in then if any(map(_is_left_out, leaves(act.content)))}
        for act in self._then:
            self._open.setdefault(act.key, _Row()).append(act)
            self._same.setdefault((act.key, self._words(act)), _Row()).append(act)
        self._unpaired: dict[object, list[Act]] = {}
        self._room = _MAX_UNPAIRED
        self._uncounted: Counter[str] = Counter()
        self._new_ids: dict[bytes, bytes] = {}  # by what they were then
        self._old_ids: dict[bytes, bytes] = {}  # the reverse
        self._given_back: set[str] = set()

    def sent(self, t_us: int, place_us: int, frame: bytes) -> None:
        """Take note of a command that is sent now; see `did`."""
        text = redact(with_names(frame, self._old_ids).decode("utf-8", "replace"))
        try:
            plain = parse_object(text.encode())
        except (NotAnObject, RecursionError):
            return
        cuts = plain.get("type") == "conversation.item.truncate"
        if not (cuts and self._here(str(plain.get("item_id"))) in self._given_back):
            self.did(t_us, place_us, plain)

    def _here(self, item_id: str) -> str:
        """Return what handlers call an item."""
        return self._new_ids.get(item_id.encode(), item_id.encode()).decode()

    def gave_back(self, item_ids: Iterable[str]) -> None:
        """Take items that another server had as text from here on: it was sent no truncation."""
        self._given_back.update(item_ids)

    def did(
        self, t_us: int, place_us: int, plain: dict[str, Any], *, is_event: bool = False
    ) -> None:
        """Take note of an act of now, and find the one of then.

        Args:
            t_us: When it was done.
            place_us: Where the recording is: before that, if it waits.
            plain: The act.
            is_event: Whether it is an event that was emitted.
        """
        self.now += 1
        act = Act(t_us, plain, is_event=is_event)
        near = self._near(self._same.get((act.key, self._words(act))), act, place_us)
        if not near:
            alike = self._near(self._open.get(act.key), act, place_us)
            perhaps = [each for each in alike if act.sure or each in self._cut]
            near = [each for each in perhaps if not self._changes(each, act)]
            near = near or (alike if act.sure else [])
        if near:  # what is left to the recording only if there is nothing else by then
            soon_us = place_us + self._late_us  # what was done much later was something else
            self._pair(
                min(near, key=lambda a: (a.t_us > soon_us, not a.expected, _far(a, place_us))), act
            )
        elif self._room:
            self._room -= 1
            self._unpaired.setdefault(act.key, []).append(act)
        else:
            self._uncounted[act.type] += 1

    def _near(self, row: _Row | None, act: Act, place_us: int) -> list[Act]:
        found = [] if row is None else row.around(place_us)
        return [each for each in found if act.sure or _far(each, place_us) <= _WINDOW_US]

    def is_done(self, then: Act) -> bool:
        """Tell whether an act of then was done by now; what says something else will do, too."""
        there = self._unpaired.get(then.key, [])
        if then.mate is None and there:
            near = [each for each in there if _far(each, then.t_us) <= _WINDOW_US]
            if near:  # trio runs what is due at one moment in any order: the first by its words
                first = min(near, key=lambda each: (each.t_us, repr(each.content)))
                there.remove(first)
                self._room += 1
                self._pair(then, first)
        return then.mate is not None

    def rename(self, names: Mapping[str, str]) -> None:
        """Take what handlers call items from here on, by what the server does, then and now."""
        for there, here in names.items():
            now = self._new_ids.get(here.encode(), here.encode())
            self._new_ids[there.encode()] = now
            self._old_ids[now] = there.encode()

    def waited(self, length_us: int, place_us: int) -> None:
        """Take note that the recording has waited: what is still to come is that late."""
        for row in self._open.values():
            for then in row.until(place_us):
                then.waited_us += length_us

    def renamed(self, frame: bytes) -> bytes:
        """Return what the recording's server says, with the ids of now."""
        return with_names(frame, self._new_ids)

    def differences(self, until_us: int, *, cut_off: bool = False) -> list[Difference]:
        """Return all differences in order of time.

        Args:
            until_us: What was done then after this was not replayed: it is not missing.
            cut_off: Whether what was done now after this may have been done then, too.
        """
        for then in self._then:
            if then.t_us <= until_us:
                self.is_done(then)
        found = [*self._of_pairs(until_us)]
        for act in chain.from_iterable(self._unpaired.values()):
            if cut_off and act.t_us > until_us:
                continue
            content = nameless(act.content)
            found.append(Difference(kind="extra", t_s=_s(act.t_us), type=act.type, now=content))
        for name, count in self._uncounted.items():
            more = {"type": name, "more": count}
            found.append(Difference(kind="extra", t_s=_s(until_us), type=name, now=more))
        return sorted(found, key=lambda each: (each.t_s, each.kind, each.type, repr(each)))

    def _of_pairs(self, until_us: int) -> Iterator[Difference]:
        for then in self._then:
            now = then.mate
            about: dict[str, Any] = {"t_s": _s(then.t_us), "type": then.type, "then": then.content}
            if now is None:
                if then.expected and then.t_us <= until_us:
                    yield Difference(kind="missing", **about)
                continue
            late_us = now.t_us - then.t_us + then.waited_us
            about |= {"now": nameless(now.content), "late_s": _s(late_us)}
            changes = self._changes(then, now)
            if changes:
                yield Difference(kind="different", changes=changes, **about)
            elif late_us > self._late_us:
                yield Difference(kind="late", **about)

    def reordered(self) -> list[str]:
        """Return in words what was done in another order than then, and was not late."""
        found: list[str] = []
        last: Act | None = None  # of those before in the recording, what was done last now
        for then in self._then:
            if then.mate is None:
                continue
            if last is not None and last.mate is not None and then.mate.t_us < last.mate.t_us:
                if then.t_us - last.t_us > _AT_ONCE_US:
                    found.append(f"{_named(then)} before {_named(last)}")
            elif then.mate.t_us - then.t_us - then.waited_us <= self._late_us:
                last = then
        return found

    def _pair(self, then: Act, now: Act) -> None:
        then.mate, now.mate = now, then
        self.paired += 1
        self._open[then.key].discard(then)
        self._same[then.key, self._words(then)].discard(then)
        for place, old in then.made_up.items():
            new = now.made_up.get(place)
            if new is not None and new != old:
                self._new_ids[old.encode()] = new.encode()
                self._old_ids[new.encode()] = old.encode()

    def _is_ignored(self, path: str) -> bool:
        return any(each.fullmatch(path) for each in self._ignored)

    def _words(self, act: Act) -> bytes:
        """Return all that an act says, but for what does not matter."""
        said = [leaf for leaf in leaves(act.content) if not self._is_ignored(leaf[0])]
        return msgspec.json.encode(sorted(said, key=lambda leaf: leaf[0]))

    def _changes(self, then: Act, now: Act) -> list[Change]:
        """Return the fields that are not what they were."""
        if then.content == now.content:
            return []
        return [*self._parted(then.content, now.content)]

    def _parted(self, then: Any, now: Any, place: str = "") -> Iterator[Change]:
        was, is_ = dict(leaves(then, place)), dict(leaves(now, place))
        for path in sorted(was.keys() | is_.keys()):
            before, after = was.get(path), is_.get(path)
            if before == after or self._is_ignored(path):
                continue
            if path == "audio_end_ms" and _within(before, after, self._audio_within_ms):
                continue
            if _stands_for(before, after):
                continue
            inside = _inside(before), _inside(after)
            if None not in inside:
                yield from self._parted(*inside, path)
            else:
                yield Change(path=path, then=before, now=nameless(after))


def _named(act: Act) -> str:
    return f"{act.type} of {stamp(_s(act.t_us))}"


def _far(act: Act, t_us: int) -> int:
    return abs(act.t_us - t_us)


def _within(before: Any, after: Any, limit: int) -> bool:
    return isinstance(before, int) and isinstance(after, int) and abs(before - after) <= limit


def _is_left_out(leaf: tuple[str, Any]) -> bool:
    """Tell whether a text or a key was left out of a recording."""
    value = leaf[1]
    return isinstance(value, str) and (value == "***" or _LEFT_OUT.fullmatch(value) is not None)


def _stands_for(before: Any, after: Any) -> bool:
    """Tell whether what was left out of the recording may be what there is now."""
    if not isinstance(before, str) or not isinstance(after, str) or not _is_left_out(("", before)):
        return False
    return before == "***" or len(before) == len(after)


def _inside(text: Any) -> Any:
    """Return what a text says that is a JSON object or list; None for any other value."""
    if not isinstance(text, str) or not text.startswith(("{", "[")):
        return None
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None


def _s(t_us: int) -> float:
    return round(t_us / 1e6, 6)

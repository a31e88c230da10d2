"""The other side of a recorded connection, then and now: which frame is which.

Rules:

1. Two frames can be the same if they are of the same type, about items of the same kind, and name
   no id that is known to be another's. Of the first `_WINDOW` the one that says the same is it,
   else the first.
2. What was matched teaches ids. The ids of whoever is played are still the same; an item that the
   recorded server has named is named by the live client, if it does.
3. Texts that were left out of the recording are any text; places in audio are the same within
   `_NEAR_MS`.
4. Of a stream of deltas only the first counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final, cast

from ._causes import ID_KEYS, OF_NO_CONSEQUENCE, at, ids_in, subject_of
from ._connections import Frame, Side, stream_of, type_of


class Peer:
    """What the other side did then, and what of it has been done now.

    Attributes:
        came_s: When each frame's counterpart came.
        live: What it said.
        furthest: The last frame that has one.
    """

    def __init__(self, frames: Iterable[Frame], side: Side) -> None:
        self.came_s: dict[int, float] = {}
        self.live: dict[int, dict[str, Any]] = {}
        self.furthest = -1
        self._side: Side = side
        self._open: defaultdict[str, list[Frame]] = defaultdict(list)
        self._ids: dict[str, str] = {}
        self._known: dict[str, str] = {}  # the other way round
        self._streams: set[tuple[object, ...]] = set()
        self._last_about: dict[str, int] = {}
        self._last_us = 0
        met: set[str] = set()
        for frame in frames:
            for name in ids_in(frame.said):
                if name not in met:
                    met.add(name)
                    if frame.side != side:  # made by who is played: it is still the same
                        self._ids[name] = self._known[name] = name
            if frame.side == side and frame.said is not None:
                self._open[frame.type].append(frame)

    def open(self) -> list[Frame]:
        """Return what has no counterpart yet, in order."""
        left = [frame for frames in self._open.values() for frame in frames]
        return sorted(left, key=lambda frame: frame.index)

    def match(
        self, event: dict[str, Any], now_s: float, *, exactly: bool
    ) -> tuple[Frame, bool] | None:
        """Return the counterpart, and whether it was found just now; None if there is none."""
        kind = type_of(event)
        if kind.endswith(".delta"):
            stream = stream_of(event)
            if stream in self._streams:
                return _STREAM, False
            self._streams.add(stream)
        could_be = (
            frame
            for frame in self._open[kind]
            if all(at(frame.said, *steps) == at(event, *steps) for steps in _KIND)
            and self._fits(frame.said, event)
        )
        fitting = list(islice(could_be, _WINDOW))
        if not fitting:
            return None
        alike = (frame for frame in fitting if not any(True for _ in self.compare(frame, event)))
        found = next(alike, None)
        if found is None:
            if exactly:
                return None
            found = min(fitting, key=lambda frame: self._distance(frame, event))
        self._open[kind].remove(found)
        self._learn(found.said, event)
        self.came_s[found.index] = now_s
        self.live[found.index] = event
        self.furthest = max(self.furthest, found.index)
        return found, True

    def is_late(self, found: Frame) -> bool:
        """Tell whether something has come before it that came after it then.

        What is about the same item or response is in order, the rest within `_CLOSE_US`.
        """
        about = subject_of(found.said)
        alike = self._last_about.get(about, -1)
        self._last_about[about] = max(alike, found.index)
        self._last_us = max(self._last_us, found.t_us)
        return found.index < alike or found.t_us + _CLOSE_US < self._last_us

    def _fits(self, then: Any, now: Any) -> bool:
        """Tell whether two events can be about the same: no id is known to be another's."""
        if isinstance(then, dict) and isinstance(now, dict):
            mine, theirs = cast("dict[str, Any]", then), cast("dict[str, Any]", now)
            for name in mine.keys() & theirs.keys():
                one, other = mine[name], theirs[name]
                if name in ID_KEYS and isinstance(one, str) and isinstance(other, str):
                    if self._ids.get(one, other) != other or self._known.get(other, one) != one:
                        return False
                elif not self._fits(one, other):
                    return False
        elif isinstance(then, list) and isinstance(now, list):
            pairs = zip(cast("Sequence[Any]", then), cast("Sequence[Any]", now), strict=False)
            return all(self._fits(one, other) for one, other in pairs)
        return True

    def _distance(self, frame: Frame, event: dict[str, Any]) -> tuple[int, int]:
        """Prefer what has the same shape, then what came first."""
        apart = 0
        for steps in _SHAPE:
            then, now = at(frame.said, *steps), at(event, *steps)
            is_id = steps[-1] in ID_KEYS
            apart += (then is None) != (now is None) if is_id else then != now
        return apart, frame.index

    def adopt(self, said: Any, then: Any, now: Any) -> None:
        """Learn the id of an item that the recorded server has named, and now the live client."""
        given, named = at(said, "item", "id"), at(now, "item", "id")
        if isinstance(given, str) and isinstance(named, str) and at(then, "item", "id") is None:
            self._ids[given], self._known[named] = named, given

    def _learn(self, then: Any, now: Any) -> None:
        """Learn which ids are the same."""
        if isinstance(then, dict) and isinstance(now, dict):
            mine, theirs = cast("dict[str, Any]", then), cast("dict[str, Any]", now)
            for name in mine.keys() & theirs.keys():
                one, other = mine[name], theirs[name]
                is_id = name in ID_KEYS or (name == "event_id" and self._side == "client")
                if is_id and isinstance(one, str) and isinstance(other, str):
                    self._ids[one] = other
                    self._known[other] = one
                else:
                    self._learn(one, other)
        elif isinstance(then, list) and isinstance(now, list):
            for one, other in zip(
                cast("Sequence[Any]", then), cast("Sequence[Any]", now), strict=False
            ):
                self._learn(one, other)

    def translated(self, value: Any, name: str = "") -> Any:
        """Return an event with the ids of today."""
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            return {key: self.translated(member, key) for key, member in members.items()}
        if isinstance(value, list):
            return [self.translated(element) for element in cast("Sequence[Any]", value)]
        if isinstance(value, str) and (name in ID_KEYS or name == "event_id"):
            return self._ids.get(value, value)
        return value

    def compare(self, recorded: Frame, event: dict[str, Any]) -> Iterable[tuple[str, Any, Any]]:
        """Yield what differs: path, then, now; but for what differs always."""
        if recorded.type in OF_NO_CONSEQUENCE:
            return ()
        return _differing(self.translated(recorded.said), event)


_CLOSE_US: Final = 250_000
_NEAR_MS: Final = 50
_WINDOW: Final = 16
_STREAM: Final = Frame(index=-1, t_us=0, side="server")
_KIND: Final = (("item", "type"), ("item", "role"))
_SHAPE: Final = (
    ("response", "conversation"),
    ("response", "conversation_id"),
    ("response", "status"),
)
_ALWAYS: Final = frozenset(
    {"audio", "delta", "event_id", "expires_at", "metadata", "obfuscation", "usage"}
)


def _differing(then: Any, now: Any, path: str = "") -> Iterable[tuple[str, Any, Any]]:
    if isinstance(then, dict) and isinstance(now, dict):
        mine, theirs = cast("dict[str, Any]", then), cast("dict[str, Any]", now)
        for name in {**mine, **theirs}:
            if name not in _ALWAYS and name not in ID_KEYS:
                one, other = mine.get(name), theirs.get(name)
                if not (name.endswith("_ms") and _is_near(one, other)):
                    yield from _differing(one, other, f"{path}.{name}" if path else name)
    elif isinstance(then, list) and isinstance(now, list):
        ones, others = cast("Sequence[Any]", then), cast("Sequence[Any]", now)
        if len(ones) != len(others):
            yield path, f"{len(ones)} elements", f"{len(others)} elements"
        for place, (one, other) in enumerate(zip(ones, others, strict=False)):
            yield from _differing(one, other, f"{path}[{place}]")
    elif then != now and not _is_left_out(then):
        yield path, then, now


def _is_near(then: Any, now: Any) -> bool:
    both = isinstance(then, int | float) and isinstance(now, int | float)
    return both and abs(then - now) <= _NEAR_MS


def _is_left_out(text: Any) -> bool:
    """Tell whether it is a text or a key that was left out of the recording."""
    return isinstance(text, str) and text != "" and (text == "***" or not text.strip("x"))


def repeating(said: Any, then: Any, now: Any) -> Any:
    """Put what the live command says where the frame repeats what the recorded one said."""
    unlike: Any = now if said == then else said
    if isinstance(said, dict) and isinstance(now, dict):
        members, theirs = cast("dict[str, Any]", said), cast("dict[str, Any]", now)
        mine = cast("dict[str, Any]", then) if isinstance(then, dict) else {}
        repeated = dict(members)
        for name in members.keys() & theirs.keys():
            if name not in ("type", "event_id"):
                repeated[name] = repeating(members[name], mine.get(name), theirs[name])
        return repeated
    return unlike

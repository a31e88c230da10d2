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
6. Of a text that was left out of the recording only the length is compared, of a key nothing.

Bound: `_MAX_UNPAIRED` acts that correspond to nothing; more are only counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

from realtime_bus._secrets import redact
from realtime_bus.codec._frame import NotAnObject, parse_object

DifferenceKind: TypeAlias = Literal["missing", "extra", "different", "late", "closed"]

_WINDOW_US: Final = 60_000_000
_MAX_UNPAIRED: Final = 1000
MARK: Final = "realtime_bus_request"  # of a response's metadata
_STRING: Final = re.compile(rb'"([^"\\]{1,200})"')
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_OUR_ID: Final = re.compile(r"\b((?:item_)?rb)_[0-9a-f]{8}_\d+")
_SHOWN_CHARS: Final = 60
_ABOUT: Final[Mapping[str, tuple[str, ...]]] = {
    "conversation.item.truncate": ("item_id", "content_index"),
    "conversation.item.delete": ("item_id",),
    "conversation.item.retrieve": ("item_id",),
    "response.cancel": ("response_id",),
    "bus.handler_failed": ("handler", "event_type"),
}
"""What an act is about, where that leaves no doubt."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A field that is not what it was.

    Attributes:
        path: Where it is, such as ``item.output``.
        then: Its value in the recording; None if it was not there.
        now: Its value in the replay; None if it is not there.
    """

    path: str
    then: Any
    now: Any


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the replayed session does otherwise.

    ``str()`` is what to show of it.

    Attributes:
        kind: ``missing``: done then, and not now. ``extra``: the reverse. ``different``: see
            `changes`. ``late``: the same, later. ``closed``: the session was closed early.
        t_s: When, in seconds of the recording.
        type: The command's or event's name.
        then: What was sent or emitted then, without ids that a client makes up.
        now: The same of the replay.
        changes: What is different.
        late_s: How much later it was done, in seconds; less than 0 is earlier.
    """

    kind: DifferenceKind
    t_s: float
    type: str
    then: dict[str, Any] | None = None
    now: dict[str, Any] | None = None
    changes: list[Change] = []
    late_s: float = 0.0

    def __str__(self) -> str:
        """Return a line for people, and one for each change."""
        late = f" by {self.late_s:.3f} s" if self.kind == "late" else ""
        lines = [f"{stamp(self.t_s)}  {self.kind + late:<10} {self.type}  {_brief(self)}".rstrip()]
        lines += [
            f"            {each.path}: then {_short(each.then)}, now {_short(each.now)}"
            for each in self.changes
        ]
        return "\n".join(lines)


def stamp(t_s: float) -> str:
    """Return a time of the recording for people: ``0:07.066``."""
    return f"{int(t_s // 60)}:{t_s % 60:06.3f}"


class Act:
    """Something that the bus's side did, then or now.

    Attributes:
        t_us: When, in the recording's time.
        type: Its name.
        content: Its fields, without what is made up.
        made_up: Ids that the client has made up, by where they stand.
        key: What kind of act, and about what.
        sure: Whether the key leaves no doubt which act is meant.
        expected: Of then: whether it is missing if it is not done now.
        mate: The act that it corresponds to.
        is_event: Whether it is an event that was emitted, and no command.
        waited_us: Of then: how long the recording has waited since.
    """

    __slots__ = (
        "content",
        "expected",
        "is_event",
        "key",
        "made_up",
        "mate",
        "sure",
        "t_us",
        "type",
        "waited_us",
    )

    def __init__(
        self,
        t_us: int,
        plain: dict[str, Any],
        *,
        expected: bool = True,
        is_event: bool = False,
    ) -> None:
        self.is_event = is_event
        self.t_us = t_us
        self.type = str(plain.get("type"))
        self.content, self.made_up = _taken_apart(plain)
        self.key, self.sure = _key(self.type, self.content)
        self.expected = expected
        self.mate: Act | None = None
        self.waited_us = 0


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
        self._then = then
        self._ignore = tuple(ignore)
        self._late_us = late_us
        self._audio_within_ms = audio_within_ms
        self._open: dict[tuple[object, ...], list[Act]] = {}
        for act in then:
            self._open.setdefault(act.key, []).append(act)
        self._unpaired: list[Act] = []
        self._uncounted: Counter[str] = Counter()
        self._new_ids: dict[bytes, bytes] = {}  # by what they were then
        self._old_ids: dict[bytes, bytes] = {}  # the reverse

    def sent(self, t_us: int, place_us: int, frame: bytes) -> None:
        """Take note of a command that is sent now; see `did`."""
        text = redact(_renamed(frame, self._old_ids).decode("utf-8", "replace"))
        try:
            self.did(t_us, place_us, parse_object(text.encode()))
        except (NotAnObject, RecursionError):
            return

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

        def distance(then: Act) -> int:
            return abs(then.t_us - place_us)

        there = self._open.get(act.key, [])
        near = [each for each in there if act.sure or distance(each) <= _WINDOW_US]
        same = [each for each in near if not self._changes(each, act)]
        found = [each for each in same if each.expected] or same or (near if act.sure else [])
        if found:
            self._pair(min(found, key=distance), act)
        elif len(self._unpaired) < _MAX_UNPAIRED:
            self._unpaired.append(act)
        else:
            self._uncounted[act.type] += 1

    def is_done(self, then: Act) -> bool:
        """Tell whether an act of then was done by now; what says something else will do, too."""
        if then.mate is None:
            alike = [each for each in self._unpaired if _near(then, each)]
            if alike:  # trio runs what is due at one moment in any order: the first by its words
                first = min(alike, key=lambda each: (each.t_us, repr(each.content)))
                self._unpaired.remove(first)
                self._pair(then, first)
        return then.mate is not None

    def waited(self, length_us: int, place_us: int) -> None:
        """Take note that the recording has waited: what is still to come is that late."""
        for there in self._open.values():
            for then in there:
                if then.t_us <= place_us:
                    then.waited_us += length_us

    def renamed(self, frame: bytes) -> bytes:
        """Return what the recording's server says, with the ids of now."""
        return _renamed(frame, self._new_ids)

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
        for act in self._unpaired:
            if cut_off and act.t_us > until_us:
                continue
            content = _nameless(act.content)
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
            about |= {"now": _nameless(now.content), "late_s": _s(late_us)}
            changes = self._changes(then, now)
            if changes:
                yield Difference(kind="different", changes=changes, **about)
            elif late_us > self._late_us:
                yield Difference(kind="late", **about)

    def _pair(self, then: Act, now: Act) -> None:
        then.mate, now.mate = now, then
        self.paired += 1
        there = self._open[then.key]
        there.remove(then)
        for place, old in then.made_up.items():
            new = now.made_up.get(place)
            if new is not None and new != old:
                self._new_ids[old.encode()] = new.encode()
                self._old_ids[new.encode()] = old.encode()

    def _changes(self, then: Act, now: Act) -> list[Change]:
        """Return the fields that are not what they were."""
        if then.content == now.content:
            return []
        was, is_ = dict(_leaves(then.content)), dict(_leaves(now.content))
        found: list[Change] = []
        for path in sorted(was.keys() | is_.keys()):
            before, after = was.get(path), is_.get(path)
            if before == after or any(fnmatchcase(path, each) for each in self._ignore):
                continue
            if path == "audio_end_ms" and _within(before, after, self._audio_within_ms):
                continue
            if _left_out(before, after):
                continue
            found.append(Change(path=path, then=before, now=_nameless(after)))
        return found


def _key(name: str, content: dict[str, Any]) -> tuple[tuple[object, ...], bool]:
    """Return what kind of act it is, and about what; and whether that leaves no doubt."""
    if name in _ABOUT:
        return (name, *(str(content.get(field)) for field in _ABOUT[name])), True
    if name == "session.update":  # by what is set: one does not stand for another
        settings = {path.partition("[")[0] for path, _ in _leaves(content.get("session"))}
        return (name, *sorted(settings)), False
    if name == "conversation.item.create":
        item = _fields(content.get("item"))
        call_id = item.get("call_id")
        about = (name, str(item.get("type")), str(call_id), str(item.get("role")))
        return about, call_id is not None
    if name == "response.create":
        return (name, str(_fields(content.get("response")).get("conversation"))), False
    return (name,), False


def _fields(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _taken_apart(plain: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what an act says, and the ids that were made up for it."""
    content, made_up = dict(plain), dict[str, str]()

    def without(fields: dict[str, Any], name: str, place: str) -> dict[str, Any]:
        if isinstance(fields.get(name), str):
            made_up[place] = fields[name]
        return {key: value for key, value in fields.items() if key != name}

    content = without(content, "event_id", "event_id")
    item, response = _fields(content.get("item")), _fields(content.get("response"))
    if item and content.get("type") == "conversation.item.create":
        content["item"] = without(item, "id", "item.id")
    if response:
        metadata = without(_fields(response.pop("metadata", None)), MARK, "mark")
        # that it has nothing but our mark is the same as that it has none
        content["response"] = {**response, "metadata": metadata} if metadata else response
    if content.get("type") == "bus.handler_failed":  # where it was raised is another line by now
        error = _fields(content.get("error"))
        content["error"] = {key: value for key, value in error.items() if key != "at"}
    if not content.get("response", True):
        del content["response"]
    return content, made_up


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    entries: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        dot = path and "."
        fields = cast("dict[str, Any]", value)
        entries = [(f"{path}{dot}{key}", entry) for key, entry in fields.items()]
    elif isinstance(value, list):
        elements = cast("list[object]", value)
        entries = [(f"{path}[{number}]", entry) for number, entry in enumerate(elements)]
    for inner, entry in entries:
        yield from _leaves(entry, inner)
    if not entries:
        yield path, _ADDRESS.sub("", value) if isinstance(value, str) else value


def _near(then: Act, now: Act) -> bool:
    return then.key == now.key and abs(then.t_us - now.t_us) <= _WINDOW_US


def _within(before: Any, after: Any, limit: int) -> bool:
    return isinstance(before, int) and isinstance(after, int) and abs(before - after) <= limit


def _left_out(before: Any, after: Any) -> bool:
    if not isinstance(before, str) or not isinstance(after, str):
        return False
    return before == "***" or (bool(before) and before == "x" * len(after))


def _renamed(frame: bytes, names: Mapping[bytes, bytes]) -> bytes:
    if not names:
        return frame

    def other(match: re.Match[bytes]) -> bytes:
        found = names.get(match[1])
        return match[0] if found is None else b'"' + found + b'"'

    return _STRING.sub(other, frame)


def _nameless(content: Any) -> Any:
    """Return what is shown of an act, with no id in it that is another one each time."""
    if isinstance(content, dict):
        return {key: _nameless(entry) for key, entry in cast("dict[str, Any]", content).items()}
    if isinstance(content, list):
        return [_nameless(entry) for entry in cast("list[object]", content)]
    return _OUR_ID.sub(r"\1_…", content) if isinstance(content, str) else content


def _brief(difference: Difference) -> str:
    """Return what an act is about, in few words."""
    if difference.changes:
        return ""
    leaves = _leaves(difference.then if difference.then is not None else difference.now)
    said = [
        f"{path.rpartition('.')[2]} {_short(value)}" for path, value in leaves if path != "type"
    ]
    return ", ".join(said[:4])


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else str(value)
    quoted = repr(text) if isinstance(value, str) else text
    return quoted if len(quoted) <= _SHOWN_CHARS else quoted[: _SHOWN_CHARS - 1] + "…"


def _s(t_us: int) -> float:
    return round(t_us / 1e6, 6)

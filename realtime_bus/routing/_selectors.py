"""What a handler is registered for: classes, wire names, patterns, unions of classes.

Events on the wire are all known when a handler is registered. Events of plugins and applications
(subclasses of `events.BusEvent`) are not: a class may be defined later. So a selection keeps what
it was asked for, and `matches` decides about each class when its first event comes.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple, cast

from realtime_bus.errors import UsageError
from realtime_bus.events import BusEvent, ClientEvent, Event, ServerEvent
from realtime_bus.events._registry import BUS_EVENTS, PROTOCOLS, own_events

_Names = Mapping[str, tuple[type[Event], ...]]


def _by_name(*tables: Mapping[str, type[Event]]) -> _Names:
    """Merge tables: a name that two protocols share stands for both classes."""
    merged: dict[str, tuple[type[Event], ...]] = {}
    for table in tables:
        for name, cls in table.items():
            found = merged.get(name, ())
            merged[name] = found if cls in found else (*found, cls)
    return merged


INCOMING = _by_name(*(protocol.server for protocol in PROTOCOLS.values()), BUS_EVENTS)
OUTGOING = _by_name(*(protocol.client for protocol in PROTOCOLS.values()))
_CORE = frozenset(BUS_EVENTS.values())


class Pattern(str):
    """A wire-name pattern that type checkers accept: ``*`` stands for any characters."""

    __slots__ = ()


def pattern(text: str) -> Pattern:
    """Mark a text as a pattern of wire names, such as ``pattern("mcp_list_tools.*")``.

    At run time a plain string does as well; type checkers know the common patterns and take
    any other plain string for a mistyped name.
    """
    return Pattern(text)


class Selection(NamedTuple):
    """What selectors stand for.

    Attributes:
        classes: The classes that are known already.
        bases: Their subclasses among the events of plugins and applications are meant, too.
        patterns: So are those whose wire name is one of these, or fits it.
    """

    classes: frozenset[type[Event]] = frozenset()
    bases: tuple[type[BusEvent], ...] = ()
    patterns: tuple[str, ...] = ()

    def matches(self, cls: type[Event]) -> bool:
        """Tell whether events of a class are selected."""
        if cls in self.classes:
            return True
        if not issubclass(cls, BusEvent):
            return False
        name = wire_name(cls)
        return (
            issubclass(cls, self.bases)
            or name in self.patterns
            or any("*" in text and fnmatchcase(name, text) for text in self.patterns)
        )

    def __or__(self, other: object) -> Selection:
        """Return what either stands for."""
        if not isinstance(other, Selection):
            return NotImplemented
        return Selection(
            self.classes | other.classes, self.bases + other.bases, self.patterns + other.patterns
        )


def wire_name(cls: type[Event]) -> str:
    """Return the wire name of an event class."""
    return str(cls.__struct_config__.tag)


def select(selectors: Iterable[object], names: _Names = INCOMING) -> Selection:
    """Return what selectors stand for, among the events that come in or (`OUTGOING`) go out.

    Raises:
        UsageError: A selector stands for nothing; the message says what was meant.
    """
    found = Selection()
    for selector in selectors:
        found |= _select_one(selector, names)
    if found == Selection():
        raise UsageError(
            "give at least one event: a class such as events.ResponseDone, a wire name such as "
            "'response.done', a pattern such as 'response.*.done', or '*' for everything"
        )
    return found


def _select_one(selector: object, names: _Names) -> Selection:
    if isinstance(selector, Selection):
        return selector
    if isinstance(selector, str):
        return _select_text(selector, names)
    if isinstance(selector, type):
        return _select_class(selector, names)
    if members := _union_members(selector):
        found = Selection()
        for member in members:
            found |= _select_one(member, names)
        return found
    if callable(selector):
        raise UsageError(
            f"{selector!r} is not an event; write @bus.on(EventClass) above the handler, "
            "with the event in parentheses"
        )
    raise UsageError(f"{selector!r} is neither an event class nor a wire name")


def _union_members(selector: object) -> tuple[object, ...]:
    if isinstance(selector, tuple | list | set | frozenset):
        return tuple(cast("Iterable[object]", selector))
    if isinstance(selector, types.UnionType) or typing.get_origin(selector) is typing.Union:
        return typing.get_args(selector)
    return ()


def _select_text(text: str, names: _Names) -> Selection:
    own: _Names = _not_on_the_wire() if names is INCOMING else {}
    if text in names:
        return Selection(frozenset(names[text]))
    if text in own:
        return Selection(frozenset(own[text]), patterns=(text,))  # others may come by that name
    if "*" not in text:
        raise UsageError(f"there is no event {text!r}{_hint(text, [*names, *own])}")
    found = frozenset(
        c for name, classes in names.items() if fnmatchcase(name, text) for c in classes
    )
    if not found and not any(fnmatchcase(name, text) for name in own):
        raise UsageError(f"the pattern {text!r} matches no event{_hint(text, [*names, *own])}")
    return Selection(found, patterns=(text,) if names is INCOMING else ())


def _not_on_the_wire() -> _Names:
    """Return the events that plugins and applications have defined so far, by wire name."""
    return _by_name(*({wire_name(cls): cls} for cls in own_events() if cls not in _CORE))


def _hint(text: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(text.replace("*", ""), list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(name) for name in close)}?" if close else ""


_BASES: frozenset[type] = frozenset({Event, ServerEvent, ClientEvent, BusEvent})


def _select_class(cls: type, names: _Names) -> Selection:
    every = {member for classes in names.values() for member in classes}
    incoming = names is INCOMING
    if cls in _BASES:
        found = frozenset(member for member in every if issubclass(member, cls))
        own = (BusEvent,) if incoming and issubclass(BusEvent, cls) else ()
        if found:
            return Selection(found, bases=own)
    elif cls in every:
        return Selection(frozenset({cls}))
    elif issubclass(cls, BusEvent) and incoming:
        return Selection(bases=(cls,))
    raise UsageError(f"{cls.__name__} {_why_not(cls)}")


def _why_not(cls: type) -> str:
    if issubclass(cls, ClientEvent):
        return (
            "is an event that we send, so no handler ever gets it; "
            "use session.intercept_outgoing to see it leave"
        )
    if issubclass(cls, ServerEvent | BusEvent):
        return "is an event that we receive; it cannot be intercepted on its way out"
    return "is not an event; the events are in realtime_bus.events"

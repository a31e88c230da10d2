"""What a handler is registered for: classes, wire names, patterns, unions of classes."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import cast

from realtime_bus.errors import UsageError
from realtime_bus.events import BusEvent, ClientEvent, Event, ServerEvent
from realtime_bus.events._vocabulary import BUS_EVENTS, REALTIME, TRANSLATION

__all__ = ["INCOMING", "OUTGOING", "Pattern", "pattern", "resolve"]

_Classes = frozenset[type[Event]]
_Names = Mapping[str, tuple[type[Event], ...]]


def _by_name(*tables: Mapping[str, type[Event]]) -> _Names:
    """Merge tables: a name that two protocols share stands for both classes."""
    merged: dict[str, tuple[type[Event], ...]] = {}
    for table in tables:
        for name, cls in table.items():
            found = merged.get(name, ())
            merged[name] = found if cls in found else (*found, cls)
    return merged


INCOMING = _by_name(REALTIME.server, TRANSLATION.server, BUS_EVENTS)
OUTGOING = _by_name(REALTIME.client, TRANSLATION.client)


class Pattern(str):
    """A wire-name pattern that type checkers accept: ``*`` stands for any characters."""

    __slots__ = ()


def pattern(text: str) -> Pattern:
    """Mark a text as a pattern of wire names, such as ``pattern("mcp_list_tools.*")``.

    At run time a plain string does as well; type checkers know the common patterns and take
    any other plain string for a mistyped name.
    """
    return Pattern(text)


def resolve(selectors: Iterable[object], names: _Names = INCOMING) -> _Classes:
    """Return the event classes that selectors stand for.

    Raises:
        UsageError: A selector stands for nothing; the message says what was meant.
    """
    found: set[type[Event]] = set()
    for selector in selectors:
        found |= _resolve_one(selector, names)
    if not found:
        raise UsageError(
            "give at least one event: a class such as events.ResponseDone, a wire name such as "
            "'response.done', a pattern such as 'response.*.done', or '*' for everything"
        )
    return frozenset(found)


def _resolve_one(selector: object, names: _Names) -> _Classes:
    if isinstance(selector, str):
        return _resolve_text(selector, names)
    if isinstance(selector, type):
        return _resolve_class(selector, names)
    members = _union_members(selector)
    if members:
        return _Classes().union(*(_resolve_one(member, names) for member in members))
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


def _resolve_text(text: str, names: _Names) -> _Classes:
    if text in names:
        return frozenset(names[text])
    if "*" in text:
        found = [
            cls for name, classes in names.items() if fnmatchcase(name, text) for cls in classes
        ]
        if found:
            return frozenset(found)
        raise UsageError(f"the pattern {text!r} matches no event{_hint(text, names)}")
    raise UsageError(f"there is no event {text!r}{_hint(text, names)}")


def _hint(text: str, names: _Names) -> str:
    stem = text.replace("*", "")
    close = difflib.get_close_matches(stem, names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(name) for name in close)}?" if close else ""


_BASES = frozenset({Event, ServerEvent, ClientEvent, BusEvent})


def _resolve_class(cls: type, names: _Names) -> _Classes:
    every = {member for classes in names.values() for member in classes}
    if cls in _BASES:
        found = frozenset(member for member in every if cls in member.__mro__)
    else:
        found = frozenset({cls}) & every
    if not found and issubclass(cls, BusEvent) and names is INCOMING:
        found = frozenset[type[Event]]({cls})  # a plugin's own happening
    if not found:
        raise UsageError(f"{cls.__name__} {_why_not(cls)}")
    return found


def _why_not(cls: type) -> str:
    if issubclass(cls, ClientEvent):
        return (
            "is an event that we send, so no handler ever gets it; "
            "use session.intercept_outgoing to see it leave"
        )
    if issubclass(cls, ServerEvent | BusEvent):
        return "is an event that we receive; it cannot be intercepted on its way out"
    return "is not an event; the events are in realtime_bus.events"

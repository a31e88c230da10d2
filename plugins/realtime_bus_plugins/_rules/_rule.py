"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from realtime_bus import events as ev

from ._known import Known

__all__ = ["Broken", "Rule", "broken_rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule that a client must keep.

    Attributes:
        id: Its name.
        text: The rule, in one sentence.
        events: Which client events it is about.
        check: Tells what is wrong with an event, given what is known; None if nothing is.
    """

    id: str
    text: str
    events: tuple[type[ev.ClientEvent], ...]
    check: Callable[[Any, Known], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A rule that an event breaks.

    Attributes:
        rule: Which.
        why: What is wrong with the event.
    """

    rule: Rule
    why: str


def broken_rules(rules: Iterable[Rule], event: ev.ClientEvent, known: Known) -> list[Broken]:
    """Return the rules that an event would break if it were sent now."""
    found: list[Broken] = []
    for rule in rules:
        why = rule.check(event, known) if type(event) in rule.events else None
        if why is not None:
            found.append(Broken(rule=rule, why=why))
    return found

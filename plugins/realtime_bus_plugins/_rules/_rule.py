"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from realtime_bus import events as ev

from ._observed import Observed


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule that a client must keep.

    Attributes:
        id: Its name.
        text: The rule, in one sentence.
        events: Which client events it is about.
        check: Tells what is wrong with an event, given what was observed; None if nothing is.
    """

    id: str
    text: str
    events: tuple[type[ev.ClientEvent], ...]
    check: Callable[[Any, Observed], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRule:
    """A rule that an event breaks.

    Attributes:
        rule: Which.
        why: What is wrong with the event.
    """

    rule: Rule
    why: str


def broken_rules(
    rules: Iterable[Rule], event: ev.ClientEvent, observed: Observed
) -> list[BrokenRule]:
    """Return the rules that an event would break if it were sent now."""
    found: list[BrokenRule] = []
    for rule in rules:
        why = rule.check(event, observed) if type(event) in rule.events else None
        if why is not None:
            found.append(BrokenRule(rule=rule, why=why))
    return found

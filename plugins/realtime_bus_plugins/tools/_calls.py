"""Calls, rounds of them, and what can be decided about each: the facts behind `Rounds`."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from realtime_bus import events as ev

from ._outputs import NotRun

__all__ = [
    "ABORTED",
    "ENDINGS",
    "Action",
    "Call",
    "Ending",
    "Entry",
    "FollowUp",
    "Interrupt",
    "Refuse",
    "Round",
    "Run",
    "verdict",
]

Ending: TypeAlias = Literal["completed", "incomplete", "cancelled", "failed"]
_State: TypeAlias = Literal["held", "waiting", "running", "answered"]

ENDINGS: dict[Any, Ending] = {
    "completed": "completed",
    "incomplete": "incomplete",
    "cancelled": "cancelled",
    None: "completed",  # a server that does not say
}
ABORTED = frozenset({"cancelled", "failed"})


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a function, as the model wants it.

    Attributes:
        response_id: The response that it is part of.
        call_id: What the output answers.
        name: Which function.
        arguments: Model text.
    """

    response_id: str
    call_id: str
    name: str
    arguments: str


class Run(msgspec.Struct, frozen=True):
    """Run this call, and say `Rounds.finished` when it has been answered."""

    call: Call


class Refuse(msgspec.Struct, frozen=True):
    """Answer this call without running it."""

    call: Call
    reason: NotRun


class Interrupt(msgspec.Struct, frozen=True):
    """The response of this running call was cancelled: stop it, or let it finish."""

    call: Call


class FollowUp(msgspec.Struct, frozen=True):
    """These calls have been answered: ask the model to go on."""

    calls: tuple[Call, ...]


Action: TypeAlias = Run | Refuse | Interrupt | FollowUp


class Entry:
    """A call, and how far it has come."""

    __slots__ = ("call", "item_id", "ran", "state", "status")

    def __init__(self, call: Call, item: ev.FunctionCallItem) -> None:
        self.call = call
        self.item_id = item.id
        self.status: str | None = item.status
        self.state: _State = "held"
        self.ran = False


class Round:
    """A response and its calls."""

    __slots__ = ("ending", "entries", "in_conversation", "over")

    def __init__(self) -> None:
        self.in_conversation = False
        self.ending: Ending | None = None
        self.entries: dict[str, Entry] = {}
        self.over = False

    def in_state(self, *states: _State) -> list[Entry]:
        """Return the calls that are in one of these states."""
        return [entry for entry in self.entries.values() if entry.state in states]

    @property
    def has_open_calls(self) -> bool:
        """Whether a call has not been answered."""
        return bool(self.in_state("held", "waiting", "running"))

    @property
    def goes_on(self) -> bool:
        """Whether the model is to go on after this."""
        ran = any(entry.ran for entry in self.entries.values())
        return bool(self.entries) and (self.ending == "completed" or (self.cut_short and ran))

    @property
    def cut_short(self) -> bool:
        """Whether the response reached a limit."""
        return self.ending == "incomplete"


def verdict(entry: Entry, ending: Ending | None) -> NotRun | Literal["hold", "run"]:
    """Decide about a call of the default conversation that has not started."""
    if entry.status in ("incomplete", "in_progress"):
        return "cut_off"
    if ending in ABORTED:
        return "cancelled"
    if entry.status == "completed" or ending == "completed":
        return "run"
    return "hold" if ending is None else "cut_off"

"""What the machine wants done: events for the client, and commands for the shell around it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeAlias

import msgspec
from msgspec.structs import force_setattr

from realtime_bus import events as ev

from ._responder import ResponderRequest

__all__ = [
    "CancelResponder",
    "Close",
    "Command",
    "Happening",
    "Outbox",
    "StartResponder",
    "Transcribe",
    "random_id",
]


class StartResponder(msgspec.Struct, frozen=True):
    """Run the responder; feed its output in, and say when it has ended."""

    response_id: str
    request: ResponderRequest


class CancelResponder(msgspec.Struct, frozen=True):
    """Stop the responder of a response; nothing that it says is wanted any more."""

    response_id: str


class Transcribe(msgspec.Struct, frozen=True):
    """Write down a user turn (PCM16, 24 kHz), and feed the words in."""

    item_id: str
    turn_index: int
    audio: bytes


class Close(msgspec.Struct, frozen=True):
    """Close the connection, once what was said before is sent."""

    code: int
    reason: str


Command: TypeAlias = StartResponder | CancelResponder | Transcribe | Close
Happening: TypeAlias = ev.ServerEvent | Command


def random_id(kind: str) -> str:
    """Return an id nobody else has, such as ``item_5f0c…``."""
    return f"{kind}_{secrets.token_hex(10)}"


class Outbox:
    """One session's events and commands, in order, until the shell takes them.

    Every room of the machine holds it. It also carries what they share: the time of what is
    being handled, and the making of ids.

    Attributes:
        now_s: The clock, as the shell gave it last.
        new_id: Makes an id of a kind (``"item"``, ``"resp"``, ``"event"`` …).
    """

    def __init__(self, new_id: Callable[[str], str] = random_id) -> None:
        self.now_s = 0.0
        self.new_id = new_id
        self._waiting: list[Happening] = []

    def send(self, event: ev.ServerEvent) -> None:
        """Stamp an event with its id and queue it."""
        # nobody else has seen the struct yet: it is still being made, so frozen is kept
        force_setattr(event, "event_id", self.new_id("event"))
        self._waiting.append(event)

    def order(self, command: Command) -> None:
        """Queue a command."""
        self._waiting.append(command)

    def drain(self) -> list[Happening]:
        """Return what was queued, and forget it."""
        waiting, self._waiting = self._waiting, []
        return waiting

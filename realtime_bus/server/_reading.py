"""A client's frame, read strictly: the event, or why it is none.

The rules
---------
* What is no JSON object, or has no ``type``, is an ``invalid_event``.
* A type that does not exist is an ``invalid_value`` of ``type``; the message lists those that do.
* The first problem is the answer, a client that repairs one after the other gets there: an
  unknown field is ``unknown_parameter``, a missing one ``missing_required_parameter``,
  everything else ``invalid_value``.
* The client's ``event_id`` is found even where the rest is bad, so that the answer can carry it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from realtime_bus import events as ev
from realtime_bus.codec import MAX_APPEND_BYTES, Problem
from realtime_bus.codec._read_client import NotAnObject, read_client

from ._refusals import Refusal, bad_value, of_problem

__all__ = ["Read", "read_event"]

MAX_EVENT_ID_CHARS = 512


class Read(msgspec.Struct, frozen=True):
    """What became of a frame.

    Attributes:
        outcome: The event, or the refusal of it.
        event_id: The client's own id, if it gave one that can be given back.
    """

    outcome: ev.ClientEvent | Refusal
    event_id: str | None = None

    def event_or_refusal(self) -> ev.ClientEvent:
        """Return the event.

        Raises:
            Refusal: There is none.
        """
        if isinstance(self.outcome, Refusal):
            raise self.outcome
        return self.outcome


def read_event(frame: bytes, *, lenient: bool = False) -> Read:
    """Read a frame; `lenient` forgives unknown fields."""
    try:
        event, problems, plain = read_client(frame)
    except NotAnObject as reason:
        return Read(Refusal("invalid_event", f"The frame is not an event: {reason}."))
    if lenient:
        problems = [problem for problem in problems if problem.kind != "unknown_field"]
    return Read(_outcome(event, problems), _event_id(plain))


def _outcome(event: ev.ClientEvent | None, problems: list[Problem]) -> ev.ClientEvent | Refusal:
    if problems or event is None:
        return of_problem(problems[0])
    return _limits(event) or event


def _limits(event: ev.ClientEvent) -> Refusal | None:
    """Refuse what no single field's type forbids."""
    if len(event.event_id or "") > MAX_EVENT_ID_CHARS:
        return bad_value("event_id", f"An id has at most {MAX_EVENT_ID_CHARS} characters.")
    if isinstance(event, ev.InputAudioBufferAppend):
        too_long = len(event.audio) > MAX_APPEND_BYTES
        message = f"An append holds at most {MAX_APPEND_BYTES} bytes (15 MiB); send several."
        return bad_value("audio", message) if too_long else None
    return _unspeakable(event)


def _unspeakable(event: ev.ClientEvent) -> Refusal | None:
    """Refuse what JSON can say and we could not say back, such as integers beyond 64 bits."""
    try:
        event.to_json()
    except (OverflowError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        return Refusal("invalid_value", f"The event holds a value that is out of range: {error}.")
    return None


def _event_id(plain: dict[str, Any]) -> str | None:
    event_id = plain.get("event_id")
    return event_id[:MAX_EVENT_ID_CHARS] if isinstance(event_id, str) else None

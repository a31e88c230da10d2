"""The wire of one session: client frames read strictly, server events and commands queued.

The rules
---------
* What is no JSON object, or has no ``type``, is an ``invalid_event``.
* A type that does not exist is an ``invalid_value`` of ``type``; the message lists those that do.
* The first problem is the answer, a client that repairs one after the other gets there: an
  unknown field is ``unknown_parameter``, a missing one ``missing_required_parameter``,
  everything else ``invalid_value``.
* The client's ``event_id`` is found even where the rest is bad, so that the answer can carry it.
* Events leave in the order in which they were sent, commands to the shell among them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

import msgspec
import pybase64
from msgspec.structs import force_setattr

from realtime_bus import events as ev
from realtime_bus.codec import MAX_APPEND_BYTES, NotAnObject, read_client

from ._options import ServerOptions
from ._responders import ResponderRequest

__all__ = [
    "CancelResponder",
    "Close",
    "Command",
    "InvalidRequest",
    "Outgoing",
    "StartResponder",
    "Transcribe",
    "invalid_value",
    "random_id",
    "read_event",
    "to_frame",
]

MAX_EVENT_ID_CHARS = 512

# In


class InvalidRequest(Exception):  # noqa: N818  # an answer, not a failure of ours
    """A client event that is answered with an ``error`` event; whoever raises it changed nothing.

    Attributes:
        code: The error's code, None for those that have none.
        message: What happened and what to do.
        param: The field at fault.
    """

    def __init__(self, code: str | None, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param

    def to_event(self, event_id: str | None) -> ev.Error:
        """Return the event that tells the client, `event_id` being the client's own."""
        return ev.Error(
            error=ev.ErrorDetails(
                type="invalid_request_error",
                code=self.code,
                message=self.message,
                param=self.param,
                event_id=event_id,
            )
        )


def invalid_value(param: str, message: str) -> InvalidRequest:
    """Refuse a value; `message` says which and what is allowed."""
    return InvalidRequest("invalid_value", message, param=param)


_CODES = {"unknown_field": "unknown_parameter", "missing": "missing_required_parameter"}


def read_event(
    frame: bytes, *, lenient: bool = False
) -> tuple[ev.ClientEvent | InvalidRequest, str | None]:
    """Read a frame: the event or why it is none, and the client's ``event_id``.

    Args:
        frame: One WebSocket message.
        lenient: Forgive unknown fields.
    """
    try:
        event, problems, plain = read_client(frame)
    except NotAnObject as reason:
        return InvalidRequest("invalid_event", f"The frame is not an event: {reason}."), None
    if lenient:
        problems = [problem for problem in problems if problem.kind != "unknown_field"]
    event_id = plain.get("event_id")
    event_id = event_id[:MAX_EVENT_ID_CHARS] if isinstance(event_id, str) else None
    if event is not None and not problems:
        return _beyond_limits(event) or event, event_id
    first = problems[0]
    if first.path == "type" and first.kind == "missing":
        missing = InvalidRequest("invalid_event", "The event has no 'type'.", param="type")
        return missing, event_id
    code = _CODES.get(first.kind, "invalid_value")
    message = f"Invalid event: '{first.path}': {first.message}."
    return InvalidRequest(code, message, param=first.path or None), event_id


def _beyond_limits(event: ev.ClientEvent) -> InvalidRequest | None:
    """Refuse what no single field's type forbids."""
    if len(event.event_id or "") > MAX_EVENT_ID_CHARS:
        return invalid_value("event_id", f"An id has at most {MAX_EVENT_ID_CHARS} characters.")
    if isinstance(event, ev.InputAudioBufferAppend):
        if len(event.audio) <= MAX_APPEND_BYTES:
            return None
        message = f"An append holds at most {MAX_APPEND_BYTES} bytes (15 MiB); send several."
        return invalid_value("audio", message)
    try:  # what JSON can say and we could not say back, such as integers beyond 64 bits
        event.to_json()
    except (OverflowError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        message = f"The event holds a value that is out of range: {error}."
        return InvalidRequest("invalid_value", message)
    return None


# Out


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


def random_id(kind: str) -> str:
    """Return an id nobody else has, such as ``item_5f0c…``."""
    return f"{kind}_{secrets.token_hex(10)}"


class Outgoing:
    """One session's events and commands, in order, until the shell takes them.

    Every part of the session holds it. It also carries what they share: the time of what is
    being handled, and the making of ids.

    Attributes:
        now_s: The clock, as the shell gave it last.
        new_id: Makes an id of a kind (``"item"``, ``"resp"``, ``"event"`` …).
    """

    def __init__(self, new_id: Callable[[str], str] = random_id) -> None:
        self.now_s = 0.0
        self.new_id = new_id
        self._queue: list[ev.ServerEvent | Command] = []

    def send(self, event: ev.ServerEvent) -> None:
        """Stamp an event with its id and queue it."""
        # nobody else has seen the struct yet: it is still being made, so frozen is kept
        force_setattr(event, "event_id", self.new_id("event"))
        self._queue.append(event)

    def order(self, command: Command) -> None:
        """Queue a command."""
        self._queue.append(command)

    def drain(self) -> list[ev.ServerEvent | Command]:
        """Return what was queued, and forget it."""
        queue, self._queue = self._queue, []
        return queue


def to_frame(event: ev.ServerEvent, options: ServerOptions) -> bytes:
    """Return an event as the JSON text of one frame, with the oddities that options ask for."""
    if isinstance(event, ev.ResponseOutputAudioDelta):
        frame = _audio_frame(event)
    else:
        frame = event.to_json()
    if options.omit_nulls:
        frame = msgspec.json.encode(_without_nulls(msgspec.json.decode(frame)))
    if options.obfuscation and event.type.endswith(".delta"):
        # padding of random length, so that its size tells nothing about the text
        padding = secrets.token_hex(1 + secrets.randbelow(8)).encode()
        frame = frame[:-1] + b',"obfuscation":"%b"}' % padding
    return frame


def _audio_frame(event: ev.ResponseOutputAudioDelta) -> bytes:
    """Encode nearly all of a session's bytes: pybase64 is faster than msgspec's own base64."""
    names = ("type", "event_id", "response_id", "item_id", "output_index", "content_index")
    head = msgspec.json.encode({name: getattr(event, name) for name in names})
    return head[:-1] + b',"delta":"%b"}' % pybase64.b64encode(event.delta)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(element) for element in cast("Iterable[Any]", value)]
    if not isinstance(value, dict):
        return value
    entries = cast("dict[str, Any]", value).items()
    return {key: _without_nulls(entry) for key, entry in entries if entry is not None}

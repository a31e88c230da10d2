"""The wire of one session: client frames read strictly, server events and commands queued.

The rules
---------
* What is no JSON is ``invalid_json``; what is no object, or has no ``type``, ``invalid_event``.
* A type that does not exist is an ``invalid_value`` of ``type``; the message lists those that do.
* The first problem is the answer, a client that repairs one after the other gets there: an
  unknown field is ``unknown_parameter``, a missing one ``missing_required_parameter``,
  everything else ``invalid_value``.
* An event that is no audio, item or response has at most `MAX_SETTINGS_BYTES`; every event has
  at most `MAX_VALUES` values (a million unknown fields would cost seconds) and `MAX_ESCAPES`
  escaped characters: else ``event_too_large``. This is found out before the event is parsed.
* A null that the schema has no place for counts as left out; where it is required, it is missing.
* The client's ``event_id`` is found even where the rest is bad, so that the answer can carry it.
* Events leave in the order in which they were sent, commands to the shell among them.
* What is null at OpenAI is null here: a part of audio always has its ``transcript``.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, TypeAlias, cast

import msgspec
import pybase64
from msgspec.structs import force_setattr

from realtime_bus import events as ev
from realtime_bus.codec import MAX_APPEND_BYTES, Problem
from realtime_bus.codec._frame import NotAnObject, NotJson, wire_name
from realtime_bus.codec._read_client import read_client
from realtime_bus.codec._walk import walk
from realtime_bus.events import translation
from realtime_bus.events._registry import REALTIME, WireProtocol

from ._audio import pcm_bytes_per_byte, to_pcm24
from ._options import ServerOptions
from ._responders import ResponderRequest

MAX_EVENT_ID_CHARS = 512

MAX_SETTINGS_BYTES = 1024 * 1024
"""Largest event that brings no media, and most that a session's settings take, as JSON."""

MAX_VALUES = 16_384
"""Members and elements in one event; a hundred tools with large schemas have some thousands."""

MAX_ESCAPES = 262_144
"""Backslashes in one event; JSON of two megabytes, as text in an item, has as many."""

_BRINGING_MEDIA = frozenset(
    {
        b"input_audio_buffer.append",
        b"session.input_audio_buffer.append",
        b"conversation.item.create",
        b"response.create",
    }
)
_HEAD_BYTES = 4096
_MAX_MESSAGE_CHARS = 1000
_ESCAPE = re.compile(rb"\\.", re.DOTALL)

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
        self.message = message[:_MAX_MESSAGE_CHARS]  # what a client has sent may be in it
        self.param = param if param is None else param[:_MAX_MESSAGE_CHARS]

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


class ClientFrame(msgspec.Struct, frozen=True):
    """What became of a client's frame.

    Attributes:
        event: The event, or why it is none.
        event_id: The client's own id, if it gave one that can be given back.
        plain: The frame's object, without the audio of an append; empty if it is none.
    """

    event: ev.ClientEvent | InvalidRequest
    event_id: str | None = None
    plain: dict[str, Any] = {}


def read_frame(
    frame: bytes, protocol: WireProtocol = REALTIME, *, lenient: bool = False
) -> ClientFrame:
    """Read one WebSocket message.

    Args:
        frame: The message.
        protocol: What the client speaks.
        lenient: Forgive unknown fields.
    """
    if (too_large := _too_large(frame)) is not None:
        return ClientFrame(too_large)
    try:
        event, problems, plain = read_client(frame, protocol)
    except NotAnObject as reason:
        code = "invalid_json" if isinstance(reason, NotJson) else "invalid_event"
        return ClientFrame(InvalidRequest(code, f"The frame is not an event: {reason}."))
    nulls = problems and b"null" in frame
    if event is not None and nulls and (pruned := _without_nulls_at(plain, problems)) != plain:
        event, problems = walk(pruned, type(event))
    if lenient:
        problems = [problem for problem in problems if problem.kind != "unknown_field"]
    event_id = plain.get("event_id")
    event_id = event_id[:MAX_EVENT_ID_CHARS] if isinstance(event_id, str) else None
    if event is not None and not problems:
        return ClientFrame(_beyond_limits(event, plain) or event, event_id, plain)
    return ClientFrame(_refusal_of(problems[0]), event_id, plain)


def _too_large(frame: bytes) -> InvalidRequest | None:
    """Refuse what would take long to read, by looking at its bytes alone."""
    if len(frame) <= MAX_VALUES:
        return None
    if len(frame) > MAX_SETTINGS_BYTES and (
        not frame[:_HEAD_BYTES].lstrip().startswith(b"{") or wire_name(frame) not in _BRINGING_MEDIA
    ):
        message = f"Events of this kind have at most {MAX_SETTINGS_BYTES} bytes."
        return InvalidRequest("event_too_large", message)
    if frame.count(b"\\") > MAX_ESCAPES:
        message = f"An event has at most {MAX_ESCAPES} escaped characters."
        return InvalidRequest("event_too_large", message)
    if frame.count(b",") > MAX_VALUES and _commas_between_values(frame) > MAX_VALUES:
        return InvalidRequest("event_too_large", f"An event has at most {MAX_VALUES} values.")
    return None


def _commas_between_values(frame: bytes) -> int:
    """Count the commas that are in no string; a frame of far too many strings has too many."""
    bare = _ESCAPE.sub(b"", frame) if b"\\" in frame else frame
    most_quotes = 4 * MAX_VALUES + _HEAD_BYTES  # of name and value, and where there is no comma
    if bare.count(b'"') > most_quotes:
        return most_quotes
    return sum(part.count(b",") for part in bare.split(b'"')[::2])


def _without_nulls_at(plain: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """Leave out what is null in an object, where that is the problem."""
    plain = deepcopy(plain)
    for problem in problems:
        *steps, last = re.findall(r"[^.\[\]]+", problem.path)
        place: Any = plain
        try:
            for step in steps:
                place = place[int(step) if isinstance(place, list) else step]
        except (LookupError, TypeError, ValueError):  # a key with a dot in it
            continue
        if isinstance(place, dict):
            members = cast("dict[str, Any]", place)
            if members.get(last, plain) is None:
                del members[last]
    return plain


def _refusal_of(problem: Problem) -> InvalidRequest:
    if problem.path == "type" and problem.kind == "missing":
        return InvalidRequest("invalid_event", "The event has no 'type'.", param="type")
    code = _CODES.get(problem.kind, "invalid_value")
    message = f"Invalid event: '{problem.path}': {problem.message}."
    return InvalidRequest(code, message, param=problem.path or None)


def _beyond_limits(event: ev.ClientEvent, plain: dict[str, Any]) -> InvalidRequest | None:
    """Refuse what no single field's type forbids."""
    if len(event.event_id or "") > MAX_EVENT_ID_CHARS:
        return invalid_value("event_id", f"An id has at most {MAX_EVENT_ID_CHARS} characters.")
    if isinstance(event, ev.InputAudioBufferAppend | translation.SessionInputAudioBufferAppend):
        if len(event.audio) <= MAX_APPEND_BYTES:
            return None
        message = f"An append holds at most {MAX_APPEND_BYTES} bytes (15 MiB); send several."
        return invalid_value("audio", message)
    try:  # what JSON can say and we could not say back, such as integers beyond 64 bits
        msgspec.json.encode(plain)
    except (OverflowError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        message = f"The event holds a value that is out of range: {error}."
        return InvalidRequest("invalid_value", message)
    return None


# Out


class EncodedAudio(msgspec.Struct, frozen=True):
    """Audio as a client sent it.

    Attributes:
        audio: The bytes.
        audio_format: What they are encoded in.
    """

    audio: bytes
    audio_format: ev.AudioFormat | None = None

    @property
    def pcm_bytes(self) -> int:
        """How long it is once it is PCM16 at 24 kHz."""
        return len(self.audio) * pcm_bytes_per_byte(self.audio_format)

    def pcm(self) -> bytes:
        """Return it as PCM16 at 24 kHz; long audio that is no PCM takes a while."""
        return to_pcm24(self.audio, self.audio_format)


class StartResponder(msgspec.Struct, frozen=True):
    """Run the responder; feed its output in, and say when it has ended.

    Audio that is not PCM16 yet is not in the request, but beside it: to decode minutes of it
    takes a while, and is the shell's, who has threads.
    """

    response_id: str
    request: ResponderRequest
    encoded: EncodedAudio | None = None


class CancelResponder(msgspec.Struct, frozen=True):
    """Stop the responder of a response; nothing that it says is wanted any more."""

    response_id: str


class Transcribe(msgspec.Struct, frozen=True):
    """Decode a user turn, write it down, and feed the words in."""

    item_id: str
    turn_index: int
    encoded: EncodedAudio


class SendTo(msgspec.Struct, frozen=True):
    """Send an event to one client of the session, and to no other."""

    event: ev.ServerEvent
    client: object


class Close(msgspec.Struct, frozen=True):
    """Close the connection, once what was said before is sent; 1006 cuts it."""

    code: int
    reason: str


Command: TypeAlias = StartResponder | CancelResponder | Transcribe | SendTo | Close
Outgoing: TypeAlias = ev.ServerEvent | Command | bytes
"""What comes out of a session: events, commands, and frames as they are."""


def random_id(kind: str) -> str:
    """Return an id nobody else has, such as ``item_5f0c…``."""
    return f"{kind}_{secrets.token_hex(10)}"


class EventWriter:
    """One session's events and commands, in order, until the shell takes them.

    Every part of the session holds it. It also carries what they share: the time of what is
    being handled, and the making of ids.

    Attributes:
        now_s: The clock, as the shell gave it last.
        new_id: Makes an id of a kind (``"item"``, ``"resp"``, ``"event"`` …).
        spent_bytes: What was worked through since somebody set it to 0: who does much for a
            short frame adds it here, so that others get their turn.
    """

    def __init__(self, new_id: Callable[[str], str] = random_id) -> None:
        self.now_s = 0.0
        self.new_id = new_id
        self.spent_bytes = 0
        self._queue: list[Outgoing] = []

    def send(self, event: ev.ServerEvent, *, to: object = None) -> None:
        """Stamp an event with its id and queue it, for one client or (None) for all."""
        if not event.event_id:
            # nobody else has seen the struct yet: it is still being made, so frozen is kept
            force_setattr(event, "event_id", self.new_id("event"))
        self._queue.append(event if to is None else SendTo(event, to))

    def order(self, command: Command | bytes) -> None:
        """Queue a command, or a frame."""
        self._queue.append(command)

    def drain(self) -> list[Outgoing]:
        """Return what was queued, and forget it."""
        queue, self._queue = self._queue, []
        return queue


def to_frame(event: ev.ServerEvent, options: ServerOptions) -> bytes:
    """Return an event as the JSON text of one frame, with the oddities that options ask for."""
    if isinstance(event, ev.ResponseOutputAudioDelta):
        frame = _audio_frame(event)
    elif isinstance(event, _SHOWING_ITEMS):
        frame = msgspec.json.encode(_with_transcripts(event.to_dict()))
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


_SHOWING_ITEMS = (
    ev.ConversationItemAdded,
    ev.ConversationItemDone,
    ev.ConversationItemRetrieved,
    ev.ResponseOutputItemAdded,
    ev.ResponseOutputItemDone,
    ev.ResponseDone,
)


def _with_transcripts(plain: dict[str, Any]) -> dict[str, Any]:
    """Say null for a transcript: the structs serve both directions, and leave out what is None."""
    for item in [plain["item"]] if "item" in plain else plain["response"]["output"]:
        for part in item.get("content", ()):
            if part["type"] in ("input_audio", "output_audio"):
                part.setdefault("transcript", None)
    return plain


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(element) for element in cast("Iterable[Any]", value)]
    if not isinstance(value, dict):
        return value
    entries = cast("dict[str, Any]", value).items()
    return {key: _without_nulls(entry) for key, entry in entries if entry is not None}

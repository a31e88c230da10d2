"""Events that are never on the wire: the bus's own, plugins', and an application's.

They are handled with the same decorators as a server's events.
"""

from __future__ import annotations

import re
from typing import Any, Literal, dataclass_transform

from msgspec import Struct, StructMeta, field

from realtime_bus.errors import UsageError

from ._base import Event
from ._response import Usage

__all__ = [
    "AppEvent",
    "BusEvent",
    "Closed",
    "Connected",
    "Drift",
    "DriftKind",
    "HandlerFailed",
    "InterruptedItem",
    "InvalidFrame",
    "Overflow",
    "PlaybackInterrupted",
    "PlaybackStarted",
    "ProtocolViolation",
    "TurnCompleted",
    "TurnOrigin",
    "UnknownEvent",
]

TAKEN_NAMES: set[str] = set()
"""Wire names of the protocols and of the bus; `_registry` fills it."""


class _OwnEventMeta(StructMeta):
    """Makes the classes keyword-only, names them, and refuses wire names that are taken."""

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        tag: str | None = None,
        **config: Any,
    ) -> Any:
        wire_name = tag or _wire_name(name)
        if wire_name in TAKEN_NAMES:
            raise UsageError(
                f"{name} takes the wire name {wire_name!r}, which is a name of a protocol or of "
                f'the bus; choose another, such as tag="{_wire_name(name)}"'
            )
        config.setdefault("kw_only", True)  # msgspec inherits frozen, but not this
        return super().__new__(mcs, name, bases, namespace, tag=wire_name, **config)


def _wire_name(class_name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", class_name)
    return f"app.{words.lower()}"


# said of the class, for type checkers: each subclass is frozen and keyword-only without a word
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class BusEvent(Event, frozen=True, kw_only=True, metaclass=_OwnEventMeta):
    """An event that is never on the wire: the bus's own, a plugin's, or an application's.

    A plugin names its events: ``class CallHeld(ev.BusEvent, tag="telephony.call_held")``.
    """


class AppEvent(BusEvent):
    """An application's own event: derive from it, and emit with ``session.emit``.

    Subclasses are frozen and keyword-only. The wire name follows from the class name:
    ``class OrderPlaced(ev.AppEvent)`` is ``app.order_placed``; ``tag="…"`` sets another.
    """


DriftKind = Literal["unknown_field", "missing", "wrong_type", "unknown_variant", "constraint"]
"""In which way a frame is not what this version of the library knows."""

TurnOrigin = Literal["speech", "commit", "text", "request", "idle"]
"""What a turn began with; see `TurnCompleted`."""


class Connected(BusEvent, tag="bus.connected"):
    """A session has begun: its transport is up and the server has said who it is.

    Attributes:
        url: Where to, without credentials; empty for a transport that was brought along.
        session_id: The server's id of the session, or None if it gave none.
    """

    url: str = ""
    session_id: str | None = None


class Closed(BusEvent, tag="bus.closed"):
    """A session has ended; no event follows.

    Attributes:
        code: WebSocket close code; 1006 when the connection broke without a close frame.
        reason: The peer's words, possibly empty.
        clean: Whether both sides agreed to close.
    """

    code: int = 1000
    reason: str = ""
    clean: bool = True


class HandlerFailed(BusEvent, tag="bus.handler_failed"):
    """A handler raised; the session goes on.

    Attributes:
        handler: The handler's qualified name.
        event_type: Wire name of the event it was given.
        error: What it raised, with its traceback.
    """

    handler: str
    event_type: str
    error: BaseException


class UnknownEvent(BusEvent, tag="bus.unknown_event"):
    """A frame whose ``type`` this version does not know.

    Attributes:
        event_type: The frame's ``type``.
        frame: The frame, as it came.
    """

    event_type: str
    frame: bytes


class InvalidFrame(BusEvent, tag="bus.invalid_frame"):
    """A frame that is no event: not JSON, not an object, or without a ``type``.

    Attributes:
        reason: What is wrong with it.
        frame: The frame, as it came.
    """

    reason: str
    frame: bytes


class Drift(BusEvent, tag="bus.drift"):
    """A server's event differs from what we know of it; it was read all the same.

    Each difference is reported once in a session.

    Attributes:
        event_type: Wire name of the event.
        path: Which field, such as ``"session.audio.input.format"``.
        kind: In which way it differs.
        message: The difference in words.
    """

    event_type: str
    path: str
    kind: DriftKind
    message: str


class Overflow(BusEvent, tag="bus.overflow"):
    """A handler's mailbox is full, and events were dropped as its policy says.

    Attributes:
        handler: The handler's qualified name.
        event_type: Wire name of the event that found it full.
        policy: What the handler asked for at its bound.
        dropped: How many events it has lost so far in this session.
    """

    handler: str
    event_type: str
    policy: str
    dropped: int


class PlaybackStarted(BusEvent, tag="bus.playback_started"):
    """The first audio of an item can be heard.

    Attributes:
        item_id: Which item.
        response_id: The response that it is part of.
    """

    item_id: str
    response_id: str


class InterruptedItem(Struct, frozen=True, kw_only=True):
    """What became of one item when playback was interrupted.

    Attributes:
        item_id: Which item.
        content_index: Which content part of it.
        played_ms: What a person has heard of it, rounded down.
        received_ms: What the server had sent of it, rounded down.
        discarded_ms: What was received and never heard.
        action: What the server was asked to do with it: cut its audio to what was heard,
            remove it, or nothing.
    """

    item_id: str
    content_index: int = 0
    played_ms: int
    received_ms: int
    discarded_ms: int
    action: Literal["truncated", "deleted", "left"]


class PlaybackInterrupted(BusEvent, tag="bus.playback_interrupted"):
    """Somebody spoke over the assistant, and the sink is silent.

    Attributes:
        items: What was playing or queued, in order of playing.
        latency_s: Seconds from the frame of ``speech_started`` reaching the session to
            silence at the sink.
        audio_start_ms: Where in the input audio the speech began, if that is what
            interrupted.
    """

    items: list[InterruptedItem]
    latency_s: float
    audio_start_ms: int | None = None


class ProtocolViolation(BusEvent, tag="bus.protocol_violation"):
    """An event of ours breaks a rule of the protocol; a server would refuse it.

    Attributes:
        rule: The rule's id, such as ``"truncate-within-audio"``.
        message: What is wrong with the event, and the rule.
        event_type: Wire name of the event.
    """

    rule: str
    message: str
    event_type: str


class TurnCompleted(BusEvent, tag="bus.turn_completed"):
    """A turn is over: the answer is complete, and has been played or was interrupted.

    Times are in seconds. The zero point is the end of the person's input, which `origin` names:
    ``speech``, the arrival of ``input_audio_buffer.speech_stopped``; ``commit``, the sending of
    ``input_audio_buffer.commit``; ``text``, the sending of the last user message;
    ``request``, the sending of a ``response.create`` that nobody's input came before;
    ``idle``, the arrival of ``input_audio_buffer.timeout_triggered``.

    Attributes:
        origin: What the turn began with.
        item_id: The person's item, if there is one and its id is known.
        response_ids: The responses that answered, in order; more than one after tool calls.
        status: How the last of them ended.
        first_audio_s: From the zero point to the arrival of the first audio.
        audio_to_heard_s: From there to its being heard.
        heard_s: From the zero point to the first audio's being heard.
        first_text_s: From the zero point to the first written text (not transcripts).
        interrupted: Whether somebody spoke over the answer.
        barge_in_latency_s: From the arrival of ``speech_started`` to silence at the sink.
        usage: Tokens of all these responses together.
        tool_round_trips: How often a response waited for tools' outputs.
    """

    origin: TurnOrigin
    item_id: str | None = None
    response_ids: list[str]
    status: str | None = None
    first_audio_s: float | None = None
    audio_to_heard_s: float | None = None
    heard_s: float | None = None
    first_text_s: float | None = None
    interrupted: bool = False
    barge_in_latency_s: float | None = None
    usage: Usage | None = None
    tool_round_trips: int = 0

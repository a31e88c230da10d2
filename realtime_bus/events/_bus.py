"""Events that are never on the wire: the bus's own, plugins', and an application's.

They are handled with the same decorators as a server's events.
"""

from __future__ import annotations

import re
from typing import Any, Literal, dataclass_transform

import msgspec
from msgspec import StructMeta, field

from realtime_bus.errors import UsageError

from ._base import Event

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


class Reconnecting(BusEvent, tag="bus.reconnecting"):
    """The session has no connection; the next one is tried.

    Attributes:
        attempt: Which try this is, from 1.
        delay_s: Seconds until it is made.
        code: Close code of the lost connection.
        reason: Why the last one was lost, or the last try failed, in words.
        url: Where to, without credentials.
    """

    attempt: int
    delay_s: float
    code: int
    reason: str
    url: str = ""


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """Something of a conversation that the next connection does not have.

    Attributes:
        what: What it is.
        id: The item, response or command; empty for settings and audio.
        why: In words.
    """

    what: Literal["item", "response", "request", "settings", "audio", "event"]
    id: str = ""
    why: str = ""


class Reconnected(BusEvent, tag="bus.reconnected"):
    """The session goes on over another connection, on which the conversation was restored.

    Attributes:
        cause: Whether the last connection was lost, or replaced before the server's limit.
        session_id: The server's id of the session there.
        url: Where to, without credentials.
        attempts: How many tries it took.
        gap_s: Seconds without a connection; 0 if one took over from the other.
        restored: Ids of the items that the server has again, in order.
        lost: What it has not: above all audio without a transcript, and answers that were cut.
        resent: Ids of commands that were sent again, for they may not have arrived; the type of
            one that has no ``event_id``.
    """

    cause: Literal["lost", "rollover"]
    session_id: str | None
    url: str
    attempts: int
    gap_s: float
    restored: list[str]
    lost: list[Lost]
    resent: list[str]


class ReconnectFailed(BusEvent, tag="bus.reconnect_failed"):
    """The connection was lost for good; `Closed` follows.

    Attributes:
        attempts: How many tries were made.
        error: What the last one raised, or None if none was worth making.
        code: Close code of the lost connection.
        reason: Why it was given up, in words.
    """

    attempts: int
    error: BaseException | None
    code: int
    reason: str


class HandlerFailed(BusEvent, tag="bus.handler_failed"):
    """A handler, predicate, interceptor or task raised; the session goes on.

    Attributes:
        handler: The handler's name: module and qualified name, if it was given no other.
        event_type: Wire name of the event it was given; empty for a task.
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
        handler: The handler's name: module and qualified name, if it was given no other.
        event_type: Wire name of the event that found it full.
        policy: What the handler asked for at its bound.
        dropped: How many events it has lost so far in this session.
        pending: How many events wait for it.
        pending_bytes: How much they weigh, as far as that is counted.
    """

    handler: str
    event_type: str
    policy: str
    dropped: int
    pending: int = 0
    pending_bytes: int = 0

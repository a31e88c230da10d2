# ruff: noqa: N818  # exceptions are named after what happened, as the core's are
"""What is said between processes about a session, as data: commands, answers, leases, whereabouts.

Rules:

1. All of it is JSON that is decoded into these structs and nothing else; unknown fields are
   ignored, and what does not fit is an error of whoever sent it.
2. A command has an id. The process that holds the session answers a second one with the same id
   as it answered the first, and does nothing.
3. An error goes over the wire as its class's name and its attributes, and comes out as the same
   class, if it is one of ours; as `RequestError` otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, cast

import msgspec

from realtime_bus import (
    CloseInfo,
    ConnectError,
    ConnectionLost,
    InvalidEvent,
    RealtimeBusError,
    RequestError,
    RequestRejected,
    RequestTimeout,
    SessionClosed,
    UsageError,
)
from realtime_bus import events as ev

KEY: Final = "Nats-Msg-Id"
SEQUENCE: Final = "Rb-Seq"
TIME: Final = "Rb-Time"
PROTOCOL: Final = "Rb-Protocol"
HOLDER: Final = "Rb-Holder"
SESSION: Final = "Rb-Session"

Verb = Literal["request", "send", "respond", "close", "state", "emit"]


class BrokerUnreachable(ConnectError):
    """No broker answered, or it has no JetStream."""


class SessionGone(SessionClosed):
    """Nobody holds the session any more: it has ended, or was never there."""


class HolderLost(RequestError, ConnectionError):
    """The process that held the session has died, and the session with it.

    Attributes:
        holder: Which process it was.
    """

    def __init__(self, message: str, *, event_type: str, event_id: str, holder: str = "") -> None:
        super().__init__(message, event_type=event_type, event_id=event_id)
        self.holder = holder


class Command(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a worker asks of the process that holds a session.

    Attributes:
        id: Names the command; the same each time that it is sent.
        verb: What to do.
        event: The client event, or the application's, that it is about.
        timeout_s: Seconds that the answer may take.
        replace: Of `respond`.
        while_speaking: Of `respond`.
        code: Of `close`.
        reason: Of `close`.
    """

    id: str
    verb: Verb
    event: msgspec.Raw = msgspec.Raw(b"null")
    timeout_s: float | None = None
    replace: bool = False
    while_speaking: bool = False
    code: int = 1000
    reason: str = ""


class Failure(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An error, as it goes over the wire; the fields are attributes of our exceptions."""

    kind: str
    message: str
    event_type: str = ""
    event_id: str = ""
    param: str | None = None
    error: dict[str, Any] | None = None
    timeout_s: float = 0.0
    code: int = 1006
    reason: str = ""
    clean: bool = False


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What comes back: an event, a response, a state, nothing, or a failure."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None


class Holder(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A process that holds sessions, or works for a group, as its lease says."""

    id: str
    host: str = ""
    pid: int = 0
    since: float = 0.0
    sessions: int = 0
    pending: int = 0
    dropped: int = 0


class Whereabouts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where a session is, and how it goes.

    Attributes:
        session_id: Its id.
        holder: The process that holds it.
        state: Whether it is open, without a connection at the moment, or closed.
        protocol: What it speaks.
        model: Who answers, if that is known.
        since: When it began, in seconds since 1970.
        updated: When this was written.
        events: How many events it has published.
        responding: Whether a response is being generated.
        listening: Whether the server hears somebody speak.
        close_code: How it ended.
        close_reason: In words.
        close_clean: Whether both sides agreed.
    """

    session_id: str
    holder: str
    state: Literal["open", "reconnecting", "closed"] = "open"
    protocol: ev.ProtocolName = "realtime"
    model: str = ""
    since: float = 0.0
    updated: float = 0.0
    events: int = 0
    responding: bool = False
    listening: bool = False
    close_code: int = 1000
    close_reason: str = ""
    close_clean: bool = True

    @property
    def close(self) -> CloseInfo:
        """How it ended."""
        return CloseInfo(code=self.close_code, reason=self.close_reason, clean=self.close_clean)


def to_json(value: Any) -> bytes:
    """Return one of these structs, or an event, as JSON."""
    if isinstance(value, ev.Event):
        return value.to_json()
    return msgspec.json.encode(value, enc_hook=str)


def failure_from(error: Exception) -> Failure:
    """Return an error as it goes over the wire."""
    close: CloseInfo = getattr(error, "close", None) or CloseInfo(code=1006, clean=False)
    said = getattr(error, "error", None)
    fields: Any = msgspec.to_builtins(said, enc_hook=str) if said is not None else None
    return Failure(
        kind=next(
            (cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _ERRORS), "RequestError"
        ),
        message=str(error) if isinstance(error, RealtimeBusError) else f"{error!r:.500}",
        event_type=str(getattr(error, "event_type", "")),
        event_id=str(getattr(error, "event_id", "")),
        param=getattr(error, "param", None),
        error=cast("dict[str, Any]", fields) if isinstance(fields, dict) else None,
        timeout_s=float(getattr(error, "timeout_s", 0.0)),
        code=close.code,
        reason=close.reason,
        clean=close.clean,
    )


def _rejected(failure: Failure) -> Exception:
    try:
        error: Any = msgspec.convert(failure.error or {}, ev.ErrorDetails)
    except msgspec.ValidationError:
        error = failure.error
    return RequestRejected(
        failure.message, event_type=failure.event_type, event_id=failure.event_id, error=error
    )


def _close(failure: Failure) -> CloseInfo:
    return CloseInfo(code=failure.code, reason=failure.reason, clean=failure.clean)


_ERRORS: Final[dict[str, Callable[[Failure], Exception]]] = {
    "RequestRejected": _rejected,
    "RequestTimeout": lambda f: RequestTimeout(
        f.message, event_type=f.event_type, event_id=f.event_id, timeout_s=f.timeout_s
    ),
    "ConnectionLost": lambda f: ConnectionLost(
        f.message, event_type=f.event_type, event_id=f.event_id, close=_close(f)
    ),
    "RequestError": lambda f: RequestError(f.message, event_type=f.event_type, event_id=f.event_id),
    "SessionClosed": lambda f: SessionClosed(f.message, close=_close(f)),
    "InvalidEvent": lambda f: InvalidEvent(f.message, event_type=f.event_type, param=f.param or ""),
    "UsageError": lambda f: UsageError(f.message),
}


def error_from(failure: Failure) -> Exception:
    """Return the exception that a failure stands for."""
    return _ERRORS.get(failure.kind, _ERRORS["RequestError"])(failure)

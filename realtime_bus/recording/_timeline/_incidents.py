"""What went wrong, and one connection after another.

Rules:

1. Unknown events and frames that are none are found in the frames themselves; drift, failed
   handlers and overflow are what the bus has told.
2. A connection ends when the next one is looked for, when another takes over from it, or with the
   session. A session that ends by a lost connection is a problem.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, cast

import msgspec

from realtime_bus import events as ev
from realtime_bus.events import translation as tr
from realtime_bus.recording._format import Left

from ._frames import id_of, told_list
from ._moments import ConnectionSpan, Problem, ProblemKind


class _Connection(msgspec.Struct):
    from_ms: float
    to_ms: float | None = None
    session_id: str | None = None
    cause: Any = None
    restored: list[str] = []
    lost: list[str] = []


class Incidents:
    """Follow what happens to a session from outside.

    Attributes:
        problems: What went wrong.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._connections: list[_Connection] = []

    @property
    def connections_made(self) -> int:
        """How many connections there were."""
        return len(self._connections)

    def connections(self) -> list[ConnectionSpan]:
        """Return the connections, in order."""
        return [ConnectionSpan(**msgspec.structs.asdict(each)) for each in self._connections]

    # --- connections -------------------------------------------------------------------------

    def _configured(self, event: Any, at_ms: float) -> None:
        if not self._connections:
            self._connections.append(_Connection(at_ms))
        connection = self._connections[-1]
        connection.session_id = connection.session_id or id_of(event.session) or None

    def _reconnected(self, told: dict[str, Any], at_ms: float) -> None:
        self._over(told, at_ms)
        session_id, cause = told.get("session_id"), told.get("cause")
        self._connections.append(
            _Connection(
                at_ms,
                session_id=session_id if isinstance(session_id, str) else None,
                cause=cause if cause in ("lost", "rollover") else None,
                restored=[str(each) for each in told_list(told, "restored")],
                lost=[_loss(each) for each in told_list(told, "lost")],
            )
        )

    def _over(self, _told: dict[str, Any], at_ms: float) -> None:
        if self._connections and self._connections[-1].to_ms is None:
            self._connections[-1].to_ms = at_ms

    def _closed(self, told: dict[str, Any], at_ms: float) -> None:
        self._over(told, at_ms)
        if told.get("clean") is False:
            self._told(told, at_ms, kind="disconnected", names=("code", "reason"))

    # --- problems ----------------------------------------------------------------------------

    def _note(self, at_ms: float, kind: ProblemKind, text: str, details: dict[str, Any]) -> None:
        self.problems.append(Problem(at_ms=at_ms, kind=kind, text=text, details=details))

    def broken(self, base64: str, at_ms: float) -> None:
        """Note a frame that is no JSON."""
        self._note(at_ms, "invalid_frame", "a frame that is no JSON", {"base64": base64})

    def left(self, line: Left, at_ms: float) -> None:
        """Note that lines are missing."""
        count = f"{line.lines} line{'s' * (line.lines != 1)}"
        text = line.why or f"{count} came faster than they could be written"
        self._note(at_ms, "left_out", text, {"lines": line.lines, "bytes": line.bytes})

    def _error(self, event: ev.Error, at_ms: float) -> None:
        message = event.error.message or "an error"
        self._note(at_ms, "error", message, msgspec.to_builtins(event.error, enc_hook=repr))

    def _invalid(self, event: ev.InvalidFrame, at_ms: float) -> None:
        self._note(at_ms, "invalid_frame", event.reason, {})

    def _unknown(self, event: ev.UnknownEvent, at_ms: float) -> None:
        self._note(at_ms, "unknown_event", event.event_type, {})

    def _told(
        self, told: dict[str, Any], at_ms: float, *, kind: ProblemKind, names: tuple[str, ...]
    ) -> None:
        text = ": ".join(_text(told[name]) for name in names if told.get(name))
        self._note(at_ms, kind, text, told)

    RECEIVED: ClassVar[dict[type, Callable[[Incidents, Any, float], None]]] = {
        ev.SessionCreated: _configured,
        ev.SessionUpdated: _configured,
        tr.SessionCreated: _configured,
        tr.SessionUpdated: _configured,
        ev.Error: _error,
        ev.InvalidFrame: _invalid,
        ev.UnknownEvent: _unknown,
    }
    """What each event from the server changes."""
    SENT: ClassVar[dict[type, Callable[[Incidents, Any, float], None]]] = {}
    """What each event from the client changes."""
    TOLD: ClassVar[dict[str, Callable[[Incidents, dict[str, Any], float], None]]] = {
        "bus.reconnecting": _over,
        "bus.reconnected": _reconnected,
        "bus.closed": _closed,
        "bus.drift": partial(_told, kind="drift", names=("event_type", "path", "message")),
        "bus.handler_failed": partial(
            _told, kind="handler_failed", names=("handler", "event_type", "error")
        ),
        "bus.overflow": partial(_told, kind="overflow", names=("handler", "event_type", "policy")),
    }
    """What each event of the bus changes."""


def _text(told: object) -> str:
    """Return something told in words; of an exception, what it said."""
    if isinstance(told, dict):
        fields = cast("dict[str, Any]", told)
        return ": ".join(str(fields[name]) for name in ("type", "text") if fields.get(name))
    return str(told)


def _loss(told: object) -> str:
    """Return in words what another connection has not."""
    if not isinstance(told, dict):
        return str(told)
    fields = cast("dict[str, Any]", told)
    return ": ".join(str(fields[name]) for name in ("what", "id", "why") if fields.get(name))

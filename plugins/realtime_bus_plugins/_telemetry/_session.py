"""One session told as spans and metrics: which of its events says what, and its beginning and end.

What is received is noted by interceptors, before any handler does something because of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from opentelemetry.trace import Span, Tracer

from realtime_bus import Session
from realtime_bus import events as ev
from realtime_bus.log import get_logger
from realtime_bus_plugins._turns import TurnCompleted

from . import _content as content
from ._answers import Answers
from ._calls import Calls
from ._instruments import Instruments, Measured
from ._names import OTHER
from ._spans import within
from ._told import Options, Told

_log = get_logger("realtime_bus.telemetry")


class SessionTelemetry:
    """One session's spans and figures.

    Args:
        session: The session, about to begin.
        options: What is wanted.
        tracer: What makes spans.
        instruments: What measures; None if nobody does.

    Attributes:
        span: The session's own.
    """

    def __init__(
        self, session: Session, options: Options, tracer: Tracer, instruments: Instruments | None
    ) -> None:
        self._instruments = instruments
        self._told = Told(session, options, tracer, instruments, self._turn_over)
        self._answers = Answers(self._told)
        self._calls = Calls(self._told)
        self._reconnects = 0
        self._measured: Measured | None = None
        self.span: Span = self._told.spans.span

    @property
    def is_wanted(self) -> bool:
        """Whether anybody wants to know."""
        return self._instruments is not None or self.span.is_recording()

    def subscribe(self) -> None:
        """Listen to the session."""
        session, seen = self._told.session, self._seen()
        session.intercept(ev.Closed, self._closing)  # before the turns are told
        self._told.watch.subscribe()

        def receive(event: ev.Event, _session: Session) -> ev.Event:
            seen[type(event)](event)
            return event

        session.intercept(tuple(seen), receive, narrowed=True)
        chunks = (ev.ResponseOutputAudioDelta, ev.ResponseOutputTextDelta)
        session.intercept(chunks, self._answers.chunk, narrowed=True)
        session.intercept_outgoing(ev.ConversationItemCreate, self._send)
        session.on(ev.ResponseCreated, narrowed=True)(self._answers.created)
        session.on_close(self._end)
        if self.span.is_recording():
            session.run_within(partial(within, self._told.spans.context))
        if self._instruments is not None:
            self._measured = self._instruments.measure(session)

    def _seen(self) -> dict[type[ev.Event], Callable[[Any], None]]:
        """Return what notes each class of events."""
        parts: list[Any] = [self, self._answers, self._calls]
        return {cls: partial(note, part) for part in parts for cls, note in part.SEEN.items()}

    def _turn_over(self, turn: TurnCompleted) -> None:
        self._answers.turn_over(turn)

    def _connected(self, event: ev.Connected) -> None:
        self._told.connected(event)
        shown = {
            **self._told.model,
            "realtime_bus.session.id": event.session_id,
            "realtime_bus.session.kind": self._told.session.settings.kind,
        }
        self._told.spans.describe(shown)

    def _error(self, event: ev.Error) -> None:
        error: Any = event.error
        code = getattr(error, "code", None) or getattr(error, "type", None) or OTHER
        shown = {
            "realtime_bus.error.code": getattr(error, "code", None),
            "realtime_bus.error.type": getattr(error, "type", None),
            "realtime_bus.error.param": getattr(error, "param", None),
        }
        if self._told.options.texts:
            shown["realtime_bus.error.message"] = content.plain(getattr(error, "message", None))
        self._told.spans.note("realtime_bus.error", shown)
        self._told.record("realtime_bus.errors", 1, {"error.type": str(code)})

    def _handler_failed(self, event: ev.HandlerFailed) -> None:
        shown = {
            "realtime_bus.handler": event.handler,
            "realtime_bus.event.type": event.event_type or None,
            **content.failure(event.error, texts=self._told.options.texts),
        }
        self._told.spans.note("realtime_bus.handler_failed", shown)

    def _overflow(self, event: ev.Overflow) -> None:
        shown = {
            "realtime_bus.handler": event.handler,
            "realtime_bus.event.type": event.event_type,
            "realtime_bus.overflow.policy": event.policy,
        }
        self._told.spans.note("realtime_bus.overflow", shown)

    def _reconnecting(self, event: ev.Reconnecting) -> None:
        self._told.spans.end_responses("connection_lost")
        shown = {
            "realtime_bus.reconnect.attempt": event.attempt,
            "realtime_bus.session.close_code": event.code,
        }
        self._told.spans.note("realtime_bus.reconnecting", shown)

    def _reconnected(self, event: ev.Reconnected) -> None:
        self._reconnects += 1
        shown = {
            "realtime_bus.reconnect.cause": event.cause,
            "realtime_bus.reconnect.attempts": event.attempts,
            "realtime_bus.reconnect.gap": event.gap_s,
            "realtime_bus.reconnect.lost": len(event.lost),
            "realtime_bus.session.id": event.session_id,
        }
        self._told.spans.note("realtime_bus.reconnected", shown)
        cause = {"realtime_bus.reconnect.cause": event.cause}
        self._told.record("realtime_bus.reconnects", 1, cause)
        self._told.record("realtime_bus.reconnect.gap", event.gap_s, cause)

    def _reconnect_failed(self, event: ev.ReconnectFailed) -> None:
        shown = {
            "realtime_bus.reconnect.attempts": event.attempts,
            "realtime_bus.session.close_code": event.code,
            "exception.type": event.error and type(event.error).__qualname__,
        }
        self._told.spans.note("realtime_bus.reconnect_failed", shown)
        self._told.record("realtime_bus.reconnects", 1, {"realtime_bus.reconnect.cause": "failed"})

    def _send(self, event: ev.ConversationItemCreate, _session: Session) -> ev.ClientEvent:
        item: object = event.item
        try:
            if isinstance(item, ev.FunctionCallOutputItem):
                self._calls.close(item.call_id, None, item.output)
            elif isinstance(item, ev.MessageItem):
                self._answers.written(item)
        except Exception as error:  # noqa: BLE001  # an exporter's: it must not refuse the command
            _log.warning("telemetry failed", error=str(error))
        return event

    def _closing(self, event: ev.Closed, _session: Session) -> ev.Closed:
        self._told.spans.end_responses("session_closed")
        return event

    def _end(self) -> None:
        close = self._told.session.close_info
        code = None if close is None else close.code
        error_type = None if close is None or close.in_order else str(code)
        shown: dict[str, Any] = {
            "realtime_bus.session.close_code": code,
            "realtime_bus.session.turns": self._answers.turns,
            "realtime_bus.session.reconnects": self._reconnects,
            "realtime_bus.cost": self._told.cost,
        }
        if self._told.options.texts:
            echo = self._told.session.settings.echo
            shown["gen_ai.system_instructions"] = content.instructions(
                getattr(echo, "instructions", None)
            )
        took_s = self._told.spans.end(shown, error_type=error_type)
        of_error = {} if error_type is None else {"error.type": error_type}
        self._told.record("realtime_bus.session.duration", took_s, of_error)
        if self._instruments is not None and self._measured is not None:
            self._instruments.has_ended(self._measured)

    SEEN: ClassVar[dict[type[ev.Event], Callable[[SessionTelemetry, Any], None]]] = {
        ev.Connected: _connected,
        ev.Error: _error,
        ev.HandlerFailed: _handler_failed,
        ev.Overflow: _overflow,
        ev.Reconnecting: _reconnecting,
        ev.Reconnected: _reconnected,
        ev.ReconnectFailed: _reconnect_failed,
    }

"""The spans of one session: a tree, and when its parts begin and end.

The rules:

1. The session's span is under whatever span is current where the session is opened.
2. A turn's span begins at the turn's zero point, and is opened with its first response; it holds
   its responses and its tool calls. Responses out of band are under the session.
3. A tool call's span begins when the call is complete, and ends when its output is sent; it is the
   current span of the task that runs the tool.
4. What a lost connection was about to say has failed. What is open when the session ends is ended
   with it, the session last.
5. Times are given, on the session's clock, and shown as they were by the wall's at its beginning.

Bounds: 64 responses and 256 calls that are open; the oldest is ended for a new one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import Token
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from ._names import CONTENT

_MOST_RESPONSES, _MOST_CALLS = 64, 256
_LONGEST = 1000  # characters of an attribute that is no text
_LONGEST_NAME = 100


class OpenResponse:
    """A response that is not done.

    Attributes:
        span: Its span.
        since_s: When it began.
        first_chunk_s: When its first audio or text came.
    """

    def __init__(self, span: Span, since_s: float) -> None:
        self.span: Span = span
        self.since_s: float = since_s
        self.first_chunk_s: float | None = None


class OpenCall:
    """A tool call that is not answered.

    Attributes:
        span: Its span.
        since_s: When it was complete.
        name: Which tool.
        in_turn: Whether the model waits for its output.
        error_type: What went wrong, if it did.
        token: How to leave its context again, while the tool runs.
    """

    def __init__(self, span: Span, since_s: float, name: str, *, in_turn: bool) -> None:
        self.span: Span = span
        self.since_s: float = since_s
        self.name: str = name
        self.in_turn: bool = in_turn
        self.error_type: str | None = None
        self.token: Token[Context] | None = None


class _Within:
    """Makes a context the current one while it is entered."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = contexts.attach(self._context)

    def __exit__(self, *_error: object) -> None:
        contexts.detach(self._token)


_THERE_ALREADY = nullcontext()


def within(context: Context) -> AbstractContextManager[object]:
    """Return what makes a context the current one, if it is not."""
    return _THERE_ALREADY if contexts.get_current() is context else _Within(context)


class SessionSpans:
    """One session's spans.

    Args:
        tracer: What makes them.
        now_s: The session's clock.

    Attributes:
        span: The session's own.
        context: The one in which it is current.
    """

    def __init__(
        self, tracer: Tracer, now_s: Callable[[], float], name: str, attributes: Mapping[str, Any]
    ) -> None:
        self._tracer = tracer
        self._now_s = now_s
        self._began_s = now_s()
        self._epoch_ns = time.time_ns() - int(self._began_s * 1e9)
        self.span: Span = tracer.start_span(
            name, attributes=_known(attributes), start_time=self._ns(self._began_s)
        )
        self.context: Context = trace.set_span_in_context(self.span)
        self.responses: dict[str, OpenResponse] = {}
        self.calls: dict[str, OpenCall] = {}
        self._turns: dict[str, Span] = {}
        self._over = False

    def _ns(self, at_s: float) -> int:
        return self._epoch_ns + int(at_s * 1e9)

    # --- beginning ---------------------------------------------------------------------------

    def turn(self, key: str, since_s: float, name: str, attributes: Mapping[str, Any]) -> None:
        """Open a turn, unless it is open already."""
        if key not in self._turns:
            self._turns[key] = self._tracer.start_span(
                name,
                self.context,
                attributes=_known(attributes),
                start_time=self._ns(max(since_s, self._began_s)),
            )

    def response(
        self,
        response_id: str,
        turn: str | None,
        since_s: float,
        name: str,
        attributes: Mapping[str, Any],
    ) -> None:
        """Open a response, in its turn or out of band."""
        if response_id in self.responses:
            return
        if len(self.responses) >= _MOST_RESPONSES:
            self.end_response(next(iter(self.responses)), since_s, {}, error_type="unfinished")
        span = self._tracer.start_span(
            name[:_LONGEST_NAME],
            self._context_of(turn),
            SpanKind.CLIENT,
            attributes=_known(attributes),
            start_time=self._ns(since_s),
        )
        self.responses[response_id] = OpenResponse(span, since_s)

    def call(
        self,
        call_id: str,
        turn: str | None,
        since_s: float,
        tool: str,
        attributes: Mapping[str, Any],
    ) -> None:
        """Open a tool call."""
        if call_id in self.calls:
            return
        if len(self.calls) >= _MOST_CALLS:
            self.end_call(next(iter(self.calls)), since_s, {"realtime_bus.tool.outcome": "lost"})
        span = self._tracer.start_span(
            f"execute_tool {tool}"[:_LONGEST_NAME],
            self._context_of(turn),
            attributes=_known(attributes),
            start_time=self._ns(since_s),
        )
        self.calls[call_id] = OpenCall(span, since_s, tool, in_turn=turn is not None)

    def _context_of(self, turn: str | None) -> Context:
        span = self._turns.get(turn or "")
        return self.context if span is None else trace.set_span_in_context(span, self.context)

    # --- what happens meanwhile --------------------------------------------------------------

    def describe(self, attributes: Mapping[str, Any]) -> None:
        """Say more of the session."""
        self.span.set_attributes(_known(attributes))

    def note(self, name: str, attributes: Mapping[str, Any], turn: str | None = None) -> None:
        """Note something on the session's span, or on that of a turn."""
        if not self._over:
            span = self._turns.get(turn or "", self.span)
            span.add_event(name, _known(attributes), self._ns(self._now_s()))

    def enter_call(self, call_id: str) -> None:
        """Make a call's span the current one of the task that runs the tool."""
        call = self.calls.get(call_id)
        if call is not None and call.token is None:
            call.token = contexts.attach(trace.set_span_in_context(call.span, self.context))

    def leave_call(self, call_id: str) -> OpenCall | None:
        """Undo that, in the same task; return the call."""
        call = self.calls.get(call_id)
        if call is not None and call.token is not None:
            contexts.detach(call.token)
            call.token = None
        return call

    # --- ending ------------------------------------------------------------------------------

    def end_response(
        self,
        response_id: str,
        at_s: float,
        attributes: Mapping[str, Any],
        *,
        error_type: str | None = None,
    ) -> OpenResponse | None:
        """End a response; return what was known of it."""
        found = self.responses.pop(response_id, None)
        if found is not None:
            self._end(found.span, at_s, attributes, error_type)
        return found

    def end_call(self, call_id: str, at_s: float, attributes: Mapping[str, Any]) -> OpenCall | None:
        """End a tool call; return what was known of it."""
        found = self.calls.pop(call_id, None)
        if found is not None:
            self._end(found.span, at_s, attributes, found.error_type)
        return found

    def end_turn(self, key: str, attributes: Mapping[str, Any]) -> None:
        """End a turn."""
        span = self._turns.pop(key, None)
        if span is not None:
            self._end(span, self._now_s(), attributes, None)

    def end_responses(self, error_type: str) -> None:
        """End all responses, which will not go on."""
        for response_id in [*self.responses]:
            self.end_response(response_id, self._now_s(), {}, error_type=error_type)

    def end(self, attributes: Mapping[str, Any], *, error_type: str | None) -> float:
        """End all that is open, and the session; return how long it was."""
        self._over = True
        self.end_responses("session_closed")
        for call_id in [*self.calls]:
            self.end_call(call_id, self._now_s(), {"realtime_bus.tool.outcome": "unanswered"})
        for key in [*self._turns]:
            self.end_turn(key, {})
        self._end(self.span, self._now_s(), attributes, error_type)
        return self._now_s() - self._began_s

    def _end(
        self, span: Span, at_s: float, attributes: Mapping[str, Any], error_type: str | None
    ) -> None:
        span.set_attributes(_known(attributes))
        if error_type is not None:
            span.set_attribute("error.type", error_type[:_LONGEST_NAME])
            span.set_status(StatusCode.ERROR)
        span.end(self._ns(at_s))


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that have a value; a server's are no longer than they need be."""
    return {
        name: value[:_LONGEST] if isinstance(value, str) and name not in CONTENT else value
        for name, value in attributes.items()
        if value is not None
    }

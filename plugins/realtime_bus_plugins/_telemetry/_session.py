"""One session told as spans and metrics: which of its events says what.

What is received is noted by interceptors, before any handler does something because of it. Only
audio and written text are listened to as they come, for when an answer begins; other deltas are
not even decoded for this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeAlias
from urllib.parse import parse_qs, urlsplit

from opentelemetry.trace import Tracer

from realtime_bus import Session
from realtime_bus import events as ev
from realtime_bus.history import (
    Prices,
    TokenCounts,
    cost_of,
    count_response,
    count_transcription,
)
from realtime_bus.log import get_logger
from realtime_bus_plugins._playback import PlaybackInterrupted
from realtime_bus_plugins._recent import Recent
from realtime_bus_plugins._tool_events import ToolFinished, ToolStarted
from realtime_bus_plugins._turn_watch import TurnWatch
from realtime_bus_plugins._turns import TurnCompleted

from . import _content as content
from ._instruments import Instruments, Measured
from ._names import OTHER
from ._spans import SessionSpans, within

_log = get_logger("realtime_bus.telemetry")
_PROVIDERS = {
    "openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.openai",
    "x.ai": "x_ai",
}
"""Providers by the end of the host's name; every other one speaks OpenAI's protocol."""

_OUTCOMES = {"failed": "failed", "timed_out": "timeout", "invalid": "invalid_arguments"}
"""What of a tool's outcomes is an error, and what it is called."""

_TOKEN_KINDS = tuple(n for n in TokenCounts.__struct_fields__ if n != "audio_seconds")
_Chunk: TypeAlias = ev.ResponseOutputAudioDelta | ev.ResponseOutputTextDelta
_CHUNKS = (ev.ResponseOutputAudioDelta, ev.ResponseOutputTextDelta)
_MOST_CODES = 64  # a server may make them up, and each is a time series
_MOST_SAID = 64  # what persons said, until its turn is over


class Options(NamedTuple):
    """What the plugin was asked for.

    Attributes:
        agent_name: What the agent is called.
        provider: Who serves the model.
        prices: What models cost.
        texts: Whether texts are shown.
        clock: Seconds of any clock.
    """

    agent_name: str | None
    provider: str | None
    prices: Mapping[str, Prices]
    texts: bool
    clock: Callable[[], float] | None


class SessionTelemetry:
    """One session's spans and figures.

    Args:
        session: The session, about to begin.
        options: What is wanted.
        tracer: What makes spans.
        instruments: What measures; None if nobody does.

    Attributes:
        spans: The spans.
    """

    def __init__(
        self, session: Session, options: Options, tracer: Tracer, instruments: Instruments | None
    ) -> None:
        self._session = session
        self._options = options
        self._instruments = instruments
        self._watch = TurnWatch(session, options.clock, self._turn_over)
        self._provider = options.provider or "openai"
        self._server: dict[str, Any] = {}
        self._requested_model: str | None = None
        self._turns = self._reconnects = 0
        self._cost: float | None = None
        self._codes: set[str] = set()
        self._said = Recent[str, dict[str, Any]](_MOST_SAID)
        self._mcp_since_s = Recent[str, float](_MOST_SAID)
        self._measured: Measured | None = None
        self.spans: SessionSpans = SessionSpans(
            tracer, self._watch.now_s, "realtime_bus.session", {}
        )

    @property
    def tells(self) -> bool:
        """Whether anybody wants to know."""
        return self._instruments is not None or self.spans.span.is_recording()

    def subscribe(self) -> None:
        """Listen to the session."""
        session = self._session
        session.intercept(ev.Closed, self._receive)  # before the turns are told
        self._watch.subscribe()
        session.intercept(tuple(self._RECEIVED), self._receive, narrowed=True)
        session.intercept(_CHUNKS, self._chunk, narrowed=True)
        session.intercept_outgoing(ev.ConversationItemCreate, self._send)
        session.on(ev.ResponseCreated, narrowed=True)(self._response_created)
        session.on_close(self._end)
        if self.spans.span.is_recording():
            session.run_within(partial(within, self.spans.context))
        if self._instruments is not None:
            self._measured = self._instruments.measure(session)

    def _receive(self, event: ev.Event, _session: Session) -> ev.Event:
        (self._RECEIVED.get(type(event)) or SessionTelemetry._closing)(self, event)
        return event

    def _record(
        self, name: str, value: float | None, attributes: Mapping[str, Any] | None = None
    ) -> None:
        if self._instruments is not None:
            self._instruments.record(name, value, attributes)

    # --- the session -------------------------------------------------------------------------

    def _connected(self, event: ev.Connected) -> None:
        parts = urlsplit(event.url)
        host = parts.hostname
        if host is not None:
            self._server = {
                "server.address": host,
                "server.port": parts.port or (443 if parts.scheme == "wss" else 80),
            }
            known = (name for end, name in _PROVIDERS.items() if f".{host}".endswith(f".{end}"))
            self._provider = self._options.provider or next(known, "openai")
        self._requested_model = next(iter(parse_qs(parts.query).get("model", [])), None)
        settings = self._session.settings
        shown = {
            **self._of_model,
            "realtime_bus.session.id": event.session_id,
            "realtime_bus.session.kind": settings.kind,
        }
        self.spans.span.set_attributes({k: v for k, v in shown.items() if v is not None})

    @property
    def _of_model(self) -> dict[str, Any]:
        """Who is asked, and for what: on nearly everything."""
        model = self._session.settings.model
        found = {
            "gen_ai.provider.name": self._provider,
            **self._server,
            "gen_ai.request.model": self._requested_model or model,
            "gen_ai.response.model": model,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _of(self, operation: str, **more: Any) -> dict[str, Any]:
        found = {"gen_ai.operation.name": operation, **self._of_model}
        if self._options.agent_name is not None:
            found["gen_ai.agent.name"] = self._options.agent_name
        return found | {name: value for name, value in more.items() if value is not None}

    def _error(self, event: ev.Error) -> None:
        error: Any = event.error
        code = getattr(error, "code", None) or getattr(error, "type", None) or OTHER
        shown = {
            "realtime_bus.error.code": getattr(error, "code", None),
            "realtime_bus.error.type": getattr(error, "type", None),
            "realtime_bus.error.param": getattr(error, "param", None),
        }
        if self._options.texts:
            shown["realtime_bus.error.message"] = content.plain(getattr(error, "message", None))
        self.spans.note("realtime_bus.error", shown)
        self._record("realtime_bus.errors", 1, {"error.type": self._bounded(str(code))})

    def _bounded(self, code: str) -> str:
        if len(self._codes) < _MOST_CODES and len(code) <= _MOST_CODES:
            self._codes.add(code)
        return code if code in self._codes else OTHER

    def _handler_failed(self, event: ev.HandlerFailed) -> None:
        shown = {
            "realtime_bus.handler": event.handler,
            "realtime_bus.event.type": event.event_type or None,
            **content.failure(event.error, texts=self._options.texts),
        }
        self.spans.note("realtime_bus.handler_failed", shown)

    def _overflow(self, event: ev.Overflow) -> None:
        shown = {
            "realtime_bus.handler": event.handler,
            "realtime_bus.event.type": event.event_type,
            "realtime_bus.overflow.policy": event.policy,
        }
        self.spans.note("realtime_bus.overflow", shown)

    def _reconnecting(self, event: ev.Reconnecting) -> None:
        self.spans.end_responses("connection_lost")
        shown = {
            "realtime_bus.reconnect.attempt": event.attempt,
            "realtime_bus.session.close_code": event.code,
        }
        self.spans.note("realtime_bus.reconnecting", shown)

    def _reconnected(self, event: ev.Reconnected) -> None:
        self._reconnects += 1
        shown = {
            "realtime_bus.reconnect.cause": event.cause,
            "realtime_bus.reconnect.attempts": event.attempts,
            "realtime_bus.reconnect.gap": event.gap_s,
            "realtime_bus.reconnect.lost": len(event.lost),
            "realtime_bus.session.id": event.session_id,
        }
        self.spans.note("realtime_bus.reconnected", shown)
        cause = {"realtime_bus.reconnect.cause": event.cause}
        self._record("realtime_bus.reconnects", 1, cause)
        self._record("realtime_bus.reconnect.gap", event.gap_s, cause)

    def _reconnect_failed(self, event: ev.ReconnectFailed) -> None:
        shown = {
            "realtime_bus.reconnect.attempts": event.attempts,
            "realtime_bus.session.close_code": event.code,
            "exception.type": event.error and type(event.error).__qualname__,
        }
        self.spans.note("realtime_bus.reconnect_failed", shown)
        self._record("realtime_bus.reconnects", 1, {"realtime_bus.reconnect.cause": "failed"})

    def _closing(self, _event: ev.Event) -> None:
        self.spans.end_responses("session_closed")

    def _end(self) -> None:
        close = self._session.close_info
        code = None if close is None else close.code
        error_type = None if close is None or close.in_order else str(code)
        shown: dict[str, Any] = {
            "realtime_bus.session.close_code": code,
            "realtime_bus.session.turns": self._turns,
            "realtime_bus.session.reconnects": self._reconnects,
            "realtime_bus.cost": self._cost,
        }
        if self._options.texts:
            echo = self._session.settings.echo
            shown["gen_ai.system_instructions"] = content.instructions(
                getattr(echo, "instructions", None)
            )
        took_s = self.spans.end(shown, error_type=error_type)
        of_error = {} if error_type is None else {"error.type": error_type}
        self._record("realtime_bus.session.duration", took_s, of_error)
        if self._instruments is not None and self._measured is not None:
            self._instruments.has_ended(self._measured)

    # --- turns -------------------------------------------------------------------------------

    def _turn_of(self, **ids: str | None) -> str | None:
        turn = self._watch.log.open_turn(**ids)
        return None if turn is None else turn.first_response_id

    def _interrupted(self, event: PlaybackInterrupted) -> None:
        turns = [turn for item in event.items if (turn := self._turn_of(item_id=item.item_id))]
        shown = {
            "realtime_bus.barge_in.latency": event.latency_s,
            "realtime_bus.barge_in.played": sum(i.played_ms for i in event.items) / 1000,
            "realtime_bus.barge_in.discarded": sum(i.discarded_ms for i in event.items) / 1000,
        }
        for turn in dict.fromkeys(turns):
            self.spans.note("realtime_bus.barge_in", shown, turn)
        if turns:
            self._record("realtime_bus.barge_in.latency", event.latency_s)

    def _turn_over(self, turn: TurnCompleted) -> None:
        self._turns += 1
        usage = turn.usage
        shown: dict[str, Any] = {
            "gen_ai.usage.input_tokens": None if usage is None else usage.input_tokens,
            "gen_ai.usage.output_tokens": None if usage is None else usage.output_tokens,
            "realtime_bus.turn.origin": turn.origin,
            "realtime_bus.turn.status": turn.status,
            "realtime_bus.turn.interrupted": turn.interrupted,
            "realtime_bus.turn.tool_round_trips": turn.tool_round_trips,
            "realtime_bus.turn.first_audio": turn.first_audio_s,
            "realtime_bus.turn.audio_to_heard": turn.audio_to_heard_s,
            "realtime_bus.turn.heard": turn.heard_s,
            "realtime_bus.turn.first_text": turn.first_text_s,
            "realtime_bus.turn.barge_in_latency": turn.barge_in_latency_s,
            "realtime_bus.turn.generated_audio": turn.generated_audio_s,
            "realtime_bus.turn.heard_audio": turn.heard_audio_s,
        }
        if (said := self._said.pop(turn.item_id or "", None)) is not None:
            shown["gen_ai.input.messages"] = content.messages([said])
        self.spans.end_turn(turn.response_ids[0], shown)
        origin = {"realtime_bus.turn.origin": turn.origin}
        of_model = origin | self._response_model
        self._record("realtime_bus.turn.first_audio", turn.first_audio_s, of_model)
        self._record("realtime_bus.turn.heard", turn.heard_s, of_model)
        kind = origin | {"realtime_bus.turn.interrupted": turn.interrupted}
        self._record("realtime_bus.turns", 1, kind)
        self._record("realtime_bus.audio.generated", turn.generated_audio_s or None)
        self._record("realtime_bus.audio.heard", turn.heard_audio_s)

    @property
    def _response_model(self) -> dict[str, str]:
        model = self._session.settings.model
        return {} if model is None else {"gen_ai.response.model": model}

    # --- responses ---------------------------------------------------------------------------

    def _response_created(self, event: ev.ResponseCreated) -> None:
        response: object = event.response
        if isinstance(response, ev.Response) and response.id:
            self._open_response(response, response.id, self._watch.now_s())

    def _open_response(self, response: ev.Response, response_id: str, since_s: float) -> None:
        conversation_id = response.conversation_id
        named = {
            "gen_ai.conversation.id": conversation_id if isinstance(conversation_id, str) else None
        }
        turn = self._watch.log.open_turn(response_id=response_id)
        if turn is not None:
            name = self._options.agent_name
            self.spans.turn(
                turn.first_response_id,
                turn.zero_s,
                "invoke_agent" if name is None else f"invoke_agent {name}",
                self._of("invoke_agent", **named),
            )
        limit, modalities = response.max_output_tokens, response.output_modalities or []
        kind = "speech" if "audio" in modalities else "text" if "text" in modalities else None
        attributes = self._of(
            "chat",
            **named,
            **{
                "gen_ai.response.id": response_id,
                "gen_ai.output.type": kind,
                "gen_ai.request.max_tokens": limit if isinstance(limit, int) else None,
                "realtime_bus.response.out_of_band": turn is None,
            },
        )
        self.spans.response(
            response_id,
            turn and turn.first_response_id,
            since_s,
            " ".join(["chat", *filter(None, [attributes.get("gen_ai.request.model")])]),
            attributes,
        )

    def _chunk(self, event: _Chunk, _session: Session) -> _Chunk:
        response = self.spans.responses.get(event.response_id)
        if response is not None and response.first_chunk_s is None:
            response.first_chunk_s = self._watch.now_s()
            took_s = response.first_chunk_s - response.since_s
            response.span.set_attribute("gen_ai.response.time_to_first_chunk", took_s)
            name = "gen_ai.client.operation.time_to_first_chunk"
            self._record(name, took_s, self._of_operation("chat"))
        return event

    def _of_operation(self, operation: str) -> dict[str, Any]:
        return {"gen_ai.operation.name": operation, **self._of_model}

    def _response_done(self, event: ev.ResponseDone) -> None:
        response: object = event.response
        if not isinstance(response, ev.Response) or not response.id:
            return
        at_s = self._watch.now_s()
        if response.id not in self.spans.responses:  # it was killed at once
            self._open_response(response, response.id, at_s)
        counts = count_response(response.usage)
        usage = response.usage if isinstance(response.usage, ev.Usage) else ev.Usage()
        cost = self._spend(self._session.settings.model, counts)
        shown: dict[str, Any] = {
            "gen_ai.response.finish_reasons": [content.finish_reason(response)],
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": (
                counts.cached_text + counts.cached_audio + counts.cached_image
            ),
            "realtime_bus.usage.input_audio_tokens": counts.input_audio + counts.cached_audio,
            "realtime_bus.usage.output_audio_tokens": counts.output_audio,
            "realtime_bus.response.status": response.status,
            "realtime_bus.cost": cost,
        }
        if self._options.texts:
            shown["gen_ai.output.messages"] = content.output_messages(response)
        error_type = None
        if response.status == "failed":
            error: Any = getattr(response.status_details, "error", None)
            error_type = getattr(error, "code", None) or getattr(error, "type", None) or OTHER
        found = self.spans.end_response(response.id, at_s, shown, error_type=error_type)
        of_response = self._of_operation("chat")
        if found is not None:
            failed = {} if error_type is None else {"error.type": self._bounded(error_type)}
            took_s = at_s - found.since_s
            self._record("gen_ai.client.operation.duration", took_s, of_response | failed)
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            of_kind = of_response | {"gen_ai.token.type": kind}
            self._record("gen_ai.client.token.usage", count or None, of_kind)

    def _spend(self, model: str | None, counts: TokenCounts) -> float | None:
        """Count tokens, and return what they cost; None if that is not known."""
        of_model = {"gen_ai.response.model": model} if model is not None else {}
        for kind in _TOKEN_KINDS:
            if count := getattr(counts, kind):
                of_kind = of_model | {"realtime_bus.token.kind": kind}
                self._record("realtime_bus.tokens", count, of_kind)
        found = cost_of({model or "": counts}, self._options.prices)
        if found.unpriced:
            return None
        self._cost = (self._cost or 0.0) + found.total
        self._record("realtime_bus.cost", found.total, of_model)
        return found.total

    def _transcribed(self, event: ev.ConversationItemInputAudioTranscriptionCompleted) -> None:
        self._spend(self._session.settings.transcription_model, count_transcription(event.usage))
        if self._options.texts:
            self._said[event.item_id] = content.spoken(event.transcript)

    # --- tool calls --------------------------------------------------------------------------

    def _item_done(self, event: ev.ResponseOutputItemDone) -> None:
        item: object = event.item
        turn = self._turn_of(response_id=event.response_id)
        if isinstance(item, ev.FunctionCallItem) and item.call_id:
            self._open_call(item.call_id, turn, self._watch.now_s(), item, "function")
        elif isinstance(item, ev.McpCallItem):
            since_s = self._mcp_since_s.pop(item.id, self._watch.now_s())
            self._open_call(item.id, turn, since_s, item, "extension")
            failed = item.error is not None
            self.spans.calls[item.id].error_type = "failed" if failed else None
            self._close_call(item.id, "failed" if failed else "succeeded", item.output)

    def _open_call(
        self,
        call_id: str,
        turn: str | None,
        since_s: float,
        item: ev.FunctionCallItem | ev.McpCallItem,
        kind: str,
    ) -> None:
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.provider.name": self._provider,
            "gen_ai.tool.name": item.name,
            "gen_ai.tool.type": kind,
            "gen_ai.tool.call.id": call_id,
        }
        if self._options.agent_name is not None:
            attributes["gen_ai.agent.name"] = self._options.agent_name
        if self._options.texts:
            attributes["gen_ai.tool.call.arguments"] = content.plain(item.arguments) or ""
        self.spans.call(call_id, turn, since_s, item.name, attributes)

    def _mcp_began(self, event: ev.ResponseMcpCallInProgress) -> None:
        self._mcp_since_s[event.item_id] = self._watch.now_s()

    def _tool_started(self, event: ToolStarted) -> None:
        self.spans.enter_call(event.call_id)

    def _tool_finished(self, event: ToolFinished) -> None:
        call = self.spans.leave_call(event.call_id)
        if call is None:
            return
        call.span.set_attribute("realtime_bus.tool.outcome", event.outcome)
        call.span.set_attribute("realtime_bus.tool.ran", event.took_s)
        call.error_type = _OUTCOMES.get(event.outcome)
        if event.error is not None:
            shown = content.failure(event.error, texts=self._options.texts)
            call.span.add_event("exception", shown)
            call.error_type = shown["exception.type"]
        if not call.in_turn:  # nobody need be told of its output
            self._close_call(event.call_id, event.outcome, None)

    def _send(self, event: ev.ConversationItemCreate, _session: Session) -> ev.ClientEvent:
        try:
            self._created_item(event.item)
        except Exception as error:  # noqa: BLE001  # an exporter's: it must not refuse the command
            _log.warning("telemetry failed", error=str(error))
        return event

    def _created_item(self, item: object) -> None:
        if isinstance(item, ev.FunctionCallOutputItem):
            self._close_call(item.call_id, None, item.output)
        elif self._options.texts and isinstance(item, ev.MessageItem) and item.role == "user":
            said = content.message_of(item)
            if said is not None and item.id:
                self._said[item.id] = said

    def _close_call(self, call_id: str, outcome: str | None, output: str | None) -> None:
        shown = {"realtime_bus.tool.outcome": outcome}
        if self._options.texts:
            shown["gen_ai.tool.call.result"] = content.plain(output)
        at_s = self._watch.now_s()
        call = self.spans.end_call(call_id, at_s, shown)
        if call is not None:
            attributes = self._of_operation("execute_tool") | {
                "gen_ai.tool.name": self._bounded(call.name)
            }
            if call.error_type is not None:
                attributes["error.type"] = self._bounded(call.error_type)
            took_s = at_s - call.since_s
            self._record("gen_ai.client.operation.duration", took_s, attributes)

    _RECEIVED: ClassVar[dict[type[ev.Event], Callable[[SessionTelemetry, Any], None]]] = {
        ev.Connected: _connected,
        ev.Error: _error,
        ev.HandlerFailed: _handler_failed,
        ev.Overflow: _overflow,
        ev.Reconnecting: _reconnecting,
        ev.Reconnected: _reconnected,
        ev.ReconnectFailed: _reconnect_failed,
        ev.ResponseDone: _response_done,
        ev.ResponseOutputItemDone: _item_done,
        ev.ResponseMcpCallInProgress: _mcp_began,
        ev.ConversationItemInputAudioTranscriptionCompleted: _transcribed,
        PlaybackInterrupted: _interrupted,
        ToolStarted: _tool_started,
        ToolFinished: _tool_finished,
    }

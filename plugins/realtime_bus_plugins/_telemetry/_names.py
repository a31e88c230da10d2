"""What is told, as data: spans, their events and attributes, and metrics.

Names under ``gen_ai.`` are those of the semantic conventions 1.41, the last version whose main
repository holds them; ``error.``, ``exception.`` and ``server.`` are OpenTelemetry's, too. The rest
is ours.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

SCOPE: Final = "realtime_bus"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"
OTHER: Final = "_OTHER"
"""What the conventions call a value that is none of the known ones."""


class SpanShape(NamedTuple):
    """One kind of span.

    Attributes:
        name: Its name; in braces what is filled in, and left out where it is unknown.
        parent: Which kind of span it is under.
        covers: From when until when.
        attributes: What it may carry.
        events: What is noted on it.
    """

    name: str
    parent: str
    covers: str
    attributes: tuple[str, ...]
    events: tuple[str, ...] = ()


_SERVER = ("gen_ai.provider.name", "server.address", "server.port")
_MODEL = ("gen_ai.request.model", "gen_ai.response.model")

SESSION = SpanShape(
    "realtime_bus.session",
    "the caller's",
    "from `attach`, when the connection is up, until the session is closed",
    (
        *_SERVER,
        *_MODEL,
        "realtime_bus.session.id",
        "realtime_bus.session.kind",
        "realtime_bus.session.close_code",
        "realtime_bus.session.turns",
        "realtime_bus.session.reconnects",
        "realtime_bus.cost",
        "error.type",
        "gen_ai.system_instructions",
    ),
    (
        "realtime_bus.error",
        "realtime_bus.handler_failed",
        "realtime_bus.overflow",
        "realtime_bus.reconnecting",
        "realtime_bus.reconnected",
        "realtime_bus.reconnect_failed",
    ),
)
TURN = SpanShape(
    "invoke_agent {gen_ai.agent.name}",
    "session",
    "from the end of the person's input until the answer has been played or was interrupted",
    (
        "gen_ai.operation.name",
        *_SERVER,
        *_MODEL,
        "gen_ai.agent.name",
        "gen_ai.conversation.id",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.input.messages",
        "realtime_bus.turn.origin",
        "realtime_bus.turn.status",
        "realtime_bus.turn.interrupted",
        "realtime_bus.turn.tool_round_trips",
        "realtime_bus.turn.first_audio",
        "realtime_bus.turn.audio_to_heard",
        "realtime_bus.turn.heard",
        "realtime_bus.turn.first_text",
        "realtime_bus.turn.barge_in_latency",
        "realtime_bus.turn.generated_audio",
        "realtime_bus.turn.heard_audio",
    ),
    ("realtime_bus.barge_in",),
)
RESPONSE = SpanShape(
    "chat {gen_ai.request.model}",
    "turn; session, if it is out of band",
    "from `response.created` to `response.done`",
    (
        "gen_ai.operation.name",
        *_SERVER,
        *_MODEL,
        "gen_ai.agent.name",
        "gen_ai.conversation.id",
        "gen_ai.response.id",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.output.type",
        "gen_ai.request.max_tokens",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.output.messages",
        "realtime_bus.response.status",
        "realtime_bus.response.out_of_band",
        "realtime_bus.usage.input_audio_tokens",
        "realtime_bus.usage.output_audio_tokens",
        "realtime_bus.cost",
        "error.type",
    ),
)
TOOL = SpanShape(
    "execute_tool {gen_ai.tool.name}",
    "turn; session, if it is out of band",
    "from the complete call until its output is sent, or it has run out of band; "
    "an MCP call, while the server runs it",
    (
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.agent.name",
        "gen_ai.tool.name",
        "gen_ai.tool.type",
        "gen_ai.tool.call.id",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "realtime_bus.tool.outcome",
        "realtime_bus.tool.ran",
        "error.type",
    ),
    ("exception",),
)
SPANS: Final = {"session": SESSION, "turn": TURN, "response": RESPONSE, "tool call": TOOL}

EVENTS: Final[dict[str, tuple[str, ...]]] = {
    "realtime_bus.error": (
        "realtime_bus.error.code",
        "realtime_bus.error.type",
        "realtime_bus.error.param",
        "realtime_bus.error.message",
    ),
    "realtime_bus.handler_failed": (
        "realtime_bus.handler",
        "realtime_bus.event.type",
        "exception.type",
        "exception.message",
        "exception.stacktrace",
    ),
    "realtime_bus.overflow": (
        "realtime_bus.handler",
        "realtime_bus.event.type",
        "realtime_bus.overflow.policy",
    ),
    "realtime_bus.reconnecting": (
        "realtime_bus.reconnect.attempt",
        "realtime_bus.session.close_code",
    ),
    "realtime_bus.reconnected": (
        "realtime_bus.reconnect.cause",
        "realtime_bus.reconnect.attempts",
        "realtime_bus.reconnect.gap",
        "realtime_bus.reconnect.lost",
        "realtime_bus.session.id",
    ),
    "realtime_bus.reconnect_failed": (
        "realtime_bus.reconnect.attempts",
        "realtime_bus.session.close_code",
        "exception.type",
    ),
    "realtime_bus.barge_in": (
        "realtime_bus.barge_in.latency",
        "realtime_bus.barge_in.played",
        "realtime_bus.barge_in.discarded",
    ),
    "exception": ("exception.type", "exception.message", "exception.stacktrace"),
}
"""Events on spans, and their attributes."""

CONTENT: Final = frozenset(
    {
        "gen_ai.system_instructions",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "realtime_bus.error.message",
        "exception.message",
    }
)
"""Attributes that hold texts: only on request."""

_Instrument: TypeAlias = Literal[
    "counter", "histogram", "observable_counter", "observable_up_down_counter"
]


class Metric(NamedTuple):
    """One instrument.

    Attributes:
        name: Its name.
        instrument: What it is.
        unit: Its unit, UCUM.
        description: What is measured.
        attributes: What its measurements carry.
        buckets: Boundaries of a histogram.
    """

    name: str
    instrument: _Instrument
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] | None = None


_GEN_AI = ("gen_ai.operation.name", *_SERVER, *_MODEL)
_DURATION = tuple(0.01 * 2**n for n in range(14))  # as the conventions have it
_TOKENS = tuple(float(4**n) for n in range(14))  # likewise
_LATENCY = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_HANDLER = ("realtime_bus.handler",)

METRICS: Final = (
    Metric(
        "gen_ai.client.operation.duration",
        "histogram",
        "s",
        "How long a response or a tool call took",
        (*_GEN_AI, "gen_ai.tool.name", "error.type"),
        _DURATION,
    ),
    Metric(
        "gen_ai.client.operation.time_to_first_chunk",
        "histogram",
        "s",
        "From response.created to the first audio or written text",
        _GEN_AI,
        _DURATION,
    ),
    Metric(
        "gen_ai.client.token.usage",
        "histogram",
        "{token}",
        "Tokens of a response",
        (*_GEN_AI, "gen_ai.token.type"),
        _TOKENS,
    ),
    Metric(
        "realtime_bus.tokens",
        "counter",
        "{token}",
        "Tokens by kind, which do not overlap; those of transcriptions, too",
        ("realtime_bus.token.kind", "gen_ai.response.model"),
    ),
    Metric(
        "realtime_bus.cost",
        "counter",
        "1",
        "What responses and transcriptions cost, by the price table",
        ("gen_ai.response.model",),
    ),
    Metric(
        "realtime_bus.turn.first_audio",
        "histogram",
        "s",
        "From the end of the person's input to the first audio",
        ("realtime_bus.turn.origin", "gen_ai.response.model"),
        _LATENCY,
    ),
    Metric(
        "realtime_bus.turn.heard",
        "histogram",
        "s",
        "From the end of the person's input to the first audio's being heard",
        ("realtime_bus.turn.origin", "gen_ai.response.model"),
        _LATENCY,
    ),
    Metric(
        "realtime_bus.turns",
        "counter",
        "{turn}",
        "Turns that are over",
        ("realtime_bus.turn.origin", "realtime_bus.turn.interrupted"),
    ),
    Metric(
        "realtime_bus.barge_in.latency",
        "histogram",
        "s",
        "From speech_started to silence at the sink",
        (),
        _LATENCY,
    ),
    Metric(
        "realtime_bus.audio.generated", "counter", "s", "Audio that came, of turns that are over"
    ),
    Metric(
        "realtime_bus.audio.heard", "counter", "s", "How much of it was heard, where that is known"
    ),
    Metric(
        "realtime_bus.errors",
        "counter",
        "{error}",
        "What the server complained of",
        ("error.type",),
    ),
    Metric(
        "realtime_bus.reconnects",
        "counter",
        "{connection}",
        "Connections that were replaced, or not: cause is lost, rollover or failed",
        ("realtime_bus.reconnect.cause",),
    ),
    Metric(
        "realtime_bus.reconnect.gap",
        "histogram",
        "s",
        "Time without a connection",
        ("realtime_bus.reconnect.cause",),
        _LATENCY,
    ),
    Metric(
        "realtime_bus.session.duration",
        "histogram",
        "s",
        "How long sessions were open",
        ("error.type",),
        (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0),
    ),
    Metric("realtime_bus.sessions", "observable_up_down_counter", "{session}", "Open sessions"),
    Metric(
        "realtime_bus.events",
        "observable_counter",
        "{event}",
        "Events by type, also those that nobody listens to",
        ("realtime_bus.event.type", "realtime_bus.direction"),
    ),
    Metric(
        "realtime_bus.io",
        "observable_counter",
        "By",
        "Length of the frames",
        ("realtime_bus.direction",),
    ),
    Metric(
        "realtime_bus.drift",
        "observable_counter",
        "{difference}",
        "Differences between the server's frames and what is known of them",
        ("realtime_bus.drift.kind",),
    ),
    Metric(
        "realtime_bus.handler.calls",
        "observable_counter",
        "{event}",
        "Events that a handler has finished",
        _HANDLER,
    ),
    Metric(
        "realtime_bus.handler.time",
        "observable_counter",
        "s",
        "Time that a handler took for them, waiting included",
        _HANDLER,
    ),
    Metric(
        "realtime_bus.handler.failures",
        "observable_counter",
        "{event}",
        "Events at which it raised or ran out of time",
        _HANDLER,
    ),
    Metric(
        "realtime_bus.handler.drops",
        "observable_counter",
        "{event}",
        "Events that it never saw: its mailbox was full, or its session ended",
        _HANDLER,
    ),
    Metric(
        "realtime_bus.handler.pending",
        "observable_up_down_counter",
        "{event}",
        "Events that wait for it or are in its hands",
        _HANDLER,
    ),
)
"""Every instrument, in the order in which they are made."""

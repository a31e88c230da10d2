"""Sessions as OpenTelemetry's traces and metrics.

::

    bus = Bus(plugins=[Telemetry(agent_name="cook"), sink, Interruption(sink), tools])

A span for the session, and below it one for each turn, response and tool call, with the latencies
of `TurnMetrics`; metrics of events, handlers, audio, tokens, cost and connections. The tables are
in ``_telemetry/_names.py`` and in docs/opentelemetry.md.

The rules:

1. It needs the API alone, and finds the application's SDK as everybody does: by the global
   providers, when a session begins. Where nobody records, it listens to nothing.
2. The session's span is under the span that is current where the session is opened, and is itself
   current in the session's handlers. A tool call's span is current in the tool.
3. Texts leave the process only on request, keys never.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from realtime_bus import MissingExtra, Session
from realtime_bus.history import Prices
from realtime_bus.log import describe, get_logger

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["Telemetry"]


@cache
def _version() -> str:
    return version("realtime-bus")  # reading it takes half a millisecond


class Telemetry:
    """Trace and measure each session. Put it before the plugins whose work it should see.

    Args:
        agent_name: What the agent is called: ``gen_ai.agent.name``.
        provider: Who serves the model: ``gen_ai.provider.name``. By default, by the address.
        prices: What each model costs, for the metric and the attribute ``realtime_bus.cost``.
        texts: Whether spans hold transcripts, instructions, arguments and results of tools, and
            what errors say.
        tracer_provider: What makes spans; by default the global one.
        meter_provider: What measures; by default the global one.
        clock: Returns seconds; any zero point. By default it is `Session.clock`.

    Raises:
        MissingExtra: The package opentelemetry-api is not installed.
    """

    def __init__(
        self,
        *,
        agent_name: str | None = None,
        provider: str | None = None,
        prices: Mapping[str, Prices] | None = None,
        texts: bool = False,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        try:
            from . import _telemetry as parts  # noqa: PLC0415 - it needs an extra
        except ModuleNotFoundError as error:
            raise MissingExtra("opentelemetry-api", extra="otel") from error
        self._parts = parts
        self._options = parts.Options(agent_name, provider, dict(prices or {}), texts, clock)
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._version = _version()
        self._spans: WeakKeyDictionary[Session, Span] = WeakKeyDictionary()

    def attach(self, session: Session) -> None:
        """Open the session's span. Called by the bus.

        What an SDK raises there is logged, and the session goes on untold.
        """
        try:
            self._open(session)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not cost the call
            get_logger("realtime_bus.telemetry").warning("telemetry failed", **describe(error))

    def _open(self, session: Session) -> None:
        from opentelemetry.trace import get_tracer  # noqa: PLC0415 - an extra

        parts = self._parts
        tracer = get_tracer(
            parts.SCOPE, self._version, self._tracer_provider, schema_url=parts.SCHEMA_URL
        )
        instruments = parts.instruments_of(self._meter_provider, self._version)
        told = parts.SessionTelemetry(session, self._options, tracer, instruments)
        self._spans[session] = told.span
        if told.is_wanted:
            told.subscribe()

    def span(self, session: Session) -> Span:
        """Return a session's span, to make it the current one in the block of ``connect``.

        It is one that records nothing if the session does not have this plugin.
        """
        from opentelemetry.trace import INVALID_SPAN  # noqa: PLC0415 - an extra

        return self._spans.get(session, INVALID_SPAN)

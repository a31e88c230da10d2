"""What all that is told of one session shares: spans, clock, model, figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from opentelemetry.trace import Tracer

from realtime_bus import Session
from realtime_bus import events as ev
from realtime_bus.history import Prices, TokenCounts, cost_of
from realtime_bus_plugins._turn_watch import TurnWatch
from realtime_bus_plugins._turns import TurnCompleted

from ._instruments import Instruments
from ._spans import SessionSpans

_PROVIDERS = {
    "openai.com": "openai",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.openai",
    "x.ai": "x_ai",
}
"""Providers by the end of the host's name; every other one speaks OpenAI's protocol."""

_TOKEN_KINDS = tuple(n for n in TokenCounts.__struct_fields__ if n != "audio_seconds")


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


class Told:
    """One session as it is told.

    Args:
        session: The session, about to begin.
        options: What is wanted.
        tracer: What makes spans.
        instruments: What measures; None if nobody does.
        turn_over: Called with each turn that is over.

    Attributes:
        session: The session.
        options: What is wanted.
        watch: Its turns, and its clock.
        spans: Its spans.
        cost: What it has cost, as far as prices are known; None if none is.
    """

    def __init__(
        self,
        session: Session,
        options: Options,
        tracer: Tracer,
        instruments: Instruments | None,
        turn_over: Callable[[TurnCompleted], None],
    ) -> None:
        self.session: Session = session
        self.options: Options = options
        self.watch: TurnWatch = TurnWatch(session, options.clock, turn_over)
        self.spans: SessionSpans = SessionSpans(
            tracer, self.watch.now_s, "realtime_bus.session", {}
        )
        self.cost: float | None = None
        self._instruments = instruments
        self._provider = options.provider or "openai"
        self._server: dict[str, Any] = {}
        self._requested_model: str | None = None

    def connected(self, event: ev.Connected) -> None:
        """Take note of where it is connected to."""
        parts = urlsplit(event.url)
        host = parts.hostname
        if host is not None:
            self._server = {
                "server.address": host,
                "server.port": parts.port or (443 if parts.scheme == "wss" else 80),
            }
            known = (name for end, name in _PROVIDERS.items() if f".{host}".endswith(f".{end}"))
            self._provider = self.options.provider or next(known, "openai")
        self._requested_model = next(iter(parse_qs(parts.query).get("model", [])), None)

    # --- what spans and measurements carry ----------------------------------------------------

    @property
    def response_model(self) -> dict[str, str]:
        """The model that answers."""
        model = self.session.settings.model
        return {} if model is None else {"gen_ai.response.model": model}

    @property
    def model(self) -> dict[str, Any]:
        """Who is asked, and for what."""
        requested = self._requested_model or self.session.settings.model
        found = {"gen_ai.provider.name": self._provider, **self._server, **self.response_model}
        return found if requested is None else found | {"gen_ai.request.model": requested}

    @property
    def agent(self) -> dict[str, str]:
        """What the agent is called."""
        name = self.options.agent_name
        return {} if name is None else {"gen_ai.agent.name": name}

    def turn_of(self, **ids: str | None) -> str | None:
        """Return the first response of the turn that something is part of."""
        turn = self.watch.log.open_turn(**ids)
        return None if turn is None else turn.first_response_id

    # --- figures -------------------------------------------------------------------------------

    def record(
        self, name: str, value: float | None, attributes: Mapping[str, Any] | None = None
    ) -> None:
        """Measure something, if anybody wants to know."""
        if self._instruments is not None:
            self._instruments.record(name, value, attributes)

    def spend(self, model: str | None, counts: TokenCounts) -> float | None:
        """Count tokens, and return what they cost; None if that is not known."""
        of_model = {"gen_ai.response.model": model} if model is not None else {}
        for kind in _TOKEN_KINDS:
            if count := getattr(counts, kind):
                of_kind = of_model | {"realtime_bus.token.kind": kind}
                self.record("realtime_bus.tokens", count, of_kind)
        found = cost_of({model or "": counts}, self.options.prices)
        if found.unpriced:
            return None
        self.cost = (self.cost or 0.0) + found.total
        self.record("realtime_bus.cost", found.total, of_model)
        return found.total

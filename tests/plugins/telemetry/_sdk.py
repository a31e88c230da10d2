"""OpenTelemetry's SDK as a test needs it: what was told is in memory, and nothing outlives it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from realtime_bus_plugins.telemetry import Telemetry


class Told(SpanProcessor):
    """What was told.

    Attributes:
        open: Spans that have begun and not ended.
        ended: Those that have, in the order of their ends.
        tracers: Makes spans.
        meters: Measures.
    """

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.open: list[Any] = []
        self.ended: list[ReadableSpan] = []
        self.tracers = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(self)
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Note a span that begins."""
        self.open.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Note a span that ends."""
        self.open = [each for each in self.open if each.context != span.context]
        self.ended.append(span)

    def telemetry(self, **options: Any) -> Telemetry:
        """Return the plugin that tells this."""
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def within(self, name: str) -> Any:
        """Return a context manager in which a span of the application's is the current one."""
        return self.tracers.get_tracer("application").start_as_current_span(name)

    def spans(self, begins: str) -> list[ReadableSpan]:
        """Return the spans that have ended, by how their names begin."""
        return [span for span in self.ended if span.name.startswith(begins)]

    def span(self, begins: str) -> ReadableSpan:
        """Return the only one."""
        [span] = self.spans(begins)
        return span

    def parent(self, span: ReadableSpan) -> str | None:
        """Return the name of the span above, ended or not."""
        if span.parent is None:
            return None
        [above] = [
            each
            for each in (*self.ended, *self.open)
            if each.context.span_id == span.parent.span_id
        ]
        return str(above.name)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what was noted on spans that have ended."""
        return [
            dict(event.attributes or {})
            for span in self.ended
            for event in span.events
            if event.name == name
        ]

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Collect; return the points of each metric, histograms as (count, sum)."""
        found: dict[str, list[tuple[dict[str, Any], Any]]] = {}
        data = self._reader.get_metrics_data()
        for resource in [] if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points: Any = metric.data.data_points
                    found[metric.name] = [
                        (dict(p.attributes), p.value if hasattr(p, "value") else (p.count, p.sum))
                        for p in points
                    ]
        return found

    def total(self, metric: str, **attributes: Any) -> Any:
        """Collect; return the sum of the points with these attributes, underscores for dots."""
        wanted = {name.replace("_", "."): value for name, value in attributes.items()}
        points = self.metrics().get(metric, [])
        return sum(
            value
            for found, value in points
            if wanted.items() <= {name.replace("_", "."): v for name, v in found.items()}.items()
        )


@contextmanager
def told(sampler: Sampler = ALWAYS_ON) -> Generator[Told]:
    """Give what is told, and see that every span has an end."""
    found = Told(sampler)
    try:
        yield found
        assert [span.name for span in found.open] == []
    finally:
        found.tracers.shutdown()
        found.meters.shutdown()

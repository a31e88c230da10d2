"""What telemetry costs: `python -m benchmarks.telemetry`.

Without an SDK, with its traces, and with metrics besides, each beside a bus without the plugin:
over a socket at real-time pace, and in process, frame by frame. What the SDK exports, spans in
batches and metrics once a second, is thrown away: a real exporter's work comes on top. `--smoke`
takes a minute, and fails if the plugin without an SDK has clearly left its target of 2 %.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from importlib import import_module
from statistics import median

from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import NoOpTracerProvider, TracerProvider
from rich.console import Console

from realtime_bus import events as ev
from realtime_bus.cli import bench
from realtime_bus.cli.bench import OURS, Figure, Row, Section, Tally, interleaved_async, show
from realtime_bus.transport import PushTransport
from realtime_bus_plugins.telemetry import Telemetry

API, TRACES, BOTH = "telemetry, no SDK", "… SDK: traces", "… SDK: traces and metrics"
AT_MOST = 1.08  # the target is 1.02, and a small machine is not as steady
RULES = {
    OURS: "Bus.connect, plain handlers",
    API: "the same with Telemetry(), and nobody who records",
    TRACES: "with the SDK's tracer and its batch processor",
    BOTH: "with its meter besides, collected once a second",
}


@cache
def providers(name: str) -> tuple[TracerProvider, MeterProvider]:
    """Return who records, once a process."""
    tracers: TracerProvider = NoOpTracerProvider()
    meters: MeterProvider = NoOpMeterProvider()
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # until the process ends
    if name in (TRACES, BOTH):
        tracers = SdkTracerProvider()
        spans = ConsoleSpanExporter(out=nowhere, formatter=lambda _span: "")
        tracers.add_span_processor(BatchSpanProcessor(spans))
    if name == BOTH:
        metrics = ConsoleMetricExporter(out=nowhere, formatter=lambda _metrics: "")
        meters = SdkMeterProvider([PeriodicExportingMetricReader(metrics, 1000)])
    return tracers, meters


def plugins(name: str) -> list[Telemetry]:
    """Return what a session has besides its handlers."""
    if name == OURS:
        return []
    tracers, meters = providers(name)
    return [Telemetry(tracer_provider=tracers, meter_provider=meters)]


# --- over a socket ---------------------------------------------------------------------------


@asynccontextmanager
async def received(url: str, tally: Tally, *, name: str) -> AsyncGenerator[None]:
    """Receive over a socket."""
    async with bench.counting_bus(tally).connect(url, api_key="none", plugins=plugins(name)):
        yield


def paced(*, rounds: int, sessions: int = 50, seconds: float = 2.0) -> dict[str, float]:
    """Return how many times the CPU of ours each takes: the median of the rounds' ratios.

    Within a round they take turns, seconds apart: what else the machine does is in all of them.
    """
    rows = [Row(name, RULES[name], None, partial(received, name=name)) for name in RULES]
    ratios: dict[str, list[float]] = {name: [] for name in RULES}
    for number in range(rounds):
        turned = rows[number % len(rows) :] + rows[: number % len(rows)]
        section = bench.paced(turned, rounds=1, sessions=sessions, seconds=seconds)
        for name, found in ratios.items():
            found.append(section.ratio("CPU a frame, µs", name) or 0.0)
    return {name: median(found) for name, found in ratios.items()}


# --- in process ------------------------------------------------------------------------------


def turn_frames() -> list[bytes]:
    """Return a turn with a short answer: what is not a delta."""
    place = {"response_id": "r", "item_id": "a", "output_index": 0}
    item = ev.MessageItem(id="a", role="assistant", content=[])
    began = ev.Response(id="r", conversation_id="c", status="in_progress")
    usage = ev.Usage(total_tokens=30, input_tokens=20, output_tokens=10)
    ended = ev.Response(id="r", conversation_id="c", status="completed", usage=usage)
    events: list[ev.ServerEvent] = [
        ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="u"),
        ev.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id="u"),
        ev.InputAudioBufferCommitted(item_id="u"),
        ev.ResponseCreated(response=began),
        ev.ResponseOutputItemAdded(response_id="r", output_index=0, item=item),
        ev.ResponseOutputTextDelta(**place, content_index=0, delta="word"),
        ev.ResponseOutputTextDone(**place, content_index=0, text="word"),
        ev.ResponseOutputItemDone(response_id="r", output_index=0, item=item),
        ev.ResponseDone(response=ended),
    ]
    return [event.to_json() for event in events]


async def delivered(frames: list[bytes], rounds: int) -> dict[str, Figure]:
    """Measure a round of frames with each."""
    async with AsyncExitStack() as stack:

        async def a_round(name: str) -> Callable[[], Awaitable[object]]:
            transport = PushTransport(send=len)
            bus = bench.counting_bus(Tally())
            bus.on(ev.ResponseDone)(lambda _event: None)
            context = bus.session(transport, plugins=plugins(name), wait_created=False)
            await stack.enter_async_context(context)
            await asyncio.sleep(0)  # the reader begins

            async def run() -> None:
                for frame in frames:
                    transport.feed(frame)

            return run

        work = {name: await a_round(name) for name in RULES}
        return await interleaved_async(work, units=len(frames), rounds=rounds)


async def opened(rounds: int, count: int = 100) -> dict[str, Figure]:
    """Measure sessions that begin and end."""

    def a_round(name: str) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            bus = bench.counting_bus(Tally())
            for _ in range(count):
                context = bus.session(
                    PushTransport(send=len), plugins=plugins(name), wait_created=False
                )
                async with context:
                    pass

        return run

    return await interleaved_async(
        {name: a_round(name) for name in RULES}, units=count, rounds=rounds
    )


def in_process(*, rounds: int) -> Section:
    """Measure a frame of each kind, a frame of whole turns, and a session that does nothing."""
    small, audio = bench.small_frames(1000), bench.audio_frames(300)
    skipped = [frame.replace(b"audio_transcript.delta", b"text.done") for frame in small]
    figures = {
        "nobody listens": asyncio.run(delivered(skipped, rounds)),
        "small": asyncio.run(delivered(small, rounds)),
        "audio, read": asyncio.run(delivered(audio, rounds)),
        "a turn's others": asyncio.run(delivered(turn_frames() * 50, rounds)),
        "a session": asyncio.run(opened(rounds)),
    }
    title = (
        "In process: from a frame in hand until its handlers have run; begin and end of a session"
    )
    return Section("telemetry", title, ("µs", 1e6), figures, RULES, OURS, {})


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=9, help="of each row (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="a minute; fail if it costs too much")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200)
    show(console, in_process(rounds=3 if options.smoke else 2 * options.rounds))
    ratios = paced(rounds=3 if options.smoke else options.rounds)
    console.print("\nSocket, 50 sessions of 60 frames a second: CPU, times ours, median of rounds")
    for name, ratio in ratios.items():
        console.print(f"  {name}: {ratio:.3f}")
    return int(options.smoke and ratios[API] > AT_MOST)


if __name__ == "__main__":
    # rows are pickled: their functions need a module's name
    sys.exit(import_module("benchmarks.telemetry").main())

"""What fan-out costs: events a second, latency, CPU; and FastStream's NATS broker beside it.

    python -m benchmarks.fanout [--events 20000] [--smoke]

Rules:

1. One broker, one publishing process and one that handles, on this machine; what each costs is its
   own processor time, so that others' work on the machine counts little.
2. FastStream publishes the same events from pydantic models into a stream of its own, 256 at a
   time on their way, and handles them as pydantic models from a durable pull consumer, acknowledged
   after the handler. Its order is that of one consumer with one worker, as ours is of a session.
3. Latency is from the frame in the publishing process to the handler in the other, at the pace of
   50 sessions with 20 events a second each.
4. Fan-out on and off: frames of which one handler takes each, with and without the plugin, in one
   process, its publishing included.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import msgspec
import nats
from rich.console import Console
from rich.table import Table

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport
from realtime_bus_plugins.fanout import NatsFanout, RemoteBus, RemoteSession, StreamSettings

from .broker import NatsServer

_SETTINGS = StreamSettings(partitions=8)
_FRAME = (
    b'{"type":"response.output_audio_transcript.delta","event_id":"event_%d","response_id":'
    b'"resp_D3hTQJ0Ygc1VvW","item_id":"item_D3hTQhPKpSX8zd","output_index":0,"content_index":0,'
    b'"delta":" and some of its words"}'
)


class Cost(msgspec.Struct):
    """What a process has needed for so many events."""

    events: int
    wall_s: float
    cpu_s: float
    latencies_ms: list[float] = []

    @property
    def cpu_us(self) -> float:
        """Processor time of an event, in microseconds."""
        return self.cpu_s / self.events * 1e6

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.wall_s


async def _sessions(
    bus: Bus, count: int, then: Callable[[list[PushTransport]], Awaitable[Any]]
) -> None:
    transports: list[PushTransport] = []
    there, over = anyio.Event(), anyio.Event()

    async def call(number: int) -> None:
        transport = PushTransport(send=lambda _frame: None)
        created = ev.SessionCreated(session=ev.RealtimeSession(id=f"sess_{number}"))
        transport.feed(created.to_json())
        async with bus.session(transport, state=number):
            transports.append(transport)
            if len(transports) == count:
                there.set()
            await over.wait()

    async with anyio.create_task_group() as calls:
        for number in range(count):
            calls.start_soon(call, number)
        await there.wait()
        await then(transports)
        over.set()


# --- the processes -------------------------------------------------------------------------------


async def publish(url: str, events: int, *, sessions: int = 50, per_s: float = 0) -> Cost:
    """Publish events, as fast as it goes or at a pace, and wait until the broker has them."""
    cost: list[Cost] = []
    async with NatsFanout("bench", servers=url, settings=_SETTINGS) as fanout:

        async def feed(transports: list[PushTransport]) -> None:
            await fanout.drain(30)
            began_s, cpu_s = time.perf_counter(), time.process_time()
            for number in range(events // sessions):
                for index, transport in enumerate(transports):
                    transport.feed(_FRAME % number)
                    if per_s:
                        due_s = began_s + (number * sessions + index) / per_s
                        await anyio.sleep(max(0.0, due_s - time.perf_counter()))
                if not per_s:
                    await anyio.lowlevel.checkpoint()
                    while fanout.statistics().pending > 4000:  # noqa: ASYNC110  # nothing tells
                        await anyio.sleep(0.001)
            await fanout.drain(60)
            cost.append(Cost(events, time.perf_counter() - began_s, time.process_time() - cpu_s))

        await _sessions(Bus(plugins=[fanout]), sessions, feed)
    return cost[0]


async def handle(url: str, events: int, ready: Path) -> Cost:
    """Handle events, and note how long each was on its way."""
    bus = RemoteBus("bench", group="g", servers=url, start="all", settings=_SETTINGS)
    latencies_ms: list[float] = []
    over = anyio.Event()
    began: list[tuple[float, float]] = []

    @bus.on(ev.ResponseOutputAudioTranscriptDelta)
    async def note(_event: ev.ResponseOutputAudioTranscriptDelta, session: RemoteSession) -> None:
        if not began:
            began.append((time.perf_counter(), time.process_time()))
        arrival = session.arrival()
        assert arrival is not None
        latencies_ms.append((time.time() - arrival.published_at) * 1000)
        if len(latencies_ms) == events:
            over.set()

    async with bus:
        while bus.statistics().partitions < _SETTINGS.partitions:  # noqa: ASYNC110  # nothing tells
            await anyio.sleep(0.02)
        ready.touch()  # noqa: ASYNC240  # once
        await over.wait()
        began_s, cpu_s = began[0]
        wall_s, used_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return Cost(events, wall_s, used_s, latencies_ms)


def _faststream() -> tuple[Any, Any]:
    from faststream.nats import JStream, NatsBroker  # noqa: PLC0415  # of the bench group
    from pydantic import BaseModel  # noqa: PLC0415  # the same

    class Delta(BaseModel):
        type: str
        event_id: str
        response_id: str
        item_id: str
        output_index: int
        content_index: int
        delta: str

    return (NatsBroker, JStream), Delta


async def publish_faststream(url: str, events: int) -> Cost:
    """Do the same with FastStream, from pydantic models."""
    (make, _), delta = _faststream()
    async with make(url, logger=None) as broker:
        client = await nats.connect(url)
        await client.jetstream().add_stream(name="fs", subjects=["fs.*.server.>"])
        await client.close()
        began_s, cpu_s = time.perf_counter(), time.process_time()
        for start in range(0, events, 256):
            sent = []
            for number in range(start, min(start + 256, events)):
                model = delta.model_validate_json(_FRAME % number)
                subject = f"fs.sess_{number % 50}.server.response.output_audio_transcript.delta"
                sent.append(broker.publish(model, subject, stream="fs"))
            await asyncio.gather(*sent)
        return Cost(events, time.perf_counter() - began_s, time.process_time() - cpu_s)


async def handle_faststream(url: str, events: int, ready: Path) -> Cost:
    """Handle them with FastStream, as pydantic models."""
    (make, stream), delta = _faststream()
    from faststream.nats import PullSub  # noqa: PLC0415  # of the bench group

    broker = make(url, logger=None)
    over = asyncio.Event()
    began: list[tuple[float, float]] = []
    seen = 0

    async def note(message: Any) -> None:  # noqa: ARG001  # made, and counted
        nonlocal seen
        if not began:
            began.append((time.perf_counter(), time.process_time()))
        seen += 1
        if seen == events:
            over.set()

    note.__annotations__["message"] = delta
    broker.subscriber(
        "fs.*.server.>",
        stream=stream(name="fs", subjects=["fs.*.server.>"]),
        durable="g",
        pull_sub=PullSub(batch_size=256, timeout=1.0),
    )(note)
    async with broker:
        await broker.start()
        ready.touch()  # noqa: ASYNC240  # once
        await over.wait()
        began_s, cpu_s = began[0]
        return Cost(events, time.perf_counter() - began_s, time.process_time() - cpu_s)


async def on_and_off(url: str, events: int, mode: str) -> Cost:
    """Handle frames in one process, with fan-out or without."""
    cost: list[Cost] = []

    async def measure(bus: Bus, drain: Callable[[], Awaitable[Any]]) -> None:
        @bus.on(ev.ResponseOutputAudioTranscriptDelta)
        def take(_event: ev.ResponseOutputAudioTranscriptDelta, _session: Session[Any]) -> None: ...

        async def feed(transports: list[PushTransport]) -> None:
            await drain()
            began_s, cpu_s = time.perf_counter(), time.process_time()
            for number in range(events // 50):
                for transport in transports:
                    transport.feed(_FRAME % number)
                await anyio.sleep(0.005)
            await drain()
            cost.append(Cost(events, time.perf_counter() - began_s, time.process_time() - cpu_s))

        await _sessions(bus, 50, feed)

    if mode == "off":
        await measure(Bus(), anyio.lowlevel.checkpoint)
    else:
        only = () if mode == "none wanted" else ("*",)
        async with NatsFanout("onoff", servers=url, events=only, settings=_SETTINGS) as fanout:
            await measure(Bus(plugins=[fanout]), lambda: fanout.drain(30))
    return cost[0]


ROLES: dict[str, Callable[..., Awaitable[Cost]]] = {
    "publish": publish,
    "paced": lambda url, events: publish(url, events, per_s=1000),
    "handle": handle,
    "publish_faststream": publish_faststream,
    "handle_faststream": handle_faststream,
    "on": lambda url, events: on_and_off(url, events, "on"),
    "none wanted": lambda url, events: on_and_off(url, events, "none wanted"),
    "off": lambda url, events: on_and_off(url, events, "off"),
}


# --- the runs ------------------------------------------------------------------------------------


def _start(role: str, url: str, events: int, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.fanout", "--role", role, url, str(events), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def _cost(process: subprocess.Popen[bytes]) -> Cost:
    out, _ = process.communicate(timeout=240)
    return msgspec.json.decode(out.splitlines()[-1], type=Cost)


def together(publisher: str, handler: str, events: int) -> tuple[Cost, Cost, float]:
    """Run both sides on a broker of their own; the broker's CPU of an event is the third."""
    with NatsServer() as broker, TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        if handler == "handle_faststream":  # it reads what is there already
            published = _cost(_start(publisher, broker.url, events))
            handling = _start(handler, broker.url, events, str(ready))
            handled = _cost(handling)
        else:
            handling = _start(handler, broker.url, events, str(ready))
            while not ready.exists():
                time.sleep(0.02)
            published = _cost(_start(publisher, broker.url, events))
            handled = _cost(handling)
        return published, handled, broker.cpu_s / events * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        role, url, events, *more = arguments.role
        cost = anyio.run(lambda: ROLES[role](url, int(events), *map(Path, more)))
        os.write(1, msgspec.json.encode(cost) + b"\n")
        return
    events = 1000 if arguments.smoke else arguments.events
    console = Console()
    table = Table(
        "", "published/s", "µs CPU", "handled/s", "µs CPU", "broker µs CPU", title="One broker"
    )
    pairs = [("realtime-bus", "publish", "handle")]
    try:
        _faststream()
        pairs.append(("FastStream, pydantic", "publish_faststream", "handle_faststream"))
    except ImportError:
        console.print("FastStream is not installed: uv sync --group bench")
    for name, publisher, handler in pairs:
        published, handled, broker_us = together(publisher, handler, events)
        table.add_row(
            name, f"{published.rate:.0f}", f"{published.cpu_us:.0f}", f"{handled.rate:.0f}",
            f"{handled.cpu_us:.0f}", f"{broker_us:.0f}",
        )  # fmt: skip
    console.print(table)
    _, paced, _ = together("paced", "handle", min(events, 10_000))
    cuts = statistics.quantiles(paced.latencies_ms, n=100)
    console.print(f"latency at 1000 events/s: p50 {cuts[49]:.2f} ms, p99 {cuts[98]:.2f} ms")
    table = Table("fan-out", "µs CPU a frame", title="In the process that holds the sessions")
    with NatsServer() as broker:
        for mode in ("off", "none wanted", "on"):
            table.add_row(mode, f"{_cost(_start(mode, broker.url, events)).cpu_us:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()

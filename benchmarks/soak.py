"""Sessions that go on for long, in trouble: what they hold must not grow.

    python -m benchmarks.soak hour --sessions 100 --processes 2
    python -m benchmarks.soak sockets --sessions 50 --minutes 10

Rules:

1. ``hour``: each session is an hour on a virtual clock with the local server in memory, by a seed:
   speech, text, tools, interruptions, and connections that are lost, stalled, delayed, doubled,
   refused, or come to their limit. At the end both conversations are equal but for what was told as
   lost, every request was resolved, every call answered once (`tests/properties/_faulty.py`), and
   the session has not ended. Tasks are counted every ten minutes.
2. ``sockets``: calls of 20 to 40 s, one after the other in so many places at once, against a
   `realtime-bus` server in a process of its own that cuts, closes and stalls connections. No call
   may end by itself, and no answer may stay away.
3. Flat: from the second quarter of the run to the last, no more than noise. Of hours, the objects
   that the garbage collector knows after each; of sockets, every second, both processes' resident
   memory, tasks and descriptors.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, NamedTuple

import anyio
import msgspec
import structlog
import trio
import trio.testing

from realtime_bus import Bus, ConnectionLost, Reconnect, RequestTimeout, SessionClosed
from realtime_bus import events as ev
from realtime_bus.server import (
    EnergyDetector,
    FaultPlan,
    Output,
    RealtimeServer,
    ResponderRequest,
    ServerOptions,
    Speech,
    Text,
    ToolCall,
    faults,
)
from realtime_bus_plugins.history import History
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.tools import Tools
from realtime_bus_plugins.turn_metrics import TurnMetrics

_MEMORY_NOISE = 1.05  # the last quarter's memory beside the second's


def _resident_mib(process: int | str = "self") -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _descriptors(process: int | str = "self") -> int:
    return len(os.listdir(f"/proc/{process}/fd"))  # noqa: PTH208  # names alone


# An hour on a virtual clock

_HOUR_S = 3600.0
_CODES = (1001, 1005, 1011, 1012, 1013)


def _hour_plan(seed: int) -> FaultPlan:
    """Have each connection but a few end in the middle, and be bad before."""
    pick = random.Random(seed)  # noqa: S311  # faults, not secrets
    found: list[faults.AnyFault] = []
    for number in range(1, 13):
        at: dict[str, Any] = {"connection": number, "after_s": pick.uniform(60.0, 900.0)}
        ends: list[faults.AnyFault] = [
            faults.Drop(**at),
            faults.Close(code=pick.choice(_CODES), **at),
            faults.HalfOpen(**at),
        ]
        if pick.random() < 0.8:
            found.append(pick.choice(ends))
        soon: dict[str, Any] = {"connection": number, "after_s": pick.uniform(0.0, 300.0)}
        noise: list[faults.AnyFault] = [
            faults.Delay(latency_s=0.2, jitter_s=0.2, for_s=60.0, **soon),
            faults.Stall(for_s=3.0, **soon),
            faults.Duplicate(times=5, **soon),
            faults.Unknown(times=5, **soon),
            faults.Malform(times=5, **soon),
        ]
        found += pick.sample(noise, 2)
    refused = faults.Refuse(connection=pick.randint(2, 4), status=503)
    return FaultPlan((*found, refused), seed=seed)


class Hour(NamedTuple):
    """What came of one: its figures, tasks every ten minutes, and what was found."""

    seed: int
    figures: Counter[str]
    tasks: list[int]
    objects: int
    resident_mib: float
    found: list[str]


def hour(seed: int, *, hour_s: float = _HOUR_S) -> Hour:
    """Live one session; its tests' world brings the client, the server and what to hold."""
    from tests.properties import _faulty, _world  # noqa: PLC0415  # needs the repository

    schedule = _faulty.FaultySchedule(seed)
    schedule.profile, schedule.plan, schedule.steps = "outliving", _hour_plan(seed), []
    tasks: list[int] = []
    world: Any = None

    async def main() -> None:
        nonlocal world
        world = _faulty.FaultyWorld(schedule)
        knobs = world.server._options  # noqa: SLF001  # the world's own
        options = msgspec.structs.replace(knobs, session_life_s=1200.0)
        world.server._options = options  # noqa: SLF001  # the world's own has no such knob
        failed: list[str] = []
        world.bus.on(ev.ReconnectFailed)(lambda event: failed.append(event.reason))
        world.schedule.steps = _Steps(seed, hour_s, tasks)
        await world.live()
        world.failures += [f"reconnecting failed: {reason}" for reason in failed]

    with _world.by_seed(seed):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    found = world.complaints()
    if world.ended:
        found.append("the session has ended")
    figures = Counter[str]()
    figures["steps"] = world.steps
    for told in world.reconnected:
        figures[f"connections taken over: {told.cause}"] += 1
    figures["faults"] = world.server.statistics().faults
    figures.update({f"request {name}": count for name, count in world.outcomes.items()})
    figures.update({name: world.seen[name] for name in ("interruptions", "answered calls")})
    gc.collect()
    return Hour(seed, figures, tasks, len(gc.get_objects()), _resident_mib(), found)


class _Steps(list[Any]):
    """Steps of a schedule, with pauses between, until the hour is over."""

    def __init__(self, seed: int, hour_s: float, tasks: list[int]) -> None:
        super().__init__()
        self._pick, self._hour_s, self._tasks = random.Random(seed), hour_s, tasks  # noqa: S311  # no secrets

    def __iter__(self) -> Any:
        from tests.properties._world import STEPS  # noqa: PLC0415  # needs the repository

        names, pick = sorted(STEPS), self._pick
        begun_s, looked_s = trio.current_time(), 0.0
        while (now_s := trio.current_time() - begun_s) < self._hour_s:
            if now_s - looked_s >= self._hour_s / 6:
                looked_s = now_s
                self._tasks.append(trio.lowlevel.current_statistics().tasks_living)
            for _ in range(pick.randint(1, 4)):
                yield pick.choice(names), pick.randint(0, 11)
            yield from (("wait", 3) for _ in range(pick.randint(1, 8)))  # 2 s each


def _hours(count: int, first: int, processes: int, minutes: float) -> int:
    begun_s, total, found = perf_counter(), Counter[str](), 0
    objects: list[float] = []
    memory: list[float] = []
    most_tasks = 0
    for done, one in enumerate(_lived(count, first, processes, minutes * 60.0), 1):
        total += one.figures
        objects.append(one.objects)
        memory.append(one.resident_mib)
        most_tasks = max(most_tasks, *one.tasks)
        for each in one.found:
            found += 1
            print(f"seed {one.seed}: {each:.2000}", flush=True)
        sys.stderr.write(f"\r{done} of {count}, {(perf_counter() - begun_s) / done:.1f} s each ")
    print(f"\n{count} sessions of {minutes:g} minutes in {perf_counter() - begun_s:.0f} s")
    for name, number in sorted(total.items()):
        print(f"  {name:40} {number:>8}")
    quarter = max(1, len(memory) // 4)
    early, late = (
        slice(quarter, 2 * quarter) if len(memory) > 3 else slice(None),
        slice(-quarter, None),
    )
    for name, seen in (("objects", objects), ("resident MiB", memory)):
        was, is_now = statistics.median(seen[early]), statistics.median(seen[late])
        print(f"  {name:40} {was:.1f} in the second quarter, {is_now:.1f} in the last")
    print(f"  tasks at most {most_tasks:>34}")
    # objects are counted exactly; what is resident says how full the heap once was, too
    flat = statistics.median(objects[late]) <= statistics.median(objects[early]) * 1.01
    print(f"{found} findings; memory is {'flat' if flat else 'NOT flat'}")
    return int(found > 0 or not flat)


def _lived(count: int, first: int, processes: int, hour_s: float) -> Any:
    _quiet()
    seeds = range(first, first + count)
    if processes == 1:
        yield from (hour(seed, hour_s=hour_s) for seed in seeds)
        return
    with ProcessPoolExecutor(processes, initializer=_quiet) as pool:
        for future in as_completed([pool.submit(hour, seed, hour_s=hour_s) for seed in seeds]):
            yield future.result()


# Real sockets


class _Answers:
    """Speaks, writes, or asks for a tool: by turns."""

    async def respond(self, request: ResponderRequest) -> AsyncGenerator[Output, None]:
        done = any(isinstance(item, ev.FunctionCallOutputItem) for item in request.items[-2:])
        if request.tools and not done and request.response_index % 5 == 1:
            yield ToolCall("look_up", '{"what": "it"}')
            return
        for number in range(5):
            word = f"word {number} "
            yield Speech(bytes(9600), word) if request.wants_audio else Text(word)


async def _serve() -> None:
    ends: list[faults.AnyFault] = [
        faults.Drop(after_s=7.0, p=0.3),
        faults.Drop(after_s=13.0, p=0.3, reset=True),
        faults.Close(after_s=10.0, p=0.3, code=1012),
        faults.Stall(after_s=5.0, p=0.3, for_s=1.0),
        faults.Unknown(times=3, p=0.01),
        faults.Malform(times=3, p=0.01),
    ]
    server = RealtimeServer(
        _Answers(),
        options=ServerOptions(pace=4.0, max_connections=1000),
        detector_factory=EnergyDetector,
        faults=FaultPlan(tuple(ends), seed=1),
    )
    async with server.serve() as bound:
        print(bound.url_for("any"), flush=True)
        await anyio.sleep_forever()


class _Sample(NamedTuple):
    memory_mib: float
    tasks: int
    descriptors: int
    server_memory_mib: float
    server_descriptors: int


class _Calls:
    """Calls in so many places at once, and what is seen of them."""

    def __init__(self, url: str, server: int, minutes: float) -> None:
        self._url, self._server = url, server
        self._until_s = monotonic() + minutes * 60
        self.figures: Counter[str] = Counter()
        self.found: list[str] = []
        self.samples: list[_Sample] = []

    async def run(self, places: int) -> None:
        self.before = self._sample()
        async with anyio.create_task_group() as tasks:
            for place in range(places):
                tasks.start_soon(self._place, random.Random(place))  # noqa: S311  # no secrets
            while monotonic() < self._until_s:
                await anyio.sleep(1.0)
                self.samples.append(self._sample())
        for _ in range(100):  # the server's side ends a moment later
            self.after = self._sample()
            if self.after.server_descriptors <= self.before.server_descriptors:
                break
            await anyio.sleep(0.1)

    def _sample(self) -> _Sample:
        return _Sample(
            _resident_mib(),
            len(anyio.get_running_tasks()),
            _descriptors(),
            _resident_mib(self._server),
            _descriptors(self._server),
        )

    async def _place(self, pick: random.Random) -> None:
        await anyio.sleep(pick.uniform(0, 5))
        while monotonic() < self._until_s:
            try:
                await self._call(pick)
                self.figures["calls"] += 1
            except Exception as error:
                self.found.append(repr(error))

    async def _call(self, pick: random.Random) -> None:
        sink, tools = NullSink(), Tools()

        @tools.tool
        async def look_up(what: str) -> str:
            await anyio.sleep(0.05)
            return what

        plugins: list[Any] = [sink, Interruption(sink), History(), TurnMetrics(), tools]
        bus = Bus(plugins=plugins, log_errors=False)
        bus.on(ev.Reconnected)(lambda _: self._count("connections taken over"))
        bus.on(ev.HandlerFailed)(lambda event: self.found.append(repr(event.error)))
        policy = Reconnect(first_delay_s=0.1, max_delay_s=1.0)
        ends_s = monotonic() + pick.uniform(20, 40)
        async with bus.connect(self._url, reconnect=policy) as session:
            while monotonic() < min(ends_s, self._until_s + 5):
                try:
                    await self._turn(session, pick)
                    self.figures["turns"] += 1
                except ConnectionLost:
                    self.figures["turns lost with a connection"] += 1
                except (RequestTimeout, SessionClosed, TimeoutError) as error:
                    self.found.append(repr(error))
                    return
                await anyio.sleep(pick.uniform(0.1, 1.0))

    def _count(self, name: str) -> None:
        self.figures[name] += 1

    async def _turn(self, session: Any, pick: random.Random) -> None:
        with anyio.fail_after(45):
            for _ in range(10):
                await session.append_audio(bytes(4800))
                await anyio.sleep(0.02)
            if pick.random() < 0.5:
                await session.send_text("And then?")
            wants: dict[str, Any] = {"output_modalities": ["text"]} if pick.random() < 0.3 else {}
            await session.respond(replace=True, **wants)


def _sockets(places: int, minutes: float) -> int:
    _quiet()
    command = [sys.executable, "-m", "benchmarks.soak", "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            calls = _Calls(server.stdout.readline().strip(), server.pid, minutes)
            anyio.run(calls.run, places)
        finally:
            server.terminate()
    print(f"{places} sessions at once for {minutes:g} minutes: {dict(calls.figures)}")
    quarter = max(1, len(calls.samples) // 4)
    flat = True
    for index, name in enumerate(_Sample._fields):
        early = [sample[index] for sample in calls.samples[quarter : 2 * quarter]]
        late = [sample[index] for sample in calls.samples[-quarter:]]
        was, is_now = statistics.median(early or late), statistics.median(late)
        ends = (calls.before[index], calls.after[index])
        grows = is_now > was * _MEMORY_NOISE + (0 if "memory" in name else 0.1 * places)
        leaks = "memory" not in name and ends[1] > ends[0]
        flat = flat and not grows and not leaks
        print(
            f"  {name:20} {was:8.1f} in the second quarter, {is_now:8.1f} in the last; "
            f"{ends[0]:.1f} before all, {ends[1]:.1f} after"
        )
    for each, times in Counter(calls.found).most_common(10):
        print(f"FOUND {times} times: {each:.500}")
    print(f"{len(calls.found)} findings; {'flat' if flat else 'NOT flat'}")
    return int(bool(calls.found) or not flat)


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def main(arguments: list[str] | None = None) -> int:
    """Soak, print, and return the exit code: 1 if something was found, or has grown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("what", choices=("hour", "sockets", "serve"))
    parser.add_argument("--sessions", type=int, help="100 hours, 50 sockets")
    parser.add_argument("--minutes", type=float, help="60 for an hour, 10 for sockets")
    parser.add_argument("--first", type=int, default=0, help="the first hour's seed")
    parser.add_argument("--processes", type=int, default=1, help="for the hours")
    options = parser.parse_args(arguments)
    if options.what == "serve":
        _quiet()
        anyio.run(_serve)
    if options.what == "sockets":
        return _sockets(options.sessions or 50, options.minutes or 10.0)
    return _hours(
        options.sessions or 100, options.first, options.processes, options.minutes or 60.0
    )


if __name__ == "__main__":
    sys.exit(main())

"""Cancel a session at every step of its life, and look at what is left of it.

    python -m benchmarks.cancel --every 1

Each life is lived against the local server over real sockets: once as it is, and then again and
again, cancelled after the first, second, third … turn of the event loop, until none is left.

Rules:

1. Ways: a cancel scope on asyncio and on trio, and asyncio's own ``task.cancel()``, which comes
   once and must not get lost. ``asyncio`` counts callbacks of the loop, ``trio`` steps of tasks.
   The server's are among them, so every moment between two of the session's own is met.
2. Lives: a whole one (opening, confirming, sending, requesting, responding with a tool, streaming,
   closing), one that loses its connection and recovers, one whose connection cannot be had again
   at first, and one that rolls over.
3. Lines: a plain socket, TLS, and both with picows, which runs on asyncio alone.
4. Whoever was cancelled ends as cancelled, within `LIMIT_S`. Then no task is left, no session at
   the server, no file descriptor, and nothing that says so when it is collected as garbage.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import ssl
import sys
import time
import traceback
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import product
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest import mock

import anyio
import anyio.lowlevel
import structlog
from trio.testing import MockClock

from realtime_bus import Bus, HostUnreachable, Reconnect, Session
from realtime_bus import events as ev
from realtime_bus.server import (
    EnergyDetector,
    Output,
    RealtimeServer,
    ResponderRequest,
    ServerOptions,
    Speech,
    Text,
    ToolCall,
    self_signed,
)
from realtime_bus.transport import Transport, dial, dial_picows
from realtime_bus_plugins.history import History
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.tools import Tools

LIMIT_S = 20.0
"""For everything that has to end; on a busy machine, too."""

WAYS = {"asyncio": "asyncio", "task": "asyncio", "trio": "trio"}
"""The backend of each way to cancel."""

_FDS = "/proc/self/fd"  # of Linux; elsewhere descriptors are not counted
_TICK = b"\1\0" * 480
_SECOND = b"\1\0" * 24_000


class _Answers:
    """Speaks, after it was told what it wanted to know."""

    async def respond(self, request: ResponderRequest) -> AsyncGenerator[Output, None]:
        if request.tools and not any(
            isinstance(item, ev.FunctionCallOutputItem) for item in request.items
        ):
            yield ToolCall("look_up", '{"what": "it"}', "call_1")
            return
        for word in ("one ", "two ", "three "):
            yield Speech(_TICK, word) if request.wants_audio else Text(word)


# Lives


class Line(NamedTuple):
    """What a life calls, and how.

    Attributes:
        server: Who answers.
        url: Where.
        dial: What opens a connection.
        ssl_context: Trusts the server, if it speaks TLS.
    """

    server: RealtimeServer
    url: str
    dial: Callable[..., Awaitable[Transport]]
    ssl_context: ssl.SSLContext | None

    def connect(self, bus: Bus, **options: Any) -> Any:
        """Call, as `Bus.connect` does."""
        options = {"dial": self.dial, "ssl_context": self.ssl_context, **options}
        return bus.connect(self.url, **options)


LINES = ("plain", "tls", "picows", "picows-tls")


def _bus(*, tools: bool = False) -> Bus:
    sink = NullSink()
    plugins: list[Any] = [sink, Interruption(sink), History()]
    if tools:
        known = Tools()

        @known.tool
        async def look_up(what: str) -> str:
            """Find it."""
            await anyio.lowlevel.checkpoint()
            return what

        plugins.append(known)
    return Bus(plugins=plugins, log_errors=False)


async def _whole(line: Line) -> None:
    bus = _bus(tools=True)
    async with line.connect(bus, instructions="Be short.", reconnect=False) as session:
        await session.send_text("Hello.")
        await session.update(instructions="Be shorter.")
        answered = session.wait_for(
            ev.ResponseDone, where=lambda done: bool(_spoken(done.response))
        )
        await session.respond()  # calls the tool; what it finds is answered by itself
        await answered
        words = [word async for word in session.respond(output_modalities=["text"]).text()]
        assert len(words) == 3
        spoken = session.stream(ev.ResponseOutputAudioDelta)
        await session.append_audio(_SECOND)
        await session.commit_input()
        reply = session.respond()
        async for _ in spoken:
            break
        await reply


def _spoken(response: ev.Response) -> list[Any]:
    return [item for item in response.output or () if isinstance(item, ev.MessageItem)]


async def _lost(line: Line) -> None:
    policy = Reconnect(first_delay_s=0.002, max_delay_s=0.002, gap_audio="keep")
    async with line.connect(_bus(), instructions="Last.", reconnect=policy) as session:
        await session.send_text("Before.")
        back = session.wait_for(ev.Reconnected)
        _of(line.server, session).drop()
        asked = session.respond(output_modalities=["text"])
        await session.append_audio(_TICK)
        await back
        with suppress(Exception):  # it may have begun before: then `ConnectionLost`
            await asked
        await session.send_text("After.")


async def _refused(line: Line) -> None:
    tries = 0

    async def dials(url: str, **options: Any) -> Transport:
        nonlocal tries
        tries += 1
        if tries in (2, 3):
            await anyio.lowlevel.checkpoint()
            raise HostUnreachable("not yet", url=url)
        return await line.dial(url, **options)

    await _lost(line._replace(dial=dials))


async def _rolled(line: Line) -> None:
    policy = Reconnect(session_limit_s=8.0)
    async with line.connect(_bus(), instructions="Long.", reconnect=policy) as session:
        back = session.wait_for(ev.Reconnected)
        await session.send_text("Before.")
        CLOCK.get().jump(6.5)
        assert (await back).cause == "rollover"
        await session.send_text("After.")


def _of(server: RealtimeServer, session: Session) -> Any:
    return next(each for each in server.sessions if each.session_id == session.id)


class Clock:
    """Lets time pass on asyncio's loop; trio's `MockClock` does it there."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def jump(self, seconds: float) -> None:
        """Let so much pass."""
        self._ahead_s += seconds

    def now_s(self) -> float:
        """Tell the time."""
        return time.monotonic() + self._ahead_s


CLOCK: ContextVar[Clock | MockClock] = ContextVar("CLOCK")

LIVES: dict[str, Callable[[Line], Awaitable[None]]] = {
    "whole": _whole,
    "lost": _lost,
    "refused": _refused,
    "rolled": _rolled,
}


# Steps


class Steps:
    """Counts the turns of the event loop, and cancels after one of them.

    Attributes:
        taken: So many since `begin`.
        fired: Whether there was a cancellation.
    """

    def __init__(self) -> None:
        self.taken = 0
        self.fired = False
        self._at: int | None = None
        self._cancel: Callable[[], object] | None = None

    def begin(self, at: int | None, cancel: Callable[[], object]) -> None:
        """Count from now on, and cancel after that step; None: never."""
        self.taken, self.fired, self._at, self._cancel = 0, False, at, cancel

    def end(self) -> None:
        """Cancel no more."""
        self._cancel = None

    def step(self) -> None:
        """Count one."""
        if self._cancel is None:
            return
        self.taken += 1
        if self.taken == self._at:
            self.fired = True
            cancel, self._cancel = self._cancel, None
            cancel()

    def after_task_step(self, _task: object) -> None:
        """Count one, as an instrument of trio's."""
        self.step()

    @contextmanager
    def on_asyncio(self, clock: Clock) -> Iterator[None]:
        """Count the callbacks of asyncio's loop, which goes by a clock."""
        run = asyncio.Handle._run  # noqa: SLF001  # the one place that all of them pass

        def counted(handle: asyncio.Handle) -> None:
            run(handle)
            self.step()

        with (
            mock.patch.object(asyncio.Handle, "_run", counted),
            mock.patch.object(asyncio.BaseEventLoop, "time", lambda _: clock.now_s()),  # noqa: PT008  # it goes on
        ):
            yield


# One life after the other


class Figures(NamedTuple):
    """What came of one life by one way: how often it was cancelled, and what was found."""

    cancelled: int
    steps: int
    found: list[str]


async def _lives(way: str, name: str, over: str, steps: Steps, first: int, every: int) -> Figures:
    options = ServerOptions(pace=float("inf"))
    server = RealtimeServer(_Answers(), options=options, detector_factory=EnergyDetector)
    found: list[str] = []
    cancelled, at = 0, first
    with TemporaryDirectory() as folder:
        tls = self_signed(folder) if over.endswith("tls") else None
        served = None if tls is None else tls.ssl_context
        trusted = None if tls is None else ssl.create_default_context(cafile=tls.ca_file)
    async with server.serve(tls=served) as bound:
        dials = dial_picows if over.startswith("picows") else dial
        line = Line(server, bound.url_for("any"), dials, trusted)
        for _ in range(3):  # what is made once: caches, and the memory of what is random
            if (wrong := await _one(way, name, steps, None, line, _Floor())) is not None:
                return Figures(0, steps.taken, [f"{name} by {way}, uncancelled: {wrong}"])
        floor = _Floor()
        longest = steps.taken
        while at <= 2 * longest:
            wrong = await _one(way, name, steps, at, line, floor)
            if wrong is not None:
                found.append(f"{name} by {way}, cancelled after step {at}: {wrong}")
                floor = _Floor()  # what is left is told once
            if not steps.fired:
                break
            cancelled += 1
            at += every
    return Figures(cancelled, longest, found)


class _Floor:
    """What there is before a life, and must be there again after it."""

    def __init__(self) -> None:
        self.tasks, self.fds = _tasks(), _fds()

    def above(self, server: RealtimeServer) -> str:
        """Tell what is left over."""
        open_sessions = server.statistics().open
        left = {"tasks": _tasks() - self.tasks, "descriptors": _fds() - self.fds}
        left["sessions at the server"] = open_sessions
        return ", ".join(f"{count} {what}" for what, count in left.items() if count > 0)


def _fds() -> int:
    return len(os.listdir(_FDS)) if os.path.isdir(_FDS) else 0  # noqa: PTH112, PTH208  # it is quick


def _tasks() -> int:
    return len(anyio.get_running_tasks())


async def _one(
    way: str,
    name: str,
    steps: Steps,
    at: int | None,
    line: Line,
    floor: _Floor,
) -> str | None:
    """Live once; return what is not as it should be."""
    live = _by_task if way == "task" else _by_scope
    with anyio.move_on_after(LIMIT_S) as limit:
        try:
            wrong = await live(lambda: LIVES[name](line), steps, at)
        except BaseException as error:  # not even a cancellation: none was meant for us
            if not isinstance(error, Exception) and limit.cancel_called:
                raise
            wrong = "".join(traceback.format_exception(error))
        steps.end()
    if limit.cancelled_caught:
        return f"it hangs, {floor.above(line.server)}"
    if wrong is not None:
        return wrong
    deadline_s = anyio.current_time() + LIMIT_S
    while left := floor.above(line.server):
        if anyio.current_time() > deadline_s:
            names = [task.name for task in anyio.get_running_tasks()]
            return f"there are left {left}: {names}"
        await anyio.sleep(0.001)
    return None


async def _by_scope(
    life: Callable[[], Awaitable[None]], steps: Steps, at: int | None
) -> str | None:
    done = False
    with anyio.CancelScope() as scope:
        steps.begin(at, scope.cancel)
        await life()
        steps.end()
        done = True
        await anyio.lowlevel.checkpoint()
    if steps.fired and not scope.cancelled_caught:
        return "the cancellation was lost"
    return None if done or steps.fired else "it was cancelled by nobody"


async def _by_task(life: Callable[[], Awaitable[None]], steps: Steps, at: int | None) -> str | None:
    accepted = False

    async def own() -> None:
        await life()

    def cancel() -> None:
        nonlocal accepted
        accepted = task.cancel()

    task = asyncio.create_task(own())
    steps.begin(at, cancel)
    try:
        await asyncio.wait([task])
    finally:
        steps.end()
        if not task.done():
            task.cancel()
    if accepted and not task.cancelled():
        error = task.exception()
        told = "" if error is None else "".join(traceback.format_exception(error))
        return f"the cancellation was lost {told}"
    if not task.cancelled() and (error := task.exception()) is not None:
        return "".join(traceback.format_exception(error))
    return None


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what the interpreter says of what was left: sockets, coroutines, tasks."""
    found: list[str] = []

    def note(unraisable: Any) -> None:
        found.append(f"{unraisable.exc_value!r} in {unraisable.object!r}")

    with warnings.catch_warnings(), mock.patch.object(sys, "unraisablehook", note):
        warnings.simplefilter("error", ResourceWarning)
        warnings.simplefilter("error", RuntimeWarning)
        yield found
        gc.collect()


def run(way: str, name: str, *, over: str = "plain", first: int = 1, every: int = 1) -> Figures:
    """Live one of the `LIVES` over one of the `LINES`.

    Cancelled by one of the `WAYS` at every step, or every n-th.
    """
    steps = Steps()
    backend = WAYS[way]
    with _complaints() as complaints:
        if backend == "trio":
            CLOCK.set(MockClock(rate=1.0))
            options: dict[str, Any] = {"instruments": [steps], "clock": CLOCK.get()}
            figures = anyio.run(
                _lives,
                way,
                name,
                over,
                steps,
                first,
                every,
                backend=backend,
                backend_options=options,
            )
        else:
            CLOCK.set(clock := Clock())
            with steps.on_asyncio(clock):
                figures = anyio.run(_lives, way, name, over, steps, first, every, backend=backend)
    found = [f"{name} by {way}: {complaint}" for complaint in complaints]
    return figures._replace(found=figures.found + found)


def main(arguments: list[str] | None = None) -> int:
    """Cancel, print, and return the exit code: 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cancel")
    parser.add_argument("--every", type=int, default=1, help="of the steps; %(default)s")
    parser.add_argument("--first", type=int, default=1, help="the first step; %(default)s")
    parser.add_argument("--only", default=",".join(LIVES), help="some lives of %(default)s")
    parser.add_argument("--ways", default=",".join(WAYS), help="some of %(default)s")
    parser.add_argument("--over", default="plain", help=f"some of {','.join(LINES)}; %(default)s")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    total, failed = 0, 0
    asked = (options.over, options.ways, options.only)
    for over, way, name in product(*(each.split(",") for each in asked)):
        if over.startswith("picows") and WAYS[way] == "trio":
            continue
        begun_s = time.perf_counter()
        figures = run(way, name, over=over, first=options.first, every=options.every)
        total, failed = total + figures.cancelled, failed + len(figures.found)
        took_s = time.perf_counter() - begun_s
        print(
            f"{over:10} {way:8} {name:8} {figures.cancelled:6} cancellations of "
            f"{figures.steps} steps, {len(figures.found)} findings, {took_s:.0f} s",
            flush=True,
        )
        for each in figures.found[:3]:
            print(f"    {each}")
    print(f"{total} cancellations, {failed} findings")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

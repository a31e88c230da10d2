"""Dispatch: from an event in hand until its handlers have run.

All rows run on asyncio, in one process, with the same events and the same handler, which counts
down. Events are dispatched from a callback of the loop, as a socket's are. Async rows are timed
until the last handler has run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, cast

import anyio

from realtime_bus import Bus, HandlerOptions
from realtime_bus import events as ev
from realtime_bus.events._registry import REALTIME
from realtime_bus.transport import PushTransport
from realtime_bus.transport._asyncio import asyncio_in_callbacks

from ._figures import Figure, Section, interleaved_async

__all__ = ["COLUMNS", "Countdown", "DispatchRow", "dispatch", "own_dispatch_rows"]

OURS = "realtime-bus, plain handlers"
COLUMNS = {"1 handler": (1, 1), "10 handlers": (10, 1), "1 of 46 handlers": (1, 46)}
"""How many handlers each event has, and of how many types there are handlers."""

_EVENT = ev.InputAudioBufferSpeechStarted(event_id="event_1", audio_start_ms=1, item_id="item_1")
_INLINE: HandlerOptions = {"mode": "inline"}
_PARALLEL: HandlerOptions = {"mode": "parallel"}


class Countdown:
    """The handler: it counts down, and tells when nothing is left."""

    def __init__(self) -> None:
        self.left = 0
        self.done = asyncio.Event()

    def expect(self, count: int) -> None:
        """Start over."""
        self.left = count
        self.done.clear()

    def plain(self) -> Callable[[Any], None]:
        """Return a plain handler, a new one each time."""

        def handle(_event: Any) -> None:
            self.left -= 1
            if not self.left:
                self.done.set()

        return handle

    def awaited(self) -> Callable[[Any], Coroutine[Any, Any, None]]:
        """Return an async handler, a new one each time."""

        async def handle(_event: Any) -> None:
            self.left -= 1
            if not self.left:
                self.done.set()

        return handle


Dispatch = Callable[[Any], object]


class DispatchRow(NamedTuple):
    """One way to dispatch.

    Attributes:
        name: What the tables call it.
        rule: What is measured.
        needs: The module without which it is left out.
        prepare: Given the stack of contexts, the countdown, the handlers of each event and the
            event classes that have handlers, return what dispatches.
    """

    name: str
    rule: str
    needs: str | None
    prepare: Callable[
        [AsyncExitStack, Countdown, int, Sequence[type[ev.Event]]], Awaitable[Dispatch]
    ]


def _bus_row(name: str, rule: str, options: HandlerOptions, *, is_async: bool) -> DispatchRow:
    async def prepare(
        stack: AsyncExitStack, countdown: Countdown, count: int, classes: Sequence[type[ev.Event]]
    ) -> Dispatch:
        bus: Any = Bus()
        for cls in classes:
            for _ in range(count):
                handler = countdown.awaited() if is_async else countdown.plain()
                bus.on(cls, **options)(handler)
        transport = PushTransport(send=len)
        session = await stack.enter_async_context(bus.session(transport, wait_created=False))
        return cast("Dispatch", session.emit)

    return DispatchRow(name, rule, None, prepare)


async def _dict(
    _stack: AsyncExitStack, countdown: Countdown, count: int, classes: Sequence[type[ev.Event]]
) -> Dispatch:
    table: dict[type, list[Callable[[Any], None]]] = {
        cls: [countdown.plain() for _ in range(count)] for cls in classes
    }

    def send(event: object) -> None:
        for handler in table.get(type(event), ()):
            handler(event)

    return send


async def _stream(
    stack: AsyncExitStack, countdown: Countdown, count: int, classes: Sequence[type[ev.Event]]
) -> Dispatch:
    tasks = await stack.enter_async_context(anyio.create_task_group())
    table: dict[type, list[Any]] = {cls: [] for cls in classes}

    async def work(receive: Any, handler: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        async for event in receive:
            await handler(event)

    for cls in classes:
        for _ in range(count):
            send, receive = anyio.create_memory_object_stream[Any](100_000)
            stack.callback(send.close)
            stack.callback(receive.close)
            tasks.start_soon(work, receive, countdown.awaited())
            table[cls].append(send)
    stack.callback(tasks.cancel_scope.cancel)  # the first to be called at the end

    def send_all(event: Any) -> None:
        for stream in table[type(event)]:
            stream.send_nowait(event)

    return send_all


async def _tasks(
    stack: AsyncExitStack, countdown: Countdown, count: int, classes: Sequence[type[ev.Event]]
) -> Dispatch:
    tasks = await stack.enter_async_context(anyio.create_task_group())
    table = {cls: [countdown.awaited() for _ in range(count)] for cls in classes}

    def send(event: Any) -> None:
        for handler in table[type(event)]:
            tasks.start_soon(handler, event)

    return send


def own_dispatch_rows() -> list[DispatchRow]:
    """Return ours, and the floors that need nothing else."""
    return [
        _bus_row(OURS, "Session.emit; handlers run inline", {}, is_async=False),
        _bus_row("realtime-bus, inline async", "… async handlers, inline", _INLINE, is_async=True),
        _bus_row("realtime-bus, mailboxes", "Session.emit; async handlers", {}, is_async=True),
        _bus_row("realtime-bus, parallel", "… in mode parallel", _PARALLEL, is_async=True),
        DispatchRow("floor: dict and call", "a dict of lists of functions", None, _dict),
        DispatchRow("anyio stream and task", "a memory stream and task a handler", None, _stream),
        DispatchRow("a task an event", "TaskGroup.start_soon for each handler", None, _tasks),
    ]


async def _measure(
    rows: list[DispatchRow], column: tuple[int, int], calls: int, rounds: int
) -> dict[str, Figure]:
    count, types = column
    events = calls // count
    others = [cls for cls in REALTIME.server.values() if cls is not type(_EVENT)]
    classes: list[type[ev.Event]] = [type(_EVENT), *others[: types - 1]]
    async with AsyncExitStack() as stack:
        work: dict[str, Callable[[], Awaitable[object]]] = {}
        for row in rows:
            countdown = Countdown()
            send = await row.prepare(stack, countdown, count, classes)
            work[row.name] = _round(send, countdown, events, count)
        return await interleaved_async(work, units=events, rounds=rounds)


def _round(
    send: Dispatch, countdown: Countdown, events: int, count: int
) -> Callable[[], Awaitable[object]]:
    def send_all() -> None:
        for _ in range(events):
            send(_EVENT)

    async def run() -> None:
        countdown.expect(events * count)
        with asyncio_in_callbacks():  # where a socket's events come from: a loop's callback
            asyncio.get_running_loop().call_soon(send_all)
        await countdown.done.wait()

    return run


def dispatch(
    rows: list[DispatchRow],
    *,
    left_out: dict[str, str],
    calls: int = 10_000,
    rounds: int = 15,
    progress: Callable[[], object] = lambda: None,
) -> Section:
    """Measure the time of an event."""
    figures: dict[str, dict[str, Figure]] = {}
    for name, column in COLUMNS.items():
        figures[name] = asyncio.run(_measure(rows, column, calls, rounds))
        progress()
    return Section(
        "dispatch",
        f"Dispatch: from an event in hand until all its handlers have run; {calls} calls at "
        "once, the same handler, which counts down",
        ("µs", 1e6),
        figures,
        {row.name: row.rule for row in rows},
        OURS,
        left_out,
    )

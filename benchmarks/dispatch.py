"""Dispatch beside blinker, pyee, anyio's streams and openai-python's loop; and delivery.

Delivery is from a frame in hand until its handler has run: decoding and dispatch together, without
a socket. Unheard frames are those whose type has no handler: they are counted, and not decoded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio

from realtime_bus import Bus
from realtime_bus.cli import bench
from realtime_bus.cli.bench import (
    OURS,
    Countdown,
    DispatchRow,
    Figure,
    Section,
    Tally,
    audio_frames,
    counting_bus,
    interleaved_async,
    mixed_frames,
    small_frames,
    tallying_taker,
)
from realtime_bus.transport import PushTransport


async def _blinker(
    _stack: AsyncExitStack, countdown: Countdown, count: int, classes: list[type]
) -> Callable[[Any], object]:
    from blinker import Signal  # noqa: PLC0415  # a peer need not be installed

    signals = {cls: Signal() for cls in classes}
    for signal in signals.values():
        for _ in range(count):
            signal.connect(countdown.plain(), weak=False)
    return lambda event: signals[type(event)].send(event)


async def _pyee(
    _stack: AsyncExitStack, countdown: Countdown, count: int, classes: list[type], *, is_async: bool
) -> Callable[[Any], object]:
    from pyee.asyncio import AsyncIOEventEmitter  # noqa: PLC0415  # a peer

    emitter = AsyncIOEventEmitter()
    for cls in classes:
        for _ in range(count):
            emitter.on(cls.__name__, countdown.awaited() if is_async else countdown.plain())
    return lambda event: emitter.emit(type(event).__name__, event)


async def _openai(
    _stack: AsyncExitStack, countdown: Countdown, count: int, classes: list[type]
) -> Callable[[Any], object]:
    from openai._event_handler import EventHandlerRegistry  # noqa: PLC0415  # a peer

    registry = EventHandlerRegistry(use_lock=False)
    for cls in classes:
        for _ in range(count):
            registry.add(str(cls.__struct_config__.tag), countdown.plain())

    def send(event: Any) -> None:  # the body of dispatch_events
        kind = event.type
        specific, generic = registry.get_handlers(kind), registry.get_handlers("event")
        for handler in (*specific, *generic):
            handler(event)

    return send


def dispatch(*, rounds: int) -> Section:
    """Measure ours, the floors and the peers that are installed."""
    signal, emitter = "a signal of each type; receivers run inline", "AsyncIOEventEmitter; "
    rows = [
        *bench.dispatch_rows(),
        DispatchRow("blinker", signal, "blinker", _blinker),
        DispatchRow("pyee", emitter + "plain handlers", "pyee", partial(_pyee, is_async=False)),
        DispatchRow("pyee, async", emitter + "a task each", "pyee", partial(_pyee, is_async=True)),
        DispatchRow("openai-python", "dispatch_events' loop, handlers by .on", "openai", _openai),
    ]
    return bench.dispatch(rows, rounds=rounds)


_UNHEARD, _FLOOR = f"{OURS}, unheard", "floor: msgspec + dict"
_RULES = {
    OURS: "PushTransport.feed; plain handlers that count; audio by reading event.delta",
    _UNHEARD: "PushTransport.feed, without any handler",
    _FLOOR: "46 plain structs, pybase64, a dict of functions; no session",
}


def deliver(*, rounds: int) -> Section:
    """Measure the time of a frame."""
    small, audio = small_frames(720), audio_frames(280)
    columns = {"small": small, "audio, read": audio, "mix, read": mixed_frames(small, audio)}
    figures = {
        column: asyncio.run(_delivered(frames, rounds)) for column, frames in columns.items()
    }
    title = "Deliver: from a frame in hand until its handler has run; the same frames and handler"
    return Section("deliver", title, ("µs", 1e6), figures, _RULES, OURS, {})


async def _delivered(frames: list[bytes], rounds: int) -> dict[str, Figure]:
    async with AsyncExitStack() as stack:

        async def session(bus: Bus) -> Callable[[bytes], object]:
            transport = PushTransport(send=len)
            await stack.enter_async_context(bus.session(transport, wait_created=False))
            await anyio.wait_all_tasks_blocked()  # it reads: from now on, in the call that feeds it
            return transport.feed

        def a_round(take: Callable[[bytes], object]) -> Callable[[], Awaitable[object]]:
            async def run() -> None:
                for frame in frames:
                    take(frame)

            return run

        work = {
            OURS: a_round(await session(counting_bus(Tally()))),
            _UNHEARD: a_round(await session(Bus())),
            _FLOOR: a_round(tallying_taker(Tally())),
        }
        return await interleaved_async(work, units=len(frames), rounds=rounds)

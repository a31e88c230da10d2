"""Dispatch beside blinker, pyee, anyio's streams and openai-python's loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from realtime_bus.cli._bench import _dispatch
from realtime_bus.cli._bench._dispatch import Countdown, DispatchRow
from realtime_bus.cli._bench._figures import Section
from realtime_bus.cli._bench._processes import is_installed

__all__ = ["rows", "section"]


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
    _stack: AsyncExitStack, countdown: Countdown, count: int, classes: list[type]
) -> Callable[[Any], object]:
    from pyee.asyncio import AsyncIOEventEmitter  # noqa: PLC0415  # a peer

    emitter = AsyncIOEventEmitter()
    for cls in classes:
        for _ in range(count):
            emitter.on(cls.__name__, countdown.plain())
    return lambda event: emitter.emit(type(event).__name__, event)


async def _pyee_async(
    _stack: AsyncExitStack, countdown: Countdown, count: int, classes: list[type]
) -> Callable[[Any], object]:
    from pyee.asyncio import AsyncIOEventEmitter  # noqa: PLC0415  # a peer

    emitter = AsyncIOEventEmitter()
    for cls in classes:
        for _ in range(count):
            emitter.on(cls.__name__, countdown.awaited())
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


def rows() -> list[DispatchRow]:
    """Return ours, the floors and the peers."""
    return [
        *_dispatch.own_dispatch_rows(),
        DispatchRow("blinker", "a signal of each type; receivers run inline", "blinker", _blinker),
        DispatchRow("pyee", "AsyncIOEventEmitter; plain handlers", "pyee", _pyee),
        DispatchRow("pyee, async", "the same; async handlers, a task each", "pyee", _pyee_async),
        DispatchRow("openai-python", "dispatch_events' loop, handlers by .on", "openai", _openai),
    ]


def section(*, rounds: int, progress: Callable[[], object] = lambda: None) -> Section:
    """Measure all that is installed."""
    found = [row for row in rows() if is_installed(row.needs)]
    left_out = {r.name: f"{r.needs} is not installed" for r in rows() if not is_installed(r.needs)}
    return _dispatch.dispatch(found, left_out=left_out, rounds=rounds, progress=progress)

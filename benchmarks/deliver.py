"""Frame in hand until its handler ran: decoding and dispatch together, without a socket.

Unheard frames are those whose type has no handler: they are counted, and not decoded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from realtime_bus import Bus
from realtime_bus.cli._bench._bare import sans_io_taker
from realtime_bus.cli._bench._figures import Figure, Section, interleaved_async
from realtime_bus.cli._bench._frames import audio_frames, mixed_frames, small_frames
from realtime_bus.cli._bench._handler import Tally
from realtime_bus.cli._bench._rows import counting_bus
from realtime_bus.transport import PushTransport

__all__ = ["section"]

OURS, UNHEARD, FLOOR = "realtime-bus", "realtime-bus, unheard", "floor: msgspec + dict"
RULES = {
    OURS: "Session.deliver; plain handlers that count; audio by reading event.delta",
    UNHEARD: "Session.deliver, without any handler",
    FLOOR: "46 plain structs, pybase64, a dict of functions; no session",
}
COLUMNS = {
    "small": small_frames(1000),
    "audio, read": audio_frames(200),
    "mix, read": mixed_frames(720, 280),
}

_Take = Callable[[bytes], object]


def section(*, rounds: int, progress: Callable[[], object] = lambda: None) -> Section:
    """Measure the time of a frame."""
    figures: dict[str, dict[str, Figure]] = {}
    for column, frames in COLUMNS.items():
        figures[column] = asyncio.run(_measure(frames, rounds))
        progress()
    title = "Deliver: from a frame in hand until its handler has run; the same frames and handler"
    return Section("deliver", title, ("µs", 1e6), figures, RULES, OURS, {})


async def _measure(frames: list[bytes], rounds: int) -> dict[str, Figure]:
    async with AsyncExitStack() as stack:
        takers = {
            OURS: await _session(stack, counting_bus(Tally())),
            UNHEARD: await _session(stack, Bus()),
            FLOOR: sans_io_taker(Tally()),
        }
        work = {name: _round(take, frames) for name, take in takers.items()}
        return await interleaved_async(work, units=len(frames), rounds=rounds)


async def _session(stack: AsyncExitStack, bus: Bus) -> _Take:
    transport = PushTransport(send=len)
    session = await stack.enter_async_context(bus.session(transport, wait_created=False))
    return session.deliver


def _round(take: _Take, frames: list[bytes]) -> Callable[[], Awaitable[object]]:
    async def run() -> None:
        for frame in frames:
            take(frame)

    return run

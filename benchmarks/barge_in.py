"""Barge-in: how late the start of speech is handled, and how soon the sink is silent."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import anyio

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.cli._bench import _socket
from realtime_bus.cli._bench._figures import Figure, Section, figure
from realtime_bus.cli._bench._processes import Sender
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted
from realtime_bus_plugins.sinks import NullSink

from . import _peers
from ._peers import rows

__all__ = ["rows", "section", "silence"]

_OURS = "realtime-bus"
_LIMIT_S = 60.0


def section(*, rounds: int, progress: Callable[[], object] = lambda: None) -> Section:
    """Measure all that is installed."""
    return _socket.backlog(rows(), module=_peers.__name__, rounds=rounds, progress=progress)


def silence(
    *, rounds: int, count: int = 300, progress: Callable[[], object] = lambda: None
) -> Section:
    """Measure from the frame of ``speech_started`` being read until the sink is silent."""
    taken: dict[str, list[float]] = {"p50": [], "p99": [], "max": []}
    with Sender() as sender:
        for number in range(rounds + 1):
            found = anyio.run(_interruptions, sender, count)
            progress()
            if number:
                cuts = statistics.quantiles(found, n=100)
                for name, value in zip(taken, (cuts[49], cuts[98], max(found)), strict=True):
                    taken[name].append(value)
    figures: dict[str, dict[str, Figure]] = {
        name: {_OURS: figure(values)} for name, values in taken.items()
    }
    return Section(
        "silence",
        f"Barge-in: from reading the frame of speech_started to silence at the sink, {count} "
        "interruptions, each behind 20 audio deltas whose async handler takes 5 ms",
        ("ms", 1e3),
        figures,
        {_OURS: "Interruption with a NullSink: PlaybackInterrupted.latency_s"},
        _OURS,
        {},
        "median",
    )


async def _interruptions(sender: Sender, count: int) -> list[float]:
    sink = NullSink()
    bus = Bus(plugins=[sink, Interruption(sink)], drain_timeout_s=0.01)
    found: list[float] = []
    all_of_them = anyio.Event()

    @bus.on(ev.ResponseOutputAudioDelta)
    async def play(_: ev.ResponseOutputAudioDelta) -> None:
        await anyio.sleep(0.005)

    @bus.on(PlaybackInterrupted)
    def interrupted(event: PlaybackInterrupted) -> None:
        found.append(event.latency_s)
        if len(found) == count:
            all_of_them.set()

    async with bus.connect(sender.url, api_key="none"):
        sender.tell({"do": "cycles", "count": count, "audio": 20})
        with anyio.fail_after(_LIMIT_S):
            await all_of_them.wait()
        await anyio.to_thread.run_sync(sender.hear)
    return found

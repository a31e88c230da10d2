"""What is handled twice is marked, however a partition has changed hands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio.abc import TaskGroup

from benchmarks.broker import NatsServer
from realtime_bus import events as ev
from realtime_bus_plugins.fanout import RemoteBus, RemoteSession
from realtime_bus_plugins.fanout._group import read_record
from tests.bus._peer import speech
from tests.fanout.test_attacks import _kill
from tests.fanout.test_workers import Until, holding, worker

pytestmark = pytest.mark.anyio


async def _all_is_marked(
    broker: NatsServer, app: str, *, tasks: TaskGroup, leave: Callable[[RemoteBus], Awaitable[None]]
) -> None:
    """Let a worker handle ten events, acknowledge none, and go as told; read what comes again."""
    first, last = worker(broker, app), worker(broker, app)
    had, again = Until(), Until()
    first.on(ev.InputAudioBufferSpeechStarted)(had.event)

    @first.on(ev.InputAudioBufferSpeechStarted)
    async def stuck(event: ev.InputAudioBufferSpeechStarted) -> None:
        await anyio.sleep_forever()

    @last.on(ev.InputAudioBufferSpeechStarted)
    async def works(event: ev.InputAudioBufferSpeechStarted, session: RemoteSession) -> None:
        arrival = session.arrival()
        assert arrival is not None
        again(event.audio_start_ms, arrival.repeated)

    async with holding(broker, app) as (_, _session, peer):
        life, gone = anyio.CancelScope(), anyio.Event()

        async def live() -> None:
            with life:
                async with first:
                    await first.run()
            gone.set()

        tasks.start_soon(live)
        peer.say(*map(speech, range(10)))
        await had.has(10)
        await leave(first)
        life.cancel()
        await gone.wait()
        async with last:
            assert await again.has(10) == [(number, True) for number in range(10)]


async def test_a_double_is_marked_although_an_owner_between_saw_little_of_it(
    broker: NatsServer, app: str
) -> None:
    """What a killed worker had is remembered by the next one, which hands over at once."""
    between, begun = worker(broker, app, prefetch=1, drain_timeout_s=0), Until()

    @between.on(ev.InputAudioBufferSpeechStarted)
    async def slow(event: ev.InputAudioBufferSpeechStarted) -> None:
        begun(event)
        await anyio.sleep_forever()

    async def killed(first: RemoteBus) -> None:
        _kill(first)
        async with between:
            await begun.has(1)

    async with anyio.create_task_group() as tasks:
        await _all_is_marked(broker, app, tasks=tasks, leave=killed)


async def test_a_double_is_marked_although_handing_over_took_two_attempts(
    broker: NatsServer, app: str
) -> None:
    """The first one did not reach the bucket, and in the second there is nothing to finish."""

    async def hands_over(first: RemoteBus) -> None:
        group = first._group
        assert group is not None
        first._drain_timeout_s = 0.0
        group._leaving = True
        for partition in list(group.partitions):
            entry = await first._broker.groups.get(f"g.p.{partition}")
            await group._release(partition, read_record(entry.value or b""), 0)
            await group._hand_over(partition)
        group._mine.clear()

    async with anyio.create_task_group() as tasks:
        await _all_is_marked(broker, app, tasks=tasks, leave=hands_over)

"""Workers: the same decorators elsewhere; each session in order, in one worker at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import nats
import pytest

from benchmarks.broker import NatsServer
from realtime_bus import Bus, HandlerGroup, UsageError
from realtime_bus import events as ev
from realtime_bus_plugins.fanout import (
    EventsMissing,
    NatsFanout,
    Redelivery,
    RemoteBus,
    RemoteSession,
    StreamSettings,
)
from tests.bus._peer import Peer, joined, speech, word

pytestmark = pytest.mark.anyio

SMALL = StreamSettings(partitions=4, lease_s=1)


class OrderPlaced(ev.AppEvent):
    """An order."""

    number: int


class Until:
    """Waits until something has come often enough."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self._changed = anyio.Event()

    def __call__(self, *what: Any) -> None:
        """Note what has come."""
        self.got.append(what[0] if len(what) == 1 else what)
        self._changed.set()
        self._changed = anyio.Event()

    def event(self, event: Any) -> None:
        """Note an event, as a handler."""
        self(event)

    async def has(self, count: int, within_s: float = 60) -> list[Any]:
        """Return what has come, once that is so many."""
        with anyio.fail_after(within_s):
            while len(self.got) < count:
                await self._changed.wait()
        return self.got


@asynccontextmanager
async def holding(
    broker: NatsServer, app: str, session_id: str = "sess_1", **options: Any
) -> AsyncGenerator[tuple[NatsFanout, Any, Peer]]:
    """Hold a session."""
    async with NatsFanout(
        app, servers=broker.url, settings=SMALL, session_id=lambda _: session_id, **options
    ) as fanout:
        async with joined(Bus(plugins=[fanout])) as (session, peer):
            yield fanout, session, peer


def worker(broker: NatsServer, app: str, **options: Any) -> RemoteBus:
    """Return a bus in a worker."""
    given: dict[str, Any] = {"group": "g", "start": "all", "settings": SMALL, **options}
    return RemoteBus(app, servers=broker.url, **given)


async def test_handlers_get_typed_events_in_order(broker: NatsServer, app: str) -> None:
    """By class, by name, by pattern, with a predicate, from a group; plain and async."""
    bus, got, named, grouped, own = worker(broker, app), Until(), Until(), Until(), Until()

    @bus.on(ev.InputAudioBufferSpeechStarted, where=lambda e: e.audio_start_ms % 2 == 0)
    async def even(event: ev.InputAudioBufferSpeechStarted, session: RemoteSession) -> None:
        got(session.id, event.audio_start_ms)

    @bus.on("response.*.delta")
    def delta(event: Any) -> None:
        named(event.delta)

    group = HandlerGroup()

    @group.on(ev.SessionCreated)
    async def created(event: ev.SessionCreated) -> None:
        grouped(event.session)

    bus.on(OrderPlaced)(own.event)
    bus.include(group)
    async with bus, holding(broker, app) as (_, session, peer):
        for number in range(100):
            peer.say(speech(number), word(str(number)))
        session.emit(OrderPlaced(number=3))
        assert await got.has(50) == [("sess_1", number) for number in range(0, 100, 2)]
        assert await named.has(100) == [str(number) for number in range(100)]
        assert (await grouped.has(1))[0].id == "sess_1"
        assert (await own.has(1))[0].number == 3
        figures = {each.handler.rpartition(".")[2]: each for each in bus.statistics().handlers}
        assert figures["even"].delivered == 50


async def test_two_groups_have_everything_and_two_workers_share(
    broker: NatsServer, app: str
) -> None:
    """Every group gets every event; in a group each session is handled by one worker."""
    seen: dict[str, Until] = {name: Until() for name in ("one", "two", "other")}
    every = Until()
    patient = StreamSettings(partitions=4, lease_s=30)  # a busy machine must not move sessions
    buses = {
        "one": worker(broker, app, settings=patient),
        "two": worker(broker, app, settings=patient),
        "other": worker(broker, app, settings=patient, group="h"),
    }
    for name, bus in buses.items():

        def note(
            event: ev.InputAudioBufferSpeechStarted, session: RemoteSession, name: str = name
        ) -> None:
            seen[name](session.id, event.audio_start_ms)
            if name != "other":
                every(name)

        bus.on(ev.InputAudioBufferSpeechStarted)(note)
    async with buses["one"], buses["two"], buses["other"]:
        with anyio.fail_after(60):
            shares = [0, 0]
            while shares != [2, 2]:
                await anyio.sleep(0.01)
                shares = [buses[n].statistics().partitions for n in ("one", "two")]
        async with NatsFanout(
            app,
            servers=broker.url,
            settings=patient,
            session_id=lambda session: str(session.state),
        ) as fanout:
            hub = Bus(plugins=[fanout])
            async with anyio.create_task_group() as calls:

                async def call(name: str) -> None:
                    async with joined(hub, state=name) as (_, peer):
                        for number in range(20):
                            peer.say(speech(number))
                            await anyio.lowlevel.checkpoint()

                for number in range(12):
                    calls.start_soon(call, f"sess_{number}")
        await seen["other"].has(240)
        await every.has(240)
    one = {session for session, _ in seen["one"].got}
    two = {session for session, _ in seen["two"].got}
    assert one
    assert two
    assert not one & two
    assert len(one | two) == 12
    for name in one | two:
        numbers = [n for who in ("one", "two") for s, n in seen[who].got if s == name]
        assert numbers == list(range(20))


async def test_what_was_not_done_comes_again_elsewhere(broker: NatsServer, app: str) -> None:
    """A worker that is cancelled leaves its unfinished events to the next one, in order."""
    first, second = worker(broker, app), worker(broker, app)
    begun, done = Until(), Until()

    @first.on(ev.InputAudioBufferSpeechStarted)
    async def stuck(event: ev.InputAudioBufferSpeechStarted) -> None:
        begun(event.audio_start_ms)
        if event.audio_start_ms == 3:
            await anyio.sleep_forever()

    @second.on(ev.InputAudioBufferSpeechStarted)
    async def works(event: ev.InputAudioBufferSpeechStarted, session: RemoteSession) -> None:
        arrival = session.arrival()
        assert arrival is not None
        done(event.audio_start_ms, arrival.repeated)

    async with holding(broker, app) as (_, _session, peer):
        with anyio.CancelScope() as life:
            async with anyio.create_task_group() as tasks:

                async def live() -> None:
                    async with first:
                        await first.run()

                tasks.start_soon(live)
                for number in range(10):
                    peer.say(speech(number))
                await begun.has(4)
                life.cancel()
        async with second:
            got = await done.has(7)
            assert [number for number, _ in got] == list(range(3, 10))
            assert all(repeated for _, repeated in got)


async def test_a_failing_handler_gets_its_event_again_and_others_wait_behind(
    broker: NatsServer, app: str
) -> None:
    """With pauses that grow; after the last attempt it is a dead letter, and order is kept."""
    bus = worker(broker, app, redelivery=Redelivery(attempts=3, first_delay_s=0.01))
    tried, beside = Until(), Until()

    @bus.on(ev.InputAudioBufferSpeechStarted, name="picky")
    async def picky(event: ev.InputAudioBufferSpeechStarted) -> None:
        tried(event.audio_start_ms)
        if event.audio_start_ms == 1 or (event.audio_start_ms == 2 and tried.got.count(2) < 2):
            raise ValueError("not this one")

    bus.on(ev.InputAudioBufferSpeechStarted)(beside.event)
    async with bus, holding(broker, app) as (_, _session, peer):
        for number in range(4):
            peer.say(speech(number))
        assert await tried.has(7) == [0, 1, 1, 1, 2, 2, 3]
        assert len(await beside.has(4)) == 4
        assert bus.statistics().given_up == 1
    client = await nats.connect(broker.url)
    dead = await client.jetstream().get_last_msg(f"{app}_dead", f"{app}.sess_1.dead.g.picky")
    assert dead.data == speech(1).to_json()
    assert dead.headers is not None
    assert "not this one" in dead.headers["Rb-Error"]
    await client.close()


async def test_a_group_goes_on_where_it_was_and_a_replay_begins_where_it_is_told(
    broker: NatsServer, app: str
) -> None:
    """What was acknowledged does not come again; another group can start from a number."""
    first, second = worker(broker, app), worker(broker, app)
    got, later, replayed = Until(), Until(), Until()
    places: dict[int, int] = {}

    @first.on(ev.InputAudioBufferSpeechStarted)
    def one(event: ev.InputAudioBufferSpeechStarted, session: RemoteSession) -> None:
        arrival = session.arrival()
        assert arrival is not None
        places[event.audio_start_ms] = arrival.stream_sequence
        got(event.audio_start_ms)

    second.on(ev.InputAudioBufferSpeechStarted)(later.event)
    async with holding(broker, app) as (fanout, _session, peer):
        for number in range(5):
            peer.say(speech(number))
        async with first:
            await got.has(5)
        for number in range(5, 8):
            peer.say(speech(number))
        async with second:
            assert [e.audio_start_ms for e in await later.has(3)] == [5, 6, 7]
        again = worker(broker, app, group=None, start=places[2])
        again.on(ev.InputAudioBufferSpeechStarted)(replayed.event)
        assert await fanout.drain()
        async with again:
            assert [e.audio_start_ms for e in await replayed.has(6)] == [2, 3, 4, 5, 6, 7]


async def test_events_that_were_dropped_are_missed(own_broker: NatsServer, app: str) -> None:
    """A hole in a session's numbers is counted and told."""
    bus, missing = worker(own_broker, app), Until()
    bus.on(EventsMissing)(missing.event)
    async with bus, holding(own_broker, app, max_pending=10) as (fanout, _session, peer):
        assert await fanout.drain()
        own_broker.kill()
        while fanout.statistics().connected:
            await anyio.lowlevel.checkpoint()
        for number in range(30):
            peer.say(speech(number))
        await anyio.to_thread.run_sync(own_broker.start)
        assert await fanout.drain(20)
        hole = (await missing.has(1))[0]
        assert hole.last - hole.first + 1 == 20
        assert bus.statistics().missing == 20


async def test_what_cannot_work_is_said_at_once() -> None:
    """Names, starts and options that make no sense."""
    for wrong in (
        {"app": "a.b", "group": "g"},
        {"app": "a", "group": "g.*"},
        {"app": "a", "group": "g", "prefetch": 0},
        {"app": "a", "group": "g", "plugins": [object()]},
    ):
        options: Any = wrong
        with pytest.raises(UsageError):
            RemoteBus(**options)
    with pytest.raises(UsageError, match="stands for no event"):
        NatsFanout("a", events=["respone.done"])

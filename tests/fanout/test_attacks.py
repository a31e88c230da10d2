"""Hostile neighbours, a caller too many, and everything killed at once."""

from __future__ import annotations

from typing import Any

import anyio
import nats
import pytest

from benchmarks.broker import NatsServer
from realtime_bus import Bus, UsageError
from realtime_bus import events as ev
from realtime_bus_plugins.fanout import (
    BrokerUnreachable,
    NatsFanout,
    Redelivery,
    RemoteBus,
    RemoteSession,
)
from tests.bus._peer import joined, speech
from tests.fanout.test_workers import SMALL, Until, holding, worker

pytestmark = pytest.mark.anyio

NONSENSE: list[tuple[str, bytes, dict[str, str]]] = [
    ("x.server.response.done", b"", {}),
    ("x.server.response.done", b"[" * 200_000, {"Rb-Seq": "-1", "Rb-Time": "9" * 40}),
    ("x.server.response.done", b'{"type":"response.done","response":7}', {"Rb-Seq": "x"}),
    ("x.server.%s", b"\xff\xfe", {"Nats-Msg-Id": "a" * 2000}),
    ("x.bus.bus.closed", b'{"type":"bus.closed","code":"no"}', {"Rb-Protocol": "translation"}),
    ("x.bus.bus.handler_failed", b'{"type":"bus.handler_failed","handler":1,"error":[]}', {}),
    ("x.bus.y", b'{"type":"' + b"y" * 100_000 + b'"}', {"Rb-Seq": "18446744073709551616"}),
    ("=FF=FE.server.session.created", b'{"type":"session.created"}', {"Rb-Holder": "*"}),
    ("=.server.a", b"null", {"Rb-Seq": "5"}),
]


async def test_nonsense_in_the_stream_harms_nobody(broker: NatsServer, app: str) -> None:
    """Whoever may publish can publish anything: the worker goes on with the next event."""
    bus, got, unknown = worker(broker, app), Until(), Until()
    bus.on(ev.InputAudioBufferSpeechStarted)(got.event)
    bus.on(ev.InvalidFrame | ev.UnknownEvent)(unknown.event)
    async with holding(broker, app) as (fanout, _session, peer):
        client = await nats.connect(broker.url)
        for subject, payload, headers in NONSENSE * 3:
            await client.publish(f"{app}.{subject}", payload, headers=headers)
        await client.flush()
        await client.close()
        peer.say(speech(7))
        assert await fanout.drain()
        async with bus:
            assert (await got.has(1))[0].audio_start_ms == 7
            assert unknown.got
            with anyio.fail_after(60):
                while bus.statistics().unsettled:  # noqa: ASYNC110  # nothing tells
                    await anyio.sleep(0.01)
            assert bus.statistics().given_up == 0


async def test_nonsense_in_the_buckets_harms_nobody(broker: NatsServer, app: str) -> None:
    """Records, leases and entries that cannot be read count as not there."""
    bus, got = worker(broker, app), Until()
    bus.on(ev.InputAudioBufferSpeechStarted)(got.event)
    async with holding(broker, app) as (fanout, _session, peer):
        client = await nats.connect(broker.url)
        js = client.jetstream()
        groups, leases = await js.key_value(f"{app}_groups"), await js.key_value(f"{app}_leases")
        for key in ("g.p.0", "g.p.x", "g.p.99", "g.p.1"):
            await groups.put(key, b"{" * 5000)
        await leases.put("member.g.nobody", b"\xff")
        await leases.put("member.g", b"")
        await (await js.key_value(f"{app}_sessions")).put("sess_1", b"nonsense")
        await client.close()
        peer.say(*map(speech, range(10)))
        assert await fanout.drain()
        async with bus:
            assert len(await got.has(10)) == 10


async def test_many_calls_leave_nothing_behind(broker: NatsServer, app: str) -> None:
    """Two hundred calls, one after the other in ten places: all is let go when they end."""
    bus, got = worker(broker, app), Until()

    @bus.on(ev.Closed)
    async def over(_event: ev.Closed, session: RemoteSession) -> None:
        got(session.id)

    numbers = iter(range(1000))
    async with (
        bus,
        NatsFanout(
            app, servers=broker.url, settings=SMALL, session_id=lambda _: f"sess_{next(numbers)}"
        ) as fanout,
    ):
        hub = Bus(plugins=[fanout])

        async def calls() -> None:
            for _ in range(20):
                async with joined(hub) as (_session, peer):
                    peer.say(speech(1))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(calls)
        assert len(set(await got.has(200))) == 200
        with anyio.fail_after(60):
            while bus.statistics().sessions or fanout.statistics().sessions:  # noqa: ASYNC110  # nobody tells
                await anyio.sleep(0.01)
        assert bus.statistics().unsettled == 0
        assert len(fanout._broker.client._subs) < 10


async def test_a_worker_killed_again_and_again_by_one_event_goes_on_without_it(
    broker: NatsServer, app: str
) -> None:
    """An event at which workers die is given up in the end; those behind it are handled."""
    got: list[int] = []
    deaths = 0
    async with holding(broker, app) as (fanout, _session, peer):
        peer.say(*map(speech, range(6)))
        assert await fanout.drain()
        while len(got) < 5 and deaths < 12:
            bus = worker(broker, app, redelivery=Redelivery(attempts=1))
            died, done = anyio.Event(), anyio.Event()

            @bus.on(ev.InputAudioBufferSpeechStarted)
            async def deadly(
                event: ev.InputAudioBufferSpeechStarted,
                died: anyio.Event = died,
                done: anyio.Event = done,
            ) -> None:
                if event.audio_start_ms == 3:
                    died.set()
                    await anyio.sleep_forever()
                if event.audio_start_ms not in got:
                    got.append(event.audio_start_ms)
                if len(got) == 5:
                    done.set()

            with anyio.CancelScope() as life:
                async with bus, anyio.create_task_group() as tasks:

                    async def end(event: anyio.Event, life: anyio.CancelScope = life) -> None:
                        await event.wait()
                        _kill(bus)  # noqa: B023  # this round's
                        life.cancel()

                    tasks.start_soon(end, died)
                    tasks.start_soon(end, done)
                    await anyio.sleep_forever()
            deaths += died.is_set()
    assert got == [0, 1, 2, 4, 5]


def _kill(bus: RemoteBus) -> None:
    """Let a worker hand nothing over, as if its process had been killed."""
    assert bus._group is not None
    bus._group._mine.clear()
    bus._group._leaving = bus._group._left = True


async def test_without_a_broker_the_error_says_where(app: str) -> None:
    """On entering, in time, without what is secret."""
    wrong: dict[str, Any] = {"servers": "nats://user:secret@127.0.0.1:1", "open_timeout_s": 0.2}
    for made in (NatsFanout(app, **wrong), RemoteBus(app, group="g", **wrong)):
        with pytest.raises(BrokerUnreachable) as unreachable:
            async with made:
                pytest.fail("there is no broker")
        assert "127.0.0.1:1" in str(unreachable.value)
        assert "secret" not in str(unreachable.value)


async def test_what_the_block_raises_comes_out_as_it_is(broker: NatsServer, app: str) -> None:
    """Not in a group, from neither side."""
    for made in (
        NatsFanout(app, servers=broker.url, settings=SMALL),
        worker(broker, app),
    ):
        with pytest.raises(ZeroDivisionError):
            async with made:
                _ = 1 / 0


async def test_a_slow_worker_has_no_more_in_hand_than_it_asked_for(
    broker: NatsServer, app: str
) -> None:
    """What it has not pulled stays in the stream; when it goes on, nothing is missing."""
    bus, gate, got = worker(broker, app, prefetch=8), anyio.Event(), Until()

    @bus.on(ev.InputAudioBufferSpeechStarted)
    async def slow(event: ev.InputAudioBufferSpeechStarted) -> None:
        got(event.audio_start_ms)
        await gate.wait()

    async with holding(broker, app) as (fanout, _session, peer):
        peer.say(*map(speech, range(500)))
        assert await fanout.drain()
        async with bus:
            await got.has(1)
            with anyio.fail_after(60):
                while bus.statistics().unsettled < 5:  # noqa: ASYNC110  # nothing tells
                    await anyio.sleep(0.01)
            assert bus.statistics().received < 8 + 8
            gate.set()
            assert await got.has(500) == list(range(500))


async def test_all_workers_and_the_broker_die_at_once(own_broker: NatsServer, app: str) -> None:
    """What was not done is done by those who come after."""
    first, second = worker(own_broker, app), worker(own_broker, app)
    begun, done = Until(), Until()

    @first.on(ev.InputAudioBufferSpeechStarted)
    async def stuck(event: ev.InputAudioBufferSpeechStarted) -> None:
        begun(event.audio_start_ms)
        if event.audio_start_ms == 20:
            await anyio.sleep_forever()

    second.on(ev.InputAudioBufferSpeechStarted)(done.event)
    async with holding(own_broker, app) as (fanout, _session, peer):
        peer.say(*map(speech, range(100)))
        assert await fanout.drain()
        with anyio.CancelScope() as life:
            async with first:
                await begun.has(21)
                _kill(first)
                own_broker.kill()
                life.cancel()
                await anyio.sleep_forever()
        await anyio.to_thread.run_sync(own_broker.start)
        async with second:
            with anyio.fail_after(60):
                while 99 not in {event.audio_start_ms for event in done.got}:
                    await done.has(len(done.got) + 1)
        numbers = [event.audio_start_ms for event in done.got]
        assert numbers == list(range(numbers[0], 100))
        assert numbers[0] <= 20


async def test_wrong_credentials_and_streams_are_named() -> None:
    """What the broker says is in the error: not only that it took too long."""
    with NatsServer("authorization { user: a, password: b }") as guarded:
        wrong = guarded.url.replace("//", "//a:wrong@")
        with pytest.raises(BrokerUnreachable, match="Authorization"):
            async with NatsFanout("app", servers=wrong, open_timeout_s=1):
                pytest.fail("nobody may enter")


async def test_a_stream_that_cannot_be_made_is_a_misuse(broker: NatsServer, app: str) -> None:
    """Another stream has the subjects already."""
    client = await nats.connect(broker.url)
    await client.jetstream().add_stream(name=f"{app}_other", subjects=[f"{app}.>"])
    await client.close()
    with pytest.raises(UsageError, match="overlap"):
        async with NatsFanout(app, servers=broker.url, settings=SMALL):
            pytest.fail("nothing can be published")


def test_a_beginning_that_cannot_be_is_told_at_once() -> None:
    """Not when the group begins."""
    for start in ("old", -4, True, 0):
        with pytest.raises(UsageError, match="start="):
            RemoteBus("app", group="g", start=start)  # type: ignore[arg-type]  # that is the test


async def test_several_may_wait_until_everything_is_published(broker: NatsServer, app: str) -> None:
    """Each of them is told."""
    async with holding(broker, app) as (fanout, _session, peer):
        peer.say(*map(speech, range(50)))
        told: list[bool] = []

        async def wait() -> None:
            told.append(await fanout.drain(60))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(wait)
        assert told == [True] * 5


async def test_a_lease_that_ran_out_while_it_was_renewed_is_lost(
    broker: NatsServer, app: str
) -> None:
    """Handlers that were held back then wait to be left; the worker takes its share anew."""
    bus, got = worker(broker, app), Until()
    bus.on(ev.InputAudioBufferSpeechStarted)(got.event)
    async with bus, holding(broker, app) as (_fanout, _session, peer):
        peer.say(speech(0))
        await got.has(1)
        group = bus._group
        assert group is not None
        before = {id(part) for part in bus._parts.values()}
        group._renewed_s -= 10  # the loop was blocked, with a renewal on its way
        await group._renew()
        assert group.holds_lease()
        assert not before & {id(part) for part in bus._parts.values()}
        peer.say(speech(1))
        await got.has(2)


async def test_consumers_that_a_dead_worker_left_are_removed(broker: NatsServer, app: str) -> None:
    """It died between making its own and removing the last one."""
    async with worker(broker, app) as bus:
        with anyio.fail_after(60):
            while bus.statistics().partitions < 4:  # noqa: ASYNC110  # nothing tells
                await anyio.sleep(0.01)
    client = await nats.connect(broker.url)
    js = client.jetstream()
    await js.add_consumer(app, durable_name="g-0-0", filter_subject=f"{app}.0.>")
    async with worker(broker, app):
        with anyio.fail_after(60):
            while "g-0-0" in {each.name for each in await js.consumers_info(app)}:  # noqa: ASYNC110  # nobody tells
                await anyio.sleep(0.01)
    await client.close()

"""What a broker refuses, cannot take, forbids, loses or forgets."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import anyio
import nats
import pytest
from nats.js import api

from benchmarks.broker import NatsServer
from realtime_bus import Bus, InvalidEvent, RequestTimeout, UsageError
from realtime_bus import events as ev
from realtime_bus_plugins.fanout import (
    BrokerUnreachable,
    Fleet,
    NatsFanout,
    Redelivery,
    RemoteBus,
    StreamSettings,
)
from tests.bus._peer import joined, speech
from tests.fanout.test_publishing import stored
from tests.fanout.test_talking_back import echoing
from tests.fanout.test_workers import SMALL, Until, holding, worker

pytestmark = pytest.mark.anyio

_MAX_PAYLOAD = 1024 * 1024


def frame_of(size_bytes: int) -> bytes:
    """Return a frame that is just so large."""
    head, tail = b'{"type":"response.done","event_id":"', b'"}'
    return head + b"a" * (size_bytes - len(head) - len(tail)) + tail


# what is too large


async def test_a_frame_that_is_too_large_with_its_headers_is_counted_and_told(
    broker: NatsServer, app: str
) -> None:
    """The broker would end the connection, and after it the next one: so it is not sent."""
    async with holding(broker, app) as (fanout, _session, peer):
        for less in (0, 20, 60, 500):
            peer.say(frame_of(_MAX_PAYLOAD - less))
        peer.say(speech(1))
        assert await fanout.drain(20)
        figures = fanout.statistics()
        assert (figures.rejected, figures.resent) == (3, 0)
    subjects = [message.subject for message in await stored(broker.url, app)]
    assert sum("speech_started" in subject for subject in subjects) == 1
    assert sum("response.done" in subject for subject in subjects) == 1


async def test_a_dead_letter_that_would_be_too_large_says_where_the_event_is(
    broker: NatsServer, app: str
) -> None:
    """With the headers of its failure it is larger than the event was."""
    bus, got = worker(broker, app, redelivery=Redelivery(attempts=1)), Until()

    @bus.on("response.done", name="picky")
    async def picky(_event: Any) -> None:
        raise ValueError("x" * 600)

    bus.on(ev.InputAudioBufferSpeechStarted)(got.event)
    async with holding(broker, app) as (fanout, _session, peer):
        peer.say(frame_of(_MAX_PAYLOAD - 400), speech(1))
        async with bus:
            await got.has(1)
            with anyio.fail_after(20):
                while not bus.statistics().given_up or bus.statistics().unsettled:  # noqa: ASYNC110  # nothing tells
                    await anyio.sleep(0.01)
        assert await fanout.drain()
    client = await nats.connect(broker.url)
    dead = await client.jetstream().get_last_msg(f"{app}_dead", f"{app}.sess_1.dead.g.picky")
    assert dead.headers is not None
    whole = await client.jetstream().get_msg(app, int(dead.headers["Rb-Stream-Seq"]))
    assert not dead.data
    assert len(whole.data or b"") == _MAX_PAYLOAD - 400
    await client.close()


async def test_commands_and_answers_that_are_too_large_are_refused_at_once(
    broker: NatsServer, app: str
) -> None:
    """Not sent again and again until it took too long."""

    def long_winded(event: object) -> list[ev.ServerEvent]:
        if not isinstance(event, ev.ConversationItemCreate):
            return []
        words = ev.InputText(text="x" * 2 * _MAX_PAYLOAD)
        item = ev.MessageItem(id=getattr(event.item, "id", None), role="user", content=[words])
        return [ev.ConversationItemAdded(item=item, previous_item_id=None)]

    async with worker(broker, app) as bus, holding(broker, app) as (_, _session, peer):
        peer.answer = long_winded
        with pytest.raises(InvalidEvent, match="max_payload"):
            await bus.session("sess_1").send_text("a" * _MAX_PAYLOAD)
        with pytest.raises(UsageError, match="its answer is larger"):
            await bus.session("sess_1").send_text("a")


# what cannot be sent


@pytest.mark.parametrize(
    "trace", [{"a b": "x", "": "y"}, {"n": 7}, {"x": "\ud800"}, {"Rb-Seq": "9"}, 5, None]
)
async def test_trace_context_that_cannot_be_sent_is_left_out(
    broker: NatsServer, app: str, trace: Any
) -> None:
    """An application's headers hold up nothing, and are never in the place of ours."""

    def headers(_session: object) -> Any:
        if trace is None:
            raise ValueError("no context")
        return trace

    async with holding(broker, app, trace=headers) as (fanout, _session, peer):
        peer.say(speech(1))
        assert await fanout.drain(20)
    numbers = [message.headers["Rb-Seq"] for message in await stored(broker.url, app)]
    assert numbers == ["1", "2", "3", "4"]


async def test_a_dead_letter_obeys_no_header_of_its_event(broker: NatsServer, app: str) -> None:
    """What the stream took may be what the stream of dead letters must refuse."""
    bus = worker(broker, app, redelivery=Redelivery(attempts=1))

    @bus.on("response.done")
    async def picky(_event: Any) -> None:
        raise ValueError("no")

    client = await nats.connect(broker.url)
    async with bus:
        await client.jetstream().publish(
            f"{app}.x.server.response.done", b"{}", headers={"Nats-Expected-Stream": app}
        )
        await client.jetstream().publish(
            f"{app}.x.server.response.done",
            b'{"type":"response.done"}',
            headers={"Nats-Expected-Stream": app},
        )
        with anyio.fail_after(20):
            while not bus.statistics().given_up or bus.statistics().unsettled:  # noqa: ASYNC110  # nothing tells
                await anyio.sleep(0.01)
    assert (await client.jetstream().stream_info(f"{app}_dead")).state.messages == 1
    await client.close()


# what is forbidden, and what is not there


async def test_what_the_broker_forbids_is_said(app: str) -> None:
    """A time-out says what the broker has refused meanwhile."""
    worker_only = '{ user: a, password: b, permissions: { publish: { deny: "*.*.command" } } }'
    with NatsServer(f"authorization {{ users: [ {worker_only} ] }}") as guarded:
        url = guarded.url.replace("//", "//a:b@")
        bus = RemoteBus(app, group="g", servers=url, settings=SMALL)
        async with bus, NatsFanout(app, servers=url, settings=SMALL) as fanout:
            async with joined(Bus(plugins=[fanout])):
                with pytest.raises(RequestTimeout, match="permissions violation for publish"):
                    await bus.session("sess_1").request(ev.InputAudioBufferClear(), timeout_s=0.1)


async def test_streams_of_others_are_not_taken_for_ours(broker: NatsServer, app: str) -> None:
    """An application whose dead letters would go to another one's stream does not begin."""
    async with NatsFanout(f"{app}_dead", servers=broker.url, settings=SMALL):
        pass
    with pytest.raises(UsageError, match="made for something else"):
        async with NatsFanout(app, servers=broker.url, settings=SMALL):
            pytest.fail("its dead letters have no place")
    with pytest.raises(UsageError, match="replicas > 1"):
        async with NatsFanout(f"{app}b", servers=broker.url, settings=StreamSettings(replicas=3)):
            pytest.fail("one broker keeps no three replicas")


async def test_settings_that_come_too_late_are_told(
    broker: NatsServer, app: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who comes first has made the streams: three replicas that are one must be no surprise."""
    async with NatsFanout(app, servers=broker.url, settings=SMALL):
        pass
    assert "made otherwise" not in caplog.text
    async with NatsFanout(app, servers=broker.url, settings=StreamSettings(max_age_s=60)):
        pass
    (told,) = [record.getMessage() for record in caplog.records]
    assert "partitions=4" in told
    assert "max_age_s=86400" in told
    assert "replicas" not in told


async def test_a_full_stream_is_waited_for(broker: NatsServer, app: str) -> None:
    """One that refuses what is new (`discard: new`): events wait, and go on in order."""
    full = StreamSettings(partitions=4, lease_s=1, max_bytes=20_000)
    async with NatsFanout(app, servers=broker.url, settings=full) as fanout:
        client = await nats.connect(broker.url)
        js = client.jetstream()
        config = (await js.stream_info(app)).config
        config.discard = api.DiscardPolicy.NEW
        await js.update_stream(config)
        async with joined(Bus(plugins=[fanout])) as (_, peer):
            peer.say(*map(speech, range(80)))
            with anyio.fail_after(20):
                while not fanout.statistics().resent:  # noqa: ASYNC110  # nothing tells
                    await anyio.sleep(0.01)
            first = [message.data for message in await stored(broker.url, app)]
            await js.purge_stream(app)
            assert await fanout.drain(20)
            second = [message.data for message in await stored(broker.url, app)]
        assert [data for data in first + second if b"speech_started" in data] == [
            speech(number).to_json() for number in range(80)
        ]
        await client.close()


@pytest.mark.parametrize("group", ["g", None])
async def test_a_broker_that_has_forgotten_everything_begins_anew(
    own_broker: NatsServer, app: str, group: str | None
) -> None:
    """Streams in memory are gone with it: they are made again, and what waited is handled."""
    fleeting = StreamSettings(partitions=4, lease_s=1, storage="memory")
    bus, got = worker(own_broker, app, group=group), Until()
    bus.on(ev.InputAudioBufferSpeechStarted)(got.event)
    async with NatsFanout(app, servers=own_broker.url, settings=fleeting) as fanout, bus:
        async with joined(Bus(plugins=[fanout])) as (_, peer):
            peer.answer = echoing
            peer.say(*map(speech, range(20)))
            await got.has(20)
            assert await fanout.drain()
            own_broker.kill()
            await anyio.to_thread.run_sync(own_broker.start)
            peer.say(*map(speech, range(20, 40)))
            assert await fanout.drain(20)
            numbers = [event.audio_start_ms for event in await got.has(40)]
            assert numbers == list(range(40))
            assert (await bus.session("sess_1").send_text("still there")).item.type == "message"


# cancelled


# nats-py's `wait_for` drops a socket that is connected in the moment of its cancellation; Python
# closes it, and says so
@pytest.mark.filterwarnings(
    "ignore:unclosed <StreamWriter:ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize("which", [NatsFanout, RemoteBus, Fleet])
async def test_cancelled_wherever_it_may_be_nothing_is_left(
    broker: NatsServer, app: str, which: Any
) -> None:
    """By a scope, and by `Task.cancel`, which is said once: no task stays, and it is heeded."""
    more: dict[str, Any] = {RemoteBus: {"group": "g"}}.get(which, {})

    async def use(over: list[bool]) -> None:
        async with which(app, servers=broker.url, **more) as made:
            if isinstance(made, Fleet):
                async with made.follow("sess_1"):
                    pass
        over.append(True)

    async with NatsFanout(app, servers=broker.url):
        pass
    before = asyncio.all_tasks()
    for turns in range(0, 90, 3):
        over: list[bool] = []
        task = asyncio.ensure_future(use(over))
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = task.cancel()
        with anyio.fail_after(20):
            await asyncio.wait([task])
        assert task.cancelled() or not cancelled
        with anyio.move_on_after(0.0005 * turns):
            await use(over)
    with anyio.fail_after(20):
        while asyncio.all_tasks() - before:  # noqa: ASYNC110  # nothing tells
            await anyio.sleep(0.01)
    gc.collect()  # what would warn of such a socket does so here


async def test_opened_twice_is_a_misuse(broker: NatsServer, app: str) -> None:
    """And the first one goes on; closed, it may be opened again."""
    fanout = NatsFanout(app, servers=broker.url, settings=SMALL)
    for _ in range(2):
        async with fanout:
            with pytest.raises(UsageError, match="open already"):
                await fanout.__aenter__()
            assert await fanout.drain()
    with pytest.raises(BrokerUnreachable):
        async with Fleet(app, servers="nats://127.0.0.1:1", open_timeout_s=0.1):
            pass

"""What a session does is in the stream, as its frames were, and the session never waits."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import nats
import pytest

from benchmarks.broker import NatsServer
from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus_plugins.fanout import FanoutOverflow, NatsFanout, StreamSettings
from tests.bus._peer import joined, sound, speech, word

pytestmark = pytest.mark.anyio

SMALL = StreamSettings(partitions=4, lease_s=1)


class OrderPlaced(ev.AppEvent):
    """An order."""

    number: int


async def stored(url: str, app: str) -> list[Any]:
    """Return all messages of an application's stream, in order."""
    client = await nats.connect(url)
    js = client.jetstream()
    count = (await js.stream_info(app)).state.messages
    sub = await js.subscribe(f"{app}.>", stream=app, ordered_consumer=True)
    found = [await sub.next_msg(5) for _ in range(count)]
    await client.close()
    return found


async def test_frames_are_published_as_they_came(broker: NatsServer, app: str) -> None:
    """The payload is the frame itself; the subject says whose and what; headers count and name."""
    odd = b'{"type":"response.done" , "response":{"id":"resp_1","new_field":[1, 2]}}'
    async with NatsFanout(app, servers=broker.url, settings=SMALL) as fanout:
        async with joined(Bus(plugins=[fanout])) as (session, peer):
            peer.say(odd)
            await session.send(ev.InputAudioBufferClear())
            session.emit(OrderPlaced(number=7))
        assert await fanout.drain()
    found = await stored(broker.url, app)
    by_subject = {message.subject.split(".", 2)[2]: message for message in found}
    assert by_subject["sess_1.server.response.done"].data == odd
    assert b"input_audio_buffer.clear" in by_subject["sess_1.client.input_audio_buffer.clear"].data
    assert OrderPlaced.from_json(by_subject["sess_1.bus.app.order_placed"].data).number == 7
    assert found[0].subject.endswith("sess_1.server.session.created")
    assert found[-1].subject.endswith("sess_1.bus.bus.closed")
    numbers = [int(m.headers["Rb-Seq"]) for m in found if ".client." not in m.subject]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({message.headers["Nats-Msg-Id"] for message in found}) == len(found)
    assert {message.headers["Rb-Protocol"] for message in found} == {"realtime"}


async def test_audio_is_left_out_unless_asked_for(broker: NatsServer, app: str) -> None:
    """Audio is not published by default, nor is what no selector names."""
    for name, options, expected in (
        (f"{app}a", {}, {"session.created", "response.output_text.delta"}),
        (f"{app}b", {"audio": True}, {"session.created", "response.output_text.delta",
                                      "response.output_audio.delta"}),
        (f"{app}c", {"events": ["response.output_audio.*", ev.SessionCreated], "audio": True},
         {"session.created", "response.output_audio.delta"}),
    ):  # fmt: skip
        more: Any = options
        async with NatsFanout(name, servers=broker.url, settings=SMALL, **more) as fanout:
            async with joined(Bus(plugins=[fanout])) as (_, peer):
                peer.say(sound(b"\0\0" * 100), word("hello"))
        found = await stored(broker.url, name)
        server = [m.subject for m in found if m.subject.split(".")[3] == "server"]
        assert {subject.split(".", 4)[4] for subject in server} == expected


async def test_a_hostile_id_stays_one_token(broker: NatsServer, app: str) -> None:
    """An id or a type with dots, wildcards and blanks reaches no other subject."""
    evil = "a.b.*.> \r\nPUB x 1"
    async with NatsFanout(
        app, servers=broker.url, settings=SMALL, session_id=lambda _: evil
    ) as fanout:
        async with joined(Bus(plugins=[fanout])) as (_, peer):
            peer.say(b'{"type":"x.*.> y\\u0000","event_id":"e"}')
        assert await fanout.drain()
    found = await stored(broker.url, app)
    assert {message.subject.split(".")[2] for message in found} == {
        "a=2Eb=2E=2A=2E=3E=20=0D=0APUB=20x=201"
    }
    assert any(message.subject.endswith("server.x.=2A.=3E=20y=00") for message in found)


async def test_a_session_that_cannot_be_named_is_published_as_unnamed(
    broker: NatsServer, app: str
) -> None:
    """What the application's function raises, or leaves out, costs the name only."""
    names: list[Any] = [7, None]

    def name(_session: object) -> Any:
        return names.pop(0)

    async with NatsFanout(app, servers=broker.url, settings=SMALL, session_id=name) as fanout:
        for _ in range(3):
            async with joined(Bus(plugins=[fanout])):
                pass
        assert await fanout.drain()
    tokens = {message.subject.split(".")[2] for message in await stored(broker.url, app)}
    assert len(tokens) == 3
    assert "7" in tokens
    assert sum(token.startswith("unnamed-") for token in tokens) == 2


async def test_while_the_broker_is_away_events_wait_and_then_go_in_order(
    own_broker: NatsServer, app: str
) -> None:
    """Killed and started again, the broker has every event once, in order."""
    async with NatsFanout(app, servers=own_broker.url, settings=SMALL) as fanout:
        async with joined(Bus(plugins=[fanout])) as (_, peer):
            for number in range(300):
                peer.say(speech(number))
                if number % 50 == 0:
                    await anyio.lowlevel.checkpoint()
            own_broker.kill()
            for number in range(300, 600):
                peer.say(speech(number))
            assert fanout.statistics().pending >= 300
            await anyio.to_thread.run_sync(own_broker.start)
            with anyio.fail_after(60):
                assert await fanout.drain(20)
        statistics = fanout.statistics()
    assert statistics.dropped == 0
    started = [
        ev.InputAudioBufferSpeechStarted.from_json(message.data).audio_start_ms
        for message in await stored(own_broker.url, app)
        if message.subject.endswith("speech_started")
    ]
    assert started == list(range(600))


@pytest.mark.parametrize(("overflow", "kept"), [("drop_oldest", 59), ("drop_newest", 0)])
async def test_a_full_buffer_drops_counts_and_tells(
    own_broker: NatsServer, app: str, overflow: Any, kept: int
) -> None:
    """Beyond its bound the buffer loses the oldest or the newest, counts it, and tells once."""
    told: list[FanoutOverflow] = []
    async with NatsFanout(
        app, servers=own_broker.url, settings=SMALL, max_pending=20, overflow=overflow
    ) as fanout:
        bus = Bus(plugins=[fanout])
        bus.on(FanoutOverflow)(told.append)
        async with joined(bus) as (_, peer):
            assert await fanout.drain(10)
            own_broker.kill()
            while fanout.statistics().connected:
                await anyio.lowlevel.checkpoint()
            for number in range(60):
                peer.say(speech(number))
            assert fanout.statistics().dropped == 40
            assert len(told) == 1
            await anyio.to_thread.run_sync(own_broker.start)
            assert await fanout.drain(20)
    started = [
        ev.InputAudioBufferSpeechStarted.from_json(message.data).audio_start_ms
        for message in await stored(own_broker.url, app)
        if message.subject.endswith("speech_started")
    ]
    assert kept in started
    assert len(started) == 20

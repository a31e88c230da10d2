"""Talking back: workers ask, and the process that holds the session does it, once."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import anyio
import nats
import pytest

from benchmarks.broker import NatsServer
from realtime_bus import (
    Bus,
    InvalidEvent,
    Reconnect,
    RequestRejected,
    RequestTimeout,
    UsageError,
)
from realtime_bus import events as ev
from realtime_bus.server import EnergyDetector, RealtimeServer
from realtime_bus_plugins.fanout import (
    HolderLost,
    NatsFanout,
    Redelivery,
    RemoteBus,
    RemoteSession,
    SessionGone,
    StreamSettings,
)
from tests.bus._peer import joined, speech
from tests.fanout.test_workers import SMALL, Until, holding, worker
from tests.session._doubles import URL, Double, Held

pytestmark = pytest.mark.anyio


def echoing(event: object) -> list[ev.ServerEvent]:
    """Answer as a server does; refuse a voice that it does not know."""
    if isinstance(event, ev.SessionUpdate):
        voice = getattr(getattr(event.session, "audio", None), "output", None)
        if voice is not None and voice.voice == "nobody":
            details = ev.ErrorDetails(
                type="invalid_request_error",
                code="invalid_value",
                message="no such voice",
                param="session.audio.output.voice",
                event_id=event.event_id,
            )
            return [ev.Error(error=details)]
        return [ev.SessionUpdated(session=ev.RealtimeSession(id="sess_1", instructions="short"))]
    if isinstance(event, ev.ConversationItemCreate):
        return [ev.ConversationItemAdded(item=event.item, previous_item_id=None)]
    return []


async def test_a_whole_turn_from_a_worker(broker: NatsServer, app: str) -> None:
    """Settings, text, a response and a tool's output, against a real server."""
    bus, told = worker(broker, app), Until()
    bus.on(ev.SessionCreated)(lambda event, session: told(session))
    server = RealtimeServer(detector_factory=EnergyDetector)
    async with server.connect_memory() as transport, bus:
        async with NatsFanout(app, servers=broker.url, settings=SMALL) as fanout:
            async with Bus(plugins=[fanout]).session(transport) as session:
                (remote,) = await told.has(1)
                assert remote.id == session.id
                updated = await remote.update(instructions="Be short.")
                assert updated.session.instructions == "Be short."
                added = await remote.send_text("Hello?")
                assert added.item.role == "user"
                done = await remote.respond(output_modalities=["text"])
                assert done.status == "completed"
                assert (await remote.whereabouts()).session_id == session.id
                await remote.cancel_response()
                await remote.aclose()
                assert (await session.wait_closed()).code == 1000


async def test_errors_come_back_as_what_they_are(broker: NatsServer, app: str) -> None:
    """What is refused, not answered, must not be sent, or makes no sense."""
    async with worker(broker, app) as bus, holding(broker, app) as (_, _session, peer):
        peer.answer = echoing
        remote = bus.session("sess_1")
        with pytest.raises(RequestRejected) as refused:
            await remote.update(voice="nobody")
        assert refused.value.code == "invalid_value"
        assert refused.value.param == "session.audio.output.voice"
        with pytest.raises(RequestTimeout):
            await remote.request(ev.InputAudioBufferClear(), timeout_s=0.1)
        with pytest.raises(InvalidEvent):
            await remote.request(ev.InputAudioBufferAppend(audio=b"\0" * 20_000_000))
        with pytest.raises(UsageError):
            await remote.request(ev.InputAudioBufferAppend(audio=b"\0\0"))


async def test_a_session_that_is_gone_and_one_that_never_was(broker: NatsServer, app: str) -> None:
    """Both are `SessionGone`; the first one says how it ended."""
    async with worker(broker, app) as bus:
        async with holding(broker, app) as (_, _session, peer):
            peer.hang_up(1011, "server error")
        with pytest.raises(SessionGone) as gone:
            await bus.session("sess_1").send_text("hello")
        assert gone.value.close.code == 1011
        with pytest.raises(SessionGone, match="no process holds"):
            await bus.session("sess_never").send_text("hello")


_HOLDER = """
import sys, anyio
from realtime_bus import Bus
from realtime_bus.server import EnergyDetector, RealtimeServer
from realtime_bus_plugins.fanout import NatsFanout

async def main():
    server = RealtimeServer(detector_factory=EnergyDetector)
    url, app = sys.argv[1:]
    async with NatsFanout(app, servers=url, session_id=lambda _: "sess_1") as fanout:
        async with server.connect_memory() as transport:
            async with Bus(plugins=[fanout]).session(transport):
                await fanout.drain()
                print(fanout.holder_id, flush=True)
                await anyio.sleep_forever()

anyio.run(main)
"""


async def test_a_holder_that_was_killed(broker: NatsServer, app: str) -> None:
    """Its lease runs out, and nobody answers: `HolderLost`, with its name."""
    async with worker(broker, app) as bus:
        holder = subprocess.Popen(  # noqa: ASYNC220  # it takes a moment, and nobody waits
            [sys.executable, "-c", _HOLDER, broker.url, app], stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        with holder.stdout:
            name = (await anyio.to_thread.run_sync(holder.stdout.readline)).decode().strip()
        await bus.session("sess_1").send_text("It is there.")
        holder.kill()
        holder.wait()
        with pytest.raises(HolderLost) as lost:
            await bus.session("sess_1").send_text("hello")
        assert lost.value.holder == name


async def test_a_command_that_is_sent_twice_is_done_once(broker: NatsServer, app: str) -> None:
    """The holder answers a repeated id with the first answer."""
    client = await nats.connect(broker.url)
    async with worker(broker, app), holding(broker, app) as (_, _session, peer):
        peer.answer = echoing
        message = ev.MessageItem(id="i1", role="user", content=[ev.InputText(text="once")])
        create = ev.ConversationItemCreate(item=message).to_json().decode()
        command = f'{{"id":"x","verb":"request","event":{create},"timeout_s":5}}'.encode()
        answers = []
        with anyio.fail_after(60):
            while len(answers) < 3:
                try:
                    answers.append(await client.request(f"{app}.sess_1.command", command))
                except nats.errors.NoRespondersError:
                    await anyio.sleep(0.01)
        assert len({bytes(answer.data) for answer in answers}) == 1
        assert sum(isinstance(sent, ev.ConversationItemCreate) for sent in peer.sent) == 1
    await client.close()


async def test_a_handler_that_runs_again_does_not_say_it_again(
    broker: NatsServer, app: str
) -> None:
    """What it asked for with success, before it failed, is not done a second time."""
    bus = worker(broker, app, redelivery=Redelivery(first_delay_s=0.01))
    tries, done = Until(), Until()

    @bus.on(ev.InputAudioBufferSpeechStarted)
    async def answer(event: ev.InputAudioBufferSpeechStarted, session: RemoteSession) -> None:
        await session.send_text("one moment")
        tries(event.audio_start_ms)
        if len(tries.got) < 3:
            raise ValueError("not yet")
        await session.send_text("one moment")
        done(True)

    async with bus, holding(broker, app) as (_, _session, peer):
        peer.answer = echoing
        peer.say(speech(1))
        await done.has(1)
        assert sum(isinstance(sent, ev.ConversationItemCreate) for sent in peer.sent) == 2


async def test_a_handler_that_was_suspended_for_longer_than_its_lease_asks_nothing(
    broker: NatsServer, app: str
) -> None:
    """Another worker may have its event by now: it waits to be left, and the event comes again."""
    bus, asked = worker(broker, app), Until()

    @bus.on(ev.InputAudioBufferSpeechStarted)
    async def answer(_event: ev.InputAudioBufferSpeechStarted, session: RemoteSession) -> None:
        asked(len(asked.got))
        if len(asked.got) == 1:
            assert bus._group is not None
            bus._group._renewed_s -= 10  # as a process that got SIGSTOP, and SIGCONT, finds it
        await session.send_text(f"attempt {len(asked.got)}")

    async with bus, holding(broker, app) as (_, session, peer):
        peer.answer = echoing
        told = session.stream(ev.ConversationItemAdded)
        peer.say(speech(1))
        with anyio.fail_after(20):
            item: Any = (await anext(told)).item
        assert item.content[0].text == "attempt 2"
        assert sum(isinstance(sent, ev.ConversationItemCreate) for sent in peer.sent) == 1


async def test_more_commands_than_are_remembered_are_not_under_way(
    broker: NatsServer, app: str
) -> None:
    """Else one that is sent again might be done twice; what is refused may be asked again."""
    client = await nats.connect(broker.url)
    async with worker(broker, app) as bus, holding(broker, app) as (_, _session, peer):
        peer.answer = echoing
        await bus.session("sess_1").send_text("it is there")
        peer.answer = None
        clear = '{"id":"%d","verb":"request","event":{"type":"input_audio_buffer.clear"}}'
        for number in range(600):
            await client.publish(f"{app}.sess_1.command", (clear % number).encode())
        answer = await client.request(f"{app}.sess_1.command", (clear % 600).encode(), timeout=5)
        assert b"under way already" in answer.data
        assert sum(isinstance(sent, ev.InputAudioBufferClear) for sent in peer.sent) == 512
    await client.close()


async def test_what_is_asked_while_the_holder_reconnects_waits_for_that(
    broker: NatsServer, app: str
) -> None:
    """As in the holder: it is sent over the next connection; the bucket tells of the gap."""
    one, two = Double(1), Double(2)
    lines = Held(one, two)
    reconnect = Reconnect(first_delay_s=0.0, max_delay_s=0.0)
    async with (
        worker(broker, app) as bus,
        NatsFanout(app, servers=broker.url, settings=SMALL) as fanout,
        Bus(plugins=[fanout]).connect(URL, dial=lines.dial, reconnect=reconnect) as session,
        anyio.create_task_group() as tasks,
    ):
        remote = bus.session(session.id)

        async def entry_says(state: str) -> None:
            while (found := await bus.find(remote.id)) is None or found.state != state:  # noqa: ASYNC110  # the same
                await anyio.sleep(0.01)

        await remote.send_text("before")
        one.hang_up()
        with anyio.fail_after(20):
            while (await remote.whereabouts()).state != "reconnecting":  # noqa: ASYNC110  # nothing tells
                await anyio.sleep(0.01)
            await entry_says("reconnecting")
        said = anyio.Event()

        async def say() -> None:
            assert (await remote.send_text("meanwhile")).item.type == "message"
            said.set()

        tasks.start_soon(say)
        await anyio.sleep(0.05)  # it is under way; were it not, the test would hold as well
        assert not said.is_set()
        lines.open.set()
        with anyio.fail_after(20):
            await said.wait()
            await entry_says("open")
        assert two.texts() == ["before", "meanwhile"]


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[" * 100_000, b'{"id":"a","verb":"eval"}',
                b'{"id":"b","verb":"request","event":{"type":"no.such"}}', b"\xff\xfe\0"]
)  # fmt: skip
async def test_nonsense_gets_an_error_and_harms_nobody(
    broker: NatsServer, app: str, payload: bytes
) -> None:
    """Whatever comes as a command is answered with an error."""
    client = await nats.connect(broker.url)
    async with worker(broker, app) as bus, holding(broker, app) as (_, _session, peer):
        peer.answer = echoing
        await bus.session("sess_1").send_text("it is there")
        answer = await client.request(f"{app}.sess_1.command", payload, timeout=5)
        assert b'"failure"' in answer.data
        await bus.session("sess_1").send_text("still there")
    await client.close()


async def test_trio_is_refused_in_words() -> None:
    """nats-py is made for asyncio; on trio the error says so."""

    async def enter() -> None:
        with pytest.raises(UsageError, match="needs asyncio"):
            async with RemoteBus("app", group="g"):
                pass
        with pytest.raises(UsageError, match="needs asyncio"):
            async with NatsFanout("app", settings=StreamSettings()):
                pass

    def run() -> None:
        anyio.run(enter, backend="trio")

    await anyio.to_thread.run_sync(run)


async def test_a_session_needs_an_open_fanout() -> None:
    """Attached before it is open, it says what to do."""
    with pytest.raises(UsageError, match="open the fan-out first"):
        async with joined(Bus(plugins=[NatsFanout("app")])):
            pass

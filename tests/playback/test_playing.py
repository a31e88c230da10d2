"""The server's half of a recorded session answers a live client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from anyio.abc import TaskStatus

from realtime_bus import Bus, Reconnect, RequestRejected, Session
from realtime_bus import events as ev
from realtime_bus._virtual_time import virtual_time
from realtime_bus.errors import CloseInfo, UsageError
from realtime_bus.recording import Header
from realtime_bus.server import Playback, RealtimeServer, ServerOptions, VoiceResponder
from realtime_bus.transport import MemoryTransport
from realtime_bus_plugins.history import History
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import NullSink

from ._agent import Agent, Tape, cook_server, live, recorded, speak
from ._tape import audio, tape
from .test_driving import driven

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run in virtual time."""
    return virtual_time(request.param)


async def test_the_same_agent_lives_through_the_same_conversation() -> None:
    """Tool call, answer, barge-in at the same place: nothing differs from the recording."""
    recording, then = await recorded()
    assert then.told == [
        "done completed",
        "timer 9",
        "word0 word1 word2 word3 word4 word5 word6 ",
        "done cancelled",
        "truncated 1280",
        "word0 word1 word2 word3 word4 ",
        "done completed",
    ]
    now, playback = Agent(), Playback(recording)
    async with live(RealtimeServer(playback=playback), now) as session:
        await speak(session)
    (report,) = playback.reports
    assert str(report) == f"connection 0: {report.frames} of {report.frames} frames"
    assert now.told == then.told
    assert now.sent == then.sent


@pytest.mark.parametrize(("with_audio", "with_texts"), [(False, True), (True, False)])
async def test_what_a_recorder_has_left_out_is_missed_by_nobody(
    with_audio: bool, with_texts: bool, tmp_path: Path
) -> None:
    """Without audio the same silence is heard as long; without texts the same happens."""
    then, now = Agent(), Agent()
    recorder = Recorder(tmp_path, audio=with_audio, texts=with_texts)
    async with live(cook_server(), then, [recorder]) as session:
        await speak(session)
    playback = Playback(only_file(tmp_path))
    async with live(RealtimeServer(playback=playback), now) as session:
        await speak(session)
    (report,) = playback.reports
    assert str(report) == f"connection 0: {report.frames} of {report.frames} frames"
    happened = [told for told in now.told if told.startswith(("done", "truncated"))]
    assert happened == [told for told in then.told if told.startswith(("done", "truncated"))]
    assert now.told == then.told or not with_texts
    assert now.sent == then.sent


async def test_an_agent_that_answers_more_slowly_is_waited_for() -> None:
    """The tool takes three seconds longer than then: everything comes three seconds later."""
    recording, then = await recorded()
    now, playback = Agent(tool_s=3.0), Playback(recording)
    async with live(RealtimeServer(playback=playback), now) as session:
        await speak(session)
        await now.heard("done completed", times=2)
    assert "parted" not in str(playback.reports[0])
    assert playback.reports[0].complete
    assert [told for told in now.told if told.startswith(("timer", "done"))] == [
        told for told in then.told if told.startswith(("timer", "done"))
    ]


async def test_an_agent_without_the_tool_has_parted_and_is_told_where() -> None:
    """The recorded agent answered the call; this one never does: error, close 4000, a report."""
    recording, _ = await recorded()
    playback = Playback(recording, patience_s=2.0)
    ends: list[CloseInfo] = []
    errors: list[ev.Error] = []
    bus = Bus()
    async with (
        RealtimeServer(playback=playback).connect_memory() as transport,
        bus.session(transport) as session,
    ):
        session.on(ev.Error)(errors.append)
        await session.update(transcription=ev.Transcription(model="whisper-1"))
        session.start_soon(speak, session)
        ends.append(await session.wait_closed())
    (report,) = playback.reports
    assert ends[0].code == 4000
    assert report.parted
    assert "parted: response.created (recorded at 1." in str(report)
    assert "response.create has not come" in str(report)
    assert "missing: conversation.item.create" in str(report)
    assert errors[-1].error.code == "recording_parted"


async def test_a_response_that_was_not_recorded_is_refused_and_nothing_else_suffers() -> None:
    """What an agent asks for besides is told; settings and items are answered."""
    recording, then = await recorded()
    now, playback = Agent(), Playback(recording)
    async with live(RealtimeServer(playback=playback), now) as session:
        await session.update(instructions="Be brief.")
        item = ev.MessageItem(role="system", content=[ev.InputText(text="Be kind.")])
        added = await session.create_item(item)
        await session.delete_item(added.item.id or "")
        await speak(session)
        reply = session.respond(conversation="none", timeout_s=5)
        with pytest.raises(RequestRejected, match="not recorded"):
            await reply
    assert session.config is not None
    assert now.told[: len(then.told)] == then.told
    (report,) = playback.reports
    assert report.complete
    assert [(each.kind, each.type) for each in report.deviations] == [
        ("unexpected", "session.update"),
        ("unexpected", "conversation.item.create"),
        ("unexpected", "conversation.item.delete"),
        ("unexpected", "response.create"),
    ]


def only_file(folder: Path) -> Path:
    """Return the one file of a folder."""
    (path,) = folder.iterdir()
    return path


ITEM = {"id": "item_r", "type": "message", "role": "assistant"}
AT = {"response_id": "resp_1", "item_id": "item_r", "output_index": 0, "content_index": 0}
DELTA = ("s response.output_audio.delta", {**AT, "delta": "AAAA" * 3200})  # 200 ms
SPEECH = ("s input_audio_buffer.speech_started", {"audio_start_ms": 0, "item_id": "item_u"})


def response(status: str = "in_progress") -> dict[str, Any]:
    """Return the fields of ``response.created`` and ``response.done``."""
    shown: dict[str, Any] = {
        "id": "resp_1",
        "object": "realtime.response",
        "status": status,
        "output": [],
    }
    return {"response": {**shown, "conversation_id": "conv_1"}}


async def test_a_faulty_session_of_production_is_as_faulty_in_a_test() -> None:
    """Late deltas, a frame that is none, a response that is only done, a close in the middle."""
    lines = tape(
        "s session.created",
        ("c input_audio_buffer.append", audio(100)),
        ("s response.created", response()),
        ("s response.output_item.added", {"response_id": "resp_1", "item": ITEM}),
        DELTA,
        DELTA,
        ("c input_audio_buffer.append", audio(100)),
        SPEECH,
        DELTA,
        b'{"type": "response.output_audio.de',
        ("c conversation.item.truncate", {"item_id": "item_r", "content_index": 0}),
        DELTA,
        ("s response.done", response("cancelled")),
        ("s response.done", {"response": {"id": "resp_2", "status": "failed", "output": []}}),
        close=1011,
    )
    sink, seen = NullSink(), list[str]()
    bus = Bus(plugins=[sink, Interruption(sink)])
    server = RealtimeServer(playback=Playback(lines))
    async with server.connect_memory() as transport, bus.session(transport) as session:
        session.on("*")(lambda event: seen.append(event.type))
        session.start_soon(speak, session, [("silent", 200)])
        close = await session.wait_closed()
    assert close.code == 1011
    assert seen.count("response.output_audio.delta") == 2  # two came too late to be heard
    assert seen.count("response.done") == 2
    assert "bus.invalid_frame" in seen
    assert not sink.playing


@pytest.mark.parametrize(("microphone", "code"), [(False, 1000), (True, 4000)])
async def test_speech_waits_for_the_microphone_unless_there_is_none(
    microphone: bool, code: int
) -> None:
    """A client that never speaks has parted; without ``microphone`` it hears of speech in time."""
    entries = ["s session.created", ("c input_audio_buffer.append", audio(100)), SPEECH, DELTA]
    playback = Playback(tape(*entries), microphone=microphone, patience_s=5)
    server = RealtimeServer(playback=playback)
    async with server.connect_memory() as transport, Bus().session(transport) as session:
        session.on(ev.ResponseOutputAudioDelta)(lambda _: session.start_soon(session.aclose))
        assert (await session.wait_closed()).code == code
    (report,) = playback.reports
    assert ("100 ms of audio has not come" in str(report)) == microphone


async def test_two_clients_at_once_hear_the_whole_recording_each() -> None:
    """A recording is played to everybody from its beginning."""
    recording, then = await recorded()
    playback, agents = Playback(recording), (Agent(), Agent(tool_s=0.05))
    server = RealtimeServer(playback=playback)

    async def talk(agent: Agent) -> None:
        async with live(server, agent) as session:
            await speak(session)

    async with anyio.create_task_group() as tasks:
        for agent in agents:
            tasks.start_soon(talk, agent)
    assert [agent.told[0] for agent in agents] == ["done completed"] * 2
    assert agents[0].told == then.told
    assert [report.connection for report in playback.reports] == [0, 0]


AT_ONCE = Reconnect(first_delay_s=0)


@asynccontextmanager
async def reconnecting(server: RealtimeServer, *plugins: Any) -> AsyncGenerator[Session]:
    """Connect a session that outlives its connections."""
    async with anyio.create_task_group() as tasks:

        async def hold(*, task_status: TaskStatus[MemoryTransport]) -> None:
            async with server.connect_memory() as transport:
                task_status.started(transport)
                await anyio.sleep_forever()

        async def dial(_url: str, **_options: Any) -> MemoryTransport:
            transport: MemoryTransport = await tasks.start(hold)
            return transport

        bus = Bus(plugins=[History(), *plugins])
        url = "ws://127.0.0.1:9/v1/realtime?model=any"
        async with bus.connect(url, dial=dial, reconnect=AT_ONCE) as session:
            yield session
        tasks.cancel_scope.cancel()


async def cut_in_two(session: Session, told: list[str]) -> None:
    """Ask twice, with a lost connection in between."""
    for text in ("One?", "Two?"):
        await session.create_item(ev.MessageItem(role="user", content=[ev.InputText(text=text)]))
        reply = session.respond()
        told.append("".join([words async for words in reply.text()]))
        if text == "One?":
            reconnected = session.wait_for(ev.Reconnected, timeout_s=20)
            told.append("asked")
            await reconnected


@pytest.mark.parametrize("with_greeting", [True, False])
async def test_a_recording_of_two_connections_loses_the_first_again(
    with_greeting: bool, tmp_path: Path
) -> None:
    """The live session reconnects when the recorded one did, and the second half is played.

    Also where the recorder has not seen how the second connection began.
    """
    then, now = list[str](), list[str]()
    tape_, recorder = Tape(), Recorder(tmp_path)
    server = RealtimeServer(
        VoiceResponder(lambda request: f"Answer {request.response_index}."),
        options=ServerOptions(pace=float("inf")),
    )
    async with reconnecting(server, tape_, recorder) as session:

        @session.on(ev.ResponseDone)
        def cut(_: ev.ResponseDone) -> None:
            if len(server.sessions) and not then[1:]:
                session.start_soon(drop, server, then)

        await cut_in_two(session, then)
    recording = only_file(tmp_path) if with_greeting else tape_.lines
    playback = Playback(recording)
    async with reconnecting(RealtimeServer(playback=playback)) as session:
        await cut_in_two(session, now)
    assert now == then
    assert [report.connection for report in playback.reports] == [0, 1]
    assert [report.deviations for report in playback.reports] == [(), ()]
    assert all(report.complete for report in playback.reports)
    reports = await driven(recording, RealtimeServer(playback=Playback(recording)))
    assert [report.connection for report in reports] == [0, 1]
    assert all(report.complete for report in reports)
    if with_greeting:
        assert [report.deviations for report in reports] == [(), ()]


async def drop(server: RealtimeServer, then: list[str]) -> None:
    """Cut the connection once the answer was read."""
    while "asked" not in then:  # noqa: ASYNC110  # virtual time: it costs nothing
        await anyio.sleep(0.1)
    server.sessions[0].drop()


async def test_a_flood_of_what_was_not_recorded_is_answered_and_counted_to_a_bound() -> None:
    """Thousands of items that nobody sent then, unknown frames between them: the session lives."""
    playback = Playback(tape("s session.created", close=None))
    server = RealtimeServer(playback=playback)
    async with server.connect_memory() as transport, Bus().session(transport) as session:
        item = ev.MessageItem(role="user", content=[ev.InputText(text="Hi")])
        for _ in range(1_500):
            await session.send(ev.ConversationItemCreate(item=item))
            await session.send(ev.InputAudioBufferAppend(audio=bytes(960)))
        transport.send(b"no event")
        transport.send(b'{"type":"nobody.knows"}')
        await session.update(instructions="Is it over?")
    (report,) = playback.reports
    assert 1000 <= len(report.deviations) < 1010
    assert server.statistics().failed == 0


async def test_the_server_may_still_be_told_what_to_do() -> None:
    """A test's own events, a sideband and a close work on a session that is played, too."""
    server = RealtimeServer(playback=Playback(tape("s session.created", close=None)))
    async with server.serve() as bound, Bus().connect(bound.url_for("any")) as session:
        (ours,) = server.sessions
        async with Bus().connect(bound.url_for_call(ours.call_id)) as beside:
            assert beside.config is not None
            told = [each.wait_for("input_audio_buffer.cleared") for each in (session, beside)]
            ours.send({"type": "input_audio_buffer.cleared"})
            for each in told:
                await each
            ours.close(4321, "enough")
            assert (await session.wait_closed()).code == 4321


async def test_nothing_from_a_server_is_nothing_to_play() -> None:
    """Misuse is told before anybody connects."""
    with pytest.raises(UsageError, match="nothing from a server"):
        Playback(tape("c session.update"))
    with pytest.raises(UsageError, match="pace must be above 0"):
        Playback(tape("s session.created"), pace=0)
    with pytest.raises(UsageError, match="patience_s must be above 0"):
        Playback(tape("s session.created"), patience_s=-1)


async def test_a_recording_that_began_too_late_greets_all_the_same() -> None:
    """Its first lines are missing: the client is told of a session, and the rest is played."""
    playback = Playback(tape("c input_audio_buffer.clear", "s input_audio_buffer.cleared", DELTA))
    server = RealtimeServer(playback=playback)
    async with server.connect_memory() as transport, Bus().session(transport) as session:
        assert session.config is not None
        await session.clear_input()
        assert await session.wait_for(ev.ResponseOutputAudioDelta, timeout_s=5)


async def test_what_is_missing_in_a_recording_is_told(tmp_path: Path, caplog: Any) -> None:
    """A part that is gone: the rest is played, and the log says what is not there."""
    lines = [Header(t_us=0, recording_id="one"), *tape("s session.created")[1:]]
    (tmp_path / "call.jsonl").write_bytes(b"".join(msgspec.json.encode(x) + b"\n" for x in lines))
    later = Header(t_us=300_000, recording_id="one", part=2)
    (tmp_path / "call.2.jsonl").write_bytes(msgspec.json.encode(later) + b"\n")
    playback = Playback(tmp_path / "call.jsonl")
    assert "call.1.jsonl is missing" in caplog.text
    async with RealtimeServer(playback=playback).connect_memory() as transport:
        async with Bus().session(transport) as session:
            assert session.config is not None

"""Recordings that are damaged, and buses that misbehave: told, and never worse than that."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from realtime_bus import Bus, ConnectError, Plugin, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink
from realtime_bus.recording import (
    Named,
    Recording,
    RecordingError,
    ReplaySink,
    Told,
    replay,
    run_replay,
    written_down,
)
from realtime_bus.server import RealtimeServer, ScriptTool, ScriptTurn
from realtime_bus.server.faults import Drop
from realtime_bus.testing import Backend, place_call, run_virtual, tool_call
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.telephony import CallInfo, CallStarted, DtmfReceived
from realtime_bus_plugins.tools import Tools

from ._tape import TimerSet, cut, kitchen, record, speech, spoken, talk, written


@pytest.fixture(scope="session")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the recording of a call."""
    return record(tmp_path_factory.mktemp("tape"), kitchen())


@pytest.fixture
def backend(anyio_backend: Backend) -> Backend:
    """Replay on both backends."""
    return anyio_backend


# --- recordings -----------------------------------------------------------------------------------


def test_every_beginning_of_a_recording_can_be_replayed(tape: Path, tmp_path: Path) -> None:
    """Wherever it was cut off, in a line too: nothing of its last second is compared."""
    whole = tape.read_bytes()
    path = tmp_path / "cut.jsonl"
    header = whole.index(b"\n") + 1
    for number, length in enumerate(range(header, len(whole), len(whole) // 12)):
        path.write_bytes(whole[:length])
        backend: Backend = "trio" if number % 2 else "asyncio"
        report = run_replay(path, kitchen(), backend=backend, main=talk)
        assert report.differences == []
        assert "cut off" in report.notes[-1]


def test_lines_that_are_damaged_cost_what_they_held(tape: Path, tmp_path: Path) -> None:
    """Each line in turn is replaced by noise: the others are replayed, and nothing is raised."""
    lines = tape.read_bytes().splitlines(keepends=True)
    path = tmp_path / "damaged.jsonl"
    for number in range(1, len(lines), 5):
        path.write_bytes(b"".join([*lines[:number], b"\xff{noise\n", *lines[number + 1 :]]))
        run_replay(path, kitchen(), main=talk, patience_s=1)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "response.created", "response": {"id": 5, "metadata": 7}},
        {"type": "response.created", "response": "none"},
        {"type": "error", "error": {"event_id": {}}},
        {"type": "error", "error": None},
        {"type": "session.updated"},
        {"type": "conversation.item.added", "item": [1]},
        {"type": 3},
        [1, 2],
        "text",
        None,
    ],
)
def test_frames_that_are_no_events_are_delivered_as_they_were(
    tmp_path: Path, backend: Backend, frame: Any
) -> None:
    """A server's nonsense, and a client's, harms a replay as little as it harmed the call."""
    path = written(
        tmp_path / "odd.jsonl",
        (0.1, "out", {"type": "response.create", "response": {"metadata": {}}}),
        (0.2, "out", {"type": "conversation.item.create", "item": {"type": "x", "id": 3}}),
        (0.2, "out", {"type": "conversation.item.create"}),
        (0.2, "in", {"type": "conversation.item.added", "item": {"type": "message", "id": "i"}}),
        (0.3, "out", frame),
        (0.4, "in", frame),
        (0.5, "out", {"type": "response.create", "response": 5}),
        (0.6, "in", {"type": "last"}),
    )
    seen: list[str] = []
    bus = Bus()
    bus.on(ev.UnknownEvent)(lambda event: seen.append(event.event_type))
    report = run_replay(path, bus, backend=backend)
    assert seen[-1] == "last"
    assert {each.kind for each in report.differences} == {"missing"}
    assert str(report)


@pytest.mark.parametrize(
    ("broken", "frame"),
    [(base64.b64encode(b'{"type": oh').decode(), b'{"type": oh'), ("abc", b"")],
)
def test_a_frame_that_is_no_json_comes_as_it_was(
    tmp_path: Path, backend: Backend, broken: str, frame: bytes
) -> None:
    """It stands in base64; where that is damaged, there is a frame of nothing."""
    path = written(tmp_path / "broken.jsonl", (1.0, "in", {"type": "x"}))
    path.write_text(path.read_text().replace('"frame":{"type":"x"}', f'"broken":"{broken}"'))
    seen: list[bytes] = []
    bus = Bus()
    bus.on(ev.InvalidFrame)(lambda event: seen.append(event.frame))
    run_replay(path, bus, backend=backend)
    assert seen == [frame]


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    """Another file, an empty one."""
    path = tmp_path / "none.jsonl"
    for text in ("", "hello", '{"kind":"end","t_us":1}\n'):
        path.write_text(text)
        with pytest.raises(RecordingError, match="is no recording"):
            run_replay(path, Bus())


def test_a_recording_without_a_beginning_has_a_session(tmp_path: Path, backend: Backend) -> None:
    """Recording may have begun late, or the server have said nothing."""
    path = tmp_path / "late.jsonl"
    path.write_text(
        '{"kind":"recording","t_us":0}\n'
        '{"kind":"in","t_us":900000,"frame":{"type":"response.done","response":{"id":"r"}}}\n'
    )
    seen: list[ev.Event] = []
    bus = Bus()
    bus.on(ev.ResponseDone)(seen.append)
    assert run_replay(path, bus, backend=backend).differences == []
    assert len(seen) == 1


def test_a_session_that_was_refused_is_refused_again(tmp_path: Path, backend: Backend) -> None:
    """The replay raises what the call raised."""
    path = tmp_path / "refused.jsonl"
    path.write_text(
        '{"kind":"recording","t_us":0}\n'
        '{"kind":"end","t_us":900000,"code":3000,"reason":"no key"}\n'
    )
    report = run_replay(path, Bus(), backend=backend)
    assert (report.frames, report.differences) == (0, [])


def test_texts_and_keys_that_were_left_out_are_no_difference(
    tape: Path, tmp_path: Path, backend: Backend
) -> None:
    """Of a text that is not there, only the length is known."""
    path = tmp_path / "silent.jsonl"
    text = tape.read_text()
    for word in ("timer set", "Good bye."):
        assert word in text
        text = text.replace(word, "x" * len(word))
    text = text.replace('"recording_id"', '"texts":false,"recording_id"')
    path.write_text(text.replace("Nine minutes, please.", "***"))
    report = run_replay(path, kitchen(), backend=backend, main=talk)
    assert report.differences == []
    assert "texts were left out" in report.notes[0]


def test_a_connection_that_was_replaced_goes_on(tmp_path: Path, backend: Backend) -> None:
    """It is told at its time; what only the library saw is passed over."""
    news = {"cause": "rollover", "session_id": "s2", "url": "", "attempts": 1, "gap_s": 0.5}
    news |= {"restored": ["i"], "lost": [{"what": "audio", "why": "it was"}], "resent": []}
    path = written(
        tmp_path / "two.jsonl",
        (1.0, "in", {"type": "first"}),
        (1.5, "in", {"type": "aside"}),
        (2.0, Told(t_us=0, type="bus.reconnected", event=news)),
        (3.0, "in", {"type": "second"}),
    )
    text = path.read_text().replace(':1500000,"frame"', ':1500000,"aside":true,"frame"')
    path.write_text(text)
    seen: list[str] = []
    bus = Bus()

    @bus.on(ev.UnknownEvent, ev.Reconnected)
    def note(event: ev.UnknownEvent | ev.Reconnected) -> None:
        seen.append(event.event_type if isinstance(event, ev.UnknownEvent) else event.lost[0].why)

    report = run_replay(path, bus, backend=backend)
    assert seen == ["first", "it was", "second"]
    assert (report.differences, report.notes) == ([], [])


def cook(sink: AudioSink, *more: Plugin) -> Bus:
    """Return an agent that can be interrupted, and looks things up."""
    tools = Tools()

    @tools.tool
    async def look_up(dish: str) -> str:  # pyright: ignore[reportUnusedFunction]  # registered
        await anyio.sleep(0.7)
        return "nine minutes"

    return Bus(plugins=[*more, sink, Interruption(sink), tools])


@pytest.mark.parametrize("lost_s", [1.5, 2.4, 2.9, 4.2, 5.5])
def test_a_lost_connection_is_lost_again(tmp_path: Path, lost_s: float) -> None:
    """Every few seconds one is: while somebody speaks, a tool runs, an answer is heard or cut."""
    answer = "Nine minutes, and not one more, because then it is too soft for anybody."
    model = [tool_call("look_up", dish="pasta"), answer, "Good bye."] * 5

    async def call() -> None:
        sink = NullSink()
        bus = cook(sink, Recorder(tmp_path, sink=sink))
        drop = Drop(after_s=lost_s)
        async with place_call(bus, model, faults=[drop], instructions="Help.") as placed:
            await placed.person.says("How long does the pasta take?")
            await anyio.sleep(4)
            await placed.person.says("Thank you, that will do.")
            await anyio.sleep(8)

    with suppress(AssertionError):  # an answer that was cut off is asked for again, and so on
        run_virtual(call)
    [path] = tmp_path.iterdir()
    assert '"bus.reconnected"' in path.read_text()
    for backend in ("asyncio", "trio"):
        report = run_replay(path, cook, backend=backend)
        assert report.differences == []
        assert report.notes == []


def test_handlers_see_their_own_names_of_items(tmp_path: Path, backend: Backend) -> None:
    """The next server had its own for what it was given back: in frames, and in what is sent."""
    sent, flush, confirmed = cut(3, 1, played_ms=1700)
    there = [{**sent[2], "item_id": "srv_9"}, {**confirmed[2], "item_id": "srv_9"}]
    path = written(
        tmp_path / "named.jsonl",
        *spoken(1, 1),
        (2.0, Named(t_us=0, names={"srv_9": "i1"})),
        speech(3),
        (*sent[:2], there[0]),
        flush,
        (*confirmed[:2], there[1]),
    )
    seen: list[str] = []

    def bus(sink: ReplaySink) -> Bus:
        made = Bus(plugins=[sink, Interruption(sink)])
        made.on(ev.ConversationItemTruncated)(lambda event: seen.append(event.item_id))
        return made

    assert run_replay(path, bus, backend=backend).differences == []
    assert seen == ["i1"]


def test_what_a_rollover_sends_again_is_the_librarys(tmp_path: Path, backend: Backend) -> None:
    """Nothing is sent twice over a connection that goes on; nor is text in the place of audio."""
    ask = {"type": "response.create", "event_id": "rb_00000000_1"}
    done = {"id": "r1", "conversation_id": "c", "output": [], "status": "completed"}
    gives = {"cause": "rollover", "session_id": "s2", "restored": ["i1"], "lost": []}
    output = {"type": "function_call_output", "call_id": "c", "output": "9"}
    item = {"type": "conversation.item.create", "item": output}
    path = written(
        tmp_path / "twice.jsonl",
        (0.4, "out", item),
        *spoken(1, 1),
        (1.5, "in", {"type": "response.done", "event_id": "e", "response": done}),
        (1.6, "out", ask),
        (1.9, Named(t_us=0, names={})),
        (1.9, "out", item),
        (2.0, Told(t_us=0, type="bus.reconnected", event=gives)),
        (2.0, "out", ask),
        speech(3),  # where the item that is heard was cut, in the library's own way
        *cut(3, 1, played_ms=1700)[1:2],
        (3.2, "in", {"type": "response.created", "event_id": "e", "response": {"id": "r9"}}),
    )

    async def main(session: Session) -> None:
        await anyio.sleep(0.4)
        session.send_nowait(msgspec.convert(item, ev.ConversationItemCreate))
        await anyio.sleep(1.2)
        session.send_nowait(ev.ResponseCreate())

    def bus(sink: ReplaySink) -> Bus:
        return Bus(plugins=[sink, Interruption(sink)])

    report = run_replay(path, bus, backend=backend, main=main)
    assert report.differences == []
    assert report.left == {"conversation.item.create": 1, "response.create": 1}


def test_what_is_sent_again_is_not_taken_for_what_came_later(
    tmp_path: Path, backend: Backend
) -> None:
    """What is left to the recording, and near, corresponds rather than what is expected later."""
    ask = {"type": "input_audio_buffer.commit", "event_id": "rb_00000000_1"}
    path = written(
        tmp_path / "again.jsonl",
        (1.0, "out", ask),
        (1.5, Named(t_us=0, names={})),
        (2.0, "out", ask),
        (8.0, "out", {**ask, "event_id": "rb_00000000_2"}),
    )

    async def main(session: Session) -> None:
        for wait_s in (1, 1, 6):
            await anyio.sleep(wait_s)
            session.send_nowait(ev.InputAudioBufferCommit())

    assert run_replay(path, Bus(), backend=backend, main=main).differences == []


def test_a_connection_that_was_lost_for_good_is_so_again(tmp_path: Path, backend: Backend) -> None:
    """The session ends as it did, and says so."""
    lost = {"attempt": 1, "delay_s": 0, "code": 1006, "reason": "1006", "url": ""}
    path = written(
        tmp_path / "gone.jsonl",
        (1.0, "in", {"type": "first"}),
        (2.0, Told(t_us=0, type="bus.reconnecting", event=lost)),
        (9.0, Told(t_us=0, type="bus.reconnecting", event={**lost, "attempt": 2})),
    )
    failed: list[ev.Event] = []
    bus = Bus()
    bus.on(ev.ReconnectFailed)(failed.append)
    report = run_replay(path, bus, backend=backend)
    assert (report.differences, report.frames, len(failed)) == ([], 2, 1)


def test_what_a_sink_learned_later_was_heard(tmp_path: Path, backend: Backend) -> None:
    """A line far away tells after the flush: the truncation of then says that, too."""
    path = written(tmp_path / "far.jsonl", *spoken(1, 1), speech(3), *cut(3, 1, played_ms=1700))
    [flush] = [line for line in path.read_text().splitlines() if '"flush"' in line]
    early = flush.replace('"played_ms":1700', '"played_ms":1500')
    later = flush.replace('"kind":"flush"', '"kind":"flush","settled":true')
    path.write_text(path.read_text().replace(flush, f"{early}\n{later}"))

    def bus(sink: ReplaySink) -> Bus:
        return Bus(plugins=[sink, Interruption(sink)])

    assert run_replay(path, bus, backend=backend, audio_within_ms=0).differences == []


def test_a_translation_is_replayed(tmp_path: Path, backend: Backend) -> None:
    """Its protocol is found in what was said."""
    recorder = Recorder(tmp_path)

    async def main(session: Session) -> None:
        await session.update_translation(language="de")
        for _ in range(20):
            await session.append_audio(bytes(1920))
            await anyio.sleep(0.04)

    async def translate() -> Path | None:
        server = RealtimeServer().connect_memory(kind="translation")
        bus = Bus(plugins=[recorder])
        async with server as transport, bus.session(transport, protocol="translation") as session:
            await main(session)
            return recorder.path_of(session)

    path = run_virtual(translate)
    assert path is not None
    report = run_replay(path, Bus(), backend=backend, main=main)
    assert (report.differences, report.compared) == ([], 1)


def test_events_of_plugins_that_are_not_there_are_told(tmp_path: Path, backend: Backend) -> None:
    """A key was pressed on a telephone: without the telephone, nobody says so."""
    pressed = {"digit": "5"}
    path = written(
        tmp_path / "key.jsonl", (1.0, Told(t_us=0, type="telephony.dtmf", event=pressed))
    )
    report = run_replay(path, Bus(), backend=backend)
    assert "nobody emitted telephony.dtmf (1)" in report.notes[0]
    seen: list[str] = []
    bus = Bus()
    bus.on(DtmfReceived)(lambda event: seen.append(event.digit))
    report = run_replay(path, bus, backend=backend, outside=[DtmfReceived])
    assert (report.notes, seen) == ([], ["5"])


def test_what_is_done_at_the_very_end_is_compared(tmp_path: Path, backend: Backend) -> None:
    """A handler of ``Closed`` has its place in the recording, what follows has none."""

    def bus(label: str) -> Bus:
        bus = kitchen()

        @bus.on(ev.Closed)
        def at_once(_event: ev.Closed, session: Session) -> None:
            session.emit(TimerSet(label=label))

        @bus.on(ev.Closed)
        async def later(_event: ev.Closed, session: Session) -> None:
            session.emit(TimerSet(label="nobody hears of it"))

        return bus

    path = record(tmp_path, bus("over"))
    assert run_replay(path, bus("over"), backend=backend, main=talk).differences == []
    report = run_replay(path, bus("through"), backend=backend, main=talk)
    assert [change.path for change in report.differences[0].changes] == ["label"]


def test_an_event_with_parts_comes_again(tmp_path: Path, backend: Backend) -> None:
    """What a phone told of its call, formats and all, is written so that it can be read again."""
    info = CallInfo(
        provider="Twilio",
        stream_id="MZ1",
        call_id="CA1",
        parameters={"customer": "c1"},
        input_format=ev.AudioPCMU(),
        output_format=ev.AudioPCM(),
    )
    started = CallStarted(info=info)
    told = Told(t_us=0, type="telephony.call_started", event=written_down(started))
    path = written(tmp_path / "phone.jsonl", (1.0, told))
    seen: list[CallStarted] = []
    bus = Bus()
    bus.on(CallStarted)(seen.append)
    report = run_replay(path, bus, backend=backend, outside=[CallStarted])
    assert (report.notes, seen) == ([], [started])


# --- buses ----------------------------------------------------------------------------------------


def test_what_the_bus_raises_comes_out(tape: Path, backend: Backend) -> None:
    """A bus that was told to raise does; a main program's own error is its own."""
    bus = Bus(raise_handler_errors=True)

    @bus.on(ev.ResponseDone)
    async def fail(_event: ev.ResponseDone) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_replay(tape, bus, backend=backend)

    async def main(_session: Session) -> None:
        raise KeyError("main")

    with pytest.raises(KeyError, match="main"):
        run_replay(tape, Bus(), backend=backend, main=main)


def test_a_main_program_that_opens_nothing_else_ends_with_the_recording(
    tape: Path, backend: Backend
) -> None:
    """What it still waits for will not come."""

    async def main(session: Session) -> None:
        await talk(session)
        await session.respond()

    report = run_replay(tape, kitchen(), backend=backend, main=main)
    assert [each.kind for each in report.differences] == ["extra"]
    assert report.notes == ["the recording ended before the main program did"]


@pytest.mark.parametrize("tidy", [True, False])
def test_a_main_program_that_never_ends_is_left(tape: Path, backend: Backend, tidy: bool) -> None:
    """What it has to do at the end, it may do."""
    done: list[bool] = []

    async def main(session: Session) -> None:
        await talk(session)
        if tidy:
            await session.wait_closed()
            await anyio.sleep(1)
            done.append(True)
        else:
            await anyio.sleep_forever()

    report = run_replay(tape, kitchen(), backend=backend, main=main)
    assert report.differences == []
    assert (done == [True]) == tidy == (report.notes == [])


def test_what_cannot_be_read_to_its_end_is_raised(
    tape: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails in the middle is no end of a session."""
    recording = Recording(tape)
    lines = [*recording]
    turns = iter([lines, [*lines[:30], OSError("the disk is gone")]])

    def read(_self: Recording) -> Any:
        for line in next(turns):
            if isinstance(line, OSError):
                raise line
            yield line

    monkeypatch.setattr(Recording, "__iter__", read)
    with pytest.raises(OSError, match="the disk is gone"):
        run_replay(recording, kitchen(), backend=backend, main=talk)


def test_what_makes_no_bus_is_refused(tape: Path) -> None:
    """Such as a function that forgot to return it."""
    with pytest.raises(UsageError, match="made None and no Bus"):
        run_replay(tape, lambda _sink: None)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]  # what is tested


def test_many_commands_in_a_long_silence_are_no_flood(tmp_path: Path, backend: Backend) -> None:
    """Ten minutes of audio that a handler sends, while the server says nothing."""
    path = written(tmp_path / "silence.jsonl", (600.0, "in", {"type": "x"}))
    bus = Bus()

    @bus.on(ev.SessionCreated)
    async def speak(_event: ev.SessionCreated, session: Session) -> None:
        for _ in range(10_500):
            session.send_nowait(ev.InputAudioBufferAppend(audio=b"  "))
            await anyio.sleep(0.02)

    report = run_replay(path, bus, backend=backend)
    assert (report.notes, report.sent) == ([], {"input_audio_buffer.append": 10_500})


def test_a_handler_that_blocks_or_never_ends_takes_no_time(tape: Path, backend: Backend) -> None:
    """On a virtual clock a blocked loop is a moment; what waits for ever is left at the end."""
    bus = kitchen()
    bus.on(ev.ResponseCreated)(lambda _: time.sleep(0.05))

    @bus.on(ev.ResponseDone)
    async def wait(_event: ev.ResponseDone) -> None:
        await anyio.sleep_forever()

    assert run_replay(tape, bus, backend=backend, main=talk).differences == []


def test_a_flood_is_ended(tape: Path, backend: Backend) -> None:
    """A handler that sends for ever in no time would never let time pass."""
    bus = Bus()

    @bus.on(ev.SessionCreated)
    async def flood(_event: ev.SessionCreated, session: Session) -> None:
        while True:
            await session.send(ev.OutputAudioBufferClear())

    report = run_replay(tape, bus, backend=backend)
    assert "the session was ended" in str(report)
    extra = [each.type for each in report.differences if each.kind == "extra"]
    assert extra.count("output_audio_buffer.clear") == 1001
    assert len(msgspec.json.encode(report)) < 1_000_000


def test_audio_that_a_bus_sends_is_counted(tape: Path, backend: Backend) -> None:
    """Whoever speaks in a replay is not compared with who spoke."""
    bus = Bus()

    @bus.on(ev.SessionCreated)
    async def speak(_event: ev.SessionCreated, session: Session) -> None:
        for _ in range(50):
            await session.append_audio(bytes(960))
            await anyio.sleep(0.02)

    report = run_replay(tape, bus, backend=backend, compare=False)
    assert report.sent == {"input_audio_buffer.append": 50}


@pytest.mark.parametrize("after_s", [0, 0.5, 3])
def test_it_can_be_cancelled(tape: Path, backend: Backend, after_s: float) -> None:
    """Nothing is left behind, at whatever moment."""

    async def run() -> bool:
        with anyio.move_on_after(after_s) as scope:
            await replay(tape, kitchen(), main=talk)
        return scope.cancelled_caught

    assert run_virtual(run, backend=backend)


def test_back_pressure_holds_the_recording(tape: Path, backend: Backend) -> None:
    """A handler that asked for it is waited for, and loses nothing."""
    seen: list[str] = []
    bus = Bus()

    @bus.on(ev.ResponseOutputItemDone, max_pending=1, overflow="pause")
    async def slow(event: ev.ResponseOutputItemDone) -> None:
        await anyio.sleep(0.3)
        seen.append(event.item.type)

    run_replay(tape, bus, backend=backend, compare=False)
    assert seen == ["message", "function_call", "message", "message"]


def test_many_replays_of_a_bus_do_not_mix(tape: Path, backend: Backend) -> None:
    """Sessions of one bus, one beside the other."""
    bus = kitchen()
    reports: list[Any] = []

    async def one() -> None:
        reports.append(await replay(tape, bus, main=talk))

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(one)

    run_virtual(run, backend=backend)
    assert [report.differences for report in reports] == [[]] * 5


def test_calls_that_were_answered_in_another_order_are_the_same(
    tmp_path: Path, backend: Backend
) -> None:
    """What is about a call finds its own; which of two tools was faster is no difference."""

    def bus_with(slow_s: float, fast_s: float) -> Callable[[ReplaySink], Bus]:
        def make(_sink: ReplaySink) -> Bus:
            tools = Tools()

            @tools.tool
            async def slow() -> str:  # pyright: ignore[reportUnusedFunction]  # registered
                await anyio.sleep(slow_s)
                return "slow"

            @tools.tool
            async def fast() -> str:  # pyright: ignore[reportUnusedFunction]  # registered
                await anyio.sleep(fast_s)
                return "fast"

            return Bus(plugins=[tools])

        return make

    calls = [ScriptTool(name="slow", call_id="s"), ScriptTool(name="fast", call_id="f")]
    script = [
        ScriptTurn(assistant="Well.", tools=calls, text_only=True),
        ScriptTurn(assistant="Both.", text_only=True),
    ]

    async def main(session: Session) -> None:
        await session.respond()
        await session.wait_for(ev.ResponseDone, timeout_s=60)

    sink: Any = None
    path = record(tmp_path, bus_with(0.8, 0.2)(sink), main, script=script)
    assert run_replay(path, bus_with(0.8, 0.2), backend=backend, main=main).differences == []
    assert run_replay(path, bus_with(0.1, 0.9), backend=backend, main=main).differences == []


def test_a_session_that_cannot_begin_says_so(tmp_path: Path, backend: Backend) -> None:
    """Where the connection was closed before its greeting is over, the bus says what it says."""
    path = written(tmp_path / "x.jsonl")

    async def main(session: Session) -> None:
        await session.update(instructions="x")

    report = run_replay(path, Bus(), backend=backend, main=main)
    assert "main program" in report.notes[0]
    text = path.read_text().replace('"type":"session.created"', '"type":"session.greeted"')
    path.write_text(text)
    try:
        run_replay(path, Bus(), backend=backend)
    except ConnectError:
        pytest.fail("it has no beginning, so that none is waited for")


@pytest.mark.parametrize("odd", [{"type": "rumour"}, ["no", "event"], {}])
def test_what_is_odd_before_the_first_settings_ends_no_opening(tmp_path: Path, odd: object) -> None:
    """The settings that were given to `connect` stay those, whatever a server says before."""
    settings = {"type": "session.update", "event_id": "a", "session": {"type": "realtime"}}
    path = written(tmp_path / "odd.jsonl", (0.1, "in", odd), (0.2, "out", settings))
    assert not run_replay(path, Bus()).differences

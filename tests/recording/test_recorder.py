"""Sessions on disk, as an application records them."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from realtime_bus import Bus, UsageError
from realtime_bus import events as ev
from realtime_bus._virtual_time import run_virtual
from realtime_bus.audio import PlayedItem
from realtime_bus.recording import (
    Ended,
    Flushed,
    Header,
    Left,
    Named,
    Played,
    Received,
    Recording,
    Sent,
    Told,
)
from realtime_bus.server import RealtimeServer, ScriptResponder, ScriptTurn
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import NullSink

from ..plugins._wire import Clock  # noqa: TID252  # tests are no package with a name of its own
from ..session._doubles import Double, calling  # noqa: TID252  # the same
from ._live import data, lines_of, of, only, recorded

pytestmark = pytest.mark.anyio


class OrderPlaced(ev.AppEvent):
    """An event of the application's own."""

    dishes: list[str]
    photo: bytes = b""
    thing: Any = None


async def test_a_session_is_on_disk_when_its_block_has_been_left(tmp_path: Path) -> None:
    """Header, frames as they came, in their order, and how it ended."""
    recorder = Recorder(tmp_path / "calls", labels={"caller": "7"})
    frame = b'{"type":"rate_limits.updated", "rate_limits":[],\n "event_id":"e"}'
    async with recorded(recorder) as (session, wire):
        session.send_nowait(ev.InputAudioBufferClear(event_id="mine"))
        wire.transport.feed(frame)
        path = recorder.path_of(session)
    lines = lines_of(tmp_path / "calls")
    assert path == only(tmp_path / "calls")
    header = lines[0]
    assert isinstance(header, Header)
    assert (header.labels, header.audio, header.texts, header.part) == (
        {"caller": "7"},
        True,
        True,
        0,
    )
    assert header.library.startswith("realtime-bus ")
    created, sent, limits = [line for line in lines if isinstance(line, Received | Sent)]
    assert json.loads(created.data)["type"] == "session.created"
    assert isinstance(sent, Sent)
    assert sent.data == wire.frames[0]
    assert limits.data == frame.replace(b"\n", b" ")
    assert lines[-1] == Ended(t_us=lines[-1].t_us, code=1000, clean=True)
    times = [line.t_us for line in lines]
    assert times == sorted(times)


async def test_every_frame_of_a_conversation_is_there(tmp_path: Path) -> None:
    """Over a socket: as many as the session counts, byte for byte what it was sent."""
    seen: list[bytes] = []

    class Tap:
        def attach(self, session: Any) -> None:
            session.tap(received=seen.append, sent=seen.append)

    server = RealtimeServer(ScriptResponder([ScriptTurn(assistant="Well, hello.")]))
    bus = Bus(plugins=[Tap(), Recorder(tmp_path)], raise_handler_errors=True)
    async with server.serve() as bound, bus.connect(bound.url_for("m")) as session:
        await session.append_audio(bytes(9600))
        await session.respond(timeout_s=60)
        count = session.statistics()
    assert Recording(only(tmp_path)).header.url == bound.url_for("m").partition("?")[0]
    assert data(lines_of(tmp_path)) == seen
    assert len(seen) >= count.frames_received + count.frames_sent


async def test_what_the_bus_tells_is_written_down(tmp_path: Path) -> None:
    """An application's event with what can be told of its fields; a failure with its place."""
    async with recorded(Recorder(tmp_path), raises=False) as (session, wire):
        session.on(ev.InputAudioBufferSpeechStarted)(fails)
        session.emit(OrderPlaced(dishes=["soup", "b\ud800d"], photo=bytes(99), thing=Unprintable()))
        wire.interrupt()
    told = {line.type: line for line in of(lines_of(tmp_path), Told)}
    order = told["app.order_placed"]
    assert order.application
    assert order.event["dishes"] == ["soup", "b?d"]
    assert order.event["photo"] == {"bytes": 99}
    assert "no text" in order.event["thing"]
    failed = told["bus.handler_failed"].event
    assert failed["event_type"] == "input_audio_buffer.speech_started"
    assert failed["error"]["type"] == "ValueError"
    assert failed["error"]["text"] == "broken"
    assert "test_recorder.py:" in failed["error"]["at"]
    assert told["bus.closed"].event == {"code": 1000, "reason": "", "clean": True}


def fails(_: ev.InputAudioBufferSpeechStarted) -> None:
    """Raise."""
    raise ValueError("broken")


class Unprintable:
    """Something of the application's that has no text."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


async def test_an_endless_event_is_cut(tmp_path: Path) -> None:
    """One that holds itself, and one of a megabyte."""
    endless: list[Any] = []
    endless.append(endless)
    async with recorded(Recorder(tmp_path)) as (session, _):
        session.emit(OrderPlaced(dishes=["x" * 1_000_000], thing=endless))
    [line] = [each for each in of(lines_of(tmp_path), Told) if each.application]
    assert len(json.dumps(line.event)) < 20_000


async def test_where_playback_stands_is_asked_along_with_frames(tmp_path: Path) -> None:
    """Not with each: as often as a quarter of a second allows. The last look is at the end."""
    clock = Clock()
    sink = NullSink(clock=clock)
    async with recorded(sink, Recorder(tmp_path, sink=sink)) as (session, wire):
        wire.respond()
        wire.speak(bytes(48 * 1000))
        clock.now_s += 0.4
        for _ in range(50):
            session.send_nowait(ev.InputAudioBufferClear())
    played = of(lines_of(tmp_path), Played)
    assert len(played) < 10
    assert played[-1].items == [PlayedItem(item_id="a", played_ms=400, written_ms=1000)]


async def test_a_barge_in_is_a_flush(tmp_path: Path) -> None:
    """It tells what of each item was heard, as the sink said, before the truncation is sent."""
    clock = Clock()
    sink = NullSink(clock=clock)
    async with recorded(sink, Interruption(sink), Recorder(tmp_path, sink=sink)) as (_, wire):
        wire.respond()
        wire.speak(bytes(48 * 1000))
        clock.now_s += 0.4
        wire.interrupt()
    lines = lines_of(tmp_path)
    [flushed] = of(lines, Flushed)
    assert flushed.items == [PlayedItem(item_id="a", played_ms=400, written_ms=1000)]
    assert not flushed.noticed
    assert not flushed.settled


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_flush_by_hand_is_one_flush(tmp_path: Path, backend: Any) -> None:
    """It is not noticed from its own truncation, too, if a look is due just then."""
    sink = NullSink()
    interruption = Interruption(sink)
    recorder = Recorder(tmp_path, sink=sink)

    async def main() -> None:
        async with recorded(recorder, sink, interruption) as (session, wire):
            wire.respond()
            wire.speak(bytes(48 * 5_000))
            await anyio.sleep(1)
            session_look(wire)
            await anyio.sleep(1)  # without a frame
            interruption.interrupt(session)

    run_virtual(main, backend=backend)
    [flushed] = of(lines_of(tmp_path), Flushed)
    assert not flushed.noticed
    assert [(item.item_id, item.played_ms) for item in flushed.items] == [("a", 2000)]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_was_heard_in_the_middle_of_another_item_was_not_flushed(
    tmp_path: Path, backend: Any
) -> None:
    """A server may mix items: one is over before the other that began earlier."""
    sink = NullSink()

    async def main() -> None:
        async with recorded(sink, Recorder(tmp_path, sink=sink)) as (_, wire):
            wire.respond()
            for item_id, length_ms in (("a", 400), ("b", 100), ("a", 4000)):
                wire.speak(bytes(48 * length_ms), item_id=item_id)
            for _ in range(18):
                await anyio.sleep(0.3)
                session_look(wire)

    run_virtual(main, backend=backend)
    assert of(lines_of(tmp_path), Flushed) == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_flush_of_somebody_elses_is_noticed(tmp_path: Path, backend: Any) -> None:
    """What is gone sooner than it can have been heard, was flushed; what was heard was not."""
    sink = NullSink()

    async def main() -> None:
        async with recorded(sink, Recorder(tmp_path, sink=sink)) as (_, wire):
            wire.respond()
            wire.speak(bytes(48 * 1_000))
            for _ in range(5):
                await anyio.sleep(0.3)
                session_look(wire)
            wire.speak(bytes(48 * 60_000), item_id="b")
            await anyio.sleep(0.3)
            session_look(wire)
            sink.flush()
            await anyio.sleep(0.3)
            session_look(wire)

    run_virtual(main, backend=backend)
    lines = lines_of(tmp_path)
    [flushed] = of(lines, Flushed)
    assert flushed.noticed
    assert [item.item_id for item in flushed.items] == ["b"]
    assert [[item.played_ms for item in line.items] for line in of(lines, Played)] == [
        [300],
        [600],
        [900],
        [],
        [300],
        [],
    ]


def session_look(wire: Any) -> None:
    """Let a frame come."""
    wire.feed(ev.InputAudioBufferCleared())


async def test_a_sink_that_settles_later_is_waited_for(tmp_path: Path) -> None:
    """What it has learned by then stands in a line of its own."""

    class Far(NullSink):
        async def settled(self) -> list[PlayedItem]:
            return [PlayedItem(item_id="a", played_ms=450, written_ms=1000)]

    clock = Clock()
    sink = Far(clock=clock)
    async with recorded(sink, Interruption(sink), Recorder(tmp_path, sink=sink)) as (session, wire):
        wire.respond()
        wire.speak(bytes(48 * 1000))
        clock.now_s += 0.4
        truncated = session.wait_for(ev.ConversationItemTruncated, timeout_s=60)
        wire.interrupt()
        for _ in range(20):
            if wire.frames:
                break
            await anyio.lowlevel.checkpoint()
        wire.feed(ev.ConversationItemTruncated(item_id="a", content_index=0, audio_end_ms=450))
        await truncated
    first, later = of(lines_of(tmp_path), Flushed)
    assert [item.played_ms for item in first.items] == [400]
    assert later.settled
    assert [item.played_ms for item in later.items] == [450]


async def test_a_sink_that_fails_is_asked_no_more(tmp_path: Path) -> None:
    """It is reported once; the recording goes on."""

    class Broken(NullSink):
        def positions(self) -> list[PlayedItem]:
            raise OSError("no device")

    failed: list[ev.HandlerFailed] = []
    async with recorded(Recorder(tmp_path, sink=Broken()), raises=False) as (session, wire):
        session.on(ev.HandlerFailed)(failed.append)
        for _ in range(5):
            session_look(wire)
    assert len(of(lines_of(tmp_path), Received)) == 6
    assert len(failed) <= 1


async def test_one_recorder_serves_many_sessions(tmp_path: Path) -> None:
    """Each has its own file, its own labels and its own sink."""
    sinks: dict[str, NullSink] = {}

    def sink_of(session: Any) -> NullSink:
        return sinks.setdefault(session.state, NullSink())

    recorder = Recorder(
        tmp_path, sink=sink_of, labels=lambda session: {"caller": str(session.state)}
    )
    bus = Bus(plugins=[recorder])
    server = RealtimeServer()
    async with (
        server.connect_memory() as one,
        server.connect_memory() as two,
        bus.session(one, state="a") as first,
        bus.session(two, state="b") as second,
    ):
        paths = [recorder.path_of(first), recorder.path_of(second)]
    labels = [Recording(path).header.labels["caller"] for path in paths if path is not None]
    assert labels == ["a", "b"]
    assert set(sinks) == {"a", "b"}


async def test_a_recording_is_rotated_by_size(tmp_path: Path) -> None:
    """Each file has a header and stays within its bound; together they read as one."""
    recorder = Recorder(tmp_path, max_file_bytes=20_000)
    async with recorded(recorder) as (session, wire):
        for number in range(20):
            session.send_nowait(ev.InputAudioBufferAppend(audio=bytes(1500), event_id=f"e{number}"))
            if number % 5 == 4:
                recorder_flush(recorder, session)
    recording = Recording(only(tmp_path))
    assert len(recording.paths) > 1
    assert all(path.stat().st_size <= 20_000 for path in recording.paths)
    headers = [Recording(path).header for path in recording.paths]
    assert [header.part for header in headers] == list(range(len(headers)))
    assert {header.recording_id for header in headers} == {recording.header.recording_id}
    assert [line.data for line in of(list(recording), Sent)] == wire.frames
    assert len(of(list(recording), Header)) == 1
    times = [header.t_us for header in headers]
    assert times == sorted(set(times))
    assert times[-1] <= of(list(recording), Ended)[0].t_us


def recorder_flush(recorder: Recorder, session: Any) -> None:
    """Wait until what was recorded by now is on disk."""
    from realtime_bus.recording import _spool

    for spool in _spool._thread.spools:
        spool.flush()


async def test_a_compressed_recording_reads_the_same(tmp_path: Path) -> None:
    """It is smaller, and its files end in .zst."""
    async with recorded(Recorder(tmp_path, compress=True)) as (session, wire):
        for _ in range(20):
            session.send_nowait(ev.InputAudioBufferAppend(audio=bytes(1500)))
    path = only(tmp_path)
    assert path.name.endswith(".jsonl.zst")
    assert path.stat().st_size < 10_000
    lines = lines_of(tmp_path)
    assert [line.data for line in of(lines, Sent)] == wire.frames
    assert not of(lines, Left)


async def test_a_session_that_is_refused_by_another_plugin_has_ended(tmp_path: Path) -> None:
    """Its recording says so."""

    class Refuses:
        def attach(self, session: Any) -> None:
            raise UsageError("not today")

    with pytest.raises(UsageError, match="not today"):
        async with recorded(Recorder(tmp_path), Refuses()):
            pass
    assert [type(line) for line in lines_of(tmp_path)][-1] is Ended


def test_a_size_of_nothing_is_refused(tmp_path: Path) -> None:
    """No file could hold a line."""
    with pytest.raises(UsageError, match="max_file_bytes=0"):
        Recorder(tmp_path, max_file_bytes=0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_times_are_those_of_the_loop(tmp_path: Path, backend: Any) -> None:
    """An hour that passes in no time is an hour in the recording."""

    async def main() -> None:
        async with recorded(Recorder(tmp_path)) as (session, _):
            await anyio.sleep(3600)
            session.send_nowait(ev.InputAudioBufferClear())

    run_virtual(main, backend=backend)
    [sent] = of(lines_of(tmp_path), Sent)
    assert sent.t_us == pytest.approx(3600e6, abs=1e6)


async def test_fifty_sessions_at_once(tmp_path: Path) -> None:
    """Each recording has its own frames, in order, and nothing is missing."""
    recorder = Recorder(tmp_path)
    bus = Bus(plugins=[recorder])
    server = RealtimeServer()
    async with AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(
                bus.session(await stack.enter_async_context(server.connect_memory()), state=number)
            )
            for number in range(50)
        ]
        for turn in range(20):
            for session in sessions:
                event_id = f"{session.state}-{turn}"
                session.send_nowait(ev.InputAudioBufferAppend(audio=bytes(960), event_id=event_id))
            await anyio.lowlevel.checkpoint()
        paths = {session.state: recorder.path_of(session) for session in sessions}
    for number, path in paths.items():
        assert path is not None
        lines = list(Recording(path))
        ids = [json.loads(line.data)["event_id"] for line in of(lines, Sent)]
        assert ids == [f"{number}-{turn}" for turn in range(20)]
        assert isinstance(lines[-1], Ended)
        assert not of(lines, Left)


async def test_what_a_reconnect_needs_stands_aside(tmp_path: Path) -> None:
    """Frames that only the library sees are told from those that handlers see; and so are names."""
    one, two = Double(1), Double(2, ids=lambda item_id: f"there_{item_id}")
    heard: list[str] = []
    bus = Bus(plugins=[Recorder(tmp_path)])
    bus.on("conversation.item.*")(lambda event: heard.append(event.type))
    async with calling(one, two, bus=bus) as (session, _):
        item = ev.MessageItem(id="u1", role="user", content=[ev.InputText(text="hello")])
        one.say(*one.add(item))
        back = session.wait_for(ev.Reconnected, timeout_s=60)
        one.hang_up()
        await back
        heard.clear()
        two.say(*two.add(ev.MessageItem(id="u2", role="user", content=[])))
    lines = lines_of(tmp_path)
    after = lines[next(at for at, line in enumerate(lines) if isinstance(line, Named)) :]
    assert [line.names for line in of(lines, Named)] == [{"there_u1": "u1"}]
    aside = [json.loads(line.data)["type"] for line in of(lines, Received) if line.aside]
    assert aside[0] == "session.created"
    assert "conversation.item.done" in aside  # of what was given back: nobody hears of it
    seen = [json.loads(line.data)["type"] for line in of(after, Received) if not line.aside]
    assert seen == heard

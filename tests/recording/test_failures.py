"""What goes wrong with a recording never goes wrong with its session, and is told."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from realtime_bus import events as ev
from realtime_bus.recording import (
    Ended,
    Header,
    Left,
    Played,
    Received,
    Recording,
    RecordingSpool,
    Sent,
    _spool,
    _writing,
)
from realtime_bus_plugins.recorder import Recorder, RecordingIncomplete

from ._live import lines_of, of, only, recorded

pytestmark = pytest.mark.anyio


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """Return what the library's log says."""
    with capture_logs() as lines:
        yield lines


class _WhenTold(_spool._WritingThread):
    """Writes when a test says so, and at the end; no thread takes its turn meanwhile."""

    def serve(self, spool: _spool.RecordingSpool) -> None:
        """Do nothing for it yet."""
        self._spools[spool] = None

    def finish(self, spool: _spool.RecordingSpool) -> None:
        """Write the rest."""
        self._flush(spool)


@pytest.fixture(autouse=True)
def nothing_by_itself() -> Iterator[None]:
    """Let lines be written when a test says so, and at the end."""
    with pytest.MonkeyPatch.context() as patch:  # not undone along with what a test patches
        patch.setattr(_spool, "FLUSH_S", 3600.0)
        patch.setattr(_spool, "_thread", _WhenTold())
        yield


@pytest.fixture
def writing_thread(nothing_by_itself: None) -> Iterator[None]:
    """Let a thread of the test's own write, when it is told, and at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_spool, "_thread", _spool._WritingThread())
        yield


class Hears:
    """A plugin that keeps what is told of missing lines."""

    def __init__(self) -> None:
        self.told: list[RecordingIncomplete] = []

    def attach(self, session: Any) -> None:
        """Listen."""
        session.on(RecordingIncomplete)(self.told.append)


def clear(session: Any, count: int = 1) -> None:
    """Send something small."""
    for _ in range(count):
        session.send_nowait(ev.InputAudioBufferClear())


def flush() -> None:
    """Have all that was recorded by now written."""
    for spool in _spool._thread.spools:
        spool.flush()


# --- the process is killed -------------------------------------------------------------------

KILLED = """
import sys, time
import anyio
from realtime_bus import Bus, events as ev
from realtime_bus.server import RealtimeServer
from realtime_bus_plugins.recorder import Recorder

async def main():
    bus = Bus(plugins=[Recorder(sys.argv[1], compress=sys.argv[2] == "zstd")])
    async with RealtimeServer().connect_memory() as transport, bus.session(transport) as session:
        number = 0
        while True:
            await session.append_audio(bytes(960))
            session.send_nowait(ev.ConversationItemRetrieve(item_id=f"{time.monotonic()}"))
            if number == 100:
                print("ready", flush=True)
            number += 1
            await anyio.sleep(0.01)

anyio.run(main)
"""


@pytest.mark.parametrize("form", ["plain", "zstd"])
def test_after_a_kill_all_but_the_last_second_is_readable(tmp_path: Path, form: str) -> None:
    """A real process, killed for good in the middle of a session.

    One that the machine has left waiting for half a second proves nothing: it is tried again.
    """
    assert any(_lost_s_at_a_kill(tmp_path / str(number), form) < 1.0 for number in range(4))


def _lost_s_at_a_kill(tmp_path: Path, form: str) -> float:
    """Return the time between the kill and the last frame that is readable."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), form], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    killed_s = time.monotonic()
    process.kill()
    process.communicate()
    lines = lines_of(tmp_path)
    assert not of(lines, Ended)
    assert not of(lines, Left)
    asked = [line.data for line in of(lines, Sent) if b"retrieve" in line.data]
    last_s = float(asked[-1].split(b'"item_id":"')[1].split(b'"')[0])
    return killed_s - last_s


@pytest.mark.parametrize("cut", range(1, 400, 37))
@pytest.mark.parametrize("form", ["jsonl", "jsonl.zst"])
def test_a_file_may_end_anywhere(tmp_path: Path, cut: int, form: str) -> None:
    """Whatever stands in whole is read; the rest is no damage."""
    path = tmp_path / f"x.{form}"
    writer = _writing.RecordingWriter(path, Header(t_us=0, recording_id="x"))
    for number in range(5):
        writer.frame(number, "in", b'{"type":"input_audio_buffer.cleared","n":%d}' % number)
    writer.close()
    whole = path.read_bytes()
    count = len(list(Recording(path)))
    path.write_bytes(whole[: max(len(whole) - cut, 160 if form == "jsonl" else 110)])
    lines = list(Recording(path))
    assert len(lines) <= count
    assert not of(lines, Left)


# --- the disk --------------------------------------------------------------------------------


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> Callable[[], None]:
    """Let no file be written to, until what is returned is called."""
    write = os.write

    rest = [20]

    def full(fd: int, data: Any) -> int:
        if room := rest.pop() if rest else 0:
            return write(fd, data[:room])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_writing.os, "write", full)
    return lambda: monkeypatch.setattr(_writing.os, "write", write)


@pytest.mark.parametrize("compress", [False, True])
async def test_a_full_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[Any], compress: bool
) -> None:
    """It is told once. Once there is room, what could not be written goes on where it stopped."""
    hears = Hears()
    async with recorded(hears, Recorder(tmp_path, compress=compress)) as (session, wire):
        clear(session, 3)
        flush()
        room = refuse(monkeypatch, errno.ENOSPC)
        for _ in range(3):
            clear(session, 5)
            flush()
            monkeypatch.setattr(_spool, "monotonic", lambda: float("inf"))
        room()
        clear(session, 2)
        flush()
        assert len(of(lines_of(tmp_path), Sent)) == 20
        monkeypatch.undo()
        clear(session)
        assert len(wire.frames) == 21
    lines = lines_of(tmp_path)
    assert not of(lines, Left)
    assert [line.data for line in of(lines, Sent)] == wire.frames
    assert len(hears.told) == 1
    assert "No space left" in hears.told[0].reason
    names = [line["event"] for line in told if "recording" in line["event"]]
    assert names == [
        "a recording is incomplete",
        "the recording goes on",
        "a recording is complete",
    ]


async def test_a_disk_that_stays_full_is_told_with_what_it_has_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[Any]
) -> None:
    """What waits is bounded; at the end it is said how much is missing; whole lines are read."""
    recorder = Recorder(tmp_path, max_pending_bytes=100_000)
    async with recorded(recorder) as (session, _):
        clear(session, 3)
        flush()
        refuse(monkeypatch, errno.ENOSPC)
        clear(session, 2000)
        flush()
        clear(session, 2000)
    lines = lines_of(tmp_path)
    assert len(of(lines, Sent)) == 3
    assert not of(lines, Left)
    [gaps] = [line for line in told if line["event"] == "a recording has gaps"]
    assert gaps["left_lines"] >= 4000


async def test_what_a_full_disk_has_cost_stands_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound lines are left out, and the file says how many, and why."""
    recorder = Recorder(tmp_path, max_pending_bytes=100_000)
    async with recorded(recorder) as (session, _):
        clear(session, 3)
        flush()
        room = refuse(monkeypatch, errno.ENOSPC)
        for _ in range(40):
            clear(session, 100)
            flush()
        room()
        monkeypatch.setattr(_spool, "monotonic", lambda: float("inf"))
        flush()
        clear(session, 2)
    lines = lines_of(tmp_path)
    [left] = of(lines, Left)
    assert left.lines + len(of(lines, Sent)) == 4005
    assert "No space left" in left.why
    assert isinstance(lines[-1], Ended)


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="POSIX")
async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, told: list[Any]) -> None:
    """The session goes on, without a recording."""
    (tmp_path / "file").write_text("no folder")
    hears = Hears()
    async with recorded(hears, Recorder(tmp_path / "file" / "calls")) as (session, wire):
        flush()
        clear(session, 3)
        flush()
        clear(session)
        assert len(wire.frames) == 4
    assert len(hears.told) == 1
    assert [line["event"] for line in told if line["log_level"] == "warning"] == [
        "a recording is incomplete",
        "a recording has gaps",
    ]


async def test_a_deleted_file_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[Any]
) -> None:
    """Whoever deletes it does not want it; it is looked every few seconds."""
    monkeypatch.setattr(_writing, "LOOK_S", 0.0)
    hears = Hears()
    async with recorded(hears, Recorder(tmp_path)) as (session, _):
        flush()
        only(tmp_path).unlink()
        clear(session)
        flush()
        clear(session)
        flush()
        clear(session)
        assert "deleted" in hears.told[0].reason
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # as short as it can be
    [why] = [line["why"] for line in told if line["event"] == "a recording is incomplete"]
    assert "deleted" in why


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_limit_of_the_system_is_a_full_disk(tmp_path: Path) -> None:
    """RLIMIT_FSIZE, in a real process: the session goes on to its end."""
    script = """
import resource, sys
import anyio
from realtime_bus import Bus, events as ev
from realtime_bus.server import RealtimeServer
from realtime_bus_plugins.recorder import Recorder
from realtime_bus.recording import _spool
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
async def main():
    bus = Bus(plugins=[Recorder(sys.argv[1])])
    async with RealtimeServer().connect_memory() as transport, bus.session(transport) as session:
        _spool._thread.spools[0].flush()
        for _ in range(100):
            await session.append_audio(bytes(960))
        print("done", len(session.statistics().handlers) >= 0)
anyio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, timeout=250, check=False
    )
    assert done.stdout.startswith(b"done")
    assert done.returncode == 0
    assert b"File too large" in done.stderr
    assert len(of(lines_of(tmp_path), Received)) >= 1


# --- too much --------------------------------------------------------------------------------


@pytest.mark.usefixtures("writing_thread")
async def test_what_finds_no_room_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk hangs: a bound in bytes holds; afterwards the recording goes on."""
    hangs, go_on = threading.Event(), threading.Event()
    put = _writing.RecordingWriter.put

    def slow(self: Any, lines: Any) -> None:
        if b'"kind":"out"' in bytes(lines) and not go_on.is_set():
            hangs.set()
            go_on.wait(20)
        put(self, lines)

    monkeypatch.setattr(_writing.RecordingWriter, "put", slow)
    hears = Hears()
    async with recorded(hears, Recorder(tmp_path, max_pending_bytes=200_000)) as (session, wire):
        clear(session)
        _spool._thread.hurry(*_spool._thread.spools)
        await anyio.to_thread.run_sync(hangs.wait, 20)
        for _ in range(40):
            session.send_nowait(ev.InputAudioBufferAppend(audio=bytes(7500)))
        [spool] = _spool._thread.spools
        assert sum(len(body) for _, _, body in spool._entries) < 200_000
        go_on.set()
        flush()
        clear(session, 3)
        assert len(wire.frames) == 44
    lines = lines_of(tmp_path)
    sent, left = of(lines, Sent), of(lines, Left)
    assert sum(each.lines for each in left) + len(sent) == 44
    assert len(left) == 1
    assert len(hears.told) == 1
    assert "faster than" in hears.told[0].reason


async def test_a_frame_beyond_the_bound_is_left_out(tmp_path: Path) -> None:
    """The others are not."""
    async with recorded(Recorder(tmp_path, max_pending_bytes=200_000)) as (session, wire):
        clear(session)
        wire.transport.feed(b'{"type":"x","pad":"' + b"x" * 300_000 + b'"}')
        clear(session)
    lines = lines_of(tmp_path)
    assert len(of(lines, Sent)) == 2
    [left] = of(lines, Left)
    assert left.bytes > 300_000


@pytest.mark.usefixtures("writing_thread")
async def test_sessions_share_the_room_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one has taken another cannot; at the end all is given back."""
    monkeypatch.setattr(_spool, "_room", room := _spool._Room(150_000))
    monkeypatch.setattr(_spool._WritingThread, "_flush", lambda self, spool: None)
    recorder = Recorder(tmp_path)
    async with recorded(recorder) as (one, _), recorded(recorder) as (two, _):
        spools = _spool._thread.spools[-2:]
        for _ in range(30):
            for session in (one, two):
                session.send_nowait(ev.InputAudioBufferAppend(audio=bytes(4000)))
        assert all(spool.left_lines for spool in spools)
        monkeypatch.undo()
    for spool in spools:
        assert spool.wait(10)
    assert room._left == 150_000


@pytest.mark.usefixtures("writing_thread")
async def test_a_disk_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving waits for it a while, and no longer; it is written when the disk goes on."""
    monkeypatch.setattr(_spool, "CLOSE_S", 0.1)
    go_on = threading.Event()
    put = _writing.RecordingWriter.put

    def slow(self: Any, lines: Any) -> None:
        go_on.wait(20)
        put(self, lines)

    monkeypatch.setattr(_writing.RecordingWriter, "put", slow)
    async with recorded(Recorder(tmp_path)) as (session, _):
        clear(session)
        spools = _spool._thread.spools
    go_on.set()
    assert all(spool.wait(10) for spool in spools)
    assert of(lines_of(tmp_path), Ended)


# --- other ways to end -----------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_forked_child_writes_nothing(tmp_path: Path) -> None:
    """Its parent's recording stays whole."""
    async with recorded(Recorder(tmp_path)) as (session, wire):
        clear(session, 3)
        child = os.fork()
        if child == 0:
            clear(session, 3)
            flush()
            os._exit(len(_spool._thread.spools))
        assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222  # it has nothing to wait for
        clear(session)
        assert len(wire.frames) == 4
    lines = lines_of(tmp_path)
    assert len(of(lines, Sent)) == 4
    assert not of(lines, Left)


def test_a_process_that_ends_in_mid_session_loses_nothing(tmp_path: Path) -> None:
    """Whoever calls exit() has not left the block."""
    script = """
import sys
import anyio
from realtime_bus import Bus, events as ev
from realtime_bus.server import RealtimeServer
from realtime_bus_plugins.recorder import Recorder
async def main():
    transport = await RealtimeServer().connect_memory().__aenter__()
    session = await Bus(plugins=[Recorder(sys.argv[1])]).session(transport).__aenter__()
    session.send_nowait(ev.InputAudioBufferClear())
    import os, atexit
    atexit._run_exitfuncs()
    os._exit(0)
anyio.run(main)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=250, check=True)
    assert len(of(lines_of(tmp_path), Sent)) == 1


async def test_a_cancelled_session_is_recorded_to_its_end(tmp_path: Path) -> None:
    """The file is complete, however the block was left."""
    with anyio.CancelScope() as scope:
        async with recorded(Recorder(tmp_path)) as (session, _):
            clear(session)
            scope.cancel()
            await anyio.sleep_forever()
    lines = lines_of(tmp_path)
    assert len(of(lines, Sent)) == 1
    assert isinstance(lines[-1], Ended)


def test_a_frame_is_marked_where_playback_was_asked_along_with_it(tmp_path: Path) -> None:
    """What is said of the last frame is said of it, whatever was written down behind it."""
    path = tmp_path / "a.jsonl"
    spool = RecordingSpool(path, Header(t_us=0), clock=time.monotonic)

    def look(now_s: float) -> float:
        spool.write(Played(t_us=spool.us(now_s)))
        return now_s

    spool.look(look)
    for frame in (b'{"type":"aside"}', b"broken"):
        spool.received(frame)
        if frame != b"broken":
            spool.aside(frame, False)
    assert spool.close()
    aside, broken = [line for line in Recording(path) if isinstance(line, Received)]
    assert aside.aside
    assert (broken.broken, broken.data) == ("YnJva2Vu", b"broken")


def test_lines_are_taken_while_others_are_made(tmp_path: Path) -> None:
    """The thread may come at any moment: no line is lost, doubled or torn."""
    spool = RecordingSpool(tmp_path / "a.jsonl", Header(t_us=0), clock=time.monotonic)
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            spool.flush()

    writer = threading.Thread(target=write)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        writer.start()
        for number in range(3000):
            spool.received(b'{"type":"input_audio_buffer.cleared","n":%d}' % number)
            spool.write(Played(t_us=number))
    finally:
        ended.set()
        sys.setswitchinterval(interval_s)
        writer.join()
    assert spool.close()
    lines = list(Recording(spool.path))[1:]
    assert [line.t_us for line in of(lines, Played)] == [*range(3000)]
    assert [
        b'"n":%d}' % number in line.data for number, line in enumerate(of(lines, Received))
    ] == ([True] * 3000)


@pytest.mark.parametrize("form", ["jsonl", "jsonl.zst"])
def test_files_end_between_lines(tmp_path: Path, form: str) -> None:
    """However much is written at once; a frame longer than a file has one of its own."""
    path = tmp_path / f"a.{form}"
    spool = RecordingSpool(path, Header(t_us=0), clock=time.monotonic, max_file_bytes=3000)
    frames = [b'{"type":"x","n":%d,"pad":"%b"}' % (n, b"x" * (n * 37 % 900)) for n in range(40)]
    frames.insert(20, b'{"type":"x","pad":"%b"}' % (b"y" * 20_000))
    for frame in frames:
        spool.received(frame)
    assert spool.close()
    recording = Recording(path)
    lines = [*recording]
    assert not of(lines, Left)
    assert [line.data for line in of(lines, Received)] == frames
    if form == "jsonl":
        sizes = sorted(each.stat().st_size for each in recording.paths)
        assert len(sizes) > 5
        assert sizes[-2] <= 3000
        assert sizes[-1] > 20_000

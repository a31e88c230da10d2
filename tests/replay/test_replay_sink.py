"""What was heard then is heard again: interruptions decide as they did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, PlayedItem, check_sink
from realtime_bus.recording import Played, ReplaySink, run_replay
from realtime_bus.testing import Backend
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted, PlaybackStarted
from realtime_bus_plugins.sinks import NullSink

from ._tape import cut, speech, spoken, written


@pytest.fixture
def backend(anyio_backend: Backend) -> Backend:
    """Replay on both backends."""
    return anyio_backend


def talker(sink: AudioSink) -> Bus:
    """Return a bus that can be interrupted."""
    return Bus(plugins=[sink, Interruption(sink)])


def test_an_interruption_cuts_where_it_did(tmp_path: Path, backend: Backend) -> None:
    """The device had played 1.7 s when 2 s had passed: that is what the server is told again."""
    path = written(tmp_path / "a.jsonl", *spoken(1, 1), speech(3), *cut(3, 1, played_ms=1700))
    assert run_replay(path, talker, backend=backend).differences == []


def test_another_sink_hears_something_else(tmp_path: Path, backend: Backend) -> None:
    """It is told, and so is why; a few milliseconds are no difference."""
    path = written(tmp_path / "a.jsonl", *spoken(1, 1), speech(3), *cut(3, 1, played_ms=1700))
    report = run_replay(path, talker(NullSink()), backend=backend)
    [change] = report.differences[0].changes
    assert (change.path, change.then, change.now) == ("audio_end_ms", 1700, 2000)
    assert "NullSink heard what it was given now" in str(report)
    same = run_replay(path, talker(NullSink()), backend=backend, audio_within_ms=300)
    assert same.differences == []


def test_each_flush_counts_once(tmp_path: Path, backend: Backend) -> None:
    """Speech in silence silences nothing; two interruptions are two."""
    path = written(
        tmp_path / "a.jsonl",
        speech(0.5),
        *spoken(1, 1),
        speech(1.3),
        *cut(1.3, 1, played_ms=250),
        *spoken(1.5, 2),
        speech(1.9),
        *cut(1.9, 2, played_ms=333),
        speech(2.0),
    )
    interrupted: list[list[int]] = []

    def bus(sink: ReplaySink) -> Bus:
        made = talker(sink)
        made.on(PlaybackInterrupted)(
            lambda event: interrupted.append([item.played_ms for item in event.items])
        )
        return made

    assert run_replay(path, bus, backend=backend).differences == []
    assert interrupted == [[250], [333]]


def test_a_flush_of_now_alone_is_by_the_recordings_clock(tmp_path: Path, backend: Backend) -> None:
    """A bus that falls silent elsewhere has heard what had been played by then."""
    told = Played(t_us=0, items=[PlayedItem(item_id="i1", played_ms=1400, written_ms=5000)])
    path = written(tmp_path / "a.jsonl", *spoken(1, 1), (3.0, told), (4.0, "in", {"type": "late"}))
    heard: list[int] = []

    def bus(sink: ReplaySink) -> Bus:
        made = Bus(plugins=[sink])

        @made.on(ev.UnknownEvent)
        def silence(_event: ev.UnknownEvent) -> None:  # pyright: ignore[reportUnusedFunction]  # registered
            assert sink.playing
            heard.extend(item.played_ms for item in sink.flush())
            assert not sink.playing

        return made

    report = run_replay(path, bus, backend=backend)
    assert report.differences == []
    assert heard == [2400]


def test_audio_that_was_left_out_is_silence_as_long(tmp_path: Path, backend: Backend) -> None:
    """A recording without audio is replayed like one with it."""
    path = written(tmp_path / "a.jsonl", *spoken(1, 1), speech(3), *cut(3, 1, played_ms=1700))
    delta = next(line for line in path.read_bytes().splitlines() if b"audio.delta" in line)
    audio = delta.partition(b'"delta":"')[2].partition(b'"')[0]
    without = delta.replace(audio, b"")[:-1] + b',"audio_bytes":240000}'
    path.write_bytes(path.read_bytes().replace(delta, without))
    received: list[int] = []

    def bus(sink: ReplaySink) -> Bus:
        made = talker(sink)
        made.on(PlaybackInterrupted)(
            lambda event: received.extend(item.received_ms for item in event.items)
        )
        return made

    assert run_replay(path, bus, backend=backend).differences == []
    assert received == [5000]


def test_items_begin_to_play_when_they_did(tmp_path: Path, backend: Backend) -> None:
    """Handlers of `PlaybackStarted` are called in the recording's time."""
    path = written(tmp_path / "a.jsonl", *spoken(1, 1, length_s=2), *spoken(1.5, 2, length_s=1))
    began: list[tuple[str, float]] = []

    def bus(sink: ReplaySink) -> Bus:
        made = talker(sink)

        @made.on(PlaybackStarted)
        def note(event: PlaybackStarted, session: Session[Any]) -> None:  # pyright: ignore[reportUnusedFunction]  # registered
            began.append((event.item_id, round(session.clock() - zero_s[0], 3)))

        @made.on(ev.SessionCreated)
        def begin(_event: ev.SessionCreated, session: Session[Any]) -> None:  # pyright: ignore[reportUnusedFunction]  # registered
            zero_s.append(session.clock())

        return made

    zero_s: list[float] = []
    path_with_end = path.read_text().replace('"t_us":2000000', '"t_us":5000000')
    path.write_text(path_with_end)
    run_replay(path, bus, backend=backend)
    assert began[0] == ("i1", 1.0)
    assert began[1] == ("i2", pytest.approx(3.0, abs=0.01))


def test_it_keeps_the_contract_of_sinks() -> None:
    """It is a sink like any other, on the recording's clock."""
    now_us = [0]

    def advance(length_s: float) -> None:
        now_us[0] += round(length_s * 1e6)

    check_sink(
        lambda: ReplaySink([], lambda: now_us[0]),
        advance=advance,
        formats=[ev.AudioPCM(), ev.AudioPCMU()],
    )

"""What the provider really played to the ear, beside what the line says was heard."""

from __future__ import annotations

import json
import random

import pytest

from realtime_bus.audio import check_sink, ms_to_bytes
from realtime_bus.events import AudioPCMU

from ._ear import STARTS, Ear, read_sent

PROVIDERS = sorted(STARTS)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_line_keeps_the_contract_of_sinks(provider: str) -> None:
    """Marks come back frame by frame: what is reported is at most a frame behind."""
    ears: list[Ear] = []

    def make() -> Ear:
        ears.append(Ear(provider))
        return ears[-1]

    check_sink(
        make,
        advance=lambda seconds: ears[-1].advance(seconds),  # noqa: PLW0108 - of the last one
        formats=[make().audio_format],
        tolerance_ms=20,
    )


def chance(seed: object) -> random.Random:
    """Return the same chance every time."""
    return random.Random(str(seed))  # noqa: S311 - no secret


def talk(ear: Ear, source: random.Random, interruptions: int) -> list[tuple[int, float]]:
    """Let an agent be interrupted again and again; return (truncated at, really heard) in ms."""
    found: list[tuple[int, float]] = []
    for number in range(interruptions):
        item = f"item_{number}"
        ear.start(ear.audio_format)
        per_ms = ms_to_bytes(1, ear.audio_format)
        end_ms = ear.now_ms + source.randint(1, 400)
        left = source.randint(400, 1500) * per_ms
        before_ms = ear.now_ms
        while ear.now_ms < end_ms:  # deltas of any length, now and then late
            length = min(left, source.randint(1, 200) * per_ms + source.randint(0, per_ms))
            ear.write(b"\1" * length, item_id=item)
            left -= length
            ear.advance(min(source.randint(0, 60), end_ms - ear.now_ms) / 1000)
        assert ear.now_ms > before_ms
        clears = len(ear.playout.clears)
        cut = {part.item_id: part.played_ms for part in ear.flush()}
        while len(ear.playout.clears) == clears:  # on its way
            ear.advance(0.001)
        if item in cut:
            found.append((cut[item], ear.playout.clears[-1] / per_ms))
        ear.advance(source.choice([0, 0.02, 0.3]))
    return found


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_truncation_is_within_a_frame_of_what_was_heard(provider: str) -> None:
    """A hundred interruptions of each, without a delay: never behind, at most a frame before.

    Milliseconds are rounded down besides, twice: that is less than two more.
    """
    ear = Ear(provider)
    found = talk(ear, chance(provider), 100)
    assert len(found) > 80
    assert all(0 <= heard - truncated < 22 for truncated, heard in found)
    assert not ear.problems


@pytest.mark.parametrize("provider", PROVIDERS)
def test_late_marks_make_a_truncation_early_and_never_late(provider: str) -> None:
    """Jitter both ways: what is missing is the frame, and what was on its way."""
    source = chance(provider)
    ear = Ear(
        provider, down_ms=lambda: 20 + source.random() * 30, up_ms=lambda: source.random() * 60
    )
    found = talk(ear, source, 60)
    assert len(found) > 50
    assert all(0 <= heard - truncated < 22 + 50 + 60 for truncated, heard in found)
    assert not ear.problems


def test_lost_marks_are_made_up_for_by_later_ones() -> None:
    """Every third mark never comes back: a truncation may be some frames early, never late."""
    source = chance(3)
    ear = Ear(loses=lambda: source.random() < 1 / 3)
    found = talk(ear, source, 60)
    assert all(0 <= heard - truncated <= 20 * 8 for truncated, heard in found)
    close = [heard - truncated <= 40 for truncated, heard in found]
    assert sum(close) > 0.7 * len(close)


def test_marks_that_never_come_back_are_given_up() -> None:
    """A provider that returns no marks: after 5 s the item counts as played, and that is told."""
    ear = Ear(loses=lambda: True)
    ear.start(AudioPCMU())
    ear.write(bytes(8000), item_id="a")
    for _ in range(60):
        ear.advance(0.1)
        ear.take('{"event":"connected"}')  # the line is alive
        if ear.now_ms <= 5_900:
            assert ear.playing
    ear.advance(0.3)
    assert not ear.playing
    assert ear.problems[0].kind == "mark_lost"


def test_a_dead_line_plays_nothing() -> None:
    """Marks are missing because nothing comes at all: nobody knows what was heard."""
    ear = Ear(loses=lambda: True)
    ear.start(AudioPCMU())
    ear.write(bytes(8000), item_id="a")
    ear.advance(10)
    assert ear.playing
    assert ear.positions()[0].played_ms == 0


@pytest.mark.parametrize("race", ["before", "behind"])
def test_marks_that_come_back_for_a_clear_are_not_heard(race: str) -> None:
    """The line returns all marks; some were under way already; the next item has its own."""
    ear = Ear(up_ms=lambda: 30 if race == "behind" else 0)
    ear.start(AudioPCMU())
    ear.write(bytes(8 * 1000), item_id="a")
    ear.advance(0.1)
    [cut] = ear.flush()
    assert cut.played_ms == (60 if race == "behind" else 100)
    ear.write(bytes(8 * 200), item_id="b")
    ear.advance(0.001)
    assert [(part.item_id, part.played_ms) for part in ear.positions()] == [("b", 0)]
    ear.advance(0.3)
    assert not ear.playing


def test_a_mark_that_comes_twice_counts_once() -> None:
    """So does one that nobody sent, and one without a name."""
    ear = Ear()
    ear.start(AudioPCMU())
    ear.write(bytes(8 * 100), item_id="a")
    ear.advance(0.04)
    for name in ("1", "1", "0", "99", "nobody's", "", None, 7, {"name": "3"}):
        assert ear.take(json.dumps({"event": "mark", "mark": {"name": name}})) == []
    assert ear.positions()[0].played_ms == 40


def test_g711_passes_through_untouched_in_frames_of_20_ms() -> None:
    """Whatever the lengths of deltas, the line gets the same bytes, 160 at a time."""
    source = chance(5)
    audio = source.randbytes(8 * 3000 + 77)
    ear = Ear()
    ear.start(AudioPCMU())
    rest = audio
    while rest:
        length = source.randint(1, 1700)
        ear.write(rest[:length], item_id="a")
        rest = rest[length:]
    ear.line.playout.finish()
    ear.advance(4)
    frames = [found for kind, found in map(read_sent, ear.sent) if kind == "audio"]
    assert b"".join(frames) == audio == bytes(ear.playout.heard)
    assert {len(frame) for frame in frames[:-1]} == {160}
    kinds = [kind for kind, _ in map(read_sent, ear.sent)]
    assert kinds == ["audio", "mark"] * len(frames), "a mark behind each frame"
    assert not ear.playing


@pytest.mark.parametrize("mark_ms", [20, 100, 1000])
def test_fewer_marks_make_larger_messages(mark_ms: int) -> None:
    """What a truncation may be early by is what messages are saved for."""
    ear = Ear(mark_ms=mark_ms)
    ear.start(AudioPCMU())
    ear.write(bytes(8 * 5000), item_id="a")
    ear.advance(0.001)
    assert len(ear.sent) == 2 * 5000 / mark_ms
    ear.advance(2.499)
    assert 2500 - mark_ms <= ear.positions()[0].played_ms <= 2500


@pytest.mark.parametrize("provider", ["Telnyx", "Vonage"])
def test_where_a_line_wants_whole_frames_the_last_is_filled_up(provider: str) -> None:
    """Silence behind the end of what was said is not counted as heard."""
    ear = Ear(provider)
    ear.start(ear.audio_format)
    ear.write(bytes(ms_to_bytes(30, ear.audio_format)), item_id="a")
    ear.advance(0.1)
    assert len(ear.playout.heard) == ms_to_bytes(40, ear.audio_format)
    assert not ear.playing
    silent = {"Telnyx": b"\xd5", "Vonage": b"\0"}[provider]
    assert ear.playout.heard.endswith(silent * ms_to_bytes(10, ear.audio_format))


def test_a_providers_buffer_is_never_overfull() -> None:
    """Vonage takes some 20 s: a minute of speech is sent as it is played, without a gap."""
    ear = Ear("Vonage", down_ms=lambda: 30, up_ms=lambda: 30)
    ear.start(ear.audio_format)
    ear.write(bytes(ms_to_bytes(60_000, ear.audio_format)), item_id="a")
    ear.advance(15)
    assert 9_000 <= ear.most_buffered_bytes / 48 <= 10_000
    [playing] = ear.positions()
    assert 15_000 - 130 <= playing.played_ms <= 15_000
    [cut] = ear.flush()
    assert cut.written_ms == 60_000
    ear.write(bytes(ms_to_bytes(100, ear.audio_format)), item_id="b")
    ear.advance(0.2)
    assert not ear.playing, "a clear makes room"


def test_what_was_not_sent_is_not_sent_after_a_clear() -> None:
    """The clear is the next message, however much was waiting."""
    ear = Ear()
    ear.sink.start(AudioPCMU())
    ear.sink.write(bytes(8 * 5000), item_id="a")  # nobody has sent anything yet
    for _ in range(3):
        assert ear.line.playout.next_message() is not None
    ear.sink.flush()
    assert read_sent(ear.line.playout.next_message() or b"") == ("clear", None)
    assert ear.line.playout.next_message() is None

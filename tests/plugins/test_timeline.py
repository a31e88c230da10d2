"""Where playback stands."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from realtime_bus_plugins._playback._timeline import Timeline

MS = 24  # samples per millisecond


def positions(timeline: Timeline, now_ms: float) -> list[tuple[str, int, int]]:
    """Return (item, played ms, written ms) of each part at a time."""
    found = timeline.positions(int(now_ms * MS))
    return [(part.item_id, part.played_ms, part.written_ms) for part in found]


def test_an_item_plays_from_the_moment_it_was_written() -> None:
    """An item that is written into silence starts at once."""
    timeline = Timeline()
    assert timeline.write(5 * MS, 100 * MS, item_id="a") == 5 * MS
    assert positions(timeline, 5) == [("a", 0, 100)]
    assert positions(timeline, 35) == [("a", 30, 100)]


def test_items_play_one_after_the_other() -> None:
    """A second item waits until the first is over, and is reported behind it."""
    timeline = Timeline()
    timeline.write(0, 100 * MS, item_id="a")
    timeline.write(0, 50 * MS, item_id="b")
    assert positions(timeline, 60) == [("a", 60, 100), ("b", 0, 50)]
    assert positions(timeline, 120) == [("b", 20, 50)]
    assert positions(timeline, 150) == []
    assert not timeline.playing(150 * MS)


def test_milliseconds_are_rounded_down() -> None:
    """Neither what was played nor what was written is ever rounded up."""
    timeline = Timeline()
    timeline.write(0, 2 * MS - 1, item_id="a")
    assert positions(timeline, 0.99) == [("a", 0, 1)]


def test_an_underrun_is_a_gap() -> None:
    """Audio that comes after the queue ran dry starts when it comes, and the gap is not played."""
    timeline = Timeline()
    timeline.write(0, 100 * MS, item_id="a")
    assert positions(timeline, 150) == []
    assert timeline.write(200 * MS, 100 * MS, item_id="a") == 200 * MS
    assert positions(timeline, 230) == [("a", 130, 200)]


def test_a_flush_reports_and_forgets() -> None:
    """A flush returns what was to be heard, and a second one returns nothing."""
    timeline = Timeline()
    timeline.write(0, 100 * MS, item_id="a")
    timeline.write(0, 100 * MS, item_id="b", content_index=1)
    first = timeline.flush(40 * MS)
    assert [(p.item_id, p.content_index, p.played_ms) for p in first] == [("a", 0, 40), ("b", 1, 0)]
    assert timeline.flush(40 * MS) == []
    assert not timeline.playing(40 * MS)


def test_after_a_flush_audio_starts_at_once() -> None:
    """What is written after a flush does not wait for what was flushed."""
    timeline = Timeline()
    timeline.write(0, 1000 * MS, item_id="a")
    timeline.flush(10 * MS)
    assert timeline.write(10 * MS, 100 * MS, item_id="b") == 10 * MS
    assert positions(timeline, 20) == [("b", 10, 100)]


def test_interleaved_items_are_accounted_for_separately() -> None:
    """Two responses at once take turns in the queue, and each counts its own audio."""
    timeline = Timeline()
    for item_id in ("a", "b", "a", "b"):
        timeline.write(0, 10 * MS, item_id=item_id)
    assert positions(timeline, 25) == [("a", 15, 20), ("b", 10, 20)]


def test_empty_audio_is_nothing() -> None:
    """A write without a sample does not make an item known."""
    timeline = Timeline()
    timeline.write(0, 0, item_id="a")
    assert positions(timeline, 0) == []


def test_memory_of_played_items_is_bounded_and_never_forgets_a_queued_one() -> None:
    """After hundreds of items the totals stay few, and the one that still plays is right."""
    timeline = Timeline()
    now = 0
    for number in range(300):
        timeline.write(now, 10, item_id=f"item{number}")
        now += 10
    assert len(timeline._totals) <= 64
    for number in range(100):
        timeline.write(now, MS, item_id=f"queued{number}")
    assert len(timeline.positions(now)) == 100


def test_a_clock_that_steps_back_is_not_followed() -> None:
    """What was heard stays heard."""
    timeline = Timeline()
    timeline.write(0, 100 * MS, item_id="a")
    assert positions(timeline, 50) == positions(timeline, 20) == [("a", 50, 100)]


class Write(NamedTuple):
    """Audio arrives, when silence is on its way already."""

    item: str
    samples: int
    silence: int


class Wait(NamedTuple):
    """Time passes."""

    samples: int


class Flush(NamedTuple):
    """The person interrupts."""


steps = st.lists(
    st.one_of(
        st.builds(
            Write,
            st.sampled_from("abc"),
            st.integers(0, 5000),
            st.just(0) | st.integers(0, 8000),
        ),
        st.builds(Wait, st.integers(0, 5000)),
        st.builds(Flush),
    ),
    max_size=60,
)


@given(steps)
def test_played_is_what_a_sample_by_sample_model_says(script: list[Write | Wait | Flush]) -> None:
    """Positions, order and what is heard agree with a queue of single samples."""
    timeline, now = Timeline(rate_hz=1000), 0
    queue: list[str | None] = []  # an entry for a sample: at 1 kHz a sample is a millisecond
    written: dict[str, int] = {}
    played: dict[str, int] = {}
    heard = gaps = 0
    for step in script:
        match step:
            case Write(item, samples, silence):
                start = max(now + len(queue), now + silence)
                assert timeline.write(now, samples, item_id=item, not_before=now + silence) == start
                if samples:
                    queue += [None] * (start - now - len(queue)) + [item] * samples
                    written[item] = written.get(item, 0) + samples
            case Wait(samples):
                now += samples
                over, queue = queue[:samples], queue[samples:]
                for item in filter(None, over):
                    played[item] = played.get(item, 0) + 1
                heard += len(over)
                gaps += samples - len(over)
            case Flush():
                before = timeline.positions(now)
                assert timeline.flush(now) == before
                assert timeline.flush(now) == []
                queue, written, played = [], {}, {}
        found = timeline.positions(now)
        expected = [(i, played.get(i, 0), written[i]) for i in dict.fromkeys(filter(None, queue))]
        assert [(p.item_id, p.played_ms, p.written_ms) for p in found] == expected
        assert all(p.played_ms <= p.written_ms for p in found)
        assert timeline.remaining(now) == len(queue)
        assert timeline.playing(now) == bool(queue)
        assert heard == now - gaps


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 3000)), min_size=1, max_size=10),
    st.lists(st.integers(0, 40_000), max_size=20),
)
def test_what_was_played_never_shrinks(writes: list[tuple[str, int]], times: list[int]) -> None:
    """As time goes on, an item's position only grows, up to what was written."""
    timeline = Timeline()
    for item, samples in writes:
        timeline.write(0, samples, item_id=item)
    last: dict[str, int] = {}
    for now in sorted(times):
        for part in timeline.positions(now):
            assert last.get(part.item_id, 0) <= part.played_ms <= part.written_ms
            last[part.item_id] = part.played_ms

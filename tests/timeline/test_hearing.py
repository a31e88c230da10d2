"""What was heard when, from what came and what a sink said: held against sinks that know it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_bus.audio import PlayedItem
from realtime_bus.events import AudioPCM
from realtime_bus.recording import Piece
from realtime_bus.recording._timeline._hearing import Hearing, PartKey
from realtime_bus_plugins.sinks import WavSink

_PCM = AudioPCM()
A, B = PartKey("a", 0), PartKey("b", 0)


def item(name: str, played_ms: int, written_ms: int) -> PlayedItem:
    """Return what a sink says of an item."""
    return PlayedItem(item_id=name, played_ms=played_ms, written_ms=written_ms)


def pieces(hearing: Hearing, key: PartKey) -> list[tuple[float, float, float]]:
    """Return where a part was heard: when, from where in it, for how long."""
    return [(p.at_ms, p.from_ms, p.length_ms) for p in hearing.parts[key].heard]


def test_audio_that_comes_faster_than_it_plays_is_heard_from_its_first_arrival() -> None:
    """Two items in a row: the second begins where the first ends, however early it came."""
    hearing = Hearing()
    for at_ms in (100, 110, 120):
        hearing.received(at_ms, A, "r", 200)
    hearing.received(130, B, "r", 300)
    hearing.ended(5000)
    assert pieces(hearing, A) == [(100, 0, 600)]
    assert pieces(hearing, B) == [(700, 0, 300)]
    assert hearing.known_from == "arrival"


def test_where_audio_came_too_late_there_was_silence() -> None:
    """An underrun is a gap, and the item goes on where it had stopped."""
    hearing = Hearing()
    hearing.received(0, A, "r", 100)
    hearing.received(500, A, "r", 100)
    hearing.ended(5000)
    assert pieces(hearing, A) == [(0, 0, 100), (500, 100, 100)]


def test_a_flush_cuts_where_the_sink_says() -> None:
    """What was not heard is discarded; what comes later starts anew."""
    hearing = Hearing()
    hearing.received(0, A, "r", 1000)
    hearing.received(0, B, "r", 1000)
    assert hearing.flushed(400, [item("a", 400, 1000), item("b", 0, 1000)])
    hearing.received(600, PartKey("c", 0), "s", 100)
    hearing.ended(5000)
    assert pieces(hearing, A) == [(0, 0, 400)]
    assert hearing.parts[A].silenced_ms == 400
    assert pieces(hearing, B) == []
    assert pieces(hearing, PartKey("c", 0)) == [(600, 0, 100)]


def test_the_sink_is_believed_that_it_began_late() -> None:
    """A device with 80 ms of latency: all it plays lies 80 ms later than it came."""
    hearing = Hearing()
    hearing.received(0, A, "r", 1000)
    for at_ms in (100, 200, 300):
        hearing.played(at_ms, [item("a", at_ms - 80, 1000)])
    hearing.played(1100, [])
    hearing.ended(5000)
    assert pieces(hearing, A) == [(80, 0, 1000)]


def test_a_sink_that_stalls_is_silent_where_it_stalled() -> None:
    """What it had played before the stall stays where it was."""
    hearing = Hearing()
    hearing.received(0, A, "r", 1000)
    for at_ms, played_ms in ((100, 100), (200, 200), (300, 200), (400, 200), (500, 300)):
        hearing.played(at_ms, [item("a", played_ms, 1000)])
    hearing.ended(5000)
    assert pieces(hearing, A) == [(0, 0, 200), (400, 200, 800)]


def test_a_far_end_that_says_less_for_a_while_is_not_late() -> None:
    """Acknowledgements come late: what was heard by then is at least what they say later."""
    hearing = Hearing()
    hearing.received(0, A, "r", 1000)
    for at_ms, played_ms in ((100, 0), (200, 0), (300, 280), (400, 300), (500, 490)):
        hearing.played(at_ms, [item("a", played_ms, 1000)])
    hearing.ended(5000)
    assert pieces(hearing, A) == [(10, 0, 1000)]


def test_a_far_end_may_learn_later_what_was_heard() -> None:
    """As long as nothing else plays, the cut is moved to where it was."""
    hearing = Hearing()
    hearing.received(0, A, "r", 1000)
    hearing.flushed(500, [item("a", 300, 1000)])
    hearing.settled(item("a", 450, 1000))
    hearing.received(700, B, "s", 100)
    hearing.settled(item("a", 900, 1000))
    hearing.ended(5000)
    assert hearing.parts[A].heard_ms == 450


def test_what_comes_of_a_silenced_response_is_not_heard_unless_the_sink_says_so() -> None:
    """Late deltas are dropped before the sink; if it has them after all, they play."""
    hearing = Hearing()
    hearing.silence(["r"])
    hearing.received(0, A, "r", 500)
    hearing.received(0, B, "r", 500)
    hearing.played(100, [item("b", 100, 500)])
    hearing.ended(5000)
    assert pieces(hearing, A) == []
    assert pieces(hearing, B) == [(0, 0, 500)]


def test_a_sink_that_is_only_flushed_plays_what_comes_next() -> None:
    """Nobody drops late audio then: the sink says that it has it, and counts from zero."""
    hearing = Hearing()
    hearing.received(0, A, "r", 1000)
    hearing.flushed(200, [item("a", 200, 1000)])
    hearing.received(300, A, "r", 500)
    hearing.played(400, [item("a", 100, 500)])
    hearing.played(700, [item("a", 400, 500)])
    hearing.ended(5000)
    assert pieces(hearing, A) == [(0, 0, 200), (300, 1000, 500)]


def test_a_flush_that_was_noticed_later_says_nothing_of_when_it_played() -> None:
    """What it was last known to have played is what counts."""
    hearing = Hearing()
    hearing.received(0, A, "r", 1000)
    hearing.flushed(500, [item("a", 400, 1000)], exact=False)
    hearing.ended(5000)
    assert pieces(hearing, A) == [(0, 0, 400)]


def test_without_a_sink_a_truncation_says_what_was_heard() -> None:
    """All else that was to play then falls silent, too."""
    hearing = Hearing()
    hearing.received(0, A, "r", 1000)
    hearing.received(0, B, "r", 1000)
    hearing.flushed(700, [item("a", 650, 1000)], by_sink=False)
    hearing.ended(5000)
    assert hearing.parts[A].heard_ms == 650
    assert hearing.parts[B].heard_ms == 0
    assert hearing.known_from == "truncations"


def test_what_is_still_to_be_heard_at_the_end_never_is() -> None:
    """The person has hung up."""
    hearing = Hearing()
    hearing.received(0, A, "r", 1000)
    hearing.ended(300)
    assert pieces(hearing, A) == [(0, 0, 300)]
    assert hearing.parts[A].silenced_ms == 300


# held against a sink

_STEPS = st.lists(
    st.tuples(
        st.integers(0, 200),  # ms that pass before
        st.sampled_from(["write", "write", "write", "look", "flush"]),
        st.sampled_from("abc"),
        st.integers(1, 250),  # ms of audio
    ),
    max_size=25,
)


_SOUNDS = {
    name: b"".join((base + ms % 9000).to_bytes(2, "little") * 24 for ms in range(1000))
    for name, base in (("a", 1), ("b", 10_000), ("c", 20_000))
}
"""Audio whose every sample says which millisecond of which item it is."""


@settings(max_examples=50)
@given(_STEPS)
def test_what_is_worked_out_is_what_a_sink_has_played(steps: list[Any]) -> None:
    """To the millisecond, whatever is written, looked at, and flushed."""
    now_ms = 0
    sink = WavSink(clock=lambda: now_ms / 1000)
    hearing = Hearing()
    sink.start(_PCM)
    written: dict[str, bytes] = {}
    generation = 0
    for passed_ms, what, name, length_ms in steps:
        now_ms += passed_ms
        if what == "write":
            own = f"{name}{generation}"  # what was cut off does not come back
            audio = _SOUNDS[name][: 48 * length_ms]
            sink.write(audio, item_id=own)
            written[own] = written.get(own, b"") + audio
            hearing.received(now_ms, PartKey(own, 0), f"r{generation}", length_ms)
        elif what == "look":
            hearing.played(now_ms, sink.positions())
        else:
            hearing.flushed(now_ms, sink.flush())
            generation += 1
    now_ms += 300
    heard = sink.heard
    hearing.ended(now_ms)
    mixed = bytearray(len(heard))
    end_ms = 0.0
    in_order = sorted(
        ((piece, key) for key, part in hearing.parts.items() for piece in part.heard),
        key=lambda found: found[0].at_ms,
    )
    for piece, key in in_order:
        assert piece.at_ms >= end_ms
        end_ms = piece.end_ms
        audio = written[key.item_id][_at(piece.from_ms) : _at(piece.to_ms)]
        mixed[_at(piece.at_ms) : _at(piece.at_ms) + len(audio)] = audio
    assert bytes(mixed) == heard


def _at(ms: float) -> int:
    return 48 * round(ms)


@settings(max_examples=50)
@given(_STEPS, st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), max_size=20))
def test_whatever_a_sink_says_what_was_heard_is_possible(
    steps: list[Any], claims: list[tuple[int, int]]
) -> None:
    """Heard is at most generated; pieces are in order and never overlap, of all items together."""
    hearing = Hearing()
    now_ms = 0.0
    said = iter(claims)
    for passed_ms, what, name, length_ms in steps:
        now_ms += passed_ms
        played_ms, written_ms = next(said, (0, 0))
        if what == "write":
            hearing.received(now_ms, PartKey(name, 0), name, length_ms)
        elif what == "look":
            hearing.played(now_ms, [item(name, played_ms, written_ms)])
        else:
            hearing.flushed(now_ms, [item(name, played_ms, written_ms)], by_sink=length_ms % 2 > 0)
    hearing.ended(now_ms)
    everything: list[Piece] = []
    for part in hearing.parts.values():
        assert part.heard_ms <= part.generated_ms + 1e-6
        assert all(piece.length_ms > 0 for piece in part.heard)
        ends = [0.0, *(piece.to_ms for piece in part.heard)]
        assert all(p.from_ms >= end - 1e-6 for p, end in zip(part.heard, ends, strict=False))
        assert all(piece.to_ms <= part.generated_ms + 1e-6 for piece in part.heard)
        everything += part.heard
    everything.sort(key=lambda piece: piece.at_ms)
    ends = [0.0, *(piece.end_ms for piece in everything)]
    assert all(p.at_ms >= end - 1e-6 for p, end in zip(everything, ends, strict=False))

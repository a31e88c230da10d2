"""When the person said what was sent, from when it was sent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_bus.recording._timeline._placing import Sending, moment_of


def placed(*chunks: tuple[float, float]) -> list[tuple[float, float, float]]:
    """Return where chunks lie, given as (sent at, length): when, from where, for how long."""
    sending = Sending()
    for at_ms, length_ms in chunks:
        sending.add(at_ms, length_ms)
    return [(p.at_ms, p.from_ms, p.length_ms) for p in sending.pieces()]


def test_a_chunk_was_over_when_it_was_sent() -> None:
    """A microphone sends 20 ms when they have been recorded."""
    assert placed(*((1020 + 20 * n, 20) for n in range(50))) == [(1000, 0, 1000)]


def test_what_a_busy_machine_sends_late_lies_where_it_was_said() -> None:
    """A stall of 200 ms, and what catches up at once: no gap, and nothing overlaps."""
    late = [(1020 + 20 * n, 20) for n in range(10)]
    late += [(1400, 20)] * 10
    late += [(1420 + 20 * n, 20) for n in range(10)]
    assert placed(*late) == [(1000, 0, 600)]


def test_who_sends_nothing_is_silent() -> None:
    """A muted microphone: what follows lies where it was said."""
    spoken = [(1020 + 20 * n, 20) for n in range(5)] + [(2020 + 20 * n, 20) for n in range(5)]
    assert placed(*spoken) == [(1000, 0, 100), (2000, 100, 100)]


def test_what_was_kept_during_an_outage_lies_in_the_outage() -> None:
    """``gap_audio="keep"``: three seconds that come at once, when the line is back."""
    spoken = [(1000 + 20 * n, 20) for n in range(1, 6)]
    spoken += [(4100, 20)] * 150 + [(4100 + 20 * n, 20) for n in range(1, 6)]
    assert placed(*spoken) == [(1000, 0, 3200)]


def test_a_file_sent_at_once_lies_behind_the_recordings_beginning() -> None:
    """There is no room for it before; the next one has it."""
    assert placed((50, 2000), (5000, 1000)) == [(0, 0, 2000), (4000, 2000, 1000)]


def test_a_timer_that_drifts_makes_steps_of_60_ms_at_most() -> None:
    """20.5 ms for each 20 ms: what lies there is never later, and 60 ms earlier at most."""
    found = placed(*((20.5 * n, 20) for n in range(1, 1000)))
    for at_ms, from_ms, length_ms in found:
        sent_ms = (from_ms + length_ms) / 20 * 20.5
        assert sent_ms - 60.5 <= at_ms + length_ms <= sent_ms


def test_nothing_was_sent() -> None:
    """A session without audio has none; chunks without a length have no place."""
    assert placed() == []
    assert placed((10, 0), (20, 0)) == []


def test_a_moment_of_a_position() -> None:
    """Positions beyond the ends are where the stream would go on."""
    sending = Sending()
    sending.add(1000, 500)
    sending.add(3000, 500)
    pieces = sending.pieces()
    assert [moment_of(pieces, at) for at in (0, 499, 500, 1000, 1200, -100)] == [
        500, 999, 2500, 3000, 3200, 400
    ]  # fmt: skip
    assert moment_of([], 70) == 70


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 3000), st.floats(0, 2000)), max_size=30))
def test_pieces_are_whole_in_order_and_never_overlap(chunks: list[tuple[float, float]]) -> None:
    """However it was sent, all of the stream has one place, and none before the beginning."""
    sending, now_ms = Sending(), 0.0
    for passed_ms, length_ms in chunks:
        now_ms += passed_ms
        sending.add(now_ms, length_ms)
    pieces = sending.pieces()
    assert sum(p.length_ms for p in pieces) == pytest.approx(sending.length_ms)
    position = end_ms = 0.0
    for piece in pieces:
        assert piece.from_ms == pytest.approx(position, abs=1e-6)
        assert piece.at_ms >= end_ms - 1e-6
        position, end_ms = piece.to_ms, piece.end_ms

"""What was promised holds while processes die."""

from __future__ import annotations

import pytest

from benchmarks import fanout_run
from benchmarks.fanout_run import Handled, judge


@pytest.mark.slow
def test_nothing_is_lost_while_broker_worker_and_holder_are_killed() -> None:
    """Every event in the stream is handled, in order per session; doubles are marked."""
    verdict = fanout_run.run(fanout_run.SMOKE, say=lambda _line: None)
    assert verdict.complaints == []
    assert verdict.in_stream >= fanout_run.SMOKE.events // 2  # what the other holder had to say


def test_the_judge_sees_what_is_wrong() -> None:
    """A hole, another order, an unmarked double, and what nobody has handled."""

    def note(number: int, key: str = "", *, repeated: bool = False) -> tuple[str, Handled]:
        return "w", Handled(number, "s", number, key or f"k{number}", repeated)

    assert judge({"s": [0, 1, 2]}, [note(0), note(1), note(2)]).complaints == []
    assert judge({"s": [0, 1]}, [note(0), note(1), note(1, repeated=True)]).handled_twice == 1
    for stream, notes in (
        ([0, 2], [note(0), note(2)]),
        ([0, 1], [note(1), note(0)]),
        ([0, 1], [note(0), note(1), note(1)]),
        ([0, 1], [note(0), note(1), note(1, "another", repeated=True)]),
        ([0, 1], [note(0)]),
    ):
        assert judge({"s": stream}, notes).complaints

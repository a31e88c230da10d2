"""Random conversations between client and local server: whatever happens, nothing goes wrong."""

from __future__ import annotations

import logging
import random
from collections import Counter

import pytest

from ._world import EXPECTED_ERRORS, STEPS, World, run

_STEPS = 200  # of a run
_RUNS, _PARTS = 18, 3  # 10 800 steps in all; each part may run in a process of its own


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Write no logs: failing tools and a failing model are part of the schedules."""
    caplog.set_level(logging.CRITICAL, logger="realtime_bus")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(_PARTS))
def test_any_schedule_leaves_a_conversation_in_order(part: int) -> None:
    """No unexpected error, nothing left hanging, no late audio, every call answered once."""
    seen: Counter[str] = Counter()
    for seed in range(part * _RUNS, (part + 1) * _RUNS):
        pick = random.Random(seed)  # noqa: S311  # schedules, not secrets
        schedule = [(pick.choice(sorted(STEPS)), pick.randint(0, 11)) for _ in range(_STEPS)]
        world = run(seed, schedule)
        _check(world, seed)
        seen.update(world.seen)
        seen["steps"] += world.steps
    _check_that_it_was_a_test(seen)


def _check(world: World, seed: int) -> None:
    assert set(world.errors) <= EXPECTED_ERRORS, seed
    assert world.hanging == 0, seed
    assert world.late == [], seed
    assert world.failures == [], seed
    assert world.violations == [], seed
    assert world.calls <= set(world.answers), seed
    assert set(world.answers.values()) <= {1}, seed
    assert world.order == world.server_order, seed
    assert world.otherwise == [], seed


def _check_that_it_was_a_test(seen: Counter[str]) -> None:
    """Hold the schedules themselves to account: everything that could go wrong was tried."""
    assert seen["steps"] >= 10_000 / _PARTS
    assert seen["interruptions"] > 250 / _PARTS
    assert seen["lost races"] > 20 / _PARTS
    assert seen["answered calls"] > 100 / _PARTS
    assert seen["cancelled responses"] > 250 / _PARTS
    assert seen["completed responses"] > 250 / _PARTS
    assert seen["responses out of band"] > 50 / _PARTS

"""Random conversations on servers, networks and gateways in trouble.

Each schedule is one seed. `REALTIME_BUS_SEED=7 pytest tests/properties/test_faults.py` runs that
one again, and `python -m benchmarks.schedules` runs thousands.
"""

from __future__ import annotations

import logging
import os
from collections import Counter

import pytest

from ._faulty import PROFILES, FaultySchedule, FaultyWorld, run_seed

_SCHEDULES = 30  # of each profile


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Write no logs: faults are what these schedules are about."""
    caplog.set_level(logging.CRITICAL, logger="realtime_bus")


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_any_fault_leaves_both_sides_in_order(profile: str) -> None:
    """What has to hold is in `_faulty`; a failing schedule tells its seed."""
    asked = os.environ.get("REALTIME_BUS_SEED")
    seeds = range(list(PROFILES).index(profile), _SCHEDULES * len(PROFILES), len(PROFILES))
    worlds: list[FaultyWorld] = []
    for seed in seeds if asked is None else [int(asked)]:
        if FaultySchedule(seed).profile == profile:
            world, complaints = run_seed(seed)
            worlds.append(world)
            told = "\n".join(complaints)
            again = f"REALTIME_BUS_SEED={seed} pytest tests/properties/test_faults.py"
            assert not complaints, f"seed {seed}: {again}\n{world.schedule.plan}\n{told}"
    if asked is None:
        _check_that_it_was_a_test(profile, worlds)


def _check_that_it_was_a_test(profile: str, worlds: list[FaultyWorld]) -> None:
    """Hold the schedules to account: what could go wrong has gone wrong."""
    fired = Counter(each.kind for world in worlds for each in world.server.faults_fired)
    outcomes = sum((world.outcomes for world in worlds), Counter[str]())
    assert outcomes["done"] > 8 * len(worlds)
    assert len(fired) >= len(PROFILES[profile]) - 3, fired
    if profile == "outliving":
        assert sum(len(world.reconnected) for world in worlds) >= 10
        assert outcomes["ConnectionLost"] >= 5
    if profile == "ending":
        assert sum(world.ended for world in worlds) >= 10


def test_a_seed_stands_for_one_schedule() -> None:
    """Run twice, it has the same steps, faults and outcomes: a failing run can be looked at."""
    for seed in (3, 8, 13, 18):
        one, two = run_seed(seed)[0], run_seed(seed)[0]
        assert one.server.faults_fired == two.server.faults_fired
        assert (one.steps, one.outcomes, one.seen) == (two.steps, two.outcomes, two.seen)
        assert len(one.order) == len(two.order)

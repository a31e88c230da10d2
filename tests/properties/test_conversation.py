"""Random conversations between client and local server: whatever happens, nothing goes wrong."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ._world import EXPECTED_ERRORS, STEPS, World, run

_STEPS_PER_RUN = 200
_RUNS = 60  # 12 000 steps in all

steps = st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 11))
schedules = st.lists(steps, min_size=_STEPS_PER_RUN, max_size=_STEPS_PER_RUN)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Write no logs: failing tools and a failing model are part of the schedules."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_any_schedule_leaves_a_conversation_in_order() -> None:
    """No unexpected error, nothing left hanging, no late audio, every call answered once."""
    seen: Counter[str] = Counter()

    @settings(
        max_examples=_RUNS,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),  # a failing run is read, not shrunk: it is long
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**31), schedule=schedules)
    def one_conversation(seed: int, schedule: list[tuple[str, int]]) -> None:
        world = run(seed, schedule)
        _check(world)
        seen.update(world.seen)
        seen["steps"] += world.steps

    one_conversation()
    _check_that_it_was_a_test(seen)


def _check(world: World) -> None:
    assert set(world.errors) <= EXPECTED_ERRORS
    assert world.hanging == 0
    assert world.late == []
    assert world.failures == []
    assert world.violations == []
    assert world.calls <= set(world.answers)
    assert set(world.answers.values()) <= {1}
    assert world.order == world.server_order


def _check_that_it_was_a_test(seen: Counter[str]) -> None:
    """Hold the schedules themselves to account: everything that could go wrong was tried."""
    assert seen["steps"] >= 10_000
    assert seen["interruptions"] > 250
    assert seen["lost races"] > 50
    assert seen["answered calls"] > 150
    assert seen["cancelled responses"] > 250
    assert seen["completed responses"] > 250
    assert seen["responses out of band"] > 50

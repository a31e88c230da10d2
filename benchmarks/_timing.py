"""Timing that a busy machine does not distort: rounds interleaved, ratios within one run."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import NamedTuple

__all__ = ["Figure", "interleaved"]


class Figure(NamedTuple):
    """What one thing costs: seconds for each unit of work, over all rounds."""

    median_s: float
    min_s: float

    def ratio(self, other: Figure) -> float:
        """Return how many times as much this costs as the other; minima are the steadiest."""
        return self.min_s / other.min_s


def interleaved(
    work: Mapping[str, Callable[[], object]], *, units: Mapping[str, int], rounds: int
) -> dict[str, Figure]:
    """Time several things, a round of each in turn, so that all see the same machine.

    Args:
        work: What to time, by name.
        units: How many units of work one call does, by the same names.
        rounds: How often each is called; one more, first, is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, call in work.items():
            times[name].append(_time(call) / units[name])
    return {
        name: Figure(statistics.median(taken[1:]), min(taken[1:])) for name, taken in times.items()
    }


def _time(call: Callable[[], object]) -> float:
    gc.collect()  # nobody pays for another's garbage; within a call, collection runs as usual
    started = perf_counter()
    call()
    return perf_counter() - started

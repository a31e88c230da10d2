"""Run schedules with faults: `python -m tests.properties FIRST COUNT`, for `benchmarks.schedules`.

Writes a line of JSON for every `EVERY` schedules, and one at the end.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter

import msgspec
import structlog

from ._faulty import run_seed

EVERY = 50


def main(first: int, count: int) -> None:
    """Run the schedules of the seeds from `first` on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    figures: Counter[str] = Counter()
    failed: list[tuple[int, list[str]]] = []
    for number in range(count):
        world, complaints = run_seed(first + number)
        if complaints:
            failed.append((first + number, complaints))
        figures["schedules"] += 1
        figures[f"schedules {world.schedule.profile}"] += 1
        figures["steps"] += world.steps
        figures["connections taken over"] += len(world.reconnected)
        figures["sessions ended early"] += world.ended
        figures.update(f"fault {fired.kind}" for fired in world.server.faults_fired)
        for outcome, times in world.outcomes.items():
            figures[f"request {outcome}"] += times
        if (number + 1) % EVERY == 0 or number + 1 == count:
            line = msgspec.json.encode({"figures": figures, "failed": failed})
            sys.stdout.write(line.decode() + "\n")
            sys.stdout.flush()
            figures, failed = Counter(), []


main(int(sys.argv[1]), int(sys.argv[2]))

"""A client and the local server, a random schedule, and faults on order: all by one seed."""

from __future__ import annotations

import random
import traceback
from collections import Counter
from functools import partial
from typing import Any

import trio
import trio.testing

from realtime_bus import ConnectError, RequestRejected, RequestTimeout, Session, SessionClosed
from realtime_bus.server import FaultPlan, faults

from ._world import EXPECTED_ERRORS, LIMIT_S, STEPS, World

HARMLESS: tuple[type[faults.AnyFault], ...] = (
    faults.Delay,
    faults.Stall,
    faults.SlowRead,
    faults.Reorder,
    faults.Unknown,
    faults.Malform,
)
"""Both sides go on, and know the same at the end."""

DOUBLING = (*HARMLESS, faults.Duplicate, faults.LateDeltas)
"""The same, except that the client may have heard more than the server has said."""

ENDING = (*DOUBLING, faults.Drop, faults.Close, faults.HalfOpen, faults.ShortLife)
"""The connection may end, and what was on its way with it."""

LOSSY = (*ENDING, faults.Lose, faults.Missing, faults.Null)
"""What the client is told may be less than what is so."""

PROFILES = {"harmless": HARMLESS, "doubling": DOUBLING, "ending": ENDING, "lossy": LOSSY}

_MORE_ERRORS = {
    "doubling": {"invalid_value"},  # a truncation behind audio that came twice
    "ending": {"invalid_value", "session_expired"},
    "lossy": None,  # whoever is told less asks for what is not there
}


class FaultySchedule:
    """What one seed stands for.

    Attributes:
        seed: Which.
        profile: What kinds of faults there may be.
        plan: What goes wrong.
        steps: What the person and the application do.
    """

    def __init__(self, seed: int) -> None:
        pick = random.Random(seed)  # noqa: S311  # a schedule, not secrets
        self.seed = seed
        self.profile = sorted(PROFILES)[seed % len(PROFILES)]
        self.plan = FaultPlan.from_seed(seed, kinds=PROFILES[self.profile], within_s=10)
        names = sorted(STEPS)
        count = pick.randint(10, 60)
        self.steps = [(pick.choice(names), pick.randint(0, 11)) for _ in range(count)]


class FaultyWorld(World):
    """One conversation under a schedule with faults.

    Attributes:
        outcomes: How requests were resolved, by the name of what came out of them.
        ended: The connection has ended before the schedule had.
    """

    def __init__(self, schedule: FaultySchedule) -> None:
        super().__init__(schedule.seed, schedule.plan)
        self.schedule = schedule
        self.outcomes: Counter[str] = Counter()
        self.ended = False

    async def live(self) -> None:
        """Take every step, and wait until all has come to rest, or the connection has ended."""
        try:
            await self.run(self.schedule.steps)
        except SessionClosed:
            self.ended = True  # while opening it
        except ConnectError as error:
            self.outcomes[type(error).__name__] += 1
            self.ended = True

    async def _live(self, session: Session, schedule: list[tuple[str, int]]) -> None:
        async with trio.open_nursery() as nursery:
            try:
                for name, number in schedule:
                    await STEPS[name](self, session, nursery, number)
                    self.steps += 1
                with trio.move_on_after(LIMIT_S):
                    await self._rest(session, nursery)
            except SessionClosed:
                self.ended = True
            with trio.move_on_after(LIMIT_S):
                while nursery.child_tasks:  # noqa: ASYNC110  # a virtual clock: it costs nothing
                    await trio.sleep(1.0)
            self.hanging = len(nursery.child_tasks)
            nursery.cancel_scope.cancel()
        self.ended = self.ended or session.close_info is not None

    async def awaited(self, reply: Any) -> None:
        """Await a response; whatever becomes of it is noted."""
        await self._noted(partial(super().awaited, reply))

    async def tolerant(self, function: Any, *arguments: Any) -> None:
        """Send a request; whatever becomes of it is noted."""
        await self._noted(partial(super().tolerant, function, *arguments))

    async def _noted(self, function: Any) -> None:
        try:
            await function()
        except (SessionClosed, RequestTimeout, RequestRejected) as error:
            self.outcomes[type(error).__name__] += 1
        else:
            self.outcomes["done"] += 1

    def complaints(self) -> list[str]:
        """Return what is not as it should be at the end."""
        profile = self.schedule.profile
        found = [f"handler: {failure}" for failure in self.failures]
        found += [f"{self.hanging} requests hang"] * (self.hanging > 0)
        more = _MORE_ERRORS.get(profile, set())
        if more is not None:
            unexpected = set(self.errors) - EXPECTED_ERRORS - more
            found += [f"error: {code}" for code in unexpected]
            found += [f"late audio of {item}" for item in self.late]
        if profile in {"harmless", "doubling"}:
            found += [f"broke the rule {rule}" for rule in self.violations]
        found += [
            f"{call} was answered {count} times"
            for call, count in self.answers.items()
            if count > 1
        ]
        if profile != "lossy":
            found += self._differences()
        return found

    @property
    def deaf(self) -> bool:
        """Whether the client heard no more at the end, and did not know."""
        fired = (each.fault for each in self.server.faults_fired)
        return any(isinstance(each, faults.HalfOpen) and each.for_s is None for each in fired)

    def _differences(self) -> list[str]:
        """Return how the two sides differ: what is on its way when a connection ends may be lost."""
        found: list[str] = []
        if self.ended or self.deaf:
            theirs = [item for item in self.server_order if item in set(self.order)]
            ours = [item for item in self.order if item in set(self.server_order)]
            if ours != theirs or set(self.order) - set(self.server_order) - self._deleted:
                found.append(f"client has {self.order}, server had {self.server_order}")
        else:
            found += [f"{call} was not answered" for call in self.calls - set(self.answers)]
            if self.order != self.server_order:
                found.append(f"client has {self.order}, server has {self.server_order}")
            if failed := {"SessionClosed", "RequestTimeout"} & self.outcomes.keys():
                found.append(f"requests failed: {sorted(failed)}")
        return found


def run_seed(seed: int) -> tuple[FaultyWorld, list[str]]:
    """Run what a seed stands for, on a clock that jumps over all waiting.

    Returns:
        The world at its end, and what is not as it should be.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def main() -> FaultyWorld:
        world = FaultyWorld(FaultySchedule(seed))
        await world.live()
        return world

    try:
        world = trio.run(main, clock=clock)
    except Exception:  # noqa: BLE001  # that is a complaint, too
        return FaultyWorld(FaultySchedule(seed)), [traceback.format_exc()]
    return world, world.complaints()

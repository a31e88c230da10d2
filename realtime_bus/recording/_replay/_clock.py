"""The time of a recording while it is replayed.

Rules:

1. Paced, it is the event loop's clock, a number of times faster; on a virtual clock, exact.
2. Unpaced, it is the time of the line that is due, and goes on when every task waits: no timer is
   waited for. Tasks that never wait are left behind after `_MAX_TURNS` turns of the loop.
3. It stands still while the recording waits for the session; what the session does meanwhile is
   that much later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import anyio
import anyio.lowlevel

from realtime_bus._virtual_time import VirtualTimeLoop
from realtime_bus.transport._asyncio import loop_clock, on_asyncio

_MAX_TURNS: Final = 100
_TURNS_S: Final = 0.05  # the same limit on trio, in the only unit that it has for it
_MOMENT_S: Final = 1e-6


class Clock(Protocol):
    """What a replay needs of a clock."""

    @property
    def now_us(self) -> int:
        """How far the recording is."""
        ...

    @property
    def act_us(self) -> int:
        """The same, but going on while the recording stands still."""
        ...

    async def until(self, t_us: int) -> None:
        """Wait for a time of the recording."""
        ...

    async def settle(self) -> None:
        """Let all that is due at this moment be done."""
        ...

    def real_s(self, recorded_s: float) -> float:
        """Return how long a time of the recording takes on the event loop's clock."""
        ...

    def stand_still(self) -> Any:
        """Return a context in which the recording waits."""
        ...


class Paced:
    """Follows the event loop's clock.

    Args:
        speed: How many times faster.
    """

    def __init__(self, speed: float) -> None:
        self._time = loop_clock()
        self._speed = speed
        self._origin_s = self._time()
        self._stands_at_s: float | None = None

    @property
    def now_us(self) -> int:
        """How far the recording is."""
        return self._us(self._time() if self._stands_at_s is None else self._stands_at_s)

    @property
    def act_us(self) -> int:
        """The same, but going on while the recording stands still."""
        return self._us(self._time())

    def _us(self, time_s: float) -> int:
        return round((time_s - self._origin_s) * self._speed * 1e6)

    async def until(self, t_us: int) -> None:
        """Wait for a time of the recording; let others run in any case."""
        await anyio.sleep_until(self._origin_s + t_us / 1e6 / self._speed)

    async def settle(self) -> None:
        """Let all that is due at this moment be done: a virtual clock waits for it."""
        await anyio.sleep(_MOMENT_S)

    def real_s(self, recorded_s: float) -> float:
        """Return how long a time of the recording takes on the event loop's clock."""
        return recorded_s / self._speed

    @contextmanager
    def stand_still(self) -> Generator[None]:
        """Return a context in which the recording waits."""
        self._stands_at_s = began_s = self._time()
        try:
            yield
        finally:
            self._stands_at_s = None
            self._origin_s += self._time() - began_s


class Unpaced:
    """Goes on as soon as every task waits."""

    def __init__(self) -> None:
        self.now_us: int = 0
        self._time = loop_clock()
        self._stands_since_s: float | None = None
        self.settle = _until_all_wait_on_asyncio if on_asyncio() else _until_all_wait_on_trio

    @property
    def act_us(self) -> int:
        """How far the recording is, and how long it stands there."""
        since_s = self._stands_since_s
        return self.now_us + (0 if since_s is None else round((self._time() - since_s) * 1e6))

    async def until(self, t_us: int) -> None:
        """Wait until every task waits."""
        await self.settle()
        self.now_us = max(self.now_us, t_us)

    def real_s(self, recorded_s: float) -> float:
        """Return how long the recording waits, in real time."""
        return recorded_s

    @contextmanager
    def stand_still(self) -> Generator[None]:
        """Return a context in which the recording waits."""
        self._stands_since_s = self._time()
        try:
            yield
        finally:
            self._stands_since_s = None


def clock(speed: float | None) -> Paced | Unpaced:
    """Return the clock for a speed; None is as fast as can be on the loop that runs."""
    if speed is None and not _time_is_virtual():
        return Unpaced()
    return Paced(speed or 1.0)


def _time_is_virtual() -> bool:
    if on_asyncio():
        return isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
    from trio.lowlevel import current_clock  # noqa: PLC0415  # trio is optional
    from trio.testing import MockClock  # noqa: PLC0415  # the same

    return isinstance(current_clock(), MockClock)


async def _until_all_wait_on_asyncio() -> None:
    """Let the loop run until no task has anything to do.

    Not anyio's function: it sleeps for a tenth of a second where a task is not done at once.
    """
    this_task = asyncio.current_task()
    for _ in range(_MAX_TURNS):
        await anyio.lowlevel.checkpoint()
        if all(task is this_task or _waits(task) for task in asyncio.all_tasks()):
            return


def _waits(task: asyncio.Task[Any]) -> bool:
    waiter: asyncio.Future[Any] | None = getattr(task, "_fut_waiter", None)
    return waiter is not None and not waiter.done()


async def _until_all_wait_on_trio() -> None:
    from trio.testing import wait_all_tasks_blocked  # noqa: PLC0415  # trio is optional

    await anyio.lowlevel.checkpoint()
    with anyio.move_on_after(_TURNS_S):
        await wait_all_tasks_blocked()

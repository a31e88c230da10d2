"""Time that passes only while everybody waits: an hour of conversation in a second, and no race.

The rules
---------
1. Nothing moves the clock while a task can run. When every task waits, it jumps to the next timer:
   deadlines and sleeps come in the order of their times, each at exactly its own.
2. While a worker thread works (`anyio.to_thread`, an executor) the clock stands still: what is
   done there takes no time. One that has not come back after `THREAD_PATIENCE_S` of real time is
   taken for stuck, or for waiting for a timer itself: the clock goes on, and waits for others only.
3. While a socket or a pipe is watched, the clock jumps only if nothing has come of it for
   `IO_GRACE_S` of real time. What another process or a network does is not waited for beyond that.
4. Without a timer, it waits for threads and sockets as any loop does.

`VirtualTimeLoop` does so on asyncio; trio's own `MockClock` and an instrument do on trio. Only the
loop's clock is virtual (`anyio.current_time`, ``loop.time()``): `time.time` and
`time.perf_counter` show the real one.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Literal, TypeAlias, TypeVar, TypeVarTuple
from weakref import WeakSet

import anyio

Backend: TypeAlias = Literal["asyncio", "trio"]

THREAD_PATIENCE_S = 5.0
IO_GRACE_S = 0.005
_POLL_S = 0.001  # how often it is looked whether a thread has come back

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


def run_virtual(
    function: Callable[[*_Ts], Awaitable[_T]], *args: *_Ts, backend: Backend = "asyncio"
) -> _T:
    """Run an async function as `anyio.run` does, in time that passes only while everybody waits.

    Args:
        function: What to run.
        *args: What to call it with.
        backend: Which event loop.

    Returns:
        What it returned.

    Raises:
        ImportError: trio was asked for, and is not installed.
    """
    name, options = virtual_time(backend)
    if backend == "asyncio":
        return anyio.run(function, *args, backend=name, backend_options=options)
    import trio  # noqa: PLC0415  # it is optional

    async def main() -> _T:
        return await function(*args)

    return trio.run(main, **options)  # anyio 4.9 forgets the options on trio


def virtual_time(backend: Backend = "asyncio") -> tuple[str, dict[str, Any]]:
    """Return a backend and its options: what anyio's fixture ``anyio_backend`` may return.

    Args:
        backend: Which event loop.

    Raises:
        ImportError: trio was asked for, and is not installed.
    """
    if backend == "asyncio":
        return backend, {"loop_factory": VirtualTimeLoop}
    from trio.testing import MockClock  # noqa: PLC0415  # trio is optional

    clock = MockClock(autojump_threshold=0)
    return backend, {"clock": clock, "instruments": [_Patience(clock)]}


# asyncio


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with a clock that jumps: a ``loop_factory``. It begins at 0."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._calls: set[asyncio.Future[Any]] = set()  # in executors
        self._stuck = WeakSet[threading.Thread | asyncio.Future[Any]]()
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._now_s

    def jump(self) -> None:
        """Let time pass until the next timer is due."""
        # to its very time: now and the time that is left do not add up to it, as floats
        timers: list[asyncio.TimerHandle] = vars(self)["_scheduled"]
        self._now_s = max(self._now_s, timers[0].when())

    def run_in_executor(
        self, executor: Any, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Call a function in a thread, and have the clock wait for it."""
        call = super().run_in_executor(executor, func, *args)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109  # asyncio's
        """Wait for the executor's threads; for as long as they take, for virtual time would not."""
        await super().shutdown_default_executor()

    def working(self) -> set[threading.Thread | asyncio.Future[Any]]:
        """Return what threads do for this loop, but for what is known to be stuck."""
        working: set[threading.Thread | asyncio.Future[Any]] = {*self._calls}
        working.update(thread for thread in threading.enumerate() if self._is_busy(thread))
        return working.difference(self._stuck)

    def give_up(self) -> None:
        """Take all that threads do now for stuck."""
        self._stuck.update(self.working())

    def _is_busy(self, thread: threading.Thread) -> bool:
        """Tell whether a thread is one of anyio's, for this loop, and has something to call.

        anyio does not tell. Its worker thread has these attributes; should it have them no more,
        a test fails.
        """
        about = vars(thread)
        if about.get("loop") is not self:
            return False
        busy: bool = about["queue"].unfinished_tasks > 0
        if not busy:
            self._stuck.discard(thread)
        return busy


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for threads and sockets; where there are none, time passes instead."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        patient_until_s = monotonic() + THREAD_PATIENCE_S
        # in this order: a thread that is done has woken the loop before
        while self._loop.working():
            if found := super().select(_POLL_S):
                return found
            if monotonic() >= patient_until_s:
                self._loop.give_up()
        sockets = len(self.get_map()) - 1  # threads wake the loop by one
        found = super().select(IO_GRACE_S if sockets else 0)
        if not found:
            self._loop.jump()
        return found


# trio


class _Patience:
    """An instrument that has a `MockClock` wait for threads and sockets."""

    def __init__(self, clock: Any) -> None:
        from trio.lowlevel import current_statistics  # noqa: PLC0415  # trio is optional
        from trio.testing import active_thread_count  # noqa: PLC0415  # the same

        self._clock = clock
        self._count_threads, self._statistics = active_thread_count, current_statistics
        self._threads = 0
        self._since_s = 0.0  # when their number changed, in virtual time
        self._patience_s = 0.0

    def before_run(self) -> None:
        self._threads, self._patience_s = 0, 0.0
        self._clock.autojump_threshold = 0.0

    def after_task_step(self, _task: object) -> None:
        """Say how long everybody must have waited, in real time, before the clock jumps."""
        threads = self._count_threads()
        if threads != self._threads:
            self._threads, self._since_s = threads, self._clock.current_time()
        io = self._statistics().io_statistics
        sockets = sum(getattr(io, name, 0) for name in _IO_WAITS) - 1  # threads wake trio by one
        patience_s = IO_GRACE_S if sockets > 0 else 0.0
        if threads and self._clock.current_time() == self._since_s:
            patience_s = THREAD_PATIENCE_S
        if patience_s != self._patience_s:
            self._patience_s = self._clock.autojump_threshold = patience_s


_IO_WAITS = ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting")  # by platform

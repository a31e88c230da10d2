"""Mode ``inline`` of async handlers: a mailbox whose handler begins in the reader.

A handler that has nothing to wait for needs no wake-up of a task, which costs more than it. Rules:

1. If the handler is free, it begins at once, inside `put`, and mostly ends there. If it waits for
   something, its task goes on with it, and events queue up as in any mailbox.
2. It begins in its task's name: for asyncio and anyio that task is the current one, so that
   cancel scopes and timeouts belong to the task that will leave them. asyncio documents the two
   calls that this takes, for those who write tasks of their own.
3. Every step runs in one context, so that context variables can be reset after waiting.
4. The first event is handled by the task: before it there is none. On trio, where nobody can act
   in another task's name, that holds for all events.
5. A cancellation between the beginning and the task's next turn is the handler's, which has not
   been there to get it. One that was taken back meanwhile is nobody's.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task
from asyncio.tasks import (
    _enter_task,  # pyright: ignore[reportPrivateUsage]  # see rule 2
    _leave_task,  # pyright: ignore[reportPrivateUsage]  # the same
)
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from time import perf_counter
from typing import Any

from ._mailbox import Mailbox
from ._runner import Host, failure_of
from ._subscription import HandlerStatistics, Subscription

__all__ = ["EagerMailbox"]

_Put = Callable[[Any], None]
_Begin = Callable[[Any], Coroutine[Any, Any, object]]
_Steps = Generator[Any, Any, object]
_ENDED = object()


class EagerMailbox(Mailbox):
    """A mailbox whose handler begins inside `put` if it is free."""

    __slots__ = ("_begin", "_context", "_figures", "_free", "_put", "_rest", "_task")

    def __init__(self, subscription: Subscription, session: Any, host: Host) -> None:
        super().__init__(subscription, session, host)
        self._begin: _Begin = self._call
        self._context = Context()
        self._task: asyncio.Task[Any] | None = None
        self._rest: _Rest | None = None  # what the task has to go on with
        self._put, self._free, self._figures = self._compile(self._queue_up)

    def _compile(self, queue: _Put) -> tuple[_Put, Callable[[Any], None], Callable[[], int]]:  # noqa: C901, PLR0915  # what they share are local variables
        """Return `put`, what frees the handler in a task's name or not, and what notes its figures.

        The last one returns how many handlers run. They are closures for the same reason as
        `InlineRunner`'s.
        """
        begin, statistics = self._begin, self._statistics
        loop: Any = None
        task: Any = None  # while the handler is free
        run: Any = None
        delivered, slowest_s, running = 0, 0.0, 0
        stays_free = True  # when it has ended: nothing has come meanwhile
        by_task = False  # whether a task called us last time; finding out by failing is slow

        def put(event: Any) -> None:
            nonlocal task, delivered, slowest_s, running, stays_free, by_task
            name = task
            if name is None:
                stays_free = False
                queue(event)
                return
            task = outer = steps = error = None  # events that it causes come after this one
            waits_for: Any = _ENDED
            running, stays_free = 1, True
            started = perf_counter()
            if by_task:
                outer = _enter(loop, name)
                by_task = outer is not None
            else:
                try:
                    _enter_task(loop, name)
                except RuntimeError:
                    outer = _enter(loop, name)
                    by_task = True
            try:
                steps = begin(event).__await__()
                # ``next`` with a default: it ends without the exception that ``send`` would raise
                waits_for = run(next, steps, _ENDED)
            except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001  # the caller's code: whatever it raises is reported
                error = raised
            finally:
                running = 0
                _leave_task(loop, name)
                if outer is not None:
                    _enter_task(loop, outer)
            if waits_for is not _ENDED:
                self._rest = _Rest(event, started, steps, waits_for, run)
                self._wake()
                return
            took_s = perf_counter() - started
            delivered += 1
            if took_s > slowest_s:  # noqa: PLR1730  # max() costs more, for every event
                slowest_s = took_s
            if error is not None:
                self._has_raised(event, error)
                error = None  # its traceback leads here
            if stays_free:
                task = name

        def free(name: Any) -> None:
            nonlocal loop, task, run, stays_free
            task, stays_free = name, False
            if name is not None:
                loop, run = name.get_loop(), self._context.run

        def figures() -> int:
            nonlocal delivered
            statistics.delivered += delivered
            statistics.slowest_s = max(statistics.slowest_s, slowest_s)
            delivered = 0
            return running

        return put, free, figures

    def _has_raised(self, event: Any, error: Exception | asyncio.CancelledError) -> None:
        """Report what a handler raised before it waited, and count it."""
        failure = failure_of(error, self._task)
        if failure is None:
            self._statistics.dropped += 1
            self._statistics.delivered -= 1
        else:
            self._statistics.failed += 1
            self._host.handler_failed(self.subscription, event, failure)

    @property
    def put(self) -> _Put:
        """Handle an event as far as that goes without waiting, or queue it; never raises."""
        return self._put

    @property
    def statistics(self) -> HandlerStatistics:
        """Its figures so far, in the same object each time."""
        self._figures()
        return self._statistics

    @property
    def pending(self) -> int:
        """How many events wait or are being handled."""
        return super().pending + self._figures() + (self._rest is not None)

    def retire(self) -> None:
        """Take no more events, handle those that wait, and end."""
        self._free(None)
        super().retire()

    async def _work(self) -> None:
        self._task = _current_task()
        if self._task is not None:
            self._context = copy_context()
            self._call = partial(_in_context, self._context, self._begin)
        await super()._work()

    async def _wait(self) -> None:
        self._free(self._task)
        try:
            await super()._wait()
        except asyncio.CancelledError as error:
            if not self._passes_on(error):
                raise
        finally:
            self._free(None)

    def _passes_on(self, error: asyncio.CancelledError) -> bool:
        """Give a cancellation to the handler; return False if it is for the task itself."""
        task = self._task
        if task is None or (task.cancelling() and self._rest is None):
            return False
        if task.cancelling():  # else its scope was left before the handler waited
            task.uncancel()
            task.cancel(*error.args)  # asyncio gives it to whatever waits next
        return True

    async def _drain(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None:
            await self._handle(rest.event, rest)
        await super()._drain()


class _Rest:
    """A handler that has begun and waits; its task awaits this."""

    __slots__ = ("event", "run", "started", "steps", "waits_for")

    def __init__(self, event: Any, started: float, steps: Any, waits_for: Any, run: Any) -> None:
        self.event = event
        self.started = started
        self.steps = steps
        self.waits_for = waits_for
        self.run = run
        _mark(waits_for, is_handed_over=False)  # until then others may await it

    def __await__(self) -> _Steps:
        """Step through it, always in its context."""
        waits_for = self.waits_for
        _mark(waits_for, is_handed_over=True)
        while True:
            try:
                step = partial(self.steps.send, (yield waits_for))
            except BaseException as error:  # noqa: BLE001  # the handler is to have it, whatever it is
                step = partial(self.steps.throw, error)
            try:
                waits_for = self.run(step)
            except StopIteration as end:
                return end.value


def _mark(waits_for: Any, *, is_handed_over: bool) -> None:
    """Say whether a future is on its way to a task, which it can be to one at a time."""
    if hasattr(waits_for, "_asyncio_future_blocking"):  # how asyncio tells futures
        waits_for._asyncio_future_blocking = is_handed_over  # noqa: SLF001  # as it names it


async def _in_context(context: Context, begin: _Begin, event: Any) -> None:
    """Handle an event in a context, from the beginning."""
    steps = begin(event).__await__()
    waits_for: object = context.run(next, steps, _ENDED)
    if waits_for is not _ENDED:
        await _Rest(event, 0.0, steps, waits_for, context.run)


def _enter(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> asyncio.Task[Any] | None:
    """Act in a task's name from now on; return the task in whose place that is, if any."""
    outer = current_task(loop)
    if outer is not None:
        _leave_task(loop, outer)
    _enter_task(loop, task)
    return outer


def _current_task() -> asyncio.Task[Any] | None:
    """Return asyncio's task that runs now; None on trio."""
    try:
        return current_task()
    except RuntimeError:
        return None

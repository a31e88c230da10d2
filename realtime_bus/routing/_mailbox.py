"""A handler's own queue in one session, and the workers that empty it.

Rules:

1. Putting an event into a mailbox is synchronous, takes constant time and never waits.
2. Workers (one; several in mode ``parallel``) are started when there is something to do,
   in the session's task group, and drain the mailbox in batches: one wake-up serves all
   events that have come in since.
3. A mailbox is full at its bound in events or in bytes (`_backlog`); then it follows its policy.
   What is dropped is counted, and reported once for each
   stretch in which the mailbox was full. One that pauses reading lets go while its handler waits
   for something that must be read (`reading_goes_on`): it grows beyond its bound meanwhile.
4. A handler that raises, or takes longer than its timeout, has failed at that one event.
5. An event whose handler was cancelled, because its session ended, counts as dropped.
6. In mode ``eager`` each event has a task of its own, which starts at once, and all of a handler's
   tasks one context. A handler that is free begins inside `put`; if it waits for something, the
   worker awaits its task, cancels it with the session, and events queue up meanwhile.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from contextvars import Context, ContextVar, copy_context
from time import perf_counter
from typing import Any, cast

import anyio
import anyio.lowlevel

from realtime_bus.events import Overflow

from ._runners import Host, awaitable, failure_of, reported
from ._subscription import HandlerStatistics, Subscription

_BATCH = 64  # events handled before the event loop gets a turn, so that reading goes on
EAGER_TASKS = sys.version_info >= (3, 12)
"""Whether this Python has tasks that start at once."""


class Mailbox:
    """A queue in front of a handler, and the workers that empty it."""

    __slots__ = (
        "_call",
        "_closed",
        "_full",
        "_host",
        "_idle",
        "_letting_through",
        "_limit",
        "_max_pending",
        "_max_pending_bytes",
        "_queue",
        "_running",
        "_wakeup",
        "_workers",
        "pending_bytes",
        "statistics",
        "subscription",
    )

    def __init__(self, subscription: Subscription, session: Any, host: Host) -> None:
        self.subscription: Subscription = subscription
        self.statistics: HandlerStatistics = HandlerStatistics(handler=subscription.name)
        self._host = host
        self._call = awaitable(subscription, session)
        self._queue: deque[Any] = deque()  # events, or those that weigh something with their bytes
        self.pending_bytes: int = 0
        self._workers = 0  # started
        self._idle = 0  # … of which wait for the next wake-up
        self._running = 0  # events in a handler's hands
        self._wakeup: anyio.Event | None = None
        self._max_pending = subscription.options.max_pending
        self._max_pending_bytes = subscription.options.max_pending_bytes
        self._limit = subscription.options.limit
        self._full = False
        self._closed = False
        self._letting_through = 0  # handlers that wait for something that must be read

    @property
    def pending(self) -> int:
        """How many events wait or are being handled."""
        return len(self._queue) + self._running

    def put(self, event: Any) -> None:
        """Queue an event, and see that a worker will take it out."""
        queue = self._queue
        if self._closed:
            self._drop(event)
            return
        overflows = len(queue) >= self._max_pending
        if not overflows or self._make_room():
            queue.append(event)
            if self._idle:
                self._wake()
            if self._workers < self._limit and len(queue) > self._idle:
                self._start_worker()
        else:
            self._drop(event)
        if overflows:
            self._report_full(event)

    def put_heavy(self, event: Any) -> None:
        """Queue an event that is counted in bytes, too."""
        queue, heavy_bytes = self._queue, self._host.heavy_bytes
        if self._closed:
            self._drop(event)
            return
        overflows = len(queue) >= self._max_pending or (
            self.pending_bytes + heavy_bytes > self._max_pending_bytes and len(queue) > 0
        )
        if not overflows or self._make_room(heavy_bytes):
            queue.append((event, heavy_bytes))
            self.pending_bytes += heavy_bytes
            if self._idle:
                self._wake()
            if self._workers < self._limit and len(queue) > self._idle:
                self._start_worker()
        else:
            self._drop(event)
        if overflows:
            self._report_full(event)

    def _start_worker(self) -> None:
        self._workers += 1
        self._host.start_soon(self._work)

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set()
            self._wakeup = None

    def _make_room(self, heavy_bytes: int = 0) -> bool:
        """Apply the policy; return whether the event may still be queued."""
        policy = self.subscription.options.overflow
        if policy == "pause":
            if not self._letting_through:
                self._host.hold(self)
            return True
        if policy == "drop_newest":
            return False
        queue = self._queue
        while len(queue) >= self._max_pending or (
            queue and self.pending_bytes + heavy_bytes > self._max_pending_bytes
        ):
            self._drop(self._take())
        return True

    def _drop(self, _event: Any) -> None:
        """Count an event that the handler will never see."""
        self.statistics.dropped += 1

    def _take(self) -> Any:
        """Take the oldest event out."""
        event: Any = self._queue.popleft()
        if type(event) is tuple:
            event, heavy_bytes = cast("tuple[Any, int]", event)
            self.pending_bytes -= heavy_bytes
        return event

    def _report_full(self, event: Any) -> None:
        """Emit `Overflow`, unless that was done already or skipping is what was asked for."""
        options = self.subscription.options
        if not self._full and options.mode != "latest":
            self._full = True
            self._host.emit(
                Overflow(
                    handler=self.subscription.name,
                    event_type=event.type,
                    policy=options.overflow,
                    dropped=self.statistics.dropped,
                    pending=len(self._queue),
                    pending_bytes=self.pending_bytes,
                )
            )

    @contextmanager
    def let_through(self) -> Generator[None]:
        """Hold up no reading inside this block."""
        self._letting_through += 1
        self._host.release(self)
        try:
            yield
        finally:
            self._letting_through -= 1
            pauses = self.subscription.options.overflow == "pause" and not self._closed
            if pauses and self._full and not self._letting_through:
                self._host.hold(self)

    async def _work(self) -> None:
        _HANDLING.set(self)
        try:
            await self._drain()
            while not self._closed:
                await self._wait()
                await self._drain()
        finally:
            self._workers -= 1

    async def _drain(self) -> None:
        queue = self._queue
        handled = 0
        while queue:
            await self._handle(self._take() if self.pending_bytes else queue.popleft())
            handled += 1
            if handled % _BATCH == 0:
                await anyio.lowlevel.checkpoint()
            if self._full and self._half_empty():
                self._full = False
                self._host.release(self)
        if not self._running:
            self._host.mailbox_empty()

    def _half_empty(self) -> bool:
        few = len(self._queue) <= self._max_pending // 2
        return few and self.pending_bytes <= self._max_pending_bytes // 2

    async def _handle(
        self, event: Any, begun: Awaitable[object] | None = None, started: float = 0.0
    ) -> None:
        """Run the handler, or await one that has begun."""
        statistics = self.statistics
        self._running += 1
        started = started or perf_counter()
        try:
            await (self._call(event) if begun is None else begun)
        except BaseException as error:
            failure = failure_of(error)
            if failure is None:
                statistics.dropped += 1
                raise
            statistics.failed += 1
            self._host.report_failure(self.subscription.name, event, failure)
        finally:
            self._running -= 1
        took_s = perf_counter() - started
        statistics.delivered += 1
        statistics.total_s += took_s
        if took_s > statistics.slowest_s:  # noqa: PLR1730  # max() costs a call per event
            statistics.slowest_s = took_s

    async def _wait(self) -> None:
        if self._queue:
            return
        if self._wakeup is None:
            self._wakeup = anyio.Event()
        self._idle += 1
        try:
            await self._wakeup.wait()
        finally:
            self._idle -= 1

    def close(self) -> None:
        """Take no more events; those that still wait are counted as dropped."""
        self.retire()
        self.statistics.dropped += len(self._queue)
        self._queue.clear()
        self.pending_bytes = 0

    def retire(self) -> None:
        """Take no more events, handle those that wait, and end."""
        self._closed = True
        self._host.release(self)
        self._wake()


_HANDLING: ContextVar[Mailbox | None] = ContextVar("handling", default=None)
"""Whose handler runs in this context."""


@contextmanager
def reading_goes_on() -> Generator[None]:
    """Wait in this block for something that must be read: also in a handler that pauses reading."""
    mailbox = _HANDLING.get()
    if mailbox is None:
        yield
    else:
        with mailbox.let_through():
            yield


def set_free() -> None:
    """Let what runs in this context be no part of the handler that started it."""
    _HANDLING.set(None)


class EagerMailbox(Mailbox):
    """A mailbox whose handler begins inside `put` if it is free. For asyncio on Python 3.12.

    An event that comes alone, as at real-time pace, costs half of what waking a worker costs, if
    the handler does not wait; in a burst, where workers take batches, half as much again.
    """

    __slots__ = ("_begun", "_context", "_handler", "_loop")

    def __init__(self, subscription: Subscription, session: Any, host: Host) -> None:
        super().__init__(subscription, session, host)
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._context.run(_HANDLING.set, self)
        self._handler, self._call = self._call, self._in_task
        self._begun: tuple[Any, asyncio.Task[Any], float] | None = None  # the worker takes it

    def run_within(self, manager: Callable[[], AbstractContextManager[object]]) -> None:
        """Let the handler's tasks find what a context manager sets."""

        def inside() -> Context:
            with manager():
                return copy_context()

        self._context = self._context.run(inside)

    @property
    def pending(self) -> int:
        """How many events wait or are being handled."""
        return super().pending + (self._begun is not None)

    def put(self, event: Any, queue: Callable[[Mailbox, Any], None] = Mailbox.put) -> None:
        """Begin to handle an event; queue it if the handler is busy."""
        if (
            self._running
            or self._queue
            or self._begun is not None
            or self._workers != self._idle  # between two batches
            or self._closed
        ):
            queue(self, event)
            return
        started = perf_counter()
        self._running = 1  # events that it causes come after this one
        try:
            task = self._start(event)
            if not task.done():
                self._begun = event, task, started
            else:
                task.result()
        except BaseException as error:  # noqa: BLE001  # the caller's code: whatever it raises is reported
            self.statistics.failed += 1
            self._host.report_failure(self.subscription.name, event, reported(error))
        finally:
            self._running = 0
        if self._begun is None:
            took_s = perf_counter() - started
            self.statistics.delivered += 1
            self.statistics.total_s += took_s
            self.statistics.slowest_s = max(self.statistics.slowest_s, took_s)
        elif self._workers:
            self._wake()
        else:
            self._start_worker()

    def put_heavy(self, event: Any) -> None:
        """Begin to handle an event; queue it as a heavy one if the handler is busy."""
        self.put(event, Mailbox.put_heavy)

    def _start(self, event: Any) -> asyncio.Task[Any]:
        return asyncio.Task(
            self._handler(event),
            loop=self._loop,
            context=self._context,
            eager_start=True,  # type: ignore[call-arg]  # Python 3.12; never called on 3.11
        )

    async def _in_task(self, event: Any) -> None:
        """Handle an event from the queue."""
        await self._end(self._start(event))

    async def _end(self, task: asyncio.Task[Any]) -> None:
        """Wait for the end of what has begun.

        The session's end cancels it once, as asyncio cancels: what it awaits then is not cancelled
        again and again, which would break into shields that its clean-up enters.
        """
        if not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError:
                task.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait((task,))
                if task.cancelled():
                    raise
        task.result()

    async def _wait(self) -> None:
        if self._begun is None:
            try:
                await super()._wait()
            except asyncio.CancelledError:
                if self._begun is None:  # else it must be told, too; anyio cancels again
                    raise

    async def _drain(self) -> None:
        if self._begun is not None:
            (event, task, started), self._begun = self._begun, None
            await self._handle(event, self._end(task), started)
        await super()._drain()

"""A handler's own queue in one session, and the workers that empty it.

Rules:

1. Putting an event into a mailbox is synchronous, takes constant time and never waits.
2. Workers (one; several in mode ``parallel``) are started when there is something to do,
   in the session's task group, and drain the mailbox in batches: one wake-up serves all
   events that have come in since.
3. A full mailbox follows its policy. What is dropped is counted, and reported once for each
   stretch in which the mailbox was full.
4. A handler that raises, or takes longer than its timeout, has failed at that one event.
5. An event whose handler was cancelled, because its session ended, counts as dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from time import perf_counter
from typing import Any, Protocol

import anyio
import anyio.lowlevel

from realtime_bus.events import Overflow

from ._runner import Host, awaitable, failure_of
from ._subscription import HandlerStatistics, Subscription

__all__ = ["Begun", "Mailbox"]

_BATCH = 64  # events handled before the event loop gets a turn, so that reading goes on


class Begun(Protocol):
    """A handler that has begun and waits, and when that was."""

    started: float

    def __await__(self) -> Generator[Any, Any, object]:
        """Go on with it."""
        ...


class Mailbox:
    """A queue in front of a handler, and the workers that empty it."""

    __slots__ = (
        "_call",
        "_closed",
        "_full",
        "_host",
        "_idle",
        "_queue",
        "_running",
        "_statistics",
        "_wakeup",
        "_workers",
        "subscription",
    )

    def __init__(self, subscription: Subscription, session: Any, host: Host) -> None:
        self.subscription = subscription
        self._statistics = HandlerStatistics(handler=subscription.name)
        self._host = host
        self._call = awaitable(subscription, session)
        self._queue: deque[Any] = deque()
        self._workers = 0  # started
        self._idle = 0  # … of which wait for the next wake-up
        self._running = 0  # events in a handler's hands
        self._wakeup: anyio.Event | None = None
        self._full = False
        self._closed = False

    @property
    def statistics(self) -> HandlerStatistics:
        """Its figures so far, in the same object each time."""
        return self._statistics

    @property
    def pending(self) -> int:
        """How many events wait or are being handled."""
        return len(self._queue) + self._running

    @property
    def put(self) -> Callable[[Any], None]:
        """Hand over an event; returns at once and never raises."""
        return self._queue_up

    def _queue_up(self, event: Any) -> None:
        """Queue an event, and see that somebody will take it out."""
        queue = self._queue
        if self._closed:
            self._statistics.dropped += 1
            return
        options = self.subscription.options
        overflows = len(queue) >= options.max_pending
        if not overflows or self._make_room():
            queue.append(event)
            if self._idle:
                self._wake()
            if self._workers < options.limit and len(queue) > self._idle:
                self._workers += 1
                self._host.start_soon(self._work)
        if overflows:
            self._report_full(event)

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.set()
            self._wakeup = None

    def _make_room(self) -> bool:
        """Apply the policy; return whether the event may still be queued."""
        policy = self.subscription.options.overflow
        if policy == "pause":
            self._host.hold(self)
            return True
        self._statistics.dropped += 1
        if policy == "drop_newest":
            return False
        self._queue.popleft()
        return True

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
                    dropped=self._statistics.dropped,
                )
            )

    async def _work(self) -> None:
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
            await self._handle(queue.popleft())
            handled += 1
            if handled % _BATCH == 0:
                await anyio.lowlevel.checkpoint()
            if self._full and len(queue) <= self.subscription.options.max_pending // 2:
                self._full = False
                self._host.release(self)
        if not self._running:
            self._host.mailbox_empty()

    async def _handle(self, event: Any, begun: Begun | None = None) -> None:
        """Run the handler, or go on with one that has begun."""
        statistics = self._statistics
        self._running += 1
        started = perf_counter() if begun is None else begun.started
        try:
            await (self._call(event) if begun is None else begun)
        except BaseException as error:
            failure = failure_of(error)
            if failure is None:
                statistics.dropped += 1
                raise
            statistics.failed += 1
            self._host.handler_failed(self.subscription, event, failure)
        finally:
            self._running -= 1
        took_s = perf_counter() - started
        statistics.delivered += 1
        if took_s > statistics.slowest_s:  # noqa: PLR1730  # max() costs more, for every event
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
        self._statistics.dropped += len(self._queue)
        self._queue.clear()

    def retire(self) -> None:
        """Take no more events, handle those that wait, and end."""
        self._closed = True
        self._wake()

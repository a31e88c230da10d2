"""Running one handler in one session: inline, or from a mailbox of its own.

Rules:

1. Putting an event into a mailbox is synchronous, takes constant time and never waits.
2. Workers (one; several in mode ``parallel``) are started when there is something to do,
   in the session's task group, and drain the mailbox in batches: one wake-up serves all
   events that have come in since.
3. A full mailbox follows its policy. What is dropped is counted, and reported once for each
   stretch in which the mailbox was full.
4. A handler that raises, or takes longer than its timeout, has failed at that one event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..events import Event, Overflow
from ._subscription import HandlerStatistics, Subscription

__all__ = ["Host", "InlineRunner", "Mailbox", "Runner"]

_BATCH = 64  # events handled before the event loop gets a turn, so that reading goes on


class Host(Protocol):
    """What a runner needs of its session."""

    def start_soon(self, function: Callable[..., Any], *args: object) -> None:
        """Start a task in the session's task group."""
        ...

    def handler_failed(self, subscription: Subscription, event: Event, error: Exception) -> None:
        """Report a handler that raised."""
        ...

    def interceptor_failed(self, interceptor: object, event: Event, error: Exception) -> None:
        """Report an interceptor that raised."""
        ...

    def unsubscribe(self, subscription: Subscription) -> None:
        """Take a subscription out, wherever it was registered."""
        ...

    def emit(self, event: Any) -> None:
        """Deliver a happening."""
        ...

    def hold(self, holder: object) -> None:
        """Stop reading from the transport until released by the same holder."""
        ...

    def release(self, holder: object) -> None:
        """Let reading go on, if nobody else holds it."""
        ...


class Runner(Protocol):
    """One subscription at work in one session."""

    subscription: Subscription
    statistics: HandlerStatistics

    def put(self, event: Any) -> None:
        """Hand over an event; returns at once and never raises."""
        ...

    def close(self) -> None:
        """Take no more events, and count those that are still waiting as dropped."""
        ...

    def retire(self) -> None:
        """Take no more events, handle those that wait, and end."""
        ...

    @property
    def pending(self) -> int:
        """How many events wait or are being handled."""
        ...


class InlineRunner:
    """Calls a plain function in the reader, before the next frame."""

    __slots__ = ("_call", "_host", "statistics", "subscription")
    pending = 0

    def __init__(self, subscription: Subscription, session: Any, host: Host) -> None:
        self.subscription = subscription
        self.statistics = HandlerStatistics(handler=subscription.name)
        self._call = _bound(subscription, session)
        self._host = host

    def put(self, event: Any) -> None:
        """Run the handler now."""
        statistics = self.statistics
        started = perf_counter()
        try:
            self._call(event)
        except Exception as error:  # noqa: BLE001  # the caller's code: whatever it raises is reported
            statistics.failed += 1
            self._host.handler_failed(self.subscription, event, error)
        took_s = perf_counter() - started
        statistics.delivered += 1
        if took_s > statistics.slowest_s:
            statistics.slowest_s = took_s

    def close(self) -> None:
        """Nothing waits."""

    def retire(self) -> None:
        """Nothing waits."""


def _bound(subscription: Subscription, session: Any) -> Callable[[Any], Any]:
    handler = subscription.handler
    if not subscription.wants_session:
        return handler
    return lambda event: handler(event, session)


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
        "_wakeup",
        "_workers",
        "statistics",
        "subscription",
    )

    def __init__(self, subscription: Subscription, session: Any, host: Host) -> None:
        self.subscription = subscription
        self.statistics = HandlerStatistics(handler=subscription.name)
        self._host = host
        self._call = _awaitable(subscription, session)
        self._queue: deque[Any] = deque()
        self._workers = 0  # started
        self._idle = 0  # … of which wait for the next wake-up
        self._running = 0  # events in a handler's hands
        self._wakeup: anyio.Event | None = None
        self._full = False
        self._closed = False

    @property
    def pending(self) -> int:
        """How many events wait or are being handled."""
        return len(self._queue) + self._running

    def put(self, event: Any) -> None:
        """Queue an event, and see that somebody will take it out."""
        queue = self._queue
        if self._closed:
            self.statistics.dropped += 1
            return
        if len(queue) >= self.subscription.options.max_pending and not self._make_room(event):
            return
        queue.append(event)
        if self._idle:
            if self._wakeup is not None:
                self._wakeup.set()
                self._wakeup = None
        elif self._workers < self.subscription.options.limit:
            self._start_worker()

    def _start_worker(self) -> None:
        self._workers += 1
        self._host.start_soon(self._work)

    def _make_room(self, event: Any) -> bool:
        """Apply the policy; return whether the event may still be queued."""
        options = self.subscription.options
        if options.overflow == "pause":
            self._report_full(event)
            self._host.hold(self)
            return True
        self.statistics.dropped += 1
        if options.overflow == "drop_newest":
            self._report_full(event)
            return False
        self._queue.popleft()
        if options.mode != "latest":
            self._report_full(event)
        return True

    def _report_full(self, event: Any) -> None:
        if not self._full:
            self._full = True
            self._host.emit(
                Overflow(
                    handler=self.subscription.name,
                    event_type=event.type,
                    policy=self.subscription.options.overflow,
                    dropped=self.statistics.dropped,
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
            event = queue.popleft()
            self._running += 1
            try:
                await self._handle(event)
            finally:
                self._running -= 1
            handled += 1
            if handled % _BATCH == 0:
                await anyio.lowlevel.checkpoint()
            if self._full and len(queue) <= self.subscription.options.max_pending // 2:
                self._full = False
                self._host.release(self)

    async def _handle(self, event: Any) -> None:
        statistics = self.statistics
        started = perf_counter()
        try:
            await self._call(event)
        except Exception as error:  # noqa: BLE001  # the caller's code: whatever it raises is reported
            statistics.failed += 1
            self._host.handler_failed(self.subscription, event, error)
        took_s = perf_counter() - started
        statistics.delivered += 1
        if took_s > statistics.slowest_s:
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

    def retire(self) -> None:
        """Take no more events, handle those that wait, and end."""
        self._closed = True
        if self._wakeup is not None:
            self._wakeup.set()
            self._wakeup = None


def _awaitable(
    subscription: Subscription, session: Any
) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    call = _bound(subscription, session)
    if not subscription.is_async:
        call = _in_thread(call)
    if subscription.options.timeout_s is not None:
        return _with_timeout(call, subscription)
    return call


def _in_thread(call: Callable[[Any], Any]) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    """A plain function with a mailbox may block: it runs in a worker thread."""

    async def run(event: Any) -> Any:
        return await anyio.to_thread.run_sync(call, event)

    return run


def _with_timeout(
    call: Callable[[Any], Coroutine[Any, Any, Any]], subscription: Subscription
) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    timeout_s = subscription.options.timeout_s

    async def run(event: Any) -> Any:
        with anyio.move_on_after(timeout_s) as scope:
            return await call(event)
        if scope.cancelled_caught:
            raise TimeoutError(
                f"{subscription.name} took longer than its timeout_s={timeout_s:g} for {event.type}"
            )
        return None

    return run

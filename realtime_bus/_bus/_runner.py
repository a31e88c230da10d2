"""What runs one handler in one session: the common parts, and the inline runner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from inspect import iscoroutine
from time import perf_counter
from typing import Any, Protocol

import anyio
import anyio.to_thread

from realtime_bus.errors import UsageError
from realtime_bus.events import Event

from ._subscription import HandlerStatistics, Subscription

__all__ = ["Host", "InlineRunner", "Runner", "awaitable", "failure_of"]


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

    def emit(self, event: Any, /) -> None:
        """Deliver a happening."""
        ...

    def hold(self, holder: object) -> None:
        """Stop reading from the transport until released by the same holder."""
        ...

    def release(self, holder: object) -> None:
        """Let reading go on, if nobody else holds it."""
        ...

    def mailbox_empty(self) -> None:
        """Note that a mailbox has nothing left to do."""
        ...


class Runner(Protocol):
    """One subscription at work in one session."""

    subscription: Subscription

    @property
    def put(self) -> Callable[[Any], None]:
        """Hand over an event; returns at once and never raises."""
        ...

    @property
    def statistics(self) -> HandlerStatistics:
        """Its figures so far, in the same object each time."""
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

    __slots__ = ("_figures", "_put", "_stop", "subscription")

    def __init__(self, subscription: Subscription, session: Any, host: Host) -> None:
        self.subscription = subscription
        make = _watching if subscription.internal else _inline
        self._put, self._figures, self._stop = make(subscription, session, host)

    @property
    def put(self) -> Callable[[Any], None]:
        """Run the handler now; never raises."""
        return self._put

    @property
    def statistics(self) -> HandlerStatistics:
        """Its figures so far, in the same object each time."""
        return self._figures()

    @property
    def pending(self) -> int:
        """Whether it runs: nothing waits."""
        return self._figures().pending

    def close(self) -> None:
        """Nothing waits; what the end itself causes is still heard."""

    def retire(self) -> None:
        """Take no more events, not even the one that is being handed round."""
        self._stop()


_Inline = tuple[Callable[[Any], None], Callable[[], HandlerStatistics], Callable[[], None]]


def _inline(subscription: Subscription, session: Any, host: Host) -> _Inline:
    """Return an inline runner's functions: put, statistics, stop.

    Closures, for this is every event's way: a method that counts in attributes takes half as
    long again.
    """
    call = _bound(subscription, session)
    statistics = HandlerStatistics(handler=subscription.name)
    delivered, running, slowest_s = 0, 0, 0.0

    def put(event: Any) -> None:
        nonlocal delivered, running, slowest_s
        running += 1
        started = perf_counter()
        try:
            result = call(event)
            if result is not None and iscoroutine(result):
                _refuse(result, subscription)
        except Exception as error:  # noqa: BLE001  # the caller's code: whatever it raises is reported
            statistics.failed += 1
            host.handler_failed(subscription, event, error)
        took_s = perf_counter() - started
        running -= 1
        delivered += 1
        if took_s > slowest_s:  # noqa: PLR1730  # max() costs more, for every event
            slowest_s = took_s

    def figures() -> HandlerStatistics:
        statistics.delivered, statistics.pending = delivered, running
        statistics.slowest_s = slowest_s
        return statistics

    def stop() -> None:
        nonlocal call
        call = _ignore

    return put, figures, stop


def _watching(subscription: Subscription, session: Any, host: Host) -> _Inline:
    """Return the functions for a watcher of the session itself, of which nobody wants figures."""
    call = _bound(subscription, session)

    def put(event: Any) -> None:
        try:
            call(event)
        except Exception as error:  # noqa: BLE001  # a defect of ours must not end the session
            host.handler_failed(subscription, event, error)

    def stop() -> None:
        nonlocal call
        call = _ignore

    return put, _no_figures, stop


def _no_figures() -> HandlerStatistics:
    return HandlerStatistics(handler="")


def _ignore(_event: Any) -> None:
    pass


def _refuse(result: Coroutine[Any, Any, Any], subscription: Subscription) -> None:
    """Say that a plain function cannot hand over work that must be awaited.

    Raises:
        UsageError: Always.
    """
    result.close()
    raise UsageError(
        f"{subscription.name} is a plain function that returned a coroutine, which nobody "
        "awaits; register an async function"
    )


def _bound(subscription: Subscription, session: Any) -> Callable[[Any], Any]:
    handler = subscription.handler
    if not subscription.wants_session:
        return handler
    return lambda event: handler(event, session)


def failure_of(error: BaseException, task: asyncio.Task[Any] | None = None) -> Exception | None:
    """Return what to report of an async function that raised; None if that is not ours to catch.

    A cancellation that nobody asked of its task is a failure like others: it awaited something
    that was cancelled. Unless it is caught, the session would end.

    Args:
        error: What it raised.
        task: Whose work it was; the task that runs, if left out.
    """
    if isinstance(error, Exception):
        return error
    if not isinstance(error, asyncio.CancelledError):
        return None
    task = task or asyncio.current_task()
    if task is None or task.cancelling():
        return None
    failure = RuntimeError("it awaited something that was cancelled")
    failure.__cause__ = error
    return failure


def awaitable(
    subscription: Subscription, session: Any
) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    """Return the handler as an async function of the event, with its timeout."""
    call = _bound(subscription, session)
    if not subscription.is_async:
        call = _in_thread(call, subscription)
    if subscription.options.timeout_s is not None:
        return _with_timeout(call, subscription)
    return call


def _in_thread(
    call: Callable[[Any], Any], subscription: Subscription
) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    """Return a plain function as one that runs in a worker thread, for it may block.

    A thread cannot be stopped: one that takes too long is left to itself.
    """

    def work(event: Any) -> None:
        result = call(event)
        if iscoroutine(result):
            _refuse(result, subscription)

    async def run(event: Any) -> None:
        await anyio.to_thread.run_sync(work, event, abandon_on_cancel=True)

    return run


def _with_timeout(
    call: Callable[[Any], Coroutine[Any, Any, Any]], subscription: Subscription
) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    timeout_s = subscription.options.timeout_s

    async def run(event: Any) -> None:
        with anyio.move_on_after(timeout_s) as scope:
            await call(event)
        if scope.cancelled_caught:
            raise TimeoutError(
                f"{subscription.name} took longer than its timeout_s={timeout_s:g} for {event.type}"
            )

    return run

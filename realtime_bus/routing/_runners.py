"""What runs one handler in one session: inline, or from a mailbox (`_mailbox`).

Rules:

1. `put` is synchronous, takes constant time, never waits and never raises.
2. Whatever a handler raises is a reported failure, a cancellation that nobody asked of it
   included; only KeyboardInterrupt and SystemExit pass.
3. A cancellation is ours to pass on while the session itself is being cancelled, and only then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from inspect import iscoroutine
from math import inf
from time import perf_counter
from typing import Any, Protocol, cast

import anyio
import anyio.to_thread

from realtime_bus.errors import UsageError
from realtime_bus.events import Event

from ._subscription import HandlerStatistics, Subscription


class Host(Protocol):
    """What a runner needs of its session.

    Attributes:
        heavy_bytes: The length of the frame whose event is handed round, if that is to be counted;
            else 0.
    """

    heavy_bytes: int

    def start_soon(self, function: Callable[..., Any], *args: object) -> None:
        """Start a task in the session's task group."""
        ...

    def report_failure(self, handler: str, event: Event | None, error: BaseException) -> None:
        """Report a handler, predicate or interceptor that raised."""
        ...

    def unsubscribe(self, subscription: Subscription) -> None:
        """Take a subscription out, wherever it was registered."""
        ...

    def emit(self, event: Any, /) -> None:
        """Deliver an event of the bus's own."""
        ...

    def hold(self, holder: object) -> None:
        """Stop reading from the transport until released by the same holder."""
        ...

    def release(self, holder: object) -> None:
        """Resume reading, unless somebody else holds it."""
        ...

    def mailbox_empty(self) -> None:
        """Note that a mailbox has nothing left to do."""
        ...


class Runner(Protocol):
    """One subscription at work in one session.

    Attributes:
        subscription: Which.
        statistics: What it has been through.
        pending_bytes: What waits for it weighs so much.
    """

    subscription: Subscription
    statistics: HandlerStatistics
    pending_bytes: int

    @property
    def pending(self) -> int:
        """How many events wait or are being handled."""
        ...

    def put(self, event: Any) -> None:
        """Hand over an event."""
        ...

    def put_heavy(self, event: Any) -> None:
        """Hand over an event whose frame counts in the bound of what waits."""
        ...

    def close(self) -> None:
        """Take no more events, and count those that are still waiting as dropped."""
        ...

    def retire(self) -> None:
        """Take no more events, handle those that wait, and end."""
        ...


class InlineRunner:
    """Calls a plain function in the reader, before the next frame."""

    __slots__ = ("_call", "_host", "pending", "pending_bytes", "statistics", "subscription")

    def __init__(self, subscription: Subscription, session: Any, host: Host) -> None:
        self.subscription = subscription
        self.statistics = HandlerStatistics(handler=subscription.name)
        self.pending = 0
        self.pending_bytes: int = 0
        self._host = host
        self._call = bound(subscription, session)

    def put(self, event: Any) -> None:
        """Run the handler now."""
        statistics = self.statistics
        self.pending += 1
        started = perf_counter()
        try:
            result = self._call(event)
            if result is not None and iscoroutine(result):
                _refuse(result, self.subscription)
        except BaseException as error:  # noqa: BLE001  # the caller's code: whatever it raises is reported
            statistics.failed += 1
            self._host.report_failure(self.subscription.name, event, reported(error))
        finally:
            self.pending -= 1  # even if the stack is too deep to report anything
        took_s = perf_counter() - started
        statistics.delivered += 1
        statistics.total_s += took_s
        if took_s > statistics.slowest_s:  # noqa: PLR1730  # max() costs more, for every event
            statistics.slowest_s = took_s

    put_heavy = put  # nothing waits

    def close(self) -> None:
        """Nothing waits; what the end itself causes is still heard."""

    def retire(self) -> None:
        """Take no more events, not even the one that is being handed round."""
        self._call = _ignore


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


def bound(subscription: Subscription, session: Any) -> Callable[[Any], Any]:
    """Return the handler as a function of the event alone."""
    handler = subscription.handler
    if not subscription.wants_session:
        return handler
    return lambda event: handler(event, session)


def reported(error: BaseException) -> Exception:
    """Return what to report of code that raised and could not be waiting for anything.

    Raises:
        KeyboardInterrupt: As it was raised.
        SystemExit: As it was raised.
    """
    if isinstance(error, Exception):
        return error
    if _is_any_of(error, (KeyboardInterrupt, SystemExit)):
        raise error
    return _wrapped(error)


def _wrapped(error: BaseException) -> Exception:
    cancelled = _is_cancellation(error, asyncio.CancelledError)
    failure = RuntimeError(
        "it was cancelled, or awaited something that was cancelled"
        if cancelled
        else f"it raised {type(error).__name__}"
    )
    failure.__cause__ = error
    return failure


def _is_any_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", error).subgroup(kinds) is not None
    return isinstance(error, kinds)


def failure_of(error: BaseException) -> Exception | None:
    """Return what to report of an async function that raised; None if that must be passed on.

    Passed on are KeyboardInterrupt, SystemExit, and cancellations of the session (rule 3).
    A handler that cancels its own task, or awaits something cancelled, has failed like others.
    """
    if isinstance(error, Exception):
        return error
    if _is_any_of(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
        return None
    if _is_cancellation(error, anyio.get_cancelled_exc_class()):
        if anyio.current_effective_deadline() == -inf:
            return None
        task = _current_asyncio_task()
        while task is not None and task.cancelling():
            task.uncancel()  # else whatever the task awaits next is cancelled, too
    return _wrapped(error)


def is_cancelled() -> bool:
    """Tell whether somebody is cancelling the task that runs now."""
    task = _current_asyncio_task()
    cancelling = task is not None and task.cancelling() > 0
    return cancelling or anyio.current_effective_deadline() == -inf


def _is_cancellation(error: BaseException, cancelled: type[BaseException]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(
            _is_cancellation(one, cancelled) or isinstance(one, Exception)
            for one in group.exceptions
        )
    return isinstance(error, cancelled)


def _current_asyncio_task() -> asyncio.Task[Any] | None:
    """Return asyncio's task that runs now; None on trio."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def awaitable(
    subscription: Subscription, session: Any
) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    """Return the handler as an async function of the event, with its timeout."""
    call = bound(subscription, session)
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

"""Conversations whose events come from elsewhere: from a broker, say, and not from a server.

For whoever builds another kind of bus. It is a `Handlers`, with the decorators of `Bus`; it opens a
`Feed` for each conversation, gives it frames and events, and is told when each has settled::

    feed = Feed(handlers, my_session, tasks=task_group, keep=dead_letters.put)
    feed.frame(b'{"type":"response.done", …}', key="sess_1-17", settled=message_is_done)

Rules:

1. An event settles as `Redelivery` and the handlers' own options say (`routing._settled`); one that
   comes without `settled` is not tried again.
2. A mailbox that pauses reading holds up its feed: `held` is true meanwhile, and `on_held` is told.
3. Left, a feed cancels what runs; what has not settled never will.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

from realtime_bus import events as ev
from realtime_bus.codec import Decoder
from realtime_bus.codec._frame import HEAD, MAX_HEAD_BYTES
from realtime_bus.errors import CloseInfo, SessionClosed
from realtime_bus.events import ProtocolName
from realtime_bus.log import Logger, Repeats, describe, get_logger
from realtime_bus.routing import (
    LIGHT_BYTES,
    BusOptions,
    Delivery,
    Drifted,
    EventStream,
    Handlers,
    HandlerStatistics,
    OnEnd,
    OnFor,
    Redelivery,
    Router,
    SettledMailbox,
    StreamFor,
    Subscription,
    WaitFor,
    WaitForFor,
    current_delivery,
    failure_of,
    handler_name,
    registering,
    select,
    weight_bytes,
)
from realtime_bus.session._settings import settings_request

__all__ = [
    "BusOptions",
    "Feed",
    "GivenUp",
    "HandlerStatistics",
    "Handlers",
    "OnFor",
    "Redelivery",
    "StreamFor",
    "WaitForFor",
    "current_delivery",
    "select",
    "settings_request",
]

_Session = TypeVar("_Session")

GivenUp = Callable[[str, Any, Exception, str], Awaitable[None]]
"""Keeps what a handler could not handle: (handler's name, event, error, key)."""


async def _forget(_handler: str, _event: Any, _error: Exception, _key: str) -> None:
    """Keep nothing."""


class Feed(Generic[_Session]):
    """One conversation's way to the handlers of a bus; made in a running event loop.

    Args:
        handlers: Whose events they are.
        session: What handlers are given as their session.
        tasks: What handlers run in, and are cancelled with.
        protocol: What the frames speak.
        redelivery: What becomes of an event at which a handler raises.
        keep: Keeps what is given up, before it settles.
        may_handle: Asked before each attempt whether the events are still ours to handle.
        on_held: Told that reading shall pause, and that it may go on.
        log: Values of every log line.

    Attributes:
        heavy_bytes: What the frame at hand weighs; 0 if that is not counted.
        delivery: What is being handed round.
        redelivery: As given.
        may_handle: As given.
        close_info: How it ended, or None.
    """

    def __init__(  # noqa: PLR0913  # each of its own, by name
        self,
        handlers: Handlers[_Session],
        session: _Session,
        *,
        tasks: TaskGroup,
        protocol: ProtocolName = "realtime",
        redelivery: Redelivery | None = None,
        keep: GivenUp = _forget,
        may_handle: Callable[[], bool] = lambda: True,
        on_held: Callable[[bool], object] = bool,
        log: dict[str, Any] | None = None,
    ) -> None:
        self.heavy_bytes: int = 0
        self.delivery: Delivery | None = None
        self.redelivery: Redelivery = redelivery or Redelivery()
        self.close_info: CloseInfo | None = None
        self._registry = handlers._registry  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # made for feeds
        self._session = session
        self._tasks = tasks
        self._keep = keep
        self.may_handle: Callable[[], bool] = may_handle
        self._on_held = on_held
        self._holders: set[object] = set()
        self._waiters: dict[OnEnd, None] = {}
        self._failures = Repeats()
        self._emptied = anyio.Event()
        self._log: Logger = get_logger().bind(**(log or {}))
        self._scopes: set[anyio.CancelScope] = set()
        self._router = Router(self, make=self._make)
        self._router.session = session
        self._decoder = Decoder(protocol, report=self.emit, both=Drifted)
        self._registry.enter(self, session)
        for subscription in list(self._registry.subscriptions):
            self._router.add(subscription)

    def _make(self, subscription: Subscription, session: Any) -> SettledMailbox | None:
        return None if subscription.internal else SettledMailbox(subscription, session, self)

    # --- what is fed -------------------------------------------------------------------------

    def frame(self, frame: bytes, *, key: str, settled: Callable[[], None]) -> None:
        """Hand round the event of a server's frame; never raises.

        Args:
            frame: As the server sent it; read as leniently as from a server.
            key: Names it; the same each time that it comes.
            settled: Called once, when all handlers are done with it; perhaps before this returns.
        """
        head_end = frame.find(b'"', len(HEAD), MAX_HEAD_BYTES)
        if head_end > 0 and frame[:head_end] in self._router.skippable:
            settled()  # nobody wants it: there is no need to decode it
            return
        self._hand_round(
            self._decoder.decode(frame), len(frame) if len(frame) > LIGHT_BYTES else 0, key, settled
        )

    def event(self, event: ev.BusEvent, *, key: str, settled: Callable[[], None]) -> None:
        """Hand round an event that was never on the wire; see `frame`."""
        self._hand_round(event, weight_bytes(event), key, settled)

    def _hand_round(
        self, event: Any, heavy_bytes: int, key: str, settled: Callable[[], None]
    ) -> None:
        if self.close_info is not None:
            return
        self.heavy_bytes = heavy_bytes
        delivery = self.delivery = Delivery(key, settled)
        try:
            (self._router.route_heavy if heavy_bytes else self._router.route)(event)
        finally:
            self.heavy_bytes = 0
            self.delivery = None
        delivery.leave()

    def emit(self, event: ev.BusEvent) -> None:
        """Deliver an event to those who listen here; nobody acknowledges it."""
        outer, self.delivery = self.delivery, None
        try:
            self._router.route(event)
        finally:
            self.delivery = outer

    # --- who takes part ----------------------------------------------------------------------

    def registering(
        self, selectors: tuple[object, ...], where: Any, options: Any, *, once: bool
    ) -> Callable[[Any], Any]:
        """Return the decorator behind ``session.on`` and ``session.once``."""
        return registering(self.add, selectors, where, options, once=once)

    def wait_for(
        self, selectors: tuple[object, ...], where: Any, timeout_s: float | None
    ) -> WaitFor[Any]:
        """Return an awaitable of the next event that fits."""
        return WaitFor(self, selectors, where=where, timeout_s=timeout_s)

    def stream(self, selectors: tuple[object, ...], where: Any) -> EventStream[Any]:
        """Return an async iterator of the events that fit."""
        return EventStream(self, selectors, where=where)

    def add(self, subscription: Subscription) -> None:
        """Let a handler take part from now on."""
        self._router.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Take a handler out; one that is not there is no error."""
        self._router.remove(subscription)

    def off(self, function: object) -> bool:
        """Take a handler out of this conversation; False if it is not there."""
        return self._router.off(function)

    def listen(self, subscription: Subscription, on_end: OnEnd) -> None:
        """Add a listener, and tell it of the end."""
        if self.close_info is not None:
            on_end(self.close_info)
        else:
            self._router.add(subscription)
            self._waiters[on_end] = None

    def unlisten(self, subscription: Subscription, on_end: OnEnd) -> None:
        """Remove a listener; one that is gone already is no error."""
        self._router.remove(subscription)
        self._waiters.pop(on_end, None)

    def statistics_of(self, subscription: Subscription) -> HandlerStatistics | None:
        """Return a handler's figures here, or None if it has no part in it."""
        return self._router.statistics_of(subscription)

    def statistics(self) -> list[HandlerStatistics]:
        """Return each handler's figures here."""
        return self._router.statistics()

    def add_to_totals(self) -> None:
        """Add every handler's figures to its totals; once, at the end."""
        self._router.add_to_totals()

    # --- what runners ask for ----------------------------------------------------------------

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run an async function until this feed is left; one that raises is reported.

        Raises:
            SessionClosed: The feed was left.
        """
        if self.close_info is not None:
            raise SessionClosed(
                "cannot start a task: this worker left the session", close=self.close_info
            )
        self._tasks.start_soon(self._run, function, args)

    async def _run(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        with anyio.CancelScope() as scope:  # one of its own: several tasks cannot share one
            self._scopes.add(scope)
            try:
                if self.close_info is None:
                    await function(*args)
            except BaseException as error:
                failure = failure_of(error)
                if failure is None:
                    raise
                self.report_failure(handler_name(function), None, failure)
            finally:
                self._scopes.discard(scope)

    def report_failure(self, handler: str, event: Any, error: BaseException) -> None:
        """Report what raised: a log line and an event."""
        event_type = "" if event is None else event.type
        suppressed = self._failures.due(handler, event_type, error=error)
        if suppressed is not None:
            told = {**describe(error), **suppressed}
            self._log.error("a handler failed", handler=handler, event_type=event_type, **told)
        if not isinstance(event, ev.HandlerFailed):
            self.emit(ev.HandlerFailed(handler=handler, event_type=event_type, error=error))

    async def give_up(self, handler: str, event: Any, error: Exception, key: str) -> None:
        """Keep an event that a handler could not handle; return when it is safe."""
        await self._keep(handler, event, error, key)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Take a subscription out of every session."""
        self._registry.discard(subscription)
        self._router.remove(subscription)

    def hold(self, holder: object) -> None:
        """Ask that reading pauses until the same holder releases it."""
        was_held = self.held
        self._holders.add(holder)
        if not was_held:
            self._on_held(True)

    def release(self, holder: object) -> None:
        """Let reading go on, unless somebody else holds it."""
        if holder in self._holders:
            self._holders.discard(holder)
            if not self._holders:
                self._on_held(False)

    def mailbox_empty(self) -> None:
        """Note that a mailbox has nothing left to do."""
        self._emptied.set()
        self._emptied = anyio.Event()

    # --- the end -----------------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether a handler asks that reading pauses."""
        return bool(self._holders)

    @property
    def busy(self) -> bool:
        """Whether any handler still has work."""
        return self._router.busy

    async def wait_idle(self) -> None:
        """Wait until no handler has work."""
        while self.close_info is None and self.busy:
            await self._emptied.wait()

    def leave(self, close: CloseInfo) -> None:
        """Stop at once: cancel what runs here, and tell those who wait. Twice is no error."""
        if self.close_info is not None:
            return
        self.close_info = close
        for tell in list(self._waiters):
            tell(close)
        self._waiters.clear()
        self._emptied.set()
        self._router.close()
        for scope in list(self._scopes):
            scope.cancel()
        self._registry.leave(self)

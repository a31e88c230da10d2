"""Mailboxes for events that are acknowledged: when is one done with, and what if it fails?

Rules:

1. An event has settled when every handler that wanted it has handled it, has given it up, or has
   dropped it as its own options say. What is cut off by the end of its worker never settles.
2. A handler that raises gets the same event again, after a pause that grows; what is behind it in
   the same mailbox waits, so that order holds. Other handlers and other sessions go on.
3. After its last attempt the event is given up: told to whoever keeps such events, which may take
   its time, and then the mailbox goes on.
4. What is no longer this worker's to handle is not begun, and waits until the worker is told so.
5. A plain function runs in the worker's loop, from a mailbox too: there it can be tried again.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import anyio
import msgspec

from realtime_bus.errors import UsageError

from ._mailbox import Mailbox
from ._runners import Host, awaitable, bound, failure_of
from ._subscription import Subscription


class Redelivery(msgspec.Struct, frozen=True, kw_only=True):
    """How often a handler gets an event at which it raises, and how long it is left alone between.

    Attributes:
        attempts: How often in all; after the last the event is given up.
        first_delay_s: Seconds before the second attempt; doubled each time.
        max_delay_s: Seconds that a pause has at most.
    """

    attempts: int = 5
    first_delay_s: float = 0.25
    max_delay_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_delay_s < 0 or self.max_delay_s < 0:
            raise UsageError(f"{self!r} cannot work: at least one attempt, and no negative pause")

    def delay_s(self, attempt: int) -> float:
        """Return the pause after an attempt, counted from 1, in seconds."""
        doubled: float = self.first_delay_s * 2 ** min(attempt - 1, 32)
        return min(doubled, self.max_delay_s)


class Delivery:
    """An event on its way through the handlers of one session.

    Attributes:
        key: What names the event, wherever and however often it is delivered.
    """

    __slots__ = ("_on_settled", "_open", "key")

    def __init__(self, key: str, on_settled: Callable[[], None]) -> None:
        self.key: str = key
        self._open = 1  # itself, until it has been handed round
        self._on_settled = on_settled

    def enter(self) -> None:
        """Count a handler that wants it."""
        self._open += 1

    def leave(self) -> None:
        """Count a handler that has done with it; the last one settles it."""
        self._open -= 1
        if self._open == 0:
            self._on_settled()


class Handling(NamedTuple):
    """What runs in this context: which handler with which delivery.

    Attributes:
        key: What names the event.
        handler: The handler's name.
        numbers: Counts what the handler asks for while it has this event, from 1.
    """

    key: str
    handler: str
    numbers: itertools.count[int]


_HANDLING: ContextVar[Handling | None] = ContextVar("handling_a_delivery", default=None)


def current_delivery() -> Handling | None:
    """Return which event is being handled here, by which handler; None outside of a handler."""
    return _HANDLING.get()


class SettlingHost(Host, Protocol):
    """What these mailboxes need of their session, besides.

    Attributes:
        delivery: What is being handed round; None for an event that nobody acknowledges.
        redelivery: How often, and how soon.
    """

    delivery: Delivery | None
    redelivery: Redelivery

    def may_handle(self) -> bool:
        """Tell whether these events are still this worker's to handle."""
        ...

    async def give_up(self, handler: str, event: Any, error: Exception, key: str) -> None:
        """Keep an event that a handler could not handle; return when it is safe."""
        ...


class _Item(NamedTuple):
    """An event in a mailbox, and the delivery that it is part of."""

    event: Any
    delivery: Delivery | None

    @property
    def type(self) -> str:
        """The event's wire name, for whoever reports it."""
        return str(self.event.type)


class SettledMailbox(Mailbox):
    """A mailbox that settles what goes through it, and tries again what fails."""

    __slots__ = ("_attempt", "_settling")

    def __init__(self, subscription: Subscription, session: Any, host: SettlingHost) -> None:
        super().__init__(subscription, session, host)
        self._settling = host
        self._attempt = (
            _in_the_loop(bound(subscription, session))
            if subscription.options.mode == "inline"
            else awaitable(subscription, session)
        )
        self._call = self._until_settled

    def put(self, event: Any) -> None:
        """Queue an event, as part of the delivery at hand."""
        super().put(self._entered(event))

    def put_heavy(self, event: Any) -> None:
        """Queue an event that is counted in bytes, too."""
        super().put_heavy(self._entered(event))

    def _entered(self, event: Any) -> _Item:
        delivery = self._settling.delivery
        if delivery is not None:
            delivery.enter()
        return _Item(event, delivery)

    def _drop(self, _event: Any) -> None:
        super()._drop(_event)
        if _event.delivery is not None:
            _event.delivery.leave()

    async def _until_settled(self, item: _Item) -> None:
        """Hand over an event until that succeeds or it is given up; cancelled, it never settles."""
        event, delivery = item
        name, host = self.subscription.name, self._settling
        attempt = 0
        while True:
            if delivery is not None and not host.may_handle():
                await anyio.sleep_forever()  # until it is left: others handle it by now
            attempt += 1
            key = "" if delivery is None else delivery.key
            _HANDLING.set(Handling(key, name, itertools.count(1)))
            try:
                await self._attempt(event)
                break
            except BaseException as error:
                failure = failure_of(error)
                if failure is None:
                    raise
                self.statistics.failed += 1
                host.report_failure(name, event, failure)
                if delivery is None:
                    break
                if attempt >= host.redelivery.attempts:
                    await host.give_up(name, event, failure, key)
                    break
            await anyio.sleep(host.redelivery.delay_s(attempt))
        if delivery is not None:
            delivery.leave()


def _in_the_loop(call: Callable[[Any], Any]) -> Callable[[Any], Awaitable[Any]]:
    async def run(event: Any) -> None:
        call(event)

    return run

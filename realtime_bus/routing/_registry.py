"""What bus and session share: what an application has registered, and the open sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from realtime_bus.errors import UsageError

from ._options import HandlerOptions
from ._selectors import select
from ._signature import handler_name
from ._subscription import HandlerStatistics, Subscription


class BusOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How every session of a bus behaves; see `Bus`."""

    log_errors: bool = True
    raise_handler_errors: bool = False
    drain_timeout_s: float = 5.0


class Member(Protocol):
    """An open session, as the registry sees it."""

    def add(self, subscription: Subscription) -> None:
        """Let a subscription take part from now on."""
        ...

    def remove(self, subscription: Subscription) -> None:
        """Take a subscription out; one that is not there is no error."""
        ...

    def statistics_of(self, subscription: Subscription) -> HandlerStatistics | None:
        """Return a handler's figures here, or None if it has no part in it."""
        ...

    def add_to_totals(self) -> None:
        """Add every handler's figures to its totals; once, at the end."""
        ...


class Registry:
    """Handlers, plugins and options of an application, and its open sessions.

    Attributes:
        plugins: Attached to every session, in this order.
        options: How sessions behave.
        subscriptions: Handlers of every session, in the order of registration.
    """

    def __init__(self, plugins: Iterable[Any], options: BusOptions) -> None:
        self.plugins: tuple[Any, ...] = tuple(plugins)
        self.options = options
        self.subscriptions: list[Subscription] = []
        self._members: dict[Member, Any] = {}

    def add(self, subscription: Subscription) -> None:
        """Register a handler with every session, those that are open too."""
        self.subscriptions.append(subscription)
        for member in list(self._members):
            member.add(subscription)

    def discard(self, subscription: Subscription) -> None:
        """Take a registration out of every session; one not there is no error."""
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
            for member in list(self._members):
                member.remove(subscription)

    def off(self, handler: Callable[..., Any]) -> None:
        """Take out every registration of a handler; events in its mailboxes are still handled.

        Raises:
            UsageError: It is not registered.
        """
        found = [known for known in self.subscriptions if known.handler == handler]
        if not found:
            raise UsageError(f"{handler_name(handler)} is not registered with this bus")
        for subscription in found:
            self.discard(subscription)

    @property
    def sessions(self) -> tuple[Any, ...]:
        """What was counted in and not out, oldest first."""
        return tuple(self._members.values())

    def enter(self, member: Member, session: Any) -> None:
        """Count a session in: handlers registered from now on reach it."""
        self._members[member] = session

    def leave(self, member: Member) -> None:
        """Count a session out, and keep its figures."""
        if member in self._members:
            del self._members[member]
            member.add_to_totals()

    def statistics(self) -> list[HandlerStatistics]:
        """Return the figures of every handler, over all sessions, open and ended."""
        handlers: list[HandlerStatistics] = []
        for subscription in self.subscriptions:
            total = HandlerStatistics(handler=subscription.name)
            total.add(subscription.totals)
            for member in self._members:
                found = member.statistics_of(subscription)
                if found is not None:
                    total.add(found)
            handlers.append(total)
        return handlers


def registering(
    add: Callable[[Subscription], None],
    selectors: tuple[object, ...],
    where: Callable[[Any], bool] | None,
    options: HandlerOptions,
    *,
    once: bool,
) -> Callable[[Any], Any]:
    """Return the decorator behind ``on`` and ``once``: it registers a handler and returns it.

    Raises:
        UsageError: A selector stands for nothing; at once, in case that nobody calls the decorator.
    """
    selection = select(selectors)

    def register(handler: Any) -> Any:
        add(Subscription(handler, selection, where=where, options=options, once=once))
        return handler

    return register

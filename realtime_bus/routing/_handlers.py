"""What an application registers its handlers with: the part that every kind of bus has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from typing_extensions import Unpack

from realtime_bus.errors import UsageError

from ._groups import HandlerGroup
from ._options import HandlerOptions
from ._registry import BusOptions, Registry, registering

if TYPE_CHECKING:
    from ._typed import OnFor

_Session = TypeVar("_Session")


class Handlers(Generic[_Session]):
    """Handlers of an application, for every session of its bus, those that are open too."""

    def __init__(self, plugins: Iterable[Any], options: BusOptions) -> None:
        self._registry: Registry = Registry(plugins, options)

    if TYPE_CHECKING:
        on: OnFor[_Session]
        """Register a handler for every session of this bus.

        Give one or more event classes, wire names or patterns; `where` is a predicate, and the
        other options are `HandlerOptions`. The handler takes ``(event)`` or ``(event,
        session)``; a plain function runs inline, an async one from a mailbox of its own.

        Raises:
            UsageError: A selector, an option or the handler cannot work.
        """
        once: OnFor[_Session]
        """Register a handler that is taken out after its first event."""
    else:

        def on(self, *selectors, where=None, **options):
            """Register a handler for every session of this bus.

            Give one or more event classes, wire names or patterns; `where` is a predicate, and
            the other options are `HandlerOptions`. The handler takes ``(event)`` or ``(event,
            session)``; a plain function runs inline, an async one from a mailbox of its own.

            Raises:
                UsageError: A selector, an option or the handler cannot work.
            """
            return registering(self._registry.add, selectors, where, options, once=False)

        def once(self, *selectors, where=None, **options):
            """Register a handler that is taken out after its first event."""
            return registering(self._registry.add, selectors, where, options, once=True)

    def include(self, group: HandlerGroup, **options: Unpack[HandlerOptions]) -> None:
        """Register every handler of a group.

        Args:
            group: A module's handlers; those that are added to it later have no part in this.
            **options: For the whole group; a handler's own come first. What concerns mailboxes
                leaves its plain functions alone.

        Raises:
            UsageError: An option cannot work.
        """
        if not isinstance(group, HandlerGroup):
            raise UsageError(
                f"{group!r:.80} is no HandlerGroup; include() takes the group of a module"
            )
        for subscription in list(group.subscriptions(**options)):
            self._registry.add(subscription)

    def off(self, handler: Callable[..., Any]) -> None:
        """Take out every registration of a handler; events in its mailboxes are still handled.

        Raises:
            UsageError: It is not registered with the bus.
        """
        self._registry.off(handler)

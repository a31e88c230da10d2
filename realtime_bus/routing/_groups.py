"""Handlers that are declared apart from a bus: in a module's group, or as methods of a plugin.

::

    handlers = HandlerGroup()


    @handlers.on("response.done")
    async def finished(event: ev.ResponseDone) -> None: ...


    bus.include(handlers, timeout_s=5)


    class Greeter(Plugin):
        @on(ev.SessionCreated)
        async def greet(self, event: ev.SessionCreated, session: Session) -> None: ...

Selectors are resolved where they are written, so that a mistake is told there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from typing_extensions import Unpack

from realtime_bus.errors import UsageError

from ._options import FOR_EVERY_MODE, HandlerOptions, check_options
from ._selectors import OUTGOING, Selection, select
from ._signature import is_async
from ._subscription import Subscription

if TYPE_CHECKING:
    from ._typed import OnFor, OnMethod

_F = TypeVar("_F", bound=Callable[..., Any])
_MARK = "__realtime_bus__"
_MAILBOX = HandlerOptions.__optional_keys__ - FOR_EVERY_MODE


class HandlerGroup:
    """Handlers of one module, for `Bus.include`."""

    def __init__(self) -> None:
        self._handlers: list[Declaration] = []

    if TYPE_CHECKING:
        on: OnFor[Any]
        """Add a handler to the group; see `Bus.on`."""
        once: OnFor[Any]
        """Add a handler that is taken out after its first event."""
    else:

        def on(self, *selectors, where=None, **options):
            """Add a handler to the group; see `Bus.on`."""
            return self._declare("on", selectors, where, options)

        def once(self, *selectors, where=None, **options):
            """Add a handler that is taken out after its first event."""
            return self._declare("once", selectors, where, options)

    def _declare(self, kind: Any, selectors: Any, where: Any, options: Any) -> Callable[[_F], _F]:
        selection = select(selectors)

        def declare(handler: _F) -> _F:
            declaration = Declaration(kind, selection, where, options, handler)
            declaration.subscription()  # complains here if it cannot work
            self._handlers.append(declaration)
            return handler

        return declare

    def subscriptions(self, **options: Unpack[HandlerOptions]) -> Iterator[Subscription]:
        """Yield a new registration of each handler; see `Bus.include`.

        Args:
            **options: Those of the whole group; a handler's own come first. What concerns
                mailboxes leaves plain functions alone, which have none.

        Raises:
            UsageError: An option cannot work.
        """
        if "name" in options:
            raise UsageError("name=... belongs to a handler, not to a group of them")
        check_options(options)  # a group may be empty so far
        for declaration in self._handlers:
            given = dict(options)
            if (
                not is_async(declaration.handler)
                and {**given, **declaration.options}.get("mode", "inline") == "inline"
            ):
                given = {key: value for key, value in given.items() if key not in _MAILBOX}
            yield declaration.subscription(**given)


class Declaration(NamedTuple):
    """One handler or interceptor, and what it is declared for."""

    kind: Literal["on", "once", "intercept", "intercept_outgoing"]
    selection: Selection
    where: Callable[[Any], bool] | None
    options: HandlerOptions
    handler: Callable[..., Any]

    def subscription(self, **options: Any) -> Subscription:
        """Return a registration of the handler, with options where it has none of its own."""
        merged: Any = {**options, **self.options}
        return Subscription(
            self.handler,
            self.selection,
            where=self.where,
            options=merged,
            once=self.kind == "once",
        )


# --- methods of plugins ----------------------------------------------------------------------

if TYPE_CHECKING:
    on: OnMethod
    once: OnMethod
else:

    def on(*selectors, where=None, **options):
        """Declare a plugin's method as a handler: ``(self, event)`` or ``(self, event, session)``.

        Selectors and options are those of `Bus.on`. The method is registered with each session
        that its object is attached to, before `Plugin.attach` is called.
        """
        return _mark("on", select(selectors), where, options)

    def once(*selectors, where=None, **options):
        """Declare a method as a handler of one event of each session; see `on`."""
        return _mark("once", select(selectors), where, options)


def intercept(*selectors: object, narrowed: bool = False) -> Callable[[_F], _F]:
    """Declare a method as an interceptor, ``(self, event, session)``; see `Session.intercept`."""
    return _mark("intercept", select(selectors), None, {"narrowed": narrowed})


def intercept_outgoing(*selectors: object) -> Callable[[_F], _F]:
    """Declare a method as an interceptor of what is sent; see `Session.intercept_outgoing`."""
    return _mark("intercept_outgoing", select(selectors, OUTGOING), None, {})


def _mark(kind: Any, selection: Selection, where: Any, options: Any) -> Callable[[_F], _F]:
    def mark(method: _F) -> _F:
        known = getattr(method, _MARK, ())
        setattr(method, _MARK, (*known, (kind, selection, where, options)))
        return method

    return mark


def declarations(plugin: object) -> Iterator[Declaration]:
    """Yield what a plugin's methods are declared for, in the order in which they were written."""
    names = dict.fromkeys(name for cls in reversed(type(plugin).__mro__) for name in vars(cls))
    for name in names:
        function = getattr(type(plugin), name, None)
        for declared in getattr(function, _MARK, ()):
            kind, selection, where, options = declared
            yield Declaration(kind, selection, where, options, getattr(plugin, name))

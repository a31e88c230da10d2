"""One live conversation: what an application holds in its hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio

from realtime_bus import events as ev
from realtime_bus._bus._options import HandlerOptions
from realtime_bus._bus._selectors import resolve
from realtime_bus._bus._subscription import Subscription
from realtime_bus.errors import CloseInfo

from realtime_bus.session._conversation import Conversation
from realtime_bus.session._settings import ActiveSettings

from ._log_errors import log_error
from ._requests import error_details
from ._responses import Responses
from ._waiting import EventStream, WaitFor

if TYPE_CHECKING:
    from realtime_bus._bus._bus import Bus
    from realtime_bus._bus._typed import OnFor, StreamFor, WaitForFor
    from realtime_bus.events._vocabulary import Vocabulary
    from realtime_bus.transport import Transport

__all__ = ["Session"]


class Session(Responses):
    """One live conversation: a transport, the bus's routing for it, sending, awaiting.

    Made by `Bus.connect` and `Bus.session`; not by hand.

    Attributes:
        id: The server's id of the session, ``sess_…``, once it is known.
        config: What the server last said is in force, or None before it did.
        last_error: What the server last complained about, or None.
    """

    def __init__(self, bus: Bus, transport: Transport, vocabulary: Vocabulary) -> None:
        super().__init__(bus, transport, vocabulary)
        self.id: str | None = None
        self.config: Any = None
        self.settings = ActiveSettings()
        self.conversation = Conversation()
        self._watch(self.conversation.see, *Conversation.SEEN)
        self.last_error: ev.ErrorDetails | None = None
        self._created = anyio.Event()
        self._close_waiters.append(self._see_end)
        self._watch(self._see_created, ev.SessionCreated, ev.translation.SessionCreated)
        self._watch(self._see_updated, ev.SessionUpdated, ev.translation.SessionUpdated)
        self._watch(self._see_error, ev.Error)

    def _see_created(self, event: Any) -> None:
        self.config = event.session
        self.settings = ActiveSettings(event.session)
        self.id = getattr(event.session, "id", None)
        self._created.set()

    def _see_updated(self, event: Any) -> None:
        self.config = event.session
        self.settings = ActiveSettings(event.session)

    def _see_error(self, event: ev.Error) -> None:
        self.last_error = error_details(event)
        if self.bus.log_errors:
            log_error(self.last_error)

    def _see_end(self, _close: CloseInfo) -> None:
        self._created.set()

    async def wait_created(self) -> None:
        """Wait for ``session.created``, or for the end if that comes first."""
        await self._created.wait()

    # --- handlers of this session alone ------------------------------------------------------

    if TYPE_CHECKING:
        on: OnFor
        """Register a handler for this session; see `Bus.on`."""
        once: OnFor
        """Register a handler for one event of this session; see `Bus.once`."""
        wait_for: WaitForFor
        """Return an awaitable of the next event that fits; it listens from this call on."""
        stream: StreamFor
        """Return an async iterator of the events that fit; it listens from this call on."""
    else:

        def on(self, *selectors, where=None, **options):
            """Register a handler for this session; see `Bus.on`."""
            return self._register(selectors, where, options, once=False)

        def once(self, *selectors, where=None, **options):
            """Register a handler for one event of this session; see `Bus.once`."""
            return self._register(selectors, where, options, once=True)

        def wait_for(self, *selectors, where=None, timeout_s=None):
            """Return an awaitable of the next event that fits; it listens from this call on."""
            return WaitFor(self, selectors, where=where, timeout_s=timeout_s)

        def stream(self, *selectors, where=None):
            """Return an async iterator of the events that fit; it listens from this call on."""
            return EventStream(self, selectors, where=where)

    def _register(
        self,
        selectors: tuple[object, ...],
        where: Callable[[Any], bool] | None,
        options: HandlerOptions,
        *,
        once: bool,
    ) -> Callable[[Any], Any]:
        classes = resolve(selectors)  # now, in case that nobody calls what is returned

        def register(handler: Any) -> Any:
            self._router.add(
                Subscription(handler, classes, where=where, options=options, once=once)
            )
            return handler

        return register

    def off(self, handler: Callable[..., Any]) -> None:
        """Take out a handler that was registered with this session's `on` or `once`.

        One that is registered with the bus is taken out of this session alone.

        Raises:
            UsageError: It is not registered here.
        """
        self._router.off(handler)

"""The bus: an application's handlers and plugins. It does no I/O."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

import msgspec
from typing_extensions import Unpack

from realtime_bus.errors import UsageError
from realtime_bus.events._vocabulary import REALTIME, TRANSLATION

from ._options import HandlerOptions
from ._plugin import Plugin, check_plugin
from ._selectors import resolve
from ._signature import handler_name
from ._subscription import HandlerStatistics, Subscription

if TYPE_CHECKING:
    from realtime_bus._session._fields import SessionFields
    from realtime_bus._session._open import SessionContext
    from realtime_bus._session._session import Session
    from realtime_bus.transport import Dial, Transport

    from ._typed import OnFor

__all__ = ["Bus", "BusStatistics"]


class BusStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the bus has been through.

    Attributes:
        sessions: How many sessions are open now.
        handlers: Figures of each handler that is registered with the bus, over all sessions.
    """

    sessions: int
    handlers: list[HandlerStatistics]


class Bus:
    """Handlers and plugins of an application, and the routing of their events.

    Args:
        plugins: Attached to every session, in this order.
        log_errors: Log the server's ``error`` events (most are warnings: the session goes on).
        raise_handler_errors: For tests: end the session and raise what a handler raised.
        drain_timeout_s: Seconds that mailboxes have to empty when a session is left.
    """

    def __init__(
        self,
        *,
        plugins: Iterable[Plugin] = (),
        log_errors: bool = True,
        raise_handler_errors: bool = False,
        drain_timeout_s: float = 5.0,
    ) -> None:
        self.plugins = [check_plugin(plugin) for plugin in plugins]
        self.log_errors = log_errors
        self.raise_handler_errors = raise_handler_errors
        self.drain_timeout_s = drain_timeout_s
        self.subscriptions: list[Subscription] = []
        self._sessions: WeakSet[Session] = WeakSet()

    # --- handlers ----------------------------------------------------------------------------

    if TYPE_CHECKING:
        on: OnFor
        """Register a handler for every session of this bus.

        Give one or more event classes, wire names or patterns; `where` is a predicate, and the
        other options are `HandlerOptions`. The handler takes ``(event)`` or ``(event,
        session)``; a plain function runs inline, an async one from a mailbox of its own.

        Raises:
            UsageError: A selector, an option or the handler cannot work.
        """
        once: OnFor
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
            return self._register(selectors, where, options, once=False)

        def once(self, *selectors, where=None, **options):
            """Register a handler that is taken out after its first event."""
            return self._register(selectors, where, options, once=True)

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
            subscription = Subscription(handler, classes, where=where, options=options, once=once)
            self.subscriptions.append(subscription)
            for session in self._sessions:
                session.add(subscription)
            return handler

        return register

    def off(self, handler: Callable[..., Any]) -> None:
        """Take out every registration of a handler; events in its mailboxes are still handled.

        Raises:
            UsageError: It is not registered.
        """
        found = [entry for entry in self.subscriptions if entry.handler == handler]
        if not found:
            raise UsageError(f"{handler_name(handler)} is not registered with this bus")
        for subscription in found:
            self.forget(subscription)

    def forget(self, subscription: Subscription) -> None:
        """Take a registration out of the bus and its sessions; one not there is no error."""
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
            for session in self._sessions:
                session.remove(subscription)

    # --- sessions ----------------------------------------------------------------------------

    def connect(  # noqa: PLR0913  # keyword-only settings of one connection
        self,
        model_or_url: str | None = None,
        *,
        api_key: str | None = None,
        call_id: str | None = None,
        intent: str | None = None,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        open_timeout_s: float = 10.0,
        ping_interval_s: float | None = 20.0,
        ping_timeout_s: float | None = 20.0,
        max_frame_bytes: int | None = 64 * 1024 * 1024,
        dial: Dial | None = None,
        **fields: Unpack[SessionFields],
    ) -> SessionContext:
        """Open a session over a WebSocket: ``async with bus.connect(...) as session``.

        Args:
            model_or_url: A model's name, for OpenAI; or a whole ``wss://`` or ``ws://``
                address, with the model in its query. None with `call_id` or `intent`.
            api_key: Key or client secret; ``OPENAI_API_KEY`` if left out. It is sent as a
                bearer token and never shown. From the environment it is not sent over
                unencrypted connections to other machines.
            call_id: Join a WebRTC or SIP call, as its sideband.
            intent: ``"transcription"`` for a session that only transcribes.
            headers: More headers for the upgrade.
            ssl_context: For private authorities; certificates are always verified by default.
            open_timeout_s: Seconds until the server must have said ``session.created``.
            ping_interval_s: Seconds between keepalive pings; None sends none.
            ping_timeout_s: Seconds that a pong may take.
            max_frame_bytes: The largest frame that is accepted; None for no limit.
            dial: What opens the connection: `dial_picows` of `realtime_bus.transport` costs
                less CPU, on asyncio and with the extra ``picows``; or a function of your own.
            **fields: Settings, sent as ``session.update`` and confirmed before the block begins.

        Raises:
            InvalidURL: The address is no WebSocket address.
            AuthenticationError: No key, or the server refused it.
            HostUnreachable: No such host, nobody answers, or its certificate is not trusted.
            UpgradeRefused: The server answered with something else than a WebSocket.
            ConnectError: The server closed the connection at once; says why.
            RequestRejected: The settings were refused.
        """
        from realtime_bus._session._open import connect  # noqa: PLC0415  # the bus does no I/O by itself

        return connect(
            self,
            model_or_url,
            api_key=api_key,
            call_id=call_id,
            intent=intent,
            fields=fields,
            open_timeout_s=open_timeout_s,
            dial=dial,
            dial_options={
                "headers": dict(headers or {}),
                "ssl_context": ssl_context,
                "ping_interval_s": ping_interval_s,
                "ping_timeout_s": ping_timeout_s,
                "max_frame_bytes": max_frame_bytes,
            },
        )

    def session(
        self,
        connection: Transport | object,
        *,
        protocol: Literal["realtime", "translation"] = "realtime",
        wait_created: bool = True,
        open_timeout_s: float = 10.0,
        **fields: Unpack[SessionFields],
    ) -> SessionContext:
        """Build a session on a connection that you already have.

        Args:
            connection: A transport; or any object with async ``send`` and ``receive`` (or
                ``recv``), a Starlette or FastAPI WebSocket, an openai-python realtime
                connection.
            protocol: What is spoken on it.
            wait_created: Wait for ``session.created`` before the block begins; False where
                that has been read already.
            open_timeout_s: Seconds that it may take.
            **fields: Settings, sent as ``session.update`` and confirmed before the block begins.

        Raises:
            UsageError: The connection has no methods that we could use.
        """
        from realtime_bus._session._open import SessionContext  # noqa: PLC0415  # as in connect
        from realtime_bus.transport import adapt  # noqa: PLC0415  # as above

        transport: Any = connection if _is_transport(connection) else adapt(connection)
        return SessionContext.on_transport(
            self,
            transport,
            vocabulary=TRANSLATION if protocol == "translation" else REALTIME,
            wait_created=wait_created,
            open_timeout_s=open_timeout_s,
            fields=fields,
        )

    def enter(self, session: Session) -> None:
        """Count a session in: handlers registered from now on reach it."""
        self._sessions.add(session)

    def leave(self, session: Session) -> None:
        """Count a session out, and keep its figures."""
        if session in self._sessions:
            self._sessions.discard(session)
            session.add_to_totals()

    def statistics(self) -> BusStatistics:
        """Return the figures of every handler, over all sessions, open and ended."""
        handlers: list[HandlerStatistics] = []
        for subscription in self.subscriptions:
            total = HandlerStatistics(handler=subscription.name)
            total.add(subscription.totals)
            for session in self._sessions:
                found = session.statistics_of(subscription)
                if found is not None:
                    total.add(found)
            handlers.append(total)
        return BusStatistics(sessions=len(self._sessions), handlers=handlers)


def _is_transport(connection: object) -> bool:
    """Tell whether frames are pushed already, so that nothing needs to be adapted."""
    return all(hasattr(connection, name) for name in ("run", "send", "drain", "pause", "resume"))

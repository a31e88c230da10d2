"""The bus: an application's handlers and plugins, and the sessions that they serve."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, overload

import anyio
import msgspec
from typing_extensions import TypeVar, Unpack

from realtime_bus import events as ev
from realtime_bus._secrets import unseen
from realtime_bus.connect import target
from realtime_bus.errors import UsageError
from realtime_bus.events import ProtocolName, wire_protocol
from realtime_bus.routing import (
    BusOptions,
    Handlers,
    HandlerStatistics,
)
from realtime_bus.session import (
    Opener,
    Plugin,
    Reconnect,
    Session,
    SessionContext,
    SessionKind,
    SessionSettings,
    TranscriptionSettings,
    TranslationSettings,
    check_plugins,
)
from realtime_bus.transport import Dial, Transport, adapt
from realtime_bus.transport._transport import check_close_code

__all__ = ["Bus", "BusStatistics"]

_S = TypeVar("_S", default=Any)


class BusStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What the bus has been through.

    Attributes:
        sessions: How many sessions are open now.
        handlers: Figures of each handler that is registered with the bus, over all sessions.
    """

    sessions: int
    handlers: list[HandlerStatistics]


class Bus(Handlers[Session[Any]]):
    """Handlers and plugins of an application, and the routing of their events.

    ``async with bus:`` ends all of its sessions in good order, as a web framework's lifespan does.

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
        options = BusOptions(
            log_errors=log_errors,
            raise_handler_errors=raise_handler_errors,
            drain_timeout_s=drain_timeout_s,
        )
        super().__init__(check_plugins(plugins), options)

    # --- sessions ----------------------------------------------------------------------------

    @overload
    def connect(
        self,
        model_or_url: str | None = None,
        *,
        intent: Literal["transcription"],
        plugins: Iterable[Plugin] = (),
        state: _S = ...,  # pyright: ignore[reportInvalidTypeVarUse]  # Any if left out
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        open_timeout_s: float = 10.0,
        ping_interval_s: float | None = 5.0,
        ping_timeout_s: float | None = 8.0,
        max_frame_bytes: int | None = 64 * 1024 * 1024,
        reconnect: Reconnect | bool = True,
        dial: Dial | None = None,
        **settings: Unpack[TranscriptionSettings],
    ) -> SessionContext[_S]: ...
    @overload
    def connect(
        self,
        model_or_url: str | None = None,
        *,
        intent: Literal["translation"],
        plugins: Iterable[Plugin] = (),
        state: _S = ...,  # pyright: ignore[reportInvalidTypeVarUse]  # Any if left out
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        open_timeout_s: float = 10.0,
        ping_interval_s: float | None = 5.0,
        ping_timeout_s: float | None = 8.0,
        max_frame_bytes: int | None = 64 * 1024 * 1024,
        reconnect: Reconnect | bool = True,
        dial: Dial | None = None,
        **settings: Unpack[TranslationSettings],
    ) -> SessionContext[_S]: ...
    @overload
    def connect(
        self,
        model_or_url: str | None = None,
        *,
        plugins: Iterable[Plugin] = (),
        state: _S = ...,  # pyright: ignore[reportInvalidTypeVarUse]  # Any if left out
        api_key: str | None = None,
        call_id: str | None = None,
        intent: None = None,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        open_timeout_s: float = 10.0,
        ping_interval_s: float | None = 5.0,
        ping_timeout_s: float | None = 8.0,
        max_frame_bytes: int | None = 64 * 1024 * 1024,
        reconnect: Reconnect | bool = True,
        dial: Dial | None = None,
        **settings: Unpack[SessionSettings],
    ) -> SessionContext[_S]: ...
    @unseen
    def connect(  # noqa: PLR0913  # each of its own; most calls give two
        self,
        model_or_url: str | None = None,
        *,
        plugins: Iterable[Plugin] = (),
        state: Any = None,
        api_key: str | None = None,
        call_id: str | None = None,
        intent: Literal["transcription", "translation"] | None = None,
        headers: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        open_timeout_s: float = 10.0,
        ping_interval_s: float | None = 5.0,
        ping_timeout_s: float | None = 8.0,
        max_frame_bytes: int | None = 64 * 1024 * 1024,
        reconnect: Reconnect | bool = True,
        dial: Dial | None = None,
        **settings: Any,
    ) -> SessionContext[Any]:
        """Open a session over a WebSocket: ``async with bus.connect(...) as session``.

        Args:
            model_or_url: A model's name, for OpenAI; or a whole ``wss://`` or ``ws://``
                address, with the model in its query. None with `call_id` or `intent`.
            plugins: Attached to this session alone, after the bus's.
            state: The application's own object of this call: `Session.state`.
            api_key: Key or client secret, sent as a bearer token wherever the session connects
                to, and never shown. If left out, ``OPENAI_API_KEY`` is sent, but to OpenAI
                alone: pass it here if another host should get it.
            call_id: Join a WebRTC or SIP call, as its sideband.
            intent: ``"transcription"`` for a session that only transcribes, ``"translation"`` for
                one that only translates; each has settings of its own.
            headers: More headers for the upgrade.
            ssl_context: For private authorities; certificates are always verified by default.
            open_timeout_s: Seconds until the server must have said ``session.created``.
            ping_interval_s: Seconds between keepalive pings; None sends none.
            ping_timeout_s: Seconds that the server has to show life after a ping, else the
                connection is given up with 1011.
            max_frame_bytes: The largest frame that is accepted; None for no limit.
            reconnect: How the session outlives a lost connection and the server's time limit; see
                `Reconnect`. False ends it with its connection. The first connection is not
                retried: that it fails is the caller's to know.
            dial: What opens the connection: `dial_picows` of `realtime_bus.transport` costs
                less CPU, on asyncio and with the extra ``picows``; or a function of your own.
            **settings: `SessionSettings`, `TranscriptionSettings` or `TranslationSettings`: checked
                now, sent first, and confirmed before the block begins.

        Raises:
            InvalidURL: The address is no WebSocket address.
            AuthenticationError: No key, or the server refused it.
            HostUnreachable: No such host, nobody answers, or its certificate is not trusted.
            UpgradeRefused: The server answered with something else than a WebSocket.
            ConnectError: The server closed the connection at once; says why.
            RequestRejected: The server refused the settings.
            InvalidEvent: It would: a setting's value cannot be right.
            UsageError: That kind of session has no such setting, there is no such intent, or a
                plugin is none.
        """
        policy = _policy(reconnect)
        openers: list[Opener] = []
        addresses = (model_or_url, *(policy.targets if policy is not None else ()))
        targets = [
            target(address, call_id=call_id, intent=intent, api_key=api_key, headers=headers or {})
            for address in addresses
        ]
        for found in targets:
            opener = found.opener(
                dial,
                open_timeout_s=open_timeout_s,
                ssl_context=ssl_context,
                ping_interval_s=ping_interval_s,
                ping_timeout_s=ping_timeout_s,
                max_frame_bytes=max_frame_bytes,
            )
            openers.append(Opener(found.shown, opener))
        where = targets[0]
        return SessionContext(
            self._registry,
            openers,
            protocol=where.protocol,
            kind=where.kind,
            plugins=check_plugins(plugins),
            state=state,
            wait_created=True,
            open_timeout_s=open_timeout_s,
            settings=settings,
            reconnect=policy,
            restores=call_id is None,  # a call's conversation lives on without its sideband
        )

    @overload
    def session(
        self,
        connection: Transport | object,
        *,
        plugins: Iterable[Plugin] = (),
        state: _S = ...,  # pyright: ignore[reportInvalidTypeVarUse]  # Any if left out
        protocol: Literal["translation"],
        wait_created: bool = True,
        open_timeout_s: float = 10.0,
        **settings: Unpack[TranslationSettings],
    ) -> SessionContext[_S]: ...
    @overload
    def session(
        self,
        connection: Transport | object,
        *,
        plugins: Iterable[Plugin] = (),
        state: _S = ...,  # pyright: ignore[reportInvalidTypeVarUse]  # Any if left out
        protocol: Literal["realtime"] = "realtime",
        wait_created: bool = True,
        open_timeout_s: float = 10.0,
        **settings: Unpack[SessionSettings],
    ) -> SessionContext[_S]: ...
    def session(
        self,
        connection: Transport | object,
        *,
        plugins: Iterable[Plugin] = (),
        state: Any = None,
        protocol: ProtocolName = "realtime",
        wait_created: bool = True,
        open_timeout_s: float = 10.0,
        **settings: Any,
    ) -> SessionContext[Any]:
        """Build a session on a connection that you already have.

        Args:
            connection: A transport; or any object with async ``send`` and ``receive`` (or
                ``recv``), a Starlette or FastAPI WebSocket, an openai-python realtime
                connection.
            plugins: Attached to this session alone, after the bus's.
            state: The application's own object of this call: `Session.state`.
            protocol: What is spoken on it.
            wait_created: Wait for ``session.created`` before the block begins; False where
                that has been read already.
            open_timeout_s: Seconds that it may take.
            **settings: Checked now, sent as ``session.update``, and confirmed before the block
                begins.

        Raises:
            UsageError: The connection has no methods that we could use, there is no such setting,
                or a plugin is none.
            InvalidEvent: A setting's value cannot be right.
        """
        is_transport = all(
            hasattr(connection, name) for name in ("run", "send", "drain", "pause", "resume")
        )
        transport: Any = connection if is_transport else adapt(connection)

        async def there_already() -> Transport:
            found: Transport = transport
            return found

        kind: SessionKind = "translation" if protocol == "translation" else "realtime"
        return SessionContext(
            self._registry,
            [Opener("", there_already)],
            protocol=wire_protocol(protocol),
            kind=kind,
            plugins=check_plugins(plugins),
            state=state,
            wait_created=wait_created,
            open_timeout_s=open_timeout_s,
            settings=settings,
        )

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Those that are attached to every session, in this order."""
        return self._registry.plugins

    @property
    def sessions(self) -> tuple[Session[Any], ...]:
        """The open sessions, oldest first."""
        return self._registry.sessions

    def emit(self, event: ev.BusEvent) -> None:
        """Deliver an event of the application's own to every open session; see `Session.emit`."""
        for session in self.sessions:
            session.emit(event)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close every open session, and wait until they have ended; see `Session.aclose`.

        Raises:
            UsageError: The code may not be sent.
        """
        check_close_code(code)
        async with anyio.create_task_group() as closing:
            for session in self.sessions:
                closing.start_soon(session.aclose, code, reason)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def statistics(self) -> BusStatistics:
        """Return the figures of every handler, over all sessions, open and ended."""
        return BusStatistics(sessions=len(self.sessions), handlers=self._registry.statistics())


def _policy(reconnect: Reconnect | bool) -> Reconnect | None:  # as it was given
    if isinstance(reconnect, Reconnect):
        return reconnect
    if not isinstance(reconnect, bool):
        raise UsageError(f"connect(reconnect={reconnect!r:.80}) takes a Reconnect, True or False")
    return Reconnect() if reconnect else None

"""Sessions begin and end here: ``async with bus.connect(...) as session``.

Rules:

1. The transport is opened, plugins are prepared and attached in order (the bus's, then the call's),
   and only then is read; the block begins when the server has said who it is and confirmed the
   settings. What a plugin's preparation raises comes out.
2. Left in good order, a session closes its connection, and mailboxes have a while to empty.
   Cancelled, it only closes the connection, within a second.
3. A session that can reconnect does so from when its block begins: to begin with, a connection
   that fails is the caller's to know.
4. What the block raises comes out as it was raised, not in a group.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic

import anyio
from anyio import get_cancelled_exc_class
from anyio.abc import TaskGroup
from typing_extensions import TypeVar

from realtime_bus import events as ev
from realtime_bus.codec import encode
from realtime_bus.errors import (
    AuthenticationError,
    CloseInfo,
    ConnectError,
    HostUnreachable,
    UsageError,
)
from realtime_bus.events import WireProtocol, translation
from realtime_bus.routing import Registry, declarations

from ._pipeline import Pipeline
from ._plugin import Plugin
from ._policy import Reconnect
from ._recovery import Opener
from ._session import Session
from ._settings import SessionKind, settings_request

StateT = TypeVar("StateT", default=Any)


class SessionContext(Generic[StateT]):
    """An async context manager that opens a session, and ends it in good order."""

    def __init__(  # noqa: PLR0913  # what a bus says of one call
        self,
        registry: Registry,
        openers: Sequence[Opener],
        *,
        protocol: WireProtocol,
        kind: SessionKind,
        plugins: Sequence[Plugin],
        state: StateT,
        wait_created: bool,
        open_timeout_s: float,
        settings: Mapping[str, Any],
        reconnect: Reconnect | None = None,
        restores: bool = True,
    ) -> None:
        self._settings = settings
        if settings:
            command: Any = translation.SessionUpdate if kind == "translation" else ev.SessionUpdate
            encode(command(session=settings_request(settings, kind)))  # complains now
        self._registry = registry
        self._openers = openers
        self._url = openers[0].url
        self._reconnect = reconnect
        self._restores = restores
        self._protocol = protocol
        self._kind: SessionKind = kind
        self._plugins = plugins
        self._state = state
        self._wait_created = wait_created
        self._open_timeout_s = open_timeout_s
        self._entered = False
        self._tasks: TaskGroup | None = None
        self._pipeline: Pipeline | None = None

    def __repr__(self) -> str:
        return f"<SessionContext {self._url or 'on a transport'}>"

    async def __aenter__(self) -> Session[StateT]:
        if self._entered:
            raise UsageError(
                "this session is open already; call connect() or session() for another"
            )
        self._entered = True
        try:
            return await self._open()
        except BaseException:
            self._entered = False
            raise

    async def _open(self) -> Session[StateT]:
        transport = await self._openers[0].open()
        pipeline = self._pipeline = Pipeline(self._registry, transport, self._protocol)
        pipeline.url = self._url
        pipeline.link.replaceable = self._reconnect is not None
        session = Session(pipeline, kind=self._kind, state=self._state)
        if self._reconnect is not None and self._restores and self._kind == "realtime":
            session.keep_history()
        tasks = self._tasks = anyio.create_task_group()
        await tasks.__aenter__()
        try:
            await self._start(pipeline, session, tasks)
            await self._begin(pipeline, session)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return session

    async def _start(self, pipeline: Pipeline, session: Session[Any], tasks: TaskGroup) -> None:
        """Register what the bus has, and prepare and attach plugins."""
        pipeline.lifecycle.open(tasks)
        self._registry.enter(pipeline, session)
        for subscription in list(self._registry.subscriptions):
            pipeline.add(subscription)
        for plugin in (*self._registry.plugins, *self._plugins):
            for declared in declarations(plugin):
                if declared.kind == "intercept":
                    narrowed = declared.options.get("narrowed", False)
                    pipeline.router.intercept(
                        declared.selection, declared.handler, narrowed=narrowed
                    )
                elif declared.kind == "intercept_outgoing":
                    pipeline.outgoing.intercept(declared.selection, declared.handler)
                else:
                    pipeline.add(declared.subscription())
            prepare: Callable[[Session[Any]], Awaitable[object]] | None
            prepare = getattr(plugin, "prepare", None)
            if prepare is not None:
                await prepare(session)
            plugin.attach(session)

    async def _begin(self, pipeline: Pipeline, session: Session[Any]) -> None:
        created = anyio.Event()

        def see(_event: object) -> None:
            created.set()

        pipeline.handle((ev.SessionCreated, translation.SessionCreated), see)
        pipeline.lifecycle.on_end(see)
        pipeline.read()
        if self._wait_created:
            await self._until(created)
            if session.close_info is not None:
                raise self._refusal(session.close_info, session.last_error)
        session.emit(ev.Connected(url=self._url, session_id=session.id))
        if self._settings:  # of the kind that the server says it is
            translates = self._kind == "translation"
            await (session.update_translation if translates else session.update)(**self._settings)
        if self._reconnect is not None:
            session.recover(self._reconnect, self._openers, self._protocol, restores=self._restores)

    async def _until(self, created: anyio.Event) -> None:
        try:
            with anyio.fail_after(self._open_timeout_s):
                await created.wait()
        except TimeoutError:
            raise HostUnreachable(
                f"{self._url or 'the server'} did not send session.created within "
                f"{self._open_timeout_s:g} s",
                url=self._url,
            ) from None

    def _refusal(self, close: CloseInfo, error: Any) -> ConnectError:
        said = error.message if error is not None else close.reason
        where = self._url or "the server"
        message = f"{where} closed the connection with {close.code}: {said or 'no reason given'}"
        if close.code == 3000:  # the key was refused after an accepted upgrade
            return AuthenticationError(
                f"{message}; check the API key", url=self._url, close_code=close.code
            )
        return ConnectError(message, url=self._url)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:  # a plain bool would leave what the block binds "possibly unbound"
        pipeline, tasks = self._pipeline, self._tasks
        if pipeline is None or tasks is None:
            return False
        self._entered = False
        cancelled = exc if isinstance(exc, get_cancelled_exc_class()) else None
        try:
            if cancelled is None:
                await pipeline.finish()
        except get_cancelled_exc_class() as error:
            cancelled = error
        if cancelled is not None:
            await pipeline.cut()
        return await self._leave(pipeline, tasks, exc, cancelled)

    async def _leave(
        self,
        pipeline: Pipeline,
        tasks: TaskGroup,
        exc: BaseException | None,
        cancelled: BaseException | None,
    ) -> bool:
        """End the task group, which alone knows whether a cancellation was its own.

        What else the block raised is kept from it: it would come out in a group.
        """
        pipeline.abandon()
        tasks.cancel_scope.cancel()
        try:
            swallowed = await tasks.__aexit__(
                type(cancelled) if cancelled is not None else None,
                cancelled,
                cancelled.__traceback__ if cancelled is not None else None,
            )
        finally:
            self._registry.leave(pipeline)
        if pipeline.first_error is not None:
            raise pipeline.first_error
        if cancelled is not None and cancelled is not exc and not swallowed:
            raise cancelled
        return bool(swallowed) and cancelled is exc

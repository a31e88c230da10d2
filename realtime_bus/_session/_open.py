"""Sessions begin and end here: ``async with bus.connect(...) as session``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
from anyio import get_cancelled_exc_class
from anyio.abc import TaskGroup

from realtime_bus import events as ev
from realtime_bus.errors import AuthenticationError, CloseInfo, ConnectError, HostUnreachable
from realtime_bus.events._vocabulary import Vocabulary
from realtime_bus.transport import dial as default_dial

from ._address import address, find_key, vocabulary_of
from ._fields import SessionFields, session_request
from ._session import Session

if TYPE_CHECKING:
    from realtime_bus._bus._bus import Bus
    from realtime_bus.transport import Dial, Transport

__all__ = ["SessionContext", "connect"]


def connect(  # noqa: PLR0913  # settings of one connection
    bus: Bus,
    model_or_url: str | None,
    *,
    api_key: str | None,
    call_id: str | None,
    intent: str | None,
    fields: SessionFields,
    open_timeout_s: float,
    dial: Dial | None,
    dial_options: dict[str, Any],
) -> SessionContext:
    """Prepare a session over a WebSocket; nothing happens until it is entered."""
    session_request(fields)  # a wrong setting is told before anything is connected
    url = address(model_or_url, call_id=call_id, intent=intent)
    key = find_key(api_key, url, dial_options["headers"])

    async def open_transport() -> Transport:
        headers = dict(dial_options["headers"])
        if key is not None:
            headers["Authorization"] = f"Bearer {key.reveal()}"
        options: dict[str, Any] = {**dial_options, "headers": headers}
        return await (dial or default_dial)(url, open_timeout_s=open_timeout_s, **options)

    return SessionContext(
        bus,
        open_transport,
        url=url.split("?", 1)[0],
        vocabulary=vocabulary_of(url),
        wait_created=True,
        open_timeout_s=open_timeout_s,
        fields=fields,
    )


class SessionContext:
    """An async context manager that opens a session, and ends it in good order.

    What the block raises comes out as it was raised, not in a group.
    """

    def __init__(
        self,
        bus: Bus,
        open_transport: Callable[[], Awaitable[Transport]],
        *,
        url: str,
        vocabulary: Vocabulary,
        wait_created: bool,
        open_timeout_s: float,
        fields: SessionFields,
    ) -> None:
        self._bus = bus
        self._open_transport = open_transport
        self._url = url
        self._vocabulary = vocabulary
        self._wait_created = wait_created
        self._open_timeout_s = open_timeout_s
        self._fields = fields
        self._tasks: TaskGroup | None = None
        self._session: Session | None = None

    @classmethod
    def on_transport(
        cls,
        bus: Bus,
        transport: Transport,
        *,
        vocabulary: Vocabulary,
        wait_created: bool,
        open_timeout_s: float,
        fields: SessionFields,
    ) -> SessionContext:
        """Prepare a session on a transport that is there already."""
        session_request(fields)

        async def there_already() -> Transport:
            return transport

        return cls(
            bus,
            there_already,
            url="",
            vocabulary=vocabulary,
            wait_created=wait_created,
            open_timeout_s=open_timeout_s,
            fields=fields,
        )

    def __repr__(self) -> str:
        return f"<SessionContext {self._url or 'on a transport'}>"

    async def __aenter__(self) -> Session:
        transport = await self._open_transport()
        session = self._session = Session(self._bus, transport, self._vocabulary)
        tasks = self._tasks = anyio.create_task_group()
        await tasks.__aenter__()
        try:
            self._bus.enter(session)
            session.start(tasks)
            await self._begin(session)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return session

    async def _begin(self, session: Session) -> None:
        if self._wait_created:
            await self._until_created(session)
        session.emit(ev.Connected(url=self._url, session_id=session.id))
        if self._fields:
            await session.update(**self._fields)

    async def _until_created(self, session: Session) -> None:
        try:
            with anyio.fail_after(self._open_timeout_s):
                await session.wait_created()
        except TimeoutError:
            raise HostUnreachable(
                f"{self._url or 'the server'} did not send session.created within "
                f"{self._open_timeout_s:g} s",
                url=self._url,
            ) from None
        if session.close_info is not None:
            raise self._refusal(session.close_info, session.last_error)

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
    ) -> bool:
        session, tasks = self._session, self._tasks
        if session is None or tasks is None:
            return False
        cancelled = exc if isinstance(exc, get_cancelled_exc_class()) else None
        try:
            await session.finish()
        except get_cancelled_exc_class() as error:
            cancelled = error
        return await self._leave(session, tasks, exc, cancelled)

    async def _leave(
        self,
        session: Session,
        tasks: TaskGroup,
        exc: BaseException | None,
        cancelled: BaseException | None,
    ) -> bool:
        """End the task group, which alone knows whether a cancellation was its own.

        What else the block raised is kept from it: it would come out in a group.
        """
        session.abandon()
        tasks.cancel_scope.cancel()
        try:
            swallowed = await tasks.__aexit__(
                type(cancelled) if cancelled is not None else None,
                cancelled,
                cancelled.__traceback__ if cancelled is not None else None,
            )
        finally:
            self._bus.leave(session)
        if session.first_error is not None:
            raise session.first_error
        if cancelled is not None and cancelled is not exc and not swallowed:
            raise cancelled
        return bool(swallowed) and cancelled is exc

"""The application's own program: it runs, and the session that it opens is the call.

The rules
---------
1. While the program runs, ``bus.connect`` opens its session in memory, whatever address, key and
   ``dial`` it is given. A call has one session: a second one is refused.
2. The call begins when the program has connected. That it ends or fails before is a failure.
3. When the test's block is over, the person hangs up. Then the program has `ENDS_WITHIN_S` to end.
   What it raises comes out, before all else: what the person could not do may be due to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Final

import anyio

from realtime_bus.bus import Bus
from realtime_bus.errors import UsageError
from realtime_bus.session import Plugin, Session, SessionContext

from ._line import Line

CONNECTS_WITHIN_S: Final = 60.0
ENDS_WITHIN_S: Final = 60.0


class Program:
    """A context manager that runs a program, and gives the session that it has opened.

    Args:
        bus: The bus that it connects.
        main: The program.
        line: Where it gets to.
        plugins: Returns the session's plugins, those that the program gives it among them.
    """

    def __init__(
        self,
        bus: Bus,
        main: Callable[[], Awaitable[object]],
        line: Line,
        plugins: Callable[[Iterable[Plugin]], list[Plugin]],
    ) -> None:
        self._bus = bus
        self._main = main
        self._line = line
        self._plugins = plugins
        self._connect: Callable[..., SessionContext[Any]] = bus.connect
        self._scope = anyio.CancelScope()
        self._changed = anyio.Event()  # it has connected, or has ended
        self._ended = anyio.Event()
        self._called = False
        self._session: Session[Any] | None = None
        self._raised: Exception | None = None

    async def __aenter__(self) -> Session[Any]:
        vars(self._bus)["connect"] = self._connects
        self._line.tasks.start_soon(self._run)
        with anyio.move_on_after(CONNECTS_WITHIN_S):
            await self._changed.wait()
        if self._session is None:
            self._hang_up()
            if self._raised is not None:
                raise self._raised
            what = "ended before it had" if self._ended.is_set() else "has not"
            raise self._line.story.error(f"the program {what} connected: it calls no bus.connect")
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        try:
            if error is None and self._session is not None:
                await self._session.aclose()
                with anyio.move_on_after(ENDS_WITHIN_S):
                    await self._ended.wait()
            if self._raised is not None and (error is None or isinstance(error, Exception)):
                raise self._raised
            if error is None and not self._ended.is_set():
                raise self._line.story.error(
                    f"the program did not end within {ENDS_WITHIN_S:g} s after the call had"
                )
        finally:
            self._hang_up()
        return False

    def _hang_up(self) -> None:
        vars(self._bus).pop("connect", None)
        self._scope.cancel()

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._main()
        except Exception as error:  # noqa: BLE001  # it comes out of the call
            self._raised = error
        finally:
            self._ended.set()
            self._changed.set()

    def _connects(
        self,
        model_or_url: str | None = None,
        *,
        plugins: Iterable[Plugin] = (),
        api_key: str | None = None,
        **options: Any,
    ) -> _Seen:
        """Take the place of `Bus.connect`."""
        if self._called:
            raise UsageError(
                "the program connects a second time; a call under test has one session"
            )
        self._called = True
        options["dial"] = self._line.dial
        key = api_key or "a-key-for-tests"
        attached = self._plugins(plugins)
        context = self._connect(model_or_url, plugins=attached, api_key=key, **options)
        return _Seen(context, self._connected)

    def _connected(self, session: Session[Any]) -> None:
        self._session = session
        self._changed.set()


class _Seen:
    """A session's context manager, and who is told of the session."""

    def __init__(
        self, context: SessionContext[Any], connected: Callable[[Session[Any]], None]
    ) -> None:
        self._context = context
        self._connected = connected

    async def __aenter__(self) -> Session[Any]:
        session = await self._context.__aenter__()
        self._connected(session)
        return session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._context.__aexit__(kind, error, trace)

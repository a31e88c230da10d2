"""A person talks to the agent from a web page, through the application's server.

::

    async def talk(call: BrowserCall) -> None:
        plugins = [call, Interruption(call)]
        async with bus.connect("gpt-realtime-2.1", plugins=plugins) as session:
            await session.wait_closed()


    app = Starlette(routes=[Mount("/talk", Browser(talk, hosts=["example.com"]))])

`Browser` is an ASGI application: a page, and the WebSocket that it talks to. `BrowserCall` is a
plugin, microphone and loudspeaker of one page. What goes over the socket is in
``_browser/_messages.py``; the page's half is ``client.js``, a module that other pages can import.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    MutableMapping,
)
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from realtime_bus import MissingExtra, UsageError
from realtime_bus.log import describe, get_logger

from ._browser import (
    HEADERS,
    LOOPBACK,
    BrowserCall,
    Ended,
    Guard,
    Hello,
    InterruptPressed,
    Page,
    PageLost,
    PageResumed,
    close,
    greeted,
)

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

__all__ = ["Browser", "BrowserCall", "InterruptPressed", "PageLost", "PageResumed"]

_log = get_logger("realtime_bus.browser")

_STATIC = Path(__file__).parent / "_browser" / "static"
_MAX_MESSAGE_BYTES = 128 * 1024  # twice what a page may send
_LEAVE_S = 10.0
_BUSY = 1013

_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Browser:
    """An ASGI application: a page to talk to the agent, and the WebSocket behind it.

    Mount it where you like, in Starlette, FastAPI or anything that speaks ASGI. It serves the page
    at its root, the page's parts beside it, and the WebSocket at ``call``.

    When a page's connection is lost, its call goes on for `keep_s` seconds, and the page resumes
    it. When the page is left or reloaded, the call is over.

    Args:
        on_call: Holds one conversation: opens a session with the call as a plugin, and returns
            when it is over. It has 10 s to return when the page has gone, then it is cancelled.
        hosts: By which names the server may be called, beside loopback's; ``"*"`` for any, which
            lets any page reach it that can make its own name resolve to it.
        origins: Which pages, beside its own, may call: ``"https://www.example.com"``.
        keep_s: How long a call waits for a page whose connection is lost.
        max_calls: How many calls there may be at once; more are told to try later.
        ahead_ms: How much audio may be under way to a page.

    Raises:
        MissingExtra: Starlette is not installed.
        UsageError: An option cannot work.
    """

    def __init__(
        self,
        on_call: Callable[[BrowserCall], Awaitable[object]],
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        keep_s: float = 20.0,
        max_calls: int = 100,
        ahead_ms: int = 1000,
    ) -> None:
        if not callable(on_call):
            raise UsageError(f"{on_call!r:.80} is no function; Browser takes one that takes a call")
        self._on_call = on_call
        self._guard = Guard(hosts, origins)
        self._keep_s = keep_s
        self._max_calls = max_calls
        self._ahead_ms = ahead_ms
        self._calls: dict[str, tuple[BrowserCall, Page]] = {}
        self._application = _routes(self._called)

    @property
    def calls(self) -> list[BrowserCall]:
        """The calls there are, oldest first."""
        return [call for call, _ in self._calls.values()]

    @asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", *, port: int = 0) -> AsyncGenerator[str, None]:
        """Serve it without an application around it: ``async with browser.serve() as url``.

        On asyncio. Browsers lend their microphone to pages of ``https://`` and of this machine.

        Args:
            host: The address to listen on.
            port: The port; 0 for any free one.

        Raises:
            MissingExtra: uvicorn is not installed.
            OSError: The address cannot be had.
            UsageError: Others could reach it, and `hosts` does not say by which name; or this is
                trio.
        """
        if host not in LOOPBACK and not self._guard.hosts - LOOPBACK:
            raise UsageError(
                f"at {host} other machines reach it: say by which names, with Browser(hosts=[...])"
            )
        if _on_trio():
            raise UsageError(
                "serve() runs uvicorn, which needs asyncio; on trio, mount it in another server"
            )
        make = _uvicorn()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host.strip("[]"), port), family=family, backlog=128)
        server = make(self)
        shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, [listener])
                try:
                    yield f"http://{shown}:{listener.getsockname()[1]}/"
                finally:
                    for _, page in self._calls.values():
                        page.leave()
                    server.should_exit = True
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None  # the block's own, as it was raised
            raise
        finally:
            listener.close()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve a request, as ASGI has it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._application(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        host, origin = headers.get(b"host", b"").decode("latin-1"), headers.get(b"origin")
        websocket = scope["type"] == "websocket"
        refusal = self._guard.refusal(
            host, origin.decode("latin-1") if origin is not None and websocket else None
        )
        if refusal is not None:
            _log.warning("a request was refused", reason=refusal)
            await _refuse(scope, receive, send, refusal)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_RAW_HEADERS]
            await send(message)

        await self._application(scope, receive, send_with_headers)

    async def _called(self, websocket: WebSocket) -> None:
        await websocket.accept()
        hello = await greeted(websocket)
        if hello is None:
            return
        if hello.call in self._calls:
            await self._calls[hello.call][1].serve(websocket, hello)
            return
        if len(self._calls) >= self._max_calls:
            await close(websocket, _BUSY, "all lines are busy; try again later")
            return
        page = Page(ahead_ms=self._ahead_ms)
        call = BrowserCall(page, websocket.scope)
        self._calls[page.id] = (call, page)
        try:
            async with anyio.create_task_group() as tasks:
                over = anyio.Event()
                tasks.start_soon(self._converse, call, page, over)
                await page.serve(websocket, Hello())
                await page.wait_left(self._keep_s)
                tasks.cancel_scope.deadline = anyio.current_time() + _LEAVE_S
                await over.wait()
                tasks.cancel_scope.cancel()
        finally:
            del self._calls[page.id]

    async def _converse(self, call: BrowserCall, page: Page, over: anyio.Event) -> None:
        ended = Ended()
        try:
            await self._on_call(call)
        except Exception as error:  # noqa: BLE001 - whatever the application raises, the page is told
            _log.error("a call failed", **describe(error))
            ended = Ended(reason="The assistant could not go on.", failed=True)
        page.finish(ended)
        over.set()


_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def _routes(called: Callable[[WebSocket], Awaitable[None]]) -> Any:
    try:
        from starlette.applications import Starlette  # noqa: PLC0415 - an extra
        from starlette.routing import Mount, WebSocketRoute  # noqa: PLC0415 - the same
        from starlette.staticfiles import StaticFiles  # noqa: PLC0415 - the same
    except ImportError as error:
        raise MissingExtra("starlette", extra="browser") from error
    page = StaticFiles(directory=_STATIC, html=True)
    return Starlette(routes=[WebSocketRoute("/call", called), Mount("/", page)])


def _on_trio() -> bool:
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def _uvicorn() -> Callable[[Any], Any]:
    """Return what makes a server that leaves signals and logging to the application."""
    try:
        import uvicorn  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra("uvicorn", extra="browser") from error

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Generator[None]:
            yield

    def make(application: Any) -> Server:
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="websockets-sansio",
            ws_max_size=_MAX_MESSAGE_BYTES,
            timeout_graceful_shutdown=round(_LEAVE_S),
        )
        return Server(config)

    return make


async def _refuse(scope: _Scope, receive: _Receive, send: _Send, refusal: str) -> None:
    from starlette.responses import PlainTextResponse  # noqa: PLC0415 - an extra

    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await PlainTextResponse(f"{refusal}\n", status_code=403)(scope, receive, send)

"""One page, over one connection or several: thin I/O around `Downlink`.

The rules:

1. The newest connection counts: one that comes while another seems to be there takes its place.
2. A page that closes with 1000 (the conversation is ended, or the page left) has gone for good; so
   has one that says what no page of ours says. A page whose connection ends in any other way is
   waited for, unless our own server is shutting down.
3. A page sends audio all the time, muted or not; one that is silent for 15 s is not there.
4. When the conversation is over on our side, the page is told, and the connection closed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from realtime_bus.log import get_logger

from ._downlink import Downlink
from ._messages import BadMessage, Ended, FromPage, Hello, Started, ToPage, read

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

_HELLO_S = 10.0
_IDLE_S = 15.0
_OVER, _REPLACED, _REFUSED, _BROKEN = 4000, 4001, 1008, 1006
_FOR_GOOD = (1000, 1012)  # a page that is left, and what an ASGI server says when it shuts down

_log = get_logger("realtime_bus.browser")


class Page:
    """A page, as long as it may come back.

    Args:
        ahead_ms: How much audio may be under way to it.

    Attributes:
        id: Unguessable; whoever knows it can resume the call.
        downlink: What the page is to be sent.
        left: Set when the page has gone for good.
    """

    def __init__(self, *, ahead_ms: int = 1000) -> None:
        self.id: str = secrets.token_urlsafe(16)
        self.downlink: Downlink = Downlink(ahead_ms=ahead_ms)
        self.left: anyio.Event = anyio.Event()
        self._ready = self._over = False
        self._connection: anyio.CancelScope | None = None
        self._lost_s: float | None = None
        self._more = anyio.Event()
        self._changed = anyio.Event()

    def listen(
        self,
        *,
        take: Callable[[FromPage | bytes], object],
        came: Callable[[float | None], object],
        lost: Callable[[int], object],
    ) -> None:
        """Say who is told of the page; once, before `serve`.

        Args:
            take: Gets every message, and the audio; raises `BadMessage`.
            came: There is a connection; gets the seconds that there was none, or None.
            lost: It has ended; gets its close code.
        """
        self._take, self._came, self._lost = take, came, lost

    @property
    def there(self) -> bool:
        """Whether it has a connection."""
        return self._connection is not None

    def nudge(self) -> None:
        """Send what may be sent now."""
        self._more.set()

    def tell(self, key: str, state: ToPage) -> None:
        """Let the page know; see `Downlink.tell`."""
        self.downlink.tell(key, state)
        self.nudge()

    def set_ready(self, ready: bool) -> None:
        """Tell the page whether somebody listens."""
        self._ready = ready
        self.tell("started", Started(call=self.id, resumed=True, ready=ready))

    def finish(self, ended: Ended) -> None:
        """Tell the page that the conversation is over, and let it go."""
        self._over = True
        self.tell("ended", ended)
        self._changed.set()

    def leave(self) -> None:
        """Take note that the page has gone for good."""
        self.left.set()
        self._changed.set()

    async def wait_left(self, keep_s: float) -> None:
        """Wait until the page has gone for good, or we have finished and it knows."""
        while not self.left.is_set() and not (self._over and not self.there):
            self._changed = anyio.Event()
            if self.there:
                await self._changed.wait()
                continue
            with anyio.move_on_after(keep_s) as patience:
                await self._changed.wait()
            if patience.cancelled_caught:
                self.leave()

    async def serve(self, websocket: WebSocket, hello: Hello) -> None:
        """Talk over a connection until it ends, or another one takes its place."""
        if self._connection is not None:
            self._connection.cancel()
        gap_s = None if self._lost_s is None else time.perf_counter() - self._lost_s
        self.tell(
            "started", Started(call=self.id, resumed=hello.call is not None, ready=self._ready)
        )
        self.downlink.resume(hello.received)
        code: int | None = None
        with anyio.CancelScope() as connection:
            self._connection, self._lost_s = connection, None
            self._changed.set()
            self._came(gap_s)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, websocket)
                code = await self._read(websocket)
                tasks.cancel_scope.cancel()
        if code is not None and self._connection is connection:
            self._connection, self._lost_s = None, time.perf_counter()
            self._changed.set()
            self._lost(code)
        with anyio.CancelScope(shield=True), anyio.move_on_after(1):
            await close(websocket, _REPLACED)

    async def _write(self, websocket: WebSocket) -> None:
        while True:
            self._more = anyio.Event()
            message = self.downlink.next()
            try:
                if isinstance(message, bytes):
                    await websocket.send_bytes(message)
                elif message is not None:
                    await websocket.send_text(message)
                elif self._over:
                    await close(websocket, _OVER)
                    return
                else:
                    await self._more.wait()
            except _gone():
                return  # the reader hears of it, too

    async def _read(self, websocket: WebSocket) -> int:
        try:
            while True:
                with anyio.fail_after(_IDLE_S):
                    message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    code = int(message.get("code") or _BROKEN)
                    if code in _FOR_GOOD:
                        self.leave()
                    return code
                audio = message.get("bytes")
                self._take(read(message.get("text") or "") if audio is None else audio)
        except TimeoutError:
            return _BROKEN
        except BadMessage as error:
            _log.warning("a page was cut off", reason=str(error))
            self.leave()
            await close(websocket, _REFUSED, str(error))
            return _REFUSED


async def greeted(websocket: WebSocket) -> Hello | None:
    """Wait for a page's first words; None, and the connection is closed, if they are others."""
    try:
        with anyio.fail_after(_HELLO_S):
            message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        hello = read(message.get("text") or "")
    except (BadMessage, TimeoutError) as error:
        await close(websocket, _REFUSED, str(error))
        return None
    if not isinstance(hello, Hello):
        await close(websocket, _REFUSED, "a page says hello first")
        return None
    return hello


async def close(websocket: WebSocket, code: int, reason: str = "") -> None:
    """Close a connection, which may be closed already."""
    try:
        await websocket.close(code, reason.encode()[:120].decode(errors="ignore"))
    except _gone():
        pass


def _gone() -> tuple[type[Exception], ...]:
    """Return what Starlette raises for a connection that is no more."""
    from starlette.websockets import WebSocketDisconnect  # noqa: PLC0415 - comes with an extra

    return (WebSocketDisconnect, RuntimeError)

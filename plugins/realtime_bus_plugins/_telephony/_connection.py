"""The provider's WebSocket: messages in and out, and both ends of the call.

The rules:

1. The call has begun when the line knows whose it is; until then there is nothing to hold.
2. It ends once, with the provider's ``stop`` or the connection, whichever is first; everybody who
   waits is woken.
3. However the block is left, the connection is closed, within a second. What the block raises
   comes out as it was raised, not in a group; `SessionClosed`, after the caller has gone, does not.
4. Others have a turn, whatever comes in a burst: some servers never wait while there is something
   to receive, or room to send.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

import anyio
import anyio.lowlevel

from realtime_bus import RealtimeBusError, SessionClosed

from ._events import CallEnded
from ._line import Happening, Line, Stopped

_TICK_S: Final = 0.25
_CLOSE_S: Final = 1.0
_IN_A_ROW: Final = 32


class WebSocketLike(Protocol):
    """A WebSocket that was accepted; Starlette's and FastAPI's are such."""

    async def receive(self) -> MutableMapping[str, Any]:
        """Return the next ASGI event: ``websocket.receive`` or ``websocket.disconnect``."""
        ...

    async def send_text(self, data: str) -> None:
        """Send a text message."""
        ...

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        ...

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the connection."""
        ...


class NoCall(RealtimeBusError):  # noqa: N818 - named for what it tells, as the core's
    """A stream has not begun: nothing came, it left, or it cannot be understood."""


class Connection:
    """A line's connection.

    Args:
        websocket: Accepted.
        line: Reads what comes, and knows what is to be sent.
        start_timeout_s: How long to wait for the call's start.
        take: Called with everything that comes of the line, and with `CallEnded` at the end.
        tick: Called some times a second.

    Attributes:
        ended: How the caller's side ended the call, or None.
        over: Set when it has.
    """

    def __init__(
        self,
        websocket: WebSocketLike,
        line: Line,
        *,
        start_timeout_s: float,
        take: Callable[[Happening], None],
        tick: Callable[[], None],
    ) -> None:
        self.ended: CallEnded | None = None
        self.over: anyio.Event = anyio.Event()
        self._websocket = websocket
        self._line = line
        self._start_timeout_s = start_timeout_s
        self._take = take
        self._tick = tick
        self._begun = anyio.Event()
        self._to_send = anyio.Event()

    def wake(self) -> None:
        """Send what is to be sent; may be called from a callback of the loop."""
        self._to_send.set()

    @asynccontextmanager
    async def hold(self) -> AsyncGenerator[None]:
        """Hold the call, from its beginning on.

        Raises:
            NoCall: It does not begin.
        """
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                try:
                    tasks.start_soon(self._read)
                    await self._until_begun()
                    tasks.start_soon(self._write)
                    tasks.start_soon(self._watch)
                    yield
                except Exception as error:  # noqa: BLE001 - raised below, out of the group
                    failure = error
                tasks.cancel_scope.cancel()
        finally:
            await self._hang_up()
        hung_up = self.ended is not None and isinstance(failure, SessionClosed)
        if failure is not None and not hung_up:
            raise failure

    async def _until_begun(self) -> None:
        with anyio.move_on_after(self._start_timeout_s):
            await self._begun.wait()
        if self._line.call is None:
            why = self._line.refused or (
                f"nothing said that it has begun within {self._start_timeout_s:g} s"
                if self.ended is None
                else "the connection was closed before it had begun"
            )
            raise NoCall(f"there is no call on this connection: {why}")

    async def _hang_up(self) -> None:
        """Close the connection, which may be closed already."""
        with anyio.move_on_after(_CLOSE_S, shield=True):
            with suppress(Exception):  # each server has its own for "closed already"
                await self._websocket.close()

    async def _read(self) -> None:
        received = 0
        while self.ended is None:
            try:
                message = await self._websocket.receive()
            except Exception:  # noqa: BLE001 - each server has its own for "closed"
                self._end(CallEnded(reason="disconnected"))
                return
            if message["type"] == "websocket.disconnect":
                self._end(CallEnded(reason="disconnected", code=message.get("code")))
                return
            text = message.get("text")
            for happening in self._line.receive(
                message.get("bytes") or b"" if text is None else text
            ):
                if isinstance(happening, Stopped):
                    self._end(CallEnded(reason="stopped"))
                else:
                    self._take(happening)
            if self._line.call is not None or self._line.refused is not None:
                self._begun.set()
            received += 1
            if received % _IN_A_ROW == 0:
                await anyio.lowlevel.checkpoint()

    async def _write(self) -> None:
        while self.ended is None and self._line.playout is not None:
            self._to_send = anyio.Event()
            sent = 0
            while (message := self._line.playout.next_message()) is not None:
                try:
                    if isinstance(message, str):
                        await self._websocket.send_text(message)
                    else:
                        await self._websocket.send_bytes(message)
                except Exception:  # noqa: BLE001 - each server has its own for "closed"
                    self._end(CallEnded(reason="disconnected"))
                    return
                sent += 1
                if sent % _IN_A_ROW == 0:
                    await anyio.lowlevel.checkpoint()
            await self._to_send.wait()

    async def _watch(self) -> None:
        while self.ended is None:
            await anyio.sleep(_TICK_S)
            for happening in self._line.tick():
                self._take(happening)
            self._tick()

    def _end(self, ended: CallEnded) -> None:
        """Note that the caller is gone, and tell everybody."""
        if self.ended is None:
            self.ended = ended
            for event in (self._begun, self.over, self._to_send):
                event.set()
            self._take(ended)

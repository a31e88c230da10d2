"""Bring your own connection: `adapt` makes a transport of what the application already has.

The connection keeps its own rules (limits, pings, handshake); here is only a loop that receives
and delivers and a task that sends what was queued. Frames are pulled through an await, so that
each costs a wake-up more than over `dial`. How a connection is received from, sent to and closed
is found by its methods alone.

Bound of what is unsent: `MAX_UNSENT_BYTES`. Above it the peer is taken for dead: the connection is
given up and `send` raises. Single messages are never dropped.

While paused nothing is received; one message that was being waited for is held.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

import msgspec
from anyio import CancelScope, EndOfStream, create_task_group, move_on_after

from realtime_bus.errors import CloseInfo, TransportClosed, UsageError

from ._buffers import DeliveryQueue, Signal, WriteBuffer
from ._transport import CLOSE_TIMEOUT_S, check_close_code, close_or_cut

if TYPE_CHECKING:
    from ._transport import Transport


class ForeignConnection(msgspec.Struct, frozen=True, kw_only=True):
    """The three things that a transport does with somebody else's connection.

    ``receive`` returns None, or raises, when the connection has ended.
    """

    receive: Callable[[], Awaitable[str | bytes | None]]
    send: Callable[[str], Awaitable[object]]
    close: Callable[[int, str], Awaitable[object]]


class ForeignClose(Exception):  # noqa: N818 - it is the end of a connection, not an error
    """A close that a library reports as a message."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code}")
        self.code = code
        self.reason = reason


def adapt(connection: Any) -> Transport:
    """Make a transport of an open connection.

    Args:
        connection: One of

            * an openai-python realtime connection (``recv_bytes``, ``send_raw``, ``close``);
            * a Starlette or FastAPI ``WebSocket`` that was accepted (``receive``, ``send_text``,
              ``close``);
            * any object with awaitable ``send(str)`` and ``recv()`` or ``receive()``, the latter
              returning ``str`` or ``bytes`` (or None at the end); ``close`` or ``aclose`` is
              called if there is one. Connections of `websockets` and `picows`-like wrappers fit.

    Raises:
        UsageError: The object is none of these.
    """
    for names, make in _KINDS:
        if all(callable(getattr(connection, name, None)) for name in names):
            return AdaptedTransport(make(connection))
    raise UsageError(
        f"{type(connection).__name__} cannot be adapted: it needs awaitable send(text) and "
        "recv() or receive(); for anything else use PushTransport and feed it"
    )


class AdaptedTransport:
    """A transport over somebody else's connection; made by `adapt`."""

    def __init__(
        self, connection: ForeignConnection, *, close_timeout_s: float = CLOSE_TIMEOUT_S
    ) -> None:
        self._connection = connection
        self._close_timeout_s = close_timeout_s
        self._frames = DeliveryQueue()
        self._unsent = WriteBuffer(join=False)
        self._resumed = Signal()  # or ended
        self._scope: CancelScope | None = None
        self._info: CloseInfo | None = None
        self._closed = False

    async def run(self, deliver: Callable[[bytes], None]) -> CloseInfo:
        """Deliver each message until the connection has ended, and return how it did."""
        self._frames.start(deliver)
        crash: Exception | None = None
        async with create_task_group() as tasks:
            self._scope = tasks.cancel_scope
            tasks.start_soon(self._write)
            try:
                await self._read()
            except Exception as exc:  # noqa: BLE001 - deliver's; raised below, out of the group
                self._end(CloseInfo(code=1006, clean=False, error=exc))
                crash = exc
            tasks.cancel_scope.cancel()
        if crash is not None:
            raise crash
        return self._info or CloseInfo(code=1006, clean=False)

    def send(self, frame: bytes) -> None:
        """Queue a text message.

        Raises:
            TransportClosed: The connection has ended, or the peer stopped reading.
        """
        if self._info is not None:
            raise TransportClosed("the connection has ended", close=self._info)
        if self._unsent.overfull:
            unsent = self._unsent.unsent_bytes
            info = CloseInfo(code=1008, reason="the peer does not read", clean=False)
            self._end(info)
            raise TransportClosed(f"{unsent} bytes are unsent: {info.reason}", close=info)
        self._unsent.add([frame])

    async def drain(self) -> None:
        """Wait until little is unsent.

        Raises:
            TransportClosed: The connection has ended.
        """
        await self._unsent.drain()
        if self._info is not None:
            raise TransportClosed("the connection has ended", close=self._info)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Send what is queued, then close the connection, both within ``close_timeout_s``.

        Raises:
            UsageError: The code may not be sent.
        """
        check_close_code(code)
        if self._closed:
            return
        self._closed = True
        self._frames.abandon()
        clean = False

        async def close() -> None:
            nonlocal clean
            with move_on_after(self._close_timeout_s):
                if self._scope is not None:
                    await self._unsent.drain(below_bytes=0)
                await self._connection.close(code, reason)
                clean = True

        async def cut() -> None:
            self._end(CloseInfo(code=code, reason=reason, clean=clean))

        await close_or_cut(close, cut)

    def pause(self) -> None:
        """Stop receiving."""
        self._frames.paused = True

    def resume(self) -> None:
        """Receive again; what was held is delivered first."""
        self._frames.paused = False
        self._resumed.notify()

    @property
    def buffered_bytes(self) -> int:
        """How much is unsent."""
        return self._unsent.unsent_bytes

    async def _read(self) -> None:
        while self._info is None or self._frames:
            if self._frames.paused:
                await self._resumed.wait()
            elif self._frames:
                self._frames.flush()
            elif (message := await self._receive()) is not None:
                self._frames.push([message.encode() if isinstance(message, str) else message])

    async def _receive(self) -> str | bytes | None:
        try:
            message = await self._connection.receive()
        except Exception as exc:  # noqa: BLE001 - each library has its own for "closed"
            self._end(_close_info(exc), cut=False)
            return None
        if message is None:
            self._end(CloseInfo(), cut=False)
        return message if isinstance(message, str) or message is None else bytes(message)

    async def _write(self) -> None:
        while self._info is None:
            try:
                await self._unsent.write(
                    lambda frame: self._connection.send(frame.decode("utf-8", "replace"))
                )
            except Exception as exc:  # noqa: BLE001 - each library has its own for "closed"
                self._end(_close_info(exc))
                return
            await self._unsent.wait()

    def _end(self, info: CloseInfo, *, cut: bool = True) -> None:
        """Keep the first reason and wake all waiters; ``cut`` what is being received, too."""
        if self._info is None:
            self._info = info
        self._unsent.end()
        self._resumed.notify()
        if cut and self._scope is not None and not self._frames:
            self._scope.cancel()


def _close_info(exc: Exception) -> CloseInfo:
    """Read code and reason off an exception: every library puts them somewhere."""
    if isinstance(exc, (EndOfStream, StopAsyncIteration)):
        return CloseInfo()
    # `websockets` has the peer's close frame, or None, in `rcvd`; its `code` is deprecated.
    frame = getattr(exc, "rcvd", exc)
    code, reason = getattr(frame, "code", None), getattr(frame, "reason", None)
    if not isinstance(code, int) or code == 1006 or not 1000 <= code < 5000:
        return CloseInfo(code=1006, clean=False, error=exc)
    return CloseInfo(code=code, reason=reason if isinstance(reason, str) else "")


# The kinds of connections, found by their methods


def _openai(connection: Any) -> ForeignConnection:
    async def close(code: int, reason: str) -> None:
        await connection.close(code=code, reason=reason)

    return ForeignConnection(receive=connection.recv_bytes, send=connection.send_raw, close=close)


def _starlette(websocket: Any) -> ForeignConnection:
    # Not receive_text or receive_bytes: the message may be either, and asking for the wrong one
    # loses it.
    async def receive() -> str | bytes:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise ForeignClose(message.get("code") or 1005, message.get("reason") or "")
        text = message.get("text")
        return message.get("bytes") or b"" if text is None else text

    async def close(code: int, reason: str) -> None:
        with suppress(RuntimeError):  # the client has left already
            await websocket.close(code=code, reason=reason)

    return ForeignConnection(receive=receive, send=websocket.send_text, close=close)


def _plain(connection: Any) -> ForeignConnection:
    receive = getattr(connection, "recv", None) or connection.receive
    function = getattr(connection, "aclose", None) or getattr(connection, "close", None)

    async def close(code: int, reason: str) -> None:
        if function is None:
            return
        result = function(code, reason) if _takes_code(function) else function()
        if isinstance(result, Awaitable):
            await result

    return ForeignConnection(receive=receive, send=connection.send, close=close)


def _takes_code(function: Callable[..., object]) -> bool:
    try:
        signature(function).bind(1000, "")
    except (TypeError, ValueError):
        return False
    return True


_KINDS: Final[tuple[tuple[tuple[str, ...], Callable[[Any], ForeignConnection]], ...]] = (
    (("recv_bytes", "send_raw", "close"), _openai),
    (("receive", "receive_text", "send_text", "close"), _starlette),
    (("send", "recv"), _plain),
    (("send", "receive"), _plain),
)
"""What a connection must have, and how it is used; the most special kind comes first."""

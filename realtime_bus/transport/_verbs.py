"""How foreign connections are received from, sent to and closed: found by their methods alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from inspect import signature
from typing import Any, Final

import msgspec
from anyio import EndOfStream

from realtime_bus._errors import CloseInfo

__all__ = ["Verbs", "find_verbs", "how_it_ended"]


class Verbs(msgspec.Struct, frozen=True, kw_only=True):
    """The three things that a transport does with a foreign connection.

    ``receive`` returns None, or raises, when the connection has ended.
    """

    receive: Callable[[], Awaitable[str | bytes | None]]
    send: Callable[[str], Awaitable[object]]
    close: Callable[[int, str], Awaitable[object]]


def find_verbs(connection: Any) -> Verbs | None:
    """Return how to use a connection, or None if nothing fits. The most special kind wins."""
    for needed, make in _KINDS:
        if all(callable(getattr(connection, name, None)) for name in needed):
            return make(connection)
    return None


class ForeignClose(Exception):  # noqa: N818 - it is the end of a connection, not an error
    """A close that a library reports as a message."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code}")
        self.code = code
        self.reason = reason


def how_it_ended(exc: Exception) -> CloseInfo:
    """Read code and reason off an exception: every library puts them somewhere."""
    if isinstance(exc, (EndOfStream, StopAsyncIteration)):
        return CloseInfo()
    # `websockets` has the peer's close frame, or None, in `rcvd`; its `code` is deprecated.
    frame = getattr(exc, "rcvd", exc)
    code, reason = getattr(frame, "code", None), getattr(frame, "reason", None)
    if not isinstance(code, int) or code == 1006 or not 1000 <= code < 5000:
        return CloseInfo(code=1006, clean=False, error=exc)
    return CloseInfo(code=code, reason=reason if isinstance(reason, str) else "")


def _openai(connection: Any) -> Verbs:
    async def close(code: int, reason: str) -> None:
        await connection.close(code=code, reason=reason)

    return Verbs(receive=connection.recv_bytes, send=connection.send_raw, close=close)


def _starlette(websocket: Any) -> Verbs:
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

    return Verbs(receive=receive, send=websocket.send_text, close=close)


def _plain(connection: Any) -> Verbs:
    receive = getattr(connection, "recv", None) or connection.receive
    return Verbs(receive=receive, send=connection.send, close=_closer(connection))


def _closer(connection: Any) -> Callable[[int, str], Awaitable[None]]:
    function = getattr(connection, "aclose", None) or getattr(connection, "close", None)

    async def close(code: int, reason: str) -> None:
        if function is None:
            return
        result = function(code, reason) if _takes_code(function) else function()
        if isinstance(result, Awaitable):
            await result

    return close


def _takes_code(function: Callable[..., object]) -> bool:
    try:
        signature(function).bind(1000, "")
    except (TypeError, ValueError):
        return False
    return True


_KINDS: Final[tuple[tuple[tuple[str, ...], Callable[[Any], Verbs]], ...]] = (
    (("recv_bytes", "send_raw", "close"), _openai),
    (("receive", "receive_text", "send_text", "close"), _starlette),
    (("send", "recv"), _plain),
    (("send", "receive"), _plain),
)

"""Bring your own connection: `adapt` makes a transport of what the application already has.

The connection keeps its own rules (limits, pings, handshake); here is only a loop that receives
and delivers and a task that sends what was queued. Frames are pulled through an await, so that
each costs a wake-up more than over `dial`.

Bound of the send queue: `MAX_UNSENT_BYTES`. Above it the peer is taken for dead: the connection is
given up and `send` raises. Single messages are never dropped.

While paused nothing is received; one message that was being waited for is held.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from anyio import CancelScope, create_task_group, move_on_after

from realtime_bus._errors import CloseInfo, RegistrationError, TransportClosed

from ._inbox import Inbox
from ._limits import CLOSE_TIMEOUT_S, HIGH_WATER_BYTES, MAX_UNSENT_BYTES
from ._signal import Signal
from ._verbs import Verbs, find_verbs, how_it_ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._transport import Transport

__all__ = ["AdaptedTransport", "adapt"]

_OPEN: Final = CloseInfo(code=1006, clean=False)


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
        RegistrationError: The object is none of these.
    """
    verbs = find_verbs(connection)
    if verbs is None:
        raise RegistrationError(
            f"{type(connection).__name__} cannot be adapted: it needs awaitable send(text) and "
            "recv() or receive(); for anything else use PushTransport and feed it"
        )
    return AdaptedTransport(verbs)


class AdaptedTransport:
    """A transport over somebody else's connection; made by `adapt`."""

    def __init__(self, verbs: Verbs, *, close_timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        self._verbs = verbs
        self._close_timeout_s = close_timeout_s
        self._inbox = Inbox()
        self._queue: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._more = Signal()  # something to send, or the end
        self._changed = Signal()  # something was sent, or reading may go on, or the end
        self._scope: CancelScope | None = None
        self._info: CloseInfo | None = None
        self._closed = False

    async def run(self, deliver: Callable[[bytes], None]) -> CloseInfo:
        """Deliver each message as it comes, until the connection has ended; tell how it did."""
        self._inbox.start(deliver)
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
        return self._info or _OPEN

    def send(self, frame: bytes) -> None:
        """Queue a text message.

        Raises:
            TransportClosed: The connection has ended, or the peer stopped reading.
        """
        if self._info is None and self._unsent_bytes > MAX_UNSENT_BYTES:
            self._end(CloseInfo(code=1008, reason="the peer does not read", clean=False))
        if self._info is not None:
            raise TransportClosed("the connection has ended", close=self._info)
        self._queue.append(frame)
        self._unsent_bytes += len(frame)
        self._more.notify()

    async def drain(self) -> None:
        """Wait until little is unsent.

        Raises:
            TransportClosed: The connection has ended.
        """
        while self._unsent_bytes > HIGH_WATER_BYTES and self._info is None:
            await self._changed.wait()
        if self._info is not None:
            raise TransportClosed("the connection has ended", close=self._info)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Send what is queued, then close the connection, both within ``close_timeout_s``."""
        if self._closed:
            return
        self._closed = True
        self._inbox.abandon()
        with move_on_after(self._close_timeout_s) as scope:
            while self._scope is not None and self._unsent_bytes and self._info is None:
                await self._changed.wait()
            await self._verbs.close(code, reason)
        self._end(CloseInfo(code=code, reason=reason, clean=not scope.cancelled_caught))

    def pause(self) -> None:
        """Stop receiving."""
        self._inbox.paused = True

    def resume(self) -> None:
        """Receive again; what was held is delivered first."""
        self._inbox.paused = False
        self._changed.notify()

    @property
    def buffered_bytes(self) -> int:
        """How much is unsent."""
        return self._unsent_bytes

    async def _read(self) -> None:
        while self._info is None or self._inbox:
            if self._inbox.paused:
                await self._changed.wait()
            elif self._inbox:
                self._inbox.flush()
            else:
                await self._receive()

    async def _receive(self) -> None:
        try:
            message = await self._verbs.receive()
        except Exception as exc:  # noqa: BLE001 - each library has its own for "closed"
            self._end(how_it_ended(exc), cut=False)
            return
        if message is None:
            self._end(CloseInfo(), cut=False)
        else:
            self._inbox.push([message.encode() if isinstance(message, str) else bytes(message)])

    async def _write(self) -> None:
        while self._info is None:
            if not self._queue:
                await self._more.wait()
                continue
            frame = self._queue.popleft()
            try:
                await self._verbs.send(frame.decode("utf-8", "replace"))
            except Exception as exc:  # noqa: BLE001 - each library has its own for "closed"
                self._end(how_it_ended(exc))
                return
            self._unsent_bytes -= len(frame)
            self._changed.notify()

    def _end(self, info: CloseInfo, *, cut: bool = True) -> None:
        """Keep the first reason and let everybody go; ``cut`` what is being received, too."""
        if self._info is None:
            self._info = info
        self._unsent_bytes = 0
        self._more.notify()
        self._changed.notify()
        if cut and self._scope is not None and not self._inbox:
            self._scope.cancel()

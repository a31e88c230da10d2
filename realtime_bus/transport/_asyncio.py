"""A client on asyncio, driven by the loop's callbacks: bytes arrive, ``deliver`` is called.

No task stands between the socket and ``deliver``: at 60 frames a second nearly every frame is its
own wake-up, and waking a task costs more than decoding the frame. Rules:

* `data_received` parses, delivers, then writes what is due, all in the loop's own callback.
* Nothing is read before `run` (a server may greet in the handshake's segment: that is held), nor
  while paused. Nor is silence judged then: the keepalive starts again on resuming.
* While the socket takes no more, what is to be written waits in one buffer of ours: the loop's own
  keeps an object for each write (since Python 3.12), which is ten times the bytes of a small
  frame, and counts them all at each write.
* Once closing has begun, the peer has ``close_timeout_s``, then the connection is cut; at once if
  it has answered no ping.
* Timers are the only thing that lives beside the socket; they end with it in `connection_lost`.
* `run` may be cancelled: the connection stays open until `aclose`.
* Handlers that run in a callback may use anyio, although there is no task. Where sniffio is
  installed (trio brings it), anyio asks it which backend runs, and it looks for a task unless its
  context variable is set. A callback has the context of whoever asked for it: so the variable is
  set there, by `asyncio_in_callbacks`.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from anyio import CancelScope

from realtime_bus.errors import TransportClosed

from ._buffers import HIGH_WATER_BYTES, MAX_UNSENT_BYTES, DeliveryQueue, Signal
from ._transport import CLOSE_TIMEOUT_S, close_or_cut

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator

    from realtime_bus.errors import CloseInfo

    from ._connection import Connection


def on_asyncio() -> bool:
    """Tell whether asyncio runs, or else trio."""
    try:
        from sniffio import current_async_library  # noqa: PLC0415 - optional
    except ImportError:
        return True  # trio depends on it
    return current_async_library() == "asyncio"


def loop_clock() -> Callable[[], float]:
    """Return what reads the running loop's time, at a third of what `anyio.current_time` takes."""
    if not on_asyncio():
        from trio import current_time  # noqa: PLC0415  # it is there: it runs

        return current_time
    time = asyncio.get_running_loop().time
    plain = getattr(time, "__func__", None) is asyncio.BaseEventLoop.time
    return monotonic if plain else time  # what it calls


@contextmanager
def asyncio_in_callbacks() -> Generator[None]:
    """Let callbacks that are asked for inside this block use anyio."""
    try:
        from sniffio import current_async_library_cvar as library  # noqa: PLC0415 - optional
    except ImportError:
        yield
        return
    token = library.set("asyncio")
    try:
        yield
    finally:
        library.reset(token)


async def _turns() -> None:
    """Let the loop run what it has scheduled, and what that schedules."""
    for _ in range(5):
        await asyncio.sleep(0)


class AsyncioTransport(asyncio.Protocol):
    """A transport that is an asyncio protocol; `connect` it to a socket, then `open` it.

    Args:
        connection: From `client_connection`, fresh.
        close_timeout_s: Seconds that the peer has to finish the closing handshake.

    Attributes:
        clock_ahead_s: How far the server's clock is ahead of ours, if it has told.
    """

    def __init__(self, connection: Connection, *, close_timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        self.clock_ahead_s: float | None = None
        self._connection = connection
        self._close_timeout_s = close_timeout_s
        self._loop = asyncio.get_running_loop()
        self._frames = DeliveryQueue()
        self._changed = Signal()
        self._transport: asyncio.Transport | None = None
        self._crash: Exception | None = None
        self._lost = False
        self._writes_paused = False
        self._backlog = bytearray()  # unsent, while writes are paused
        self._ping_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    # The transport's side: what a session calls

    async def connect(self, sock: socket.socket, tls: ssl.SSLContext | None, host: str) -> None:
        """Take over a connected socket and agree on TLS, if asked to.

        Raises:
            OSError: TLS failed, or the peer hung up; the socket is closed, also when cancelled.
        """
        with asyncio_in_callbacks():
            # A task, for cancelling `create_connection` itself may leave the socket open.
            making = self._loop.create_task(
                self._create_connection(
                    sock=sock,
                    ssl=tls,
                    server_hostname=host if tls else None,
                    ssl_shutdown_timeout=self._close_timeout_s if tls else None,
                )
            )
        try:
            await asyncio.wait([making])
            making.result()
        except BaseException:
            with CancelScope(shield=True):
                await _turns()  # aiofastnet cannot be cut before it has begun to read
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # ends a TLS handshake
                await asyncio.wait([making])
                making.exception()
                await self.abort()
                await _turns()  # below TLS, the socket is closed some callbacks later
                sock.close()
            raise

    async def _create_connection(self, **options: Any) -> None:
        await self._loop.create_connection(lambda: self, **options)

    async def open(self) -> bool:
        """Wait for the handshake, and return whether there is a WebSocket now."""
        while self._connection.opening:
            await self._changed.wait()
        return self._connection.accepted

    async def run(self, deliver: Callable[[bytes], None]) -> CloseInfo:
        """Deliver each message as it comes, until the connection has ended, and return how it did.

        ``deliver`` must not raise: what it raises cuts the connection and comes out here.
        """
        self._frames.start(deliver)
        self._continue()
        while not self._lost or (self._frames and self._crash is None):
            await self._changed.wait()
        if self._crash is not None:
            raise self._crash
        return self._connection.close_info()

    def send(self, frame: bytes) -> None:
        """Write a text message.

        Raises:
            TransportClosed: The connection is closed or closing, or the peer stopped reading.
        """
        self._connection.send_text(frame)
        self._flush()
        if len(self._backlog) > MAX_UNSENT_BYTES:
            self._give_up()

    async def drain(self) -> None:
        """Wait until little is unsent.

        Raises:
            TransportClosed: The connection has ended.
        """
        while self._writes_paused and not self._lost:
            await self._changed.wait()
        if self._lost:
            raise TransportClosed("the connection has ended", close=self._connection.close_info())

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close with a handshake and wait for it, at most ``close_timeout_s``."""
        self._connection.close(code, reason)
        self._frames.abandon()
        self._flush()
        self._continue()
        if not self._connection.closing:
            self._abort()
        await close_or_cut(self._wait_lost, self.abort)

    async def abort(self) -> None:
        """Cut the connection without a word; what is held back is dropped."""
        self._abort()
        await self._wait_lost()
        self._frames.abandon()
        self._changed.notify()

    async def _wait_lost(self) -> None:
        while not self._lost and self._transport is not None:
            await self._changed.wait()

    def pause(self) -> None:
        """Stop reading; what is parsed already is held."""
        self._frames.paused = True
        self._read(on=False)

    def resume(self) -> None:
        """Read again; what was held is delivered first."""
        self._frames.paused = False
        # Not here: the caller may be in the middle of taking frames out of its own queue.
        with asyncio_in_callbacks():
            self._loop.call_soon(self._continue)

    @property
    def buffered_bytes(self) -> int:
        """How much is unsent."""
        inside = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return inside + len(self._backlog)

    # The protocol's side: what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Parse, deliver, answer."""
        connection = self._connection
        was_opening = connection.opening
        frames = connection.receive(data)
        if frames:
            self._push(frames)
        self._flush()
        if was_opening and not connection.opening:
            self._opened()

    def eof_received(self) -> bool:
        """Note the end of the stream and let the loop close our side."""
        self._connection.receive_eof()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake all waiters: the connection has ended."""
        self._lost = True
        self._backlog.clear()
        self._connection.receive_eof(exc)
        for timer in (self._ping_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        self._changed.notify()

    def pause_writing(self) -> None:
        """Note that the socket takes no more."""
        self._writes_paused = True

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._writes_paused = False
        while self._backlog and not self._writes_paused:
            self._write(self._take_backlog(HIGH_WATER_BYTES))
        self._flush()
        self._changed.notify()

    # Small steps

    def _opened(self) -> None:
        if not self._frames.started:
            self._read(on=False)
        self._changed.notify()

    def _push(self, frames: list[bytes]) -> None:
        try:
            self._frames.push(frames)
        except Exception as exc:  # noqa: BLE001 - deliver's; `run` raises it
            self._crashed(exc)

    def _crashed(self, exc: Exception) -> None:
        self._frames.paused = True  # more frames may come out of the same read
        self._crash = exc
        self._abort()

    def _continue(self) -> None:
        """Deliver what is held and, if nobody paused meanwhile, read on."""
        self._push([])
        if not self._frames.paused:
            self._connection.start_keepalive(self._loop.time())
            self._watch()
            self._read(on=True)
        self._changed.notify()

    def _read(self, *, on: bool) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing() and transport.is_reading() != on:
            with asyncio_in_callbacks():  # resuming asks for callbacks anew
                (transport.resume_reading if on else transport.pause_reading)()

    def _flush(self) -> None:
        """Write what the connection wants to say, and notice that it is closing."""
        connection = self._connection
        chunks = connection.outgoing(congested=self._writes_paused)
        for chunk in chunks:
            if self._writes_paused:
                self._backlog += chunk
            else:
                self._write(chunk)
        if not connection.is_open:
            self._note_closing()

    def _write(self, chunk: bytes | bytearray) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(chunk)

    def _take_backlog(self, size: int) -> bytearray:
        taken = self._backlog[:size]
        del self._backlog[:size]
        return taken

    def _note_closing(self) -> None:
        if self._transport is None or self._lost:
            return
        if self._connection.wants_eof:
            if self._backlog:  # closing waits for it
                self._write(self._take_backlog(len(self._backlog)))
            self._transport.close()
        if self._close_timer is None and not self._connection.opening:
            self._close_timer = self._loop.call_later(self._close_timeout_s, self._abort)

    def _watch(self) -> None:
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        deadline = self._connection.next_deadline()
        if deadline is not None and not self._lost:
            self._ping_timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        if self._frames.paused:  # we do not read, so that we cannot judge
            self._connection.start_keepalive(self._loop.time())
        was_open = self._connection.is_open
        self._connection.tick(self._loop.time())
        self._flush()
        if was_open and not self._connection.is_open:
            self._abort()  # a peer that answers no ping answers no close
        self._watch()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _give_up(self) -> None:
        unsent = self.buffered_bytes
        self._connection.fail(1008, "the peer does not read")
        self._abort()
        raise TransportClosed(
            f"{unsent} bytes are unsent: the peer does not read",
            close=self._connection.close_info(),
        )

"""A connection over an anyio byte stream: the client on trio, the local server on both backends.

One task reads and delivers, one writes, one watches the keepalive; all of them live in `run`.
Rules:

* Nothing is awaited between the bytes and ``deliver``.
* While frames are held (paused, or nobody runs yet) nothing is read.
* Once either side has begun to close, the peer has ``close_timeout_s`` to end the stream. Then it
  is cut, and `run` returns; a peer that has answered no ping is cut at once. Frames that came
  before the end are delivered first, and our close frame gets out although the peer half-closed.
* A write that was cut off in the middle of a frame (its task was cancelled) cannot be followed by
  a close frame: then the stream is just closed.
* `run` may be cancelled; then the stream stays open until `aclose`, which still says goodbye
  (unless the rule above forbids it). Whoever cancels `run` calls `aclose`.
"""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from anyio import (
    CancelScope,
    EndOfStream,
    aclose_forcefully,
    create_task_group,
    current_time,
    move_on_after,
)
from anyio.abc import SocketAttribute, SocketStream

from realtime_bus.errors import TransportClosed

from ._buffers import DeliveryQueue, Signal, WriteBuffer, discard
from ._transport import CLOSE_TIMEOUT_S, close_or_cut

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import ByteStream

    from realtime_bus.errors import CloseInfo

    from ._connection import Connection

_READ_BYTES = 64 * 1024
_LAST_WORDS_S = 0.1  # for a close frame to a peer that has fallen silent
_RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # do not linger
_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class StreamTransport:
    """A transport over a byte stream; call `open`, then `run`.

    Args:
        stream: Connected; the transport owns and closes it.
        connection: From `client_connection` or `server_connection`, fresh.
        close_timeout_s: Seconds that the peer has to finish the closing handshake.

    Attributes:
        clock_ahead_s: How far the server's clock is ahead of ours, if it has told.
    """

    def __init__(
        self,
        stream: ByteStream,
        connection: Connection,
        *,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
    ) -> None:
        self.clock_ahead_s: float | None = None
        self._stream = stream
        self._connection = connection
        self._close_timeout_s = close_timeout_s
        self._frames = DeliveryQueue()
        self._unsent = WriteBuffer()
        self._resumed = Signal()
        self._read_scope: CancelScope | None = None
        self._running = False
        self._left = Signal()
        self._ended = False

    async def open(self) -> bool:
        """Shake hands and return whether there is a WebSocket now; the caller sets a time limit.

        A server's refusal has been written when this returns False; `aclose` then hangs up.
        """
        await self._write_now()
        while self._connection.opening:
            await self._read_once()
            await self._write_now()
        return self._connection.accepted

    async def run(self, deliver: Callable[[bytes], None]) -> CloseInfo:
        """Deliver each message as it comes, until the connection has ended, and return how it did.

        ``deliver`` must not raise: what it raises cuts the connection and comes out here.
        """
        while self._running:  # `aclose` came first and says goodbye
            await self._left.wait()
        if self._unsent.writing:  # `aclose` was cancelled in the middle of a frame
            await self.abort()
        if self._ended:
            return self._connection.close_info()
        self._frames.start(deliver)
        self._running = True
        try:
            await self._run_tasks()
        except Exception:
            await self._finish()
            raise
        finally:
            self._running = False
            self._left.notify()
        await self._finish()
        return self._connection.close_info()

    def send(self, frame: bytes) -> None:
        """Queue a text message.

        Raises:
            TransportClosed: The connection is closed or closing, or the peer stopped reading.
        """
        self._connection.send_text(frame)
        self._flush()
        if self._unsent.overfull:
            self._give_up()

    async def drain(self) -> None:
        """Wait until little is unsent.

        Raises:
            TransportClosed: The connection has ended.
        """
        await self._unsent.drain()
        if self._ended:
            raise TransportClosed("the connection has ended", close=self._connection.close_info())

    async def aclose(self, code: int | None = 1000, reason: str = "") -> None:
        """Close with a handshake and wait for it, at most ``close_timeout_s``; see `Connection`."""
        self._connection.close(code, reason)
        self._frames.abandon()
        self._flush()
        self._resumed.notify()
        if not self._ended:
            await close_or_cut(self._see_closing_through, self._finish)

    async def _see_closing_through(self) -> None:
        await anyio.lowlevel.checkpoint()  # who is cancelled already begins no write
        while self._running:
            await self._left.wait()
        if self._connection.closing and not self._unsent.writing and not self._ended:
            await self.run(discard)  # nobody else does (any more)

    async def abort(self, *, reset: bool = False, last_words_s: float = 0.0) -> None:
        """Cut the connection without a word; what is held back is dropped.

        Args:
            reset: By a TCP reset, in place of the stream's end.
            last_words_s: How long what was sent before may take to get out.
        """
        self._frames.abandon()
        with move_on_after(last_words_s):
            await self._unsent.drain(below_bytes=0)
        raw = self._stream.extra(SocketAttribute.raw_socket, None)  # noqa: S610  # not Django's
        if reset and raw is not None:
            with suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        await self._finish()
        self._resumed.notify()

    def pause(self) -> None:
        """Stop reading; what is parsed already is held."""
        self._frames.paused = True

    def resume(self) -> None:
        """Read again; what was held is delivered first."""
        self._frames.paused = False
        self._connection.start_keepalive(current_time())
        self._resumed.notify()

    @property
    def buffered_bytes(self) -> int:
        """How much is unsent."""
        return self._unsent.unsent_bytes

    # Tasks

    async def _run_tasks(self) -> None:
        crash: Exception | None = None
        async with create_task_group() as tasks:
            tasks.start_soon(self._write)
            tasks.start_soon(self._watch)
            try:
                await self._read()
            except Exception as exc:  # noqa: BLE001 - deliver's; raised below, out of the group
                crash = exc
            tasks.cancel_scope.cancel()
        if crash is not None:
            raise crash

    async def _read(self) -> None:
        with CancelScope() as scope:
            self._read_scope = scope
            self._flush()
            while not self._connection.closed or self._frames:
                if self._frames.paused:
                    await self._resumed.wait()
                elif self._frames:
                    self._frames.flush()
                else:
                    await self._read_once()
            if self._connection.said_close:  # the peer may have half-closed, and still read
                self._limit_reading()
                await self._unsent.drain(below_bytes=0)
        if scope.cancelled_caught:
            late = TimeoutError(f"the peer did not hang up within {self._close_timeout_s:g} s")
            self._connection.receive_eof(late)

    async def _read_once(self) -> None:
        try:
            data = await self._stream.receive(_READ_BYTES)
        except EndOfStream:
            self._connection.receive_eof()
        except _BROKEN as exc:
            self._connection.receive_eof(exc)
        else:
            self._frames.push(self._connection.receive(data))
        self._flush()

    async def _write(self) -> None:
        while not (self._connection.wants_eof and not self._unsent.unsent_bytes):
            try:
                await self._unsent.write(self._stream.send)
                self._flush()  # what waited for room
            except _BROKEN:
                # The reader learns how it ended: there may be a close frame left to read.
                self._limit_reading()
                self._unsent.end()
                return
            if not self._connection.wants_eof:
                await self._unsent.wait()
        await self._half_close()

    async def _watch(self) -> None:
        self._connection.start_keepalive(current_time())
        while (deadline := self._connection.next_deadline()) is not None:
            await anyio.sleep_until(deadline)
            if self._frames.paused:  # we do not read, so that we cannot judge
                self._connection.start_keepalive(current_time())
            was_open = self._connection.is_open
            self._connection.tick(current_time())
            self._flush()
            if was_open and not self._connection.is_open:  # it answers no close, either
                with move_on_after(_LAST_WORDS_S):
                    await self._unsent.drain(below_bytes=0)
                self._stop_reading()

    # Small steps

    def _flush(self) -> None:
        """Move what the connection wants to say to the writer, and notice that it is closing."""
        self._unsent.add(self._connection.outgoing(congested=self._unsent.high))
        if self._connection.closing:
            self._limit_reading()

    def _limit_reading(self) -> None:
        scope = self._read_scope
        if scope is not None:
            scope.deadline = min(scope.deadline, current_time() + self._close_timeout_s)

    def _give_up(self) -> None:
        self._connection.fail(1008, "the peer does not read")
        self._stop_reading()
        raise TransportClosed(
            f"{self._unsent.unsent_bytes} bytes are unsent: the peer does not read",
            close=self._connection.close_info(),
        )

    async def _write_now(self) -> None:
        """Write without the writer task, while shaking hands."""
        self._flush()
        try:
            await self._unsent.write(self._stream.send)
        except _BROKEN as exc:
            self._connection.receive_eof(exc)
        if self._connection.wants_eof:
            await self._half_close()

    async def _half_close(self) -> None:
        """End our side, so that the peer hangs up; TLS has no half, there we hang up first."""
        if isinstance(self._stream, SocketStream):
            with suppress(*_BROKEN):
                await self._stream.send_eof()
        else:
            self._stop_reading()

    def _stop_reading(self) -> None:
        self._connection.receive_eof()
        if self._read_scope is not None:
            self._read_scope.cancel()

    async def _finish(self) -> None:
        self._ended = True
        self._connection.receive_eof()
        self._unsent.end()
        await aclose_forcefully(self._stream)

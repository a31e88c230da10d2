"""`AsyncioTransport` with picows, a parser in C, between socket and ``deliver``.

Rules, beside those of `AsyncioTransport`, which this is:

* aiofastnet, which picows brings along, reads the socket and does TLS. picows' protocol, which the
  loop's transport gets once the connection is open, finds frames in a buffer of its own.
* The handshake, sending, closing, timers and limits stay as they are.
* A whole message goes straight to ``deliver``, copied once.
* Every other frame is put together again and given to the pure `Connection`, as the default
  transport does: it joins fragments, answers pings, closes. One place judges for both.
* What picows finds broken or too large, it wants to answer with a close frame. It is given a
  transport that writes nothing, but fails the connection with that code and reason: a little
  later, for picows still has the frame before that one to deliver. What the socket brings from
  then on is discarded.
* Only what comes next after a ping has to be noticed byte by byte, so only then does anything in
  Python stand between: the `_ActivityProbe`.

picows makes connections only together with its own handshake, which cuts the body of a refusal
off, and cannot be cancelled cleanly. So its protocol is made directly, and is shown an upgrade
that we answer ourselves: no header, and so no key, ever reaches it.
"""

from __future__ import annotations

import asyncio
import re
from logging import LoggerAdapter
from typing import TYPE_CHECKING, Any, Final

import aiofastnet
import picows
from picows import picows as _picows
from websockets.utils import accept_key, apply_mask

from ._asyncio import AsyncioTransport, asyncio_in_callbacks
from ._connection import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._connection import Connection

_TEXT: Final = picows.WSMsgType.TEXT
_BINARY: Final = picows.WSMsgType.BINARY
_ANY_BYTES: Final = (1 << 63) - 1
_ANSWER: Final = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: {}\r\n\r\n"
)
_WSProtocol: Any = getattr(_picows, "WSProtocol")  # noqa: B009 - not in picows' type stubs


class PicowsTransport(AsyncioTransport, picows.WSListener):
    """A transport that reads with picows; `connect` it to a socket, then `open` it.

    Args:
        connection: From `client_connection`, fresh.
        close_timeout_s: Seconds that the peer has to finish the closing handshake.
    """

    _reader: _Reader | None = None

    async def _create_connection(self, **options: Any) -> None:
        await aiofastnet.create_connection(self._loop, lambda: self, **options)

    async def open(self) -> bool:
        """Wait for the handshake, hand reading over, and tell whether there is a WebSocket now."""
        opened = await super().open()
        if opened and self._transport is not None and not self._transport.is_closing():
            # Nothing is read before `run`, so that no byte is between the two.
            self._reader = _Reader(self, self._connection, self._transport)
            self._transport.set_protocol(self._reader)
            self._reader.feed(self._connection.cutter.take_partial())
        return opened

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:  # noqa: ARG002 - picows' signature
        """Deliver a message, or let the connection see what it is."""
        kind, cutter = frame.msg_type, self._connection.cutter
        if (
            (kind is _TEXT or kind is _BINARY)
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3 or cutter.joining or cutter.ended)
        ):
            try:
                self._frames.push([frame.get_payload_as_bytes()])
            except Exception as exc:  # noqa: BLE001 - deliver's; `run` raises it
                self._crashed(exc)
        else:
            super().data_received(_whole(frame))

    def data_received(self, data: bytes) -> None:
        """Read the handshake; discard what comes once picows has failed."""
        if self._reader is None:
            super().data_received(data)

    def picows_failed(self, close_frame: bytes) -> None:
        """Fail the connection with what picows wanted to send."""
        self._connection.cutter.ended = True  # nothing goes past the connection any more
        if self._transport is not None:  # the loop may have more for picows in this very turn
            self._transport.set_protocol(self)
        with asyncio_in_callbacks():
            self._loop.call_soon(self._fail_with, close_frame)

    def _fail_with(self, close_frame: bytes) -> None:
        payload = apply_mask(close_frame[6:], close_frame[2:6])
        code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace")
        self._connection.fail(code, reason)
        self._flush()

    def _tick(self) -> None:
        super()._tick()
        reader, transport = self._reader, self._transport
        if reader is None or transport is None or self._connection.cutter.ended:
            return
        if self._connection.is_open:
            transport.set_protocol(_ActivityProbe(reader, self._connection, transport))


class _Reader(_WSProtocol):  # type: ignore[misc]  # the base class has no type
    """picows' protocol: the loop reads into it; all but frames goes to the owner."""

    def __init__(
        self, owner: PicowsTransport, connection: Connection, transport: asyncio.Transport
    ) -> None:
        def listen(_request: object, _response: object) -> PicowsTransport:
            return owner

        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # the base has no type
            "picows",  # host, for the request that nobody sees
            "/",
            True,  # a client
            listen,
            LoggerAdapter(SILENT),  # of a bare logger it makes a child, which is not silent
            False,  # do not disconnect on exceptions
            None,  # no handshake timeout
            False,  # no pings
            10,
            10,
            picows.WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # no pongs
            min(connection.cutter.max_bytes, _ANY_BYTES),
            None,  # no headers
            16 * 1024,  # read buffer; it grows
        )
        self._owner = owner
        self._null = _NullTransport(transport, owner.picows_failed)
        self.connection_made(self._null)
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", self._null.written[0])
        assert key is not None  # noqa: S101 - picows made the request
        self.feed(_ANSWER.format(accept_key(key[1].decode())).encode())

    def feed(self, data: bytes | bytearray) -> None:
        """Give picows bytes that were read by somebody else, unless it has failed."""
        while data and len(self._null.written) < 2:
            space: memoryview = self.get_buffer(-1)
            size = min(len(space), len(data))
            space[:size] = data[:size]
            self.buffer_updated(size)
            data = data[size:]

    def eof_received(self) -> bool:
        """Pass on the end of the stream."""
        return self._owner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on the end of the connection."""
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the socket takes no more."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it does again."""
        self._owner.resume_writing()


class _ActivityProbe(asyncio.BufferedProtocol):
    """Reports the first bytes after a ping, whatever they are, then hands back to the reader."""

    def __init__(
        self, reader: _Reader, connection: Connection, transport: asyncio.Transport
    ) -> None:
        self._reader = reader
        self._connection = connection
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to: picows' buffer."""
        space: memoryview = self._reader.get_buffer(sizehint)
        return space

    def buffer_updated(self, nbytes: int) -> None:
        """Report life, once."""
        self._connection.heard()
        self._transport.set_protocol(self._reader)
        self._reader.buffer_updated(nbytes)

    def eof_received(self) -> bool:
        """Pass on the end of the stream."""
        return self._reader.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on the end of the connection."""
        self._reader.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the socket takes no more."""
        self._reader.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it does again."""
        self._reader.resume_writing()


class _NullTransport:
    """The transport that picows sees: nothing is written to the peer.

    What picows writes is its request, and later, if at all, close frames because of something
    broken, of which the first counts.
    """

    def __init__(self, transport: asyncio.Transport, failed: Callable[[bytes], None]) -> None:
        self._transport = transport
        self._failed = failed
        self.written: list[bytes] = []

    def get_extra_info(self, name: str) -> Any:
        """Return what the real transport knows."""
        return self._transport.get_extra_info(name)

    def get_write_buffer_size(self) -> int:
        """Pretend that something is unsent: else picows would write past us to the socket."""
        return 1

    def write(self, data: bytes) -> None:
        """Keep it, if it is the request or the first close frame."""
        if len(self.written) < 2:
            self.written.append(data)
            if len(self.written) == 2:
                self._failed(data)

    def close(self) -> None:
        """Leave closing to the owner."""


def _whole(frame: picows.WSFrame) -> bytes:
    """Put a frame together again, as it came."""
    bits = (frame.fin << 7) | (frame.rsv1 << 6) | (frame.rsv2 << 5) | (frame.rsv3 << 4)
    payload = frame.get_payload_as_bytes()
    size = len(payload)
    head = bytes((bits | frame.msg_type.value,))
    if size < 126:
        return head + bytes((size,)) + payload
    if size < 1 << 16:
        return head + b"\x7e" + size.to_bytes(2, "big") + payload
    return head + b"\x7f" + size.to_bytes(8, "big") + payload

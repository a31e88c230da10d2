"""The default transport on asyncio, with picows' parser in C between socket and ``deliver``.

Rules, beside those of `AsyncioTransport`, which this is:

* The handshake, sending, closing, timers and limits stay as they are. Once the connection is
  open, reading is handed over to picows, which finds frames in a buffer of its own.
* A whole message goes straight to ``deliver``, copied once.
* Every other frame is put together again and given to the pure `Connection`, as the default
  transport does: it joins fragments, answers pings, closes. One place judges for both.
* What picows finds broken or too large, it wants to answer with a close frame. It is given a
  transport that writes nothing, but fails the connection with that code and reason.

picows makes connections only together with its own handshake, which cuts the body of a refusal
off, and cannot be cancelled cleanly. So its protocol is made directly, and is shown an upgrade
that we answer ourselves: no header, and so no key, ever reaches it.
"""

from __future__ import annotations

import asyncio
import re
from logging import LoggerAdapter
from typing import TYPE_CHECKING, Any, Final

import picows
from picows import picows as _picows
from websockets.utils import accept_key, apply_mask

from ._asyncio import AsyncioTransport
from ._connection import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._connection import Connection

__all__ = ["PicowsTransport"]

_TEXT: Final = picows.WSMsgType.TEXT
_BINARY: Final = picows.WSMsgType.BINARY
_ANY_BYTES: Final = (1 << 63) - 1
_ANSWER: Final = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: {}\r\n\r\n"
)


class PicowsTransport(AsyncioTransport, picows.WSListener):
    """A transport that reads with picows; give it to ``loop.create_connection``, then `open`.

    Args:
        connection: From `client_connection`, fresh.
        close_timeout_s: Seconds that the peer has to finish the closing handshake.
    """

    async def open(self) -> bool:
        """Wait for the handshake, hand reading over, and tell whether there is a WebSocket now."""
        opened = await super().open()
        if opened and self._transport is not None and not self._transport.is_closing():
            # Nothing is read before `run`, so that no byte is between the two.
            reader = _Reader(self, self._connection, self._transport)
            self._transport.set_protocol(reader)
            reader.feed(self._connection.cutter.take_partial())
        return opened

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:  # noqa: ARG002 - picows' signature
        """Deliver a message, or let the connection see what it is."""
        kind, cutter = frame.msg_type, self._connection.cutter
        if (
            (kind is _TEXT or kind is _BINARY)
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3 or cutter.joining or cutter.ended)
        ):
            self._push_one(frame.get_payload_as_bytes())
        else:
            self.data_received(_whole(frame))

    def picows_failed(self, close_frame: bytes) -> None:
        """Fail the connection with what picows wanted to send."""
        payload = apply_mask(close_frame[6:], close_frame[2:6])
        code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8", "replace")
        self._connection.fail(code, reason)
        self._flush()


class _Reader(asyncio.BufferedProtocol):
    """What the loop reads into: picows' buffer; all else goes to the transport."""

    def __init__(
        self, owner: PicowsTransport, connection: Connection, transport: asyncio.Transport
    ) -> None:
        self._owner = owner
        self._heard = connection.heard
        socket = self._socket = _Deaf(transport)
        parser: Any = _make_parser(owner, connection.cutter.max_bytes)
        parser.connection_made(socket)
        self._space: Callable[[int], memoryview] = parser.get_buffer
        self._updated: Callable[[int], None] = parser.buffer_updated
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", socket.take_written())
        assert key is not None  # noqa: S101 - picows made the request
        self.feed(_ANSWER.format(accept_key(key[1].decode())).encode())

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        return self._space(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        """Let picows look at what was read."""
        self._heard()
        self._updated(nbytes)
        if self._socket.written:  # now, for picows delivers messages after finding what is wrong
            self._owner.picows_failed(self._socket.take_written())

    def feed(self, data: bytes | bytearray) -> None:
        """Give picows bytes that were read by somebody else."""
        while data:
            space = self._space(-1)
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


class _Deaf:
    """The transport that picows sees: it keeps what is written.

    That is its request, and later, if at all, a close frame because of something broken.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.written = b""

    def get_extra_info(self, name: str) -> Any:
        """Tell of the real transport."""
        return self._transport.get_extra_info(name)

    def get_write_buffer_size(self) -> int:
        """Pretend that something is unsent: else picows would write past us to the socket."""
        return 1

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written = self.written or data

    def take_written(self) -> bytes:
        """Return it, and forget it."""
        written, self.written = self.written, b""
        return written

    def close(self) -> None:
        """Leave closing to the owner."""


def _make_parser(owner: PicowsTransport, max_bytes: int) -> Any:
    def listen(_request: object, _response: object) -> PicowsTransport:
        return owner

    protocol: Any = getattr(_picows, "WSProtocol")  # noqa: B009 - not in picows' type stubs
    return protocol(
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
        min(max_bytes, _ANY_BYTES),
        None,  # no headers
        16 * 1024,  # read buffer; it grows
    )


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

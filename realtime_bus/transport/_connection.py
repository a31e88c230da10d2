"""One WebSocket connection as data: bytes in, messages out; messages in, bytes out.

It is pure: no socket, no clock, no task. A driver (`_asyncio`, `_stream`) owns those. The frames,
masks and the handshake are `websockets`' Sans-I/O layer (RFC 6455); this class adds what a driver
needs around it, the same for client and server. Whole messages to a client go past its parser
(`_frames` says why that is safe): half of the parsing cost.

Rules:

* **opening** - the client's request is in `outgoing` from the start; the server answers in
  `receive`. `opening` turns False with the outcome: `is_open`, or `handshake_error`. Messages
  that came in the same bytes as the handshake are returned by the same `receive`.
* **open** - `receive` returns whole messages as bytes, fragments joined, text and binary alike.
  Whether text is UTF-8 is left to the decoder, which turns bad text into an event instead of
  ending the session. Pings are answered by themselves; of several whose answer is unsent, only
  the last (RFC 6455 5.5.3). A driver whose peer does not read keeps that one back, too
  (``outgoing(congested=True)``): a peer that pings and never reads must not fill our memory.
* **closing** - after our `close`, the peer's close frame, or a failure: nothing can be sent, and
  what the peer still sends after its close frame is discarded. `closing` is True until the end of
  the stream; a driver has to give it a time limit. A message above the size limit fails the
  connection with 1009, broken framing with 1002, silence after a ping with 1011.
* **closed** - after `receive_eof`. `close_info` tells how: the peer's code and reason if both
  sent a close frame (clean); the code we failed with; else 1006.
* After every call but the queries, write what `outgoing` returns; then half-close if `wants_eof`.
* **keepalive** - a ping goes out ``interval_s`` after the connection opened, then ``interval_s``
  after the last ping. The peer has ``timeout_s`` to show that it lives, else the connection has
  failed. Any bytes from it count, not only the pong: a pong may have to queue behind a large
  message on a slow line. While we do not read (back-pressure) we cannot hear the peer: the clock
  starts again on resuming. Nor can we while our own event loop stands still: who looks late (by
  `_LATE_S`, or a quarter of the timeout) looks once more, that much later, before it judges.
  What waits in the socket has been read by then.

No compression is offered or accepted: on base64 audio permessage-deflate saves a quarter of the
bytes and costs about 2 ms of CPU per second of audio to pack and 0.3 ms to unpack, several times
what all the rest of a session costs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Final, Literal

from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import CLOSED, CLOSING, OPEN

from realtime_bus._secrets import redact
from realtime_bus.errors import CloseInfo, TransportClosed

from ._frames import FrameCutter
from ._transport import check_close_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.client import ClientProtocol
    from websockets.protocol import Event
    from websockets.server import ServerProtocol

    from ._frames import Bytes

_LATE_S: Final = 1.0
_MESSAGE: Final = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})
_PONG: Final = b"\x8a"
_HEAD_END: Final = b"\r\n\r\n"
_REASON_BYTES: Final = 123  # a control frame holds 125 bytes, two of them are the code

# `websockets` logs request headers, and with them the key, at DEBUG. This logger is in no
# hierarchy, so that no logging configuration can switch it on. What it would have told about a
# failed parser is in `CloseInfo.error`.
SILENT: Final = logging.Logger("realtime_bus.transport")  # noqa: LOG001 - on purpose, see above
SILENT.disabled = True


class Connection:
    """A WebSocket connection without I/O, made by `client_connection` or `server_connection`.

    Attributes:
        opening: Whether the handshake is still going on.
        accepted: Whether it ended with a WebSocket (which may be closed again by now).
        response: The server's answer to our request, once it is there (client only).
        cutter: Decides which frames are messages at once (client only).
    """

    def __init__(
        self,
        protocol: ClientProtocol | ServerProtocol,
        *,
        keepalive: Keepalive,
        answer: Callable[[Request], None] | None = None,
        max_frame_bytes: int | None = None,
    ) -> None:
        self._protocol = protocol
        self._keepalive = keepalive
        self._answer = answer
        self._fragments: bytearray | None = None
        self.cutter = FrameCutter(max_frame_bytes, self._parse)
        self._cutting = False  # a client does, from the end of the handshake on
        self._unsent: list[bytes] = []
        self._pong = b""
        self._tail = b""  # of the answer to our request: the end of it may be in two reads
        self._failure: Exception | None = None  # we gave up
        self._lost: Exception | None = None  # the stream broke
        self._wants_eof = False
        self.opening = True
        self.accepted = False
        self.response: Response | None = None

    # Bytes in

    def receive(self, data: Bytes) -> list[bytes]:
        """Take bytes from the peer and return the messages that they complete, in order.

        The bytes are copied: the buffer may be used again afterwards.
        """
        if not data or self._protocol.reader.eof:
            return []
        self._keepalive.heard()
        if self._cutting:
            return self.cutter.cut(data)
        if self.opening and self._answer is None:
            return self._receive_answer(bytes(data))
        return self._parse(data)

    def receive_eof(self, error: Exception | None = None) -> None:
        """Note that nothing more will come; ``error`` is what broke the connection, if anything."""
        if error is not None and self._lost is None:
            self._lost = error
        self._parse(self.cutter.take_partial())  # so that it knows what is missing
        self._protocol.receive_eof()
        self.opening = False

    def heard(self) -> None:
        """Note that bytes came from the peer, for a driver that does not give them all to us."""
        self._keepalive.heard()

    # Bytes out

    def outgoing(self, *, congested: bool = False) -> list[bytes]:
        """Return the bytes to write, in order, and forget them.

        Args:
            congested: Nothing can be written for now: the answer to a ping can wait.
        """
        writes = self._unsent + self._protocol.data_to_send()
        self._unsent = []
        if writes and not writes[-1]:  # the empty marker that `websockets` ends the stream with
            self._wants_eof = True
            writes.pop()
        if self._pong and not congested:
            if self.is_open or writes:
                writes.insert(0, self._pong)  # ahead of a close frame, never behind it
            self._pong = b""
        return writes

    @property
    def wants_eof(self) -> bool:
        """Whether the write side has to be half-closed once `outgoing` is written."""
        return self._wants_eof

    def send_text(self, message: bytes) -> None:
        """Queue one text message (UTF-8).

        Raises:
            TransportClosed: The connection is not open (any more).
        """
        if self._protocol.state is not OPEN:
            raise TransportClosed("the connection is not open", close=self.close_info())
        self._protocol.send_text(message)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Start the closing handshake; without effect if it has begun.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999; None says none, which the peer sees as 1005.
            reason: Shortened to the 123 bytes that a close frame holds.

        Raises:
            UsageError: The code may not be sent.
        """
        if code is not None:
            check_close_code(code)
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, "" if code is None else _shorten(reason))

    def fail(self, code: int, reason: str, error: Exception | None = None) -> None:
        """Give the connection up: say why if that is still possible, and read no further."""
        if self._failure is None:
            self._failure = error or ConnectionError(reason)
        self.cutter.ended = True
        if self._protocol.state is OPEN:
            self._protocol.fail(code, _shorten(reason))

    # The clock

    def start_keepalive(self, now: float) -> None:
        """Start counting: the connection has opened, or reading has resumed."""
        self._keepalive.start(now)

    def next_deadline(self) -> float | None:
        """Tell when `tick` has to be called, or None for never."""
        return self._keepalive.next_deadline() if self.is_open else None

    def tick(self, now: float) -> None:
        """Ping when it is time, and fail with 1011 when a ping was not answered."""
        action = self._keepalive.tick(now) if self.is_open else None
        if action == "ping":
            self._protocol.send_ping(b"")
        elif action == "fail":
            self.fail(1011, "keepalive ping timeout", TimeoutError("keepalive ping timeout"))

    # What is the case

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._protocol.state is OPEN

    @property
    def said_close(self) -> bool:
        """Whether there was a close frame of ours, which the peer ought to get."""
        return self._protocol.close_sent is not None

    @property
    def closing(self) -> bool:
        """Whether the end of the stream is due: a driver sets itself a time limit."""
        return self._protocol.close_expected()

    @property
    def closed(self) -> bool:
        """Whether the stream has ended."""
        return self._protocol.state is CLOSED

    @property
    def handshake_error(self) -> Exception | None:
        """Why the handshake failed, or None; its text may hold what the peer sent."""
        return self._protocol.handshake_exc

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on."""
        return self._protocol.subprotocol

    def close_info(self) -> CloseInfo:
        """Tell how the connection ended (while it is open: 1006, nobody said goodbye yet).

        Keys are taken out of the peer's words.
        """
        protocol = self._protocol
        received, sent = protocol.close_rcvd, protocol.close_sent
        told = received or sent
        parser_error = protocol.parser_exc
        if isinstance(parser_error, EOFError):
            parser_error = None  # the stream ended: not we gave up
        if (failure := self._failure or parser_error) is not None:
            code, reason = (1006, "") if told is None else (int(told.code), redact(told.reason))
            return CloseInfo(code=code, reason=reason, clean=False, error=failure)
        if received is None or sent is None:
            return CloseInfo(code=1006, clean=False, error=self._lost or protocol.parser_exc)
        # An echo without a code says nothing about the code that we closed with.
        told = sent if received.code == 1005 and not protocol.close_rcvd_then_sent else received
        return CloseInfo(code=int(told.code), reason=redact(told.reason), clean=True)

    # Inside

    def _receive_answer(self, data: bytes) -> list[bytes]:
        """Let the protocol see the answer to our request, and cut what follows it."""
        begun, self._tail = self._tail, (self._tail + data)[-len(_HEAD_END) + 1 :]
        found = (begun + data).find(_HEAD_END)
        if found < 0:
            return self._parse(data)
        end = found + len(_HEAD_END) - len(begun)
        messages = self._parse(data[:end])
        # Exactly here the protocol's parser is between the handshake and the first frame.
        self._cutting = self._protocol.state is OPEN
        rest = data[end:]
        return messages + (self.cutter.cut(rest) if self._cutting else self._parse(rest))

    def _parse(self, data: Bytes) -> list[bytes]:
        """Give bytes to the protocol and return the messages that they complete."""
        protocol = self._protocol
        if not data or protocol.reader.eof:
            return []
        protocol.receive_data(bytes(data))
        for write in protocol.data_to_send():
            if write[:1] == _PONG:
                self._pong = write
            else:
                self._unsent.append(write)
        events: Sequence[Event] = protocol.events_received()
        if self.opening:
            events = self._open(events)
        messages = self._messages(events)
        if protocol.close_rcvd is not None or protocol.parser_exc is not None:
            self.cutter.ended = True
        self.cutter.join(None if self._fragments is None else len(self._fragments))
        return messages

    def _open(self, events: Sequence[Event]) -> Sequence[Event]:
        """Take the handshake from the front of what came."""
        if not events:
            self.opening = self._protocol.handshake_exc is None and not self._protocol.eof_sent
            return events
        first, self.opening = events[0], False
        if isinstance(first, Response):
            self.response = first
        elif isinstance(first, Request) and self._answer is not None:
            self._answer(first)
        self.accepted = self._protocol.state in {OPEN, CLOSING}
        return events[1:]

    def _messages(self, events: Sequence[Event]) -> list[bytes]:
        """Join fragments; `websockets` has checked their order and total size."""
        messages: list[bytes] = []
        for frame in events:
            if not isinstance(frame, Frame) or frame.opcode not in _MESSAGE:
                continue
            if frame.fin and self._fragments is None:
                messages.append(bytes(frame.data))
                continue
            if self._fragments is None:
                # One growing buffer, not a list: endless empty fragments must not cost memory.
                self._fragments = bytearray()
            self._fragments += frame.data
            if frame.fin:
                messages.append(bytes(self._fragments))
                self._fragments = None
        return messages


def _shorten(reason: str) -> str:
    return reason.encode("utf-8", "replace")[:_REASON_BYTES].decode("utf-8", "ignore")


class Keepalive:
    """When to ping, and when to give up: a pure function of a monotonic clock, in seconds.

    Args:
        interval_s: Between pings; None sends none.
        timeout_s: Until the peer has to show life; None never fails.
    """

    __slots__ = (
        *("_due", "_heard", "_interval_s", "_looks_again", "_pinged_at", "_timeout_s", "_waiting"),
    )

    def __init__(self, *, interval_s: float | None, timeout_s: float | None) -> None:
        self._interval_s: Final = inf if interval_s is None else interval_s
        self._timeout_s: Final = inf if timeout_s is None else timeout_s
        self._due = inf
        self._pinged_at = 0.0
        self._waiting = False
        self._heard = False
        self._looks_again = False

    def start(self, now: float) -> None:
        """Count from now: the connection has opened, or reading has resumed."""
        self._pinged_at, self._waiting = now, False
        self._due = now + self._interval_s

    def heard(self) -> None:
        """Note that bytes came from the peer."""
        self._heard = True

    def next_deadline(self) -> float | None:
        """Tell when `tick` wants to be called next, or None for never."""
        return None if self._due == inf else self._due

    def tick(self, now: float) -> Literal["ping", "fail"] | None:
        """Say what is due at ``now``; early calls do no harm."""
        if now < self._due:
            return None
        if self._waiting and not self._heard and self._timeout_s < inf:
            return self._judge(now)
        self._waiting, self._due = False, self._pinged_at + self._interval_s
        if now < self._due:
            return None
        self._pinged_at, self._waiting, self._heard = now, True, False
        self._looks_again = False
        # Look again at whichever comes first: the next ping may be due before the answer is.
        self._due = now + min(self._interval_s, self._timeout_s)
        return "ping"

    def _judge(self, now: float) -> Literal["fail"] | None:
        if self._looks_again:
            return "fail"
        self._due = self._pinged_at + self._timeout_s
        late_s = min(_LATE_S, self._timeout_s / 4)
        if now < self._due + late_s:
            return "fail" if now >= self._due else None
        self._looks_again, self._due = True, now + late_s
        return None

"""Cut a server's bytes into frames, so that whole messages need no parser.

`websockets` parses by stepping a generator several times a frame, which costs more than decoding
a small event: without this file a frame takes 8.1 us from socket to handler at full speed, with it
5.1 (benchmarks, `full_speed`). Nearly all that a server sends is one kind of frame: a whole
message, unmasked. Its header of two to ten bytes is read here, and its payload is copied once.
Rules:

* Only ``FIN`` with text or binary, no reserved bit, no mask, within the size limit and outside
  of a fragmented message is a message at once.
* Every other frame (ping, pong, close, fragment, and anything broken) goes to `websockets`, which
  alone knows the state of the connection, answers and judges.
* It gets such frames whole, so that its parser is always between two frames. This is why it is
  safe to keep the messages in between from it.
* The exception is a frame that cannot be accepted: too large, masked, or of no known kind. What
  there is of it is handed over as soon as its header shows that, and everything after it.
* An unfinished frame is kept until the rest comes: at most the size limit and one read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Bytes = bytes | bytearray | memoryview

_MESSAGES: Final = frozenset({0x81, 0x82})  # FIN with text, FIN with binary
_OPCODES: Final = frozenset({0, 1, 2, 8, 9, 10})
_ANY_BYTES: Final = 1 << 64  # more than a header can say
_REFUSED_BYTES: Final = _ANY_BYTES + 1


class FrameCutter:
    """Find messages in a server's bytes.

    Args:
        max_bytes: The largest message; None for any.
        other: Takes all other frames, and returns the messages that they complete.

    Attributes:
        max_bytes: The largest message.
        joining: Whether a fragmented message has begun: then every frame goes to ``other``.
        room_bytes: How large the next frame may be.
        ended: Whether all that still comes goes to ``other``, uncut.
    """

    __slots__ = ("_needed", "_other", "_partial", "ended", "joining", "max_bytes", "room_bytes")

    def __init__(self, max_bytes: int | None, other: Callable[[Bytes], list[bytes]]) -> None:
        self.max_bytes = _ANY_BYTES if max_bytes is None else max_bytes
        self._other = other
        self._partial = bytearray()
        self._needed = 0
        self.joining = False
        self.room_bytes = self.max_bytes
        self.ended = False

    def join(self, joined_bytes: int | None) -> None:
        """Note how much there is of a fragmented message; None between messages."""
        self.joining = joined_bytes is not None
        self.room_bytes = self.max_bytes - (joined_bytes or 0)

    def cut(self, data: Bytes) -> list[bytes]:
        """Return the messages that are complete now, in order; ``data`` may be reused after."""
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed:
                return []
            data = self.take_partial()
        view = memoryview(data)
        messages: list[bytes] = []
        rest = self._cut(view, messages)
        if rest < len(view):
            self._partial += view[rest:]
        return messages

    def take_partial(self) -> bytearray:
        """Return the beginning of an unfinished frame, and forget it."""
        partial, self._partial = self._partial, bytearray()
        return partial

    def _cut(self, view: memoryview, messages: list[bytes]) -> int:
        """Cut what is whole, and tell where the rest begins."""
        start, size = 0, len(view)
        while start < size and not self.ended:
            begin, length = start + 2, view[start + 1] if size > start + 1 else 0
            if length > 125:
                begin, length = _long(view, start, length)
            end = begin + length
            if length > self.room_bytes or (end > size and view[start] & 15 not in _OPCODES):
                self.ended = True
            elif end > size:
                self._needed = end - start
                return start
            elif view[start] in _MESSAGES and not self.joining:
                messages.append(bytes(view[begin:end]))
                start = end
            else:
                messages += self._other(view[start:end])
                start = end
        if start < size:
            messages += self._other(view[start:])
        return size


def _long(view: memoryview, start: int, length: int) -> tuple[int, int]:
    """Read a header whose length does not fit into seven bits: where the payload begins, its size.

    A header that is not there yet has an empty payload, which begins where it will end.
    """
    if length > 127:
        return start + 2, _REFUSED_BYTES  # masked: only a client may do that
    begin = start + (4 if length == 126 else 10)
    return begin, int.from_bytes(view[start + 2 : begin], "big") if begin <= len(view) else 0

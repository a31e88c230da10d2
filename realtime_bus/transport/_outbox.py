"""Bytes on their way to a stream: a synchronous `add`, and a task that writes.

Bound: `MAX_UNSENT_BYTES`; the transport looks at `overfull` and gives the connection up, because
a peer that takes nothing for so long is gone, and dropping single messages would bend the
conversation. Senders that can wait use `drain`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ._limits import HIGH_WATER_BYTES, MAX_UNSENT_BYTES
from ._signal import Signal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["Outbox"]

_JOIN_BYTES = 16 * 1024  # small writes are joined: one system call costs more than the copy


class Outbox:
    """Unsent bytes, in order.

    Attributes:
        unsent_bytes: How much `add` took that has not been written.
        writing: Whether a write is under way, or was cut off in the middle.
    """

    __slots__ = ("_chunks", "_drained", "_ended", "_more", "unsent_bytes", "writing")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._more = Signal()
        self._drained = Signal()
        self._ended = False
        self.unsent_bytes = 0
        self.writing = False

    @property
    def overfull(self) -> bool:
        """Whether the bound has been crossed."""
        return self.unsent_bytes > MAX_UNSENT_BYTES

    @property
    def high(self) -> bool:
        """Whether senders had better wait."""
        return self.unsent_bytes > HIGH_WATER_BYTES

    def add(self, chunks: Iterable[bytes]) -> None:
        """Queue bytes and wake the writer."""
        for chunk in chunks:
            self._chunks.append(chunk)
            self.unsent_bytes += len(chunk)
        self._more.notify()

    def end(self) -> None:
        """Let everybody go who waits: nothing will be written any more."""
        self._ended = True
        self._chunks.clear()
        self.unsent_bytes = 0
        self._more.notify()
        self._drained.notify()

    async def drain(self) -> None:
        """Wait until little is unsent, or the end."""
        while self.high and not self._ended:
            await self._drained.wait()

    async def wait(self) -> None:
        """Wait for something to write, for `wake`, or for the end."""
        if not self._chunks and not self._ended:
            await self._more.wait()

    def wake(self) -> None:
        """Wake the writer for another reason than bytes."""
        self._more.notify()

    async def write(self, send: Callable[[bytes], Awaitable[object]]) -> None:
        """Write all that is queued; only one task may do so at a time."""
        while self._chunks:
            chunk = self._take()
            self.writing = True
            await send(chunk)
            self.writing = False
            # `end` may have come in between and set the count to 0.
            self.unsent_bytes = max(0, self.unsent_bytes - len(chunk))
            self._drained.notify()

    def _take(self) -> bytes:
        """Take the next chunk, or several small ones joined."""
        chunks = self._chunks
        if len(chunks) == 1 or len(chunks[0]) >= _JOIN_BYTES:
            return chunks.popleft()
        parts, size = [chunks.popleft()], 0
        while chunks and size < _JOIN_BYTES:
            size += len(chunks[0])
            parts.append(chunks.popleft())
        return b"".join(parts)

"""What stands between a socket and a session: frames to deliver, bytes to write, and a wake-up.

Bounds: a `DeliveryQueue` holds what was parsed from one read (drivers stop reading while frames
are held), except for transports that are fed by hand: there, and in a `WriteBuffer`, it is
`MAX_UNSENT_BYTES`, each frame counting `FRAME_BYTES` more for itself. The transport looks at
``overfull`` and gives the connection up, because a peer that takes nothing for so long is gone,
and dropping single messages would bend the conversation. Senders that can wait use ``drain``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

HIGH_WATER_BYTES: Final = 64 * 1024
"""``drain()`` waits while more than this is unsent: 1 s of base64 PCM at 24 kHz."""

MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024
"""Above this much unsent data the peer is taken for dead and the connection is given up: four of
the protocol's largest events. Dropping single frames would silently bend the conversation."""

FRAME_BYTES: Final = 64
"""What a frame counts beside its bytes where frames queue up: about what an object costs."""

_JOIN_BYTES: Final = 16 * 1024  # small writes are joined: one system call costs more than the copy


class Signal:
    """A reusable wake-up, free when nobody waits.

    Check your condition, then `wait`, with nothing awaited between.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def notify(self) -> None:
        """Wake all waiters."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Sleep until the next `notify`."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()


class DeliveryQueue:
    """Frames in front of ``deliver``; empties itself whenever it may.

    Order is kept whatever happens: frames that come while ``deliver`` runs, before `start`, or
    while paused queue up and go out first. Nothing is dropped before `abandon`.

    Attributes:
        paused: Whether delivery is stopped for now.
    """

    __slots__ = ("_deliver", "_delivering", "_held", "paused")

    def __init__(self) -> None:
        self._held: deque[bytes] = deque()
        self._deliver: Callable[[bytes], None] | None = None
        self._delivering = False
        self.paused = False

    def __len__(self) -> int:
        return len(self._held)

    @property
    def held_bytes(self) -> int:
        """How much is held, in bytes; it takes time by their number."""
        return sum(map(len, self._held))

    def start(self, deliver: Callable[[bytes], None]) -> None:
        """Deliver to this function from now on; `flush` gives it what is held."""
        self._deliver = deliver

    @property
    def started(self) -> bool:
        """Whether there is somebody to deliver to."""
        return self._deliver is not None

    def push(self, frames: Iterable[bytes]) -> None:
        """Add frames and deliver what may be delivered."""
        self._held.extend(frames)
        self.flush()

    def flush(self) -> None:
        """Deliver what is held, until paused; what ``deliver`` raises comes out here.

        A cancellation that it raises is none of whoever reads: it comes out as RuntimeError.
        """
        deliver, held = self._deliver, self._held
        if deliver is None or self._delivering:
            return
        self._delivering = True
        try:
            while held and not self.paused:
                deliver(held.popleft())
        except (Exception, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            raise RuntimeError(f"deliver raised {type(exc).__name__}") from exc
        finally:
            self._delivering = False

    def abandon(self) -> None:
        """Drop what is held back and all that follows it, because the owner is leaving.

        Frames that can be delivered at once still are: a gap would be worse than an early end.
        """
        if self.paused or self._deliver is None:
            self._held.clear()
            self._deliver = discard
            self.paused = False


def discard(_frame: bytes) -> None:
    """Deliver to nobody."""


class WriteBuffer:
    """Unsent bytes, in order: a synchronous `add`, and one task that writes.

    Args:
        join: Whether small chunks may be joined into one write.

    Attributes:
        unsent_bytes: How much `add` took that has not been written.
        writing: Whether a write is under way, or was cut off in the middle.
    """

    __slots__ = ("_chunks", "_ended", "_join", "_more", "_written", "unsent_bytes", "writing")

    def __init__(self, *, join: bool = True) -> None:
        self._chunks: deque[bytes] = deque()
        self._join = join
        self._more = Signal()
        self._written = Signal()
        self._ended = False
        self.unsent_bytes = 0
        self.writing = False

    @property
    def overfull(self) -> bool:
        """Whether the bound has been crossed."""
        return self.unsent_bytes + FRAME_BYTES * len(self._chunks) > MAX_UNSENT_BYTES

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
        """Wake all waiters: nothing will be written any more."""
        self._ended = True
        self._chunks.clear()
        self.unsent_bytes = 0
        self._more.notify()
        self._written.notify()

    async def drain(self, below_bytes: int = HIGH_WATER_BYTES) -> None:
        """Wait until no more than this is unsent, or the end."""
        while self.unsent_bytes > below_bytes and not self._ended:
            await self._written.wait()

    async def wait(self) -> None:
        """Wait for something to write, or for the end."""
        if not self._chunks and not self._ended:
            await self._more.wait()

    async def write(self, send: Callable[[bytes], Awaitable[object]]) -> None:
        """Write all that is queued; only one task may do so at a time."""
        while self._chunks:
            chunk = self._take()
            self.writing = True
            await send(chunk)
            self.writing = False
            # `end` may have come in between and set the count to 0.
            self.unsent_bytes = max(0, self.unsent_bytes - len(chunk))
            self._written.notify()

    def _take(self) -> bytes:
        """Take the next chunk, or several small ones joined."""
        chunks = self._chunks
        if not self._join or len(chunks) == 1 or len(chunks[0]) >= _JOIN_BYTES:
            return chunks.popleft()
        parts, size = [chunks.popleft()], 0
        while chunks and size < _JOIN_BYTES:
            size += len(chunks[0])
            parts.append(chunks.popleft())
        return b"".join(parts)

"""What waits for whoever is slow, bounded twice: in number and in bytes.

Rules:

1. An event weighs what its frame does, which it may keep whole; a frame of up to `LIGHT_BYTES`
   weighs nothing: ten thousand of those are 20 MiB at most, and hardly any frame is counted.
2. At either bound room is made: the oldest go, until the new one fits. One that is larger than the
   bound alone waits alone.
3. What goes is counted in `dropped`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from msgspec import Raw

from realtime_bus.codec._audio import parts
from realtime_bus.events import BusEvent, Event, HandlerFailed, InvalidFrame, UnknownEvent
from realtime_bus.events._audio import LazyBase64

_T = TypeVar("_T")

MAX_EVENTS = 10_000
"""Events that may wait: minutes of audio deltas."""

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of frames that may wait: six minutes of PCM16 as base64 text."""

LIGHT_BYTES: Final = 2048
"""Up to here a frame is not counted."""

_WITH_FRAMES = (UnknownEvent, InvalidFrame, HandlerFailed)  # which its traceback keeps


def weight_bytes(event: Event) -> int:
    """Return what an event weighs of which no frame is at hand: the text and audio in it."""
    total = sum(_length(part) for _, part in parts(event))
    return total if total > LIGHT_BYTES else 0


def _length(part: object) -> int:
    if isinstance(part, LazyBase64):
        return len(part.frame)
    return (
        len(bytes(part))
        if isinstance(part, Raw)
        else len(part)
        if isinstance(part, str | bytes)
        else 0
    )


def is_light(cls: type[Event]) -> bool:
    """Tell events that are no part of the frame in whose dispatch they are emitted."""
    return issubclass(cls, BusEvent) and not issubclass(cls, _WITH_FRAMES)


class Backlog(Generic[_T]):
    """A queue for one reader.

    Args:
        max_items: How many may wait.
        max_bytes: How much they may weigh.
        on_drop: Called with each that goes.

    Attributes:
        dropped: How many have gone unread.
        pending_bytes: What waits weighs so much.
    """

    def __init__(
        self,
        *,
        max_items: int | None = None,
        max_bytes: int | None = None,
        on_drop: Callable[[_T], Any] | None = None,
    ) -> None:
        self.dropped: int = 0
        self._items: deque[tuple[_T, int]] = deque()
        self.pending_bytes: int = 0
        self._max_items = MAX_EVENTS if max_items is None else max_items
        self._max_bytes = MAX_BYTES if max_bytes is None else max_bytes
        self._on_drop = on_drop

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: _T, length_bytes: int) -> bool:
        """Add an item; return False if others had to go for it."""
        before = self.dropped
        while self._items and (
            len(self._items) >= self._max_items
            or self.pending_bytes + length_bytes > self._max_bytes
        ):
            self.dropped += 1
            gone = self.take()
            if self._on_drop is not None:
                self._on_drop(gone)
        self._items.append((item, length_bytes))
        self.pending_bytes += length_bytes
        return self.dropped == before

    def take(self) -> _T:
        """Take the oldest out."""
        item, length_bytes = self._items.popleft()
        self.pending_bytes -= length_bytes
        return item

    def clear(self) -> None:
        """Forget all."""
        self._items.clear()
        self.pending_bytes = 0

"""Between parsing and delivering: frames wait here while nobody may be given any.

Order is kept whatever happens: frames that come while ``deliver`` runs, or before `run` began, or
while reading is paused, queue up and go out first. Bound: what was parsed from one read (drivers
stop reading while frames are held), except for transports that are fed by hand, where the
application sees ``paused``. Nothing is dropped before `abandon`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Inbox", "discard"]


class Inbox:
    """A queue in front of ``deliver`` that empties itself whenever it may.

    Attributes:
        paused: Whether delivery is stopped for now.
        held_bytes: How much waits.
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
        """How much waits, in bytes."""
        return sum(map(len, self._held))

    def start(self, deliver: Callable[[bytes], None]) -> None:
        """Deliver to this function from now on; `flush` gives it what is held."""
        self._deliver = deliver

    @property
    def started(self) -> bool:
        """Whether somebody takes the frames."""
        return self._deliver is not None

    def push(self, frames: Iterable[bytes]) -> None:
        """Add frames and deliver what may be delivered."""
        self._held.extend(frames)
        self.flush()

    def push_one(self, frame: bytes) -> None:
        """Add one frame; without a queue if it may be delivered at once, as nearly always."""
        deliver = self._deliver
        if deliver is None or self.paused or self._delivering or self._held:
            self._held.append(frame)
            self.flush()
            return
        self._delivering = True
        try:
            deliver(frame)
        finally:
            self._delivering = False
        if self._held:  # ``deliver`` had more come in
            self.flush()

    def flush(self) -> None:
        """Deliver what is held, until paused; what ``deliver`` raises comes out here."""
        deliver, held = self._deliver, self._held
        if deliver is None or self._delivering:
            return
        self._delivering = True
        try:
            while held and not self.paused:
                deliver(held.popleft())
        finally:
            self._delivering = False

    def abandon(self) -> None:
        """Forget what is held back and all that follows it, for we are leaving.

        Frames that can be delivered at once still are: a gap would be worse than an early end.
        """
        if self.paused or self._deliver is None:
            self._held.clear()
            self._deliver = discard
            self.paused = False


def discard(_frame: bytes) -> None:
    """Deliver to nobody."""

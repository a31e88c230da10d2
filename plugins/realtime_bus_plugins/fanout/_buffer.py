"""What is to be published, in order, until the broker has it: pure.

Rules:

1. A message waits, then is in flight, then is acknowledged. Its place is given up only then, or
   when the broker says that it will never take it.
2. When what is in flight is in doubt (the connection broke, or an error came), all of it goes back
   to the head of the queue, in order. Messages carry ids, by which the broker knows those that it
   has already. After that one message goes alone, as a probe, and the others when it has arrived:
   else a stream that is just coming up could refuse the first and take the second.
3. Of one session (`Message.owner`) one message is in flight at a time; what follows it is set aside
   until that has arrived. So a broker that loses or refuses one and takes the next, as when a
   cluster changes its leader, cannot store them in another order.
4. The bound counts what waits and what is in flight, in messages and in bytes. Beyond it the oldest
   that waits is dropped, or the new one, and counted.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from operator import attrgetter
from typing import Any, Literal

import msgspec

Overflow = Literal["drop_oldest", "drop_newest"]


class Message(msgspec.Struct, eq=False):
    """One message to publish.

    Attributes:
        subject: Where to.
        payload: The frame, or the event as JSON.
        key: What names it: a second one with the same key is no second event.
        headers: The others.
        owner: Whose it is; those of one owner go one after the other.
        number: Its place in this process's order.
    """

    subject: str
    payload: bytes
    key: str
    headers: dict[str, str]
    owner: Any
    number: int = 0

    @property
    def weight_bytes(self) -> int:
        """What it takes up."""
        return len(self.payload) + len(self.subject) + 256


class Buffer:
    """Messages on their way to the broker.

    Args:
        max_pending: How many may wait or be in flight.
        max_pending_bytes: How much they may weigh.
        max_in_flight: How many may be in flight.
        overflow: What is dropped beyond that.

    Attributes:
        pending_bytes: What all of them weigh.
        dropped: How many were dropped.
        acknowledged: How many the broker has.
        resent: How many were sent again.
        probing: Whether one message goes alone.
    """

    def __init__(
        self, *, max_pending: int, max_pending_bytes: int, max_in_flight: int, overflow: Overflow
    ) -> None:
        self.pending_bytes: int = 0
        self.dropped: int = 0
        self.acknowledged: int = 0
        self.resent: int = 0
        self.probing: bool = True
        self._max_pending = max_pending
        self._max_pending_bytes = max_pending_bytes
        self._max_in_flight = max_in_flight
        self._overflow: Overflow = overflow
        self._queue: deque[Message] = deque()
        self._aside: dict[Any, deque[Message]] = {}  # by owners that have one in flight or next
        self._next: deque[Message] = deque()  # whose turn has come
        self._waiting = 0
        self._flight: dict[int, Message] = {}
        self._numbers = 0
        self._tokens = 0

    def __len__(self) -> int:
        return self._waiting + len(self._flight)

    @property
    def oldest_in_flight(self) -> int:
        """The token of what was sent first of all that has no answer; 0 if there is none."""
        return next(iter(self._flight), 0)

    def put(self, message: Message) -> Message | None:
        """Queue a message; return what was dropped for it: another, or itself."""
        fits = (
            len(self) < self._max_pending
            and self.pending_bytes + message.weight_bytes <= self._max_pending_bytes
        )
        dropped: Message | None = None
        if not fits:
            self.dropped += 1
            if self._overflow == "drop_newest" or not self._waiting:
                return message
            dropped = self._drop_oldest()
        self._numbers += 1
        message.number = self._numbers
        self._queue.append(message)
        self._waiting += 1
        self.pending_bytes += message.weight_bytes
        return dropped

    @property
    def sendable(self) -> bool:
        """Whether something may be sent now."""
        allowed = 1 if self.probing else self._max_in_flight
        if len(self._flight) >= allowed:
            return False
        if self._next:
            return True
        while self._queue and self._queue[0].owner in self._aside:
            message = self._queue.popleft()
            self._aside[message.owner].append(message)
        return bool(self._queue)

    def take(self) -> tuple[int, Message]:
        """Take what is `sendable`, and the token by which its answer will be known."""
        message = (self._next or self._queue).popleft()
        self._waiting -= 1
        self._aside.setdefault(message.owner, deque())
        self._tokens += 1
        self._flight[self._tokens] = message
        return self._tokens, message

    def acknowledge(self, token: int) -> Message | None:
        """Note that the broker has a message; None if that is known, or it was taken back."""
        message = self._flight.pop(token, None)
        if message is None:
            return None
        self._done(message)
        self.acknowledged += 1
        self.probing = False
        return message

    def reject(self, token: int) -> Message | None:
        """Give up a message that the broker will never take."""
        message = self._flight.pop(token, None)
        if message is not None:
            self._done(message)
        return message

    def _done(self, message: Message) -> None:
        self.pending_bytes -= message.weight_bytes
        self._next_turn(message.owner)

    def _next_turn(self, owner: Any) -> None:
        aside = self._aside[owner]
        if aside:
            self._next.append(aside.popleft())
        else:
            del self._aside[owner]

    def _drop_oldest(self) -> Message:
        """Drop what waits longest: what was set aside is older than what is in the queue."""
        aside = [waiting for waiting in self._aside.values() if waiting]
        if aside:
            dropped = min(aside, key=lambda waiting: waiting[0].number).popleft()
        elif self._queue:
            dropped = self._queue.popleft()
        else:
            dropped = self._next.popleft()
            self._next_turn(dropped.owner)
        self._waiting -= 1
        self.pending_bytes -= dropped.weight_bytes
        return dropped

    def rewind(self) -> None:
        """Take back what is in flight, for it is in doubt."""
        self.resent += len(self._flight)
        again = [*self._flight.values(), *self._next, *chain(*self._aside.values()), *self._queue]
        self._queue = deque(sorted(again, key=attrgetter("number")))
        self._waiting = len(self._queue)
        self._flight.clear()
        self._next.clear()
        self._aside.clear()
        self.probing = True

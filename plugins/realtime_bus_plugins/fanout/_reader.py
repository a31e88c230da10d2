"""Reads one partition: pulls as much as it may have in hand, and acknowledges what is done.

Rules:

1. The consumer acknowledges all up to a number. So events settle in any order, and the broker is
   told how far everything is done: the floor. Whoever goes on after this worker begins there.
2. No more is pulled than `prefetch` allows to be unsettled: that is the back-pressure. Nor is more
   than `_MAX_AHEAD` times that, done or not, between the floor and the newest.
3. A hole in what the consumer has delivered, a heartbeat that does not come, or a consumer that has
   gone: the reader is broken, and whoever made it makes another one, from the floor.
4. What is in hand already when it comes again is ignored.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import anyio

from realtime_bus.log import get_logger

from ._broker import Broker
from ._nats import broker_errors

_MAX_AHEAD: Final = 20
_HEARTBEAT_S: Final = 2.0
_EXPIRES_S: Final = 30.0


class Progress:
    """What of a partition is in hand, and up to where everything is done: pure.

    Attributes:
        floor: Everything up to this sequence number is done.
        newest: The highest number that has come.
        unsettled: How many are in hand.
    """

    def __init__(self, floor: int) -> None:
        self.floor: int = floor
        self.newest: int = floor
        self.unsettled: int = 0
        self._order: deque[int] = deque()
        self._done: dict[int, bool] = {}

    def __len__(self) -> int:
        return len(self._order)

    def begin(self, sequence: int) -> bool:
        """Note that an event has come; False if it is done or in hand."""
        if sequence <= self.newest:
            return False
        self.newest = sequence
        self._order.append(sequence)
        self._done[sequence] = False
        self.unsettled += 1
        return True

    def settle(self, sequence: int) -> bool:
        """Note that an event is done; True if the floor has moved."""
        if self._done.get(sequence) is not False:
            return False
        self._done[sequence] = True
        self.unsettled -= 1
        moved = False
        while self._order and self._done[self._order[0]]:
            self.floor = self._order.popleft()
            del self._done[self.floor]
            moved = True
        return moved


class Reader:
    """One partition's consumer at work.

    Args:
        broker: Open.
        consumer: The consumer's name.
        progress: Of the partition; the same one over several consumers of this worker.
        prefetch: How many events may be unsettled.
        careful_until: Up to this number, one at a time.
        deliver: Takes a message and its number; when that is done, `advance` is called.
        broken: Called once, when this reader can go on no more.
    """

    def __init__(
        self,
        broker: Broker,
        consumer: str,
        *,
        progress: Progress,
        prefetch: int,
        careful_until: int,
        deliver: Callable[[Any, int], None],
        broken: Callable[[], object],
    ) -> None:
        self.consumer: str = consumer
        self.progress: Progress = progress
        self._broker = broker
        self._prefetch = prefetch
        self._careful_until = careful_until
        self._deliver = deliver
        self._broken = broken
        self._expected = 1  # the consumer's own count
        self._requested = 0
        self._acks: deque[tuple[int, str]] = deque()  # where to acknowledge which number
        self._due: str = ""
        self._wakeup = anyio.Event()
        self._paused = False
        self._closing = False
        self._over = False
        self._heard_s = monotonic()
        self._log = get_logger().bind(consumer=consumer)

    def pause(self, paused: bool) -> None:  # a state
        """Pull no more for the moment, or go on."""
        self._paused = paused
        self._wakeup.set()

    def take_no_more(self) -> None:
        """Leave to the next reader what comes from now on."""
        self._paused = self._closing = True

    async def run(self) -> None:
        """Read until cancelled or broken."""
        client = self._broker.client
        stream = self._broker.names.stream
        inbox = client.new_inbox()
        ask = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{self.consumer}"
        subscription: Any = None
        try:
            subscription = await client.subscribe(
                inbox, cb=self._on_message, pending_msgs_limit=0, pending_bytes_limit=0
            )
            self._heard_s = monotonic()
            while not self._over:
                self._wakeup = anyio.Event()
                await self._acknowledge()
                count = self._room()
                if count > 0:
                    self._requested += count
                    wanted = {
                        "batch": count,
                        "expires": int(_EXPIRES_S * 1e9),
                        "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
                    }
                    await client.publish(ask, json.dumps(wanted).encode(), reply=inbox)
                with anyio.move_on_after(_HEARTBEAT_S):
                    await self._wakeup.wait()
                if self._requested and monotonic() - self._heard_s > 3 * _HEARTBEAT_S:
                    self._break("the broker is silent")
        except broker_errors() as error:
            self._break(repr(error))
        finally:
            self._over = True
            if subscription is not None and client.is_connected:
                with anyio.CancelScope(shield=True), suppress(*broker_errors()):
                    await subscription.unsubscribe()

    def _room(self) -> int:
        """Return how many events may be asked for now; 0 until it is worth a request."""
        progress = self.progress
        if self._paused or len(progress) >= self._prefetch * _MAX_AHEAD:
            return 0
        if progress.newest < self._careful_until:
            return 0 if progress.unsettled or self._requested else 1
        count = self._prefetch - progress.unsettled - self._requested
        return count if count * 2 >= self._prefetch else 0

    async def _on_message(self, message: Any) -> None:
        self._heard_s = monotonic()
        if self._over or self._closing:
            return
        if not message.reply.startswith("$JS.ACK."):
            self._on_status(message)
            return
        self._requested = max(self._requested - 1, 0)
        *_, sequence, count, _time, _pending = message.reply.split(".")
        if int(count) != self._expected:
            self._break("the consumer has delivered something that did not arrive")
            return
        self._expected += 1
        number = int(sequence)
        self._acks.append((number, message.reply))
        if self.progress.begin(number):
            self._deliver(message, number)
        else:
            self.advance()  # an earlier reader of this worker has had it
        if self._room() > 0:
            self._wakeup.set()

    def _on_status(self, message: Any) -> None:
        headers: dict[str, str] = message.headers or {}
        status = headers.get("Status", "")
        if status == "100":
            return
        left = headers.get("Nats-Pending-Messages", "")
        self._requested = max(self._requested - int(left), 0) if left.isdigit() else 0
        if status == "408" or (status == "404" and not self._over):
            self._wakeup.set()
        else:
            self._break(f"{status} {headers.get('Description', '')}")

    def advance(self) -> None:
        """Note that something is done."""
        floor, acks = self.progress.floor, self._acks
        while acks and acks[0][0] <= floor:
            self._due = acks.popleft()[1]
        if self._due or self._room() > 0:
            self._wakeup.set()

    async def _acknowledge(self) -> None:
        due, self._due = self._due, ""
        if due and not self._over:
            await self._broker.client.publish(due, b"+ACK")

    async def flush(self) -> None:
        """Acknowledge what is done, before this worker hands over."""
        with suppress(*broker_errors()):
            await self._acknowledge()
            await self._broker.settle()

    def _break(self, why: str) -> None:
        if not self._over:
            self._over = True
            self._log.debug("a consumer has ended", why=why)
            self._wakeup.set()
            self._broken()

"""Faults at work: a transport with an injector in it, and a plan, connection by connection.

The rules
---------
* Every session of the server runs on a `FaultyTransport`, so that a test may have a fault at any
  time. Without faults a frame costs one call more.
* What the injector holds back counts as unsent: ``buffered_bytes`` and `drain` see it.
* A close that the session itself wants comes behind what is delayed.
* Of the faults that fired the last `MAX_FIRED` are kept; each is logged.
"""

from __future__ import annotations

import random
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import create_task_group, current_time

from realtime_bus.errors import AuthenticationError, CloseInfo, TransportClosed, UpgradeRefused
from realtime_bus.log import get_logger
from realtime_bus.transport import MemoryTransport
from realtime_bus.transport._buffers import HIGH_WATER_BYTES, Signal
from realtime_bus.transport._stream import StreamTransport

from . import faults as of
from ._fault_injector import ArmedFault, FaultInjector

if TYPE_CHECKING:
    from collections.abc import Callable

    from realtime_bus.transport import Transport

_log = get_logger("realtime_bus.server.faults")

MAX_FIRED = 10_000
LAST_WORDS_S = 0.5
"""How long a client may take to read what was sent before its connection is cut."""


class FaultyTransport:
    """One end of a connection on which things go wrong as they were ordered.

    Args:
        transport: The server's end.
        injector: What goes wrong.
    """

    def __init__(self, transport: Transport, injector: FaultInjector) -> None:
        self._transport = transport
        self._injector = injector
        self._wake = Signal()
        self._passed = Signal()
        self._paused = self._deaf = False

    def inject(self, fault: of.AnyFault) -> None:
        """Order one more fault; its ``after_s`` counts from now."""
        self._injector.add(fault, current_time())
        self._wake.notify()

    async def run(self, deliver: Callable[[bytes], None]) -> CloseInfo:
        """Deliver each message until the connection has ended, and return how it did."""
        ends: list[CloseInfo] = []
        async with create_task_group() as tasks:
            tasks.start_soon(self._pace)
            ends.append(await self._transport.run(partial(self._receive, deliver)))
            tasks.cancel_scope.cancel()
        self._passed.notify()
        return ends[0]

    def _receive(self, deliver: Callable[[bytes], None], frame: bytes) -> None:
        self._injector.receive(frame, current_time())
        deliver(frame)
        self._listen()
        self._wake.notify()

    def send(self, frame: bytes) -> None:
        """Queue one message, or what has become of it.

        Raises:
            TransportClosed: The connection is closed or closing, or the peer stopped reading.
        """
        for each in self._injector.send(frame, current_time()):
            self._transport.send(each)
        self._wake.notify()

    async def drain(self) -> None:
        """Wait until little is unsent.

        Raises:
            TransportClosed: The connection has ended.
        """
        while self._injector.held_bytes > HIGH_WATER_BYTES:
            await self._passed.wait()
        await self._transport.drain()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close in good order, behind what is delayed."""
        with suppress(TransportClosed):
            for each in self._injector.flush(current_time()):
                self._transport.send(each)
        await self._transport.aclose(code, reason)

    async def cut(self, *, reset: bool = False) -> None:
        """Cut the connection without a word, with a TCP reset if there is TCP."""
        if isinstance(self._transport, StreamTransport):
            await self._transport.abort(reset=reset, last_words_s=LAST_WORDS_S)
        elif isinstance(self._transport, MemoryTransport):
            self._transport.sever()

    def pause(self) -> None:
        """Stop reading."""
        self._paused = True
        self._transport.pause()

    def resume(self) -> None:
        """Read again, unless a fault forbids it."""
        self._paused = False
        if not self._deaf:
            self._transport.resume()

    @property
    def buffered_bytes(self) -> int:
        """How many bytes are unsent."""
        return self._injector.held_bytes + self._transport.buffered_bytes

    # The task

    async def _pace(self) -> None:
        """Send what is due when it is due, read when reading is allowed, and end it."""
        injector = self._injector
        with suppress(TransportClosed):  # the reader knows it too
            while injector.end is None:
                for frame in injector.tick(current_time()):
                    self._transport.send(frame)
                self._passed.notify()
                self._listen()
                if injector.end is None:
                    await self._rest(injector.next_deadline())
        self._passed.notify()
        if isinstance(injector.end, of.Drop):
            await self.cut(reset=injector.end.reset)
        elif injector.end is not None:
            await self._close(injector.end)

    async def _rest(self, deadline_s: float | None) -> None:
        with anyio.CancelScope(deadline=float("inf") if deadline_s is None else deadline_s):
            await self._wake.wait()

    def _listen(self) -> None:
        """Read, or do not, as the injector has it now."""
        deaf = current_time() < self._injector.deaf_until_s
        if deaf != self._deaf:
            self._deaf = deaf
            if deaf:
                self._transport.pause()
            elif not self._paused:
                self._transport.resume()

    async def _close(self, close: of.Close) -> None:
        if close.code == 1005 and isinstance(self._transport, StreamTransport | MemoryTransport):
            await self._transport.aclose(None)
        else:
            await self._transport.aclose(close.code, close.reason)


class FaultRun:
    """A plan at work on a server.

    Args:
        plan: Which.

    Attributes:
        fired: The last faults that fired.
        count: How many have fired.
    """

    def __init__(self, plan: of.FaultPlan) -> None:
        self.fired: deque[of.FaultFired] = deque(maxlen=MAX_FIRED)
        self.count: int = 0
        self._plan = plan
        self._connections = 0
        self._refusals = [
            ArmedFault(fault, 0.0, random.Random(f"{plan.seed}/refuse/{index}"))  # noqa: S311  # faults, not secrets
            for index, fault in enumerate(plan.faults)
            if isinstance(fault, of.Refuse)
        ]

    def begin(self) -> ConnectionFaults:
        """Begin with the next connection."""
        self._connections += 1
        number = self._connections
        status: int | None = None
        for armed in self._refusals:
            fault = armed.fault
            if fault.connection in (None, number) and not armed.spent and armed.is_lucky():
                assert isinstance(fault, of.Refuse)  # noqa: S101  # as it was chosen
                armed.fired += 1
                self._note(of.FaultFired(fault=fault, connection=number, at_s=0.0))
                status = fault.status
                break
        return ConnectionFaults(self._plan, number, self._note, status)

    def _note(self, fired: of.FaultFired) -> None:
        self.count += 1
        self.fired.append(fired)
        _log.info(
            "fault fired",
            kind=fired.kind,
            connection=fired.connection,
            at_s=round(fired.at_s, 3),
            event_type=fired.event,
            seed=self._plan.seed,
        )


class ConnectionFaults:
    """What a plan has for one connection.

    Attributes:
        status: The HTTP status that it is refused with; None: it is not.
        life_s: How long its session lives; None: as any other.
    """

    def __init__(
        self,
        plan: of.FaultPlan,
        number: int,
        on_fired: Callable[[of.FaultFired], None],
        status: int | None,
    ) -> None:
        self.status = status
        self._injector = FaultInjector(
            plan.faults,
            seed=plan.seed,
            connection=number,
            now_s=current_time(),
            on_fired=on_fired,
        )
        self.life_s = self._injector.life_s

    def on(self, transport: Transport) -> FaultyTransport:
        """Return the transport with these faults in it."""
        return FaultyTransport(transport, self._injector)

    def raise_refusal(self) -> None:
        """Raise what a client sees of a refusal, where there is no HTTP to tell it.

        Raises:
            AuthenticationError: HTTP 401 or 403.
            UpgradeRefused: Any other.
        """
        if self.status is not None:
            refused = AuthenticationError if self.status in (401, 403) else UpgradeRefused
            message = f"memory: the server answered HTTP {self.status}: as its fault plan says"
            raise refused(message, url="memory:", status=self.status)

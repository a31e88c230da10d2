"""Transports without a network: a pair for tests, and one that is fed by hand.

Everything happens inside the call that causes it: a frame that is sent has been delivered to a
running, unpaused other end when `send` returns. Frames that are sent while the other end delivers
queue up behind, so that two ends that answer each other do not recurse.

Bound: what is held while a session is paused or does not run yet is `MAX_UNSENT_BYTES`, as over a
socket. Above it the session is taken for stuck, and the connection is given up with 1008; what is
held comes first when it reads again. `drain` waits below the high-water mark, and
``buffered_bytes`` tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from realtime_bus.errors import CloseInfo, TransportClosed

from ._buffers import FRAME_BYTES, HIGH_WATER_BYTES, MAX_UNSENT_BYTES, DeliveryQueue, Signal
from ._transport import check_close_code

if TYPE_CHECKING:
    from collections.abc import Callable


class PushTransport:
    """A transport that the application feeds: for connections that it reads itself.

    Call `feed` for each message that comes and `end` when there are no more. Frames that are fed
    before `run`, or while ``paused``, are held, up to 64 MiB: better stop feeding while paused.

    Args:
        send: Called synchronously with each outgoing frame; it must not block.
        close: Called once, with code and reason, when the session closes the connection, or has
            not read for so long that it is given up (1008).
    """

    def __init__(
        self,
        *,
        send: Callable[[bytes], object],
        close: Callable[[int, str], object] | None = None,
    ) -> None:
        self._send = send
        self._close = close
        self._frames = DeliveryQueue()
        self._changed = Signal()
        self._held_at_most = 0  # bytes; counting them for each frame would take long
        self._info: CloseInfo | None = None
        self._crash: Exception | None = None

    # The application's side

    def feed(self, frame: bytes | bytearray | memoryview | str) -> None:
        """Give the session one message; without effect after the end."""
        if self._info is None:
            data = frame.encode() if isinstance(frame, str) else bytes(frame)
            self._push([data])
            self._held_at_most += len(data) + FRAME_BYTES
            if self._held_at_most > MAX_UNSENT_BYTES:
                self._held_at_most = self._frames.held_bytes + FRAME_BYTES * len(self._frames)
                if self._held_at_most > MAX_UNSENT_BYTES:
                    self._give_up()

    def end(
        self, code: int = 1000, reason: str = "", *, error: BaseException | None = None
    ) -> None:
        """Tell the session that the connection has ended; 1006 and an error are unclean."""
        if self._info is None:
            clean = error is None and code != 1006
            self._info = CloseInfo(code=code, reason=reason, clean=clean, error=error)
        self._changed.notify()

    @property
    def paused(self) -> bool:
        """Whether the session asks not to be fed for now."""
        return self._frames.paused

    # The session's side

    async def run(self, deliver: Callable[[bytes], None]) -> CloseInfo:
        """Deliver what is fed, until `end`."""
        self._frames.start(deliver)
        self._push([])
        while self._crash is None and (self._info is None or self._frames):
            await self._changed.wait()
            self._push([])  # what was held while paused
        if self._crash is not None:
            raise self._crash
        assert self._info is not None  # noqa: S101 - for the type checkers; the loop says it
        return self._info

    def send(self, frame: bytes) -> None:
        """Hand one frame to the application.

        Raises:
            TransportClosed: The connection has ended.
        """
        if self._info is not None:
            raise TransportClosed("the connection has ended", close=self._info)
        self._send(frame)

    async def drain(self) -> None:
        """Wait for nothing: what was sent is the application's.

        Raises:
            TransportClosed: The connection has ended.
        """
        if self._info is not None:
            raise TransportClosed("the connection has ended", close=self._info)

    async def aclose(self, code: int | None = 1000, reason: str = "") -> None:
        """Tell the application to close, and end; without a code, which is seen as 1005.

        Raises:
            UsageError: The code may not be sent.
        """
        if code is not None:
            check_close_code(code)
        code = 1005 if code is None else code
        self._frames.abandon()
        first = self._info is None
        self.end(code, reason)
        if first and self._close is not None:
            self._close(code, reason)

    def pause(self) -> None:
        """Hold what is fed from now on."""
        self._frames.paused = True

    def resume(self) -> None:
        """Deliver what was held, then what is fed."""
        self._frames.paused = False
        self._changed.notify()

    @property
    def buffered_bytes(self) -> int:
        """Always 0: what was sent is the application's."""
        return 0

    def _give_up(self) -> None:
        """End the connection of a session that does not read."""
        reason = "the session does not read"
        self.end(1008, reason, error=TimeoutError(reason))
        if self._close is not None:
            self._close(1008, reason)

    def _push(self, frames: list[bytes]) -> None:
        try:
            self._frames.push(frames)
        except Exception as exc:  # noqa: BLE001 - deliver's; `run` raises it
            self._crash = exc
            self.end(1006, error=exc)
        self._changed.notify()


class MemoryTransport(PushTransport):
    """One end of `memory_transport_pair`.

    Attributes:
        peer: The other end.
        clock_ahead_s: Nothing: both ends go by the same clock.
    """

    clock_ahead_s: float = 0.0

    def __init__(self) -> None:
        super().__init__(send=self._give, close=self._end_peer)
        self.peer: MemoryTransport = self

    def _give(self, frame: bytes) -> None:
        self.peer.feed(bytes(frame))

    def _give_up(self) -> None:
        """End both ends; the one that sends is told."""
        unsent = self._frames.held_bytes
        reason = "the peer does not read"
        for end in (self, self.peer):
            end.end(1008, reason, error=TimeoutError(reason))
        close = CloseInfo(code=1008, reason=reason, clean=False)
        raise TransportClosed(f"{unsent} bytes are unsent: {reason}", close=close)

    def _end_peer(self, code: int, reason: str) -> None:
        self.peer.end(code, reason)

    def sever(self, error: Exception | None = None) -> None:
        """Break the connection: both ends see 1006."""
        for end in (self, self.peer):
            end.end(1006, error=error or ConnectionResetError("severed"))

    async def drain(self) -> None:
        """Wait until the other end has taken nearly everything.

        Raises:
            TransportClosed: The connection has ended.
        """
        while self._info is None and self.buffered_bytes > HIGH_WATER_BYTES:
            await self.peer._changed.wait()  # noqa: SLF001 - the other end of ourselves
        await super().drain()

    @property
    def buffered_bytes(self) -> int:
        """How much the other end holds back."""
        return self.peer._frames.held_bytes  # noqa: SLF001 - the other end of ourselves


def memory_transport_pair() -> tuple[MemoryTransport, MemoryTransport]:
    """Make two transports that are connected: what one sends, the other delivers."""
    left, right = MemoryTransport(), MemoryTransport()
    left.peer, right.peer = right, left
    return left, right

"""The connection that a session has at the moment: one after another, and what waits in between.

Rules:

1. A session ends with its connection, unless a recovery finds it the next one.
2. What is sent while there is none waits, in order, up to a bound in events and in bytes. Beyond
   it, sending fails. Microphone audio has a bound of its own, at which the oldest goes first; or it
   does not wait at all.
3. A connection that another one has replaced is closed, and delivers nothing any more but what its
   replacement lets it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel

from realtime_bus import events as ev
from realtime_bus.errors import CloseInfo, ConnectionLost, TransportClosed
from realtime_bus.log import text_of
from realtime_bus.transport import Transport

_CUT_S = 1.0
ABANDONED = CloseInfo(code=1006, reason="the session was left", clean=False)
_AUDIO = (ev.InputAudioBufferAppend, ev.translation.SessionInputAudioBufferAppend)

Deliver = Callable[[bytes], None]


class Connection:
    """One transport, from open to closed.

    Attributes:
        transport: What carries the frames.
        deliver: Takes the next frame.
        close: How it ended, or None while it is open.
        ended: Set at its end.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.deliver: Deliver = _nowhere
        self.close: CloseInfo | None = None
        self.ended: anyio.Event = anyio.Event()
        self._reading: anyio.CancelScope = anyio.CancelScope()

    async def run(self) -> None:
        """Read from the first frame to the end."""
        try:
            await self.read(self.take)
        finally:
            await self.aclose()

    def take(self, frame: bytes) -> None:
        """Hand a frame to whoever takes it at the moment."""
        self.deliver(frame)

    async def read(self, deliver: Deliver) -> CloseInfo:
        """Read from the first frame to the end, handing frames over as directly as can be."""
        close = ABANDONED
        try:
            with self._reading:
                close = checked(await self.transport.run(deliver))
        except Exception as error:  # noqa: BLE001  # a transport of the user's own may raise anything
            close = broken(error)
        finally:
            self.close = close
            self.ended.set()
        return close

    async def aclose(self) -> None:
        """Close what may be open still, within a second, whatever it raises."""
        with anyio.move_on_after(_CUT_S, shield=True):
            try:
                await self.transport.aclose()
            except Exception:  # noqa: BLE001  # a transport of the user's own; it is not needed any more
                self.deliver = _nowhere
        self._reading.cancel()  # nobody waits for a transport that goes on all the same


def _nowhere(*_: object) -> None:
    """Drop a frame that nobody wants: of a connection that was left, or untapped."""


class Gap:
    """What waits for the next connection.

    Args:
        max_events: How many events may wait; as many pieces of audio.
        max_bytes: Their frames' length in bytes, together; the same for audio.
        keep_audio: Whether microphone audio waits, too.

    Attributes:
        since_s: When the connection was lost.
        dropped_audio: Pieces of audio that did not wait, or not to the end.
    """

    def __init__(self, *, max_events: int, max_bytes: int, keep_audio: bool) -> None:
        self.since_s: float = anyio.current_time()
        self.dropped_audio: int = 0
        self._max_events, self._max_bytes = max_events, max_bytes
        self._keep_audio = keep_audio
        self._events: deque[tuple[Any, int]] = deque()  # in order, audio and all
        self._audio: deque[tuple[Any, int]] = deque()  # the same pieces of audio, for their bound
        self._counts = {True: 0, False: 0}  # by "is audio"
        self._bytes = {True: 0, False: 0}

    def put(self, event: ev.ClientEvent, size_bytes: int, close: CloseInfo) -> None:
        """Let an event wait.

        Raises:
            ConnectionLost: Too much waits already; it was not sent.
        """
        is_audio = isinstance(event, _AUDIO)
        if is_audio and not self._keep_audio:
            self.dropped_audio += 1
            return
        while self._is_full(is_audio, size_bytes):
            if not is_audio or not self._audio:
                raise ConnectionLost(
                    f"{event.type} was not sent: the connection is lost ({close}), and "
                    f"{self._counts[is_audio]} events of {self._bytes[is_audio]} bytes wait for "
                    "the next one already; see Reconnect(max_gap_events=..., max_gap_bytes=...)",
                    event_type=event.type,
                    event_id=event.event_id or "",
                    close=close,
                )
            self._drop_audio()
        entry = (event, size_bytes)
        self._events.append(entry)
        if is_audio:
            self._audio.append(entry)
        self._counts[is_audio] += 1
        self._bytes[is_audio] += size_bytes

    def _is_full(self, is_audio: bool, size_bytes: int) -> bool:  # a key of both tables
        too_many = self._counts[is_audio] >= self._max_events
        return too_many or self._bytes[is_audio] + size_bytes > self._max_bytes

    def _drop_audio(self) -> None:
        oldest = self._audio.popleft()
        self._events.remove(oldest)
        self._counts[True] -= 1
        self._bytes[True] -= oldest[1]
        self.dropped_audio += 1

    def events(self) -> list[Any]:
        """Return what waits, in order."""
        return [event for event, _ in self._events]


class Link:
    """The connection of a session, whichever it is; `Lifecycle` reads it, `Pipeline` writes.

    Args:
        transport: Of the first connection.

    Attributes:
        connection: The current one; between two, the last one.
        gap: What waits for the next one, while there is none.
        paused: Whether reading is stopped for now.
        closing: Whether the session is being closed.
        replaceable: Whether another connection may take over; it costs a call for each frame.
        sending: Told of each frame that is handed to a connection, if anybody taps it.
        aside: Told of frames that only concern the library, and whether each was sent: over a
            connection that is about to take over, or about items that were given back there.
        named: Told what the server calls items, by its names, where handlers know them by others.
    """

    def __init__(self, transport: Transport) -> None:
        self.connection: Connection = Connection(transport)
        self.replaceable: bool = False
        self.gap: Gap | None = None
        self.paused: bool = False
        self.closing: bool = False
        self.sending: Callable[[bytes], None] = _nowhere
        self.aside: Callable[[bytes, bool], None] = _nowhere
        self.named: Callable[[dict[str, str]], None] = _nowhere
        self._recover: Callable[[CloseInfo], Awaitable[bool]] | None = None
        self._may_recover: Callable[[CloseInfo], bool] = lambda _close: False
        self._new_gap: Callable[[], Gap] | None = None
        self._stop: Callable[[], None] = lambda: None

    def recover_by(
        self,
        recover: Callable[[CloseInfo], Awaitable[bool]],
        *,
        may_recover: Callable[[CloseInfo], bool],
        new_gap: Callable[[], Gap],
        stop: Callable[[], None],
    ) -> None:
        """Outlive a lost connection from now on.

        Args:
            recover: Finds the next connection and replaces the lost one; False if it gives up.
            may_recover: Tells at once whether that is worth trying.
            new_gap: Makes what waits in between.
            stop: Ends `recover` early: the session is closed.
        """
        self._recover, self._may_recover = recover, may_recover
        self._new_gap, self._stop = new_gap, stop

    async def run(self, deliver: Deliver) -> CloseInfo:
        """Read one connection after the other; return how the last one ended."""
        connection = self.connection
        connection.deliver = deliver
        close = await connection.read(connection.take if self.replaceable else deliver)
        while True:
            if self.connection is connection:
                recover = None if self.closing else self._recover
                if recover is None or not await recover(close):
                    return close
            connection = self.connection
            await connection.ended.wait()
            close = connection.close or ABANDONED

    def open_gap(self) -> Gap:
        """Let what is sent wait from now on."""
        if self.gap is None and self._new_gap is not None:
            self.gap = self._new_gap()
        return self.gap or Gap(max_events=0, max_bytes=0, keep_audio=False)

    def replace(self, connection: Connection) -> Connection:
        """Go over to another connection; return the one before."""
        before, self.connection, self.gap = self.connection, connection, None
        if self.paused:
            connection.transport.pause()
        return before

    def send(self, frame: bytes, event: ev.ClientEvent) -> None:
        """Send a frame at once; without a connection, let its event wait for the next one.

        Raises:
            TransportClosed: The session's connection is closed, and there will be no other.
            ConnectionLost: Too much waits already.
        """
        close = self.connection.close or ABANDONED
        if self.gap is None:
            self.sending(frame)  # first: in memory, the answer comes within the call
            try:
                self.connection.transport.send(frame)
            except TransportClosed as error:
                if self.closing or not self._may_recover(error.close):
                    raise
                close = error.close
            else:
                return
        self.open_gap().put(event, len(frame), close)

    async def drain(self) -> None:
        """Wait while too much is still unsent."""
        if self.gap is not None:
            await anyio.lowlevel.checkpoint()  # else a tight loop would keep it open
            return
        try:
            await self.connection.transport.drain()
        except TransportClosed as error:
            if self.closing or not self._may_recover(error.close):
                raise

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, and look for no other."""
        self.closing = True
        self._stop()
        await self.connection.transport.aclose(code, reason)

    def pause(self) -> None:
        """Stop reading."""
        self.paused = True
        self.connection.transport.pause()

    def resume(self) -> None:
        """Read again."""
        self.paused = False
        self.connection.transport.resume()


def broken(error: Exception) -> CloseInfo:
    """Return the end of a connection that raised."""
    return CloseInfo(code=1006, reason=text_of(error), clean=False, error=error)


def checked(close: object) -> CloseInfo:
    """Return what a transport says of its end, also if it says nothing."""
    if isinstance(close, CloseInfo):
        return close
    reason = f"the transport's run() returned {close!r:.40} in place of a CloseInfo"
    return CloseInfo(code=1006, reason=reason, clean=False)

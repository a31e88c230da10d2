"""The inside of a session: frames in, events out, tasks, and its end.

Rules:

1. `deliver` is called by the transport for every frame, synchronously. It never raises and
   never awaits, so nothing stands between the socket and the inline handlers.
2. A frame whose type nobody listens to is counted, not decoded.
3. Everything that runs on behalf of the session lives in its one task group.
4. When the transport ends, requests and waiters fail at once, `events.Closed` is delivered,
   and mailboxes go on until they are empty or the session's owner leaves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from realtime_bus import events as ev
from realtime_bus._bus._router import Interceptor, Router
from realtime_bus._bus._runner import failure_of
from realtime_bus._bus._selectors import OUTGOING, resolve
from realtime_bus._bus._signature import check_interceptor
from realtime_bus._bus._subscription import HandlerStatistics, Subscription
from realtime_bus.errors import CloseInfo, SessionClosed
from realtime_bus.codec import Decoder, encode
from realtime_bus.codec._names import HEAD, MAX_HEAD_BYTES
from realtime_bus.transport._callbacks import asyncio_in_callbacks, on_asyncio

if TYPE_CHECKING:
    from realtime_bus._bus._bus import Bus
    from realtime_bus.events._vocabulary import Vocabulary
    from realtime_bus.transport import Transport

    from ._session import Session

__all__ = ["SessionCore", "SessionStatistics"]

_HEAD_BYTES = len(HEAD)

_log: structlog.stdlib.BoundLogger = structlog.get_logger("realtime_bus")


class SessionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a session has been through.

    Attributes:
        frames_received: Frames that the transport delivered.
        bytes_received: Their length in bytes.
        frames_unheard: Those of them whose type nobody listens to.
        frames_sent: Frames that were handed to the transport.
        bytes_sent: Their length in bytes.
        drift: How often something did not fit, by (event type, path, kind).
        handlers: Each handler's figures.
    """

    frames_received: int
    bytes_received: int
    frames_unheard: int
    frames_sent: int
    bytes_sent: int
    drift: dict[tuple[str, str, str], int]
    handlers: list[HandlerStatistics]


class SessionCore:
    """A transport, the bus's routing for it, and sending. See `Session` for the verbs."""

    def __init__(self, bus: Bus, transport: Transport, vocabulary: Vocabulary) -> None:
        self.bus = bus
        self.frame = b""
        """The frame being dispatched; valid in inline handlers and interceptors."""
        self.frame_time_s = 0.0
        """When it was delivered, on the clock of `time.perf_counter`, in seconds."""
        self._transport = transport
        self._vocabulary = vocabulary
        self._decoder = Decoder(vocabulary, report=self._report_drift)
        self._router = Router(self, self)
        self.emit: Callable[[ev.BusEvent], None] = self._router.route
        """Deliver a happening to its interceptors and handlers."""
        self.deliver: Callable[[bytes], None]
        """Take one frame from the transport and run what listens to its event; never raises.

        To push frames by hand, build the session on a `PushTransport`.
        """
        self.deliver, self._counts = self._make_deliver()
        self._outgoing: dict[type[ev.Event], tuple[Interceptor, ...]] = {}
        self._tasks: TaskGroup | None = None
        self._as_backend: Callable[[], AbstractContextManager[None]] = nullcontext
        self._holders: set[object] = set()
        self._close_callbacks: list[Callable[[], Any]] = []
        self._close_waiters: list[Callable[[CloseInfo], None]] = []
        self._close: CloseInfo | None = None
        self._reading = False
        self._emptied: anyio.Event | None = None  # set when a mailbox is empty, at the end
        self._ended = anyio.Event()
        self.first_error: Exception | None = None
        """What a handler raised first, if the bus was told to raise it."""
        self._frames_sent = self._bytes_sent = 0

    # --- frames in ---------------------------------------------------------------------------

    def _make_deliver(self) -> tuple[Callable[[bytes], None], Callable[[], tuple[int, int, int]]]:
        """Make `deliver`, and what tells its counts: frames, bytes, and frames unheard.

        A closure, for all that is received goes this way.
        """
        decode, route, is_unheard = self._decoder.decode, self._router.route, self._router.unheard
        frames = frame_bytes = unheard = 0

        def deliver(frame: bytes) -> None:
            nonlocal frames, frame_bytes, unheard
            frames += 1
            frame_bytes += len(frame)
            # the frame's beginning says its type: 0.15 us, where decoding costs three times that
            head_end = frame.find(b'"', _HEAD_BYTES, MAX_HEAD_BYTES)
            if head_end > 0 and frame[:head_end] in is_unheard:
                unheard += 1
                return
            self.frame_time_s = perf_counter()
            self.frame = frame
            route(decode(frame))

        return deliver, lambda: (frames, frame_bytes, unheard)

    def add(self, subscription: Subscription) -> None:
        """Let a subscription take part in this session."""
        self._router.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Take a subscription out of this session; one that is not there is no error."""
        self._router.remove(subscription)

    def _watch(self, see: Callable[[Any], None], *classes: type[ev.Event]) -> None:
        """Let the session itself see events; before any handler, if called before `start`."""
        wanted = frozenset(classes)
        self._router.add(Subscription(see, wanted, where=None, options={}, internal=True))

    def listen(self, subscription: Subscription, on_end: Callable[[CloseInfo], None]) -> None:
        """Add an internal listener, told of the session's end."""
        if self._close is not None:
            on_end(self._close)
            return
        self._router.add(subscription)
        self._close_waiters.append(on_end)

    def unlisten(self, subscription: Subscription, on_end: Callable[[CloseInfo], None]) -> None:
        """Remove an internal listener; one that is gone already is no error."""
        self._router.remove(subscription)
        if on_end in self._close_waiters:
            self._close_waiters.remove(on_end)

    def inject(self, event: ev.Event, *, behind: Interceptor | None = None) -> None:
        """Deliver an event that was held back, or one of your own.

        Args:
            event: What handlers are to get.
            behind: The interceptor that held it: those after it still see it. None goes past
                all of them, straight to the handlers.
        """
        current, self.frame = self.frame, b""  # the frame at hand is another event's
        try:
            if behind is None:
                self._router.deliver(event)
            else:
                self._router.route_behind(behind, event)
        finally:
            self.frame = current

    def _report_drift(self, drift: ev.Drift) -> None:
        # a new field harms nobody: servers have sent undocumented ones from the first day
        write = _log.debug if drift.kind == "unknown_field" else _log.warning
        write(
            "the server sent something unexpected",
            event_type=drift.event_type,
            path=drift.path,
            kind=drift.kind,
            message=drift.message,
        )
        self.emit(drift)

    # --- events out --------------------------------------------------------------------------

    def send_nowait(self, event: ev.ClientEvent) -> bool:
        """Check an event, encode it and hand it to the transport, without waiting.

        Returns:
            Whether it was sent: False if an interceptor ended it.

        Raises:
            InvalidEvent: The server would refuse it; nothing was sent.
            SessionClosed: The session has ended.
        """
        chain = self._outgoing.get(type(event))
        sent: Any = event if chain is None else self._intercepted(chain, event)
        if sent is None:
            return False
        self._send_frame(encode(sent))
        return True

    def _intercepted(self, chain: tuple[Interceptor, ...], event: ev.Event) -> ev.Event | None:
        for interceptor in chain:
            replaced = interceptor(event, self)
            if replaced is None:
                return None
            event = replaced
        return event

    def _send_frame(self, frame: bytes) -> None:
        if self._close is not None:
            raise self.closed_error("send")
        self._transport.send(frame)
        self._frames_sent += 1
        self._bytes_sent += len(frame)

    async def send(self, event: ev.ClientEvent) -> bool:
        """Send an event, and wait while too much is still unsent.

        Returns:
            Whether it was sent: False if an interceptor ended it.

        Raises:
            InvalidEvent: The server would refuse it; nothing was sent.
            SessionClosed: The session has ended.
        """
        sent = self.send_nowait(event)
        await self._transport.drain()
        return sent

    def closed_error(self, what: str) -> SessionClosed:
        """Make the exception for something that a session cannot do after its end."""
        close = self._close or CloseInfo()
        reason = f" ({close.reason})" if close.reason else ""
        return SessionClosed(
            f"cannot {what}: the session closed with {close.code}{reason}", close=close
        )

    # --- the seam for plugins ----------------------------------------------------------------

    def intercept(self, selector: object, interceptor: Interceptor) -> None:
        """See incoming events before any handler does.

        Args:
            selector: Classes, wire names or patterns, as for `on`; a tuple for several.
            interceptor: A plain function of (event, session). What it returns goes on to the
                next interceptor and to the handlers; None ends the event. To delay one, keep
                it, return None, and call `inject` later, with ``behind=`` this function.

        Raises:
            UsageError: The selector stands for nothing.
        """
        self._router.intercept(resolve([selector]), interceptor)

    def intercept_outgoing(self, selector: object, interceptor: Interceptor) -> None:
        """See events before they are sent; the same rules as for `intercept`.

        An interceptor that raises refuses the event: whoever sends it gets the exception.
        """
        check_interceptor(interceptor)
        for cls in resolve([selector], OUTGOING):
            self._outgoing[cls] = (*self._outgoing.get(cls, ()), interceptor)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run an async function in the session's task group; it is cancelled at its end.

        One that raises is reported like a handler that raises.
        """
        if self._tasks is None:
            raise self.closed_error("start a task")
        with self._as_backend():
            self._tasks.start_soon(self._run_task, function, args)

    async def _run_task(
        self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        try:
            await function(*args)
        except BaseException as error:
            failure = failure_of(error)
            if failure is None:
                raise
            name = getattr(function, "__qualname__", repr(function))
            self._report_failure(name, "", failure)

    def on_close(self, callback: Callable[[], Any]) -> None:
        """Call a plain function when the session has ended."""
        self._close_callbacks.append(callback)

    # --- what runners ask for ----------------------------------------------------------------

    def handler_failed(self, subscription: Subscription, event: ev.Event, error: Exception) -> None:
        """Report a handler that raised: a log line and an event."""
        again = isinstance(event, ev.HandlerFailed)
        self._report_failure(subscription.name, event.type, error, quiet=again)

    def interceptor_failed(self, interceptor: object, event: ev.Event, error: Exception) -> None:
        """Report an interceptor that raised."""
        name = getattr(interceptor, "__qualname__", repr(interceptor))
        again = isinstance(event, ev.HandlerFailed)
        self._report_failure(name, event.type, error, quiet=again)

    def _report_failure(
        self, handler: str, event_type: str, error: Exception, *, quiet: bool = False
    ) -> None:
        _log.error("a handler failed", handler=handler, event_type=event_type, exc_info=error)
        if self.bus.raise_handler_errors and self.first_error is None:
            self.first_error = error
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()
        if not quiet:  # a handler of HandlerFailed that fails must not report itself for ever
            self.emit(ev.HandlerFailed(handler=handler, event_type=event_type, error=error))

    def unsubscribe(self, subscription: Subscription) -> None:
        """Take a subscription out of this session, or out of the bus if it is the bus's."""
        self.bus.forget(subscription)
        self._router.remove(subscription)

    def hold(self, holder: object) -> None:
        """Stop reading from the transport until the same holder releases it."""
        if not self._holders:
            self._transport.pause()
        self._holders.add(holder)

    def release(self, holder: object) -> None:
        """Let reading go on, unless somebody else holds it."""
        if holder in self._holders:
            self._holders.discard(holder)
            if not self._holders:
                self._transport.resume()

    def mailbox_empty(self) -> None:
        """Note that a mailbox has nothing left to do."""
        if self._emptied is not None:
            self._emptied.set()

    # --- beginning and end -------------------------------------------------------------------

    def start(self, tasks: TaskGroup) -> None:
        """Begin: register what the bus has, attach its plugins, read from the transport."""
        self._tasks = tasks
        if on_asyncio():  # where frames, and with them work, may come from a loop's callback
            self._as_backend = asyncio_in_callbacks
        for subscription in self.bus.subscriptions:
            self._router.add(subscription)
        for plugin in self.bus.plugins:
            plugin.attach(cast("Session", self))
        self._reading = True
        tasks.start_soon(self._read)

    async def _read(self) -> None:
        close = CloseInfo(code=1006, reason="the session was left", clean=False)
        try:
            close = await self._transport.run(self.deliver)
        except Exception as error:  # noqa: BLE001  # a transport of the user's own may raise anything
            close = CloseInfo(code=1006, reason=str(error), clean=False, error=error)
        finally:
            self._has_closed(close)

    def _has_closed(self, close: CloseInfo) -> None:
        if self._close is not None:
            return
        self._close = close
        for fail in [*self._close_waiters]:
            fail(close)
        self.emit(ev.Closed(code=close.code, reason=close.reason, clean=close.clean))
        for callback in self._close_callbacks:
            self._call_back(callback)
        self._ended.set()

    def _call_back(self, callback: Callable[[], Any]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001  # a plugin's code: whatever it raises is reported
            self._report_failure(getattr(callback, "__qualname__", repr(callback)), "", error)

    async def closed(self) -> CloseInfo:
        """Wait until the session has ended, and return how."""
        await self._ended.wait()
        return self._close or CloseInfo()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, and wait until both sides have.

        Args:
            code: WebSocket close code: 1000, or 3000 to 4999 for one of your own.
            reason: For the other side, at most 123 bytes of UTF-8.
        """
        if self._close is None:
            await self._close_transport(code, reason)
        await self._ended.wait()

    async def _close_transport(self, code: int, reason: str) -> None:
        try:
            await self._transport.aclose(code, reason)
        except Exception as error:  # noqa: BLE001  # a transport of the user's own may raise anything
            self._has_closed(CloseInfo(code=1006, reason=str(error), clean=False, error=error))
        if not self._reading:  # a plugin would not be attached, so nobody waits for the end
            self._has_closed(CloseInfo(code=code, reason=reason))

    async def finish(self) -> None:
        """End in good order: close, and let mailboxes empty for a while."""
        await self._close_transport(1000, "")
        await self._ended.wait()
        with anyio.move_on_after(self.bus.drain_timeout_s):
            while self._router.busy:
                self._emptied = anyio.Event()
                await self._emptied.wait()

    def abandon(self) -> None:
        """Stop at once; what still waits in mailboxes is counted as dropped."""
        self._has_closed(CloseInfo(code=1006, reason="the session was left", clean=False))
        self._router.close()
        self._tasks = None

    def add_to_totals(self) -> None:
        """Add every handler's figures to its totals over all sessions; once, at the end."""
        self._router.add_to_totals()

    @property
    def close_info(self) -> CloseInfo | None:
        """How the session ended, or None while it is open."""
        return self._close

    def statistics_of(self, subscription: Subscription) -> HandlerStatistics | None:
        """Return a handler's figures in this session, or None if it has no part in it."""
        return self._router.statistics_of(subscription)

    def statistics(self) -> SessionStatistics:
        """Return what the session has been through so far."""
        frames, frame_bytes, unheard = self._counts()
        return SessionStatistics(
            frames_received=frames,
            bytes_received=frame_bytes,
            frames_unheard=unheard,
            frames_sent=self._frames_sent,
            bytes_sent=self._bytes_sent,
            drift=dict(self._decoder.drift_counts),
            handlers=self._router.statistics(),
        )

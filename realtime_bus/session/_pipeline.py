"""The way of a session's events: frames in, events to handlers.

Rules:

1. The connection calls for every frame, synchronously. That never raises and never awaits, so
   nothing stands between the socket and the inline handlers.
2. A frame whose type nobody listens to is counted, not decoded.
3. Whatever raises on an event's way is reported: a log line and `events.HandlerFailed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from realtime_bus import events as ev
from realtime_bus.codec import Decoder
from realtime_bus.codec._frame import HEAD, MAX_HEAD_BYTES
from realtime_bus.errors import UsageError
from realtime_bus.events import WireProtocol
from realtime_bus.log import Logger, Repeats, describe, get_logger
from realtime_bus.routing import (
    LIGHT_BYTES,
    BusOptions,
    Drifted,
    HandlerOptions,
    HandlerStatistics,
    Interceptor,
    OnEnd,
    Registry,
    Router,
    Selection,
    Subscription,
    handler_name,
    weight_bytes,
)
from realtime_bus.transport import Transport
from realtime_bus.transport._asyncio import loop_clock, on_asyncio

from ._lifecycle import Lifecycle
from ._link import Link
from ._outgoing import Outgoing
from ._taps import Taps

_HEAD_BYTES = len(HEAD)


class Pipeline:
    """Frames in, events to handlers.

    Attributes:
        frame: The frame being dispatched; valid in inline handlers and interceptors.
        frame_time_s: When it was delivered, on the clock of `time.perf_counter`, in seconds.
        clock: Reads the event loop's time, in seconds.
        heavy_bytes: Its length, if that counts in the bounds of mailboxes; else 0.
        url: Where to, without its query; empty for a transport that was brought along.
        router: What an event meets on its way.
        outgoing: The way of commands.
        taps: What stands around the way of frames, and takes them from the connection.
        link: The connection, whichever it is at the moment.
        log: Every line carries the session's id, once it is known.
        errors: Which of the server's complaints are written to the log.
        first_error: What a handler raised first, if the bus was told to raise it.
    """

    def __init__(self, registry: Registry, transport: Transport, protocol: WireProtocol) -> None:
        self.frame: bytes = b""
        self.frame_time_s: float = 0.0
        self.clock: Callable[[], float] = loop_clock()
        self.heavy_bytes: int = 0
        self.url: str = ""
        self.frames_received: int = 0
        self.bytes_received: int = 0
        self.frames_skipped: int = 0
        self.log: Logger = get_logger()
        self.errors: Repeats = Repeats(burst=5)
        self.first_error: BaseException | None = None
        self.link: Link = Link(transport)
        self._failures = Repeats()
        self._drifts = Repeats(burst=20)
        self.lifecycle: Lifecycle = Lifecycle(
            self.link, report=self._report_task, on_closed=self._emit_closed
        )
        self.router: Router = Router(self, eager=on_asyncio())
        self.outgoing: Outgoing = Outgoing(self.link, self.lifecycle, self.router)
        self.taps: Taps = Taps(
            self._deliver, self.link, self.lifecycle, self.router, self.report_failure
        )
        self._registry = registry
        self._decoder = Decoder(protocol, report=self._report_drift, both=Drifted)
        self._decode = self._decoder.decode
        self._route: Callable[[Any], None] = self.router.route
        self._route_heavy: Callable[[Any], None] = self.router.route_heavy
        self._skippable = self.router.skippable
        self._holders: set[object] = set()

    # --- frames in ---------------------------------------------------------------------------

    def _deliver(self, frame: bytes) -> None:
        """Take one frame from the transport and run what listens to its event."""
        self.frames_received += 1
        length = len(frame)
        self.bytes_received += length
        # the frame's beginning says its type: 0.15 us, where decoding costs three times that
        head_end = frame.find(b'"', _HEAD_BYTES, MAX_HEAD_BYTES)
        if head_end > 0 and frame[:head_end] in self._skippable:
            self.frames_skipped += 1
            return
        self.frame_time_s = perf_counter()
        self.frame = frame
        if length <= LIGHT_BYTES:
            self._route(self._decode(frame))
            return
        self.heavy_bytes = length
        try:
            self._route_heavy(self._decode(frame))
        finally:
            self.heavy_bytes = 0

    def emit(self, event: Any) -> None:
        """Deliver an event of the bus's own, or of the application, to those who listen."""
        self.router.route(event)

    def inject(self, event: ev.Event, behind: Interceptor | None) -> None:
        """Deliver an event that was held back, or one of the application's making."""
        current, heavy_bytes = self.frame, self.heavy_bytes
        self.frame = b""  # the frame at hand is another event's
        self.heavy_bytes = weight_bytes(event)
        try:
            self.router.inject(event, behind)
        finally:
            self.frame, self.heavy_bytes = current, heavy_bytes

    def read(self) -> None:
        """Start to read from the connection."""
        with self.taps.around():
            self.lifecycle.read(self.taps.deliver)

    @property
    def drift_counts(self) -> dict[tuple[str, str, str], int]:
        """How often something did not fit, by (event type, path, kind)."""
        return dict(self._decoder.drift_counts)

    def _report_drift(self, drift: ev.Drift) -> None:
        # a new field harms nobody: servers have sent undocumented ones from the first day
        harmless = drift.kind == "unknown_field"
        write = self.log.debug if harmless else self.log.warning
        suppressed = self._drifts.due("unknown fields" if harmless else "drift")
        if suppressed is not None:
            write(
                "the server sent something unexpected",
                event_type=drift.event_type,
                path=drift.path,
                kind=drift.kind,
                message=drift.message,
                **suppressed,
            )
        self.emit(drift)

    # --- who takes part ----------------------------------------------------------------------

    @property
    def options(self) -> BusOptions:
        """How the bus wants its sessions to behave."""
        return self._registry.options

    def route_through(
        self, wrap: Callable[[Callable[[Any], None]], Callable[[Any], None] | None]
    ) -> None:
        """Let a part of the session stand between frames and all who see their events."""
        if self._route is not _drop:
            self._route = wrap(self.router.route) or self.router.route
            self._route_heavy = wrap(self.router.route_heavy) or self.router.route_heavy

    def observe(self, classes: Iterable[type[ev.Event]], observer: Callable[[Any], None]) -> None:
        """Let a part of the session note what the server said, before interceptors see it."""
        self.router.observe(classes, observer)

    def handle(self, classes: Iterable[type[ev.Event]], handler: Callable[[Any], None]) -> None:
        """Let a part of the session handle events, before the handlers that are added later."""
        wanted, options = Selection(frozenset(classes)), HandlerOptions(narrowed=True)
        self.add(Subscription(handler, wanted, where=None, options=options, internal=True))

    def add(self, subscription: Subscription) -> None:
        """Let a handler take part from now on."""
        self.router.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Take a handler out of this session; one that is not there is no error."""
        self.router.remove(subscription)

    def off(self, function: object) -> None:
        """Take out a handler or interceptor of this session.

        Raises:
            UsageError: It is not registered here.
        """
        found = self.router.off(function)
        if not (self.outgoing.off(function) or found):
            raise UsageError(f"{handler_name(function)} is not registered here")

    def listen(self, subscription: Subscription, on_end: OnEnd) -> None:
        """Add a listener, and tell it of the session's end."""
        if self.lifecycle.close_info is None:
            self.router.add(subscription)
        self.lifecycle.on_end(on_end)

    def unlisten(self, subscription: Subscription, on_end: OnEnd) -> None:
        """Remove a listener; one that is gone already is no error."""
        self.router.remove(subscription)
        self.lifecycle.not_on_end(on_end)

    def statistics_of(self, subscription: Subscription) -> HandlerStatistics | None:
        """Return a handler's figures in this session, or None if it has no part in it."""
        return self.router.statistics_of(subscription)

    def add_to_totals(self) -> None:
        """Add every handler's figures to its totals over all sessions; once, at the end."""
        self.router.add_to_totals()

    # --- what runners ask for ----------------------------------------------------------------

    def start_soon(self, function: Callable[..., Any], *args: object) -> None:
        """Start a task of the session."""
        with self.taps.around():
            self.lifecycle.start_soon(function, *args)

    def report_failure(self, handler: str, event: ev.Event | None, error: BaseException) -> None:
        """Report what raised: a log line and an event."""
        event_type = "" if event is None else event.type
        suppressed = self._failures.due(handler, event_type, error=error)
        if suppressed is not None:
            self.log.error(
                "a handler failed",
                handler=handler,
                event_type=event_type,
                **describe(error),
                **suppressed,
            )
        if self.options.raise_handler_errors and self.first_error is None:
            self.first_error = error
            self.lifecycle.cancel()
        # a handler of HandlerFailed that fails must not report itself for ever
        if not isinstance(event, ev.HandlerFailed):
            heavy_bytes = self.heavy_bytes
            self.heavy_bytes = 0 if event is None else weight_bytes(event)  # a traceback keeps it
            try:
                failed = ev.HandlerFailed(handler=handler, event_type=event_type, error=error)
                route = self.router.route_heavy if self.heavy_bytes else self.router.route
                route(failed)
            finally:
                self.heavy_bytes = heavy_bytes

    def _report_task(self, name: str, error: BaseException) -> None:
        self.report_failure(name, None, error)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Take a subscription out of this session, or out of the bus if it is the bus's."""
        self._registry.discard(subscription)
        self.router.remove(subscription)

    def hold(self, holder: object) -> None:
        """Stop reading from the transport until the same holder releases it."""
        if not self._holders:
            self.link.pause()
        self._holders.add(holder)

    def release(self, holder: object) -> None:
        """Resume reading, unless somebody else holds it."""
        if holder in self._holders:
            self._holders.discard(holder)
            if not self._holders:
                self.link.resume()

    def mailbox_empty(self) -> None:
        """Note that a mailbox has nothing left to do."""
        self.lifecycle.mailbox_empty()

    def _emit_closed(self, close: Any) -> None:
        # nothing follows: a cancelled owner's connection may go on delivering while it closes
        self._route = self._route_heavy = _drop
        self.emit(ev.Closed(code=close.code, reason=close.reason, clean=close.clean))
        for kind, suppressed in self._failures.rest():
            of_one = zip(("handler", "event_type", "error", "where"), kind, strict=False)
            self.log.error("a handler failed", **dict(of_one), suppressed=suppressed)
        for _, suppressed in self._drifts.rest():
            self.log.warning("the server sent something unexpected", suppressed=suppressed)
        for (code, *_), suppressed in self.errors.rest():
            self.log.warning("the server reports an error", code=code, suppressed=suppressed)

    # --- the end -----------------------------------------------------------------------------

    async def finish(self) -> None:
        """End in good order: close, and let mailboxes empty for a while."""
        await self.lifecycle.finish(lambda: self.router.busy, self.options.drain_timeout_s)

    async def cut(self) -> None:
        """End at once, for the owner was cancelled: only close the connection."""
        await self.lifecycle.cut()

    def abandon(self) -> None:
        """Stop at once: deliver nothing more, and count what waits in mailboxes as dropped."""
        self.lifecycle.abandon()
        self.router.close()


def _drop(_event: object) -> None:
    """Take the place of routing in a session that has ended."""

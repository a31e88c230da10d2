"""The plugin: this process's sessions are published, and answer commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from secrets import token_hex
from time import time, time_ns
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from realtime_bus import Session, UsageError
from realtime_bus import events as ev
from realtime_bus.log import Repeats, get_logger

from ._broker import Broker, StreamSettings
from ._buffer import Buffer, Message, Overflow
from ._holder import HeldSession, Holding
from ._nats import headers_of_others
from ._publisher import Publisher
from ._subjects import Choice, Names, Side, escape, unescape, wire_name_of
from ._wire import HOLDER, PROTOCOL, SEQUENCE, SESSION, TIME, Holder, Whereabouts

_TELLING: Final = (
    ev.ResponseCreated,
    ev.ResponseDone,
    ev.InputAudioBufferSpeechStarted,
    ev.InputAudioBufferSpeechStopped,
    ev.Reconnecting,
    ev.Reconnected,
)
_MAX_SUBJECTS: Final = 200  # a server may make up names
_MAX_UNNAMED: Final = 256  # frames before a server says which session this is


class FanoutOverflow(ev.BusEvent, tag="fanout.overflow"):
    """Events of this session were not published: the buffer was full, or the broker refuses them.

    Emitted once for each stretch.

    Attributes:
        event_type: Wire name of the first one.
        why: In words.
        dropped: How many this process has lost so far, over all sessions.
    """

    event_type: str
    why: str
    dropped: int


class FanoutStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What this process has published.

    Attributes:
        connected: Whether the broker can be reached now.
        sessions: How many sessions are held.
        acknowledged: Events that the broker has.
        pending: Events that wait, or are on their way.
        pending_bytes: What they weigh.
        dropped: Events that were lost because the buffer was full.
        rejected: Events that the broker would never take.
        resent: Events that were sent again because it was in doubt whether they had arrived.
    """

    connected: bool
    sessions: int
    acknowledged: int
    pending: int
    pending_bytes: int
    dropped: int
    rejected: int
    resent: int


class NatsFanout:
    """Publish sessions to NATS JetStream, and let workers elsewhere talk back.

    ::

        async with NatsFanout("support") as fanout:
            bus = Bus(plugins=[fanout])
            async with bus.connect(...) as session:
                ...

    One for a process: it has one connection, one buffer and one lease. It never holds up a
    session: events wait in the buffer while the broker is away, and are then sent in order.

    Args:
        app: Names the application: letters, digits, ``-`` and ``_``.
        servers: Addresses of brokers, ``nats://…`` or ``tls://…``.
        events: Which events: classes, wire names or patterns. Beginning and end of a session are
            always published.
        without: Which of those not: ``session.update`` may hold credentials of tools, say.
        audio: Whether audio is published, where `events` has it.
        max_pending: How many events may wait in this process.
        max_pending_bytes: How much they may weigh.
        overflow: What is lost beyond that, counted and told: the oldest event or the newest one.
        session_id: Names a session, if the server's id will not do; it must be unique.
        trace: Headers that carry trace context; by default those of OpenTelemetry's propagator,
            if the application uses it.
        settings: How streams and buckets are made where they are not there yet.
        connect: Further arguments of ``nats.connect``, such as ``user_credentials``,
            ``nkeys_seed`` or ``tls``.
        open_timeout_s: Seconds that connecting may take.
        drain_timeout_s: Seconds that the buffer has to empty at the end.

    Raises:
        UsageError: An argument cannot work.
    """

    def __init__(  # noqa: PLR0913  # each of its own; most applications give two
        self,
        app: str,
        *,
        servers: str | list[str] = "nats://127.0.0.1:4222",
        events: Iterable[object] = ("*",),
        without: Iterable[object] = (),
        audio: bool = False,
        max_pending: int = 100_000,
        max_pending_bytes: int = 128 * 1024 * 1024,
        overflow: Overflow = "drop_oldest",
        session_id: Callable[[Session[Any]], str] | None = None,
        trace: Callable[[Session[Any]], Mapping[str, str]] | None = None,
        settings: StreamSettings | None = None,
        connect: Mapping[str, Any] | None = None,
        open_timeout_s: float = 10.0,
        drain_timeout_s: float = 5.0,
    ) -> None:
        if overflow not in ("drop_oldest", "drop_newest"):
            raise UsageError(f"overflow={overflow!r} must be 'drop_oldest' or 'drop_newest'")
        if max_pending < 1 or max_pending_bytes < 1:
            raise UsageError("max_pending and max_pending_bytes must be positive")
        self._broker = Broker(
            Names(app),
            servers,
            settings=settings,
            options=connect or {},
            open_timeout_s=open_timeout_s,
        )
        self._choice = Choice(events, without=without, audio=audio)
        self._buffer = Buffer(
            max_pending=max_pending,
            max_pending_bytes=max_pending_bytes,
            max_in_flight=max(1, min(1024, max_pending // 2)),
            overflow=overflow,
        )
        self._name_of = session_id
        self._trace = trace or _trace_context
        self._drain_timeout_s = drain_timeout_s
        self.holder_id: str = f"h-{token_hex(6)}"
        self._publisher = Publisher(self._broker, self._buffer, refused=self._refused)
        self._holding = Holding(self._broker, self.holder_id, lease=self._fill_in)
        self._open = False
        self._full = False
        self._log = get_logger().bind(app=app)
        self._repeats = Repeats()

    # --- beginning and end -------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            MissingExtra: nats-py is not installed.
            UsageError: This is trio; or it is open already.
            BrokerUnreachable: No broker answered in time.
        """
        tasks = await self._broker.open()
        tasks.start_soon(self._publisher.run)
        tasks.start_soon(self._holding.run)
        self._open = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        try:
            if exc_type is None or issubclass(exc_type, Exception):
                await self._publisher.drain(self._drain_timeout_s)
            lost = len(self._buffer)
            if lost:
                self._log.error("events were not published before the end", lost=lost)
            await self._holding.leave()
        finally:
            await self._broker.aclose()

    def statistics(self) -> FanoutStatistics:
        """Return what was published so far."""
        return FanoutStatistics(
            connected=self._publisher.connected,
            sessions=len(self._holding),
            acknowledged=self._buffer.acknowledged,
            pending=len(self._buffer),
            pending_bytes=self._buffer.pending_bytes,
            dropped=self._buffer.dropped,
            rejected=self._publisher.rejected,
            resent=self._buffer.resent,
        )

    async def drain(self, timeout_s: float = 5.0) -> bool:
        """Wait until the broker has all that was published so far; False if that took too long."""
        return await self._publisher.drain(timeout_s)

    def _fill_in(self, lease: Holder) -> None:
        lease.pending = len(self._buffer)
        lease.dropped = self._buffer.dropped

    # --- sessions ----------------------------------------------------------------------------

    def attach(self, session: Session[Any]) -> None:
        """Publish a session.

        Raises:
            UsageError: The fan-out is not open.
        """
        if not self._open:
            raise UsageError("open the fan-out first: async with NatsFanout(...) as fanout")
        published = _Published(self, session)
        session.tap(received=published.received, sent=published.sent)
        session.on(ev.SessionCreated, ev.translation.SessionCreated, ev.Connected)(published.name)
        session.on(*_TELLING)(published.changed)
        session.on(ev.BusEvent)(published.told)
        session.on_close(published.closed)

    def name_session(self, session: Session[Any]) -> str:
        """Return what a session is called in subjects, unescaped; without a name a made-up one."""
        found: object = session.id
        if self._name_of is not None:
            try:
                found = self._name_of(session)
            except Exception as error:  # noqa: BLE001  # the application's code
                found = ""
                self._log.error(
                    "session_id= raised", error=repr(error)[:500]
                )  # a line, not a traceback
        return str(found) if found else f"unnamed-{token_hex(8)}"

    def wants(self, wire_name: str) -> bool:
        """Tell whether events of a name are published."""
        return self._choice.wants(wire_name)

    def hold(self, held: HeldSession) -> None:
        """Answer for a session."""
        self._holding.add(held)

    def let_go(self, held: HeldSession) -> None:
        """Answer for a session no more."""
        self._holding.remove(held)

    def publish(self, message: Message) -> None:
        """Queue an event; never waits."""
        buffer = self._buffer
        dropped = buffer.put(message)
        self._publisher.wake()
        if dropped is None:
            self._full = False
        elif not self._full:
            self._full = True
            self._tell(dropped, "the buffer is full")

    def _refused(self, message: Message, why: str) -> None:
        self._tell(message, why)

    def _tell(self, message: Message, why: str) -> None:
        event_type = message.subject.split(".", 3)[-1]
        lost = self._buffer.dropped + self._publisher.rejected
        suppressed = self._repeats.due("overflow", why)
        if suppressed is not None:
            self._log.error("events are not published", why=why, lost=lost, **suppressed)
        owner: _Published = message.owner
        owner.tell(FanoutOverflow(event_type=event_type, why=why, dropped=lost))

    def names(self) -> Names:
        """Return the subjects of the application."""
        return self._broker.names

    def trace(self, session: Session[Any]) -> Mapping[str, str]:
        """Return the headers that carry trace context; without them, if that fails."""
        try:
            return headers_of_others(self._trace(session))
        except Exception as error:  # noqa: BLE001  # the application's code
            self._log.error("trace= raised", error=repr(error)[:500])  # a line, not a traceback
            return {}


class _Published:
    """What is published of one session: a number and an id for each event.

    What its server and its bus say is counted together, what its client sends by itself.
    """

    def __init__(self, fanout: NatsFanout, session: Session[Any]) -> None:
        self._fanout = fanout
        self._session = session
        self._names = fanout.names()
        self._token = ""
        self._incarnation = token_hex(4)
        self._headers: dict[str, str] = {}
        self._numbers: dict[bool, int] = {False: 0, True: 0}  # of what a client sent: its own
        self._unnamed: list[tuple[Side, str, bytes, int]] = []
        self._held: HeldSession | None = None
        self._telling = False
        self._subjects: dict[tuple[Side, str], str] = {}

    def received(self, frame: bytes) -> None:
        self._put("server", wire_name_of(frame) or "bus.invalid_frame", frame)

    def sent(self, frame: bytes) -> None:
        self._put("client", wire_name_of(frame), frame)

    def told(self, event: ev.BusEvent) -> None:
        if isinstance(event, ev.UnknownEvent | ev.InvalidFrame):
            return  # its frame is published as it came
        wire_name = event.type
        if self._fanout.wants(wire_name) and not self._telling:
            self._put("bus", wire_name, event.to_json())

    def name(self, event: Any) -> None:
        """Give the session its name, once, and publish what has waited for that."""
        if self._token:
            return
        fanout, session = self._fanout, self._session
        name = fanout.name_session(session)
        translates = isinstance(event, ev.translation.SessionCreated)
        protocol: ev.ProtocolName = "translation" if translates else "realtime"
        self._token = escape(name)
        self._headers = {
            **fanout.trace(session),
            PROTOCOL: protocol,
            HOLDER: fanout.holder_id,
            **({} if unescape(self._token) == name else {SESSION: name}),
        }
        where = Whereabouts(
            session_id=name, holder=fanout.holder_id, protocol=protocol, since=time()
        )
        self._held = HeldSession(session, self._token, where)
        fanout.hold(self._held)
        waiting, self._unnamed = self._unnamed, []
        for side, wire_name, payload, at_us in waiting:
            self._publish(side, wire_name, payload, at_us)

    def changed(self, _event: Any) -> None:
        if self._held is not None:
            self._held.changed = True

    def closed(self) -> None:
        if self._held is not None:
            self._fanout.let_go(self._held)

    def tell(self, event: ev.BusEvent) -> None:
        """Tell the session what was not published; that itself is not published."""
        if self._telling:
            return
        self._telling = True
        try:
            self._session.emit(event)
        finally:
            self._telling = False

    def _put(self, side: Side, wire_name: str, payload: bytes) -> None:
        if not self._fanout.wants(wire_name):
            return
        at_us = time_ns() // 1000
        if self._token:
            self._publish(side, wire_name, payload, at_us)
        elif len(self._unnamed) < _MAX_UNNAMED:
            self._unnamed.append((side, wire_name, payload, at_us))

    def _publish(self, side: Side, wire_name: str, payload: bytes, at_us: int) -> None:
        by_client = side == "client"
        number = self._numbers[by_client] = self._numbers[by_client] + 1
        if self._held is not None:
            self._held.where.events += 1
        headers = {**self._headers, SEQUENCE: str(number), TIME: str(at_us)}
        key = f"{self._token}.{self._incarnation}{'c' if by_client else ''}.{number}"
        subject = self._subjects.get((side, wire_name))
        if subject is None:
            subject = self._names.event(self._token, side, wire_name)
            if len(self._subjects) < _MAX_SUBJECTS:
                self._subjects[side, wire_name] = subject
        self._fanout.publish(Message(subject, payload, key, headers, self))


def _trace_context(_session: Session[Any]) -> Mapping[str, str]:
    """Return what OpenTelemetry's propagator writes, if the application uses it."""
    if "opentelemetry.propagate" not in sys.modules:
        return {}
    carrier: dict[str, str] = {}
    sys.modules["opentelemetry.propagate"].inject(carrier)
    return carrier

"""A bus in a worker: handlers for sessions that other processes hold.

Rules:

1. An event is acknowledged when every handler that wanted it is done with it: has handled it, has
   given it up after its last attempt, or has dropped it as its own options say.
2. One that is given up goes to the stream of dead letters, with what failed, before that.
3. A session is one `RemoteSession` in one worker, from its first event there until its end, until
   its partition goes elsewhere, or until nothing was heard of it for `idle_s`.
4. A hole in a session's numbers is counted, and told to the session (`EventsMissing`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from secrets import token_hex
from time import monotonic
from types import TracebackType
from typing import Any, Final, Literal, Self

import anyio
import msgspec
from anyio.abc import TaskGroup

from realtime_bus import CloseInfo, UsageError
from realtime_bus import events as ev
from realtime_bus.feed import BusOptions, Feed, Handlers, HandlerStatistics, Redelivery
from realtime_bus.log import get_logger

from ._broker import Broker, StreamSettings, broker_errors, retrying
from ._group import Group, Start, first_of, make_consumer
from ._holder import own_class, read_own_event
from ._reader import Progress, Reader
from ._remote_session import Arrival, RemoteSession, find_session
from ._shares import Record
from ._subjects import Names, escape, read_stored, unescape
from ._wire import HOLDER, KEY, PROTOCOL, SEQUENCE, TIME, Whereabouts

_GROUP: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
_MAX_INCARNATIONS: Final = 100
_LEFT: Final = CloseInfo(code=1001, reason="this worker has the session no more", clean=False)


class EventsMissing(ev.BusEvent, tag="fanout.events_missing"):
    """Numbers of a session's events that never came: its holder has dropped them, say.

    Attributes:
        first: The first number that is missing.
        last: The last one.
    """

    first: int
    last: int


class RemoteBusStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has been through.

    Attributes:
        connected: Whether the broker can be reached now.
        partitions: How many partitions of the group's work are this worker's now.
        sessions: How many sessions it has now.
        received: Events that came, repeated ones included.
        repeated: Those of them that another worker may have had, too.
        settled: Events that are done.
        unsettled: Events in hand.
        given_up: Events that went to the dead letters.
        missing: Events that never came.
        handlers: Figures of each handler, over all sessions.
    """

    connected: bool
    partitions: int
    sessions: int
    received: int
    repeated: int
    settled: int
    unsettled: int
    given_up: int
    missing: int
    handlers: list[HandlerStatistics]


class _Part:
    """One partition in this worker's hands."""

    def __init__(self, record: Record, *, repeated_until: int = 0) -> None:
        self.progress = Progress(record.floor)
        self.record = record
        self.repeated_until = repeated_until
        self.first_is_deadly = False
        self.reader: Reader | None = None
        self.scope: anyio.CancelScope | None = None
        self.sessions: dict[str, _Known] = {}
        self.holders: set[object] = set()
        self.emptied = anyio.Event()

    def settled(self, sequence: int) -> None:
        self.progress.settle(sequence)
        if self.reader is not None:
            self.reader.advance()
        if not self.progress.unsettled:
            self.emptied.set()


class _Known:
    """A session that this worker has."""

    def __init__(self, session: RemoteSession[Any], part: _Part) -> None:
        self.session = session
        self.part = part
        self.feed: Feed[Any] | None = None
        self.numbers: dict[str, int] = {}  # the last one, by incarnation
        self.heard_s = monotonic()


class RemoteBus(Handlers[RemoteSession[Any]]):
    """Handlers for sessions that other processes hold, with the decorators of `Bus`.

    ::

        bus = RemoteBus("support", group="billing")


        @bus.on("response.done")
        async def bill(event: ev.ResponseDone, session: RemoteSession) -> None: ...


        async with bus:
            await bus.run()

    Workers of one group share its sessions; groups know nothing of each other. A handler that
    raises gets its event again; what it cannot handle goes to the dead letters.

    Args:
        app: The application's name, as given to `NatsFanout`.
        group: Whose work is shared. None for a bus that has every session to itself, and
            remembers nothing when it ends.
        servers: Addresses of brokers.
        start: Where a group begins that is new: ``"new"`` or ``"all"``; a number of the stream or
            a time, to replay from there.
        prefetch: How many events of one partition may be in hand: the pull size.
        redelivery: How often, and how soon, a handler gets an event at which it raises.
        state: Makes the application's object of a session: `RemoteSession.state`.
        idle_s: Seconds without any event after which a worker forgets a session.
        settings: How streams and buckets are made where they are not there yet.
        connect: Further arguments of ``nats.connect``: credentials, keys, TLS.
        open_timeout_s: Seconds that connecting may take.
        drain_timeout_s: Seconds that what is in hand has to finish when this worker leaves.

    Raises:
        UsageError: An argument cannot work.
    """

    def __init__(  # noqa: PLR0913  # each of its own; most applications give two
        self,
        app: str,
        *,
        group: str | None,
        servers: str | list[str] = "nats://127.0.0.1:4222",
        start: Literal["new", "all"] | int | datetime = "new",
        prefetch: int = 256,
        redelivery: Redelivery | None = None,
        state: Callable[[RemoteSession[Any]], Any] | None = None,
        idle_s: float = 3600.0,
        settings: StreamSettings | None = None,
        connect: Mapping[str, Any] | None = None,
        open_timeout_s: float = 10.0,
        drain_timeout_s: float = 5.0,
    ) -> None:
        super().__init__((), BusOptions())
        if group is not None and not _GROUP.fullmatch(group):
            raise UsageError(f"group={group!r:.80}: give letters, digits, - and _, at most 32")
        if prefetch < 1:
            raise UsageError(f"prefetch={prefetch!r} must be positive")
        self._broker = Broker(
            Names(app),
            servers,
            settings=settings or StreamSettings(),
            options=connect or {},
            open_timeout_s=open_timeout_s,
        )
        self.worker_id: str = f"w-{token_hex(6)}"
        self._group_name = group or f"solo-{self.worker_id}"
        self._alone = group is None
        self._start_at = start
        self._prefetch = prefetch
        self._redelivery = redelivery or Redelivery()
        self._make_state = state
        self._idle_s = idle_s
        self._drain_timeout_s = drain_timeout_s
        self._parts: dict[int, _Part] = {}
        self._tasks: TaskGroup | None = None
        self._group: Group | None = None
        self._classes: dict[str, type[ev.BusEvent]] = {}
        self._classes_of = 0
        self._received = self._repeated = self._settled = self._given_up = self._missing = 0
        self._log = get_logger().bind(app=app, group=self._group_name, worker=self.worker_id)

    # --- beginning and end -------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect, and take part in the group.

        Raises:
            MissingExtra: nats-py is not installed.
            UsageError: This is trio; or it is open already.
            BrokerUnreachable: No broker answered in time.
        """
        if self._tasks is not None:
            raise UsageError("this RemoteBus is open already; make another one")
        await self._broker.open()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        if self._alone:
            self._tasks.start_soon(self._run_alone)
        else:
            self._group = Group(
                self._broker, self._group_name, self.worker_id, self, start=self._start_at
            )
            self._tasks.start_soon(self._group.run)
        self._tasks.start_soon(self._forget_the_idle)
        return self

    async def run(self) -> None:
        """Work until cancelled."""
        await anyio.sleep_forever()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        tasks = self._tasks
        if tasks is None:
            return
        if exc_type is not None and issubclass(exc_type, anyio.get_cancelled_exc_class()):
            self._drain_timeout_s = 0.0  # somebody is in a hurry: what is in hand comes again
        try:
            with anyio.move_on_after(self._drain_timeout_s + 2, shield=True):
                if self._group is not None:
                    await self._group.leave()
                for partition in list(self._parts):
                    await self.finish(partition)
                    if self._alone:
                        await self._remove_consumer()
        finally:
            for partition in list(self._parts):
                self.lose(partition)
            self._tasks = None
            tasks.cancel_scope.cancel()
            try:
                await tasks.__aexit__(None, None, None)  # what the block raises comes out as it is
            finally:
                await self._broker.aclose()

    @property
    def sessions(self) -> tuple[RemoteSession[Any], ...]:
        """The sessions that this worker has now."""
        parts = self._parts.values()
        return tuple(known.session for part in parts for known in part.sessions.values())

    def statistics(self) -> RemoteBusStatistics:
        """Return what this worker has been through so far."""
        return RemoteBusStatistics(
            connected=self._broker.connected,
            partitions=len(self._parts),
            sessions=len(self.sessions),
            received=self._received,
            repeated=self._repeated,
            settled=self._settled,
            unsettled=sum(part.progress.unsettled for part in self._parts.values()),
            given_up=self._given_up,
            missing=self._missing,
            handlers=self._registry.statistics(),
        )

    def session(self, session_id: str) -> RemoteSession[Any]:
        """Return a session to talk to, whoever has its events; nothing is asked yet."""
        token = escape(session_id)
        for part in self._parts.values():
            if token in part.sessions:
                return part.sessions[token].session
        return RemoteSession(
            self._broker, session_id, token=token, group=self._group_name, state=None
        )

    async def find(self, session_id: str) -> Whereabouts | None:
        """Return what is written of a session; None if nothing is."""
        return await find_session(self._broker, escape(session_id))

    # --- alone -------------------------------------------------------------------------------

    async def _run_alone(self) -> None:
        """Read everything, with a consumer that goes by itself when nobody reads."""
        start: Start = await retrying(lambda: first_of(self._broker, self._start_at))
        part = self._parts[-1] = _Part(Record(floor=max(start.sequence - 1, 0)))
        epoch = 0
        while True:
            epoch += 1
            ended = anyio.Event()
            consumer = f"{self._group_name}-{epoch}"
            floor = part.progress.floor
            began = start if not floor else Start(sequence=floor + 1)
            make = partial(
                make_consumer,
                self._broker,
                consumer,
                subjects=self._broker.names.handled("*"),
                start=began,
                inactive_s=60.0,
            )
            await retrying(make)
            self._read(part, consumer, 0, ended.set)
            await ended.wait()

    async def _remove_consumer(self) -> None:
        reader = self._parts[-1].reader if -1 in self._parts else None
        if reader is not None:
            with suppress(*broker_errors()):
                await self._broker.js.delete_consumer(self._broker.names.stream, reader.consumer)

    # --- what the group asks -----------------------------------------------------------------

    def begin(
        self, partition: int, consumer: str, record: Record, *, repeated: int, careful: int
    ) -> None:
        """Read a partition from now on. Called by the group."""
        part = self._parts.get(partition)
        if part is None:
            part = self._parts[partition] = _Part(record, repeated_until=repeated)
            part.first_is_deadly = record.strikes > self._redelivery.attempts
        part.record = record
        group = self._group
        self._read(
            part,
            consumer,
            careful,
            lambda: group.broken(partition) if group else None,
        )

    def _read(
        self, part: _Part, consumer: str, careful_until: int, broken: Callable[[], object]
    ) -> None:
        if self._tasks is None:
            return
        if part.scope is not None:
            part.scope.cancel()
        part.reader = Reader(
            self._broker,
            consumer,
            progress=part.progress,
            prefetch=self._prefetch,
            careful_until=careful_until,
            deliver=lambda message, number: self._deliver_safely(part, message, number),
            broken=broken,
        )
        part.scope = anyio.CancelScope()
        self._tasks.start_soon(_run_in, part.scope, part.reader)

    def floor(self, partition: int) -> int | None:
        """Return up to where all is done, if the partition is read here. Called by the group."""
        part = self._parts.get(partition)
        return None if part is None else part.progress.floor

    def lose(self, partition: int) -> None:
        """Stop at once: another worker has it. Called by the group."""
        part = self._parts.pop(partition, None)
        if part is None:
            return
        if part.scope is not None:
            part.scope.cancel()
        for known in list(part.sessions.values()):
            if known.feed is not None:
                known.feed.leave(_LEFT)

    async def finish(self, partition: int) -> tuple[int, int]:
        """Take no more, finish what is in hand, and say how far that is. Called by the group."""
        part = self._parts.get(partition)
        if part is None:
            return 0, 0
        reader = part.reader
        if reader is not None:
            reader.take_no_more()
        with anyio.move_on_after(self._drain_timeout_s):
            while part.progress.unsettled:
                part.emptied = anyio.Event()
                await part.emptied.wait()
        if reader is not None:
            await reader.flush()
        floor, newest = part.progress.floor, part.progress.newest
        if not self._alone:
            self.lose(partition)
        return floor, newest

    # --- events ------------------------------------------------------------------------------

    def _deliver_safely(self, part: _Part, message: Any, number: int) -> None:
        """Hand an event over; whatever goes wrong here costs that one event."""
        try:
            self._deliver(part, message, number)
        except Exception as error:  # noqa: BLE001  # whoever published it may be anybody
            self._log.error("an event cannot be handled", number=number, error=repr(error)[:500])
            self._done(part, number)

    def _deliver(self, part: _Part, message: Any, number: int) -> None:
        """Hand an event to its session's handlers."""
        self._received += 1
        stored = read_stored(message.subject)
        if stored is None or stored.side == "client":
            self._done(part, number)
            return
        headers: dict[str, str] = message.headers or {}
        arrival = Arrival(
            key=headers.get(KEY) or f"{stored.token}.{number}",
            sequence=_number(headers.get(SEQUENCE)),
            stream_sequence=number,
            published_at=_number(headers.get(TIME)) / 1e6,
            repeated=number <= part.repeated_until,
            headers=headers,
            payload=message.data,
        )
        self._repeated += arrival.repeated
        known = part.sessions.get(stored.token) or self._meet(part, stored.token, headers)
        known.heard_s = monotonic()
        session, feed = known.session, known.feed
        session.holder = headers.get(HOLDER, session.holder)
        if feed is None:
            self._done(part, number)
            return
        self._count(known, arrival)
        if part.first_is_deadly:
            part.first_is_deadly = False
            self._bury(known, arrival, number)
            return
        arrivals = session._arrivals  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # made here
        arrivals[arrival.key] = arrival
        event = read_own_event(message.data, self._own_class) if stored.side == "bus" else None

        def settled() -> None:
            arrivals.pop(arrival.key, None)
            self._done(part, number)
            if isinstance(event, ev.Closed):
                self._part_with(part, stored.token, CloseInfo(code=event.code, reason=event.reason))

        if event is None:
            feed.frame(message.data, key=arrival.key, settled=settled)
        else:
            feed.event(event, key=arrival.key, settled=settled)

    def _own_class(self, name: str) -> type[ev.BusEvent] | None:
        """Return the class that a name stands for here: one that a handler is registered for."""
        subscriptions = self._registry.subscriptions
        if len(subscriptions) != self._classes_of:
            self._classes_of = len(subscriptions)
            self._classes.clear()
        cls = self._classes.get(name)
        if cls is None:
            cls = own_class(
                name, lambda each: any(s.selection.matches(each) for s in subscriptions)
            )
            if cls is not None:
                self._classes[name] = cls
        return cls

    def _done(self, part: _Part, number: int) -> None:
        self._settled += 1
        part.settled(number)

    def _meet(self, part: _Part, token: str, headers: Mapping[str, str]) -> _Known:
        """Begin to know a session."""
        session: RemoteSession[Any] = RemoteSession(
            self._broker, unescape(token), token=token, group=self._group_name, state=None
        )
        known = part.sessions[token] = _Known(session, part)
        translates = headers.get(PROTOCOL) == "translation"
        session.protocol = "translation" if translates else "realtime"
        if self._tasks is None:
            return known
        if self._make_state is not None:
            try:
                session.state = self._make_state(session)
            except Exception as error:  # noqa: BLE001  # the application's code
                self._log.error("state= raised", session_id=session.id, error=repr(error))
        known.feed = Feed(
            self,
            session,
            tasks=self._tasks,
            protocol=session.protocol,
            redelivery=self._redelivery,
            may_handle=self._may_handle,
            keep=lambda handler, _event, error, key: self._keep(known, handler, error, key),
            on_held=lambda held: self._hold(part, known, held),
            log={"session_id": session.id, "worker": self.worker_id},
        )
        session._feed = known.feed  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # made here
        return known

    def _may_handle(self) -> bool:
        return self._group is None or self._group.holds_lease()

    def _hold(self, part: _Part, known: _Known, held: bool) -> None:  # a state
        (part.holders.add if held else part.holders.discard)(known)
        if part.reader is not None:
            part.reader.pause(bool(part.holders))

    def _count(self, known: _Known, arrival: Arrival) -> None:
        """Notice numbers that are missing."""
        incarnation = arrival.key.rpartition(".")[0]
        last = known.numbers.get(incarnation)
        if last is None and len(known.numbers) >= _MAX_INCARNATIONS:
            known.numbers.clear()  # whoever publishes made them up
        known.numbers[incarnation] = max(arrival.sequence, last or 0)
        if last is not None and arrival.sequence > last + 1 and known.feed is not None:
            count = arrival.sequence - last - 1
            known.session.missing += count
            self._missing += count
            known.feed.emit(EventsMissing(first=last + 1, last=arrival.sequence - 1))

    def _part_with(self, part: _Part, token: str, close: CloseInfo) -> None:
        """Forget a session that has ended, once everything of it is done."""
        known = part.sessions.get(token)
        if known is None or known.feed is None:
            return
        if known.feed.busy:
            if self._tasks is not None:
                self._tasks.start_soon(self._part_later, part, token, close)
            return
        del part.sessions[token]
        known.feed.leave(close)

    async def _part_later(self, part: _Part, token: str, close: CloseInfo) -> None:
        known = part.sessions.get(token)
        if known is not None and known.feed is not None:
            await known.feed.wait_idle()
        self._part_with(part, token, close)

    async def _forget_the_idle(self) -> None:
        while True:
            await anyio.sleep(min(self._idle_s / 4, 60.0))
            before_s = monotonic() - self._idle_s
            for part in list(self._parts.values()):
                for token, known in list(part.sessions.items()):
                    if known.heard_s < before_s and not (known.feed and known.feed.busy):
                        self._part_with(part, token, CloseInfo(reason="idle"))

    # --- dead letters ------------------------------------------------------------------------

    async def _keep(self, known: _Known, handler: str, error: Exception, key: str) -> None:
        """Put an event that a handler could not handle to the dead letters."""
        arrival = known.session._arrivals.get(key)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # made here
        if arrival is None:
            return
        self._given_up += 1
        self._log.error(
            "an event was given up", session_id=known.session.id, handler=handler, key=key,
            error=repr(error)[:500],
        )  # fmt: skip
        subject = self._broker.names.dead_letter(
            escape(known.session.id), self._group_name, handler
        )
        headers = {
            **arrival.headers,
            KEY: f"{key}.{self._group_name}.{handler}",
            "Rb-Key": key,
            "Rb-Stream-Seq": str(arrival.stream_sequence),
            "Rb-Handler": handler,
            "Rb-Error": repr(error)[:500],
        }
        await retrying(lambda: self._broker.js.publish(subject, arrival.payload, headers=headers))

    def _bury(self, known: _Known, arrival: Arrival, number: int) -> None:
        """Give up an event at which workers have died again and again."""
        part = known.part
        session = known.session

        async def bury() -> None:
            session._arrivals[arrival.key] = arrival  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # made here
            error = RuntimeError(f"{part.record.strikes} workers have died at it")
            await self._keep(known, "worker", error, arrival.key)
            session._arrivals.pop(arrival.key, None)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # made here
            self._done(part, number)

        if self._tasks is not None:
            self._tasks.start_soon(bury)


async def _run_in(scope: anyio.CancelScope, reader: Reader) -> None:
    with scope:
        await reader.run()


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() and len(text) < 20 else 0

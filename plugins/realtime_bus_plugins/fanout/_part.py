"""One partition in a worker's hands: its sessions, and the way of its events to their handlers.

Rules:

1. An event is acknowledged when every handler that wanted it is done with it: has handled it, has
   given it up after its last attempt, or has dropped it as its own options say.
2. One that is given up goes to the stream of dead letters, with what failed, before that.
3. A session is one `RemoteSession` in one worker, from its first event there until its end, until
   its partition goes elsewhere, or until nothing was heard of it for long.
4. A hole in a session's numbers is counted, and told to the session (`EventsMissing`).
5. Whoever may publish can publish anything: what cannot be handled costs that one event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from realtime_bus import CloseInfo
from realtime_bus import events as ev
from realtime_bus.feed import Feed, Redelivery
from realtime_bus.log import Logger

from ._broker import Broker
from ._holder import read_own_event
from ._nats import headers_of_others, retrying, size_bytes
from ._reader import Progress, Reader
from ._remote_session import Arrival, RemoteSession
from ._shares import Record
from ._subjects import escape, read_stored, unescape
from ._wire import HOLDER, KEY, PROTOCOL, SEQUENCE, SESSION, TIME

if TYPE_CHECKING:
    from ._remote_bus import RemoteBus

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


class Figures(msgspec.Struct):
    """What a worker counts; see `RemoteBusStatistics`."""

    received: int = 0
    repeated: int = 0
    settled: int = 0
    given_up: int = 0
    missing: int = 0


class Work(msgspec.Struct, frozen=True):
    """What all partitions of a worker share.

    Attributes:
        bus: Whose handlers they are.
        broker: Open.
        tasks: What handlers run in.
        group: The group's name.
        worker_id: What this process is called.
        redelivery: How often, and how soon.
        make_state: Makes the application's object of a session.
        own_class: Finds the class of an event that was never on the wire.
        may_handle: Tells whether this worker has its lease.
        figures: What is counted.
        log: Every line carries the group and the worker.
    """

    bus: RemoteBus
    broker: Broker
    tasks: TaskGroup
    group: str
    worker_id: str
    redelivery: Redelivery
    make_state: Callable[[RemoteSession[Any]], Any] | None
    own_class: Callable[[str], type[ev.BusEvent] | None]
    may_handle: Callable[[], bool]
    figures: Figures
    log: Logger


class Known:
    """A session that this worker has.

    Attributes:
        session: What handlers get.
        token: Its id in subjects.
        feed: Its way to them.
        heard_s: When its last event came.
        arrivals: How the events came that are in hand.
    """

    def __init__(self, session: RemoteSession[Any], token: str) -> None:
        self.session: RemoteSession[Any] = session
        self.token: str = token
        self.feed: Feed[Any] | None = None
        self.heard_s: float = monotonic()
        self._numbers: dict[str, int] = {}  # the last one, by incarnation
        self.arrivals: dict[str, Arrival] = session._arrivals  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # made here

    def hole_before(self, arrival: Arrival) -> tuple[int, int] | None:
        """Note a number; return the first and the last of those that are missing before it."""
        incarnation = arrival.key.rpartition(".")[0]
        last = self._numbers.get(incarnation)
        if last is None and len(self._numbers) >= _MAX_INCARNATIONS:
            self._numbers.clear()  # whoever publishes made them up
        self._numbers[incarnation] = max(arrival.sequence, last or 0)
        if last is None or arrival.sequence <= last + 1:
            return None
        return last + 1, arrival.sequence - 1


class Part:
    """One partition in this worker's hands.

    Args:
        work: What it shares with others.
        record: What the bucket says of it.

    Attributes:
        progress: What is in hand and done.
        reader: What reads it now.
        sessions: Those that this worker has, by token.
    """

    def __init__(self, work: Work, record: Record) -> None:
        self.progress: Progress = Progress(record.floor)
        self.reader: Reader | None = None
        self.sessions: dict[str, Known] = {}
        self._work = work
        self._repeated_until = record.newest
        self._first_is_deadly = record.strikes > work.redelivery.attempts
        self._scope: anyio.CancelScope | None = None
        self._holders: set[object] = set()
        self._emptied = anyio.Event()

    @property
    def newest(self) -> int:
        """Up to which number events have come, here or to other workers before."""
        return max(self.progress.newest, self._repeated_until)

    # --- reading -----------------------------------------------------------------------------

    def read(
        self, consumer: str, *, prefetch: int, careful_until: int, broken: Callable[[], object]
    ) -> None:
        """Read from now on with this consumer, and no longer with another one."""
        if self._scope is not None:
            self._scope.cancel()
        self.reader = Reader(
            self._work.broker,
            consumer,
            progress=self.progress,
            prefetch=prefetch,
            careful_until=careful_until,
            deliver=self._deliver,
            broken=broken,
        )
        self._scope = anyio.CancelScope()
        self._work.tasks.start_soon(_run_in, self._scope, self.reader)

    async def finish(self, timeout_s: float) -> None:
        """Take no more, finish what is in hand, and acknowledge it."""
        if self.reader is not None:
            self.reader.take_no_more()
        with anyio.move_on_after(timeout_s):
            while self.progress.unsettled:
                await self._emptied.wait()
        if self.reader is not None:
            await self.reader.flush()

    def leave(self) -> None:
        """Stop at once."""
        if self._scope is not None:
            self._scope.cancel()
        for known in list(self.sessions.values()):
            if known.feed is not None:
                known.feed.leave(_LEFT)

    def _done(self, number: int) -> None:
        self._work.figures.settled += 1
        self.progress.settle(number)
        if self.reader is not None:
            self.reader.advance()
        if not self.progress.unsettled:
            self._emptied.set()
            self._emptied = anyio.Event()

    def _hold(self, known: Known, held: bool) -> None:  # a state
        (self._holders.add if held else self._holders.discard)(known)
        if self.reader is not None:
            self.reader.pause(bool(self._holders))

    # --- events ------------------------------------------------------------------------------

    def _deliver(self, message: Any, number: int) -> None:
        """Hand an event over; whatever goes wrong here costs that one event."""
        self._work.figures.received += 1
        try:
            self._hand_over(message, number)
        except Exception as error:  # noqa: BLE001  # whoever published it may be anybody
            self._work.log.error(  # noqa: TRY400  # a line, not a traceback
                "an event cannot be handled", number=number, error=repr(error)[:500]
            )
            self._done(number)

    def _hand_over(self, message: Any, number: int) -> None:
        """Hand an event to its session's handlers."""
        stored = read_stored(message.subject)
        if stored is None or stored.side == "client":
            self._done(number)
            return
        headers: dict[str, str] = message.headers or {}
        arrival = Arrival(
            key=headers.get(KEY) or f"{stored.token}.{number}",
            sequence=_number(headers.get(SEQUENCE)),
            stream_sequence=number,
            published_at=_number(headers.get(TIME)) / 1e6,
            repeated=number <= self._repeated_until,
            headers=headers,
            payload=message.data,
        )
        figures = self._work.figures
        figures.repeated += arrival.repeated
        known = self.sessions.get(stored.token) or self._meet(stored.token, headers)
        known.heard_s = monotonic()
        known.session.holder = headers.get(HOLDER, known.session.holder)
        feed = known.feed
        if feed is None:
            self._done(number)
            return
        hole = known.hole_before(arrival)
        if hole is not None:
            count = hole[1] - hole[0] + 1
            known.session.missing += count
            figures.missing += count
            feed.emit(EventsMissing(first=hole[0], last=hole[1]))
        known.arrivals[arrival.key] = arrival
        if self._first_is_deadly:
            self._first_is_deadly = False
            self._work.tasks.start_soon(self._bury, known, arrival, number)
            return
        own = self._work.own_class
        event = read_own_event(message.data, own) if stored.side == "bus" else None

        def settled() -> None:
            known.arrivals.pop(arrival.key, None)
            self._done(number)
            if isinstance(event, ev.Closed):
                self.forget(stored.token, CloseInfo(code=event.code, reason=event.reason))

        if event is None:
            feed.frame(message.data, key=arrival.key, settled=settled)
        else:
            feed.event(event, key=arrival.key, settled=settled)

    # --- sessions ----------------------------------------------------------------------------

    def _meet(self, token: str, headers: Mapping[str, str]) -> Known:
        """Begin to know a session."""
        work = self._work
        session: RemoteSession[Any] = RemoteSession(
            work.broker, _id_of(token, headers), token=token, group=work.group, state=None
        )
        known = self.sessions[token] = Known(session, token)
        translates = headers.get(PROTOCOL) == "translation"
        session.protocol = "translation" if translates else "realtime"
        if work.make_state is not None:
            try:
                session.state = work.make_state(session)
            except Exception as error:  # noqa: BLE001  # the application's code
                told = repr(error)[:500]
                work.log.error("state= raised", session_id=session.id, error=told)  # noqa: TRY400  # the same
        known.feed = Feed(
            work.bus,
            session,
            tasks=work.tasks,
            protocol=session.protocol,
            redelivery=work.redelivery,
            may_handle=work.may_handle,
            keep=lambda handler, _event, error, key: self._keep(known, handler, error, key),
            on_held=lambda held: self._hold(known, held),
            log={"session_id": session.id, "worker": work.worker_id},
        )
        session._feed = known.feed  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # made here
        return known

    def forget(self, token: str, close: CloseInfo) -> None:
        """Forget a session that has ended, once everything of it is done."""
        known = self.sessions.get(token)
        if known is None or known.feed is None:
            return
        if known.feed.busy:
            self._work.tasks.start_soon(self._forget_later, token, known.feed, close)
            return
        del self.sessions[token]
        known.feed.leave(close)

    async def _forget_later(self, token: str, feed: Feed[Any], close: CloseInfo) -> None:
        await feed.wait_idle()
        self.forget(token, close)

    def forget_idle(self, before_s: float) -> None:
        """Forget sessions of which nothing was heard since then."""
        for token, known in list(self.sessions.items()):
            if known.heard_s < before_s and not (known.feed and known.feed.busy):
                self.forget(token, CloseInfo(reason="idle"))

    # --- dead letters ------------------------------------------------------------------------

    async def _keep(self, known: Known, handler: str, error: Exception, key: str) -> None:
        """Put an event that a handler could not handle to the dead letters."""
        arrival = known.arrivals.get(key)
        if arrival is None:
            return
        work, session = self._work, known.session
        work.figures.given_up += 1
        told = repr(error)[:500]
        work.log.error(
            "an event was given up", session_id=session.id, handler=handler, key=key, error=told
        )
        subject = work.broker.names.dead_letter(known.token, work.group, handler)
        headers = {
            **headers_of_others(arrival.headers),
            KEY: f"{key}.{work.group}.{handler}",
            "Rb-Key": key,
            "Rb-Stream-Seq": str(arrival.stream_sequence),
            "Rb-Handler": handler,
            "Rb-Error": told,
        }
        js = work.broker.js
        payload = arrival.payload
        if size_bytes(payload, headers) > work.broker.client.max_payload:
            payload = b""  # the stream has it
        await retrying(lambda: js.publish(subject, payload, headers=headers))

    async def _bury(self, known: Known, arrival: Arrival, number: int) -> None:
        """Give up an event at which workers have died again and again."""
        error = RuntimeError("workers have died at it, again and again")
        await self._keep(known, "worker", error, arrival.key)
        known.arrivals.pop(arrival.key, None)
        self._done(number)


def _id_of(token: str, headers: Mapping[str, str]) -> str:
    said = headers.get(SESSION, "")
    return said if escape(said) == token else unescape(token)


async def _run_in(scope: anyio.CancelScope, reader: Reader) -> None:
    with scope:
        await reader.run()


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 20 else 0

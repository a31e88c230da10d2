"""A bus in a worker: handlers for sessions that other processes hold.

What becomes of an event is in `_part`, who has which sessions in `_group`.
"""

from __future__ import annotations

import itertools
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

from realtime_bus import UsageError
from realtime_bus import events as ev
from realtime_bus.feed import BusOptions, Handlers, HandlerStatistics, Redelivery
from realtime_bus.log import get_logger

from ._broker import Broker, StreamSettings
from ._group import Group, Start, first_of, make_consumer, read_start
from ._holder import own_class
from ._nats import broker_errors, retrying
from ._part import Figures, Part, Work
from ._remote_session import RemoteSession, find_session
from ._shares import Record
from ._subjects import Names, escape
from ._wire import Whereabouts

_GROUP: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


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
        plugins: None: they work in the process that holds the session.

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
        plugins: tuple[()] = (),
    ) -> None:
        super().__init__((), BusOptions())
        if plugins:
            raise UsageError(
                "a RemoteBus has no plugins: they work where the session is held, so give them to "
                "Bus(plugins=[…]) there; here register handlers, or include a HandlerGroup"
            )
        if group is not None and not _GROUP.fullmatch(group):
            raise UsageError(f"group={group!r:.80}: give letters, digits, - and _, at most 32")
        if prefetch < 1:
            raise UsageError(f"prefetch={prefetch!r} must be positive")
        self._broker = Broker(
            Names(app),
            servers,
            settings=settings,
            options=connect or {},
            open_timeout_s=open_timeout_s,
        )
        self.worker_id: str = f"w-{token_hex(6)}"
        self._group_name = group or f"solo-{self.worker_id}"
        self._alone = group is None
        self._start_at = read_start(start)
        self._prefetch = prefetch
        self._redelivery = redelivery or Redelivery()
        self._make_state = state
        self._idle_s = idle_s
        self._drain_timeout_s = drain_timeout_s
        self._parts: dict[int, Part] = {}
        self._group: Group | None = None
        self._classes: dict[str, type[ev.BusEvent]] = {}
        self._classes_of = 0
        self._figures = Figures()
        self._work: Work | None = None
        self._log = get_logger().bind(app=app, group=self._group_name, worker=self.worker_id)

    # --- beginning and end -------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect, and take part in the group.

        Raises:
            MissingExtra: nats-py is not installed.
            UsageError: This is trio; or it is open already.
            BrokerUnreachable: No broker answered in time.
        """
        tasks = await self._broker.open()
        self._work = Work(
            bus=self,
            broker=self._broker,
            tasks=tasks,
            group=self._group_name,
            worker_id=self.worker_id,
            redelivery=self._redelivery,
            make_state=self._make_state,
            own_class=self._own_class,
            may_handle=self._may_handle,
            figures=self._figures,
            log=self._log,
        )
        if self._alone:
            tasks.start_soon(self._run_alone, self._work)
        else:
            self._group = Group(
                self._broker, self._group_name, self.worker_id, self, start=self._start_at
            )
            tasks.start_soon(self._group.run)
        tasks.start_soon(self._forget_the_idle)
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
            received=self._figures.received,
            repeated=self._figures.repeated,
            settled=self._figures.settled,
            unsettled=sum(part.progress.unsettled for part in self._parts.values()),
            given_up=self._figures.given_up,
            missing=self._figures.missing,
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

    async def _run_alone(self, work: Work) -> None:
        """Read everything, with a consumer that goes by itself when nobody reads."""
        start: Start = await retrying(lambda: first_of(self._broker, self._start_at))
        part = self._parts[-1] = Part(work, Record(floor=max(start.sequence - 1, 0)))
        ended = anyio.Event()
        self._broker.on_change(lambda there: ended.set() if there else None)
        made_at = self._broker.made_at
        for epoch in itertools.count(1):
            ended = anyio.Event()
            if made_at != self._broker.made_at:  # the broker has lost it all: so begin anew
                made_at, start = self._broker.made_at, Start(sequence=1)
                part.leave()
                part = self._parts[-1] = Part(work, Record())
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
            part.read(consumer, prefetch=self._prefetch, careful_until=0, broken=ended.set)
            await ended.wait()

    async def _remove_consumer(self) -> None:
        reader = self._parts[-1].reader if -1 in self._parts else None
        if reader is not None:
            with suppress(*broker_errors()):
                await self._broker.js.delete_consumer(self._broker.names.stream, reader.consumer)

    # --- what the group asks -----------------------------------------------------------------

    def begin(self, partition: int, consumer: str, record: Record, *, careful: int) -> None:
        """Read a partition from now on. Called by the group."""
        group, work = self._group, self._work
        if group is None or work is None:
            return
        part = self._parts.get(partition)
        if part is None:
            part = self._parts[partition] = Part(work, record)
        part.read(
            consumer,
            prefetch=self._prefetch,
            careful_until=careful,
            broken=lambda: group.broken(partition),
        )

    def _may_handle(self) -> bool:
        return self._group is None or self._group.holds_lease()

    def floor(self, partition: int) -> int | None:
        """Return up to where all is done, if the partition is read here. Called by the group."""
        part = self._parts.get(partition)
        return None if part is None else part.progress.floor

    def lose(self, partition: int) -> None:
        """Stop at once: another worker has it. Called by the group."""
        part = self._parts.pop(partition, None)
        if part is not None:
            part.leave()

    async def finish(self, partition: int) -> tuple[int, int] | None:
        """Take no more, finish what is in hand, and say how far that is. Called by the group."""
        part = self._parts.get(partition)
        if part is None:
            return None
        await part.finish(self._drain_timeout_s)
        floor, newest = part.progress.floor, part.newest
        if not self._alone:
            self.lose(partition)
        return floor, newest

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

    async def _forget_the_idle(self) -> None:
        while True:
            await anyio.sleep(min(self._idle_s / 4, 60.0))
            for part in list(self._parts.values()):
                part.forget_idle(monotonic() - self._idle_s)

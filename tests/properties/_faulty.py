"""A client and the local server, a random schedule, and faults on order: all by one seed.

The profiles, and what has to hold at the end of a schedule:

* ``harmless``: time, order and noise. Both conversations are equal, word for word and with the
  same ends of what was cut off, every request has succeeded or
  was refused for a reason that the schedule explains, every call was answered once, no rule of the
  protocol was broken, no audio came late, no handler failed.
* ``doubling``: events twice and late, too. The same; but a truncation may be refused, where the
  client has heard more than the server has said.
* ``ending``: connections end, and the session with them. The client has nothing that the server
  had not, in the same order; every request was resolved. Silences may add up to more than a request
  waits: one that ran out of time while the connection lived on was answered late.
* ``outliving``: the same faults, but the session reconnects. At the end both conversations are
  equal, except for what was told as lost; every call that is in it was answered once.
* ``lossy``: events, fields and values are missing, too. Every request was resolved; no call was
  answered twice on one connection.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from functools import partial
from typing import Any

import msgspec
import trio
import trio.testing

from realtime_bus import (
    ConnectError,
    ConnectionLost,
    InvalidEvent,
    RequestRejected,
    RequestTimeout,
    Session,
    SessionClosed,
)
from realtime_bus import events as ev
from realtime_bus.server import FaultPlan, faults
from realtime_bus.transport import MemoryTransport

from ._world import EXPECTED_ERRORS, LIMIT_S, STEPS, Quiet, World, by_seed

_HARMLESS: tuple[type[faults.AnyFault], ...] = (
    faults.Delay,
    faults.Stall,
    faults.SlowRead,
    faults.Reorder,
    faults.Unknown,
    faults.Malform,
)
_DOUBLING = (*_HARMLESS, faults.Duplicate, faults.LateDeltas)
_ENDS = (faults.Drop, faults.Close, faults.HalfOpen, faults.ShortLife)
_ENDING = (*_DOUBLING, *_ENDS)

PROFILES: dict[str, tuple[type[faults.AnyFault], ...]] = {
    "harmless": _HARMLESS,
    "doubling": _DOUBLING,
    "ending": _ENDING,
    "outliving": (*_ENDING, faults.Refuse),
    "lossy": (*_ENDING, faults.Refuse, faults.Lose, faults.Missing, faults.Null),
}

_MORE_ERRORS: dict[str, set[str]] = {
    "harmless": set(),
    "doubling": {"invalid_value"},  # a truncation behind audio that came twice
    "ending": {"invalid_value", "session_expired"},
    "outliving": {"invalid_value", "session_expired"},
}
_PATIENCE_S = 30.0  # after which a client's keepalive has found a connection to be half open
_RESOLVED = (SessionClosed, RequestTimeout, RequestRejected, ConnectionLost)


class FaultySchedule:
    """What one seed stands for.

    Attributes:
        seed: Which.
        profile: What kinds of faults there may be.
        plan: What goes wrong.
        steps: What the person and the application do.
    """

    def __init__(self, seed: int) -> None:
        pick = random.Random(seed)  # noqa: S311  # a schedule, not secrets
        self.seed = seed
        self.profile = list(PROFILES)[seed % len(PROFILES)]
        planned = FaultPlan.from_seed(seed, kinds=PROFILES[self.profile], within_s=10).faults
        if faults.Drop in PROFILES[self.profile]:  # some connection is to end, in any case
            ends = FaultPlan.from_seed(seed, kinds=_ENDS, within_s=5).faults[0]
            planned += (msgspec.structs.replace(ends, connection=1, p=1.0),)
            if pick.random() < 0.5:  # so that it finds something under way
                planned += (faults.Delay(latency_s=0.2, jitter_s=0.2),)
        self.plan = FaultPlan(tuple(self._placed(fault, pick) for fault in planned), seed=seed)
        names = sorted(STEPS)
        count = pick.randint(10, 60)
        self.steps = [(pick.choice(names), pick.randint(0, 11)) for _ in range(count)]

    @property
    def reconnects(self) -> bool:
        """Whether the session outlives its connections."""
        return self.profile in {"outliving", "lossy"}

    @property
    def settings(self) -> dict[str, Any]:
        """What the session begins with: every second one has speech written down."""
        return {"transcription": ev.Transcription(model="whisper-1")} if self.seed % 2 else {}

    def _placed(self, fault: faults.AnyFault, pick: random.Random) -> faults.AnyFault:
        """Have some connections end, but not each of them."""
        if isinstance(fault, faults.Refuse):
            return msgspec.structs.replace(fault, connection=pick.randint(2, 3), p=1.0)
        if isinstance(fault, _ENDS) and fault.connection is None:
            last = 3 if self.reconnects else 1
            return msgspec.structs.replace(fault, connection=pick.randint(1, last), p=1.0)
        return fault


class FaultyWorld(World):
    """One conversation under a schedule with faults.

    Attributes:
        schedule: Which.
        outcomes: How requests were resolved, by the name of what came out of them.
        unanswered: Requests that ran out of time, and were not answered later either.
        reconnected: What was told of each connection that took over.
        ended: The session has ended before the schedule had.
        renamed: The server calls some items otherwise, for it was given them back.
    """

    def __init__(self, schedule: FaultySchedule) -> None:
        super().__init__(schedule.seed, schedule.plan)
        self.schedule = schedule
        self.outcomes: Counter[str] = Counter()
        self.unanswered: list[str] = []
        self.reconnected: list[ev.Reconnected] = []
        self.ended = False
        self.renamed = False
        self._lines: trio.Nursery
        self._transport: MemoryTransport
        self._dialled = 0
        self._timed_out: list[RequestTimeout] = []
        self.bus.on(ev.Reconnected)(self.reconnected.append)

    async def live(self) -> None:
        """Take every step, and wait until all has come to rest, or the session has ended."""
        async with trio.open_nursery() as self._lines:
            try:
                async with self.bus.connect(
                    "ws://127.0.0.1:9/v1/realtime?model=m",
                    dial=self._dial,
                    reconnect=self.schedule.reconnects,
                    **self.schedule.settings,
                ) as session:
                    await self._live(session, self.schedule.steps)
                    self.server.look_at(session.id)
                    self._compare(session)
                    # whoever gave up keeps its place until the answer comes; a reply has none
                    waiting = {pending.event.event_id for pending in session._requests._sent}
                    self.unanswered = [
                        f"{error.event_type} {error.event_id}"
                        for error in self._timed_out
                        if error.event_type == "response.create" or error.event_id in waiting
                    ]
                    if (
                        names := session._pipeline.outgoing.names
                    ) is not None:  # the server's own ids
                        self.renamed = True
                        self.order = [names.there(item) for item in self.order]
            except (ConnectError, SessionClosed, RequestTimeout) as error:  # while it was opened
                self.outcomes[type(error).__name__] += 1
                self.ended = True
                self.order, self.server_order = [], []
                self.calls, self.answers = set(), Counter()
            self._lines.cancel_scope.cancel()

    # Connections

    async def _dial(self, _url: str, **_options: Any) -> Any:
        transport = await self._lines.start(self._line)
        return transport if self.quiet is None else Quiet(transport, self.quiet)

    async def _line(self, *, task_status: trio.TaskStatus[MemoryTransport]) -> None:
        self._dialled += 1
        number = self._dialled
        async with self.server.connect_memory() as transport:
            self._transport = transport
            task_status.started(transport)
            while not self._is_dead(number):  # noqa: ASYNC110  # a virtual clock: it costs nothing
                await trio.sleep(_PATIENCE_S)
            transport.sever(TimeoutError("no pong"))
            await trio.sleep_forever()

    def _is_dead(self, number: int) -> bool:
        """Tell what a keepalive would, which memory has not."""
        return any(
            isinstance(fired.fault, faults.HalfOpen) and fired.fault.for_s is None
            for fired in self.server.faults_fired
            if fired.connection == number
        )

    # Steps

    async def _live(self, session: Session, schedule: list[tuple[str, int]]) -> None:
        async with trio.open_nursery() as nursery:
            try:
                for name, number in schedule:
                    await STEPS[name](self, session, nursery, number)
                    self.steps += 1
                with trio.move_on_after(LIMIT_S):
                    await self._rest(session, nursery)
                    while self._behind:
                        await self._rest(session, nursery)
            except SessionClosed:
                self.ended = True
            with trio.move_on_after(LIMIT_S):
                while nursery.child_tasks:  # noqa: ASYNC110  # a virtual clock: it costs nothing
                    await trio.sleep(1.0)
            self.hanging = len(nursery.child_tasks)
            nursery.cancel_scope.cancel()
        self.ended = self.ended or session.close_info is not None

    @property
    def _behind(self) -> bool:
        """Whether the server has not read or sent all, because it is slow."""
        if self.ended:
            return False
        unsent = [session._transport.buffered_bytes for session in self.server.sessions]
        return any([self._transport.buffered_bytes, *unsent])

    async def awaited(self, reply: Any) -> None:
        """Await a response; whatever becomes of it is noted."""
        await self._noted(partial(super().awaited, reply))

    async def tolerant(self, function: Any, *arguments: Any) -> None:
        """Send a request; whatever becomes of it is noted."""
        await self._noted(partial(super().tolerant, function, *arguments))

    async def _noted(self, function: Any) -> None:
        resolved = _RESOLVED
        if self.schedule.profile == "lossy":  # who asks for an item whose id never came?
            resolved = (*_RESOLVED, InvalidEvent)
        try:
            await function()
        except resolved as error:
            self.outcomes[type(error).__name__] += 1
            if isinstance(error, RequestTimeout):
                self._timed_out.append(error)
        else:
            self.outcomes["done"] += 1

    # The end

    def complaints(self) -> list[str]:
        """Return what is not as it should be."""
        profile = self.schedule.profile
        found = [f"{self.hanging} requests hang"] * (self.hanging > 0)
        twice = {call: count for call, count in self.answers.items() if count > 1}
        found += [f"{call} was answered {count} times" for call, count in twice.items()]
        if profile == "lossy":
            return found
        found += [f"handler: {failure}" for failure in self.failures]
        unexpected = set(self.errors) - EXPECTED_ERRORS - _MORE_ERRORS[profile]
        found += [f"error: {code}" for code in unexpected]
        found += [f"late audio of {item}" for item in self.late]
        excused = set[str]()
        if any(fired.kind == "half_open" for fired in self.server.faults_fired):
            excused.add("one-active-response")  # the first one was given up after a time
        found += [f"broke the rule {rule}" for rule in self.violations if rule not in excused]
        if self.ended and profile in {"harmless", "doubling"}:
            found.append(f"the session has ended: {dict(self.outcomes)}")
        if self.ended:
            return found + self._more_than_was_there()
        found += [f"{call} was not answered" for call in self.calls - set(self.answers)]
        gone = self.lost()
        ours, theirs = [item for item in self.order if item not in gone], self.server_order
        if ours != theirs:
            told = f" (lost: {sorted(gone)})" if gone else ""
            found.append(f"client has {self.order}, server has {self.server_order}{told}")
        if "invalid_value" not in self.errors:  # what was heard twice cannot be cut there
            found += self.otherwise
        found += [f"{request} was never answered" for request in self.unanswered]
        failed = {"SessionClosed", "RequestTimeout"} & self.outcomes.keys()
        if profile == "ending":
            failed.discard("RequestTimeout")
        if failed and profile != "outliving":
            found.append(f"requests failed: {sorted(failed)}")
        return found

    def _more_than_was_there(self) -> list[str]:
        """Return what the client has that the server had not: what was on its way may be lost."""
        if self.reconnected:
            return []
        theirs = [item for item in self.server_order if item in set(self.order)]
        ours = [item for item in self.order if item in set(self.server_order)]
        extra = set(self.order) - set(self.server_order) - self._deleted
        if ours == theirs and not extra:
            return []
        return [f"client has {self.order}, server had {self.server_order}"]

    def lost(self) -> set[str]:
        """Return what the last connection that took over was told not to have."""
        if not self.reconnected:
            return set()
        last = self.reconnected[-1]
        return {lost.id for lost in last.lost if lost.what == "item"} - set(last.restored)


def run_seed(seed: int) -> tuple[FaultyWorld, list[str]]:
    """Run what a seed stands for, on a clock that jumps over all waiting.

    Returns:
        The world at its end, and what is not as it should be.
    """
    worlds: list[FaultyWorld] = []

    async def main() -> None:
        worlds.append(FaultyWorld(FaultySchedule(seed)))
        await worlds[0].live()

    with by_seed(seed):
        try:
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        except Exception:  # noqa: BLE001  # that is a complaint, too
            return worlds[0], [traceback.format_exc()]
    return worlds[0], worlds[0].complaints()

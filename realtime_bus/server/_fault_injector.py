"""The faults of one connection: between what the session says and what is on the wire.

Pure: frames and the time go in, frames that are due come out, and when to ask again. It does
nothing by itself; `FaultyTransport` is its hands.

The rules
---------
* A frame of the server goes through three stages: what is done to it (`Malform`, `Lose`, …),
  then the waiting of those that let others overtake (`Reorder`), then the time line, on which
  nothing overtakes (`Delay`, `Stall`, `HalfOpen`, `Close`).
* Faults fire in the plan's order; one of the connection after those of the event, so that the
  event that sets it off still gets out.
* `Drop` is at once: what is delayed then is lost. `Close` has its place on the time line.
* After either nothing is taken or given any more.
* Bounds: what waits is counted in ``held_bytes``, and whoever sends is to look at it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from math import inf
from typing import Any, ClassVar, cast

from . import faults as of
from ._fault_events import DO, WHERE, Passing, name_of
from ._fault_order import Overtaking


class ArmedFault:
    """A fault on one connection, and how far it is.

    Args:
        fault: Which.
        from_s: When it is armed.
        chance: What is left to chance in it.

    Attributes:
        fired: How often it has.
        called: Whether a client's event has set it off, for the server's next one.
    """

    def __init__(self, fault: of.AnyFault, from_s: float, chance: random.Random) -> None:
        self.fault = fault
        self.from_s = from_s
        self.chance = chance
        self.fired: int = 0
        self.called: bool = False
        self._seen = 0

    @property
    def spent(self) -> bool:
        """Whether it never fires again."""
        return 0 < self.fault.times <= self.fired

    def is_hit(self, name: str, pattern: str | None, now_s: float) -> bool:
        """Tell whether an event of this name sets it off; ask once for each event."""
        if now_s < self.from_s or self.spent or not fnmatchcase(name, pattern or "*"):
            return False
        self._seen += 1
        return self._seen >= self.fault.nth and self.is_lucky()

    def is_lucky(self) -> bool:
        """Throw the dice, once."""
        return self.fault.p >= 1 or self.chance.random() < self.fault.p


class TimeLine:
    """Frames in, frames out when they are due; none overtakes another."""

    def __init__(self) -> None:
        self.silent_until_s: float = -inf
        self.held_bytes: int = 0
        self._line: deque[tuple[float, bytes | of.Close]] = deque()
        self._delays: list[tuple[float, of.Delay, random.Random]] = []  # each with its end

    def put(self, what: bytes | of.Close, now_s: float) -> None:
        """Give it its time."""
        self._delays = [delay for delay in self._delays if now_s < delay[0]]
        due_s = now_s
        for _, fault, chance in self._delays:
            due_s += fault.latency_s + fault.jitter_s * chance.random()
        if self._line:
            due_s = max(due_s, self._line[-1][0])
        self._line.append((due_s, what))
        self.held_bytes += len(what) if isinstance(what, bytes) else 0

    def delay(self, fault: of.Delay, chance: random.Random, until_s: float) -> None:
        """Have everything come later from now on."""
        self._delays.append((until_s, fault, chance))

    def take(self, now_s: float) -> bytes | of.Close | None:
        """Return the next that is due; None if none is."""
        due_s = self.next_deadline()
        if due_s is None or due_s > now_s:
            return None
        _, what = self._line.popleft()
        self.held_bytes -= len(what) if isinstance(what, bytes) else 0
        return what

    def clear(self) -> list[bytes]:
        """Return what waits, and forget it."""
        frames = [what for _, what in self._line if isinstance(what, bytes)]
        self._line.clear()
        self.held_bytes = 0
        return frames

    def next_deadline(self) -> float | None:
        """Return when the next is due; None if none waits."""
        return max(self._line[0][0], self.silent_until_s) if self._line else None


class FaultInjector:
    """The faults of one connection.

    Args:
        faults: In the plan's order; those for other connections are left out.
        seed: Of what is left to chance.
        connection: The how many-th connection of the server it is.
        now_s: When it began.
        on_fired: Called with each fault that fires.

    Attributes:
        end: How the connection is to be ended now, if it is.
        deaf_until_s: Nothing is to be read before this time.
        life_s: How long the session lives by these faults; None: they do not say.
    """

    def __init__(
        self,
        faults: Iterable[of.AnyFault] = (),
        *,
        seed: int = 0,
        connection: int = 1,
        now_s: float = 0.0,
        on_fired: Callable[[of.FaultFired], None] = lambda _fired: None,
    ) -> None:
        self.end: of.Drop | of.Close | None = None
        self.deaf_until_s: float = -inf
        self.life_s: float | None = None
        self._seed, self._connection, self._on_fired = seed, connection, on_fired
        self._begun_s = self._now_s = now_s
        self._count = 0
        self._timed: list[ArmedFault] = []  # begin by the clock
        self._on_sent: list[ArmedFault] = []  # look at the server's events
        self._on_received: list[ArmedFault] = []  # look at the client's events
        self._overtaking: Overtaking | None = None
        self._line = TimeLine()
        self._closing = False
        self._slow: tuple[float, float] = (-inf, inf)  # until when, how fast
        self._last_audio = b""
        for fault in faults:
            self.add(fault, now_s)

    def add(self, fault: of.AnyFault, now_s: float) -> None:
        """Arm one more fault; its ``after_s`` counts from now."""
        self._count += 1
        if fault.connection not in (None, self._connection) or isinstance(fault, of.Refuse):
            return
        chance = random.Random(f"{self._seed}/{self._connection}/{self._count}")  # noqa: S311  # faults, not secrets
        armed = ArmedFault(fault, now_s + fault.after_s, chance)
        if isinstance(fault, of.ShortLife):
            if armed.is_lucky():
                self.life_s = min(fault.after_s, self.life_s or inf)
                self._on_sent.append(armed)
            return
        if isinstance(fault, of.Reorder) and self._overtaking is None:
            self._overtaking = Overtaking()
        if fault.on is not None:
            self._on_received.append(armed)
        if fault.of_events or fault.at is not None:
            self._on_sent.append(armed)
        elif fault.on is None and armed.is_lucky():
            self._timed.append(armed)

    # In

    def receive(self, frame: bytes, now_s: float) -> None:
        """Take note of a client's frame."""
        self._now_s = now_s
        until_s, bytes_per_s = self._slow
        if now_s < until_s:
            self.deaf_until_s = max(self.deaf_until_s, now_s) + len(frame) / bytes_per_s
        if not self._on_received:
            return
        name = name_of(frame)
        for armed in self._on_received:
            if armed.is_hit(name, armed.fault.on, now_s):
                if armed.fault.of_events:
                    armed.called = True
                else:
                    self._begin(armed, now_s, name)

    def send(self, frame: bytes, now_s: float) -> list[bytes]:
        """Take a frame of the server, and return those that are due."""
        if not self._count:
            return [frame]
        self._now_s = now_s
        if self.end is not None or self._closing:
            return []
        passing = Passing(frame, self._last_audio)
        begin = [armed for armed in self._on_sent if self._is_set_off(armed, passing, now_s)]
        if passing.name == "response.output_audio.delta":
            self._last_audio = frame
        for each in self._ordered(passing, now_s):
            self._line.put(each, now_s)
        due = self.tick(now_s)
        for armed in begin:
            self._begin(armed, now_s, passing.name)
        return due + self.tick(now_s)

    # Out

    def tick(self, now_s: float) -> list[bytes]:
        """Return what is due."""
        self._now_s = now_s
        for armed in [armed for armed in self._timed if armed.from_s <= now_s]:
            self._timed.remove(armed)
            self._begin(armed, now_s, None)
        self._stop_waiting(now_s)
        due: list[bytes] = []
        while self.end is None and (what := self._line.take(now_s)) is not None:
            if isinstance(what, of.Close):
                self.end = what
            else:
                due.append(what)
        return due

    def flush(self, now_s: float) -> list[bytes]:
        """Return all that waits, because the session ends; nothing while it is silent."""
        if self.end is not None or self._closing or now_s < self._line.silent_until_s:
            return []
        self._stop_waiting(inf)
        return self._line.clear()

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do, or reading may go on; None: nothing waits."""
        if self.end is not None:
            return None
        times = [armed.from_s for armed in self._timed]
        waiting = self._overtaking.next_deadline() if self._overtaking is not None else None
        times += [at for at in (waiting, self._line.next_deadline()) if at is not None]
        if self.deaf_until_s > self._now_s:
            times.append(self.deaf_until_s)
        return min((at for at in times if at < inf), default=None)

    @property
    def held_bytes(self) -> int:
        """How much waits, in bytes."""
        return self._line.held_bytes + (self._overtaking.held_bytes if self._overtaking else 0)

    # Faults of single events

    def _is_set_off(self, armed: ArmedFault, passing: Passing, now_s: float) -> bool:
        """Tell whether a fault of the connection begins here; do one of the event itself."""
        fault = armed.fault
        is_there = WHERE.get(type(fault))
        if is_there is not None and not is_there(passing):
            return False
        if fault.of_events and fault.on is not None:
            hit, armed.called = armed.called, False
        else:
            hit = armed.is_hit(passing.name, fault.at, now_s)
        if not fault.of_events and is_there is None:
            return hit
        if not hit or passing.frame is None:
            return False
        if isinstance(fault, of.Reorder):
            passing.hold = armed
        elif DO[type(fault)](fault, passing, passing.frame, armed.chance):
            self._note(armed, now_s, passing.name)
        return False

    def _ordered(self, passing: Passing, now_s: float) -> Iterable[bytes]:
        """Return what goes on in place of a frame, and of those that waited for it."""
        own = [] if passing.frame is None else [passing.frame]
        if self._overtaking is None:
            return [*passing.before, *own, *passing.after]
        passed = [each for frame in passing.before for each in self._overtaking.take(frame)]
        if isinstance(passing.hold, ArmedFault) and passing.frame is not None:
            armed, fault = passing.hold, cast("of.Reorder", passing.hold.fault)
            done: list[bool] = []

            def overtaken() -> None:
                if not done:  # however many do, it is one fault
                    done.append(True)
                    self._note(armed, self._now_s, passing.name)

            passed += self._overtaking.hold(
                passing.frame,
                events=fault.events,
                until_s=now_s + fault.hold_s,
                on_overtaken=overtaken,
            )
            own = []
        for frame in (*own, *passing.after):
            passed += self._overtaking.take(frame)
        return passed

    def _stop_waiting(self, until_s: float) -> None:
        if self._overtaking is not None:
            for frame in self._overtaking.due(until_s):
                self._line.put(frame, self._now_s)

    # Faults of the connection

    def _begin(self, armed: ArmedFault, now_s: float, event: str | None) -> None:
        if self.end is None and not self._closing:
            self._BEGIN[type(armed.fault)](self, armed, now_s)
            self._note(armed, now_s, event)

    def _drop(self, armed: ArmedFault, _now_s: float) -> None:
        self.end = cast("of.Drop", armed.fault)
        self._stop_waiting(inf)
        self._line.clear()

    def _close(self, armed: ArmedFault, now_s: float) -> None:
        self._stop_waiting(inf)
        self._line.put(cast("of.Close", armed.fault), now_s)
        self._closing = True

    def _stall(self, armed: ArmedFault, now_s: float) -> None:
        until_s = _until(now_s, cast("of.Stall | of.HalfOpen", armed.fault).for_s)
        self._line.silent_until_s = max(self._line.silent_until_s, until_s)
        if isinstance(armed.fault, of.HalfOpen):
            self.deaf_until_s = max(self.deaf_until_s, until_s)

    def _delay(self, armed: ArmedFault, now_s: float) -> None:
        fault = cast("of.Delay", armed.fault)
        self._line.delay(fault, armed.chance, _until(now_s, fault.for_s))

    def _read_slowly(self, armed: ArmedFault, now_s: float) -> None:
        fault = cast("of.SlowRead", armed.fault)
        self._slow = (_until(now_s, fault.for_s), fault.bytes_per_s)

    _BEGIN: ClassVar[dict[type, Callable[[Any, ArmedFault, float], None]]] = {
        of.Drop: _drop,
        of.Close: _close,
        of.Stall: _stall,
        of.HalfOpen: _stall,
        of.Delay: _delay,
        of.SlowRead: _read_slowly,
    }

    def _note(self, armed: ArmedFault, now_s: float, event: str | None) -> None:
        armed.fired += 1
        self._on_fired(
            of.FaultFired(
                fault=armed.fault,
                connection=self._connection,
                at_s=now_s - self._begun_s,
                event=event or None,
            )
        )


def _until(now_s: float, for_s: float | None) -> float:
    return inf if for_s is None else now_s + for_s

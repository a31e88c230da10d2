"""What a server may be told to do wrong: a plan of faults, as plain data.

A plan is a list of faults, each with what happens and when. It is written down in code, in a file
(TOML or JSON), or drawn from a seed::

    seed = 7

    [[faults]]
    kind = "refuse"  # the first three upgrades are refused
    status = 503
    times = 3

    [[faults]]
    kind = "drop"  # the second connection is cut in its fifth audio delta
    connection = 2
    at = "response.output_audio.delta"
    nth = 5

The rules
---------
* A fault is armed ``after_s`` seconds into a connection. With ``at`` it fires at the server's
  ``nth`` event of that name from then on, with ``on`` at the client's; with neither, at once, or
  (a fault of single events) at any event. A name may be a pattern, such as ``response.*.delta``.
* It fires at most ``times`` times on a connection (0: without bound), each time with the chance
  ``p``.
* A fault of single events does something to the event that it fires at, or with ``on`` to the
  server's next one. A fault of the connection begins behind the event that it fires at: that one
  still gets out.
* The same plan and the same frames make the same faults: what is left to chance is drawn from the
  plan's seed, for each connection and each fault anew.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias

import msgspec

from realtime_bus.errors import RealtimeBusError, UsageError
from realtime_bus.events._registry import PROTOCOLS
from realtime_bus.transport._transport import check_close_code

__all__ = [
    "AnyFault",
    "Close",
    "Delay",
    "Drop",
    "Duplicate",
    "Fault",
    "FaultFired",
    "FaultPlan",
    "FaultPlanError",
    "HalfOpen",
    "LateDeltas",
    "Lose",
    "Malform",
    "Missing",
    "Null",
    "Refuse",
    "Reorder",
    "ShortLife",
    "SlowRead",
    "Stall",
    "Unknown",
]

_SERVER_NAMES = frozenset(name for protocol in PROTOCOLS.values() for name in protocol.server)
_CLIENT_NAMES = frozenset(name for protocol in PROTOCOLS.values() for name in protocol.client)


class FaultPlanError(RealtimeBusError, ValueError):
    """A plan that cannot be read.

    Attributes:
        path: The file, or an empty string.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def _kind(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


class Fault(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    tag=_kind,
):
    """When something goes wrong; the subclasses say what.

    Attributes:
        after_s: Not before so many seconds of the connection.
        at: The server's event that sets it off, by name or pattern.
        on: The client's event that sets it off, by name or pattern.
        nth: The how many-th such event.
        times: How often at most on a connection; 0 is without bound.
        p: How likely it is, each time.
        connection: Only on this connection of the server, the first being 1; None: on each.
    """

    of_events: ClassVar[bool] = False
    """Whether it is done to single events of the server, and not to the connection."""

    after_s: float = 0.0
    at: str | None = None
    on: str | None = None
    nth: int = 1
    times: int = 1
    p: float = 1.0
    connection: int | None = None

    @property
    def kind(self) -> str:
        """Its name in files, such as ``half_open``."""
        return str(self.__struct_config__.tag)

    def __post_init__(self) -> None:
        if not self.after_s >= 0:
            raise UsageError(f"after_s must be 0 or more, not {self.after_s}")
        if self.at is not None and self.on is not None:
            raise UsageError("give one of at (the server's event) and on (the client's), not both")
        _check_name("at", self.at, _SERVER_NAMES)
        _check_name("on", self.on, _CLIENT_NAMES)
        if self.nth < 1:
            raise UsageError(f"nth counts from 1, not from {self.nth}")
        if self.times < 0:
            raise UsageError(f"times must be 0 (without bound) or more, not {self.times}")
        if not 0 < self.p <= 1:
            raise UsageError(f"p must be above 0 and at most 1, not {self.p}")
        if self.connection is not None and self.connection < 1:
            raise UsageError(f"connections count from 1, not from {self.connection}")
        self._check()

    def _check(self) -> None:
        """Check the fields that say what happens."""

    def _only_takes(self, *fields: str) -> None:
        """Refuse triggers that such a fault cannot have."""
        for name in ("after_s", "at", "on", "nth"):
            if name not in fields and getattr(self, name) not in (None, 0.0, 1):
                raise UsageError(f"a fault of the kind {self.kind!r} takes no {name}")


def _check_name(field: str, name: str | None, known: frozenset[str]) -> None:
    if name is None or any(fnmatchcase(each, name) for each in known):
        return
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    whose = "server" if field == "at" else "client"
    raise UsageError(f"{field}: no {whose} event is named {name!r}{meant}")


def _check_duration(name: str, value: float | None, *, least: float = 0.0) -> None:
    if value is not None and not value >= least:
        raise UsageError(f"{name} must be {least:g} or more, not {value}")


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} must be 1 or more, not {value}")


# Faults of the connection


class Drop(Fault, frozen=True, kw_only=True):
    """Cut the connection without a close frame: clients see 1006.

    Attributes:
        reset: With a TCP reset in place of an end of the stream.
    """

    reset: bool = False


class Close(Fault, frozen=True, kw_only=True):
    """Close the connection, behind what is delayed; nothing is said after it.

    Attributes:
        code: The close code, 1005 for a close frame without one.
        reason: The close frame's reason.
    """

    code: int = 1011
    reason: str = ""

    def _check(self) -> None:
        if self.code != 1005:
            check_close_code(self.code)


class Stall(Fault, frozen=True, kw_only=True):
    """Send nothing for a while; read on, and answer pings.

    Attributes:
        for_s: How long; None: for ever.
    """

    for_s: float | None = None

    def _check(self) -> None:
        _check_duration("for_s", self.for_s)


class HalfOpen(Fault, frozen=True, kw_only=True):
    """Neither send nor read, as if the network were gone: no ping is answered.

    Attributes:
        for_s: How long; None: for ever.
    """

    for_s: float | None = None

    def _check(self) -> None:
        _check_duration("for_s", self.for_s)


class Delay(Fault, frozen=True, kw_only=True):
    """Send everything later, in its order.

    Attributes:
        latency_s: So much later.
        jitter_s: And at random up to so much more.
        for_s: How long; None: to the end.
    """

    latency_s: float = 0.1
    jitter_s: float = 0.0
    for_s: float | None = None

    def _check(self) -> None:
        _check_duration("latency_s", self.latency_s)
        _check_duration("jitter_s", self.jitter_s)
        _check_duration("for_s", self.for_s)


class SlowRead(Fault, frozen=True, kw_only=True):
    """Read slowly, so that the client's frames pile up.

    Attributes:
        bytes_per_s: How much is read, in bytes of frames.
        for_s: How long; None: to the end.
    """

    bytes_per_s: float = 16_000
    for_s: float | None = None

    def _check(self) -> None:
        if not self.bytes_per_s > 0:
            raise UsageError(f"bytes_per_s must be above 0, not {self.bytes_per_s}; see half_open")
        _check_duration("for_s", self.for_s)


class ShortLife(Fault, frozen=True, kw_only=True):
    """End the session after ``after_s``, as its limit does: ``session_expired``, then close 1001.

    ``session.expires_at`` tells that time. Needs `after_s`; ``at``, ``on`` and ``nth`` do not go
    with it.
    """

    def _check(self) -> None:
        self._only_takes("after_s")
        if not self.after_s > 0:
            raise UsageError("a short life needs after_s: how many seconds it lasts")


class Refuse(Fault, frozen=True, kw_only=True):
    """Answer the upgrade with an HTTP error; with ``times``, so many connections of the server.

    Attributes:
        status: The HTTP status, from 400 to 599.
    """

    status: int = 503

    def _check(self) -> None:
        self._only_takes()
        if not 400 <= self.status <= 599:
            raise UsageError(f"status must be an HTTP error, from 400 to 599, not {self.status}")


# Faults of single events


class Reorder(Fault, frozen=True, kw_only=True):
    """Let later events overtake this one, none that the protocol promises to come after it.

    `may_overtake` says which may.

    Attributes:
        events: Most events that overtake it.
        hold_s: It is held back no longer than this.
    """

    of_events: ClassVar[bool] = True

    events: int = 3
    hold_s: float = 0.2

    def _check(self) -> None:
        _check_count("events", self.events)
        _check_duration("hold_s", self.hold_s)


class LateDeltas(Fault, frozen=True, kw_only=True):
    """After a cancelled response's ``response.done`` send more of its audio.

    It fires at such events only: ``at`` and ``on`` do not go with it.

    Attributes:
        count: How many deltas.
    """

    of_events: ClassVar[bool] = True

    count: int = 3

    def _check(self) -> None:
        self._only_takes("after_s", "nth")
        _check_count("count", self.count)


class Lose(Fault, frozen=True, kw_only=True):
    """Leave the event out: ``at="response.created"`` is a response done without created."""

    of_events: ClassVar[bool] = True


Garbling: TypeAlias = Literal["cut", "text", "array", "number", "empty", "untyped", "deep"]
"""How a frame is broken: its second half is missing; no JSON at all; an array around it; a number;
nothing; an object without ``type``; brackets, ten thousand deep."""


class Malform(Fault, frozen=True, kw_only=True):
    """Send a broken frame before the event, or in its place.

    Attributes:
        how: In which way broken; None: one at random.
        instead: The event itself is lost.
    """

    of_events: ClassVar[bool] = True

    how: Garbling | None = None
    instead: bool = False


class Unknown(Fault, frozen=True, kw_only=True):
    """Send events of a type that nobody knows before the event.

    Attributes:
        count: How many.
    """

    of_events: ClassVar[bool] = True

    count: int = 1

    def _check(self) -> None:
        _check_count("count", self.count)


class Duplicate(Fault, frozen=True, kw_only=True):
    """Send the event again, with the same id.

    Attributes:
        count: How many times more.
    """

    of_events: ClassVar[bool] = True

    count: int = 1

    def _check(self) -> None:
        _check_count("count", self.count)


class Missing(Fault, frozen=True, kw_only=True):
    """Leave a field out.

    Attributes:
        field: Which, such as ``response.output.0.id``; None: one at random, never ``type``. An
            event that has no such field stays as it is, and nothing has fired.
    """

    of_events: ClassVar[bool] = True

    field: str | None = None


class Null(Fault, frozen=True, kw_only=True):
    """Send null in place of a field's value.

    Attributes:
        field: Which; see `Missing`.
    """

    of_events: ClassVar[bool] = True

    field: str | None = None


AnyFault: TypeAlias = (
    Drop
    | Close
    | Stall
    | HalfOpen
    | Delay
    | SlowRead
    | ShortLife
    | Refuse
    | Reorder
    | LateDeltas
    | Lose
    | Malform
    | Unknown
    | Duplicate
    | Missing
    | Null
)


class FaultFired(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that has happened.

    Attributes:
        fault: Which.
        connection: On which connection of the server, the first being 1.
        at_s: How many seconds after the connection began.
        event: The event that set it off, or that it was done to; None if none did.
    """

    fault: AnyFault
    connection: int
    at_s: float
    event: str | None = None

    @property
    def kind(self) -> str:
        """The fault's kind."""
        return self.fault.kind


# Plans


class _Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    faults: tuple[AnyFault, ...] = ()


class FaultPlan(_Faults, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Faults, and the seed of what is left to chance in them.

    Attributes:
        faults: In this order, where several fire at one event.
        seed: Whole number.
    """

    seed: int = 0

    def __str__(self) -> str:
        """Return it as JSON, which `from_file` reads."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a plan from a TOML (``.toml``) or JSON file.

        Raises:
            FaultPlanError: The file cannot be read, or is no plan; the message says where.
        """
        path = Path(path)
        decode: Any = msgspec.toml.decode if path.suffix.lower() == ".toml" else msgspec.json.decode
        try:
            plan: Self = decode(path.read_bytes(), type=cls)
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            told = f"{path} is no fault plan: {error}"
            if ".kind`" in told:
                told += f"; the kinds are {', '.join(sorted(kind_of(cls) for cls in RECIPES))}"
            raise FaultPlanError(told, path=str(path)) from error
        return plan

    @classmethod
    def from_seed(
        cls,
        seed: int,
        *,
        kinds: Iterable[type[AnyFault]] | None = None,
        within_s: float = 60.0,
    ) -> Self:
        """Draw a plan at random: some faults of some kinds; the same for the same arguments.

        Args:
            seed: Whole number.
            kinds: What there may be; None: all kinds.
            within_s: In which time of a connection.
        """
        pick = random.Random(seed)  # noqa: S311  # faults, not secrets
        allowed = sorted(RECIPES if kinds is None else kinds, key=kind_of)
        chosen = pick.sample(allowed, pick.randint(min(2, len(allowed)), min(6, len(allowed))))
        return cls(tuple(RECIPES[kind](pick, within_s) for kind in chosen), seed=seed)

    @classmethod
    def named(cls, text: str) -> Self:
        """Take a seed if it is a whole number, and else a file's name, as ``--faults`` does.

        Raises:
            FaultPlanError: The file cannot be read, or is no plan.
        """
        if text.lstrip("-").isdecimal():
            return cls.from_seed(int(text))
        return cls.from_file(text)


def kind_of(fault: type[AnyFault]) -> str:
    """Return a kind's name in files."""
    return str(fault.__struct_config__.tag)


_EVENTS = {
    "session.updated": 2,
    "input_audio_buffer.speech_started": 5,
    "input_audio_buffer.committed": 5,
    "conversation.item.done": 8,
    "response.created": 5,
    "response.output_audio.delta": 40,
    "response.function_call_arguments.done": 3,
    "response.done": 5,
}
_COMMANDS = {
    "session.update": 2,
    "input_audio_buffer.append": 40,
    "conversation.item.create": 4,
    "conversation.item.truncate": 3,
    "response.create": 5,
    "response.cancel": 2,
}
"""What sets faults off, and how late among its like: as often as they come in a conversation."""


def _once(pick: random.Random, within_s: float) -> dict[str, Any]:
    """Draw when a fault of the connection begins."""
    way = pick.randrange(3)
    if way == 0:
        return {"after_s": round(pick.uniform(0.0, within_s), 2), "p": 0.5}
    trigger, names = ("at", _EVENTS) if way == 1 else ("on", _COMMANDS)
    name = pick.choice(sorted(names))
    return {trigger: name, "nth": pick.randint(1, names[name]), "p": 0.5}


def _often(pick: random.Random, within_s: float) -> dict[str, Any]:
    """Draw which events a fault is done to."""
    after_s = round(pick.uniform(0.0, within_s / 2), 2)
    return {"after_s": after_s, "times": 0, "p": pick.choice((0.01, 0.05, 0.2))}


def _passing(pick: random.Random) -> float:
    return pick.choice((0.05, 0.5, 3.0))


RECIPES: dict[type[AnyFault], Callable[[random.Random, float], AnyFault]] = {
    Drop: lambda pick, within_s: Drop(reset=pick.random() < 0.5, **_once(pick, within_s)),
    Close: lambda pick, within_s: Close(
        code=pick.choice((1000, 1001, 1005, 1011, 1012, 1013, 3000)), **_once(pick, within_s)
    ),
    Stall: lambda pick, within_s: Stall(for_s=_passing(pick), **_once(pick, within_s)),
    HalfOpen: lambda pick, within_s: HalfOpen(
        for_s=pick.choice((0.5, 5.0, None)), **_once(pick, within_s)
    ),
    Delay: lambda pick, within_s: Delay(
        latency_s=pick.choice((0.0, 0.05, 0.3)),
        jitter_s=pick.choice((0.0, 0.05, 0.3)),
        for_s=pick.choice((2.0, None)),
        **_once(pick, within_s),
    ),
    SlowRead: lambda pick, within_s: SlowRead(
        bytes_per_s=pick.choice((20_000, 200_000)), for_s=_passing(pick), **_once(pick, within_s)
    ),
    ShortLife: lambda pick, within_s: ShortLife(
        after_s=round(pick.uniform(1.0, 1.0 + within_s), 2), p=0.5
    ),
    Refuse: lambda pick, _: Refuse(
        status=pick.choice((401, 403, 429, 500, 503)), times=pick.randint(1, 3), p=0.5
    ),
    Reorder: lambda pick, within_s: Reorder(
        events=pick.randint(1, 5), hold_s=pick.choice((0.05, 0.5)), **_often(pick, within_s)
    ),
    LateDeltas: lambda pick, _: LateDeltas(count=pick.randint(1, 4), times=0, p=0.5),
    Lose: lambda pick, within_s: Lose(**_once(pick, within_s)),
    Malform: lambda pick, within_s: Malform(**_often(pick, within_s)),
    Unknown: lambda pick, within_s: Unknown(count=pick.randint(1, 3), **_often(pick, within_s)),
    Duplicate: lambda pick, within_s: Duplicate(**_often(pick, within_s)),
    Missing: lambda pick, within_s: Missing(**_once(pick, within_s)),
    Null: lambda pick, within_s: Null(**_once(pick, within_s)),
}
"""How a seed makes a fault of each kind."""

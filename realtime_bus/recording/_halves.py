"""One half of a recorded session, played against somebody who is the other half now.

A `Half` is told what the live peer does and says which of its own frames are due. It has no
socket, task or clock.

Rules:

1. Its frames leave in the order of the recording, each when what it waits for (`_causes`) has
   happened, and as long after it, or after the frame before it, as then: in step with the peer,
   not with the clock.
2. What the peer does is matched with what was done then: of the same type, about the same items
   and responses, with the same content if there is a choice, else in order. Each is matched once;
   what has no counterpart is told, and changes nothing.
3. Of the microphone only the length counts. Of a peer's stream of deltas only the first.
4. Ids that differ are learned from what was matched, and put into the frames that use them. Where
   a frame repeats what the recorded command said, it repeats what the live one says.
5. Who waits in vain for `patience_s` goes on: without what was only to be expected; without this
   frame, if it makes no sense (it follows at once if its cause comes after all); or not at all: if
   the two sessions have parted, nothing is played any more.
6. A frame whose cause was passed over by a later one of the peer's is not waited for so long.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, Literal, cast

import msgspec

from realtime_bus.errors import CloseInfo

from ._causes import (
    ID_KEYS,
    NOTHING,
    OF_NO_CONSEQUENCE,
    Needs,
    at,
    ids_in,
    needs_of_client,
    needs_of_server,
    stream_of,
    subject_of,
)
from ._connections import APPENDS, AudioClock, Frame, RecordedConnection, Side, event_of

PATIENCE_S: Final = 10.0
MAX_DEVIATIONS: Final = 1000


class Deviation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was otherwise than it was recorded.

    Attributes:
        kind: ``missing``: it was not done. ``unexpected``: it was not done then. ``changed``: it
            was done otherwise. ``order``: it was done later than something that came after it then.
            ``left_out``: a frame that made no sense was not played. ``parted``: nothing could be
            played any more.
        type: The frame's type.
        recorded_s: When it came in the recording, if it did; seconds.
        path: Which field.
        recorded: What it was.
        live: What it is.
    """

    kind: Literal["missing", "unexpected", "changed", "order", "left_out", "parted"]
    type: str
    recorded_s: float | None = None
    path: str = ""
    recorded: str = ""
    live: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        when = "" if self.recorded_s is None else f" (recorded at {self.recorded_s:.3f} s)"
        where = f" {self.path}" if self.path else ""
        values = f": {self.recorded} then, {self.live} now" if self.kind == "changed" else ""
        reason = f": {self.live}" if self.live and not values else ""
        return f"{self.kind}: {self.type or 'frame'}{where}{when}{values}{reason}"


class PlaybackReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one connection on which one half of a recording was played.

    Attributes:
        connection: Which of the recording's connections it was, from 0.
        frames: How many frames that half has.
        played: How many of them were sent.
        waits_for: What is waited for, in words; empty if nothing is.
        parted: Whether the other side has gone another way.
        close: How the connection ended, if it has.
        deviations: What the other side did otherwise than the recorded one.
    """

    connection: int
    frames: int
    played: int
    waits_for: str = ""
    parted: bool = False
    close: CloseInfo | None = None
    deviations: tuple[Deviation, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all was played."""
        return self.played >= self.frames

    def __str__(self) -> str:
        """Say it in words, a line for each deviation."""
        waiting = f", waiting for {self.waits_for}" if self.waits_for else ""
        head = f"connection {self.connection}: {self.played} of {self.frames} frames{waiting}"
        return "\n".join([head, *(f"  {deviation}" for deviation in self.deviations)])


class Half:
    """Play one side of a connection.

    Args:
        connection: The recording.
        plays: Which side is played.
        now_s: The clock's time now.
        pace: How many times faster than recorded; infinity as soon as may be.
        patience_s: How long to wait for what the peer does not do.
        microphone: Whether the server's half waits for the microphone.
        later_s: What is added to times of the day.

    Attributes:
        deviations: What was otherwise, the first `MAX_DEVIATIONS`.
        parted: Whether the two sessions have parted.
        ended: Whether this side is to close the connection now.
        matched_s: When the peer did last what it did then.
        played: How many frames were played.
    """

    def __init__(
        self,
        connection: RecordedConnection,
        plays: Side,
        *,
        now_s: float,
        pace: float = 1.0,
        patience_s: float = PATIENCE_S,
        microphone: bool = True,
        later_s: int = 0,
    ) -> None:
        self.deviations: list[Deviation] = []
        self.parted: bool = False
        self.ended: bool = False
        self.matched_s: float = now_s
        self.played: int = 0
        self._frames = frames = connection.frames
        self._steps = [frame for frame in frames if frame.side == plays]
        self._needs = needs_of_server(frames) if plays == "server" else needs_of_client(frames)
        self._plays: Side = plays
        self._pace = pace
        self._patience_s = patience_s
        self._microphone = microphone
        self._later_s = later_s
        self._next = 0
        self._clock = AudioClock()
        self._peer = _Peer(frames, "client" if plays == "server" else "server")
        self._given_up: set[int] = set()
        self._postponed: defaultdict[int, list[Frame]] = defaultdict(list)
        self._late: list[Frame] = []
        self._now_s = now_s
        self._began_s = now_s
        self._last: tuple[float, int] = (now_s, frames[0].t_us if frames else 0)
        self._waits_since_s: float | None = None
        self._heard_ms_then = 0.0

    # What the peer does

    def see(self, frame: bytes, now_s: float, *, restoring: bool = False) -> bool:
        """Take a frame of the peer's; return whether it was done in the recording.

        Args:
            frame: Whatever it is, it is no error.
            now_s: The clock's time now.
            restoring: Whether the peer tells again what was said over the last connection: then
                only what is the same is the same, and the rest is no difference.
        """
        self._now_s = max(self._now_s, now_s)
        event = event_of(frame)
        if event is None:
            self._note("unexpected", "", live="it is no event")
            return False
        self._clock.see(event)
        kind = event.get("type")
        if kind in APPENDS:
            return True
        outcome = self._peer.match(event, self._now_s, exactly=restoring)
        if outcome is None:
            if not restoring and kind not in OF_NO_CONSEQUENCE:
                self._note("unexpected", str(kind), live=at(event, "error", "message") or "")
            return False
        self.matched_s = self._now_s
        recorded, is_first = outcome
        if is_first:
            if self._peer.is_late(recorded):
                self._note("order", recorded.type, recorded)
            for path, then, now in self._peer.compare(recorded, event):
                self._note("changed", recorded.type, recorded, path=path, then=then, live=now)
            self._late += self._postponed.pop(recorded.index, ())
        return True

    # What is played

    @property
    def waits_for(self) -> str:
        """What it waits for, in words; empty if it waits for nothing but the time."""
        step = self._step
        if step is None or self.parted:
            return ""
        missing = self._missing(self._need(step))
        if missing is not None:
            return self._frames[missing].type
        short_ms = self._short_ms(self._need(step))
        return f"{short_ms:.0f} ms of audio" if short_ms else ""

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to play."""
        return self.parted or (self._step is None and not self._late)

    @property
    def expects_more(self) -> bool:
        """Whether the peer has not done all that it did then."""
        return any(frame.type not in OF_NO_CONSEQUENCE for frame in self._peer.open())

    def silence(self, ms: int) -> bytes | None:
        """Return silence for a microphone that has to wait; None if it has not."""
        step = self._step
        if step is None or step.type not in APPENDS or self._missing(self._need(step)) is None:
            return None
        audio = b64encode(self._clock.silence(ms)).decode()
        return msgspec.json.encode({"type": step.type, "audio": audio})

    def closed(self, then: CloseInfo | None, now: CloseInfo) -> None:
        """Take note of how the connection has ended then and now."""
        by_server = then is not None and not any(step.ends for step in self._steps)
        if by_server and then is not None and then.code != now.code:
            self._note("changed", "close", path="code", then=then.code, live=now.code)
        elif not by_server and not self.finished:
            self._note("unexpected", "close", live=str(now))

    @property
    def _step(self) -> Frame | None:
        return self._steps[self._next] if self._next < len(self._steps) else None

    def due(self, now_s: float, *, max_bytes: int | None = None) -> list[bytes]:
        """Return the frames that are to be sent now, in order; call again if there may be more.

        Args:
            now_s: The clock's time now.
            max_bytes: Return no more once it is as much.
        """
        self._now_s = max(self._now_s, now_s)
        frames = [self._release(frame) for frame in self._late]
        self._late.clear()
        left = math.inf if max_bytes is None else max_bytes
        while (step := self._step) is not None and not self.parted and left > 0:
            at_s = self._due_s(step)
            if at_s is None or at_s > self._now_s:
                break
            self._waits_since_s = None
            missing = self._missing(need := self._need(step))
            if missing is None and not self._short_ms(need):
                self._last = (at_s, step.t_us)
                self._next += 1
                if step.ends:
                    self.ended = True
                else:
                    frames.append(self._release(step))
                    left -= len(frames[-1])
            else:
                self._go_on(step, need, missing)
        return frames

    def next_deadline(self) -> float | None:
        """Return when `due` has something to do though the peer does nothing; None if never."""
        if self._late:
            return self._now_s
        step = self._step
        return None if step is None or self.parted else self._due_s(step)

    def all_deviations(self) -> list[Deviation]:
        """Return `deviations`, and what the peer has not done that was due until now."""
        open_now = [
            self._deviation("missing", recorded.type, recorded)
            for recorded in self._peer.open()
            if (self._step is None or recorded.index < self._step.index)
            and recorded.type not in OF_NO_CONSEQUENCE
        ]
        left_out = [
            self._deviation("left_out", frame.type, frame, live="its cause has not come")
            for frames in self._postponed.values()
            for frame in frames
        ]
        return [*self.deviations, *open_now, *left_out]

    def report(self, number: int, *, close: CloseInfo | None = None) -> PlaybackReport:
        """Return what became of it until now.

        Args:
            number: Which connection it is.
            close: How it has ended, if it has.
        """
        return PlaybackReport(
            connection=number,
            frames=sum(not step.ends for step in self._steps),
            played=self.played,
            waits_for=self.waits_for if close is None else "",
            parted=self.parted,
            close=close,
            deviations=tuple(self.all_deviations()),
        )

    # When

    def _need(self, step: Frame) -> Needs:
        return self._needs.get(step.index, NOTHING)

    def _missing(self, need: Needs) -> int | None:
        """Return a frame of the peer's that has not come."""
        for index in need.firm:
            if index not in self._peer.came_s:
                return index
        for index in need.soft:
            if index not in self._peer.came_s and index not in self._given_up:
                return index
        return None

    def _short_ms(self, need: Needs) -> float:
        """Return how much audio is missing; the rounding of formats is not."""
        short_ms = need.heard_ms - self._clock.heard_ms
        return short_ms if self._microphone and short_ms > 1 else 0.0

    def _due_s(self, step: Frame) -> float | None:
        """Return when a frame is due, or given up."""
        need = self._need(step)
        missing = self._missing(need)
        if missing is None and not self._short_ms(need):
            return self._time_of(step, need)
        if missing is not None and self._passed_over(missing, need):
            return self._now_s
        is_fed = missing is None and self._heard_ms_then != self._clock.heard_ms
        if self._waits_since_s is None or is_fed:
            self._waits_since_s = self._now_s
            self._heard_ms_then = self._clock.heard_ms
        return self._waits_since_s + self._patience_s

    def _time_of(self, step: Frame, need: Needs) -> float:
        """Return when a frame is due that waits for nothing but the time."""
        last_s, last_us = self._last
        if need.heard_ms and self._microphone and self._waits_since_s is not None:
            return self._now_s
        since_us, at_s = last_us, last_s
        came_s = self._peer.came_s
        if self._plays == "server" and need.answers in came_s and (need.firm or need.soft):
            since_us, at_s = self._frames[need.answers].t_us, came_s[need.answers]
        elif self._plays == "client" and step.type not in APPENDS:  # a microphone goes on evenly
            causes = (index for index in (*need.firm, *need.soft) if index in came_s)
            happened = ((self._frames[index].t_us, came_s[index]) for index in causes)
            since_us, at_s = max([(last_us, last_s), *happened])
        waited_s = max(0, step.t_us - since_us) / 1e6
        return max(last_s, at_s + (0.0 if math.isinf(self._pace) else waited_s / self._pace))

    def _passed_over(self, missing: int, need: Needs) -> bool:
        return self._plays == "server" and not need.parts and self._peer.furthest > missing

    def _go_on(self, step: Frame, need: Needs, missing: int | None) -> None:
        """Stop waiting."""
        what = f"{need.heard_ms:.0f} ms of audio" if missing is None else self._frames[missing].type
        if need.parts:
            self.parted = True
            self._note("parted", step.type, step, live=f"{what} has not come")
        elif missing in need.firm:
            self._postponed[cast("int", missing)].append(step)
            self._next += 1
        else:
            self._given_up.update(need.soft)

    # What it says

    def _release(self, frame: Frame) -> bytes:
        self.played += 1
        if frame.said is None:
            return frame.raw
        answers = self._need(frame).answers
        live = None if answers is None else self._peer.live.get(answers)
        then = None if answers is None else self._frames[answers].said
        if live is not None:
            self._peer.adopt(frame.said, then, live)
        said = self._peer.translated(frame.said)
        if live is not None:
            said = _repeating(said, self._peer.translated(then), live)
        if frame.type.startswith("session.") and frame.type not in APPENDS:
            self._clock.see(said)
            said = _later(said, self._later_s)
        if said == frame.said:
            return frame.frame()
        if frame.is_delta or frame.type in APPENDS:
            said = {**msgspec.json.decode(frame.frame()), **said}
        return msgspec.json.encode(said)

    def _note(self, kind: Any, type_: str, recorded: Frame | None = None, **fields: Any) -> None:
        if len(self.deviations) < MAX_DEVIATIONS:
            self.deviations.append(self._deviation(kind, type_, recorded, **fields))

    def _deviation(
        self,
        kind: Any,
        type_: str,
        recorded: Frame | None = None,
        *,
        path: str = "",
        then: object = "",
        live: object = "",
    ) -> Deviation:
        return Deviation(
            kind=kind,
            type=type_,
            recorded_s=None if recorded is None else recorded.t_us / 1e6,
            path=path,
            recorded=_short(then),
            live=_short(live),
        )


class _Peer:
    """What the other side did then, and what of it has been done now.

    Attributes:
        came_s: When each frame's counterpart came.
        live: What it said.
        furthest: The last frame that has one.
    """

    def __init__(self, frames: Iterable[Frame], side: Side) -> None:
        self.came_s: dict[int, float] = {}
        self.live: dict[int, dict[str, Any]] = {}
        self.furthest = -1
        self._side: Side = side
        self._open: defaultdict[str, list[Frame]] = defaultdict(list)
        self._ids: dict[str, str] = {}
        self._known: dict[str, str] = {}  # the other way round
        self._streams: set[tuple[object, ...]] = set()
        self._last_about: dict[str, int] = {}
        self._last_us = 0
        streams: set[tuple[object, ...]] = set()
        met: set[str] = set()
        for frame in frames:
            for name in ids_in(frame.said):
                if name not in met:
                    met.add(name)
                    if frame.side != side:  # made by who is played: it is still the same
                        self._ids[name] = self._known[name] = name
            if frame.side != side or frame.said is None or frame.type in APPENDS:
                continue
            if frame.is_delta:
                if (stream := stream_of(frame.said)) in streams:
                    continue
                streams.add(stream)
            self._open[frame.type].append(frame)

    def open(self) -> list[Frame]:
        """Return what has no counterpart yet, in order."""
        left = [frame for frames in self._open.values() for frame in frames]
        return sorted(left, key=lambda frame: frame.index)

    def match(
        self, event: dict[str, Any], now_s: float, *, exactly: bool
    ) -> tuple[Frame, bool] | None:
        """Return the counterpart, and whether it was found just now; None if there is none."""
        kind = str(event.get("type"))
        if kind.endswith(".delta"):
            stream = stream_of(event)
            if stream in self._streams:
                return _STREAM, False
            self._streams.add(stream)
        fitting = [
            frame
            for frame in self._open[kind]
            if all(at(frame.said, *steps) == at(event, *steps) for steps in _KIND)
            and self._fits(frame.said, event)
        ]
        if not fitting:
            return None
        alike = (frame for frame in fitting if not any(True for _ in self.compare(frame, event)))
        found = next(alike, None)
        if found is None:
            if exactly:
                return None
            found = min(fitting, key=lambda frame: self._distance(frame, event))
        self._open[kind].remove(found)
        self._learn(found.said, event)
        self.came_s[found.index] = now_s
        self.live[found.index] = event
        self.furthest = max(self.furthest, found.index)
        return found, True

    def is_late(self, found: Frame) -> bool:
        """Tell whether something has come before it that came after it then.

        What is about the same item or response is in order, the rest within `_CLOSE_US`.
        """
        about = subject_of(found.said)
        alike = self._last_about.get(about, -1)
        self._last_about[about] = max(alike, found.index)
        self._last_us = max(self._last_us, found.t_us)
        return found.index < alike or found.t_us + _CLOSE_US < self._last_us

    def _fits(self, then: Any, now: Any) -> bool:
        """Tell whether two events can be about the same: no id is known to be another's."""
        if isinstance(then, dict) and isinstance(now, dict):
            mine, theirs = cast("dict[str, Any]", then), cast("dict[str, Any]", now)
            for name in mine.keys() & theirs.keys():
                one, other = mine[name], theirs[name]
                if name in ID_KEYS and isinstance(one, str) and isinstance(other, str):
                    if self._ids.get(one, other) != other or self._known.get(other, one) != one:
                        return False
                elif not self._fits(one, other):
                    return False
        elif isinstance(then, list) and isinstance(now, list):
            pairs = zip(cast("list[Any]", then), cast("list[Any]", now), strict=False)
            return all(self._fits(one, other) for one, other in pairs)
        return True

    def _distance(self, frame: Frame, event: dict[str, Any]) -> tuple[int, int]:
        """Prefer what has the same shape, then what came first."""
        apart = 0
        for steps in _SHAPE:
            then, now = at(frame.said, *steps), at(event, *steps)
            is_id = steps[-1] in ID_KEYS
            apart += (then is None) != (now is None) if is_id else then != now
        return apart, frame.index

    def adopt(self, said: Any, then: Any, now: Any) -> None:
        """Learn the id of an item that the recorded server has named, and now the live client."""
        given, named = at(said, "item", "id"), at(now, "item", "id")
        if isinstance(given, str) and isinstance(named, str) and at(then, "item", "id") is None:
            self._ids[given], self._known[named] = named, given

    def _learn(self, then: Any, now: Any) -> None:
        """Learn which ids are the same."""
        if isinstance(then, dict) and isinstance(now, dict):
            mine, theirs = cast("dict[str, Any]", then), cast("dict[str, Any]", now)
            for name in mine.keys() & theirs.keys():
                one, other = mine[name], theirs[name]
                is_id = name in ID_KEYS or (name == "event_id" and self._side == "client")
                if is_id and isinstance(one, str) and isinstance(other, str):
                    self._ids[one] = other
                    self._known[other] = one
                else:
                    self._learn(one, other)
        elif isinstance(then, list) and isinstance(now, list):
            for one, other in zip(cast("list[Any]", then), cast("list[Any]", now), strict=False):
                self._learn(one, other)

    def translated(self, value: Any, name: str = "") -> Any:
        """Return an event with the ids of today."""
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            return {key: self.translated(member, key) for key, member in members.items()}
        if isinstance(value, list):
            return [self.translated(element) for element in cast("list[Any]", value)]
        if isinstance(value, str) and (name in ID_KEYS or name == "event_id"):
            return self._ids.get(value, value)
        return value

    def compare(self, recorded: Frame, event: dict[str, Any]) -> Iterable[tuple[str, Any, Any]]:
        """Yield what differs: path, then, now; but for what differs always."""
        if recorded.type in OF_NO_CONSEQUENCE:
            return ()
        return _differing(self.translated(recorded.said), event)


_CLOSE_US: Final = 250_000
_STREAM: Final = Frame(index=-1, t_us=0, side="server")
_KIND: Final = (("item", "type"), ("item", "role"))
_SHAPE: Final = (
    ("response", "conversation"),
    ("response", "conversation_id"),
    ("response", "status"),
)
_ALWAYS: Final = frozenset(
    {"audio", "delta", "event_id", "expires_at", "metadata", "obfuscation", "usage"}
)


def _differing(then: Any, now: Any, path: str = "") -> Iterable[tuple[str, Any, Any]]:
    if isinstance(then, dict) and isinstance(now, dict):
        mine, theirs = cast("dict[str, Any]", then), cast("dict[str, Any]", now)
        for name in {**mine, **theirs}:
            if name not in _ALWAYS and name not in ID_KEYS:
                where = f"{path}.{name}" if path else name
                yield from _differing(mine.get(name), theirs.get(name), where)
    elif isinstance(then, list) and isinstance(now, list):
        ones, others = cast("list[Any]", then), cast("list[Any]", now)
        if len(ones) != len(others):
            yield path, f"{len(ones)} elements", f"{len(others)} elements"
        for place, (one, other) in enumerate(zip(ones, others, strict=False)):
            yield from _differing(one, other, f"{path}[{place}]")
    elif then != now:
        yield path, then, now


def _repeating(said: Any, then: Any, now: Any) -> Any:
    """Put what the live command says where the frame repeats what the recorded one said."""
    if isinstance(said, dict) and isinstance(now, dict):
        members, theirs = cast("dict[str, Any]", said), cast("dict[str, Any]", now)
        mine = cast("dict[str, Any]", then) if isinstance(then, dict) else {}
        repeated = dict(members)
        for name in members.keys() & theirs.keys():
            if name not in ("type", "event_id"):
                repeated[name] = _repeating(members[name], mine.get(name), theirs[name])
        return repeated
    return now if said == then else said


def _later(said: dict[str, Any], later_s: int) -> dict[str, Any]:
    """Move the session's end to as long after today's beginning."""
    expires_at = at(said, "session", "expires_at")
    if not later_s or not isinstance(expires_at, int):
        return said
    return {**said, "session": {**said["session"], "expires_at": expires_at + later_s}}


def _short(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 120 else f"{text[:119]}…"  # noqa: PLR2004  # a line's length

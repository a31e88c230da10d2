"""One half of a recorded session, played against somebody who is the other half now.

A `Half` is told what the live peer does and says which of its own frames are due. It has no
socket, task or clock.

Rules:

1. Its frames leave in the order of the recording, each when what it waits for (`_causes`) has
   happened, and as long after it, or after the frame before it, as then: in step with the peer,
   not with the clock.
2. What the peer does is matched with what was done then (`_peer`), each once; what has no
   counterpart is told, and changes nothing. Of the microphone only the length counts.
3. Ids are those of today. Where a frame repeats what the recorded command said, it repeats what
   the live one says.
4. Who waits in vain for `patience_s` goes on: without what was only to be expected; without this
   frame, if it makes no sense (it follows at once if its cause comes after all); or not at all: if
   the two sessions have parted, nothing is played any more.
5. A client that does something later has passed over what it has not done: nobody waits for that.
   A server that says something later may still say it, within `_HOPE_S`; and while it goes on with
   what was recorded nobody loses patience for `LONGEST_ANSWER_S`.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from realtime_bus.errors import CloseInfo

from ._causes import NOTHING, OF_NO_CONSEQUENCE, Needs, at, needs_of
from ._connections import APPENDS, AudioClock, Frame, RecordedConnection, Side, event_of, type_of
from ._deviations import Deviation, PlaybackReport
from ._peer import Peer, repeating

PATIENCE_S: Final = 10.0
LONGEST_ANSWER_S: Final = 600.0
MAX_DEVIATIONS: Final = 1000
_HOPE_S: Final = 1.0


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
        needs: What its frames wait for, if somebody knows it already.

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
        needs: Mapping[int, Needs] | None = None,
    ) -> None:
        self.deviations: list[Deviation] = []
        self.parted: bool = False
        self.ended: bool = False
        self.matched_s: float = now_s
        self.played: int = 0
        self._frames = frames = connection.frames
        self._steps = [frame for frame in frames if frame.side == plays]
        self._needs: Mapping[int, Needs] = needs if needs is not None else needs_of(frames, plays)
        self._plays: Side = plays
        self._pace = pace
        self._patience_s = patience_s
        self._microphone = microphone
        self._later_s = later_s
        self._next = 0
        self._clock = AudioClock()
        self._peer = Peer(frames, "client" if plays == "server" else "server")
        self._given_up: set[int] = set()
        self._postponed: defaultdict[int, list[Frame]] = defaultdict(list)
        self._late: list[Frame] = []
        self._now_s = now_s
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
        kind = type_of(event)
        if kind in APPENDS:
            return True
        outcome = self._peer.match(event, self._now_s, exactly=restoring)
        if outcome is None:
            if not restoring and kind not in OF_NO_CONSEQUENCE:
                self._note("unexpected", kind, live=at(event, "error", "message") or "")
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
            if at_s > self._now_s:
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

    def _due_s(self, step: Frame) -> float:
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
        if self._plays == "server":
            return self._waits_since_s + self._patience_s
        passed_over = missing not in need.firm and self._peer.furthest > (missing or 0)
        patience_s = min(self._patience_s, _HOPE_S) if passed_over else self._patience_s
        quiet_since_s = max(self._waits_since_s, self.matched_s)
        return min(quiet_since_s + patience_s, self._waits_since_s + LONGEST_ANSWER_S)

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
            self._postponed[missing].append(step)
            self._next += 1
        else:
            self._given_up.update(need.soft)

    # What it says

    def _release(self, frame: Frame) -> bytes:
        self.played += 1
        if frame.said is None:
            return frame.frame()
        answers = self._need(frame).answers
        live = None if answers is None else self._peer.live.get(answers)
        then = None if answers is None else self._frames[answers].said
        if live is not None:
            self._peer.adopt(frame.said, then, live)
        said = self._peer.translated(frame.said)
        if live is not None:
            said = repeating(said, self._peer.translated(then), live)
        if frame.type.startswith("session."):
            self._clock.see(said)
            said = _later(said, self._later_s)
        if said == frame.said:
            return frame.frame()
        if frame.is_delta:
            said = {**msgspec.json.decode(frame.frame()), **said}
        return msgspec.json.encode(said)

    def _note(self, kind: Any, type_: str, recorded: Frame | None = None, **fields: Any) -> None:
        if len(self.deviations) < MAX_DEVIATIONS or kind == "parted":
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


def _later(said: dict[str, Any], later_s: int) -> dict[str, Any]:
    """Move the session's end to as long after today's beginning."""
    expires_at = at(said, "session", "expires_at")
    if not later_s or not isinstance(expires_at, int):
        return said
    return {**said, "session": {**said["session"], "expires_at": expires_at + later_s}}


def _short(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 120 else f"{text[:119]}…"  # a line's length

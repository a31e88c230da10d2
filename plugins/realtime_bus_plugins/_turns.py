"""The turns of a session and their times, as a state machine. No I/O, no clock: times are given.

The rules:

1. A turn begins where the person's input ends: see `TurnCompleted` for each origin's zero point.
   A ``response.create`` begins one only if no turn waits for a response.
2. A response of the default conversation belongs to the latest turn; so do those that answer
   after tool calls, and they count as round trips. Responses out of band belong to no turn.
3. A turn is over when its responses are done, no call is open, and its audio has been played:
   by the clock (audio plays from its arrival, or from when it was heard if that is later), or
   because somebody interrupted. When a new turn begins, open calls are no longer waited for.
4. A turn that got no response is forgotten.
5. Audio that comes after an interruption counts as generated, and for nothing else.
6. A lost connection ends the responses that had begun, and no turn: what has come plays on, and
   what tools put out is answered over the next connection.

Bounds: the last 32 turns that are not over; older ones are taken for over. 256 responses of each,
and the last 4096 responses and items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Literal, NamedTuple, TypeVar, cast

import msgspec

from realtime_bus import events as ev
from realtime_bus_plugins._recent import Recent

_MOST_OPEN, _MOST_RESPONSES, _MOST_KNOWN = 32, 256, 4096
_S = TypeVar("_S")

TurnOrigin = Literal["speech", "commit", "text", "request", "idle"]
"""What a turn began with; see `TurnCompleted`."""


class TurnCompleted(ev.BusEvent, frozen=True, kw_only=True, tag="bus.turn_completed"):
    """A turn is over: the answer is complete, and has been played or was interrupted.

    Times are in seconds. The zero point is the end of the person's input, which `origin` names:
    ``speech``, the arrival of ``input_audio_buffer.speech_stopped``; ``commit``, the sending of
    ``input_audio_buffer.commit``; ``text``, the sending of the last user message;
    ``request``, the sending of a ``response.create`` that nobody's input came before;
    ``idle``, the arrival of ``input_audio_buffer.timeout_triggered``.

    Attributes:
        origin: What the turn began with.
        item_id: The person's item, if there is one and its id is known.
        response_ids: The responses that answered, in order; more than one after tool calls.
        status: How the last of them ended.
        first_audio_s: From the zero point to the arrival of the first audio.
        audio_to_heard_s: From there to its being heard.
        heard_s: From the zero point to the first audio's being heard.
        first_text_s: From the zero point to the first written text (not transcripts).
        interrupted: Whether somebody spoke over the answer.
        barge_in_latency_s: From the arrival of ``speech_started`` to silence at the sink.
        usage: Tokens of all these responses together.
        tool_round_trips: How often a response waited for tools' outputs.
        generated_audio_s: Length of the audio that came.
        heard_audio_s: How much of it was heard; None if nobody says what is.
    """

    origin: TurnOrigin
    item_id: str | None = None
    response_ids: list[str]
    status: str | None = None
    first_audio_s: float | None = None
    audio_to_heard_s: float | None = None
    heard_s: float | None = None
    first_text_s: float | None = None
    interrupted: bool = False
    barge_in_latency_s: float | None = None
    usage: ev.Usage | None = None
    tool_round_trips: int = 0
    generated_audio_s: float = 0.0
    heard_audio_s: float | None = None


class OpenTurn(NamedTuple):
    """A turn that is not over.

    Attributes:
        first_response_id: What it is known by: its first response.
        origin: What it began with.
        zero_s: When the person's input ended.
    """

    first_response_id: str
    origin: TurnOrigin
    zero_s: float


class _Turn:
    """A person's input and all that answers it. Moments are in seconds, on the caller's clock."""

    def __init__(self, origin: TurnOrigin, zero_s: float, item_id: str | None) -> None:
        self.origin: TurnOrigin = origin
        self.zero_s = zero_s
        self.item_id = item_id
        self.response_ids: list[str] = []
        self.active: set[str] = set()
        self.status: str | None = None
        self.first_audio_at_s: float | None = None
        self.first_text_at_s: float | None = None
        self.heard_at_s: float | None = None
        self.plays_until_s = zero_s  # if nothing stops it
        self.interrupted = False
        self.barge_in_latency_s: float | None = None
        self.usage: ev.Usage | None = None
        self.awaits_tools = False  # the last response called functions, and nothing followed
        self.tool_round_trips = 0
        self.generated_s = 0.0
        self.discarded_s: float | None = None  # of what came before it was interrupted
        self.late_s = 0.0  # came after that

    @property
    def awaits_response(self) -> bool:
        """Whether the next response belongs to it."""
        return not self.response_ids or (self.awaits_tools and not self.active)

    @property
    def answered(self) -> bool:
        """Whether nothing more is to come, except what still plays."""
        return bool(self.response_ids) and not self.active and not self.awaits_tools

    def begin(self, response_id: str) -> None:
        self.tool_round_trips += self.awaits_tools
        self.awaits_tools = False
        if len(self.response_ids) < _MOST_RESPONSES:
            self.response_ids.append(response_id)
            self.active.add(response_id)

    def end(self, response_id: str, response: ev.Response, at_s: float) -> None:
        self.active.discard(response_id)
        self.status = response.status or self.status
        if _is_barge_in(response.status_details):
            self.stop(at_s)
        self.awaits_tools = response.status != "cancelled" and _has_calls(response.output)
        if isinstance(response.usage, ev.Usage):
            self.usage = response.usage if self.usage is None else _sum(self.usage, response.usage)

    def audio(self, length_s: float, at_s: float) -> None:
        """Note audio: it plays behind what came before."""
        self.generated_s += length_s
        if self.interrupted:
            self.late_s += length_s
            return
        if self.first_audio_at_s is None:
            self.first_audio_at_s = at_s
        self.plays_until_s = max(self.plays_until_s, at_s) + length_s

    def heard(self, at_s: float) -> None:
        """Note that the turn's audio is heard: all of it plays later by as much as it took."""
        if self.heard_at_s is None:
            self.heard_at_s = at_s
            first_s = at_s if self.first_audio_at_s is None else self.first_audio_at_s
            self.plays_until_s += max(0.0, at_s - first_s)

    def stop(self, at_s: float, latency_s: float | None = None) -> None:
        """Note that somebody spoke over it."""
        self.interrupted = True
        self.plays_until_s = min(self.plays_until_s, at_s)
        if self.barge_in_latency_s is None:
            self.barge_in_latency_s = latency_s

    def cut(self, at_s: float) -> None:
        """Note that nothing of it is played any more."""
        unheard_s = self.plays_until_s - at_s
        if self.heard_at_s is not None and 0 < unheard_s < inf and not self.interrupted:
            self.discarded_s = min(unheard_s, self.generated_s)

    @property
    def heard_audio_s(self) -> float | None:
        """How much audio was heard, as far as somebody says so."""
        if self.discarded_s is not None:
            return max(0.0, self.generated_s - self.late_s - self.discarded_s)
        return None if self.interrupted or self.heard_at_s is None else self.generated_s

    def completed(self) -> TurnCompleted:
        return TurnCompleted(
            origin=self.origin,
            item_id=self.item_id,
            response_ids=self.response_ids,
            status=self.status,
            first_audio_s=_between(self.zero_s, self.first_audio_at_s),
            audio_to_heard_s=_between(self.first_audio_at_s, self.heard_at_s),
            heard_s=_between(self.zero_s, self.heard_at_s),
            first_text_s=_between(self.zero_s, self.first_text_at_s),
            interrupted=self.interrupted,
            barge_in_latency_s=self.barge_in_latency_s,
            usage=self.usage,
            tool_round_trips=self.tool_round_trips,
            generated_audio_s=self.generated_s,
            heard_audio_s=self.heard_audio_s,
        )


class TurnLog:
    """Open turns; `settle` gives those that are over."""

    def __init__(self) -> None:
        self._open: list[_Turn] = []
        self._by_response = Recent[str, _Turn](_MOST_KNOWN)
        self._by_item = Recent[str, _Turn](_MOST_KNOWN)

    # --- what begins a turn ------------------------------------------------------------------

    def input_ended(self, origin: TurnOrigin, at_s: float, item_id: str | None = None) -> None:
        """Begin a turn."""
        for turn in self._open:
            turn.awaits_tools = False
        self._open = [turn for turn in self._open if turn.response_ids]
        self._open.append(_Turn(origin, at_s, item_id))

    def asked(self, at_s: float) -> None:
        """Note that a response of the default conversation was asked for."""
        if not (self._open and self._open[-1].awaits_response):
            self.input_ended("request", at_s)

    def committed(self, item_id: str) -> None:
        """Note which item a commit has made."""
        if self._open and self._open[-1].origin == "commit":
            self._open[-1].item_id = self._open[-1].item_id or item_id

    # --- what answers ------------------------------------------------------------------------

    def response_created(self, response_id: str, at_s: float) -> None:
        """Note that a response of the default conversation has begun."""
        if not self._open:
            self.input_ended("request", at_s)
        turn = self._by_response[response_id] = self._open[-1]
        turn.begin(response_id)

    def response_done(
        self, response_id: str, response: ev.Response, at_s: float, *, in_conversation: bool = False
    ) -> None:
        """Note that a response has ended.

        One that was not seen to begin was killed at once: it counts if it is known to be
        `in_conversation`.
        """
        if in_conversation and response_id not in self._by_response:
            self.response_created(response_id, at_s)
        turn = self._by_response.get(response_id)
        if turn is not None:
            turn.end(response_id, response, at_s)
            turn.awaits_tools &= turn is self._open[-1]  # else a new turn has begun meanwhile

    def text(self, response_id: str, at_s: float) -> None:
        """Note that written text has come."""
        turn = self._by_response.get(response_id)
        if turn is not None and turn.first_text_at_s is None:
            turn.first_text_at_s = at_s

    def audio(self, response_id: str, item_id: str, length_s: float, at_s: float) -> None:
        """Note that audio has come."""
        turn = self._by_response.get(response_id)
        if turn is not None:
            self._by_item[item_id] = turn
            turn.audio(length_s, at_s)

    def heard(self, response_id: str, at_s: float) -> None:
        """Note that a response's audio is heard."""
        turn = self._by_response.get(response_id)
        if turn is not None:
            turn.heard(at_s)

    def plays(self, response_id: str, at_s: float) -> None:
        """Note that the server plays a response by itself: it will say until when."""
        turn = self._by_response.get(response_id)
        if turn is not None:
            turn.heard(at_s)
            turn.plays_until_s = inf

    # --- what ends it ------------------------------------------------------------------------

    def interrupted(self, discarded_s: Mapping[str, float], latency_s: float, at_s: float) -> None:
        """Note that items were cut off, and how much of each was never heard."""
        for item_id, length_s in discarded_s.items():
            turn = self._by_item.get(item_id)
            if turn is not None:
                turn.stop(at_s, latency_s)
                turn.discarded_s = (turn.discarded_s or 0.0) + length_s

    def silenced(self, response_id: str, at_s: float, *, interrupted: bool) -> None:
        """Note that the server, which plays by itself, plays a response no more."""
        turn = self._by_response.get(response_id)
        if turn is not None and interrupted:
            turn.stop(at_s)
        elif turn is not None:
            turn.plays_until_s = min(turn.plays_until_s, at_s)

    def open_turn(
        self, *, response_id: str | None = None, item_id: str | None = None
    ) -> OpenTurn | None:
        """Return the turn that a response, or an item with audio, is part of."""
        turn = self._by_response.get(response_id or "") or self._by_item.get(item_id or "")
        if turn is None or not turn.response_ids:
            return None
        return OpenTurn(turn.response_ids[0], turn.origin, turn.zero_s)

    def next_end_s(self) -> float | None:
        """Return when a turn will be over, if only its playback is waited for."""
        ends = (turn.plays_until_s for turn in self._open if turn.answered)
        return min((end_s for end_s in ends if end_s < inf), default=None)

    def connection_lost(self, at_s: float) -> None:
        """Note that what had begun does not go on."""
        for turn in self._open:
            turn.active.clear()
            if turn.plays_until_s == inf:  # nobody will say until when
                turn.plays_until_s = at_s

    def settle(self, now_s: float) -> list[TurnCompleted]:
        """Return the turns that are over, and forget them."""
        excess = self._open[:-_MOST_OPEN]
        return self._take(
            lambda turn: turn in excess or (turn.answered and turn.plays_until_s <= now_s)
        )

    def close(self, now_s: float) -> list[TurnCompleted]:
        """Return all turns that got a response: the session has ended, and nothing plays on."""
        for turn in self._open:
            turn.cut(now_s)
        return self._take(lambda turn: bool(turn.response_ids))

    def _take(self, is_over: Callable[[_Turn], bool]) -> list[TurnCompleted]:
        over = [turn for turn in self._open if is_over(turn)]
        if not over:
            return []
        self._open = [turn for turn in self._open if turn not in over]
        for known in (self._by_response, self._by_item):
            for key in [key for key, turn in known.items() if turn in over]:
                del known[key]
        return [turn.completed() for turn in over]


def _between(start_s: float | None, end_s: float | None) -> float | None:
    return None if start_s is None or end_s is None else end_s - start_s


# a response is decoded leniently: any field may be raw data


def _is_barge_in(details: object) -> bool:
    return isinstance(details, ev.StatusDetails) and details.reason == "turn_detected"


def _has_calls(output: object) -> bool:
    items = cast("list[object]", output) if isinstance(output, list) else []
    return any(isinstance(item, ev.FunctionCallItem) for item in items)


def _sum(one: _S, other: _S) -> _S:
    """Return the sum of two structs of counts, nested ones too."""
    if isinstance(one, msgspec.Struct) and isinstance(other, msgspec.Struct):
        names = one.__struct_fields__
        return type(one)(**{n: _sum(getattr(one, n), getattr(other, n)) for n in names})
    if isinstance(one, int) and isinstance(other, int):
        return one + other  # type: ignore[return-value]  # both are counts
    return other if one is None else one

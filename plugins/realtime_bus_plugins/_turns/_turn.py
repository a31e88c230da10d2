"""One turn: what is known of it, and when it is over."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, cast

import msgspec

from realtime_bus import events as ev

__all__ = ["Turn", "TurnCompleted", "TurnOrigin"]

_S = TypeVar("_S")


TurnOrigin = Literal["speech", "commit", "text", "request", "idle"]
"""What a turn began with; see `TurnCompleted`."""


class TurnCompleted(ev.BusEvent, tag="bus.turn_completed"):
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


class Turn:
    """A person's input and all that answers it. Moments are in seconds, on the caller's clock.

    Attributes:
        origin: What it began with.
        zero_s: The end of the person's input.
        item_id: The person's item.
        response_ids: The responses, in order.
        active: Those that have not ended.
        status: How the last one ended.
        first_audio_at_s: When the first audio came.
        first_text_at_s: When the first written text came.
        heard_at_s: When the first audio was heard.
        plays_until_s: When everything that came will have been played, if nothing stops it.
        interrupted: Whether somebody spoke over it.
        barge_in_latency_s: How long it took to fall silent.
        usage: Tokens so far.
        awaits_tools: Whether the last response called functions, and nothing followed.
        tool_round_trips: How often something did.
    """

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
        self.plays_until_s = zero_s
        self.interrupted = False
        self.barge_in_latency_s: float | None = None
        self.usage: ev.Usage | None = None
        self.awaits_tools = False
        self.tool_round_trips = 0

    @property
    def awaits_response(self) -> bool:
        """Whether the next response belongs to it."""
        return not self.response_ids or (self.awaits_tools and not self.active)

    @property
    def answered(self) -> bool:
        """Whether nothing more is to come, except what still plays."""
        return bool(self.response_ids) and not self.active and not self.awaits_tools

    def begin(self, response_id: str) -> None:
        """Note that a response has begun."""
        self.tool_round_trips += self.awaits_tools
        self.awaits_tools = False
        self.response_ids.append(response_id)
        self.active.add(response_id)

    def end(self, response_id: str, response: Any, at_s: float) -> None:
        """Note that a response has ended."""
        self.active.discard(response_id)
        status = getattr(response, "status", None)
        reason = getattr(getattr(response, "status_details", None), "reason", None)
        self.status = status if isinstance(status, str) else self.status
        if reason == "turn_detected":
            self.stop(at_s)
        self.awaits_tools = status != "cancelled" and _calls(response)
        if isinstance(usage := getattr(response, "usage", None), ev.Usage):
            self.usage = usage if self.usage is None else _sum(self.usage, usage)

    def audio(self, length_s: float, at_s: float) -> None:
        """Note that audio has come; it plays behind what came before."""
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

    def completed(self) -> TurnCompleted:
        """Return what there is to tell."""
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
        )


def _between(start_s: float | None, end_s: float | None) -> float | None:
    return None if start_s is None or end_s is None else end_s - start_s


def _calls(response: Any) -> bool:
    output = getattr(response, "output", None)  # read leniently: it may be anything
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

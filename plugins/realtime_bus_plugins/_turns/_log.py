"""The turns of a session, and which event belongs to which.

The rules
---------
* A turn begins where the person's input ends: see `TurnCompleted` for each origin's zero
  point. A ``response.create`` begins one only if no turn waits for a response.
* A response of the default conversation belongs to the latest turn; so do those that answer
  after tool calls, and they count as round trips. Responses out of band belong to no turn.
* A turn is over when its responses are done, no call is open, and its audio has been played:
  by the clock (audio plays from its arrival, or from when it was heard if that is later), or
  because somebody interrupted. When a new turn begins, open calls are no longer waited for.
* A turn that got no response is forgotten.
* Audio that comes after an interruption counts for nothing.

Bound: the last 32 turns that are not over; older ones are taken for over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any

from ._turn import Turn, TurnCompleted, TurnOrigin

__all__ = ["TurnLog"]

_MOST_OPEN = 32


class TurnLog:
    """Open turns; `settle` gives those that are over."""

    def __init__(self) -> None:
        self._open: list[Turn] = []
        self._by_response: dict[str, Turn] = {}
        self._by_item: dict[str, Turn] = {}

    # what begins a turn

    def input_ended(self, origin: TurnOrigin, at_s: float, item_id: str | None = None) -> None:
        """Begin a turn."""
        for turn in self._open:
            turn.awaits_tools = False
        self._open = [turn for turn in self._open if turn.response_ids]
        self._open.append(Turn(origin, at_s, item_id))

    def asked(self, at_s: float) -> None:
        """Note that a response of the default conversation was asked for."""
        if not (self._open and self._open[-1].awaits_response):
            self.input_ended("request", at_s)

    def committed(self, item_id: str) -> None:
        """Note which item a commit has made."""
        if self._open and self._open[-1].origin == "commit":
            self._open[-1].item_id = self._open[-1].item_id or item_id

    # what answers

    def response_created(self, response_id: str, at_s: float) -> None:
        """Note that a response of the default conversation has begun."""
        if not self._open:
            self.input_ended("request", at_s)
        turn = self._by_response[response_id] = self._open[-1]
        turn.begin(response_id)

    def response_done(
        self, response_id: str, response: Any, at_s: float, *, in_conversation: bool = False
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
        if turn is not None and not turn.interrupted:
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

    # what ends it

    def interrupted(self, item_ids: Iterable[str], latency_s: float, at_s: float) -> None:
        """Note that items were cut off."""
        for turn in {id(t): t for i in item_ids if (t := self._by_item.get(i))}.values():
            turn.stop(at_s, latency_s)

    def silenced(self, response_id: str, at_s: float, *, interrupted: bool) -> None:
        """Note that the server, which plays by itself, plays a response no more."""
        turn = self._by_response.get(response_id)
        if turn is not None and interrupted:
            turn.stop(at_s)
        elif turn is not None:
            turn.plays_until_s = min(turn.plays_until_s, at_s)

    def next_end_s(self) -> float | None:
        """Return when a turn will be over, if only its playback is waited for."""
        ends = (turn.plays_until_s for turn in self._open if turn.answered)
        return min((end_s for end_s in ends if end_s < inf), default=None)

    def settle(self, now_s: float) -> list[TurnCompleted]:
        """Return the turns that are over, and forget them."""
        excess = self._open[:-_MOST_OPEN]
        return self._take(
            lambda turn: turn in excess or (turn.answered and turn.plays_until_s <= now_s)
        )

    def close(self) -> list[TurnCompleted]:
        """Return all turns that got a response: the session has ended."""
        return self._take(lambda turn: bool(turn.response_ids))

    def _take(self, is_over: Callable[[Turn], bool]) -> list[TurnCompleted]:
        over = [turn for turn in self._open if is_over(turn)]
        if not over:
            return []
        self._open = [turn for turn in self._open if turn not in over]
        self._by_response = {k: t for k, t in self._by_response.items() if t not in over}
        self._by_item = {k: t for k, t in self._by_item.items() if t not in over}
        return [turn.completed() for turn in over]

"""Which calls are run, which are answered unrun, and what the model is owed: a state machine.

Pure: events go in, things to do come out. No clock, no tasks, nothing is sent. Which responses
are of the conversation, and what is active, is asked of `ConversationState`, which has seen an
event before this does.

The rules (Realtime protocol, function calls and parallel calls):

1. A round is a response of the default conversation and the calls in it. A call comes with
   ``response.output_item.done`` or ``response.done``, whichever is first; seeing it again changes
   nothing. It is known by its ``call_id``, which is answered once in a session: if another
   response names it, too, it belongs to that one if it has not started, and else stays where it is.
2. Calls of a response that is not known to be of the conversation are held. Those of a response
   out of band are not ours: their outputs would be refused, so they are neither run nor answered.
3. A call starts once its arguments are complete: its item says ``completed``, or says nothing and
   its response completed. One that is ``incomplete`` is never run: it is answered as cut off.
4. At most `limit` calls run at once. Others wait, at most `max_waiting` of them; beyond that a
   call is answered as too many.
5. When a response ends ``cancelled`` or ``failed``, calls of it that have not started are
   answered as not run. Calls that run when it ends ``cancelled`` are interrupted: whoever runs
   them stops them or lets them finish, and they are answered in any case.
6. Every call is answered once, as soon as it has an output, whatever the others do.
7. The model is owed one response when a round's response has ended and all its calls have been
   answered; not after a ``cancelled`` or ``failed`` one, and after an ``incomplete`` one only if
   a call of it was run. When it is asked for that response: see `FollowUps`.
8. A new response of the default conversation ends an older one whose ``response.done`` never
   came, as if it had failed: the model goes on already.
9. Another connection takes over with the calls that were written to their end, which may be the
   last that was heard of them (``conversation.item.done``): those go on, and are answered there.
   What was cut off in writing is forgotten, for the server does not know of it.

Memory is bounded: besides rounds with calls at work, the last 64 rounds are known, 128 calls of
each, and the last 1024 call ids. Further calls of a round are answered as too many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from realtime_bus import ConversationState
from realtime_bus import events as ev
from realtime_bus_plugins._recent import Recent

from ._follow_up import Call, CallState, FollowUps

DeclineReason: TypeAlias = Literal["busy", "cancelled", "cut_off"]
"""Why a call is answered without having been run."""

_Ending: TypeAlias = Literal["completed", "incomplete", "cancelled", "failed"]

_MAX_ROUNDS, _MAX_CALLS_OF_ROUND, _MAX_CALLS = 64, 128, 1024
_ENDINGS: dict[Any, _Ending] = {
    "completed": "completed",
    "incomplete": "incomplete",
    "cancelled": "cancelled",
    None: "completed",  # a server that does not say
}
_ABORTED = frozenset({"cancelled", "failed"})


@dataclass(frozen=True, slots=True)
class Run:
    """Run this call, and say `Rounds.finished` when it has been answered."""

    call: Call


@dataclass(frozen=True, slots=True)
class Decline:
    """Answer this call without running it."""

    call: Call
    reason: DeclineReason


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The response of this running call was cancelled: stop it, or let it finish."""

    call: Call


@dataclass(frozen=True, slots=True)
class FollowUp:
    """These calls have been answered: ask the model to go on, and say `Rounds.followed_up`.

    Attributes:
        calls: Which.
        at_once: Whether the person has been waited for long enough.
    """

    calls: tuple[Call, ...]
    at_once: bool = field(default=False, compare=False)


Action: TypeAlias = Run | Decline | Interrupt | FollowUp


class _Round:
    """A response and its calls."""

    __slots__ = ("calls", "ending", "in_conversation", "over")

    def __init__(self) -> None:
        self.in_conversation = self.over = False
        self.ending: _Ending | None = None
        self.calls: dict[str, Call] = {}

    def in_state(self, *states: CallState) -> list[Call]:
        """Return the calls that are in one of these states."""
        return [call for call in self.calls.values() if call.state in states]

    @property
    def has_open_calls(self) -> bool:
        """Whether a call has not been answered."""
        return bool(self.in_state("held", "waiting", "running"))

    def verdict(self, call: Call) -> DeclineReason | Literal["hold", "run"]:
        """Decide about a call that has not started."""
        if call.status in ("incomplete", "in_progress"):
            return "cut_off"
        if self.ending in _ABORTED:
            return "cancelled"
        if call.status == "completed" or self.ending == "completed":
            return "run"
        return "hold" if self.ending is None else "cut_off"


class Rounds:
    """The calls of one session.

    Args:
        conversation: The session's view of the conversation; it sees each event first.
        limit: How many calls run at once.
        max_waiting: How many wait for that.

    Attributes:
        follow_ups: What the model is owed.
    """

    def __init__(
        self, conversation: ConversationState, *, limit: int = 8, max_waiting: int = 64
    ) -> None:
        self.follow_ups = FollowUps(conversation)
        self._conversation = conversation
        self._limit = limit
        self._max_waiting = max_waiting
        self._rounds: dict[str, _Round] = {}
        self._owners = Recent[str, str](_MAX_CALLS)  # of calls, by call_id: their responses
        self._waiting: deque[tuple[_Round, Call]] = deque()
        self._running = 0

    def see(self, event: ev.Event) -> list[Action]:
        """Take note of one of the events in `SEEN`, and return what is to be done."""
        if type(event) in FollowUps.SEEN:
            self.follow_ups.see(event)
        note = self._NOTES.get(type(event))
        actions = note(self, event) if note is not None else []
        return [*actions, *self._go_on()]

    def finished(self, call: Call) -> list[Action]:
        """Take note that a call which was run has been answered."""
        found = self._rounds[call.response_id]
        found.calls[call.call_id].state = "answered"
        self._running -= 1
        self._conclude(found)
        actions: list[Action] = []
        while self._waiting and self._running < self._limit:
            actions += self._start(*self._waiting.popleft())
        return [*actions, *self._go_on()]

    def followed_up(self, calls: tuple[Call, ...], *, well: bool) -> list[Action]:
        """Take note how the response ended that was asked for after these calls."""
        self.follow_ups.ended(calls, well=well)
        return self._go_on()

    def waited(self) -> list[Action]:
        """Take note that `FollowUps.wait_s` have passed without a change."""
        return _follow_up(self.follow_ups.waited(busy=self._busy), at_once=True)

    def _go_on(self) -> list[Action]:
        return _follow_up(self.follow_ups.release(busy=self._busy))

    @property
    def _busy(self) -> bool:
        """Whether a response is active, or calls of the latest one are open."""
        ours = (found for found in reversed(self._rounds.values()) if found.in_conversation)
        latest = next(ours, None)
        open_calls = latest is not None and latest.has_open_calls
        return open_calls or self._conversation.active_response is not None

    # events

    def _created(self, event: Any) -> list[Action]:
        return self._include(getattr(event.response, "id", None))

    def _item_added(self, _: ev.ConversationItemAdded) -> list[Action]:
        """See whether it proved that a response with held calls is of the conversation."""
        held = [key for key, found in self._rounds.items() if found.in_state("held")]
        return [action for key in held for action in (*self._include(key), *self._judge(key))]

    def _item_done(self, event: ev.ResponseOutputItemDone) -> list[Action]:
        # where the server leaves the id out, it can only be the active response's
        key = event.response_id or self._conversation.active_response_id or ""
        return [*self._include(key), *self._take(key, event.item), *self._judge(key)]

    def _written(self, event: ev.ConversationItemDone) -> list[Action]:
        """Note a call, in case that its response is cut off just here; it starts by rule 1."""
        item = event.item
        if not isinstance(item, ev.FunctionCallItem) or item.status != "completed":
            return []
        known = self._conversation.items.get(item.id or "")
        key = None if known is None else known.response_id
        return self._take(key, item) if key else []

    def _done(self, event: Any) -> list[Action]:
        response = event.response
        if not isinstance(response, ev.Response):
            return []  # a server's mistake, reported as drift
        key = response.id or ""
        actions = self._include(key)
        found = self._round(key)
        if found.ending is not None:
            return actions
        for item in response.output:
            actions += self._take(key, item)
        ending = _ENDINGS.get(response.status, "failed")
        self.follow_ups.response_ended(key, well=ending != "failed")
        return [*actions, *self._end(key, ending)]

    def _reconnected(self, event: ev.Reconnected) -> list[Action]:
        if event.cause == "lost":
            self.follow_ups.connection_replaced()
        actions: list[Action] = []
        for key, found in [*self._rounds.items()]:
            if found.ending is None and self._conversation.active_response_id != key:
                for call in found.in_state("held"):
                    if call.status != "completed":
                        del found.calls[call.call_id], self._owners[call.call_id]
                actions += [*self._judge(key), *self._end(key, "incomplete")]
        return actions

    def _round(self, key: str) -> _Round:
        found = self._rounds.setdefault(key, _Round())
        if len(self._rounds) > _MAX_ROUNDS:
            for oldest, other in self._rounds.items():
                if other is not found and not other.in_state("waiting", "running"):
                    del self._rounds[oldest]
                    break
        return found

    def _include(self, response_id: str | None) -> list[Action]:
        """See whether a response is new in the conversation: then it ends an older one."""
        key = response_id or ""
        found = self._round(key)
        if found.in_conversation or not self._conversation.has_response(key):
            return []
        found.in_conversation = True
        self.follow_ups.response_began(key)
        left = [
            other
            for other, round_ in self._rounds.items()
            if round_ is not found and round_.in_conversation and round_.ending is None
        ]
        return [action for other in left for action in self._end(other, "failed")]

    def _take(self, key: str, item: ev.Item) -> list[Action]:
        """Note a call; what is said again of one that has not started may add its status."""
        if not isinstance(item, ev.FunctionCallItem) or not item.call_id:
            return []
        owner_key = self._owners.get(item.call_id)
        if owner_key is not None:
            owner = self._rounds.get(owner_key)
            known = None if owner is None else owner.calls.get(item.call_id)
            if owner is None or known is None or known.state != "held":
                return []
            if owner_key != key:
                del owner.calls[item.call_id]
        call = Call(
            response_id=key,
            call_id=item.call_id,
            name=item.name,
            arguments=item.arguments,
            status=item.status,
        )
        calls = self._round(key).calls
        if len(calls) >= _MAX_CALLS_OF_ROUND and item.call_id not in calls:
            self._owners[item.call_id] = key
            return [self._decline(call, "busy")] if self._round(key).in_conversation else []
        calls[item.call_id] = call
        self._owners[item.call_id] = key
        return []

    # decisions

    def _end(self, key: str, ending: _Ending) -> list[Action]:
        found = self._rounds[key]
        found.ending = ending
        if not found.in_conversation:
            for call_id in found.calls:
                self._owners.pop(call_id, None)
            found.calls.clear()
        actions: list[Action] = []
        if ending in _ABORTED:  # what waits for its turn is answered
            withdrawn = [call for owner, call in self._waiting if owner is found]
            self._waiting = deque(pair for pair in self._waiting if pair[0] is not found)
            actions += [self._decline(call, "cancelled") for call in withdrawn]
        if ending == "cancelled":
            actions += [Interrupt(call) for call in found.in_state("running")]
        return [*actions, *self._judge(key)]

    def _judge(self, key: str) -> list[Action]:
        """Start or decline the calls of which enough is known; see whether all are answered."""
        found = self._round(key)
        if not found.in_conversation:
            return []
        actions: list[Action] = []
        for call in found.in_state("held"):
            verdict = found.verdict(call)
            if verdict == "run":
                actions += self._start(found, call)
            elif verdict != "hold":
                actions.append(self._decline(call, verdict))
        self._conclude(found)
        return actions

    def _start(self, found: _Round, call: Call) -> Iterable[Action]:
        if self._running < self._limit:
            self._running += 1
            call.state, call.ran = "running", True
            return [Run(call)]
        if len(self._waiting) >= self._max_waiting:
            return [self._decline(call, "busy")]
        call.state = "waiting"
        self._waiting.append((found, call))
        return []

    def _decline(self, call: Call, reason: DeclineReason) -> Decline:
        call.state = "answered"
        return Decline(call, reason)

    def _conclude(self, found: _Round) -> None:
        """See whether a round is over, and whether the model is owed a response then."""
        if found.over or found.ending is None or found.has_open_calls:
            return
        found.over = True
        calls = tuple(found.calls.values())
        ran = any(call.ran for call in calls)
        if calls and (found.ending == "completed" or (found.ending == "incomplete" and ran)):
            self.follow_ups.owe(calls)

    _NOTES: ClassVar[dict[type[ev.Event], Callable[[Rounds, Any], list[Action]]]] = {
        ev.ResponseCreated: _created,
        ev.ConversationItemAdded: _item_added,
        ev.ConversationItemCreated: _item_added,
        ev.ConversationItemDone: _written,
        ev.ResponseOutputItemDone: _item_done,
        ev.ResponseDone: _done,
        ev.Reconnected: _reconnected,
    }
    SEEN: ClassVar[frozenset[type[ev.Event]]] = frozenset({*_NOTES, *FollowUps.SEEN})
    """The events that the machine wants to see."""


def _follow_up(calls: tuple[Call, ...], *, at_once: bool = False) -> list[Action]:
    return [FollowUp(calls, at_once)] if calls else []

"""Which calls are run, which are answered unrun, and what the model is owed: a state machine.

Pure: events go in, things to do come out. No clock, no tasks, nothing is sent.

The rules (Realtime protocol, function calls and parallel calls):

1. A round is a response of the default conversation and the calls in it. Calls are known by
   response and ``call_id``, from ``response.output_item.done`` or ``response.done``, whichever
   comes first; seeing one again changes nothing.
2. A response is of the default conversation if it names one, or if ``conversation.item.added``
   (in the beta ``created``) told of one of its calls. Until that is known, its calls are held.
   Calls of responses out of band are not ours: their outputs would be refused, so they are
   neither run nor answered.
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
   a call of it was run. When it is asked for that response: see `Pace`.
8. A new response of the default conversation ends an older one whose ``response.done`` never
   came, as if it had failed: the model goes on already.

Memory is bounded: besides rounds with calls at work, the last 64 rounds and 256 items are known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from realtime_bus import events as ev

from ._calls import (
    ABORTED,
    ENDINGS,
    Action,
    Call,
    Ending,
    Entry,
    FollowUp,
    Interrupt,
    Refuse,
    Round,
    Run,
    verdict,
)
from ._outputs import NotRun
from ._pace import Pace

__all__ = ["Rounds"]

_MAX_ROUNDS, _MAX_ITEMS = 64, 256


class Rounds:
    """The calls of one session.

    Args:
        limit: How many calls run at once.
        max_waiting: How many wait for that.
    """

    def __init__(self, *, limit: int = 8, max_waiting: int = 64) -> None:
        self._limit = limit
        self._max_waiting = max_waiting
        self._rounds: dict[str, Round] = {}
        self._items: dict[str, None] = {}
        self._waiting: deque[tuple[Round, Entry]] = deque()
        self._running = 0
        self._pace = Pace()

    @property
    def owing(self) -> bool:
        """Whether the model is to be asked to go on, but not yet."""
        return bool(self._pace.owed)

    def see(self, event: ev.Event) -> list[Action]:
        """Take note of one of the events in `SEEN`, and return what is to be done."""
        if type(event) in Pace.SEEN:
            self._pace.see(event)
        note = self._NOTES.get(type(event))
        actions = note(self, event) if note is not None else []
        return [*actions, *self._go_on()]

    def finished(self, call: Call) -> list[Action]:
        """Take note that a call which was run has been answered."""
        found = self._rounds[call.response_id]
        found.entries[call.call_id].state = "answered"
        self._running -= 1
        self._conclude(found)
        return [*self._start_waiting(), *self._go_on()]

    def insist(self) -> list[Action]:
        """Go on, although something stands in the way that may never end; see `Pace`."""
        return _follow_up(self._pace.insist())

    def _go_on(self) -> list[Action]:
        if not self._pace.owed:
            return []
        ours = (found for found in reversed(self._rounds.values()) if found.in_conversation)
        latest = next(ours, None)
        return _follow_up(self._pace.release(busy=latest is not None and not latest.over))

    # events

    def _created(self, event: ev.ResponseCreated) -> list[Action]:
        is_new = (event.response.id or "") not in self._rounds
        created = self._round(event.response.id)
        if not is_new or not event.response.conversation_id:
            return []
        created.in_conversation = True
        self._pace.response_began()
        older = [found for found in self._rounds.values() if found is not created]
        left = [found for found in older if found.in_conversation and found.ending is None]
        return [action for found in left for action in self._end(found, "failed")]

    def _item_added(self, event: ev.ConversationItemAdded) -> list[Action]:
        item_id = event.item.id if isinstance(event.item, ev.FunctionCallItem) else None
        if item_id is None:
            return []
        self._items[item_id] = None
        if len(self._items) > _MAX_ITEMS:
            del self._items[next(iter(self._items))]
        owners = [r for r in self._rounds.values() if self._tells_of(item_id, r)]
        for owner in owners:
            owner.in_conversation = True
        return [action for owner in owners for action in self._judge(owner)]

    def _tells_of(self, item_id: str, found: Round) -> bool:
        return any(entry.item_id == item_id for entry in found.in_state("held"))

    def _item_done(self, event: ev.ResponseOutputItemDone) -> list[Action]:
        found = self._round(event.response_id)
        self._take(found, event.response_id, event.item)
        return self._judge(found)

    def _done(self, event: ev.ResponseDone) -> list[Action]:
        response = event.response
        found = self._round(response.id)
        if found.ending is not None:
            return []
        for item in response.output:
            self._take(found, response.id or "", item)
        if response.conversation_id:
            found.in_conversation = True
        return self._end(found, ENDINGS.get(response.status, "failed"))

    def _round(self, response_id: str | None) -> Round:
        found = self._rounds.setdefault(response_id or "", Round())
        if len(self._rounds) > _MAX_ROUNDS:
            self._forget_oldest(found)
        return found

    def _forget_oldest(self, new: Round) -> None:
        for key, found in self._rounds.items():
            if found is not new and not found.in_state("waiting", "running"):
                del self._rounds[key]
                return

    def _take(self, found: Round, response_id: str, item: ev.Item) -> None:
        """Note a call; what is said again of one that has not started may add its status."""
        if not isinstance(item, ev.FunctionCallItem) or not item.call_id:
            return
        known = found.entries.get(item.call_id)
        if known is not None and known.state != "held":
            return
        call = Call(
            response_id=response_id,
            call_id=item.call_id,
            name=item.name,
            arguments=item.arguments,
        )
        found.entries[item.call_id] = Entry(call, item)
        found.in_conversation |= item.id in self._items

    # decisions

    def _end(self, found: Round, ending: Ending) -> list[Action]:
        found.ending = ending
        if not found.in_conversation:
            found.entries.clear()
        interrupted = found.in_state("running") if ending == "cancelled" else []
        return [
            *self._withdraw(found),
            *(Interrupt(entry.call) for entry in interrupted),
            *self._judge(found),
        ]

    def _withdraw(self, found: Round) -> list[Action]:
        """Answer what waits for its turn, if its response was aborted."""
        if found.ending not in ABORTED:
            return []
        mine = [entry for owner, entry in self._waiting if owner is found]
        self._waiting = deque(pair for pair in self._waiting if pair[0] is not found)
        return [self._refuse(entry, "cancelled") for entry in mine]

    def _judge(self, found: Round) -> list[Action]:
        """Start or refuse the calls of which enough is known; see whether all are answered."""
        if not found.in_conversation:
            return []
        actions: list[Action] = []
        for entry in found.in_state("held"):
            decided = verdict(entry, found.ending)
            if decided == "run":
                actions += self._start(found, entry)
            elif decided != "hold":
                actions.append(self._refuse(entry, decided))
        self._conclude(found)
        return actions

    def _start(self, found: Round, entry: Entry) -> list[Action]:
        if self._running < self._limit:
            self._running += 1
            entry.state, entry.ran = "running", True
            return [Run(entry.call)]
        if len(self._waiting) >= self._max_waiting:
            return [self._refuse(entry, "busy")]
        entry.state = "waiting"
        self._waiting.append((found, entry))
        return []

    def _start_waiting(self) -> list[Action]:
        actions: list[Action] = []
        while self._waiting and self._running < self._limit:
            actions += self._start(*self._waiting.popleft())
        return actions

    def _refuse(self, entry: Entry, reason: NotRun) -> Refuse:
        entry.state = "answered"
        return Refuse(entry.call, reason)

    def _conclude(self, found: Round) -> None:
        """See whether a round is over, and whether the model is owed a response then."""
        if found.over or found.ending is None or found.has_open_calls:
            return
        found.over = True
        if found.goes_on:
            self._pace.owe(tuple(entry.call for entry in found.entries.values()))

    _NOTES: ClassVar[dict[type[ev.Event], Callable[[Rounds, Any], list[Action]]]] = {
        ev.ResponseCreated: _created,
        ev.ConversationItemAdded: _item_added,
        ev.ConversationItemCreated: _item_added,
        ev.ResponseOutputItemDone: _item_done,
        ev.ResponseDone: _done,
    }
    SEEN: ClassVar[frozenset[type[ev.Event]]] = frozenset({*_NOTES, *Pace.SEEN})
    """The events that the machine wants to see."""


def _follow_up(calls: tuple[Call, ...]) -> list[Action]:
    return [FollowUp(calls)] if calls else []

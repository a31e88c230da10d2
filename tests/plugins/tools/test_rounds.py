"""The machine behind the tools: which calls run, and when the model goes on."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from realtime_bus import events as ev
from realtime_bus_plugins.tools._calls import Call, FollowUp, Interrupt, Refuse, Run
from realtime_bus_plugins.tools._rounds import Rounds

from ._model import call


def created(response_id: str = "r", conversation_id: str | None = "conv") -> ev.ResponseCreated:
    """Return the start of a response."""
    return ev.ResponseCreated(response=ev.Response(id=response_id, conversation_id=conversation_id))


def item_done(item: ev.Item, response_id: str = "r") -> ev.ResponseOutputItemDone:
    """Return the end of an item."""
    return ev.ResponseOutputItemDone(response_id=response_id, item=item)


def done(
    *items: ev.Item, response_id: str = "r", status: Any = "completed", conversation: Any = "conv"
) -> ev.ResponseDone:
    """Return the end of a response."""
    response = ev.Response(
        id=response_id, status=status, conversation_id=conversation, output=list(items)
    )
    return ev.ResponseDone(response=response)


A = call("a", "f")
RUN_A = Run(Call(response_id="r", call_id="a", name="f", arguments="{}"))


def test_a_call_runs_as_soon_as_it_is_known_to_be_ours() -> None:
    """Before response.done, if the response has named the conversation."""
    rounds = Rounds()
    assert rounds.see(created()) == []
    assert rounds.see(item_done(A)) == [RUN_A]
    assert rounds.finished(RUN_A.call) == []
    assert rounds.see(done(A)) == [FollowUp((RUN_A.call,))]


@pytest.mark.parametrize("added", [ev.ConversationItemAdded, ev.ConversationItemCreated])
@pytest.mark.parametrize("first", [True, False])
def test_an_item_event_tells_of_the_conversation(added: Any, *, first: bool) -> None:
    """Where responses name no conversation, the item in it does, in either order."""
    rounds = Rounds()
    events = [added(item=A), item_done(A)]
    actions = [rounds.see(event) for event in (events if first else events[::-1])]
    assert actions == [[], [RUN_A]]
    assert rounds.see(done(A, conversation=None)) == []
    assert rounds.finished(RUN_A.call) == [FollowUp((RUN_A.call,))]


def test_a_response_without_any_conversation_is_out_of_band() -> None:
    """Its calls are held, and let go at its end."""
    rounds = Rounds()
    seen = (created(conversation_id=None), item_done(A), done(A, conversation=None), item_done(A))
    assert [rounds.see(event) for event in seen] == [[], [], [], []]


def test_items_of_others_and_calls_without_id_are_nothing() -> None:
    """A message, a client's item, or a call that cannot be answered: nothing to do."""
    rounds = Rounds()
    message = ev.MessageItem(id="m", role="assistant", content=[])
    for event in (
        ev.ConversationItemAdded(item=message),
        ev.ConversationItemAdded(item=ev.FunctionCallItem(name="f", arguments="")),
        created(),
        item_done(message),
        item_done(ev.FunctionCallItem(name="f", arguments="{}", status="completed")),
        done(message),
    ):
        assert rounds.see(event) == []


def test_the_line_of_waiting_calls_has_an_end() -> None:
    """One runs, one waits, and the third is one too many."""
    rounds = Rounds(limit=1, max_waiting=1)
    rounds.see(created())
    kinds = [rounds.see(item_done(call(name, "f"))) for name in "abc"]
    assert [[type(action) for action in actions] for actions in kinds] == [[Run], [], [Refuse]]
    assert [action.reason for action in kinds[2] if isinstance(action, Refuse)] == ["busy"]
    [next_one] = rounds.finished(RUN_A.call)
    assert isinstance(next_one, Run)
    assert next_one.call.call_id == "b"


def test_much_is_forgotten_but_nothing_at_work() -> None:
    """Hundreds of responses later a call that still runs is answered, and its round goes on."""
    rounds = Rounds(limit=100)
    rounds.see(created())
    rounds.see(item_done(A))
    rounds.see(done(A))
    for n in range(300):
        rounds.see(created(f"r{n}"))
        rounds.see(ev.ConversationItemAdded(item=call(f"c{n}", "f")))
        rounds.see(done(response_id=f"r{n}"))
    assert len(rounds._rounds) == 64
    assert len(rounds._items) == 256
    assert rounds.finished(RUN_A.call) == [FollowUp((RUN_A.call,))]
    many = [rounds.see(event) for n in range(80) for event in _busy_round(n)]
    assert sum(isinstance(action, Run) for actions in many for action in actions) == 80
    *earlier, [follow_up] = [rounds.finished(_call(f"busy{n}", f"b{n}")) for n in range(80)]
    assert earlier == [[]] * 79
    assert isinstance(follow_up, FollowUp)
    assert len(follow_up.calls) == 80


def _busy_round(n: int) -> list[ev.Event]:
    item = call(f"b{n}", "f")
    return [item_done(item, f"busy{n}"), done(item, response_id=f"busy{n}")]


def _call(response_id: str, call_id: str) -> Call:
    return Call(response_id=response_id, call_id=call_id, name="f", arguments="{}")


class Player:
    """Plays a random schedule, and counts what comes of it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311  # a schedule, no secret
        self.rounds = Rounds(limit=2, max_waiting=3)
        self.running: list[Call] = []
        self.answers = Counter[str]()
        self.follow_ups = Counter[str]()

    def play(self, response_id: str, items: list[ev.FunctionCallItem], ending: str) -> None:
        """Let a response come and go, its events doubled or left out, and calls finish."""
        chance = self.chance
        script: list[ev.Event] = [created(response_id)] * chance.randrange(1, 3)
        script += [item_done(item, response_id) for item in items if chance.random() < 0.8]
        script += [item_done(item, response_id) for item in items if chance.random() < 0.3]
        script += [done(*items, response_id=response_id, status=ending)] * chance.randrange(1, 3)
        for event in script:
            self._act(self.rounds.see(event))
            while chance.random() < 0.4:
                self.finish_one()

    def finish_one(self) -> None:
        """Let a running call come to its end."""
        if self.running:
            finished = self.running.pop(self.chance.randrange(len(self.running)))
            self.answers[finished.call_id] += 1
            self._act(self.rounds.finished(finished))

    def _act(self, actions: list[Any]) -> None:
        for action in actions:
            {Run: self._run, Refuse: self._refuse, FollowUp: self._go_on}.get(
                type(action), self._interrupt
            )(action)

    def _run(self, action: Run) -> None:
        self.running.append(action.call)
        assert len(self.running) <= 2

    def _refuse(self, action: Refuse) -> None:
        self.answers[action.call.call_id] += 1

    def _go_on(self, action: FollowUp) -> None:
        assert {call.call_id for call in action.calls} <= self.answers.keys()
        self.follow_ups.update({call.response_id for call in action.calls})

    def _interrupt(self, action: Interrupt) -> None:
        assert action.call in self.running


@pytest.mark.parametrize("seed", range(200))
def test_every_call_is_answered_once(seed: int) -> None:
    """Whatever comes in whatever order: one answer a call, one follow-up a completed response."""
    player = Player(seed)
    chance = player.chance
    endings: dict[str, str] = {}
    for n in range(6):
        statuses = ["completed", "completed", "incomplete", None]
        items = [
            call(f"r{n}c{i}", "f", status=chance.choice(statuses))
            for i in range(chance.randrange(5))
        ]
        ending = chance.choice(["completed", "completed", "cancelled", "failed", "incomplete"])
        endings.update(dict.fromkeys((str(item.call_id) for item in items), ending))
        player.play(f"r{n}", items, ending)
    while player.running:
        player.finish_one()
    assert player.answers == Counter(endings.keys())
    assert set(player.follow_ups.values()) <= {1}
    completed = {name[:2] for name, ending in endings.items() if ending == "completed"}
    possible = {name[:2] for name, ending in endings.items() if ending == "incomplete"}
    assert completed <= player.follow_ups.keys() <= completed | possible
    assert not player.rounds.owing

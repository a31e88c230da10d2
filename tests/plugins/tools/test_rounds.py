"""The machine behind the tools: which calls run, and when the model goes on."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from msgspec import UNSET, structs

from realtime_bus import ConversationState
from realtime_bus import events as ev
from realtime_bus_plugins.tools._follow_up import Call
from realtime_bus_plugins.tools._rounds import Action, Decline, FollowUp, Interrupt, Rounds, Run

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


class Machine(Rounds):
    """The machine beside the conversation that it asks."""

    def __init__(self, **options: int) -> None:
        self.conversation = ConversationState()
        super().__init__(self.conversation, **options)

    def see(self, event: ev.Event) -> list[Action]:
        """See an event, after the conversation."""
        if type(event) in ConversationState.SEEN:
            self.conversation.see(event)
        return super().see(event)


A = call("a", "f")
RUN_A = Run(Call(response_id="r", call_id="a", name="f", arguments="{}"))


def test_a_call_runs_as_soon_as_it_is_known_to_be_ours() -> None:
    """Before response.done, if the response has named the conversation."""
    rounds = Machine()
    assert rounds.see(created()) == []
    assert rounds.see(item_done(A)) == [RUN_A]
    assert rounds.finished(RUN_A.call) == []
    assert rounds.see(done(A)) == [FollowUp((RUN_A.call,))]


OUT_OF_BAND = ev.ResponseCreated(
    response=ev.Response(id="r", conversation_id=None, metadata={"topic": "note"})
)


@pytest.mark.parametrize("added", [ev.ConversationItemAdded, ev.ConversationItemCreated])
@pytest.mark.parametrize("first", [True, False])
def test_an_item_event_tells_of_the_conversation(added: Any, *, first: bool) -> None:
    """Where a response names no conversation, the item in it does, in either order."""
    rounds = Machine()
    assert rounds.see(OUT_OF_BAND) == []
    events = [added(item=A), item_done(A)]
    actions = [rounds.see(event) for event in (events if first else events[::-1])]
    assert actions == [[], [RUN_A]]
    assert rounds.see(done(A, conversation=None)) == []
    assert rounds.finished(RUN_A.call) == [FollowUp((RUN_A.call,))]


def test_calls_out_of_band_are_let_go() -> None:
    """They are held, and forgotten at the response's end."""
    rounds = Machine()
    seen = (OUT_OF_BAND, item_done(A), done(A, conversation=None), item_done(A))
    assert [rounds.see(event) for event in seen] == [[], [], [], []]


def test_a_server_that_names_no_conversation_means_its_own() -> None:
    """An absent conversation_id is not null: the calls are run and followed up."""
    rounds = Machine()
    absent: Any = UNSET
    assert rounds.see(created(conversation_id=absent)) == []
    assert rounds.see(item_done(A)) == [RUN_A]
    assert rounds.see(done(A, conversation=absent)) == []
    assert rounds.finished(RUN_A.call) == [FollowUp((RUN_A.call,))]


def reconnected() -> ev.Reconnected:
    """Return that another connection has taken over, and a response was cut off."""
    return ev.Reconnected(
        cause="lost", session_id="s", url="", attempts=1, gap_s=0.1, restored=[], lost=[], resent=[]
    )


@pytest.mark.parametrize("status", ["completed", "incomplete", "in_progress", None])
def test_a_call_that_was_just_written_when_the_line_broke_is_run(status: Any) -> None:
    """The next connection knows it, and waits: of other calls nothing is known there."""
    rounds = Machine()
    rounds.see(created())
    rounds.see(ev.ResponseOutputItemAdded(response_id="r", item=A))
    written = structs.replace(A, status=status)
    assert rounds.see(ev.ConversationItemDone(item=written)) == []
    rounds.conversation.connection_lost()
    assert rounds.see(reconnected()) == ([RUN_A] if status == "completed" else [])


@pytest.mark.parametrize("finished", [True, False])
def test_a_call_id_is_answered_once(*, finished: bool) -> None:
    """A second response that names the same call does not run it again."""
    rounds = Machine()
    rounds.see(created())
    assert rounds.see(item_done(A)) == [RUN_A]
    rounds.see(done(A))
    if finished:
        assert rounds.finished(RUN_A.call) == [FollowUp((RUN_A.call,))]
    again = ev.FunctionCallItem(id="other", call_id="a", name="f", arguments="", status="completed")
    for event in (created("r2"), item_done(again, "r2"), done(again, response_id="r2")):
        assert rounds.see(event) == []
    if not finished:
        assert rounds.finished(RUN_A.call) == [FollowUp((RUN_A.call,))]


def test_a_call_that_has_not_started_belongs_to_who_names_it_last() -> None:
    """A response that may be out of band holds it; one of the conversation runs it."""
    rounds = Machine()
    for event in (OUT_OF_BAND, item_done(A), created("r2")):
        assert rounds.see(event) == []
    [run] = rounds.see(item_done(A, "r2"))
    assert isinstance(run, Run)
    assert run.call.response_id == "r2"
    assert rounds.see(done(A, conversation=None)) == []
    rounds.see(done(A, response_id="r2"))
    assert rounds.finished(run.call) == [FollowUp((run.call,))]


def test_an_item_that_names_no_response_is_the_active_ones() -> None:
    """A server that leaves the id out is understood, and its call run once."""
    rounds = Machine()
    rounds.see(created())
    assert rounds.see(item_done(A, "")) == [RUN_A]
    assert rounds.see(done(A)) == []
    assert rounds.finished(RUN_A.call) == [FollowUp((RUN_A.call,))]


# what the model is owed


def owing(**options: Any) -> Machine:
    """Return a machine that has asked the model to go on from one call."""
    rounds = Machine(**options)
    for event in (created(), item_done(A), done(A)):
        rounds.see(event)
    assert rounds.finished(RUN_A.call) == [FollowUp((RUN_A.call,))]
    return rounds


def confirmed(call_id: str) -> ev.ConversationItemAdded:
    """Return the event that an output is in the conversation."""
    item = ev.FunctionCallOutputItem(id=f"out_{call_id}", call_id=call_id, output="")
    return ev.ConversationItemAdded(item=item)


def test_a_follow_up_that_fails_is_asked_for_again_after_longer_and_longer_pauses() -> None:
    """The debt stays; while it rests, no other event makes it due."""
    rounds = owing()
    pauses: list[float | None] = []
    for _ in range(8):
        assert rounds.followed_up((RUN_A.call,), well=False) == []
        assert rounds.see(ev.InputAudioBufferCleared()) == []
        pauses.append(rounds.follow_ups.wait_s)
        assert rounds.waited() == [FollowUp((RUN_A.call,))]
        assert rounds.follow_ups.wait_s is None, "the request is under way"
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert rounds.followed_up((RUN_A.call,), well=True) == []
    assert rounds.follow_ups.owed == ()


@pytest.mark.parametrize(
    ("status", "pays"),
    [("completed", True), ("incomplete", True), ("cancelled", True), ("failed", False)],
)
def test_the_servers_own_response_pays_when_it_ends_well(status: str, *, pays: bool) -> None:
    """It has seen all outputs; if it fails, the model is asked after a pause."""
    rounds = owing()
    rounds.followed_up((RUN_A.call,), well=False)
    for event in (confirmed("a"), created("own"), done(response_id="own", status=status)):
        assert rounds.see(event) == []
    assert rounds.follow_ups.wait_s == (None if pays else 2)
    assert rounds.waited() == ([] if pays else [FollowUp((RUN_A.call,))])


def test_a_failed_follow_up_is_one_failure() -> None:
    """Its response.done and the reply that was awaited tell the same."""
    rounds = owing()
    for event in (confirmed("a"), created("ours"), done(response_id="ours", status="failed")):
        assert rounds.see(event) == []
    assert rounds.followed_up((RUN_A.call,), well=False) == []
    assert rounds.follow_ups.wait_s == 1
    assert rounds.waited() == [FollowUp((RUN_A.call,))]


def test_a_response_that_never_ends_has_paid_for_nothing() -> None:
    """The next one that has seen the outputs takes its place."""
    rounds = owing()
    for event in (confirmed("a"), created("lost"), created("next")):
        assert rounds.see(event) == []
    assert rounds.follow_ups.owed == ()
    assert rounds.see(done(response_id="next")) == []
    assert rounds.followed_up((RUN_A.call,), well=True) == []


def test_a_response_that_is_lost_is_not_waited_for_without_end() -> None:
    """No response.done, and nothing after it: after two minutes the model is asked anew."""
    rounds = owing()
    for event in (confirmed("a"), created("lost")):
        rounds.see(event)
    assert rounds.followed_up((RUN_A.call,), well=False) == [], "the reply took too long"
    assert rounds.follow_ups.wait_s == 120
    assert rounds.waited() == [FollowUp((RUN_A.call,))]


def test_pauses_do_not_grow_beyond_all_bounds() -> None:
    """A server that refuses for days is asked once a minute."""
    rounds = owing()
    for _ in range(3000):
        rounds.followed_up((RUN_A.call,), well=False)
        rounds.waited()
    rounds.followed_up((RUN_A.call,), well=False)
    assert rounds.follow_ups.wait_s == 60


SPEAKING = [ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="u")]


def test_a_commit_by_hand_ends_what_is_said() -> None:
    """No speech_stopped comes, and no response by itself."""
    rounds = Machine()
    for event in (*SPEAKING, created(), item_done(A), done(A)):
        rounds.see(event)
    assert rounds.finished(RUN_A.call) == []
    assert rounds.see(ev.InputAudioBufferCommitted(item_id="u")) == [FollowUp((RUN_A.call,))]


def test_patience_begins_anew_with_what_is_waited_for_and_not_with_every_event() -> None:
    """Speech may last longer than all else; what changes nothing does not count."""
    rounds = Machine()
    for event in (*SPEAKING, created(), item_done(A), done(A)):
        rounds.see(event)
    rounds.finished(RUN_A.call)
    follow_ups = rounds.follow_ups
    assert follow_ups.wait_s == 60
    changes = follow_ups.changes
    rounds.see(ev.ConversationItemAdded(item=ev.MessageItem(id="m", role="user", content=[])))
    assert follow_ups.changes == changes
    rounds.see(ev.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id="u"))
    assert follow_ups.changes > changes
    assert follow_ups.wait_s == 15
    assert rounds.waited() == [FollowUp((RUN_A.call,))]


def test_items_of_others_and_calls_without_id_are_nothing() -> None:
    """A message, a client's item, or a call that cannot be answered: nothing to do."""
    rounds = Machine()
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
    rounds = Machine(limit=1, max_waiting=1)
    rounds.see(created())
    kinds = [rounds.see(item_done(call(name, "f"))) for name in "abc"]
    assert [[type(action) for action in actions] for actions in kinds] == [[Run], [], [Decline]]
    assert [action.reason for action in kinds[2] if isinstance(action, Decline)] == ["busy"]
    [next_one] = rounds.finished(RUN_A.call)
    assert isinstance(next_one, Run)
    assert next_one.call.call_id == "b"


def test_much_is_forgotten_but_nothing_at_work() -> None:
    """Hundreds of responses later a call that still runs is answered, and its round goes on."""
    rounds = Machine(limit=100)
    rounds.see(created())
    rounds.see(item_done(A))
    rounds.see(done(A))
    for n in range(300):
        rounds.see(created(f"r{n}"))
        rounds.see(ev.ConversationItemAdded(item=call(f"c{n}", "f")))
        rounds.see(done(response_id=f"r{n}"))
    assert len(rounds._rounds) == 64
    assert rounds.finished(RUN_A.call) == [FollowUp((RUN_A.call,))]
    assert rounds.followed_up((RUN_A.call,), well=True) == []
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
        self.rounds = Machine(limit=2, max_waiting=3)
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
            {Run: self._run, Decline: self._refuse, FollowUp: self._go_on}.get(
                type(action), self._interrupt
            )(action)

    def _run(self, action: Run) -> None:
        self.running.append(action.call)
        assert len(self.running) <= 2

    def _refuse(self, action: Decline) -> None:
        self.answers[action.call.call_id] += 1

    def _go_on(self, action: FollowUp) -> None:
        assert {call.call_id for call in action.calls} <= self.answers.keys()
        well = self.chance.random() < 0.7
        if well:
            self.follow_ups.update({call.response_id for call in action.calls})
        self._act(self.rounds.followed_up(action.calls, well=well))
        if not well:
            assert 1 <= (self.rounds.follow_ups.wait_s or 0) <= 60
            self._act(self.rounds.waited())

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
    assert not player.rounds.follow_ups.owed

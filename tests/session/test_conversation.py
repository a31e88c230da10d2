"""The one view of the conversation, by its rules: events in, facts out."""

from __future__ import annotations

from time import process_time
from typing import Any

import msgspec
import pytest

from realtime_bus import ConversationState
from realtime_bus import events as ev

from ..bus._peer import joined  # noqa: TID252  # tests are no package with a name of its own

NAMED: dict[str, Any] = {"conversation_id": "conv"}
NULL: dict[str, Any] = {"conversation_id": None}
ABSENT: dict[str, Any] = {"conversation_id": msgspec.UNSET}


class Told:
    """A conversation, and a server's words in short."""

    def __init__(self, asked_out_of_band: Any = None) -> None:
        self.known = ConversationState(asked_out_of_band)

    @property
    def active(self) -> str | None:
        """The active response."""
        return self.known.active_response_id

    def created(self, response_id: str, **fields: Any) -> Told:
        """Begin a response."""
        self.known.see(ev.ResponseCreated(response=ev.Response(id=response_id, **fields)))
        return self

    def done(self, response_id: str, **fields: Any) -> Told:
        """End a response."""
        self.known.see(ev.ResponseDone(response=ev.Response(id=response_id, **fields)))
        return self

    def output(self, response_id: str, item_id: str) -> Told:
        """Add an item to a response."""
        self.known.see(
            ev.ResponseOutputItemAdded(
                response_id=response_id, output_index=0, item=message(item_id)
            )
        )
        return self

    def item(self, item_id: str, event: Any = ev.ConversationItemAdded) -> Told:
        """Tell of an item in the conversation."""
        self.known.see(event(item=message(item_id)))
        return self


def message(item_id: str) -> ev.MessageItem:
    """Make an assistant's message."""
    return ev.MessageItem(id=item_id, role="assistant", content=[])


@pytest.fixture
def told() -> Told:
    """Return a conversation of which nothing is known."""
    return Told()


# Rules 1 to 3: which responses are of the conversation


@pytest.mark.parametrize(
    "event", [ev.ConversationItemAdded, ev.ConversationItemCreated, ev.ConversationItemDone]
)
@pytest.mark.parametrize("item_first", [True, False])
def test_an_item_proves_where_its_response_is(told: Told, event: Any, *, item_first: bool) -> None:
    """Rule 1: whatever was taken for granted, and in whichever order the two events come."""
    told.created("other", **NAMED).done("other").created("r", **NULL)
    assert not told.known.has_response("r")
    if item_first:
        told.item("i", event).output("r", "i")
    else:
        told.output("r", "i").item("i", event)
    assert told.known.has_response("r")
    assert told.active == "r"


def test_what_names_a_conversation_is_of_it() -> None:
    """Rule 1 comes before rule 2: what the server says counts more than what was asked for."""
    told = Told(lambda _: True).created("r", **NAMED)
    assert told.known.has_response("r")


@pytest.mark.parametrize("fields", [NULL, ABSENT, {**NULL, "metadata": {"a": "b"}}])
@pytest.mark.parametrize(("asked", "inside"), [(True, False), (False, True)])
def test_what_was_asked_for_decides(fields: Any, *, asked: bool, inside: bool) -> None:
    """Rule 2: a response that answers our request is where that asked for it."""
    told = Told(lambda _: asked).created("other", **NAMED).done("other").created("r", **fields)
    assert told.known.has_response("r") == inside


@pytest.mark.parametrize(
    ("fields", "named_before", "inside"),
    [
        (NULL, True, False),
        (NULL, False, True),
        ({**NULL, "metadata": {"a": "b"}}, False, False),
        (ABSENT, True, True),
        ({**ABSENT, "metadata": {"a": "b"}}, True, True),
    ],
)
def test_null_means_out_of_band_where_names_are_given(
    told: Told, fields: Any, *, named_before: bool, inside: bool
) -> None:
    """Rule 3: null counts where this server names others, or beside metadata; absent never."""
    if named_before:
        told.created("other", **NAMED).done("other")
    told.created("r", **fields)
    assert told.known.has_response("r") == inside
    assert told.active == ("r" if inside else None)


# Rules 4 and 5: what is active


def test_one_response_is_active(told: Told) -> None:
    """Rule 4: a newer one ends an older one whose end never came; out of band does not."""
    told.created("a", **NAMED)
    told.created("x", **NULL)
    assert told.active == "a"
    told.created("b", **NAMED)
    assert told.active == "b"
    assert (told.known.responses["a"].over, told.known.responses["a"].done) == (True, False)
    told.done("a", status="cancelled")
    assert told.active == "b"
    assert told.known.responses["a"].status == "cancelled"
    told.done("b", status="completed")
    assert told.active is None


def test_what_is_done_does_not_begin_again(told: Told) -> None:
    """Rule 4: a late or repeated `response.created`, or a refusal naming it, changes nothing."""
    told.created("a", **NAMED).done("a").created("a", **NAMED)
    told.known.presume_active("a")
    assert told.active is None


def test_an_end_without_a_beginning(told: Told) -> None:
    """Rule 5: a response that ended at once was never active, but is of the conversation."""
    told.done("a", status="failed", **NAMED)
    state = told.known.responses["a"]
    assert (state.in_conversation, state.done, state.status) == (True, True, "failed")
    assert told.active is None


def test_what_is_only_presumed(told: Told) -> None:
    """A refusal may name an active response, and one without a sign of life may be given up."""
    told.known.presume_active("unseen")
    assert told.active == "unseen"
    told.known.presume_over()
    assert told.active is None
    assert not told.known.responses["unseen"].done
    told.known.presume_active("unseen")
    assert told.active == "unseen"
    told.done("unseen")
    assert told.active is None


def test_an_item_of_a_response_that_nobody_saw_begin(told: Told) -> None:
    """Attached in the middle, the first output item tells of the active response."""
    told.output("a", "i")
    assert told.active == "a"
    assert told.known.responses["a"].item_ids == ["i"]


# Rule 6: items


def test_items_are_confirmed_and_deleted(told: Told) -> None:
    """Rule 6: in the conversation from its event on, until it is deleted; anew if added anew."""
    told.created("r", **NAMED).output("r", "i")
    assert not told.known.has_item("i")
    told.item("i")
    assert told.known.has_item("i")
    told.known.see(ev.ConversationItemTruncated(item_id="i", content_index=0, audio_end_ms=1))
    assert told.known.items["i"].truncated
    told.known.see(ev.ConversationItemDeleted(item_id="i"))
    assert not told.known.has_item("i")
    told.item("i", ev.ConversationItemDone)
    assert not told.known.has_item("i")
    told.item("i")
    assert told.known.has_item("i")
    assert not told.known.items["i"].truncated


def test_a_commit_confirms_an_item(told: Told) -> None:
    """Rule 6: the user's item is in the conversation with the commit; its kind is told later."""
    told.known.see(ev.InputAudioBufferCommitted(item_id="u"))
    assert told.known.has_item("u")
    assert told.known.items["u"].type is None
    told.known.see(ev.ConversationItemAdded(item=ev.MessageItem(id="u", role="user", content=[])))
    assert (told.known.items["u"].type, told.known.items["u"].role) == ("message", "user")


def test_items_out_of_band_are_never_confirmed(told: Told) -> None:
    """Rule 6: they are known, with their response, and are not in the conversation."""
    told.created("other", **NAMED).done("other").created("x", **NULL).output("x", "i").done("x")
    assert told.known.items["i"].response_id == "x"
    assert not told.known.has_item("i")
    assert not told.known.has_response("x")


def test_calls_are_known_by_their_ids(told: Told) -> None:
    """An item tells its kind and its call."""
    call = ev.FunctionCallItem(id="c", call_id="call_1", name="look", arguments="")
    told.known.see(ev.ResponseOutputItemAdded(response_id="r", output_index=0, item=call))
    state = told.known.items["c"]
    assert (state.type, state.role, state.call_id) == ("function_call", None, "call_1")


# Rule 7: who speaks


ENDS: list[ev.ServerEvent] = [
    ev.InputAudioBufferSpeechStopped(audio_end_ms=1, item_id="u"),
    ev.InputAudioBufferCommitted(item_id="u"),
    ev.InputAudioBufferCleared(),
    ev.SessionUpdated(
        session=ev.RealtimeSession(
            audio=ev.AudioConfig(input=ev.AudioInputConfig(turn_detection=None))
        )
    ),
]


@pytest.mark.parametrize("end", ENDS, ids=lambda event: event.type)
def test_somebody_speaks_until(told: Told, end: ev.ServerEvent) -> None:
    """Rule 7: speech ends with any of these."""
    assert not told.known.user_speaking
    told.known.see(ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="u"))
    assert told.known.user_speaking
    told.known.see(ev.SessionUpdated(session=ev.RealtimeSession()))
    assert told.known.user_speaking
    told.known.see(end)
    assert not told.known.user_speaking


def test_audio_is_in_the_format_of_its_response(told: Told) -> None:
    """A response's own format, else the session's when it began; unknown ones as the session's."""

    def output(audio_format: ev.AudioFormat) -> None:
        audio = ev.AudioConfig(output=ev.AudioOutputConfig(format=audio_format))
        told.known.see(ev.SessionUpdated(session=ev.RealtimeSession(audio=audio)))

    output(ev.AudioPCMU())
    told.created("a", **NAMED)
    own = ev.ResponseAudio(output=ev.ResponseAudioOutput(format=ev.AudioPCMA()))
    told.created("b", **NAMED, audio=own)
    output(ev.AudioPCM())
    formats = [told.known.audio_format_of(each) for each in ("a", "b", "unknown", None)]
    assert formats == [ev.AudioPCMU(), ev.AudioPCMA(), ev.AudioPCM(), ev.AudioPCM()]


# Bounds


def test_what_is_active_stays_known(told: Told) -> None:
    """Behind any number of newer ones out of band, the active response is known, and ends."""
    told.created("a", **NAMED)
    for number in range(500):
        told.created(f"x{number}", **NULL).done(f"x{number}", **NULL)
    assert len(told.known.responses) == 128
    assert "a" in told.known.responses
    told.done("a", **NAMED)
    assert told.active is None


def _round(told: Told, number: int) -> None:
    told.created(f"r{number}", **NAMED).output(f"r{number}", f"i{number}").item(f"i{number}")
    told.done(f"r{number}", **NAMED)


def test_twenty_thousand_items(told: Told) -> None:
    """Memory is bounded, and the thousandth event costs as much as the first."""

    def cost_s(numbers: range) -> float:
        started = process_time()
        for number in numbers:
            _round(told, number)
        return process_time() - started

    costs = [cost_s(range(at, at + 1000)) for at in range(0, 20_000, 1000)]
    assert len(told.known.responses) == 128
    assert len(told.known.items) == 4096
    assert min(costs[10:]) < 5 * min(costs[:10])
    for number in range(20_000):  # and all of them in one response
        told.output("r19999", f"i{number}")
    assert len(told.known.responses["r19999"].item_ids) <= 4096


# In a session


@pytest.mark.anyio
async def test_a_session_keeps_it_up_to_date() -> None:
    """Whoever is given an event, interceptors included, finds the state after it."""
    seen = list[Any]()
    async with joined() as (session, peer):

        def hold(event: ev.Event, session: Any) -> None:
            seen.append(session.conversation.active_response_id)

        session.intercept(ev.ResponseCreated, hold)
        session.on(ev.ResponseDone)(lambda event: seen.append(session.active_response_id))
        peer.say(ev.ResponseCreated(response=ev.Response(id="r", **NAMED)))
        assert session.active_response_id == "r"
        peer.say(ev.ResponseDone(response=ev.Response(id="r", **NAMED)))
    assert seen == ["r", None]

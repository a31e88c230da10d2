"""Requests and their answers, without a session: the rules of matching."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from realtime_bus import CloseInfo, RequestRejected, SessionClosed
from realtime_bus import events as ev
from realtime_bus.session._requests import ITEM_ID_PREFIX, Pending, Requests

from ..bus._peer import refusal  # noqa: TID252  # tests are no package with a name of its own


class Book:
    """Requests on their way, by a name for each."""

    def __init__(self) -> None:
        self.requests = Requests()
        self.pending: dict[str, Pending] = {}
        self.settled: list[str] = []

    def ask(self, name: str, event: ev.ClientEvent) -> None:
        """Put a request on its way, under a name that is its ``event_id``."""
        event = msgspec.structs.replace(event, event_id=name)
        self.pending[name] = Pending(event, lambda: self.settled.append(name))
        self.requests.expect(self.pending[name])
        self.requests.sent(event, event)

    def hear(self, *events: ev.Event) -> list[str]:
        """Return which requests these events settle."""
        self.settled.clear()
        for event in events:
            self.requests.observe(event)
        return list(self.settled)


@pytest.fixture
def book() -> Book:
    """Start with nothing on its way."""
    return Book()


def message(item_id: str | None = None, role: Any = "user", **more: Any) -> ev.MessageItem:
    """Make a message of text."""
    return ev.MessageItem(id=item_id, role=role, content=[ev.InputText(text="x")], **more)


def added(item: Any) -> ev.ConversationItemAdded:
    """Make the event that confirms an item."""
    return ev.ConversationItemAdded(item=item)


def test_an_error_that_names_the_request_rejects_it(book: Book) -> None:
    """Rule 1: the ``event_id`` decides, whatever else is on its way."""
    book.ask("a", ev.InputAudioBufferClear())
    book.ask("b", ev.InputAudioBufferClear())
    assert book.hear(refusal("b", code="anything")) == ["b"]
    error = book.pending["b"].error
    assert isinstance(error, RequestRejected)
    assert error.event_id == "b"
    assert len(book.requests) == 1


def test_an_error_about_a_strangers_event_is_nobodys(book: Book) -> None:
    """Rule 1: an ``event_id`` that is not ours rejects nothing, even of the same kind."""
    book.ask("a", ev.InputAudioBufferCommit())
    assert book.hear(refusal("other", code="input_audio_buffer_commit_empty")) == []


def test_what_names_an_item_must_be_the_right_one(book: Book) -> None:
    """Rule 2: confirmations that name an item settle the request for that item."""
    book.ask("a", ev.ConversationItemDelete(item_id="1"))
    book.ask("b", ev.ConversationItemDelete(item_id="2"))
    book.ask("c", ev.ConversationItemTruncate(item_id="2", content_index=0, audio_end_ms=1))
    book.ask("d", ev.ConversationItemRetrieve(item_id="2"))
    assert book.hear(ev.ConversationItemDeleted(item_id="3")) == []
    assert book.hear(ev.ConversationItemDeleted(item_id="2")) == ["b"]
    assert book.hear(ev.ConversationItemRetrieved(item=message("2"))) == ["d"]
    truncated = ev.ConversationItemTruncated(item_id="2", content_index=0, audio_end_ms=1)
    assert book.hear(truncated, truncated) == ["c"]
    assert book.hear(ev.ConversationItemDeleted(item_id="1")) == ["a"]


def test_what_names_nothing_answers_the_oldest(book: Book) -> None:
    """Rule 2: commit, clear and update are answered in the order of asking."""
    session = ev.RealtimeSession(id="s")
    book.ask("a", ev.SessionUpdate(session=ev.RealtimeSessionRequest()))
    book.ask("b", ev.InputAudioBufferCommit())
    book.ask("c", ev.SessionUpdate(session=ev.RealtimeSessionRequest()))
    book.ask("d", ev.OutputAudioBufferClear())
    assert book.hear(ev.InputAudioBufferCommitted(item_id="i")) == ["b"]
    assert book.hear(ev.SessionUpdated(session=session)) == ["a"]
    assert book.hear(ev.SessionUpdated(session=session)) == ["c"]
    assert book.hear(ev.OutputAudioBufferCleared(response_id="r")) == ["d"]
    assert book.hear(ev.SessionUpdated(session=session)) == []


def test_a_cancel_is_confirmed_by_its_response(book: Book) -> None:
    """Rule 2: ``response.done`` confirms a cancel of that response, or one without an id."""
    book.ask("a", ev.ResponseCancel(response_id="1"))
    book.ask("b", ev.ResponseCancel())
    assert book.hear(ev.ResponseDone(response=ev.Response(id="2"))) == ["b"]
    assert book.hear(ev.ResponseDone(response=ev.Response(id="1"))) == ["a"]


NAMELESS: list[tuple[ev.ClientEvent, dict[str, Any]]] = [
    (ev.InputAudioBufferCommit(), {"code": "input_audio_buffer_commit_empty"}),
    (ev.ConversationItemDelete(item_id="1"), {"code": "item_delete_invalid_item_id"}),
    (
        ev.ConversationItemTruncate(item_id="1", content_index=0, audio_end_ms=1),
        {"code": None, "param": "audio_end_ms"},
    ),
    (
        ev.SessionUpdate(session=ev.RealtimeSessionRequest()),
        {"code": "invalid_value", "param": "session.audio.output.voice"},
    ),
    (ev.ConversationItemCreate(item=message()), {"code": None, "param": "previous_item_id"}),
    (ev.ConversationItemCreate(item=message()), {"param": "item.content[0].text"}),
]


@pytest.mark.parametrize(("event", "details"), NAMELESS)
def test_an_error_without_an_event_id(
    book: Book, event: ev.ClientEvent, details: dict[str, Any]
) -> None:
    """Rule 3: without an ``event_id``, code and param tell the kind; the oldest is meant."""
    book.ask("other", ev.InputAudioBufferClear())
    book.ask("first", event)
    book.ask("second", type(event).from_json(event.to_json()))
    assert book.hear(refusal(None, **details)) == ["first"]


def test_an_error_that_says_nothing_is_nobodys(book: Book) -> None:
    """Rule 3: without any hint no request is made to fail."""
    book.ask("a", ev.InputAudioBufferClear())
    assert book.hear(refusal(None, code=None)) == []


def test_a_created_item_is_known_by_its_id(book: Book) -> None:
    """Rule 4: an item that comes back with the id it was given answers its create."""
    book.ask("a", ev.ConversationItemCreate(item=message(f"{ITEM_ID_PREFIX}1")))
    book.ask("b", ev.ConversationItemCreate(item=message(f"{ITEM_ID_PREFIX}2")))
    assert book.hear(added(message(f"{ITEM_ID_PREFIX}2"))) == ["b"]
    assert book.hear(added(message(f"{ITEM_ID_PREFIX}9"))) == []


def test_a_server_that_gives_ids_of_its_own(book: Book) -> None:
    """Rule 4: where ids are replaced, the oldest create of the same type and role is meant."""
    call = ev.FunctionCallOutputItem(id=f"{ITEM_ID_PREFIX}1", call_id="c", output="")
    book.ask("a", ev.ConversationItemCreate(item=call))
    book.ask("b", ev.ConversationItemCreate(item=message(f"{ITEM_ID_PREFIX}2", "system")))
    book.ask("c", ev.ConversationItemCreate(item=message(f"{ITEM_ID_PREFIX}3")))
    beta = ev.ConversationItemCreated(item=message("item_1"))
    assert book.hear(beta, added(message("item_1"))) == ["c"]
    assert book.hear(added(message("item_2", "system"))) == ["b"]


def test_an_item_that_is_said_again_answers_nobody(book: Book) -> None:
    """Rule 4: some say it twice, or as added and created; one that names no item is new."""
    for name in ("a", "b", "c", "d"):
        book.ask(name, ev.ConversationItemCreate(item=message(ITEM_ID_PREFIX + name)))
    assert book.hear(added(message("srv_1")), added(message("srv_1"))) == ["a"]
    assert book.hear(ev.ConversationItemCreated(item=message("srv_1"))) == []
    assert book.hear(added(message("srv_2"))) == ["b"]
    assert book.hear(added(message()), added(message())) == ["c", "d"]
    book.ask("e", ev.ConversationItemCreate(item=message("srv_1")))  # it was deleted meanwhile
    assert book.hear(added(message("srv_1"))) == ["e"]


def test_the_servers_own_items_answer_nobody(book: Book) -> None:
    """Rule 5: speech of the user and what a response makes are not taken for a created item."""
    book.ask("a", ev.ConversationItemCreate(item=message(f"{ITEM_ID_PREFIX}1")))
    book.ask("b", ev.ConversationItemCreate(item=message(f"{ITEM_ID_PREFIX}2", "assistant")))
    speech = ev.MessageItem(id="item_u", role="user", content=[ev.InputAudio()])
    reply = message("item_a", "assistant", status="in_progress")
    assert book.hear(added(speech), added(reply)) == []


def test_the_end_fails_all(book: Book) -> None:
    """Rule 6: when the session ends, every request fails with the close and its reason."""
    book.ask("a", ev.InputAudioBufferClear())
    book.ask("b", ev.InputAudioBufferCommit())
    close = CloseInfo(code=1001, reason="60 minutes")
    book.requests.fail_all(close)
    assert book.settled == ["a", "b"]
    assert len(book.requests) == 0
    error = book.pending["b"].error
    assert isinstance(error, SessionClosed)
    assert error.close is close
    assert "closed with 1001 (60 minutes) before input_audio_buffer.commit was ans" in str(error)


def test_who_has_gone_is_not_answered(book: Book) -> None:
    """A request that was given up is not settled any more, and twice gone is no error."""
    book.ask("a", ev.InputAudioBufferClear())
    book.requests.abandon(book.pending["a"])
    book.requests.abandon(book.pending["a"])
    assert book.hear(ev.InputAudioBufferCleared(), refusal("a")) == []


def test_what_nobody_awaits_has_its_answer_too(book: Book) -> None:
    """A plugin's own update, sent before or after ours, is answered in the order of sending."""
    updated = ev.SessionUpdated(session=ev.RealtimeSession())
    own = ev.SessionUpdate(session=ev.RealtimeSessionRequest())
    book.requests.sent(own, own)
    book.ask("a", own)
    book.requests.sent(own, own)
    book.ask("b", own)
    assert [book.hear(updated) for _ in range(5)] == [[], ["a"], [], ["b"], []]


def test_a_refusal_of_what_nobody_awaits_takes_its_place_away(book: Book) -> None:
    """An error that names a plugin's own command, or its kind, rejects no request of ours."""
    own = ev.SessionUpdate(session=ev.RealtimeSessionRequest(), event_id="own")
    book.requests.sent(own, own)
    book.ask("a", own)
    assert book.hear(refusal("own")) == []
    assert book.hear(ev.SessionUpdated(session=ev.RealtimeSession())) == ["a"]


def test_who_has_gone_keeps_its_place(book: Book) -> None:
    """The late answer of a request that was given up is not the next one's."""
    book.ask("a", ev.InputAudioBufferClear())
    book.requests.abandon(book.pending["a"])
    book.ask("b", ev.InputAudioBufferClear())
    assert len(book.requests) == 1
    assert book.hear(ev.InputAudioBufferCleared()) == []
    assert book.hear(ev.InputAudioBufferCleared()) == ["b"]


def test_a_commit_of_turn_detection_is_not_ours(book: Book) -> None:
    """The server commits what it heard end; ours is the other one, whichever comes first."""
    book.ask("a", ev.InputAudioBufferCommit())
    stopped = ev.InputAudioBufferSpeechStopped(audio_end_ms=1, item_id="of_vad")
    assert book.hear(stopped, ev.InputAudioBufferCommitted(item_id="of_vad")) == []
    assert book.hear(ev.InputAudioBufferCommitted(item_id="ours")) == ["a"]
    assert book.pending["a"].answer == ev.InputAudioBufferCommitted(item_id="ours")


def test_what_an_interceptor_has_changed_is_still_awaited(book: Book) -> None:
    """A command made in place of ours is known by what we gave, whatever its own id is."""
    given = ev.SessionUpdate(session=ev.RealtimeSessionRequest(), event_id="given")
    for left_id in (None, "another"):
        pending = Pending(given, lambda: book.settled.append("it"))
        book.requests.expect(pending)
        left = msgspec.structs.replace(given, event_id=left_id)
        book.requests.sent(given, left)
        if left_id is None:
            assert book.hear(ev.SessionUpdated(session=ev.RealtimeSession())) == ["it"]
        else:
            assert book.hear(refusal("given")) == []
            assert book.hear(refusal("another")) == ["it"]


def test_what_the_transport_refused_has_no_answer(book: Book) -> None:
    """A command that was not sent after all takes no place."""
    own = ev.InputAudioBufferClear()
    book.requests.sent(own, own)
    book.requests.unsent(own)
    book.ask("a", ev.InputAudioBufferClear())
    assert book.hear(ev.InputAudioBufferCleared()) == ["a"]


def test_commands_that_nobody_awaits_are_bounded(book: Book) -> None:
    """Of commands that are never answered the last 256 are remembered, and no request is lost."""
    book.ask("a", ev.ConversationItemDelete(item_id="a"))
    for number in range(1000):
        own = ev.ConversationItemDelete(item_id=f"i{number}")
        book.requests.sent(own, own)
    assert len(book.requests._sent) == 257  # the bound is the point
    assert book.hear(ev.ConversationItemDeleted(item_id="i1")) == []
    assert book.hear(ev.ConversationItemDeleted(item_id="a")) == ["a"]

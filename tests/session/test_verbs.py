"""The requests of a session, from the call to the answer."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from realtime_bus import (
    EventTooLarge,
    InvalidEvent,
    RequestRejected,
    RequestTimeout,
    UsageError,
)
from realtime_bus import events as ev
from realtime_bus.codec import MAX_APPEND_BYTES

from ..bus._peer import joined, quiet, refusal  # noqa: TID252  # tests are no package with a name of its own

pytestmark = pytest.mark.anyio

RealtimeSession = ev.RealtimeSession(id="sess_1")


def confirm(event: Any) -> list[ev.ServerEvent]:
    """Answer as a server does that agrees with everything."""
    answers: dict[str, Any] = {
        "session.update": lambda: ev.SessionUpdated(session=RealtimeSession),
        "input_audio_buffer.commit": lambda: ev.InputAudioBufferCommitted(item_id="item_u"),
        "input_audio_buffer.clear": ev.InputAudioBufferCleared,
        "conversation.item.create": lambda: ev.ConversationItemAdded(item=event.item),
        "conversation.item.delete": lambda: ev.ConversationItemDeleted(item_id=event.item_id),
        "conversation.item.retrieve": lambda: ev.ConversationItemRetrieved(
            item=ev.MessageItem(id=event.item_id, role="user", content=[])
        ),
        "conversation.item.truncate": lambda: ev.ConversationItemTruncated(
            item_id=event.item_id, content_index=0, audio_end_ms=event.audio_end_ms
        ),
    }
    return [answers[event.type]()] if event.type in answers else []


@pytest.mark.breaks_rules(
    "commit-100-ms", "delete-known-item", "retrieve-known-item", "truncate-known-item"
)
async def test_every_verb_returns_what_confirms_it() -> None:
    """Each request gives the server's confirming event."""
    async with joined(answer=confirm) as (session, peer):
        assert (await session.update(voice="marin")).session == RealtimeSession
        assert (await session.commit_input()).item_id == "item_u"
        assert (await session.clear_input()).type == "input_audio_buffer.cleared"
        assert (await session.delete_item("a")).item_id == "a"
        assert (await session.retrieve_item("b")).item.id == "b"
        assert (await session.truncate_item("c", audio_end_ms=7)).audio_end_ms == 7
        request = ev.RealtimeSessionRequest(instructions="x")
        assert (await session.update(request)).session == RealtimeSession
    ids = [event.event_id for event in peer.sent]
    assert len(set(ids)) == 7
    assert all(event_id.startswith("rb_") for event_id in ids)


@pytest.mark.breaks_rules("output-for-known-call")
async def test_items_are_given_an_id() -> None:
    """An item without an id gets one that no other session uses; one with an id keeps it."""
    async with joined(answer=confirm) as (session, peer), joined(answer=confirm) as (other, _):
        mine = (await session.send_text("hello")).item
        theirs = (await other.send_text("hello")).item
        named = ev.FunctionCallOutputItem(id="mine", call_id="call_1", output="")
        await session.create_item(named, previous_item_id="root")
    assert mine.id != theirs.id
    assert len(str(mine.id)) <= 32
    assert peer.sent[0].item.content == [ev.InputText(text="hello")]
    assert (peer.sent[1].item, peer.sent[1].previous_item_id) == (named, "root")


async def test_a_refusal_is_an_exception() -> None:
    """The server's error is raised where the request was made, with all that it says."""

    def refuse(event: Any) -> list[ev.ServerEvent]:
        return [refusal(event.event_id, param="session.audio.output.speed")]

    async with joined(answer=refuse) as (session, peer):
        with pytest.raises(RequestRejected) as caught:
            await session.update(speed=1.2)
    error = caught.value
    assert (error.code, error.param) == ("invalid_value", "session.audio.output.speed")
    assert (error.event_type, error.event_id) == ("session.update", peer.sent[0].event_id)
    assert "the server refused session.update [invalid_value]: no (at session.audio" in str(error)


async def test_a_server_that_does_not_answer() -> None:
    """Each request has a timeout, which names the request."""
    async with joined() as (session, _):
        with pytest.raises(RequestTimeout) as caught:
            await session.request(ev.InputAudioBufferClear(), timeout_s=0.01)
    assert "did not answer input_audio_buffer.clear within 0.01 s" in str(caught.value)
    assert caught.value.timeout_s == 0.01


async def test_a_cancelled_request_leaves_no_trace() -> None:
    """A late answer to a request whose caller has gone does not answer the next one."""
    async with joined() as (session, peer):
        with anyio.move_on_after(0):
            await session.clear_input()
        results = list[ev.Event]()

        async def again() -> None:
            results.append(await session.clear_input())

        session.start_soon(again)
        await quiet()
        peer.say(*(ev.InputAudioBufferCleared(event_id=name) for name in ("late", "mine")))
        await quiet()
    assert [event.to_dict()["event_id"] for event in results] == ["mine"]


async def test_an_invalid_request_is_not_sent() -> None:
    """What the server would refuse raises at once and leaves nothing waiting."""
    async with joined() as (session, peer):
        with pytest.raises(InvalidEvent) as caught:
            await session.update(speed=9)
        assert caught.value.param == "session.audio.output.speed"
        assert peer.sent == []


async def test_an_event_id_of_ones_own_is_kept() -> None:
    """A request that has an ``event_id`` keeps it."""
    async with joined(answer=confirm) as (session, peer):
        await session.request(ev.InputAudioBufferClear(event_id="mine"))
    assert peer.sent[0].event_id == "mine"


async def test_long_audio_is_split() -> None:
    """`append_audio` sends long audio in pieces of whole samples, and nothing for nothing."""
    audio = bytes(range(250)) * 3000
    async with joined() as (session, peer):
        await session.append_audio(audio)
        await session.append_audio(b"")
    assert [len(event.audio) for event in peer.sent] == [240_000, 240_000, 240_000, 30_000]
    assert b"".join(event.audio for event in peer.sent) == audio


async def test_one_append_has_a_limit() -> None:
    """A single append above 15 MiB is refused before it is sent, with what to do instead."""
    async with joined() as (session, peer):
        with pytest.raises(EventTooLarge, match=r"use session\.append_audio, which splits"):
            session.send_nowait(ev.InputAudioBufferAppend(audio=bytes(MAX_APPEND_BYTES + 2)))
        assert peer.sent == []


async def test_an_object_and_fields_do_not_go_together() -> None:
    """Settings are given as a whole or one by one; both at once would lose some."""
    async with joined() as (session, _):
        with pytest.raises(UsageError, match="update\\(\\) takes a session object or"):
            await session.update(ev.RealtimeSessionRequest(), voice="marin")
        with pytest.raises(UsageError, match="respond\\(\\) takes a params object or"):
            session.respond(ev.ResponseCreateParams(), instructions="x")


@pytest.mark.breaks_rules("delete-known-item")
async def test_many_requests_at_once() -> None:
    """Requests in flight together each get their own answer, in whatever order they come."""
    answers = dict[str, ev.Event]()
    async with joined() as (session, peer):

        async def delete(item_id: str) -> None:
            answers[item_id] = await session.delete_item(item_id)

        async with anyio.create_task_group() as tasks:
            for item_id in ("a", "b", "c"):
                tasks.start_soon(delete, item_id)
            await quiet()
            peer.say(*(ev.ConversationItemDeleted(item_id=item_id) for item_id in "cab"))
    assert {item_id: event.to_dict()["item_id"] for item_id, event in answers.items()} == {
        "a": "a",
        "b": "b",
        "c": "c",
    }


async def test_cancel_without_a_response() -> None:
    """With nothing active, `cancel` sends nothing and is no error."""
    async with joined() as (session, peer):
        assert session.active_response_id is None
        await session.cancel_response()
        assert peer.sent == []


@pytest.mark.parametrize("with_id", [True, False])
async def test_a_cancel_that_comes_too_late(*, with_id: bool) -> None:
    """A response that has just ended by itself makes `cancel` no error."""

    def too_late(event: Any) -> list[ev.ServerEvent]:
        event_id = event.event_id if with_id else None
        return [refusal(event_id, code="response_cancel_not_active")]

    async with joined(answer=too_late) as (session, peer):
        peer.say(ev.ResponseCreated(response=ev.Response(id="resp_1", conversation_id="conv")))
        assert session.active_response_id == "resp_1"
        await session.cancel_response()
        assert peer.sent[0].response_id == "resp_1"


@pytest.mark.breaks_rules("cancel-active-response")
async def test_a_cancel_that_is_refused_for_another_reason() -> None:
    """Any other error of a cancel is raised."""
    async with joined(answer=lambda event: [refusal(event.event_id)]) as (session, _):
        with pytest.raises(RequestRejected):
            await session.cancel_response("resp_9")


async def test_a_request_without_a_limit_may_still_fail_at_once() -> None:
    """What sending raises comes out as it is, a `TimeoutError` of somebody's own too."""

    def late(event: Any, session: Any) -> Any:
        raise TimeoutError("mine")

    async with joined() as (session, _):
        session.intercept_outgoing("*", late)
        for timeout_s in (None, 5.0):
            with pytest.raises(TimeoutError, match="mine"):
                await session.request(ev.InputAudioBufferClear(), timeout_s=timeout_s)


async def test_a_request_that_an_interceptor_makes_anew_is_answered() -> None:
    """An outgoing interceptor may build another event, without the id of the first."""
    async with joined(answer=confirm) as (session, peer):
        session.intercept_outgoing(
            ev.SessionUpdate, lambda event, session: ev.SessionUpdate(session=event.session)
        )
        assert (await session.update(instructions="x")).session == RealtimeSession
        assert [event.event_id for event in peer.sent] == [None]

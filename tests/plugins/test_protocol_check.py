"""The protocol checker in a session: reported, refused or raised, before anything is sent."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from realtime_bus import InvalidEvent, UsageError
from realtime_bus import events as ev
from realtime_bus.server import RealtimeServer, Text
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.protocol_check import ProtocolCheck, ProtocolViolation, RuleBroken
from realtime_bus_plugins.sinks import NullSink

from .._checked import checked_bus  # noqa: TID252  # tests are no package with a name of its own
from ._wire import session_on

pytestmark = pytest.mark.anyio

DELETE = ev.ConversationItemDelete(item_id="nothing")


async def test_a_violation_is_reported_before_it_is_sent() -> None:
    """The event tells the rule; the client event goes out all the same."""
    async with session_on(ProtocolCheck()) as (session, wire):
        seen: list[tuple[ProtocolViolation, int]] = []
        session.on(ProtocolViolation)(lambda event: seen.append((event, len(wire.sent))))
        session.send_nowait(DELETE)
        assert wire.sent == [DELETE]
    [(violation, sent_before)] = seen
    assert sent_before == 0
    assert (violation.rule, violation.event_type) == ("delete-known-item", DELETE.type)
    assert violation.message == (
        "conversation.item.delete: there is no item 'nothing'; rule delete-known-item: "
        "Only an item of the conversation can be deleted, and only once."
    )


async def test_a_violation_may_be_refused() -> None:
    """The event is reported and dropped, and counts as not sent."""
    call = ev.FunctionCallItem(id="f", name="time", arguments="{}", call_id="c")
    answer = ev.FunctionCallOutputItem(call_id="c", output="")
    async with session_on(ProtocolCheck("refuse")) as (session, wire):
        seen: list[str] = []
        session.on(ProtocolViolation)(lambda event: seen.append(event.rule))
        early = ev.ConversationItemCreate(item=answer)
        session.send_nowait(early)
        wire.feed(ev.ConversationItemAdded(item=call))
        session.send_nowait(early)
        assert wire.sent == [early]
    assert seen == ["output-for-known-call"]


async def test_a_violation_may_be_raised_to_the_sender() -> None:
    """It is an InvalidEvent that names its rule; nothing is sent."""
    async with session_on(ProtocolCheck("raise")) as (session, wire):
        with pytest.raises(RuleBroken, match=r"there is no item 'nothing'") as caught:
            await session.delete_item("nothing")
        assert isinstance(caught.value, InvalidEvent)
        assert caught.value.rule == "delete-known-item"
        assert caught.value.event_type == "conversation.item.delete"
        assert wire.sent == []


async def test_every_broken_rule_is_reported() -> None:
    """One event may break several."""
    async with session_on(ProtocolCheck()) as (session, _):
        seen: list[str] = []
        session.on(ProtocolViolation)(lambda event: seen.append(event.rule))
        session.send_nowait(
            ev.ConversationItemTruncate(item_id="x", content_index=0, audio_end_ms=0)
        )
    assert seen == ["truncate-known-item", "truncate-more-than-zero"]


async def test_single_rules_can_be_left_out() -> None:
    """A server with rules of its own is no reason to do without the others."""
    check = ProtocolCheck("raise", ignore=["delete-known-item"])
    async with session_on(check) as (session, wire):
        session.send_nowait(DELETE)
        assert wire.sent == [DELETE]
        with pytest.raises(RuleBroken):
            session.send_nowait(ev.ResponseCancel())


async def test_what_is_invalid_anyway_counts_as_not_sent() -> None:
    """After a request that could not be encoded, the next one is no second one."""
    params = ev.ResponseCreateParams(max_output_tokens=0)
    async with session_on(ProtocolCheck("raise")) as (session, wire):
        with pytest.raises(InvalidEvent, match="max_output_tokens"):
            session.send_nowait(ev.ResponseCreate(response=params))
        session.send_nowait(ev.ResponseCreate())
        assert [type(event) for event in wire.sent] == [ev.ResponseCreate]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_violation": "explode"}, "'report', 'raise' or 'refuse'"),
        ({"ignore": ["no-such-rule"]}, "no-such-rule"),
    ],
)
async def test_wrong_options_are_refused(arguments: Any, message: str) -> None:
    """A reaction or rule that does not exist is an error where it is written."""
    with pytest.raises(UsageError, match=message):
        ProtocolCheck(**arguments)


async def test_the_rules_can_be_listed() -> None:
    """An application can show what is checked."""
    assert {"one-active-response", "truncate-within-audio"} <= {r.id for r in ProtocolCheck.RULES}


async def test_an_interruption_keeps_the_rules() -> None:
    """What the barge-in plugin sends is right by the checker, too."""
    sink = NullSink()
    async with session_on(ProtocolCheck("raise"), sink, Interruption(sink)) as (_, wire):
        wire.respond()
        wire.speak(bytes(48_000))
        with anyio.fail_after(60):
            while not (sink.positions() and sink.positions()[0].played_ms):
                await anyio.lowlevel.checkpoint()
        wire.interrupt()
        [sent] = wire.sent
        assert isinstance(sent, ev.ConversationItemTruncate)


class Answers:
    """A responder that says a word."""

    async def respond(self, request: Any) -> Any:
        """Say it."""
        yield Text("Yes.")


async def test_a_session_with_the_local_server_keeps_the_rules() -> None:
    """Requests of all kinds, as the library sends them, break no rule and get no error."""
    errors: list[ev.Error] = []
    bus = checked_bus()
    bus.on(ev.Error)(errors.append)
    server = RealtimeServer(Answers())
    async with server.connect_memory() as transport, bus.session(transport) as session:
        await session.update(instructions="Be brief.", turn_detection=None)
        item = (await session.send_text("Hello?")).item
        response = await session.respond(output_modalities=["text"])
        assert response.status == "completed"
        await session.respond(conversation="none", output_modalities=["text"])
        await session.append_audio(bytes(48_000))
        committed = await session.commit_input()
        await session.retrieve_item(committed.item_id)
        await session.clear_input()
        await session.delete_item(str(item.id))
        await session.cancel_response()
        with pytest.raises(RuleBroken, match="commit-100-ms"):
            await session.commit_input()
    assert errors == []

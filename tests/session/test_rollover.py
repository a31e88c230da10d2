"""The next connection takes over before the server's limit, on a virtual clock."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from realtime_bus import HostUnreachable, Reconnect
from realtime_bus import events as ev
from realtime_bus.testing import virtual_time

from ..bus._peer import quiet  # noqa: TID252  # tests are no package with a name of its own
from ._doubles import Double, calling

pytestmark = pytest.mark.anyio

HOUR = Reconnect(session_limit_s=3600.0)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Let an hour pass in no time."""
    return virtual_time(request.param)


CALL = ev.FunctionCallItem(id="c", call_id="call", name="f", arguments="{}", status="completed")
RESPONSE = ev.Response(id="r", conversation_id="conv_1")


@pytest.mark.breaks_rules("retrieve-known-item")
@pytest.mark.parametrize("what", ["speech", "playing", "response", "call", "request"])
async def test_a_quiet_moment_is_waited_for(what: str) -> None:
    """Nobody speaks, nothing plays, nothing is awaited, no response and no tool call is open."""
    one, two = Double(1), Double(2)
    playing = what == "playing"
    begin: dict[str, list[ev.ServerEvent]] = {
        "speech": [ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="u")],
        "response": [ev.ResponseCreated(response=RESPONSE)],
        "call": one.add(CALL),
    }
    end: dict[str, list[ev.ServerEvent]] = {
        "speech": [ev.InputAudioBufferCleared()],
        "response": [ev.ResponseDone(response=RESPONSE)],
        "call": one.add(ev.FunctionCallOutputItem(id="o", call_id="call", output="")),
        "request": [ev.ConversationItemRetrieved(item=CALL)],
    }
    async with calling(one, two, reconnect=HOUR) as (session, told):
        session.busy_while(lambda: playing)
        one.say(*begin.get(what, []))
        async with anyio.create_task_group() as tasks:
            if what == "request":
                ask = ev.ConversationItemRetrieve(item_id="c")
                tasks.start_soon(lambda: session.request(ask, timeout_s=None))
            await anyio.sleep(3450)
            assert told == []
            playing = False
            one.say(*end.get(what, []))
            event = await session.wait_for(ev.Reconnected, timeout_s=5)
        assert (event.cause, event.gap_s, event.resent) == ("rollover", 0.0, [])
        await quiet()
        assert one.closed == (1000, "")


async def test_what_nobody_awaits_and_no_server_answered_goes_to_the_next() -> None:
    """An item that was sent without waiting is not lost because it was quiet otherwise."""
    one, two = Double(1), Double(2)
    async with calling(one, two, reconnect=HOUR) as (session, _):
        one.silent = True
        item = ev.MessageItem(role="user", content=[ev.InputText(text="hello")])
        session.send_nowait(ev.ConversationItemCreate(event_id="e", item=item))
        event = await session.wait_for(ev.Reconnected, timeout_s=3600)
        assert (event.cause, event.lost, event.resent) == ("rollover", [], ["e"])
        await quiet()
        assert two.texts() == ["hello"]


@pytest.mark.parametrize("expires", [False, True])
async def test_without_a_quiet_moment_the_last_one_is_taken(expires: bool) -> None:
    """Twenty seconds before the limit, which the server may have named; what it cost is told."""
    created = {"expires_at": int(time.time() + 3600)} if expires else {}
    one, two = Double(1, **created), Double(2)
    policy = Reconnect() if expires else HOUR
    async with calling(one, two, reconnect=policy) as (session, _):
        began_s = anyio.current_time()
        one.say(ev.ResponseCreated(response=RESPONSE))
        event = await session.wait_for(ev.Reconnected)
        assert 3577 <= anyio.current_time() - began_s <= 3582
        assert [(lost.what, lost.id) for lost in event.lost] == [("response", "r")]
        assert session.active_response_id is None


@pytest.mark.parametrize(("ahead_s", "after_s"), [(-3600, 3300), (3600, 3300), (None, None)])
async def test_a_clock_that_is_wrong_by_an_hour(ahead_s: int | None, after_s: int | None) -> None:
    """What the server said of its own clock counts; without it, nonsense is not believed."""
    doubles = [Double(n, expires_at=int(time.time() + 3600 + (ahead_s or -3600))) for n in (1, 2)]
    for double in doubles:
        double.transport.clock_ahead_s = ahead_s  # type: ignore[attr-defined]  # as a socket's
    began_s = anyio.current_time()
    async with calling(*doubles, reconnect=Reconnect()) as (session, told):
        if after_s is None:
            await anyio.sleep(24 * 3600)
            assert told == []
        else:
            await session.wait_for(ev.Reconnected)
            assert after_s - 2 <= anyio.current_time() - began_s <= after_s + 2


async def test_each_connection_has_a_limit_of_its_own() -> None:
    """A session may go on for a day."""
    doubles = [Double(number) for number in range(10)]
    async with calling(*doubles, reconnect=HOUR) as (session, told):
        await session.send_text("hello")
        await anyio.sleep(8 * 3600)
        assert [event.cause for event in told] == ["rollover"] * 8
        assert doubles[8].texts() == ["hello"]
        assert session.id == "sess_8"


async def test_what_is_said_while_the_next_one_is_prepared_is_made_up_for() -> None:
    """It takes over when it knows all of it, each item in its place."""

    class Slow(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            said = super()._confirm(event)
            if isinstance(event, ev.ConversationItemCreate) and len(self.items) == 1:
                first = one.items[0]
                one.say(*one.add(ev.MessageItem(id="new", role="user", content=[TEXT]), first.id))
            return said

    one, two = Double(1), Slow(2)
    async with calling(one, two, reconnect=HOUR) as (session, _):
        await session.send_text("first")
        await session.send_text("last")
        event = await session.wait_for(ev.Reconnected)
        assert two.texts() == one.texts() == ["first", "in between", "last"]
        assert set(event.restored) == {item.id for item in one.items}


TEXT = ev.InputText(text="in between")


async def test_what_is_deleted_meanwhile_is_deleted_there_too() -> None:
    """The next server does not know more than this one."""

    class Slow(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            said = super()._confirm(event)
            if isinstance(event, ev.ConversationItemCreate) and len(self.items) == 2:
                one.items.pop(0)
                one.say(ev.ConversationItemDeleted(item_id=self.items[0].id))
            return said

    one, two = Double(1), Slow(2)
    async with calling(one, two, reconnect=HOUR) as (session, _):
        await session.send_text("first")
        await session.send_text("last")
        await session.wait_for(ev.Reconnected)
        assert two.texts() == one.texts() == ["last"]


async def test_a_next_connection_that_cannot_be_had_yet_is_tried_again() -> None:
    """The session goes on over this one meanwhile."""
    one, three = Double(1), Double(3)
    async with calling(one, HostUnreachable("not yet"), three, reconnect=HOUR) as (session, told):
        await session.wait_for(ev.Reconnected)
        assert [event.cause for event in told] == ["rollover"]
        assert session.id == "sess_1".replace("1", "3")


async def test_a_connection_that_is_lost_during_the_rollover_is_replaced() -> None:
    """By one mechanism: the session goes on, once."""

    class Breaks(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            if isinstance(event, ev.ConversationItemCreate):
                one.hang_up(1006)
            return []  # and never says whether it took it

    one, two, three = Double(1), Breaks(2), Double(3)
    async with calling(one, two, three, reconnect=HOUR) as (session, told):
        await session.send_text("hello")
        await session.wait_for(ev.Reconnected)
        await anyio.sleep(30)
        assert [event.cause for event in told if isinstance(event, ev.Reconnected)] == ["lost"]
        assert three.texts() == ["hello"]
        assert two.closed is not None


async def test_a_next_connection_that_ends_while_it_is_told_is_left() -> None:
    """It was ready, and broke without a word: another one is opened, and no handler has failed."""

    class Breaks(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            said = super()._confirm(event)
            if len(self.items) == 1:
                for item_id in ("new", "newer"):
                    one.say(*one.add(ev.MessageItem(id=item_id, role="user", content=[TEXT])))
            else:
                self.hang_up(1006)
            return said

    one, two, three = Double(1), Breaks(2), Double(3)
    failed: list[ev.HandlerFailed] = []
    async with calling(one, two, three, reconnect=HOUR) as (session, told):
        session.on(ev.HandlerFailed)(failed.append)
        await session.send_text("first")
        await session.wait_for(ev.Reconnected)
        assert (session.id, three.texts()) == ("sess_3", ["first", *["in between"] * 2])
    assert (failed, [event.cause for event in told]) == ([], ["rollover"])


async def test_without_a_limit_there_is_no_rollover() -> None:
    """A server that names none, and an application that knows of none."""
    async with calling(Double(1), reconnect=Reconnect()) as (_, told):
        await anyio.sleep(24 * 3600)
        assert told == []


async def test_late_transcripts_of_the_old_connection_are_heard() -> None:
    """What was said just before is still in the history; nothing else comes from there."""
    one, two = Double(1), Double(2)
    async with calling(one, two, reconnect=HOUR) as (session, _):
        one.say(*one.add(ev.MessageItem(id="u", role="user", content=[ev.InputAudio()])))

        @session.on(ev.Reconnected)
        def late(_event: ev.Reconnected) -> None:
            one.say(
                ev.ConversationItemInputAudioTranscriptionCompleted(
                    item_id="u", content_index=0, transcript="bye"
                ),
                ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="v"),
            )

        await session.wait_for(ev.Reconnected)
        assert session.history is not None
        assert session.history.render() == "user: bye"
        assert not session.conversation.user_speaking


async def test_a_session_that_has_closed_calls_nobody_any_more() -> None:
    """Neither to prepare the next connection nor to go over to one that is ready."""
    for ready in (False, True):
        one, two = Double(1), Double(2)
        async with calling(one, two, reconnect=HOUR) as (session, told):
            if ready:

                def speaks(_event: object, one: Double = one) -> list[ev.ServerEvent]:
                    one.say(ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="u"))
                    return []

                two.answer = speaks
                await session.send_text("hello")
                await anyio.sleep(3350)
            await session.aclose()
            await anyio.sleep(7200)
            assert (told, two.closed is not None) == ([], ready)
            assert not ready or two.sent


async def test_other_addresses_are_tried_for_the_rollover_too() -> None:
    """Failover by the same mechanism."""
    one, three = Double(1), Double(3)
    policy = Reconnect(session_limit_s=3600.0, targets=("ws://127.0.0.2:9/v1/realtime?model=m",))
    async with calling(one, HostUnreachable("gone"), three, reconnect=policy) as (session, _):
        event = await session.wait_for(ev.Reconnected)
        assert event.url.startswith("ws://127.0.0.2:9")


async def test_audio_that_waits_for_its_commit_is_not_left_behind() -> None:
    """Without turn detection, nobody but the application knows that somebody speaks."""
    off = {"audio": ev.AudioConfig(input=ev.AudioInputConfig(turn_detection=None))}
    one, two = Double(1, **off), Double(2, **off)
    async with calling(one, two, reconnect=HOUR) as (session, told):
        await anyio.sleep(3290)
        await session.append_audio(bytes(9600))
        await anyio.sleep(200)
        assert told == []
        session.send_nowait(ev.InputAudioBufferCommit())
        one.say(ev.InputAudioBufferCommitted(item_id="u"))
        event = await session.wait_for(ev.Reconnected, timeout_s=2)
        assert event.lost[1:] == []


async def test_what_cannot_tell_whether_it_is_busy_does_not_prevent_the_rollover() -> None:
    """It is reported, and counts as idle."""
    one, two = Double(1), Double(2)
    failed: list[ev.HandlerFailed] = []
    async with calling(one, two, reconnect=HOUR) as (session, _):
        session.on(ev.HandlerFailed)(failed.append)
        session.busy_while(lambda: bool({"b": 1}["a"]))
        await session.wait_for(ev.Reconnected)
    assert {type(event.error) for event in failed} == {KeyError}


async def test_late_words_of_an_old_connection_with_ids_of_its_own_are_found() -> None:
    """Its ids are translated as they were when it served."""
    doubles = [
        Double(number, ids=lambda item_id, n=number: f"{n}_{item_id}") for number in (1, 2, 3)
    ]
    one, two, three = doubles
    spoken = ev.MessageItem(
        id="u", role="user", content=[ev.InputText(text="hello"), ev.InputAudio()]
    )
    async with calling(one, two, three, reconnect=HOUR) as (session, _):
        one.say(*one.add(spoken))
        await session.wait_for(ev.Reconnected)
        assert [item.id for item in two.items] == ["2_1_u"]

        @session.on(ev.Reconnected)
        def late(_event: ev.Reconnected) -> None:
            two.say(
                ev.ConversationItemInputAudioTranscriptionCompleted(
                    item_id="2_1_u", content_index=1, transcript="bye"
                ),
            )

        await session.wait_for(ev.Reconnected)
        assert session.history is not None
        assert session.history.render() == "user: hello bye"

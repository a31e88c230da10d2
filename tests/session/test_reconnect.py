"""A session that outlives its connection: what is restored, sent again, failed, and told."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from realtime_bus import (
    AuthenticationError,
    Bus,
    ConnectionLost,
    HostUnreachable,
    Reconnect,
    RequestRejected,
    SessionClosed,
    UpgradeRefused,
    UsageError,
)
from realtime_bus import events as ev
from realtime_bus_plugins.history import History

from ..bus._peer import Peer, quiet, refusal  # noqa: TID252  # tests are no package with a name of its own
from ._doubles import AT_ONCE, URL, Double, Lines, calling, gap, reconnected, text_of

pytestmark = pytest.mark.anyio

# what is restored


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013])
async def test_the_conversation_goes_on_over_the_next_connection(code: int) -> None:
    """Settings and items are there again, in order and under their ids; handlers live on."""
    one, two = Double(1), Double(2)
    async with calling(one, two, instructions="be brief") as (session, _):
        await session.send_text("hello")
        await session.update(voice="marin")
        await session.create_item(
            ev.MessageItem(id="a", role="assistant", content=[ev.OutputText(text="Hi!")])
        )
        event = await reconnected(session, one, code)
        assert two.texts() == ["hello", "Hi!"]
        assert [item.id for item in two.items] == [item.id for item in one.items]
        assert two.settings.instructions == "be brief"
        assert two.settings.audio.output.voice == "marin"
        assert event.restored == [item.id for item in one.items]
        assert (event.cause, event.session_id, event.lost, event.resent) == (
            "lost",
            "sess_2",
            [],
            [],
        )
        assert session.id == "sess_2"
        await session.send_text("again")
        assert two.texts() == ["hello", "Hi!", "again"]
        assert session.history is not None
        assert [item.text for item in session.history] == ["hello", "Hi!", "again"]


async def test_handlers_are_not_told_what_they_know() -> None:
    """The restoration's own events reach no handler: no item is added twice."""
    one, two = Double(1), Double(2)
    seen: list[str] = []
    async with calling(one, two) as (session, _):
        await session.send_text("hello")
        session.on("*")(lambda event: seen.append(event.type))
        await reconnected(session, one)
        await quiet()
    assert [name for name in seen if not name.startswith("bus.")] == []


async def test_calls_and_outputs_are_restored_and_an_open_call_is_answered() -> None:
    """A call that is still at work finds the new connection with its output."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, _):
        for call in ("call_1", "call_2"):
            item = ev.FunctionCallItem(
                id=f"item_{call}", call_id=call, name="look", arguments="{}", status="completed"
            )
            one.say(*one.add(item))
        await session.create_item(ev.FunctionCallOutputItem(call_id="call_1", output="found"))
        await reconnected(session, one)
        await session.create_item(ev.FunctionCallOutputItem(call_id="call_2", output="gone"))
    assert two.texts() == ["look", "look", "found", "gone"]


async def test_an_answer_that_was_cut_is_restored_as_far_as_it_was_heard() -> None:
    """Half of the audio was heard: so are the words that the next connection knows."""
    one, two = Double(1), Double(2)
    spoken = ev.MessageItem(id="a", role="assistant", status="in_progress", content=[])
    async with calling(one, two) as (session, _):
        one.say(*one.add(spoken)[:1])
        for words in ("one two ", "three four"):
            one.say(
                ev.ResponseOutputAudioTranscriptDelta(
                    response_id="r", item_id="a", output_index=0, content_index=0, delta=words
                )
            )
        session.note_heard("a", heard_ms=1000, generated_ms=2000)
        event = await reconnected(session, one)
    assert two.texts() == ["one two"]
    assert event.restored == ["a"]


async def test_what_a_server_cannot_take_back_is_told() -> None:
    """Speech without a transcript, and a call that was not written to its end."""
    one, two = Double(1), Double(2)
    half = ev.FunctionCallItem(id="c", call_id="call", name="f", arguments="", status="in_progress")
    async with calling(one, two) as (session, _):
        one.say(*one.add(ev.MessageItem(id="u", role="user", content=[ev.InputAudio()])))
        one.say(one.add(half)[0])
        one.say(ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="v"))
        event = await reconnected(session, one)
    assert two.texts() == []
    assert [(lost.what, lost.id) for lost in event.lost] == [
        ("audio", ""),
        ("item", "u"),
        ("item", "c"),
    ]


async def test_speech_that_was_transcribed_is_restored_astext_of() -> None:
    """The transcript comes in an event of its own."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, _):
        one.say(*one.add(ev.MessageItem(id="u", role="user", content=[ev.InputAudio()])))
        one.say(
            ev.ConversationItemInputAudioTranscriptionCompleted(
                item_id="u", content_index=0, transcript="what time is it"
            )
        )
        await reconnected(session, one)
    assert two.texts() == ["what time is it"]


async def test_ids_are_translated_where_the_server_gives_others() -> None:
    """The application goes on with the ids that it knows; so does what handlers see."""
    one, two = Double(1), Double(2, ids=lambda item_id: f"own_{item_id}")
    seen: list[str | None] = []
    async with calling(one, two) as (session, _):
        await session.send_text("hello")
        [item] = one.items
        await session.send_text("world")
        await reconnected(session, one)
        session.on(ev.ConversationItemDeleted)(lambda event: seen.append(event.item_id))
        await session.delete_item(item.id)
        assert two.sent[-1].item_id == f"own_{item.id}"
        assert seen == [item.id]
        assert two.texts() == ["world"]


async def test_a_server_that_refuses_ids_is_given_none() -> None:
    """The first item shows it; all are restored, in order."""

    class Picky(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            if isinstance(event, ev.ConversationItemCreate) and event.item.id is not None:
                return [refusal(event.event_id, param="item.id")]
            return super()._confirm(event)

    one, two = Double(1), Picky(2)
    async with calling(one, two) as (session, _):
        for text in ("a", "b", "c"):
            await session.send_text(text)
        event = await reconnected(session, one)
    assert two.texts() == ["a", "b", "c"]
    assert event.restored == [item.id for item in one.items]


async def test_settings_that_the_next_server_refuses_are_told() -> None:
    """The session goes on without them."""

    class Strict(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            if isinstance(event, ev.SessionUpdate):
                return [refusal(event.event_id, param="session.voice")]
            return super()._confirm(event)

    one, two = Double(1), Strict(2)
    async with calling(one, two, voice="marin") as (session, _):
        await session.send_text("hello")
        event = await reconnected(session, one)
    assert [(lost.what, "no" in lost.why) for lost in event.lost] == [("settings", True)]
    assert two.texts() == ["hello"]


async def test_a_truncation_of_a_restored_item_leaves_what_was_heard() -> None:
    """There is no audio to cut there: the text is replaced, and keeps its place and its id."""
    one, two = Double(1), Double(2)
    answer = ev.MessageItem(
        id="a", role="assistant", content=[ev.OutputAudio(transcript="one two three four")]
    )
    async with calling(one, two) as (session, _):
        one.say(*one.add(answer))
        await session.send_text("and then")
        await reconnected(session, one)
        seen: list[str] = []
        session.on("conversation.item.*")(lambda event: seen.append(event.type))
        session.note_heard("a", heard_ms=1000, generated_ms=2000)
        session.send_nowait(
            ev.ConversationItemTruncate(item_id="a", content_index=0, audio_end_ms=1000)
        )
        await quiet()
        assert seen == ["conversation.item.truncated"]
        assert two.texts() == ["one two", "and then"]
        assert session.history is not None
        assert next(item.id for item in session.history) == "a"
        assert "conversation.item.truncate" not in two.sent_types()


async def test_a_restored_item_of_which_no_word_was_heard_is_deleted_on_both_sides() -> None:
    """It cannot be told as text; handlers and the history learn that it is gone."""
    one, two = Double(1), Double(2)
    content: list[Any] = [ev.OutputAudio(transcript="one two three four")]
    async with calling(one, two) as (session, _):
        one.say(*one.add(ev.MessageItem(id="a", role="assistant", content=content)))
        await session.send_text("and then")
        await reconnected(session, one)
        seen: list[str] = []
        session.on("conversation.item.*")(lambda event: seen.append(event.type))
        session.note_heard("a", heard_ms=20, generated_ms=2000)
        await session.truncate_item("a", audio_end_ms=20)
        await quiet()
        assert seen == ["conversation.item.truncated", "conversation.item.deleted"]
        assert session.history is not None
        assert [item.text for item in session.history] == two.texts() == ["and then"]


# what was under way


async def test_requests_that_may_be_repeated_are_sent_again() -> None:
    """An item that no one confirmed is created once, on the next connection; it is told."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, told):
        one.silent = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.send_text, "hello")
            await quiet()
            await reconnected(session, one)
        assert two.texts() == ["hello"]
        assert told[-1].resent == [one.sent[-1].event_id]


@pytest.mark.breaks_rules("commit-100-ms")
async def test_a_request_that_cannot_be_repeated_fails() -> None:
    """What it was about is gone with the connection; the session goes on."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, _):
        one.silent = True
        failure: list[ConnectionLost] = []

        async def commit() -> None:
            with pytest.raises(ConnectionLost, match=r"before input_audio_buffer.commit was") as it:
                await session.commit_input()
            failure.append(it.value)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(commit)
            await quiet()
            event = await reconnected(session, one)
        assert failure[0].close.code == 1006
        assert [(lost.what, lost.id) for lost in event.lost] == [("request", failure[0].event_id)]
        assert session.close_info is None


async def test_a_response_that_had_not_begun_is_asked_for_again() -> None:
    """Its reply is answered by the next connection."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, told):
        reply = session.respond(instructions="greet")
        await quiet()
        await reconnected(session, one)
        await quiet()
        create = two.sent[-1]
        assert create.response.instructions == "greet"
        assert told[-1].resent == [create.event_id]
        response = ev.Response(id="resp_2", metadata=create.response.metadata, status="completed")
        two.say(ev.ResponseCreated(response=response), ev.ResponseDone(response=response))
        assert (await reply).id == "resp_2"


async def test_a_reply_that_had_begun_fails_and_does_not_look_finished() -> None:
    """Its words come as far as they came; then its readers are told."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, _):
        reply = session.respond()
        await quiet()
        metadata = one.sent[-1].response.metadata
        one.say(ev.ResponseCreated(response=ev.Response(id="resp_1", metadata=metadata)))
        one.say(
            ev.ResponseOutputTextDelta(
                response_id="resp_1", item_id="a", output_index=0, content_index=0, delta="Once"
            )
        )
        words: list[str] = []
        event = await reconnected(session, one)
        with pytest.raises(ConnectionLost):  # noqa: PT012  # the same
            async for word in reply.text():
                words.append(word)  # noqa: PERF401  # what came before it raises counts
        with pytest.raises(ConnectionLost, match="the session goes on"):
            await reply
        assert words == ["Once"]
        assert ("response", "resp_1") in [(lost.what, lost.id) for lost in event.lost]
        assert session.active_response_id is None
        assert "response.create" not in two.sent_types()


async def test_an_answer_to_speech_that_was_due_is_asked_for() -> None:
    """The server had heard the turn's end: the next one is told to answer."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, _):
        one.say(ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="u"))
        one.say(ev.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id="u"))
        one.say(*one.add(ev.MessageItem(id="u", role="user", content=[ev.InputAudio()])))
        one.say(
            ev.ConversationItemInputAudioTranscriptionCompleted(
                item_id="u", content_index=0, transcript="hello"
            )
        )
        await reconnected(session, one)
        await quiet()
    assert two.sent_types()[-2:] == ["conversation.item.create", "response.create"]


# what is sent meanwhile


async def test_what_is_sent_in_the_gap_waits_and_keeps_its_order() -> None:
    """It follows what is restored."""
    one, two = Double(1), Double(2)
    async with gap(one, two) as (session, go):
        async with anyio.create_task_group() as tasks:
            for text in ("a", "b"):
                tasks.start_soon(session.send_text, text)
                await quiet()
            reply = session.respond()
            await quiet()
            go.set()
        assert two.texts() == ["before", "a", "b"]
        await quiet()
        assert two.sent_types()[-1] == "response.create"
        assert not reply.done
        assert not session.reconnecting


async def test_audio_of_the_gap_is_dropped_and_told() -> None:
    """By default: late words help nobody."""
    one, two = Double(1), Double(2)
    async with gap(one, two) as (session, go):
        found = session.wait_for(ev.Reconnected)
        for _ in range(3):
            await session.append_audio(bytes(960))
        go.set()
        event = await found
        assert [(lost.what, lost.why[:8]) for lost in event.lost] == [("audio", "3 pieces")]
    assert "input_audio_buffer.append" not in two.sent_types()


async def test_audio_of_the_gap_is_kept_if_that_is_wanted() -> None:
    """The last of it, up to the bound; what did not fit is told."""
    one, two = Double(1), Double(2)
    async with gap(one, two, gap_audio="keep", max_gap_bytes=4000) as (session, go):
        found = session.wait_for(ev.Reconnected)
        for number in range(4):
            await session.append_audio(bytes([number]) * 960)
        go.set()
        event = await found
        audio = [event.audio for event in two.sent if isinstance(event, ev.InputAudioBufferAppend)]
        assert [bytes(piece)[0] for piece in audio] == [1, 2, 3]
        assert [lost.why[:8] for lost in event.lost] == ["1 pieces"]


async def test_too_much_in_the_gap_is_refused() -> None:
    """Nothing is dropped behind the caller's back."""
    one, two = Double(1), Double(2)
    async with gap(one, two, max_gap_events=2) as (session, go):
        for text in ("a", "b"):
            item = ev.MessageItem(role="user", content=[ev.InputText(text=text)])
            session.send_nowait(ev.ConversationItemCreate(item=item))
        with pytest.raises(ConnectionLost, match=r"2 events of .* wait for the next one already"):
            await session.send_text("c")
        go.set()
        await session.wait_for(ev.Reconnected)
        assert two.texts() == ["before", "a", "b"]


# how it is tried, and given up


async def test_tries_go_on_until_somebody_answers() -> None:
    """No host, a refusal that may pass, a server that hangs up: then the next one."""
    one, four = Double(1), Double(4)
    hangs_up = Peer()
    hangs_up.hang_up(1013, "try again later")
    answers = [HostUnreachable("no host"), UpgradeRefused("busy", status=503), hangs_up, four]
    async with calling(one, *answers) as (session, told):
        await session.send_text("hello")
        event = await reconnected(session, one)
        assert event.attempts == 4
        assert [each.attempt for each in told[:-1]] == [1, 2, 3, 4]
        assert four.texts() == ["hello"]


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("wrong key", status=401),
        UpgradeRefused("no such path", status=404),
    ],
)
async def test_what_no_try_can_mend_ends_the_session_at_once(error: Exception) -> None:
    """A refused key is not tried twice."""
    one = Double(1)
    async with calling(one, error) as (session, told):
        one.hang_up()
        close = await session.wait_closed()
        assert close.code == 1006
        assert (told[-1].attempts, told[-1].error) == (1, error)
        with pytest.raises(SessionClosed):
            await session.send_text("hello")


async def test_tries_have_a_bound() -> None:
    """Then the session ends with the connection's close, and says what failed last."""
    one = Double(1)
    errors = [HostUnreachable(str(number)) for number in range(9)]
    reconnect = Reconnect(attempts=3, first_delay_s=0.0)
    async with calling(one, *errors, reconnect=reconnect) as (session, told):
        one.hang_up(1012, "restart")
        assert (await session.wait_closed()).code == 1012
        assert (told[-1].attempts, str(told[-1].error)) == (3, "2")


@pytest.mark.parametrize("code", [1000, 1002, 1008, 3000, 4000])
async def test_a_close_that_is_meant_ends_the_session(code: int) -> None:
    """The server has said that it is over, or that we have broken its rules."""
    one = Double(1)
    async with calling(one) as (session, told):
        one.hang_up(code, "over")
        assert (await session.wait_closed()).code == code
        assert told == []


async def test_a_quota_ends_the_session_at_once() -> None:
    """No other connection would have more of it."""
    one = Double(1)
    async with calling(one, bus=Bus(log_errors=False)) as (session, told):
        one.say(refusal(code="insufficient_quota"))
        one.hang_up(1011)
        await session.wait_closed()
        [failed] = told
        assert (failed.attempts, "insufficient_quota" in failed.reason) == (0, True)


async def test_without_a_policy_the_session_ends_with_its_connection() -> None:
    """And keeps no history."""
    one = Double(1)
    async with calling(one, reconnect=False) as (session, told):
        assert session.history is None
        one.hang_up(1011)
        assert (await session.wait_closed()).code == 1011
        assert told == []


async def test_other_addresses_are_tried_in_turn() -> None:
    """Failover: the list begins with the address that was connected."""
    one, two = Double(1), Double(2)
    lines = Lines(one, HostUnreachable("gone"), two)
    policy = Reconnect(first_delay_s=0.0, targets=("ws://127.0.0.2:9/v1/realtime?model=m",))
    async with Bus().connect(URL, dial=lines.dial, reconnect=policy) as session:
        event = await reconnected(session, one)
    assert lines.dialled == ["127.0.0.1:9", "127.0.0.1:9", "127.0.0.2:9"]
    assert event.url.startswith("ws://127.0.0.2:9")


async def test_closing_in_the_gap_ends_the_tries() -> None:
    """Whoever leaves does not wait for a connection."""
    one = Double(1)
    async with gap(one, Double(2)) as (session, _):
        await session.aclose()
        assert (session.close_info is not None, session.reconnecting) == (True, False)


async def test_leaving_in_the_gap_fails_what_waits() -> None:
    """A request that was never sent says so."""
    one = Double(1)
    async with gap(one, Double(2)) as (session, _):
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                with pytest.raises(SessionClosed):
                    await session.send_text("hello")

            tasks.start_soon(ask)
            await quiet()
            await session.aclose()


async def test_a_sideband_restores_nothing() -> None:
    """A call's conversation lives on at the server: it is joined again, and left as it is."""
    one, two = Double(1), Double(2)
    lines = Lines(one, two)
    async with Bus(plugins=[History()]).connect(
        "ws://127.0.0.1:9/v1/realtime", call_id="rtc_1", dial=lines.dial, reconnect=AT_ONCE
    ) as session:
        await session.update(instructions="be brief")
        await session.send_text("hello")
        await reconnected(session, one)
        await quiet()
        assert two.sent == []
        assert session.history is not None
        assert [item.text for item in session.history] == ["hello"]


async def test_a_refused_item_is_told_and_the_others_are_there() -> None:
    """One item that the next server does not want costs only itself."""

    class Choosy(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            if isinstance(event, ev.ConversationItemCreate) and text_of(event.item) == "b":
                return [refusal(event.event_id, param="item.content")]
            return super()._confirm(event)

    one, two = Double(1), Choosy(2)
    async with calling(one, two) as (session, _):
        for text in ("a", "b", "c"):
            await session.send_text(text)
        event = await reconnected(session, one)
        with pytest.raises(RequestRejected):
            await session.send_text("b")
    assert two.texts() == ["a", "c"]
    assert [lost.id for lost in event.lost] == [one.items[1].id]


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"max_outage_s": -1},
        {"gap_audio": "some"},
        {"targets": "ws://h"},
        {"rollover_margin_s": float("nan")},
    ],
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    """At once, with the name of what is wrong."""
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Reconnect(**wrong)
    with pytest.raises(UsageError, match="reconnect=5"):
        Bus().connect(URL, reconnect=5)  # type: ignore[arg-type]  # what is tested


# before the limit

SOON = Reconnect(first_delay_s=0.0, max_delay_s=0.0, session_limit_s=0.4, rollover_margin_s=0.0)


async def test_the_next_connection_takes_over_before_the_limit() -> None:
    """The old one is closed when the new one knows everything; nobody hears of the change."""
    one, two = Double(1), Double(2)
    bus = Bus()
    seen: list[str] = []
    async with calling(one, two, bus=bus, reconnect=SOON, instructions="brief") as (session, told):
        await session.send_text("hello")
        session.on("*")(lambda event: seen.append(event.type))
        event = await session.wait_for(ev.Reconnected, timeout_s=5)
        assert (event.cause, event.gap_s, event.lost, event.resent) == ("rollover", 0.0, [], [])
        assert two.texts() == ["hello"]
        assert two.settings.instructions == "brief"
        await session.send_text("again")
        assert two.texts() == ["hello", "again"]
        assert one.closed == (1000, "")
        assert told == [event]
        seen = [name for name in seen if not name.startswith("bus.")]
        assert seen == ["conversation.item.added", "conversation.item.done"]

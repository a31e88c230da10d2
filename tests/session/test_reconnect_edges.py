"""Where a session that outlives its connection could go wrong: races, odd servers, odd moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, ConnectionLost, Reconnect
from realtime_bus import events as ev
from realtime_bus.session import _recovery
from realtime_bus.transport import PushTransport
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.sinks import NullSink

from ..bus._peer import quiet  # noqa: TID252  # tests are no package with a name of its own
from ._doubles import AT_ONCE, URL, Double, Held, calling, gap, reconnected

pytestmark = pytest.mark.anyio

HEAVY = "x" * 100_000


def said(item_id: str, text: str, role: Any = "user") -> ev.MessageItem:
    """Make a message of text."""
    part = ev.OutputText(text=text) if role == "assistant" else ev.InputText(text=text)
    return ev.MessageItem(id=item_id, role=role, content=[part])


# closing


async def test_closing_just_when_the_next_connection_is_ready_closes_that_one_too() -> None:
    """Nothing takes over in a session that is being closed; nobody waits for ever."""
    one, two = Double(1), Double(2)
    two.silent = True
    async with calling(one, two) as (session, told):
        await session.send_text("hello")
        one.hang_up()
        await quiet()
        [create] = two.sent
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.aclose)
                two.say(*two.add(create.item))
        assert two.closed is not None
        assert [type(event) for event in told] == [ev.Reconnecting]


async def test_an_old_connection_that_does_not_end_hides_no_loss() -> None:
    """A transport whose `run` goes on when it is closed: the next one is watched all the same."""

    class Stuck(Double):
        def _close(self, code: int, reason: str) -> None:
            self.closed = (code, reason)

    policy = Reconnect(first_delay_s=0.0, max_delay_s=0.0, session_limit_s=0.2, rollover_margin_s=0)
    one, two, three = Stuck(1), Double(2), Double(3)
    one.transport.aclose = _never_closes  # type: ignore[method-assign]  # a transport of somebody's
    async with calling(one, two, three, reconnect=policy) as (session, _):
        await session.send_text("hello")
        await session.wait_for(ev.Reconnected, timeout_s=5)
        event = await reconnected(session, two)
        assert event.session_id == "sess_3"


async def _never_closes(_code: int = 1000, _reason: str = "") -> None:
    await anyio.sleep_forever()


# what servers send


async def test_large_frames_are_translated_too() -> None:
    """An item with its audio comes in a frame that counts."""
    one, two = Double(1), Double(2, ids=lambda item_id: f"own_{item_id}")
    async with calling(one, two) as (session, _):
        await session.create_item(said("a", "hello"))
        await reconnected(session, one)
        two.answer = lambda event: [
            ev.ConversationItemRetrieved(item=said(event.item_id, HEAVY)),
        ]
        found = await session.retrieve_item("a")
        assert found.item.id == "a"


async def test_items_that_a_response_refers_to_are_translated() -> None:
    """In the input of ``response.create``, wherever it names an item."""
    one, two = Double(1), Double(2, ids=lambda item_id: f"own_{item_id}")
    async with calling(one, two) as (session, _):
        await session.create_item(said("a", "hello"))
        await reconnected(session, one)
        session.respond(conversation="none", input=[ev.ItemReference(id="a"), said("b", "new")])
        await quiet()
        assert [each.id for each in two.sent[-1].response.input] == ["own_a", "b"]


async def test_settings_sent_again_are_confirmed_to_whoever_awaits_them() -> None:
    """They follow what is restored, and have an answer of their own."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, _):
        one.silent = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: session.update(voice="marin"))
            await quiet()
            await reconnected(session, one)
        assert two.settings.audio.output.voice == "marin"


async def test_what_comes_during_the_restoration_follows_the_takeover() -> None:
    """In order, and behind it also what is said at the same time."""
    one = Double(1)
    seen: list[str] = []

    class Greets(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            early = ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="v")
            late = ev.InputAudioBufferSpeechStopped(audio_end_ms=9, item_id="v")
            if isinstance(event, ev.InputAudioBufferAppend):
                return [late]
            return [early, *super()._confirm(event)]

    async with calling(one, Greets(2)) as (session, _):
        await session.send_text("hello")

        @session.on(ev.Reconnected)
        def greet(event: ev.Reconnected) -> None:
            seen.append(event.type)
            session.send_nowait(ev.InputAudioBufferAppend(audio=bytes(960)))

        session.on("input_audio_buffer.*")(lambda event: seen.append(event.type))
        await reconnected(session, one)
    assert seen == [
        "bus.reconnected",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
    ]


async def test_a_server_that_floods_during_the_restoration_is_left() -> None:
    """What waits for the takeover has a bound; the next try is another connection's."""
    one, three = Double(1), Double(3)

    class Floods(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            if isinstance(event, ev.ConversationItemCreate):
                for _ in range(400):
                    self.say(ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id=HEAVY))
            return []

    two = Floods(2)
    async with calling(one, two, three) as (session, told):
        await session.send_text("hello")
        event = await reconnected(session, one)
        assert event.session_id == "sess_3"
        assert two.closed is not None
        assert [type(each) for each in told[:2]] == [ev.Reconnecting] * 2
        assert "more than" in told[1].reason


async def test_a_server_that_introduces_itself_twice_is_told_all_once() -> None:
    """The first time counts."""
    one, two = Double(1), Double(2)
    two.say(ev.SessionCreated(session=ev.RealtimeSession(id="sess_2b")))
    async with calling(one, two, instructions="brief") as (session, _):
        await session.send_text("hello")
        event = await reconnected(session, one)
        assert event.session_id == session.id == "sess_2"
        assert two.sent_types() == ["session.update", "conversation.item.create"]


async def test_an_item_that_is_confirmed_twice_stands_for_no_other() -> None:
    """Each is known by its own id: what is deleted later is the one that is meant."""

    class Repeats(Double):
        def add(self, item: Any, after: str | None = None) -> list[ev.ServerEvent]:
            added, done = super().add(item, after)
            return [added, added, done]

    one, two = Double(1), Repeats(2)
    async with calling(one, two) as (session, _):
        for item_id in ("u", "v", "w"):  # of the server's making, as those of speech
            one.say(*one.add(said(item_id, item_id)))
        event = await reconnected(session, one)
        assert (event.restored, event.lost) == (["u", "v", "w"], [])
        await session.delete_item("v")
        assert two.texts() == ["u", "w"]
        assert session.history is not None
        assert [item.id for item in session.history] == ["u", "w"]


async def test_a_restored_item_that_is_told_again_answers_no_request() -> None:
    """Also when it comes after the takeover: it is no news."""

    class Reminds(Double):
        def add(self, item: Any, after: str | None = None) -> list[ev.ServerEvent]:
            again = [ev.ConversationItemAdded(item=each) for each in self.items]
            return [*again, *super().add(item, after)]

    one, two = Double(1), Reminds(2)
    async with calling(one, two) as (session, _):
        one.say(*one.add(said("u", "before")))
        await reconnected(session, one)
        added = await session.create_item(said("v", "after"))
        assert added.item.id == "v"


async def test_a_server_that_confirms_no_items_is_given_all_of_them() -> None:
    """The first one is not waited for without end: it shows only whether ids are taken."""

    class Mute(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            super()._confirm(event)
            return []

    one, two = Double(1), Mute(2)
    policy = Reconnect(first_delay_s=0.0, max_delay_s=0.0, restore_timeout_s=0.2)
    async with calling(one, two, reconnect=policy) as (session, _):
        for text in ("a", "b", "c"):
            await session.send_text(text)
        event = await reconnected(session, one)
    assert two.texts() == ["a", "b", "c"]
    assert [lost.why for lost in event.lost] == ["the server did not confirm it"] * 3


async def test_a_connection_that_breaks_at_the_takeover_is_replaced_by_the_next() -> None:
    """What waited is sent there; nothing of it is lost."""
    one, three = Double(1), Double(3)

    class Breaks(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            if getattr(event, "item", None) is not None and event.item.content[0].text == "later":
                self.hang_up()
                return []
            return super()._confirm(event)

    lines = Held(one, Breaks(2), three)
    async with Bus().connect(URL, dial=lines.dial, reconnect=AT_ONCE) as session:
        await session.send_text("before")
        one.hang_up()
        await quiet()
        async with anyio.create_task_group() as tasks:
            for text in ("later", "last"):
                tasks.start_soon(session.send_text, text)
                await quiet()
            lines.open.set()
        assert three.texts() == ["before", "later", "last"]


@pytest.mark.breaks_rules("delete-known-item")
@pytest.mark.parametrize("code", [1000, 1006])
async def test_a_connection_that_ends_at_the_takeover_ends_the_session_as_it_says(
    code: int,
) -> None:
    """A close that is meant is no fault of ours."""
    one = Double(1)
    failed: list[ev.HandlerFailed] = []

    class Ends(Double):
        def _confirm(self, event: Any) -> list[ev.ServerEvent]:
            if isinstance(event, ev.ConversationItemDelete):
                self.hang_up(code)
            return super()._confirm(event)

    lines = Held(one, Ends(2), OSError("no more"))
    bus = Bus()
    bus.on(ev.HandlerFailed)(failed.append)
    async with bus.connect(URL, dial=lines.dial, reconnect=AT_ONCE) as session:
        await session.send_text("before")
        one.hang_up()
        await quiet()
        for _ in range(2):
            session.send_nowait(ev.ConversationItemDelete(item_id=one.items[0].id))
        lines.open.set()
        close = await session.wait_closed()
        assert close.code == code
        assert failed == []


# the conversation


async def test_what_was_lost_keeps_its_place_in_the_history() -> None:
    """New items come behind it, although the server does not know it."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, _):
        one.say(*one.add(ev.MessageItem(id="u0", role="user", content=[ev.InputAudio()])))
        await session.create_item(said("a", "hello"))
        one.say(*one.add(ev.MessageItem(id="u1", role="user", content=[ev.InputAudio()])))
        one.say(*one.add(ev.MessageItem(id="u2", role="user", content=[ev.InputAudio()])))
        await reconnected(session, one)
        await session.create_item(said("b", "again"))
        await session.create_item(said("c", "and again"))
        await session.create_item(said("z", "first"), previous_item_id="root")
        assert session.history is not None
        assert [item.id for item in session.history][-5:] == ["a", "u1", "u2", "b", "c"]


async def test_with_nothing_restored_new_items_come_behind_the_old() -> None:
    """The server's conversation is empty, the history is not."""
    one, two, three = Double(1), Double(2), Double(3)
    async with calling(one, two, three) as (session, _):
        one.say(*one.add(ev.MessageItem(id="u", role="user", content=[ev.InputAudio()])))
        await reconnected(session, one)
        await session.create_item(said("a", "hello"))
        await reconnected(session, two)
        await session.create_item(said("b", "again"))
        assert session.history is not None
        assert [item.id for item in session.history] == ["u", "a", "b"]


async def test_a_call_whose_item_is_done_but_not_yet_in_the_conversation_is_restored() -> None:
    """The model has written it to its end: its output will follow."""
    one, two = Double(1), Double(2)
    call = ev.FunctionCallItem(id="c", call_id="call", name="look", arguments="")
    async with calling(one, two) as (session, _):
        one.say(ev.ResponseCreated(response=ev.Response(id="r", conversation_id="conv")))
        one.say(one.add(_call(call, "in_progress", ""))[0])
        one.say(
            ev.ResponseOutputItemDone(
                response_id="r", output_index=0, item=_call(call, "completed", "{}")
            )
        )
        await reconnected(session, one)
        await session.create_item(ev.FunctionCallOutputItem(call_id="call", output="found"))
    assert two.texts() == ["look", "found"]


def _call(call: ev.FunctionCallItem, status: Any, arguments: str) -> ev.FunctionCallItem:
    return ev.FunctionCallItem(
        id=call.id, call_id=call.call_id, name=call.name, arguments=arguments, status=status
    )


async def test_an_item_that_is_there_is_not_created_again() -> None:
    """Its confirmation was dropped by an interceptor: whoever asked for it did not hear of it."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, told):
        session.intercept(ev.ConversationItemAdded, lambda _event, _session: None)
        session.send_nowait(ev.ConversationItemCreate(item=said("a", "hello")))
        await reconnected(session, one)
        assert two.texts() == ["hello"]
        assert told[-1].resent == []


async def test_a_command_without_an_id_is_told_by_its_type() -> None:
    """What may have arrived twice is never unknown."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, _):
        one.silent = True
        session.send_nowait(ev.ConversationItemCreate(item=said("a", "hello")))
        event = await reconnected(session, one)
        assert event.resent == ["conversation.item.create"]


SPOKEN = ev.MessageItem(
    id="a", role="assistant", content=[ev.OutputAudio(transcript="one two three four")]
)


@pytest.mark.breaks_rules("truncate-assistant-audio-only")
async def test_a_truncation_of_a_restored_item_is_confirmed() -> None:
    """To whoever awaits it, and to handlers; what makes up for it is nobody's business."""
    one, two = Double(1), Double(2)
    seen: list[str] = []
    async with calling(one, two) as (session, _):
        one.say(*one.add(SPOKEN))
        one.say(*one.add(ev.MessageItem(id="u", role="user", content=[ev.InputAudio()])))
        await reconnected(session, one)
        session.on("conversation.item.*")(lambda event: seen.append(event.type))
        session.note_heard("a", heard_ms=1000, generated_ms=2000)
        event = await session.truncate_item("a", audio_end_ms=1000)
        await session.send_text("go on")
        assert (event.item_id, event.audio_end_ms) == ("a", 1000)
        assert two.texts() == ["one two", "go on"]
        assert seen == [
            "conversation.item.truncated",
            "conversation.item.added",
            "conversation.item.done",
        ]
        assert session.history is not None
        [item, *_] = session.history
        assert (item.text, item.estimated_heard_text) == ("one two three four", "one two")
        await session.delete_item("a")
        assert two.texts() == ["go on"]
        assert two.sent_types().count("conversation.item.truncate") == 0


@pytest.mark.breaks_rules("truncate-assistant-audio-only")
async def test_a_truncation_that_waited_in_the_gap_is_confirmed() -> None:
    """The item was given back as far as it was heard: there is nothing left to do."""
    one, two = Double(1), Double(2)
    lines = Held(one, two)
    async with Bus().connect(URL, dial=lines.dial, reconnect=AT_ONCE) as session:
        one.say(*one.add(SPOKEN))
        one.hang_up()
        await quiet()
        session.note_heard("a", heard_ms=1000, generated_ms=2000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: session.truncate_item("a", audio_end_ms=1000))
            await quiet()
            lines.open.set()
        assert two.texts() == ["one two"]
        assert two.sent_types() == ["conversation.item.create"]


async def test_an_answer_cut_by_somebody_who_does_not_know_its_length_is_restored_whole() -> None:
    """What was heard cannot be told; what was received can."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, _):
        one.say(*one.add(SPOKEN))
        one.say(ev.ConversationItemTruncated(item_id="a", content_index=0, audio_end_ms=900))
        await reconnected(session, one)
    assert two.texts() == ["one two three four"]


async def test_two_outages_and_two_kinds_of_ids() -> None:
    """Whatever each server calls an item, the application knows it by one name."""
    one, two, three, four = (
        Double(1),
        Double(2, ids="2_{}".format),
        Double(3, ids="3_{}".format),
        Double(4),
    )
    async with calling(one, two, three, four) as (session, _):
        await session.create_item(said("a", "hello"))
        for broken in (one, two, three):
            await reconnected(session, broken)
            assert session.history is not None
            assert [item.id for item in session.history][:1] == ["a"]
            event = await session.create_item(said("b", "behind a"), previous_item_id="a")
            await session.delete_item(str(event.item.id))
        assert four.texts() == ["hello"]
        assert [item.id for item in three.items] == ["3_a"]


@pytest.mark.breaks_rules("cancel-active-response")
async def test_a_cancel_in_the_gap_fails_at_once_when_the_next_connection_is_there() -> None:
    """The response that it was for is gone with the last one."""
    one, two = Double(1), Double(2)
    with anyio.fail_after(5):
        async with gap(one, two) as (session, go):
            async with anyio.create_task_group() as tasks:

                async def cancel() -> None:
                    with pytest.raises(ConnectionLost, match=r"before response.cancel was"):
                        await session.cancel_response("resp_1")

                tasks.start_soon(cancel)
                await quiet()
                go.set()
    assert "response.cancel" not in two.sent_types()


# sending


async def test_sending_without_end_in_the_gap_leaves_room_for_the_next_connection() -> None:
    """Whoever sends as fast as they may does not keep the loop from everything else."""
    one, two = Double(1), Double(2)
    with anyio.fail_after(5):
        async with gap(one, two) as (session, go):
            go.set()
            for _ in range(100_000):
                await session.append_audio(bytes(960))
                if not session.reconnecting:
                    break
            assert not session.reconnecting


@pytest.mark.breaks_rules("commit-100-ms")
async def test_audio_that_was_not_committed_is_told() -> None:
    """Without turn detection, nobody but the application knows that somebody speaks."""
    one, two, three = Double(1), Double(2), Double(3)
    off = ev.RealtimeSession(
        id="s", audio=ev.AudioConfig(input=ev.AudioInputConfig(turn_detection=None))
    )
    async with calling(one, two, three) as (session, _):
        one.say(ev.SessionUpdated(session=off))
        await session.append_audio(bytes(960))
        event = await reconnected(session, one)
        assert [(lost.what, lost.why) for lost in event.lost] == [
            ("audio", "it was not committed"),
        ]
        assert (await reconnected(session, two)).lost == []


async def test_a_server_that_breaks_again_and_again_is_not_called_without_pause() -> None:
    """However long that goes on: the pause grows to its bound, and there it stays."""
    policy = Reconnect(first_delay_s=0.0001, max_delay_s=0.001)
    doubles = [Double(number) for number in range(40)]
    async with calling(*doubles, reconnect=policy) as (session, told):
        recovery: Any = session._recovery  # what 1100 outages would take: an hour or two
        recovery._live_since_s = float("inf")
        recovery._tries = 5000
        await reconnected(session, doubles[0])
    assert [type(event) for event in told] == [ev.Reconnecting, ev.Reconnected]


async def test_a_long_conversation_is_given_back_as_fast_as_the_line_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Never more at once than little: what is unsent has a bound, above which a line is cut."""
    monkeypatch.setattr(_recovery, "_MAX_UNSENT_BYTES", 2000)
    one, two = Double(1), _Slow(2)
    async with calling(one, two) as (session, told):
        for number in range(20):
            await session.send_text(f"{number} " + "." * 400)
        back = session.wait_for(ev.Reconnected, timeout_s=5)
        one.hang_up()
        await two.read_all(until=lambda: isinstance(told[-1], ev.Reconnected) if told else False)
        assert (await back).lost == []
    assert two.texts() == one.texts()
    assert 2000 <= two.most_bytes < 3000


class _Line(PushTransport):
    unsent_bytes = 0

    @property
    def buffered_bytes(self) -> int:
        return self.unsent_bytes


class _Slow(Double):
    """Reads one message after the other."""

    most_bytes = 0

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._unread: list[bytes] = []
        self.transport = self._line = _Line(send=self._keep, close=self._close)
        self.say(ev.SessionCreated(session=ev.RealtimeSession(id=f"sess_{number}")))

    def _keep(self, frame: bytes) -> None:
        self._unread.append(frame)
        self._line.unsent_bytes += len(frame)
        self.most_bytes = max(self.most_bytes, self._line.unsent_bytes)

    async def read_all(self, *, until: Callable[[], bool]) -> None:
        """Read until the client has what it wants."""
        while not until():
            if self._unread:
                frame = self._unread.pop(0)
                self._line.unsent_bytes -= len(frame)
                self._take(frame)
            await quiet()


async def test_a_server_that_begins_its_ids_anew_is_told_apart() -> None:
    """It counts: what it makes is not taken for what another connection had under the same id."""
    sink = NullSink(clock=lambda: 0.0)  # so that nothing of the first answer is heard
    bus = Bus(plugins=[sink, Interruption(sink)])
    one, two = Double(1), Double(2)
    async with calling(one, two, bus=bus) as (session, _):
        heard = session.stream(ev.ResponseOutputAudioDelta)
        _ask_and_answer(one, "one")
        first = await anext(heard)
        one.say(ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="item_9"))  # silence
        event = await reconnected(session, one)
        assert [lost.id for lost in event.lost if lost.what == "item"] == ["item_1"]
        two.items.clear()  # as a server does that does not look at ids
        _ask_and_answer(two, "two")
        second = await anext(heard)
        assert second.response_id == session.active_response_id != first.response_id
        assert sink.playing
        with anyio.move_on_after(5):
            two.answer = lambda _event: [
                ev.ResponseDone(response=ev.Response(id="resp_1", status="cancelled"))
            ]
            await session.cancel_response()
        assert two.sent[-1].response_id == "resp_1"
        assert session.history is not None
        assert [item.role for item in session.history] == ["user", "user", "assistant"]
        assert [item.text for item in session.history] == ["", "asked two", "two"]
        assert second.item_id == [item.id for item in session.history][2]


async def test_a_server_that_begins_its_ids_anew_answers_requests_all_the_same() -> None:
    """It counts what we create, too; and what was lost had the number that comes next."""

    class Counts(Double):
        def __init__(self, number: int) -> None:
            super().__init__(number, ids=lambda _: f"item_{len(self.items) + 1}")

    one, two = Counts(1), Counts(2)
    async with calling(one, two) as (session, _):
        await session.send_text("one")
        one.say(*one.add(ev.MessageItem(role="user", content=[ev.InputAudio()])))
        event = await reconnected(session, one)
        assert (event.restored, [lost.id for lost in event.lost]) == (["item_1"], ["item_2"])
        with anyio.fail_after(5):
            added = await session.send_text("two")
        await session.delete_item(added.item.id or "")
        assert two.sent[-1].item_id == "item_2"
        assert two.texts() == ["one"]


def _ask_and_answer(server: Double, words: str) -> None:
    """Have the person ask, and the server begin to answer, under ids that begin at 1."""
    where: Any = {"response_id": "resp_1", "item_id": "item_2", "output_index": 0}
    answer = ev.MessageItem(id="item_2", role="assistant", content=[])
    server.say(*server.add(ev.MessageItem(id="item_1", role="user", content=[ev.InputAudio()])))
    if words == "two":
        server.say(
            ev.ConversationItemInputAudioTranscriptionCompleted(
                item_id="item_1", content_index=0, transcript="asked two"
            )
        )
    server.say(
        ev.ResponseCreated(response=ev.Response(id="resp_1", conversation_id="conv_1")),
        ev.ResponseOutputItemAdded(response_id="resp_1", output_index=0, item=answer),
        server.add(answer)[0],
        ev.ResponseOutputAudioTranscriptDelta(content_index=0, delta=words, **where),
        ev.ResponseOutputAudioDelta(content_index=0, delta=bytes(48_000), **where),
    )


async def test_an_item_that_was_lost_may_be_created_again() -> None:
    """Under its own id, by the application, which knows no other."""
    one, two = Double(1), Double(2)
    async with calling(one, two) as (session, _):
        one.say(*one.add(ev.MessageItem(id="u", role="user", content=[ev.InputAudio()])))
        event = await reconnected(session, one)
        assert [lost.id for lost in event.lost] == ["u"]
        added = await session.create_item(said("u", "what was said"))
        assert (added.item.id, two.items[0].id) == ("u", "u")
        assert session.history is not None
        assert [item.text for item in session.history] == ["what was said"]

"""A call under test: what is heard, what is measured, and what is complained of."""

# ruff: noqa: PT012  # what is complained of comes at the end of a whole call

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.server import ResponderRequest, Speech, ToolCall, faults
from realtime_bus.testing import Pause, ScriptedModel, tool_call
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted
from realtime_bus_plugins.sinks import NullSink, WavSink
from realtime_bus_plugins.telephony import CallEnded, DtmfReceived
from realtime_bus_plugins.tools import Tools

LONG = "First, warm one litre of stock in a small pot, and keep it hot while you cook."


@pytest.fixture
def agent() -> Bus:
    """Return an agent that knows how long pasta takes."""
    tools = Tools()

    @tools.tool
    async def look_up(dish: str) -> str:
        """Look up how long a dish takes."""
        await anyio.sleep(0.4)
        return f"{dish}: 9 min"

    return Bus(plugins=[tools])


async def test_a_question_a_tool_and_an_answer(agent: Bus, place_call: Any) -> None:
    """Whole conversations are a few lines, and take no time."""
    answers = [["One moment.", tool_call("look_up", dish="pasta")], "It takes nine minutes."]
    async with place_call(agent, answers, instructions="Help the cook.") as call:
        await call.person.says("How long does the pasta take?")
        assert await call.person.hears() == "One moment."
        assert await call.person.hears() == "It takes nine minutes."
        await call.settles()
    assert call.heard == ["One moment.", "It takes nine minutes."]
    assert call.assert_called("look_up", dish="pasta").output == "pasta: 9 min"
    call.assert_not_called("order")
    call.assert_heard("one moment", "nine minutes")
    call.assert_order("person “How long", "calls look_up", "look_up → pasta: 9 min", "takes nine")
    call.assert_within(answer_s=1.0, tool_s=0.41)
    assert call.model is not None
    assert call.model.asked[0].instructions == "Help the cook."
    assert call.model.left == []


async def test_the_person_speaks_over_the_assistant(agent: Bus, place_call: Any) -> None:
    """What was heard is cut where it was cut, to the word; alike each time and on both backends."""
    async with place_call(agent, [LONG, "Three hundred grams."]) as call:
        await call.person.says("How do I cook a risotto?")
        await call.person.interrupts("Wait, how much rice?", after_s=1.2)
        assert await call.person.hears() == "First, warm one"
        assert await call.person.hears() == "Three hundred grams."
    [barge_in] = call.barge_ins
    assert barge_in.utterance.heard_ms == 1260
    call.assert_within(silence_s=0.11)
    [truncation] = [each for each in call.sent if isinstance(each, ev.ConversationItemTruncate)]
    assert truncation.audio_end_ms == 1260
    assert "cut after 1260 ms; not heard: “litre of stock" in call.story


async def test_real_voices(agent: Bus, place_call: Any) -> None:
    """With eSpeak for both voices; silero listens; the clock stands still while they work."""
    async with place_call(agent, [LONG, "Three hundred grams."], voices="real") as call:
        await call.person.says("How do I cook a risotto?")
        await call.person.interrupts("How much rice do I need?", after_s=1.2)
        assert (await call.person.hears()).startswith("First, warm")
        assert await call.person.hears() == "Three hundred grams."
    call.assert_within(silence_s=0.4, answer_s=1.5)


async def test_an_agents_own_sink_and_interruption_are_used(place_call: Any) -> None:
    """Nothing is added to an agent that has them."""
    sink = WavSink()
    bus = Bus(plugins=[sink, Interruption(sink)])
    async with place_call(bus, [LONG, "Yes?"]) as call:
        await call.person.says("Hello.")
        await call.person.interrupts("Stop.", after_s=0.5)
        await call.person.hears()
        assert await call.person.hears() == "Yes?"
    assert len([each for each in call.sent if isinstance(each, ev.ConversationItemTruncate)]) == 1
    assert len(sink.heard) > 48_000


async def test_an_agent_that_cannot_be_interrupted_is_heard_on(place_call: Any) -> None:
    """A sink without `Interruption` plays what had come."""
    async with place_call(Bus(), [LONG, "Yes?"], sink=(sink := NullSink()), plugins=[sink]) as call:
        await call.person.says("Hello.")
        await call.person.interrupts("Stop.", after_s=0.5)
        assert (await call.person.hears()).startswith("First, warm one litre of stock")
        assert await call.person.hears() == "Yes?"
    assert call.barge_ins == []


@pytest.mark.parametrize("audio_format", [ev.AudioPCMU(), ev.AudioPCMA()])
async def test_telephone_quality(audio_format: Any, agent: Bus, place_call: Any) -> None:
    """The person speaks in the session's format."""
    formats = {"input_format": audio_format, "output_format": audio_format}
    async with place_call(agent, ["Nine minutes."], **formats) as call:
        await call.person.says("How long?")
        assert await call.person.hears() == "Nine minutes."


async def test_a_written_answer_is_heard_too(agent: Bus, place_call: Any) -> None:
    """It takes no time."""
    async with place_call(agent, ["Nine minutes."], output_modalities=["text"]) as call:
        await call.person.says("How long?")
        assert await call.person.hears() == "Nine minutes."


async def test_what_the_person_says_is_written_down(agent: Bus, place_call: Any) -> None:
    """Each turn has the words that were said in it."""
    transcription = ev.Transcription(model="whisper-1")
    async with place_call(agent, ["Yes?", "Nine."], transcription=transcription) as call:
        for words in ("Hello there.", "How long does the pasta take?"):
            understood = call.session.wait_for(
                ev.ConversationItemInputAudioTranscriptionCompleted, timeout_s=10
            )
            await call.person.says(words)
            assert (await understood).transcript == words
            await call.person.hears()


async def test_answers_may_be_found_when_they_are_due(agent: Bus, place_call: Any) -> None:
    """By what the model is asked; and it may take its time."""

    async def answer(request: ResponderRequest) -> list[Any]:
        return [Pause(2.0), f"{len(request.items)} item."]

    async with place_call(agent, [answer], latency_s=0) as call:
        await call.person.says("Hello.")
        assert await call.person.hears() == "1 item."
    assert 2.1 < call.answer_times_s[0] < 2.5


async def test_another_responder(agent: Bus, place_call: Any) -> None:
    """Whatever answers the server's clients answers here."""

    class Hums:
        async def respond(self, _request: ResponderRequest) -> AsyncIterator[Speech | ToolCall]:
            yield Speech(bytes(48_000), "Hm, hm.")

    async with place_call(agent, Hums()) as call:
        await call.person.says("Hello.")
        assert await call.person.hears() == "Hm, hm."
        assert call.model is None


async def test_keys_and_hanging_up(agent: Bus, place_call: Any) -> None:
    """They are what the telephony plugin makes of them."""
    pressed: list[str] = []
    ends: list[str] = []
    agent.on(DtmfReceived)(lambda event: pressed.append(event.digit))
    agent.on(CallEnded)(lambda event: ends.append(event.reason))
    async with place_call(agent, [LONG]) as call:
        await call.person.says("Hello.")
        await call.person.keeps_silent(2)
        await call.person.presses("12#")
        await call.person.hangs_up()
        with pytest.raises(AssertionError, match="cannot press 0: the call has ended"):
            await call.person.presses("0")
        with pytest.raises(AssertionError, match="the call ended while the person listened"):
            [await call.person.hears() for _ in range(2)]
    assert pressed == ["1", "2", "#"]
    assert ends == ["stopped"]
    [utterance] = call.utterances
    assert utterance.cut
    assert call.heard == ["First, warm one litre of stock"]


class TestFaults:
    """What goes wrong on order."""

    async def test_a_connection_that_is_cut(self, agent: Bus, place_call: Any) -> None:
        """The session goes on over another one."""
        async with place_call(agent, ["Yes?", "Nine minutes."]) as call:
            await call.person.says("Hello.")
            await call.person.hears()
            reconnected = call.session.wait_for(ev.Reconnected, timeout_s=30)
            call.server.drop()
            await reconnected
            await call.person.says("How long?")
            assert await call.person.hears() == "Nine minutes."
        call.assert_order("Yes?", "no connection (1006)", "reconnected", "Nine minutes")

    async def test_a_connection_that_is_dead(self, agent: Bus, place_call: Any) -> None:
        """What a keepalive finds out, is found out here."""
        plan = [faults.HalfOpen(connection=1, after_s=5)]
        async with place_call(agent, ["Yes?", "Nine."], faults=plan) as call:
            await call.person.says("Hello.")
            await call.person.hears()
            await call.session.wait_for(ev.Reconnected, timeout_s=60)

    async def test_a_session_that_ends(self, agent: Bus, place_call: Any) -> None:
        """Whoever listens then, is told."""
        async with place_call(agent, [LONG], reconnect=False, tolerate={"server_error"}) as call:
            await call.person.says("Hello.")
            call.server.fail()
            with pytest.raises(AssertionError, match="the call ended while the person listened"):
                await call.person.hears()

    async def test_late_deltas_and_a_stall(self, agent: Bus, place_call: Any) -> None:
        """Late audio is not heard."""
        plan = [faults.LateDeltas(), faults.Stall(at="response.created", for_s=2.0)]
        async with place_call(agent, [LONG, "Yes?"], faults=plan) as call:
            await call.person.says("Hello.")
            await call.person.interrupts("Stop.", after_s=0.5)
            await call.person.hears()
            assert await call.person.hears() == "Yes?"
        assert call.answer_times_s[0] > 2
        assert len(call.utterances) == 2

    async def test_any_event(self, agent: Bus, place_call: Any) -> None:
        """The server says what it is told to say."""
        async with place_call(agent) as call:
            pressed = call.session.wait_for(ev.InputAudioBufferDtmfEventReceived, timeout_s=5)
            call.server.send(ev.InputAudioBufferDtmfEventReceived(event="9", received_at=0))
            assert (await pressed).event == "9"


class TestComplaints:
    """What a call is blamed for at its end, and what its messages say."""

    async def test_a_command_that_the_server_refuses(self, agent: Bus, place_call: Any) -> None:
        """With its message, and the time line."""
        with pytest.raises(
            AssertionError, match=r"the server refused: .* does not exist"
        ) as caught:
            async with place_call(agent) as call:
                await call.session.send(ev.ConversationItemDelete(item_id="nobody"))
                await call.settles()
        assert "What happened in the call:\n     0.00 s  session    connected" in str(caught.value)

    async def test_a_rule_of_the_protocol(self, agent: Bus, place_call: Any) -> None:
        """Before the server sees it; what is tolerated is not blamed."""

        async def breaks_it(session: Session) -> None:
            await session.send(ev.ConversationItemDelete(item_id="nobody"))

        tolerated = {"delete-known-item", "item_delete_invalid_item_id"}
        with pytest.raises(AssertionError, match="rule delete-known-item: Only"):
            async with place_call(agent) as call:
                await breaks_it(call.session)
        async with place_call(agent, tolerate=tolerated) as call:
            await breaks_it(call.session)
            await call.settles()

    async def test_a_handler_that_raises(self, agent: Bus, place_call: Any) -> None:
        """By its name."""

        @agent.on(ev.InputAudioBufferSpeechStarted)
        async def clumsy(_event: ev.InputAudioBufferSpeechStarted) -> None:
            raise LookupError("oh")

        with pytest.raises(AssertionError, match=r"clumsy raised LookupError\('oh'\)"):
            async with place_call(agent, ["Yes?"]) as call:
                await call.person.says("Hello.")
                await call.person.hears()
        async with place_call(agent, ["Yes?"], tolerate={"handler_failed"}) as call:
            await call.person.says("Hello.")
            await call.person.hears()

    async def test_an_answer_that_is_not_in_the_script(self, agent: Bus, place_call: Any) -> None:
        """A model that is asked too often is a fault of the agent, or of the test."""
        with pytest.raises(AssertionError, match="asked for 1 answers, and its script has 0"):
            async with place_call(agent) as call:
                await call.person.says("Hello.")
                await call.settles()

    async def test_a_call_that_hangs(self, agent: Bus, place_call: Any) -> None:
        """It says where."""
        with pytest.raises(AssertionError, match=r"within 60 s; it waits in line \d+: await never"):
            async with place_call(agent, limit_s=60):
                never = anyio.Event().wait()
                await never

    async def test_what_the_test_raises_comes_out_as_it_is(
        self, agent: Bus, place_call: Any
    ) -> None:
        """In no group, whatever else is wrong."""
        with pytest.raises(LookupError) as caught:
            async with place_call(agent) as call:
                await call.session.send(ev.ConversationItemDelete(item_id="nobody"))
                raise LookupError("mine")
        assert str(caught.value) == "mine"

    async def test_a_call_that_is_cancelled(self, agent: Bus, place_call: Any) -> None:
        """It ends, and nobody is blamed."""
        with anyio.move_on_after(5) as scope:
            async with place_call(agent):
                await anyio.sleep(60)
        assert scope.cancelled_caught

    async def test_what_assertions_say(self, agent: Bus, place_call: Any) -> None:
        """What was wanted, what there was, and the time line."""
        async with place_call(agent, [tool_call("look_up", dish="rice"), LONG]) as call:
            await call.person.says("How long?")
            await call.person.hears()
        for check, says in (
            (lambda: call.assert_heard("keep it hot", "small pot"), "'small pot' was not heard"),
            (lambda: call.assert_called("look_up", dish="pasta"), "called was: look_up"),
            (lambda: call.assert_not_called("look_up"), "look_up(dish='rice') was called"),
            (lambda: call.assert_order("First, warm", "calls look_up"), "after 'First, warm'"),
            (lambda: call.assert_within(answer_s=0.1), "an answer took 1."),
            (lambda: call.assert_within(silence_s=0.1), "there was no silence"),
        ):
            with pytest.raises(AssertionError) as caught:
                check()
            message = str(caught.value)
            assert says in message
            assert "assistant  calls look_up(dish='rice')" in message

    async def test_interrupting_too_late_and_listening_in_vain(
        self, agent: Bus, place_call: Any
    ) -> None:
        """A person who cannot do what the test wants says so."""
        async with place_call(agent, ["Nine."]) as call:
            await call.person.says("How long?")
            with pytest.raises(AssertionError, match=r"but 'Nine\.' was over after 0.325 s"):
                await call.person.interrupts("Stop.", after_s=3)
            await call.person.hears()
            with pytest.raises(AssertionError, match="heard nothing within 5 s"):
                await call.person.hears(within_s=5)

    async def test_a_call_that_does_not_come_to_rest(self, place_call: Any) -> None:
        """It says what goes on."""
        async with place_call(Bus(), [tool_call("nobody")]) as call:
            await call.person.says("Hello.")
            with pytest.raises(AssertionError, match=r"within 20 s: nobody\(\) is not answered"):
                await call.settles(within_s=20)


async def test_two_calls_at_once(agent: Bus, place_call: Any) -> None:
    """One bus serves both, and each has a person and a model of its own."""
    async with (
        place_call(agent, ["Nine minutes."]) as one,
        place_call(agent, ["Ten minutes."]) as two,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(one.person.says, "How long does the pasta take?")
        tasks.start_soon(two.person.says, "And the rice?")
        assert await two.person.hears() == "Ten minutes."
        assert await one.person.hears() == "Nine minutes."


async def test_an_interruption_without_speech(agent: Bus, place_call: Any) -> None:
    """A button may cut the assistant off, too; that is no barge-in of the person's."""
    sink = NullSink()
    button = Interruption(sink)
    async with place_call(Bus(plugins=[sink, button]), [LONG]) as call:
        await call.person.says("Hello.")
        await call.session.wait_for("response.output_audio.delta", timeout_s=5)
        await anyio.sleep(3)
        assert isinstance(button.interrupt(call.session), PlaybackInterrupted)
        assert call.utterances[0].cut
    assert call.barge_ins == []


def test_a_model_takes_more_answers() -> None:
    """A test may go on with a call that it began."""
    model = ScriptedModel("Hello.")
    model.then("Yes?", tool_call("f"))
    assert model.left == ["Hello.", "Yes?", ToolCall("f", "{}")]

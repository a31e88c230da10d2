"""Responses: who may start one, how it is paced, what it costs, and how it ends."""

import pytest

from realtime_bus import events as ev
from realtime_bus.server import Speech, Text, ToolCall
from realtime_bus.server._audio import OutputConverter

from ._world import World, only_error, speech, spoken, types, user_message

DELTA = ev.ResponseOutputAudioDelta


def _create(**params: object) -> dict[str, object]:
    return {"type": "response.create", "event_id": "mine", "response": params}


def test_a_second_response_is_refused_and_names_the_first() -> None:
    """There is one active response in the default conversation."""
    world = World(spoken(5000))
    world.send(ev.ResponseCreate())
    active_id = world.last(ev.ResponseCreated).response.id
    error = only_error(world.send(_create()))
    assert error.code == "conversation_already_has_active_response"
    assert active_id in error.message
    assert error.event_id == "mine"


def test_responses_out_of_band_run_beside() -> None:
    """They need no free conversation, and speech does not cancel them."""
    world = World(spoken(8000), spoken(8000))
    world.send(ev.ResponseCreate(), _create(conversation="none"))
    both = {e.response.id for e in world.events if isinstance(e, ev.ResponseCreated)}
    assert len(both) == 2
    world.say(speech(300))
    done = [e.response for e in world.events if isinstance(e, ev.ResponseDone)]
    assert [response.conversation_id for response in done] == ["conv_1"]
    out_of_band = (both - {done[0].id}).pop()
    answer = world.send(ev.ResponseCancel(response_id=out_of_band))
    assert answer[-2].response.status_details.reason == "client_cancelled"


def test_too_many_responses_are_refused() -> None:
    """Those out of band have a limit too."""
    world = World(manual=True, max_responses=2)
    assert types(world.send(_create(conversation="none"), _create(conversation="none"))) == [
        "response.created",
        "response.created",
    ]
    assert only_error(world.send(_create(conversation="none"))).code == "rate_limit_exceeded"


@pytest.mark.parametrize("response_id", [None, "resp_nobody"])
def test_cancel_with_nothing_active(response_id: str | None) -> None:
    """A cancel that comes too late is an error, and harmless."""
    world = World()
    error = only_error(world.send(ev.ResponseCancel(response_id=response_id, event_id="c")))
    assert (error.code, error.event_id) == ("response_cancel_not_active", "c")


def test_what_a_cancelled_responder_makes_is_not_heard() -> None:
    """Late pieces, and a late end, of a cancelled response go nowhere."""
    world = World(manual=True)
    world.send(ev.ResponseCreate())
    response_id = world.started[0].response_id
    world.send(ev.ResponseCancel())
    world.protocol.responder_made(response_id, Text("late"))
    world.protocol.responder_finished(response_id)
    world.protocol.responder_failed(response_id, "late")
    assert world.run(5) == []


def test_a_failed_responder_fails_the_response() -> None:
    """What is open is ended, the status tells why, and the session goes on."""
    world = World(manual=True)
    world.send(ev.ResponseCreate())
    first = world.started[0].response_id
    world.protocol.responder_made(first, Speech(bytes(4800), "Half a"))
    world.run(1)
    world.protocol.responder_failed(first, "out of words")
    world.run(1)
    response = world.last(ev.ResponseDone).response
    assert response.status == "failed"
    assert response.status_details.error.message == "out of words"
    assert response.output[0].status == "incomplete"
    assert types(world.send(ev.ResponseCreate())) == ["response.created"]


def test_a_silent_responder_completes_without_output() -> None:
    """Nothing made is nothing said."""
    world = World([])
    answer = world.send(ev.ResponseCreate())
    assert types(answer)[:2] == ["response.created", "response.done"]
    assert (answer[1].response.status, answer[1].response.output) == ("completed", [])


def _spread(world: World) -> list[tuple[float, int]]:
    """Run a response; return when each delta came, and how many bytes it had."""
    world.send(ev.ResponseCreate())
    start_s, seen, found = world.now_s, 0, []
    while True:
        deltas = [e for e in world.events[seen:] if isinstance(e, DELTA)]
        seen = len(world.events)
        found += [(world.now_s - start_s, len(e.delta)) for e in deltas]
        if any(isinstance(e, ev.ResponseDone) for e in world.events):
            return found
        world.run_until(ev.ServerEvent)


@pytest.mark.parametrize("pace", [1.0, 4.0, 20.0])
def test_audio_is_paced(pace: float) -> None:
    """What was sent never plays longer than the pace allows, nor does it lag."""
    spread = _spread(World(spoken(6000), pace=pace))
    sent_ms = 0.0
    for at_s, size in spread:
        assert at_s == pytest.approx(sent_ms / 1000 / pace, abs=0.001)
        sent_ms += size / 48
    assert sent_ms == 6000


def test_unlimited_pace_sends_at_once() -> None:
    """With an infinite pace all audio goes out when it is made."""
    assert {at_s for at_s, _ in _spread(World(spoken(6000), pace=float("inf")))} == {0.0}


def test_deltas_vary_and_are_whole_samples() -> None:
    """Clients must not rely on a size, but may on whole samples."""
    sizes = {size for _, size in _spread(World(spoken(6000)))}
    assert len(sizes) > 3
    assert all(size % 2 == 0 for size in sizes)


def test_odd_splits() -> None:
    """With the knob, samples are cut in two, and nothing is lost."""
    sizes = [size for _, size in _spread(World(spoken(6000), odd_splits=True))]
    assert any(size % 2 for size in sizes)
    assert sum(sizes) == 6000 * 48


def test_stalls() -> None:
    """With the knob, sending stops every so often."""
    spread = _spread(World(spoken(3000), stall_every_ms=1000, stall_s=2.0))
    assert spread[-1][0] == pytest.approx(3000 / 4000 + 2 * 2.0, abs=0.2)


def test_a_client_that_does_not_read_is_not_spoken_to() -> None:
    """A session that is held says nothing, and does not make up for it in a burst."""
    world = World(spoken(20_000))
    world.send(ev.ResponseCreate())
    world.run(0.5)
    world.protocol.held = True
    assert world.run(3) == []
    world.protocol.held = False
    resumed_s = world.now_s
    burst = [e for e in world.run(0.1) if isinstance(e, DELTA)]
    assert sum(len(e.delta) for e in burst) <= (0.1 + 0.05) * 4 * 48_000 + 250 * 48
    assert world.now_s == pytest.approx(resumed_s + 0.1)


def test_a_fast_responder_has_to_wait() -> None:
    """With seconds of audio unsent there is no room for more, until some was sent."""
    world = World(manual=True)
    world.send(ev.ResponseCreate())
    response_id = world.started[0].response_id
    made = 0
    while world.protocol.responder_may_go_on(response_id):
        world.protocol.responder_made(response_id, Speech(bytes(48_000)))
        made += 1
    assert made == 10
    world.run(1)
    assert world.protocol.responder_may_go_on(response_id)


def test_the_transcript_goes_with_the_audio() -> None:
    """A sentence is told when the audio before it was sent, not before."""
    answer = [Speech(bytes(48_000), "One. "), Speech(bytes(48_000), "Two.")]
    world = World(answer)
    world.send(ev.ResponseCreate())
    world.run(5)
    kinds = [e for e in world.events if e.type.endswith(".delta")]
    second = next(i for i, e in enumerate(kinds) if getattr(e, "delta", "") == "Two.")
    before = sum(len(e.delta) for e in kinds[:second] if isinstance(e, DELTA))
    assert 48_000 <= before < 48_000 + 250 * 48


def test_the_transcript_can_run_ahead() -> None:
    """With the knob, the next sentence is told while the one before is spoken."""
    answer = [Speech(bytes(48_000), "One. "), Speech(bytes(48_000), "Two.")]
    world = World(answer, transcript_ahead_ms=1000)
    first = world.send(ev.ResponseCreate())
    words = [e.delta for e in first if isinstance(e, ev.ResponseOutputAudioTranscriptDelta)]
    assert words == ["One. ", "Two."]


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_g711_out(kind: str) -> None:
    """G.711 output is the same audio, and as long."""
    world = World(spoken(1000))
    world.update(audio={"output": {"format": {"type": kind}}})
    world.send(ev.ResponseCreate())
    world.run(5)
    sent = b"".join(e.delta for e in world.events if isinstance(e, DELTA))
    converter = OutputConverter(world.last(ev.SessionUpdated).session.audio.output.format)
    made = converter.feed(b"\x10\x00" * 24_000) + converter.flush()
    assert sent == made
    item_id = world.last(ev.ResponseOutputAudioDone).item_id
    too_long = ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=1002)
    assert only_error(world.send(too_long)).param == "audio_end_ms"


def test_a_response_can_have_its_own_format() -> None:
    """Its settings hold for it alone."""
    world = World(spoken(200), spoken(200))
    world.send(_create(audio={"output": {"format": {"type": "audio/pcmu"}}}))
    world.run(5)
    assert sum(len(e.delta) for e in world.events if isinstance(e, DELTA)) == 200 * 8
    created = world.last(ev.ResponseCreated).response
    assert created.audio.output.format == ev.AudioPCMU()
    world.send(ev.ResponseCreate())
    world.run(5)
    assert world.last(ev.ResponseCreated).response.audio.output.format == ev.AudioPCM()


@pytest.mark.parametrize("answer", [[Text("word " * 40)], spoken(5000, "word " * 40)])
def test_max_output_tokens_cut_a_response_short(answer: list[Text | Speech]) -> None:
    """It ends incomplete, says why, and has cost no more than was allowed."""
    world = World(answer)
    world.send(_create(max_output_tokens=20))
    world.run(10)
    response = world.last(ev.ResponseDone).response
    assert (response.status, response.status_details.reason) == ("incomplete", "max_output_tokens")
    assert response.usage.output_tokens == 20
    assert response.output[0].status == "incomplete"
    assert response.max_output_tokens == 20


def test_max_output_tokens_cut_audio_short() -> None:
    """A reply that is long in sound but not in words ends in the middle of the sound."""
    world = World(spoken(5000, "Aaah"))
    world.send(_create(max_output_tokens=20))
    world.run(10)
    assert sum(len(e.delta) for e in world.events if isinstance(e, DELTA)) == 19 * 50 * 48
    response = world.last(ev.ResponseDone).response
    assert (response.status, response.usage.output_tokens) == ("incomplete", 20)


def test_max_output_tokens_cut_a_call_short() -> None:
    """The arguments end in the middle, as models' arguments then do."""
    world = World([ToolCall("f", '{"text": "' + "x" * 400 + '"}')])
    world.send(_create(max_output_tokens=20))
    response = world.last(ev.ResponseDone).response
    assert response.status == "incomplete"
    assert response.output[0].status == "incomplete"
    assert len(response.output[0].arguments) < 100


def test_usage_adds_up() -> None:
    """Tokens are estimated from lengths, and every part is in its total."""
    world = World(spoken(2000, "Eight!!!"))
    world.update(instructions="x" * 40)
    world.user_turn()
    world.run(5)
    usage = world.last(ev.ResponseDone).response.usage
    assert usage.output_token_details == ev.OutputTokenDetails(text_tokens=2, audio_tokens=40)
    assert usage.input_token_details.text_tokens == 10
    assert usage.input_token_details.audio_tokens == pytest.approx(10, abs=1)
    assert usage.input_token_details.cached_tokens == 0
    details = usage.input_token_details
    total_in = details.text_tokens + details.audio_tokens + details.image_tokens
    assert usage.input_tokens == total_in
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_what_a_responder_is_asked() -> None:
    """It gets the conversation, the settings in force, and what the user has just said."""
    world = World(manual=True)
    world.update(instructions="Be brief.", tools=[{"type": "function", "name": "f"}])
    world.send(user_message("Hello"))
    world.user_turn(1000)
    request = world.started[0].request
    assert [item.role for item in request.items] == ["user", "user"]
    assert (request.instructions, request.modalities) == ("Be brief.", ("audio",))
    assert [tool.name for tool in request.tools] == ["f"]
    assert len(request.last_user_audio) / 48 == pytest.approx(1500, abs=40)
    assert (request.response_index, request.session_id) == (0, "sess_1")


def test_input_replaces_the_context() -> None:
    """References are looked up; an unknown one is refused."""
    world = World(manual=True)
    world.send(user_message("one", id="a"), user_message("two", id="b"))
    world.send(_create(conversation="none", input=[{"type": "item_reference", "id": "b"}]))
    assert [item.id for item in world.started[0].request.items] == ["b"]
    error = only_error(world.send(_create(input=[{"type": "item_reference", "id": "c"}])))
    assert error.param == "response.input[0].id"


@pytest.mark.parametrize(
    ("place", "index"), [("after_created", 1), ("before_done", -2), ("after_done", -1)]
)
def test_rate_limits_have_no_fixed_place(place: str, index: int) -> None:
    """With the knob they come at the start, before or after the end."""
    answer = World([Text("x")], rate_limits=place).send(ev.ResponseCreate())
    assert types(answer).index("rate_limits.updated") == index % len(types(answer))


def test_no_rate_limits() -> None:
    """With the knob they do not come."""
    answer = World([Text("x")], rate_limits="none").send(ev.ResponseCreate())
    assert answer[-1].type == "response.done"


@pytest.mark.parametrize("order", ["conversation", "output"])
def test_the_order_of_item_done(order: str) -> None:
    """With the knob one of the two events that end an item always comes first."""
    world = World(spoken(100), item_done=order)
    world.send(ev.ResponseCreate())
    found = types(world.run(2))
    conversation_first = found.index("conversation.item.done") < found.index(
        "response.output_item.done"
    )
    assert conversation_first is (order == "conversation")


def test_late_deltas() -> None:
    """With the knob, audio still comes after the speech that interrupts it."""
    world = World(spoken(10_000), late_deltas=3)
    world.user_turn()
    world.run(0.2)
    said = world.user_turn()
    late = [event for event in said if isinstance(event, DELTA)]
    assert said[0].type == "input_audio_buffer.speech_started"
    assert len(late) == 3


def test_done_without_created() -> None:
    """With the knob, a response that is cancelled at once was never seen created."""
    world = World(manual=True, done_without_created=True)
    assert world.send(ev.ResponseCreate()) == []
    assert types(world.send(ev.ResponseCancel()))[0] == "response.done"


def test_created_is_only_held_back_until_there_is_output() -> None:
    """With the same knob, a response that comes to something is created first."""
    world = World([Text("x")], done_without_created=True)
    assert types(world.send(ev.ResponseCreate()))[0] == "response.created"


def test_conversation_created() -> None:
    """With the knob it follows session.created."""
    assert World(announce_conversation=True).types() == ["session.created", "conversation.created"]


def test_failing_transcription() -> None:
    """The turn goes on without its words."""
    world = World(words=lambda _: None)
    world.update(audio={"input": {"transcription": {"model": "whisper-1"}}})
    world.user_turn()
    failed = world.last(ev.ConversationItemInputAudioTranscriptionFailed)
    assert (failed.error.type, failed.error.code) == ("transcription_error", "audio_unintelligible")
    assert "response.done" in world.types()


def test_close_on_error() -> None:
    """With the knob every error is the end."""
    world = World(close_on_error=True)
    world.send(ev.ResponseCancel())
    assert world.close is not None
    assert world.close.reason == "invalid_request_error.response_cancel_not_active"

"""The flows of the Realtime protocol, each as the recorded sequence of events."""

from realtime_bus import events as ev
from realtime_bus.server import Speech, Text, ToolCall

from ._world import World, silence, speech, spoken, types, user_message

AUDIO = "response.output_audio.delta"
WORDS = "response.output_audio_transcript.delta"
DONE = ["response.done", "rate_limits.updated"]


def test_connect() -> None:
    """A session begins with its full settings and its time of expiry."""
    world = World()
    assert world.types() == ["session.created"]
    session = world.last(ev.SessionCreated).session
    assert session.model == "test-model"
    assert session.expires_at == 1_700_003_600
    assert session.audio.input.turn_detection == ev.ServerVad(
        threshold=0.5,
        prefix_padding_ms=300,
        silence_duration_ms=200,
        create_response=True,
        interrupt_response=True,
        idle_timeout_ms=None,
    )


def test_turn_with_server_vad_and_audio_reply() -> None:
    """Speech becomes an item, and the item a spoken reply, in the recorded order."""
    world = World(spoken(1000))
    world.say(silence(400), speech(500), silence(400))
    world.run(5)
    assert world.types()[1:] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        WORDS,
        AUDIO,
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        *DONE,
    ]


def test_the_ids_of_a_turn_hang_together() -> None:
    """The announced id is the item's, the reply follows it, and every event is unique."""
    world = World(spoken(300))
    world.user_turn()
    world.run(5)
    user_id = world.last(ev.InputAudioBufferSpeechStarted).item_id
    assert world.last(ev.InputAudioBufferSpeechStopped).item_id == user_id
    assert world.last(ev.InputAudioBufferCommitted).item_id == user_id
    assert world.last(ev.ConversationItemAdded).previous_item_id == user_id
    assert len({event.event_id for event in world.events}) == len(world.events)


def test_manual_commit() -> None:
    """Without turn detection the client commits, and asks for the response itself."""
    world = World([Text("Yes.")])
    world.update(audio={"input": {"turn_detection": None}})
    assert types(world.send(ev.InputAudioBufferClear())) == ["input_audio_buffer.cleared"]
    assert world.say(speech(500)) == []
    assert types(world.send(ev.InputAudioBufferCommit())) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert types(world.send(ev.ResponseCreate()))[0] == "response.created"


def test_text_turn() -> None:
    """A written reply has text events and no audio."""
    world = World([Text("Good "), Text("morning.")])
    world.send(user_message())
    params = ev.ResponseCreateParams(output_modalities=["text"])
    answer = world.send(ev.ResponseCreate(response=params))
    assert types(answer) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        *DONE,
    ]
    assert world.last(ev.ResponseOutputTextDone).text == "Good morning."
    (limit,) = world.last(ev.RateLimitsUpdated).rate_limits
    assert limit.name == "tokens"


def test_function_call_round() -> None:
    """A call is announced with name and id; its output is taken, and spoken about."""
    call = ToolCall("set_timer", '{"minutes": 9, "label": "pasta"}', "call_x")
    world = World([call], spoken(200))
    assert types(world.send(ev.ResponseCreate())) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "conversation.item.done",
        *DONE,
    ]
    added = world.last(ev.ResponseOutputItemAdded).item
    assert (added.name, added.call_id, added.arguments) == ("set_timer", "call_x", "")
    done = world.last(ev.ResponseDone).response
    assert [item.arguments for item in done.output] == [call.arguments]
    output = ev.FunctionCallOutputItem(call_id="call_x", output="")
    assert types(world.send(ev.ConversationItemCreate(item=output))) == [
        "conversation.item.added",
        "conversation.item.done",
    ]
    world.send(ev.ResponseCreate())
    assert world.run(5)[-2].type == "response.done"


def test_preamble_before_parallel_calls() -> None:
    """A message and two calls are three items of one response, one after the other."""
    world = World([Speech(bytes(4800), "Let me see."), ToolCall("a"), ToolCall("b")])
    world.send(ev.ResponseCreate())
    world.run(5)
    added = [e.output_index for e in world.events if isinstance(e, ev.ResponseOutputItemAdded)]
    assert added == [0, 1, 2]
    kinds = [item.type for item in world.last(ev.ResponseDone).response.output]
    assert kinds == ["message", "function_call", "function_call"]


def _interrupt(world: World) -> list[ev.ServerEvent]:
    """Get the assistant to speak, then speak over it."""
    world.user_turn()
    world.run(0.2)
    return world.say(silence(200), speech(300))


def test_barge_in() -> None:
    """Speech ends the running reply in the recorded order, with its reason."""
    world = World(spoken(10_000))
    assert types(_interrupt(world)) == [
        "input_audio_buffer.speech_started",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        *DONE,
    ]
    response = world.last(ev.ResponseDone).response
    assert (response.status, response.status_details.reason) == ("cancelled", "turn_detected")
    assert response.output[0].status == "incomplete"
    assert world.last(ev.ConversationItemDone).item.status == "incomplete"
    assert world.run(5) == []


def test_the_client_truncates_after_barge_in() -> None:
    """What was heard is kept, and confirmed in the client's words."""
    world = World(spoken(10_000), spoken(200))
    _interrupt(world)
    item_id = world.last(ev.ResponseOutputAudioDone).item_id
    truncate = ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=150)
    answer = world.send(truncate)
    assert types(answer) == ["conversation.item.truncated"]
    assert (answer[0].item_id, answer[0].audio_end_ms) == (item_id, 150)
    stopped = world.say(silence(400))
    assert types(stopped)[:2] == [
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
    ]
    retrieved = world.send(ev.ConversationItemRetrieve(item_id=item_id))[0].item
    assert len(retrieved.content[0].audio) == 150 * 48
    assert retrieved.content[0].transcript is None


def test_barge_in_after_all_audio_was_sent() -> None:
    """A response that has been sent whole is not cancelled: nothing but the speech is told."""
    world = World(spoken(1000))
    world.user_turn()
    world.run(5)
    said = world.say(silence(200), speech(300))
    assert types(said) == ["input_audio_buffer.speech_started"]


def test_barge_in_before_any_output() -> None:
    """A response without output is just done: nothing came out, nothing was spent."""
    world = World(manual=True)
    world.user_turn()
    said = world.say(speech(300))
    assert types(said) == ["input_audio_buffer.speech_started", *DONE]
    response = world.last(ev.ResponseDone).response
    assert (response.output, response.usage.total_tokens) == ([], 0)
    assert world.cancelled == [response.id]


def test_cancel_by_the_client() -> None:
    """A cancel ends what is open, and says who wanted it."""
    world = World(spoken(10_000))
    world.send(ev.ResponseCreate())
    world.run(0.3)
    assert types(world.send(ev.ResponseCancel())) == [
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        *DONE,
    ]
    details = world.last(ev.ResponseDone).response.status_details
    assert (details.type, details.reason) == ("cancelled", "client_cancelled")


def test_out_of_band_response() -> None:
    """It has no conversation and leaves no trace there; its metadata comes back twice."""
    world = World([Text("billing")])
    params = ev.ResponseCreateParams(
        conversation="none", metadata={"k": "v"}, input=[], output_modalities=["text"]
    )
    answer = world.send(ev.ResponseCreate(response=params))
    assert types(answer) == [
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        *DONE,
    ]
    for event in (answer[0], answer[-2]):
        assert event.response.conversation_id is None
        assert event.response.metadata == {"k": "v"}


def test_transcription_may_end_after_the_reply() -> None:
    """The words of a turn come when they are ready, one delta and the whole."""
    world = World(spoken(200), words=lambda turn: f"turn {turn}", transcription_delay_s=10)
    world.update(audio={"input": {"transcription": {"model": "whisper-1"}}})
    world.user_turn()
    assert types(world.run(9))[-1] == "rate_limits.updated"
    assert types(world.run(2)) == [
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
    ]
    completed = world.events[-1]
    assert completed.transcript == "turn 0"
    committed_ms = completed.usage.seconds * 1000
    assert committed_ms == world.last(ev.InputAudioBufferSpeechStopped).audio_end_ms - (
        world.last(ev.InputAudioBufferSpeechStarted).audio_start_ms
    )


def test_idle_timeout() -> None:
    """After the reply has played and nobody spoke, the model speaks up by itself."""
    world = World(spoken(2000), spoken(200))
    detection = {"type": "server_vad", "idle_timeout_ms": 5000}
    world.update(audio={"input": {"turn_detection": detection}})
    world.user_turn()
    world.run_until(ev.ResponseDone)
    done_s = world.now_s
    world.say(silence(6000))
    world.run_until(ev.InputAudioBufferTimeoutTriggered)
    assert world.now_s == done_s + 2 + 5
    triggered = world.last(ev.InputAudioBufferTimeoutTriggered)
    assert triggered.audio_end_ms - triggered.audio_start_ms == 5000
    world.run(1)
    start = world.events.index(triggered)
    assert types(world.events[start:])[1:5] == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]


def test_transcription_session() -> None:
    """It detects, commits and transcribes, and never responds."""
    world = World(kind="transcription", words=lambda _: "hello")
    audio = {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}
    session = {"type": "transcription", "audio": audio}
    assert types(world.send({"type": "session.update", "session": session})) == ["session.updated"]
    assert types(world.user_turn()) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
    ]
    assert world.send(ev.ResponseCreate())[0].error.code == "invalid_value"


def test_session_expiry() -> None:
    """At the end of its life a session says so and closes."""
    world = World(session_life_s=60)
    world.run(59)
    assert world.close is None
    assert types(world.run(2)) == ["error"]
    assert world.last(ev.Error).error.code == "session_expired"
    assert world.close is not None
    assert world.close.code == 1001
    assert world.send(ev.ResponseCreate()) == []

"""What other people's clients send, and what they need to find on the wire."""

from typing import Any

import pytest

from realtime_bus import events as ev
from realtime_bus.server import ToolCall

from ._world import World, only_error, silence, speech, spoken, types, user_message


def wire(world: World, kind: str) -> list[dict[str, Any]]:
    """Return the events of a type as they went over the wire."""
    return [plain for plain in world.wire if plain["type"] == kind]


# What is null at OpenAI is null here


def test_a_users_audio_has_a_transcript_that_is_null() -> None:
    """Schemas of clients require the key: agents-realtime dies without it."""
    world = World()
    world.user_turn()
    parts = [wire(world, f"conversation.item.{step}")[0]["item"]["content"] for step in STEPS]
    assert parts == [[{"type": "input_audio", "transcript": None}]] * 2


STEPS = ("added", "done")


def test_a_retrieved_item_has_its_transcript_beside_its_audio() -> None:
    """Null for a turn that nobody wrote down, null for a reply that was cut."""
    world = World(spoken(1000))
    world.user_turn()
    world.run()
    user_id, item_id = (item["item"]["id"] for item in wire(world, "conversation.item.added"))
    world.send(
        ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=100),
        ev.ConversationItemRetrieve(item_id=user_id),
        ev.ConversationItemRetrieve(item_id=item_id),
    )
    found = [plain["item"]["content"][0] for plain in wire(world, "conversation.item.retrieved")]
    assert [set(part) for part in found] == [{"type", "transcript", "audio"}] * 2
    assert [part["transcript"] for part in found] == [None, None]


def test_audio_in_a_clients_message_has_a_transcript_too() -> None:
    """The echo of a message that brought audio shows it without its bytes."""
    world = World()
    part = {"type": "input_audio", "audio": "AAAA"}
    item = {"type": "message", "role": "user", "content": [part]}
    world.send({"type": "conversation.item.create", "item": item})
    (added,) = wire(world, "conversation.item.added")
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]


def test_the_echo_of_transcription_shows_what_it_goes_without() -> None:
    """Language and prompt are null where the client gave none."""
    world = World()
    world.update(audio={"input": {"transcription": {"model": "whisper-1"}}})
    shown = wire(world, "session.updated")[0]["session"]["audio"]["input"]["transcription"]
    assert shown == {"model": "whisper-1", "language": None, "prompt": None}


def test_a_transcription_sessions_turn_detection_has_nothing_of_responses() -> None:
    """It says when a turn is over, and no word of responses that do not exist there."""
    world = World(kind="transcription")
    shown = wire(world, "session.created")[0]["session"]["audio"]["input"]["turn_detection"]
    assert shown == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 200,
    }


def test_what_options_leave_out_stays_out() -> None:
    """A server that omits nulls omits these."""
    world = World(omit_nulls=True)
    world.user_turn()
    (added,) = wire(world, "conversation.item.added")[:1]
    assert added["item"]["content"] == [{"type": "input_audio"}]


# Null is the default


@pytest.mark.parametrize(
    "name",
    [
        "conversation",
        "input",
        "instructions",
        "output_modalities",
        "audio",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "max_output_tokens",
        "metadata",
        "prompt",
    ],
)
def test_null_in_a_response_is_the_sessions_setting(name: str) -> None:
    """LiveKit sends ``"instructions": null`` with every tool round trip."""
    world = World(manual=True)
    tool = {"type": "function", "name": "look_up"}
    world.update(instructions="Be brief.", tools=[tool], max_output_tokens=200)
    world.send(user_message("Hi"))
    assert types(world.send({"type": "response.create", "response": {name: None}})) == [
        "response.created"
    ]
    request = world.started[0].request
    assert request.instructions == "Be brief."
    assert [part.name for part in request.tools] == ["look_up"]
    assert (len(request.items), request.modalities) == (1, ("audio",))
    response = world.last(ev.ResponseCreated).response
    assert (response.max_output_tokens, response.conversation_id) == (200, "conv_1")


def test_nulls_deeper_in_a_response_are_the_sessions_settings() -> None:
    """Format and voice, and what a tool leaves open."""
    world = World(manual=True)
    tool = {"type": "function", "name": "a", "description": None, "parameters": None}
    response = {"audio": {"output": {"format": None, "voice": None}}, "tools": [tool]}
    assert types(world.send({"type": "response.create", "response": response})) == [
        "response.created"
    ]
    output = world.last(ev.ResponseCreated).response.audio.output
    assert (output.format, output.voice) == (ev.AudioPCM(), "marin")
    assert types(world.send({"type": "response.create", "response": None})) == ["error"]  # busy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instructions", "Be brief."),
        ("output_modalities", ["text"]),
        ("tools", [{"type": "function", "name": "look_up"}]),
        ("tool_choice", "required"),
        ("max_output_tokens", 100),
        ("truncation", "disabled"),
        ("reasoning", {"effort": "high"}),
        ("parallel_tool_calls", True),
        ("include", ["item.input_audio_transcription.logprobs"]),
    ],
)
def test_null_in_a_session_puts_the_default_back(name: str, value: Any) -> None:
    """Whatever it was, and whether the schema has a place for null or not."""
    world = World()
    default = wire(world, "session.created")[0]["session"][name]
    world.update(**{name: value})
    assert wire(world, "session.updated")[0]["session"][name] == value
    assert types(world.update(**{name: None})) == ["session.updated"]
    assert wire(world, "session.updated")[1]["session"][name] == default


def test_nulls_deeper_in_a_session_put_defaults_back() -> None:
    """Format, voice, speed and the members of an object."""
    world = World()
    default = wire(world, "session.created")[0]["session"]["audio"]
    world.update(
        audio={
            "input": {"format": {"type": "audio/pcmu"}, "noise_reduction": {"type": "near_field"}},
            "output": {"format": {"type": "audio/pcma"}, "voice": "ash", "speed": 1.2},
        }
    )
    detection = {"type": "server_vad", "threshold": None}
    world.update(
        audio={
            "input": {"format": None, "noise_reduction": None, "turn_detection": detection},
            "output": {"format": None, "voice": None, "speed": None},
        }
    )
    assert wire(world, "session.updated")[1]["session"]["audio"] == default
    world.update(audio={"input": None, "output": {"speed": 1.1}})
    world.update(audio=None)
    assert wire(world, "session.updated")[3]["session"]["audio"] == default


def test_a_null_that_is_required_is_missing() -> None:
    """There is no default for what has to be there."""
    world = World()
    tool = {"type": "function", "name": None}
    error = only_error(world.update(tools=[tool]))
    assert (error.code, error.param) == ("missing_required_parameter", "session.tools[0].name")
    error = only_error(world.send({"type": "session.update", "session": None}))
    assert (error.code, error.param) == ("missing_required_parameter", "session")
    error = only_error(world.update(tools=[None]))
    assert (error.code, error.param) == ("invalid_value", "session.tools[0]")


# Models


@pytest.mark.parametrize("model", ["gpt-realtime-whisper", "gpt-live-transcribe"])
def test_a_streaming_transcriber_beside_turn_detection(model: str) -> None:
    """A conversation may have both, as Pipecat does; a transcription session may not."""
    audio = {"input": {"transcription": {"model": model}}}
    assert types(World().update(audio=audio)) == ["session.updated"]
    update = {"type": "session.update", "session": {"type": "transcription", "audio": audio}}
    error = only_error(World(kind="transcription").send(update))
    assert error.param == "session.audio.input.turn_detection"


def test_an_address_that_says_any_takes_the_clients_model() -> None:
    """The first that the client names; from then on it is fixed, as everywhere."""
    world = World(model="any")
    world.update(model="gpt-realtime-2", instructions="Be brief.")
    session = world.last(ev.SessionUpdated).session
    assert (session.model, session.instructions) == ("gpt-realtime-2", "Be brief.")
    assert types(world.update(model="gpt-realtime-2")) == ["session.updated"]
    assert only_error(world.update(model="gpt-realtime")).param == "session.model"


# Truncation


def test_a_reply_of_which_nothing_was_heard_may_be_cut_to_nothing() -> None:
    """openai-agents truncates at 0 ms when it interrupts at once."""
    world = World(spoken(1000))
    world.send(ev.ResponseCreate())
    world.run()
    item_id = wire(world, "response.output_item.added")[0]["item"]["id"]
    truncate = ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=0)
    assert types(world.send(truncate)) == ["conversation.item.truncated"]
    assert types(world.send(truncate)) == ["conversation.item.truncated"]
    world.send(ev.ConversationItemRetrieve(item_id=item_id))
    part = wire(world, "conversation.item.retrieved")[0]["item"]["content"][0]
    assert (part["audio"], part["transcript"]) == ("", None)
    longer = ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=1)
    assert only_error(world.send(longer)).param == "audio_end_ms"


def test_a_reply_without_audio_yet_cannot_be_truncated() -> None:
    """Neither one that has only begun nor one of text: the error is the service's."""
    world = World(manual=True)
    world.send(ev.ResponseCreate())
    world.protocol.responder_made("resp_1", spoken(0, "Hm.")[0])
    world.run(1)
    item_id = wire(world, "response.output_item.added")[0]["item"]["id"]
    truncate = ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=0)
    error = only_error(world.send(truncate))
    assert error.code == "unsupported_content_type"
    assert error.message.startswith("Only model output audio messages can be truncated")


# Items


def test_an_item_that_exists_is_refused_in_the_services_words() -> None:
    """LiveKit takes exactly this code for success."""
    world = World()
    world.send(user_message(id="mine"))
    error = only_error(world.send(user_message(id="mine")))
    assert error == ev.ErrorDetails(
        type="invalid_request_error",
        code="item_create_duplicate_item_id",
        message="Error adding item: an item with id 'mine' already exists.",
        param=None,
        event_id=None,
    )


def test_every_event_of_a_conversation_has_an_id_of_its_own() -> None:
    """No two events share one, and none is without."""
    world = World(spoken(300), [ToolCall("look_up")])
    world.say(silence(400), speech(500), silence(400))
    world.run()
    world.user_turn()
    world.run()
    ids = [plain["event_id"] for plain in world.wire]
    assert all(ids)
    assert len(set(ids)) == len(ids)

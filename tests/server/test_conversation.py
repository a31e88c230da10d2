"""Items: created, placed, retrieved, truncated, deleted."""

import pytest

from realtime_bus import events as ev
from realtime_bus.server import Text, ToolCall

from ._world import World, only_error, silence, speech, spoken, types, user_message


def _retrieve(world: World, item_id: str) -> ev.Item:
    return world.send(ev.ConversationItemRetrieve(item_id=item_id))[0].item


def _spoken_item(world: World) -> str:
    """Have the assistant speak for a second; return its item."""
    world.send(ev.ResponseCreate())
    world.run(5)
    return world.last(ev.ResponseOutputAudioDone).item_id


def test_items_go_to_the_end_to_the_front_or_behind_another() -> None:
    """The place of an item is told by what it follows."""
    world = World()
    for item_id, after in [("a", None), ("b", None), ("c", "root"), ("d", "a")]:
        world.send(user_message(id=item_id, previous_item_id=after))
    follows = [e.previous_item_id for e in world.events if isinstance(e, ev.ConversationItemAdded)]
    assert follows == [None, "a", None, "a"]


@pytest.mark.parametrize(
    ("item", "code", "param"),
    [
        (
            {"type": "message", "role": "user", "content": [], "id": "taken"},
            "item_create_duplicate_item_id",
            None,
        ),
        ({"type": "message", "role": "user", "content": [], "id": "root"}, None, "item.id"),
        (
            {"type": "message", "role": "system", "content": [{"type": "input_audio"}]},
            None,
            "item.content[0].type",
        ),
        (
            {"type": "message", "role": "assistant", "content": [{"type": "output_audio"}]},
            "missing_required_parameter",
            "item.content[0].text",
        ),
        (
            {"type": "message", "role": "user", "content": [{"type": "nonsense"}]},
            None,
            "item.content[0].type",
        ),
        ({"type": "message", "role": "robot", "content": []}, None, "item.role"),
        ({"type": "message", "role": "user"}, "missing_required_parameter", "item.content"),
        (
            {"type": "function_call_output", "call_id": "nobody", "output": ""},
            "invalid_tool_call_id",
            "item.call_id",
        ),
        ({"type": "mcp_list_tools", "server_label": "x", "tools": []}, None, "item.type"),
    ],
)
def test_what_clients_cannot_create(
    item: dict[str, object], code: str | None, param: str | None
) -> None:
    """A refused item is named, its id echoed, and nothing is added."""
    world = World()
    world.send(user_message(id="taken"))
    frame = {"type": "conversation.item.create", "event_id": "e", "item": item}
    error = only_error(world.send(frame))
    assert (error.code, error.param) == (code or "invalid_value", param)
    assert error.event_id == "e"
    assert world.send(user_message())[0].previous_item_id == "taken"


def test_an_unknown_predecessor_adds_nothing() -> None:
    """The error names the field, and the item is not there."""
    world = World()
    error = only_error(world.send(user_message(id="a", previous_item_id="nobody")))
    assert error.param == "previous_item_id"
    answer = world.send(ev.ConversationItemRetrieve(item_id="a"))
    assert only_error(answer).code == "item_retrieve_invalid_item_id"


def test_user_audio_is_only_shown_when_retrieved() -> None:
    """A client's audio is kept beside the item."""
    world = World()
    part = ev.InputAudio(audio=b"\x01\x00" * 480)
    item = ev.MessageItem(role="user", content=[part], id="a")
    world.send(ev.ConversationItemCreate(item=item))
    assert world.last(ev.ConversationItemDone).item.content[0].audio is None
    assert _retrieve(world, "a").content[0].audio == b"\x01\x00" * 480


def test_the_models_audio_is_what_was_sent() -> None:
    """A retrieved reply holds every delta, and its transcript."""
    world = World(spoken(1000, "Well."))
    item_id = _spoken_item(world)
    sent = b"".join(e.delta for e in world.events if isinstance(e, ev.ResponseOutputAudioDelta))
    part = _retrieve(world, item_id).content[0]
    assert (part.audio, part.transcript) == (sent, "Well.")
    assert len(sent) == 48_000


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"audio_end_ms": 1001}, "invalid_value", "audio_end_ms"),
        ({"audio_end_ms": -1}, "invalid_value", "audio_end_ms"),
        ({"content_index": 1}, "invalid_value", "content_index"),
        ({"item_id": "nobody"}, "item_truncate_invalid_item_id", "item_id"),
        ({"item_id": "typed"}, "unsupported_content_type", "item_id"),
    ],
)
def test_truncations_that_are_refused(fields: dict[str, object], code: str, param: str) -> None:
    """Only the model's audio, only some of it, and never more than there is."""
    world = World(spoken(1000))
    world.send(user_message(id="typed"))
    frame = {"item_id": _spoken_item(world), "content_index": 0, "audio_end_ms": 500} | fields
    error = only_error(world.send({"type": "conversation.item.truncate", **frame}))
    assert (error.code, error.param) == (code, param)


def test_truncation_is_inclusive_of_the_whole_item() -> None:
    """The item's full length is allowed, and one truncation can follow a longer one."""
    world = World(spoken(1000))
    item_id = _spoken_item(world)
    for end_ms in (1000, 400, 399):
        truncate = ev.ConversationItemTruncate(
            item_id=item_id, content_index=0, audio_end_ms=end_ms
        )
        assert types(world.send(truncate)) == ["conversation.item.truncated"]
    longer = ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=400)
    assert "399ms is already shorter than 400ms" in only_error(world.send(longer)).message


def test_a_server_may_believe_its_audio_to_be_shorter() -> None:
    """With the margin, truncation at the very end is refused."""
    world = World(spoken(1000), truncation_margin_ms=85)
    item_id = _spoken_item(world)
    truncate = ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=916)
    assert only_error(world.send(truncate)).param == "audio_end_ms"


def test_a_written_reply_cannot_be_truncated() -> None:
    """Text has no milliseconds."""
    world = World([Text("Hello.")])
    world.update(output_modalities=["text"])
    world.send(ev.ResponseCreate())
    item_id = world.last(ev.ResponseOutputTextDone).item_id
    truncate = ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=1)
    assert only_error(world.send(truncate)).code == "unsupported_content_type"


def test_truncating_while_the_model_still_speaks() -> None:
    """What it says afterwards does not count: the item stays cut, and without transcript."""
    world = World(spoken(4000, "One."))
    world.send(ev.ResponseCreate())
    world.run(0.5)
    item_id = world.last(ev.ResponseOutputAudioDelta).item_id
    world.send(ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=100))
    assert "response.done" in types(world.run(5))
    part = _retrieve(world, item_id).content[0]
    assert (len(part.audio), part.transcript) == (4800, None)


def test_delete() -> None:
    """A deleted item is gone, and deleting it again is an error."""
    world = World()
    world.send(user_message(id="a"))
    delete = ev.ConversationItemDelete(item_id="a")
    assert types(world.send(delete)) == ["conversation.item.deleted"]
    assert only_error(world.send(delete)).code == "item_delete_invalid_item_id"


def test_deleting_the_item_that_is_being_spoken() -> None:
    """The response goes on; the conversation does not hear of the item again."""
    world = World(spoken(2000))
    world.send(ev.ResponseCreate())
    world.run(0.2)
    item_id = world.last(ev.ResponseOutputAudioDelta).item_id
    world.send(ev.ConversationItemDelete(item_id=item_id))
    rest = types(world.run(5))
    assert "response.output_item.done" in rest
    assert "conversation.item.done" not in rest


def test_deleting_a_call_makes_its_output_invalid() -> None:
    """An output must answer a call that is there."""
    world = World([ToolCall("f", "{}", "call_x")])
    world.send(ev.ResponseCreate())
    item_id = world.last(ev.ConversationItemDone).item.id
    world.send(ev.ConversationItemDelete(item_id=item_id))
    output = ev.FunctionCallOutputItem(call_id="call_x", output="1")
    error = only_error(world.send(ev.ConversationItemCreate(item=output)))
    assert error.code == "invalid_tool_call_id"


def test_a_client_may_bring_history() -> None:
    """Assistant text and calls with their outputs can be added, as after a reconnect."""
    world = World()
    items = [
        ev.MessageItem(role="assistant", content=[ev.OutputText(text="Hello.")]),
        ev.FunctionCallItem(name="f", arguments="{}", call_id="call_1"),
        ev.FunctionCallOutputItem(call_id="call_1", output="1"),
    ]
    answers = [types(world.send(ev.ConversationItemCreate(item=item))) for item in items]
    assert answers == [["conversation.item.added", "conversation.item.done"]] * 3


def test_a_full_conversation_refuses_items() -> None:
    """The number of items has a limit."""
    world = World(max_items=2)
    world.send(user_message(), user_message())
    assert only_error(world.send(user_message())).param == "item"


def test_a_full_conversation_still_takes_turns_and_replies() -> None:
    """What is spoken is never refused: there is nobody who could be told to try again."""
    world = World(spoken(200), max_items=1)
    world.send(user_message())
    world.user_turn()
    assert "response.done" in types(world.run(2))


def test_an_announced_id_that_a_client_has_taken() -> None:
    """The turn gets another one, and nothing breaks."""
    world = World()
    world.say(speech(400))
    announced = world.last(ev.InputAudioBufferSpeechStarted).item_id
    world.send(user_message(id=announced), user_message(id="item_2"))
    world.say(silence(400))
    assert world.last(ev.InputAudioBufferCommitted).item_id not in (announced, "item_2")


def test_old_audio_is_let_go() -> None:
    """Above the limit the oldest audio is forgotten; truncation still knows how long it was."""
    world = World(spoken(1000), spoken(1000), max_kept_bytes=60_000)
    first, second = _spoken_item(world), _spoken_item(world)
    assert len(_retrieve(world, first).content[0].audio) == 0
    assert len(_retrieve(world, second).content[0].audio) == 48_000
    truncate = ev.ConversationItemTruncate(item_id=first, content_index=0, audio_end_ms=1000)
    assert types(world.send(truncate)) == ["conversation.item.truncated"]

"""Whatever a client sends: an answer, never an exception."""

import sys
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_bus import events as ev
from realtime_bus.server import Speech, Text, ToolCall

from ._world import World, only_error, silence, speech, spoken, types


@pytest.mark.parametrize(
    ("frame", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"[]", "invalid_event", None),
        (b"null", "invalid_event", None),
        (b"\xff\xfe\x00", "invalid_json", None),
        (b"[" * 100_000, "invalid_event", None),
        (b'{"a":' * 50_000, "invalid_event", None),
        (b"{}", "invalid_event", "type"),
        (b'{"type": 7}', "invalid_value", "type"),
        (b'{"type": null}', "invalid_value", "type"),
        (b'{"type": "session.created"}', "invalid_value", "type"),
        (b'{"type": "response.update"}', "invalid_value", "type"),
        (b'{"type": "output_audio_buffer.clear"}', "invalid_value", "type"),
        (b'{"type": "input_audio_buffer.append"}', "missing_required_parameter", "audio"),
        (b'{"type": "input_audio_buffer.append", "audio": 1}', "invalid_value", "audio"),
        (
            b'{"type":"input_audio_buffer.append","audio":"?"}',
            "invalid_value",
            "audio",
        ),  # as encoders write
        (b'{"type": "input_audio_buffer.append", "audio": "?"}', "invalid_value", "audio"),
        (b'{"type": "input_audio_buffer.append", "audio": "AAA"}', "invalid_value", "audio"),
        (b'{"type": "response.create", "x": 1}', "unknown_parameter", "x"),
        (b'{"type": "response.create", "response": []}', "invalid_value", "response"),
        (
            b'{"type": "response.create", "response": {"modalities": ["text"]}}',
            "unknown_parameter",
            "response.modalities",
        ),
        (b'{"type": "response.cancel", "event_id": 7}', "invalid_value", "event_id"),
        (
            b'{"type": "response.cancel", "event_id": "' + b"x" * 513 + b'"}',
            "invalid_value",
            "event_id",
        ),
    ],
)
def test_bad_frames(frame: bytes, code: str, param: str | None) -> None:
    """Each kind of nonsense has its error, and the session goes on."""
    world = World()
    error = only_error(world.send(frame))
    assert (error.code, error.param) == (code, param)
    assert error.message
    assert types(world.update()) == ["session.updated"]


def test_an_unknown_type_is_told_which_types_there_are() -> None:
    """The message lists them, and the client's id comes back."""
    error = only_error(World().send({"type": "nonsense", "event_id": "e1"}))
    assert "response.create" in error.message
    assert error.event_id == "e1"


@pytest.mark.parametrize("depth", [50, 200, 400, 800, 1500, 5000])
def test_deep_nesting_where_anything_is_allowed(depth: int) -> None:
    """A tool's schema may be as deep as it likes: it is taken or refused, never fatal."""
    schema = b'{"a":' * depth + b"1" + b"}" * depth
    tool = b'{"type":"function","name":"f","parameters":' + schema + b"}"
    frame = b'{"type":"session.update","session":{"type":"realtime","tools":[' + tool + b"]}}"
    world = World()
    assert types(world.send(frame)) in (["session.updated"], ["error"])
    assert types(world.update(tools=[])) == ["session.updated"]


def test_an_append_above_the_limit_is_refused() -> None:
    """15 MiB is the most that one append may hold."""
    world = World()
    world.update(audio={"input": {"turn_detection": None}})
    limit = 15 * 1024 * 1024
    assert world.say(bytes(limit)) == []
    frame = msgspec.json.encode(
        {"type": "input_audio_buffer.append", "audio": bytes(limit + 1), "event_id": "big"}
    )
    error = only_error(world.send(frame))
    assert (error.code, error.param, error.event_id) == ("invalid_value", "audio", "big")


def test_a_large_append_is_heard_in_stretches() -> None:
    """One tick hears a few seconds at most, and events behind the audio wait for it."""
    world = World()
    world.protocol.receive(msgspec.json.encode(ev.InputAudioBufferAppend(audio=silence(60_000))))
    world.protocol.receive(msgspec.json.encode(ev.InputAudioBufferCommit()))
    ticks = 0
    while not (out := world.protocol.drain()):
        world.protocol.tick(world.now_s)
        ticks += 1
    assert ticks > 10
    assert isinstance(out[0], ev.InputAudioBufferCommitted)


# Anything at all, in any order

_IDS = st.sampled_from(["item_1", "item_2", "item_3", "a", "root", "", "nobody", "resp_1"])
_TIMES = st.integers(-5, 3000)
_TEXT = st.text(max_size=8)
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(-1e9, 1e9) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_PARTS = st.sampled_from(
    [
        {"type": "input_text", "text": "x"},
        {"type": "input_audio", "audio": "AAAA"},
        {"type": "output_text", "text": "y"},
        {"type": "output_audio"},
        {"type": "strange"},
    ]
)
_ITEMS = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("message"),
            "role": st.sampled_from(["user", "system", "assistant", "nobody"]),
            "content": st.lists(_PARTS, max_size=2),
        },
        optional={"id": _IDS},
    ),
    st.fixed_dictionaries(
        {"type": st.just("function_call_output"), "call_id": _IDS, "output": _TEXT}
    ),
    st.fixed_dictionaries({"type": st.just("function_call"), "name": _TEXT, "arguments": _TEXT}),
    _JSON,
)
_DETECTIONS = st.sampled_from(
    [
        None,
        {"type": "server_vad"},
        {"type": "server_vad", "idle_timeout_ms": 5000, "interrupt_response": False},
        {"type": "server_vad", "create_response": False, "silence_duration_ms": 0},
        {"type": "semantic_vad"},
        {"type": "other"},
    ]
)
_FORMATS = st.sampled_from([{"type": "audio/pcm", "rate": 24000}, {"type": "audio/pcmu"}])
_SESSIONS = st.fixed_dictionaries(
    {"type": st.sampled_from(["realtime", "realtime", "transcription"])},
    optional={
        "audio": st.fixed_dictionaries(
            {},
            optional={
                "input": st.fixed_dictionaries(
                    {}, optional={"turn_detection": _DETECTIONS, "format": _FORMATS}
                ),
                "output": st.fixed_dictionaries({}, optional={"format": _FORMATS}),
            },
        ),
        "output_modalities": st.sampled_from([["audio"], ["text"], []]),
        "max_output_tokens": st.sampled_from([1, 30, "inf", 0]),
        "instructions": _TEXT,
        "junk": _JSON,
    },
)
_AUDIO = st.sampled_from([b"", b"\x01", silence(300), speech(400), speech(50), silence(1500)])


def _event(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    ids = st.integers().map("client_{}".format)
    return st.fixed_dictionaries({"type": st.just(kind), "event_id": ids, **fields})


_FRAMES = st.one_of(
    _event("input_audio_buffer.append", audio=_AUDIO),
    _event("input_audio_buffer.append", audio=_AUDIO),
    _event("input_audio_buffer.commit"),
    _event("input_audio_buffer.clear"),
    _event("session.update", session=_SESSIONS),
    _event("conversation.item.create", item=_ITEMS, previous_item_id=_IDS),
    _event("conversation.item.create", item=_ITEMS),
    _event("conversation.item.retrieve", item_id=_IDS),
    _event("conversation.item.delete", item_id=_IDS),
    _event(
        "conversation.item.truncate",
        item_id=_IDS,
        content_index=st.integers(-1, 1),
        audio_end_ms=_TIMES,
    ),
    _event("response.create"),
    _event("response.create", response=st.sampled_from([{"conversation": "none"}, {"input": []}])),
    _event("response.cancel"),
    _event("response.cancel", response_id=_IDS),
    _event("conversation.item.create", item=_JSON),
    _JSON,
    st.binary(max_size=40),
)
_ANSWERS = st.lists(
    st.sampled_from(
        [[Text("Hi.")], spoken(3000), [ToolCall("f", "{}", "a"), Speech(b"\x01", "x")], []]
    ),
    max_size=4,
)
_STEPS = st.lists(_FRAMES | st.floats(0, 10).map(lambda s: ("wait", s)), max_size=25)


@settings(max_examples=80, deadline=None)
@given(steps=_STEPS, answers=_ANSWERS)
def test_anything_in_any_order(steps: list[Any], answers: list[Any]) -> None:
    """Nothing raises, every event can be read, every error carries the id it answers."""
    world = World(*answers, words=lambda turn: f"turn {turn}")
    for step in steps:
        if isinstance(step, tuple):
            world.run(step[1])
            continue
        frame = step if isinstance(step, bytes) else msgspec.json.encode(step)
        for event in world.send(frame):
            if isinstance(event, ev.Error) and event.error.event_id is not None:
                assert event.error.event_id == step["event_id"]
    world.run(60)
    _check_story(world.events)


def _check_story(events: list[ev.ServerEvent]) -> None:
    """Hold what must be true of any session's events."""
    created, done, added = [], [], set()
    for event in events:
        if isinstance(event, ev.ResponseCreated):
            created.append(event.response.id)
        elif isinstance(event, ev.ResponseDone):
            done.append(event.response.id)
        elif isinstance(event, ev.ConversationItemAdded):
            added.add(event.item.id)
        elif isinstance(event, ev.ConversationItemDone):
            assert event.item.id in added
        elif (response_id := getattr(event, "response_id", None)) is not None:
            assert response_id in created
            assert response_id not in done
    assert sorted(created) == sorted(done)
    assert len({event.event_id for event in events}) == len(events)


@pytest.mark.slow
def test_an_hour_of_conversation_in_seconds() -> None:
    """On a virtual clock an hour of turns, replies and interruptions takes seconds."""
    world = World(*(spoken(4000, f"Answer {i}.") for i in range(1000)), words="turn {}".format)
    world.update(audio={"input": {"transcription": {"model": "whisper-1"}}})
    chunks = [silence(200)] * 5 + [speech(200)] * 6 + [silence(200)] * 19
    begun_s, start_s = time.process_time(), world.now_s
    while world.close is None:
        for chunk in chunks:  # 6 s: a second of silence, speech over the reply, and waiting
            world.say(chunk)
            world.run(0.2)
    assert world.now_s - start_s == pytest.approx(3600, abs=6)
    turns = sum(isinstance(e, ev.InputAudioBufferSpeechStarted) for e in world.events)
    done = [e.response.status for e in world.events if isinstance(e, ev.ResponseDone)]
    assert turns == 600
    assert len(done) in (599, 600)
    _check_story(world.events[:-1] if "in_progress" in done else world.events)
    if sys.gettrace() is None:  # a tracer makes each line cost more
        assert time.process_time() - begun_s < 20

"""Strict out: what a server would refuse is refused before it is sent, by name."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from realtime_bus import EventTooLarge, InvalidEvent, encode
from realtime_bus import events as ev
from realtime_bus.codec import MAX_APPEND_BYTES, decode_client
from realtime_bus.events import translation as tr

from ._watched import AUDIO, Watched


def session(**fields: Any) -> ev.SessionUpdate:
    """Build an update of a conversation's settings."""
    return ev.SessionUpdate(session=ev.RealtimeSessionRequest(**fields))


def audio_input(**fields: Any) -> ev.SessionUpdate:
    """Build an update of the input's settings."""
    return session(audio=ev.AudioConfigRequest(input=ev.AudioInputConfigRequest(**fields)))


def audio_output(**fields: Any) -> ev.SessionUpdate:
    """Build an update of the output's settings."""
    return session(audio=ev.AudioConfigRequest(output=ev.AudioOutputConfigRequest(**fields)))


def item(new: Any, **fields: Any) -> ev.ConversationItemCreate:
    """Build a create of an item."""
    return ev.ConversationItemCreate(item=new, **fields)


def message(*content: Any, role: Any = "user") -> ev.ConversationItemCreate:
    """Build a create of a message."""
    return item(ev.MessageItem(role=role, content=list(content)))


def respond(**fields: Any) -> ev.ResponseCreate:
    """Build a create of a response."""
    return ev.ResponseCreate(response=ev.ResponseCreateParams(**fields))


def truncate(**fields: Any) -> ev.ConversationItemTruncate:
    """Build a truncation."""
    plain: dict[str, Any] = {"item_id": "i", "content_index": 0, "audio_end_ms": 0}
    return ev.ConversationItemTruncate(**(plain | fields))


VAD = "session.audio.input.turn_detection"
REFUSED: list[tuple[Any, str, str]] = [
    (
        audio_output(speed=9),
        "session.audio.output.speed",
        "9.0 is out of range; allowed are 0.25 to 1.5",
    ),
    (audio_output(speed=0.2), "session.audio.output.speed", "0.25 to 1.5"),
    (audio_output(speed=float("nan")), "session.audio.output.speed", "expected a number, got null"),
    (audio_output(voice=3), "session.audio.output.voice", "a string or an object"),
    (audio_output(format="pcm16"), "session.audio.output.format", "got a string"),
    (audio_input(turn_detection=ev.ServerVad(threshold=2)), f"{VAD}.threshold", "0 to 1"),
    (
        audio_input(turn_detection=ev.ServerVad(idle_timeout_ms=1)),
        f"{VAD}.idle_timeout_ms",
        "5000 to 30000",
    ),
    (
        audio_input(turn_detection=ev.ServerVad(prefix_padding_ms=1.5)),
        f"{VAD}.prefix_padding_ms",
        "an integer",
    ),
    (
        audio_input(turn_detection=ev.SemanticVad(eagerness="very")),
        f"{VAD}.eagerness",
        "known are 'auto', 'high', 'low', 'medium'",
    ),
    (
        audio_input(turn_detection={"type": "servervad"}),
        f"{VAD}.type",
        "known are server_vad, semantic_vad",
    ),
    (
        audio_input(turn_detection={"type": "server_vad", "treshold": 1}),
        f"{VAD}.treshold",
        "no such field",
    ),
    (
        audio_input(noise_reduction=ev.NoiseReduction(type="no")),
        "session.audio.input.noise_reduction.type",
        "near_field",
    ),
    (
        audio_input(transcription=ev.Transcription(languages=[])),
        "session.audio.input.transcription.languages",
        "at least 1",
    ),
    (session(output_modalities=["text", "audio"]), "session.output_modalities", "exactly 1"),
    (session(output_modalities=[]), "session.output_modalities", "exactly 1"),
    (session(output_modalities=["smell"]), "session.output_modalities[0]", "'audio', 'text'"),
    (session(max_output_tokens=0), "session.max_output_tokens", "1 to 4096"),
    (session(max_output_tokens=5000), "session.max_output_tokens", "1 to 4096"),
    (session(max_output_tokens="lots"), "session.max_output_tokens", "'inf'"),
    (session(instructions=None), "session.instructions", "expected a string, got null"),
    (session(instructions=7), "session.instructions", "expected a string, got an integer"),
    (session(instructions="a\ud800"), "session.instructions", "surrogate"),
    (session(tools=[ev.FunctionTool(name=3)]), "session.tools[0].name", "a string"),
    (
        session(tools=[ev.FunctionTool(name="f", parameters={"a": object()})]),
        "session.tools[0].parameters.a",
        "cannot encode object",
    ),
    (session(tools=[ev.InputText(text="x")]), "session.tools[0].type", "'input_text' is not known"),
    (session(tools="all"), "session.tools", "an array"),
    (session(tool_choice="maybe"), "session.tool_choice", "'auto', 'none', 'required'"),
    (
        session(truncation=ev.RetentionRatio(retention_ratio=1.1)),
        "session.truncation.retention_ratio",
        "0 to 1",
    ),
    (session(reasoning=ev.Reasoning(effort="all")), "session.reasoning.effort", "'minimal'"),
    (session(include=["everything"]), "session.include[0]", "known are"),
    (ev.SessionUpdate(session=None), "session", "an object"),
    (ev.SessionUpdate(session={"instructions": "x"}), "session.type", "required"),
    (
        ev.SessionUpdate(session={"type": "realtime", "voice": "x"}),
        "session.voice",
        "no such field",
    ),
    (ev.SessionUpdate(session=ev.RealtimeSession(id="s")), "session.output_modalities", "null"),
    (item(ev.InputText(text="hi")), "item.type", "known are message"),
    (item({"type": "mesage"}), "item.type", "known are message"),
    (item("hello"), "item", "an object"),
    (item(ev.FunctionCallOutputItem(call_id="c", output=5)), "item.output", "a string"),
    (
        item(ev.MessageItem(role="user", content=[]), previous_item_id=1),
        "previous_item_id",
        "a string",
    ),
    (message(role="robot"), "item.role", "'assistant', 'system', 'user'"),
    (message(ev.InputText(text=None)), "item.content[0].text", "a string"),
    (
        message(ev.InputText(text=""), ev.InputAudio(audio="AAAA")),
        "item.content[1].audio",
        "bytes, not str",
    ),
    (message(ev.InputAudio(audio=5)), "item.content[0].audio", "bytes, not int"),
    (message(ev.InputImage(detail="none")), "item.content[0].detail", "'auto'"),
    (truncate(audio_end_ms=-1), "audio_end_ms", "-1 is out of range; allowed are at least 0"),
    (truncate(audio_end_ms=1.5), "audio_end_ms", "expected an integer, got a number"),
    (truncate(content_index=-1), "content_index", "at least 0"),
    (truncate(content_index=True), "content_index", "expected an integer, got true or false"),
    (truncate(item_id=None), "item_id", "expected a string, got null"),
    (ev.ConversationItemDelete(item_id=b"x"), "item_id", "bytes are for audio only"),
    (ev.ConversationItemRetrieve(item_id=["x"]), "item_id", "an array"),
    (ev.ResponseCancel(response_id=3), "response_id", "a string"),
    (
        respond(metadata={str(i): "" for i in range(17)}),
        "response.metadata",
        "has 17 entries; allowed are at most 16",
    ),
    (respond(metadata={"k" * 65: ""}), "response.metadata." + "k" * 65, "at most 64"),
    (respond(metadata={"k": "v" * 513}), "response.metadata.k", "at most 512"),
    (respond(metadata={"k": 1}), "response.metadata.k", "a string"),
    (respond(max_output_tokens=4097), "response.max_output_tokens", "1 to 4096"),
    (respond(input=[ev.InputText(text="x")]), "response.input[0].type", "item_reference"),
    (ev.ResponseCreate(response="now"), "response", "an object"),
    (
        ev.InputAudioBufferCommit(event_id="e" * 513),
        "event_id",
        "has 513 characters; allowed are at most 512",
    ),
    (ev.InputAudioBufferClear(event_id=5), "event_id", "a string"),
    (ev.OutputAudioBufferClear(event_id="\ud800"), "event_id", "surrogate"),
    (ev.InputAudioBufferAppend(audio="AAAA"), "audio", "audio must be bytes, not str"),
    (ev.InputAudioBufferAppend(audio=None), "audio", "audio must be bytes, not NoneType"),
    (ev.InputAudioBufferAppend(audio=b"", event_id="e" * 513), "event_id", "at most 512"),
    (ev.InputAudioBufferAppend(audio=b"", event_id=5), "event_id", "expected a string, got int"),
    (ev.InputAudioBufferAppend(audio=b"", event_id="\ud800"), "event_id", "surrogate"),
    (tr.SessionInputAudioBufferAppend(audio=3), "audio", "bytes, not int"),
    (tr.SessionUpdate(session=tr.TranslationSessionRequest(audio=3)), "session.audio", "an object"),
]


@pytest.mark.parametrize(
    ("event", "param", "words"),
    REFUSED,
    ids=[f"{e.type}-{p[:50]}-{i}" for i, (e, p, _) in enumerate(REFUSED)],
)
def test_what_a_server_would_refuse_is_refused_here(event: Any, param: str, words: str) -> None:
    """The error names the event, the field, and what is allowed there."""
    with pytest.raises(InvalidEvent) as caught:
        encode(event)
    assert caught.value.event_type == event.type
    assert caught.value.param == param
    assert str(caught.value).startswith(f"{event.type} was not sent: {param}: ")
    assert words in str(caught.value)


def test_every_problem_is_listed() -> None:
    """Of several problems the first is the message's, and all are in the exception."""
    with pytest.raises(InvalidEvent, match=r"\(and 2 more\)") as caught:
        encode(respond(max_output_tokens=0, metadata={"k": 1}, tool_choice="no"))
    assert [problem.path for problem in caught.value.problems] == [
        "response.tool_choice",
        "response.max_output_tokens",
        "response.metadata.k",
    ]


def test_data_that_holds_itself_is_refused() -> None:
    """A tool's schema that never ends is no endless loop."""
    endless: dict[str, Any] = {}
    endless["a"] = endless
    with pytest.raises(InvalidEvent, match=r"session\.update was not sent"):
        encode(session(tools=[ev.FunctionTool(name="f", parameters=endless)]))


@pytest.mark.parametrize(
    "make", [ev.InputAudioBufferAppend, tr.SessionInputAudioBufferAppend], ids=["GA", "translation"]
)
def test_an_append_above_the_limit_is_refused(make: Any) -> None:
    """The error names the field, the size, the limit and what to do; at the limit it is sent."""
    with pytest.raises(
        EventTooLarge, match=r"audio has 15728641 bytes, the limit is 15728640"
    ) as e:
        encode(make(audio=bytes(MAX_APPEND_BYTES + 1)))
    assert (e.value.param, e.value.limit_bytes) == ("audio", MAX_APPEND_BYTES)
    assert e.value.size_bytes == MAX_APPEND_BYTES + 1
    assert "session.append_audio, which splits" in str(e.value)
    assert len(encode(make(audio=bytes(MAX_APPEND_BYTES)))) > MAX_APPEND_BYTES


@pytest.mark.parametrize("event", [ev.Connected(), ev.InvalidFrame(reason="", frame=b"")])
def test_events_of_the_bus_are_not_sent(event: ev.BusEvent) -> None:
    """The bus's own events have no place on the wire."""
    with pytest.raises(InvalidEvent, match=rf"{event.type} is an event of the bus"):
        encode(event)


@pytest.mark.parametrize("kind", ["force_message", None])
def test_an_unknown_object_goes_through(kind: str | None) -> None:
    """An object of a type unknown to us was put there on purpose, for a server that knows it."""
    data: dict[str, Any] = {"text": "hi", "new": {"deep": [1]}}
    data |= {"type": kind} if kind else {}
    sent = json.loads(encode(item(ev.UnknownObject(data))))
    assert sent == {"type": "conversation.item.create", "item": data}
    with pytest.raises(InvalidEvent, match="previous_item_id"):  # the rest is checked as ever
        encode(item(ev.UnknownObject(data), previous_item_id=3))


def test_what_was_received_unknown_can_be_sent_again() -> None:
    """An unknown part that a server sent goes back as it came."""
    plain = {"type": "message", "role": "user", "content": [{"type": "smell", "of": "roses"}]}
    received = Watched().decode({"type": "conversation.item.added", "item": plain})
    assert json.loads(encode(item(received.item)))["item"] == plain


def test_plain_data_is_held_against_the_type_as_well() -> None:
    """A dict in place of a struct is sent if it is right."""
    event = ev.SessionUpdate(session={"type": "realtime", "instructions": "x"})
    assert json.loads(encode(event))["session"] == {"type": "realtime", "instructions": "x"}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes_is_audio(kind: Any) -> None:
    """Audio may come as bytes, bytearray or memoryview, in appends and in items."""
    audio = bytes(range(256))
    wire = base64.b64encode(audio).decode()
    assert json.loads(encode(ev.InputAudioBufferAppend(audio=kind(audio))))["audio"] == wire
    sent = json.loads(encode(message(ev.InputAudio(audio=kind(audio)))))
    assert sent["item"]["content"][0]["audio"] == wire


def test_the_size_of_a_view_is_counted_in_bytes() -> None:
    """A view of 16-bit samples has twice as many bytes as elements."""
    samples = memoryview(bytes(MAX_APPEND_BYTES + 2)).cast("h")
    with pytest.raises(EventTooLarge):
        encode(ev.InputAudioBufferAppend(audio=samples))


def test_appends_are_encoded_as_others_are() -> None:
    """The short cut for audio writes what the general encoder would."""
    event = ev.InputAudioBufferAppend(audio=b"\x00\x01\xff", event_id='"ä\\')
    assert json.loads(encode(event)) == event.to_dict()
    assert decode_client(encode(event)) == event
    closing = tr.SessionInputAudioBufferAppend(audio=b"\x00")
    assert decode_client(encode(closing), protocol="translation") == closing


def test_a_relay_sends_what_it_received() -> None:
    """A server's event is encoded as it is, its unread audio untouched."""
    watched = Watched(AUDIO)
    event = watched.decode(AUDIO | {"delta": "AAEC" * 2000})
    assert json.loads(encode(event)) == AUDIO | {"delta": "AAEC" * 2000}
    append = decode_client(b'{"type":"input_audio_buffer.append","audio":"AAEC"}')
    assert encode(append) == b'{"type":"input_audio_buffer.append","audio":"AAEC"}'


def test_a_server_event_that_cannot_be_encoded_is_an_invalid_event() -> None:
    """What no JSON can hold is refused with the field's name, in a server's events too."""
    with pytest.raises(InvalidEvent) as caught:
        encode(ev.ResponseOutputTextDone(response_id="r", item_id="i", text=object()))
    assert caught.value.param == "text"

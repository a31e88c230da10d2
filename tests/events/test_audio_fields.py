"""Audio in events: bytes to the reader, base64 on the wire, decoded once and only when read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_bus import events as ev
from realtime_bus.events import translation as tr
from realtime_bus_plugins.interruption import InterruptedItem, PlaybackInterrupted

AUDIO = bytes(range(256)) * 4


def delta(audio: bytes) -> ev.ResponseOutputAudioDelta:
    """Build a delta with some audio."""
    return ev.ResponseOutputAudioDelta(
        event_id="event_1", response_id="resp_1", item_id="item_1", delta=audio
    )


# How each class with audio is built, and which field of it holds the audio.
MAKERS: list[tuple[str, Callable[[bytes], Any]]] = [
    ("delta", delta),
    ("audio", lambda audio: ev.InputAudioBufferAppend(audio=audio)),
    ("delta", lambda audio: tr.SessionOutputAudioDelta(delta=audio)),
    ("audio", lambda audio: tr.SessionInputAudioBufferAppend(audio=audio)),
    ("audio", lambda audio: ev.InputAudio(audio=audio)),
    ("audio", lambda audio: ev.OutputAudio(audio=audio)),
    ("audio", lambda audio: ev.AudioPart(audio=audio)),
]

each_class = pytest.mark.parametrize(
    ("field", "make"), MAKERS, ids=[type(make(b"")).__name__ for _, make in MAKERS]
)


def again(struct: Any) -> Any:
    """Send a struct over the wire."""
    return msgspec.json.decode(msgspec.json.encode(struct), type=type(struct))


@each_class
def test_constructor_takes_bytes(field: str, make: Callable[[bytes], Any]) -> None:
    """What was given to the constructor is what is read."""
    assert getattr(make(AUDIO), field) == AUDIO


@each_class
def test_audio_is_base64_on_the_wire(field: str, make: Callable[[bytes], Any]) -> None:
    """The encoded audio is plain base64 of the bytes."""
    wire = json.loads(msgspec.json.encode(make(AUDIO)))
    assert wire[field] == base64.b64encode(AUDIO).decode()


@each_class
def test_round_trip_is_equal(field: str, make: Callable[[bytes], Any]) -> None:
    """Encoding and decoding gives an equal struct, whether its audio was read or not."""
    made = make(AUDIO)
    arrived = again(made)
    assert arrived == made
    assert again(arrived) == made
    assert getattr(arrived, field) == AUDIO
    assert arrived != make(AUDIO[1:])


@each_class
def test_unread_audio_is_forwarded_as_it_came(field: str, make: Callable[[bytes], Any]) -> None:
    """A struct that nobody has read encodes to the same text again."""
    wire = msgspec.json.encode(make(AUDIO))
    assert msgspec.json.encode(msgspec.json.decode(wire, type=type(make(b"")))) == wire


@each_class
def test_audio_is_decoded_once(field: str, make: Callable[[bytes], Any]) -> None:
    """The second read gives the very object that the first one gave."""
    arrived = again(make(AUDIO))
    assert getattr(arrived, field) is getattr(arrived, field)


@each_class
def test_audio_cannot_be_replaced(field: str, make: Callable[[bytes], Any]) -> None:
    """A struct with audio is as frozen as any other, before and after it is read."""
    arrived = again(make(AUDIO))
    for _ in range(2):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(arrived, field, b"other")
        assert getattr(arrived, field) == AUDIO


@each_class
def test_repr_tells_the_length_and_not_the_audio(field: str, make: Callable[[bytes], Any]) -> None:
    """A log line is not flooded with audio."""
    shown = repr(again(make(AUDIO)))
    assert f"{field}=<1024 bytes>" in shown
    assert len(shown) < 300


@pytest.mark.parametrize("bad", ["?", "AAA", "AA AA=", "é"])
def test_bad_base64_reads_as_no_audio(bad: str) -> None:
    """A broken delta is silence, not an exception in whoever reads it."""
    event = ev.ResponseOutputAudioDelta.from_dict(delta(b"").to_dict() | {"delta": bad})
    assert event.delta == b""


def test_escaped_slashes_are_base64_too() -> None:
    """Some JSON writers escape the slash, which base64 uses."""
    wire = delta(b"\xff\xff\xff").to_json().replace(b"/", rb"\/")
    assert rb"\/" in wire
    assert ev.ResponseOutputAudioDelta.from_json(wire).delta == b"\xff\xff\xff"


@pytest.mark.parametrize(
    "wire", [b'{"type":"output_audio"}', b'{"type":"output_audio","audio":null}']
)
def test_optional_audio_that_is_absent_or_null_reads_as_none(wire: bytes) -> None:
    """No audio is None, which differs from audio of no length."""
    part = msgspec.json.decode(wire, type=ev.OutputAudio)
    assert part.audio is None
    assert part == ev.OutputAudio()
    assert part != ev.OutputAudio(audio=b"")


def test_absent_audio_is_not_sent() -> None:
    """A part without audio has no such key."""
    assert msgspec.json.encode(ev.OutputAudio(transcript="hi")) == (
        b'{"type":"output_audio","transcript":"hi"}'
    )


ROUND_TRIPS: list[ev.Event] = [
    delta(AUDIO),
    ev.InputAudioBufferAppend(audio=AUDIO, event_id="mine"),
    ev.Error(error=ev.ErrorDetails(type="invalid_request_error", message="no")),
    ev.SessionCreated(
        session=ev.RealtimeSession(
            id="sess_1",
            audio=ev.AudioConfig(
                input=ev.AudioInputConfig(
                    format=ev.AudioPCMU(), turn_detection=ev.ServerVad(threshold=0.5)
                ),
                output=ev.AudioOutputConfig(voice=ev.CustomVoice(id="voice_1"), speed=1.0),
            ),
            tools=[ev.FunctionTool(name="f"), ev.McpTool(server_label="l")],
            tool_choice=ev.ToolChoiceFunction(name="f"),
            max_output_tokens="inf",
            truncation=ev.RetentionRatio(retention_ratio=0.5),
            tracing="auto",
        )
    ),
    ev.ConversationItemRetrieved(
        item=ev.MessageItem(
            role="user", content=[ev.InputAudio(audio=AUDIO), ev.InputText(text="hi")]
        )
    ),
    ev.ConversationItemInputAudioTranscriptionCompleted(
        item_id="item_1", transcript="hi", usage=ev.DurationUsage(seconds=1.5)
    ),
    ev.ResponseDone(
        response=ev.Response(
            output=[ev.FunctionCallItem(name="f", arguments="{}", call_id="call_1")],
            usage=ev.Usage(total_tokens=3),
        )
    ),
    ev.ResponseCreate(
        response=ev.ResponseCreateParams(
            conversation="none", input=[ev.ItemReference(id="item_1")], metadata={"k": "v"}
        )
    ),
    PlaybackInterrupted(
        items=[
            InterruptedItem(
                item_id="item_1", played_ms=1, received_ms=3, discarded_ms=2, action="truncated"
            )
        ],
        latency_s=0.001,
    ),
    tr.SessionOutputAudioDelta(delta=AUDIO, elapsed_ms=200),
]


@pytest.mark.parametrize("event", ROUND_TRIPS, ids=lambda event: type(event).__name__)
def test_events_survive_json_and_plain_data(event: ev.Event) -> None:
    """An event that was written down is the same when it is read back."""
    assert type(event).from_json(event.to_json()) == event
    assert type(event).from_dict(event.to_dict()) == event
    assert event.to_dict()["type"] == event.type


@given(st.binary(max_size=4096))
def test_any_audio_survives_the_wire(audio: bytes) -> None:
    """Every byte string comes back as it was."""
    event = ev.ResponseOutputAudioDelta.from_json(delta(audio).to_json())
    assert event.delta == audio
    assert event == delta(audio)


def test_audio_fields_are_those_of_the_classes_that_have_audio() -> None:
    """No public struct holds base64 that nobody decodes."""
    lazy = {type(make(b"")) for _, make in MAKERS}
    public = [getattr(module, name) for module in (ev, tr) for name in module.__all__]
    structs = {c for c in public if isinstance(c, type) and issubclass(c, msgspec.Struct)}
    assert {c for c in structs if _holds_raw(c)} == lazy


def _holds_raw(cls: type[msgspec.Struct]) -> bool:
    info = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType)
    return any(isinstance(field.type, msgspec.inspect.RawType) for field in info.fields)

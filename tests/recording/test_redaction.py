"""What may not stand in a recording."""

from __future__ import annotations

import base64
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_bus import events as ev
from realtime_bus._secrets import Secret
from realtime_bus.recording import (
    Header,
    Received,
    Recording,
    RecordingWriter,
    Told,
    _redaction,
)
from realtime_bus.recording._redaction import Redaction, without_keys
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.tools import ToolFinished
from realtime_bus_plugins.turn_metrics import TurnCompleted

from ._live import lines_of, of, only, recorded

pytestmark = pytest.mark.anyio

KEY = "sk-proj-abc123def456ghi789"
PLACE: dict[str, Any] = {
    "response_id": "r",
    "item_id": "a",
    "output_index": 0,
    "content_index": 0,
}


class OrderPlaced(ev.AppEvent):
    """An event of the application's own."""

    order_id: str
    guest: str
    api_key: str = ""


def kept(frame: bytes, **options: bool) -> bytes:
    """Return a frame as a recording has it."""
    return Redaction(**options).cut(frame).frame


@pytest.mark.parametrize(
    "frame",
    [
        b'{"type":"session.update","session":{"tools":[{"authorization":"%s"}]}}',
        b'{"type":"session.update","session":{"tools":[{"headers":{"X-Any":"%s","b":"2"}}]}}',
        b'{"type":"response.create","response":{"tools":[{"authorization" : "Bearer %s"}]}}',
        b'{"type":"error","error":{"message":"Incorrect API key provided: %s."}}',
        b'{"type":"session.created","session":{"client_secret":{"value":"%s","expires_at":1}}}',
        b'{"type":"brand.new","api_key":"%s"}',
        b'{"type":"brand.new","x":{"my-access_token":"%s"}}',
        b'{"type":"brand.new","password":"a \\"quoted\\" %s"}',
    ],
)
def test_keys_never_stand_in_it(frame: bytes) -> None:
    """Whatever they are called; all else stays, byte for byte."""
    for secret in (b"abcdefgh12345678" if b"error" not in frame else b"sk-abcdefgh12345678",):
        found = kept(frame % secret)
        assert secret not in found
        assert b"***" in found
        assert json.loads(found)["type"] == json.loads(frame % secret)["type"]


def test_what_only_sounds_secret_stays() -> None:
    """Counts of tokens, words of a transcript, settings."""
    for frame in (
        b'{"type":"session.updated","session":{"max_output_tokens":"inf"}}',
        b'{"type":"response.done","response":{"usage":{"total_tokens":3,"input_token_details":{}}}}',
        b'{"type":"brand.new","logprobs":[{"token":" kitchen","logprob":-0.1}],"delta":"my token"}',
        b'{"type":"response.done","response":{"output":[{"arguments":"{\\"token\\":\\"x\\"}"}]}}',
        b'{"type":"session.updated","session":{"prompt":{"id":"pmpt_1","variables":{"key":"c"}}}}',
    ):
        assert kept(frame) == frame


async def test_a_key_in_use_stands_nowhere(tmp_path: Path) -> None:
    """Not in a piece of text either, nor in what the bus tells, nor in what is no JSON."""
    key = Secret("a-key-in-use-that-looks-like-nothing")
    word = key.reveal()
    async with recorded(Recorder(tmp_path), raises=False) as (session, wire):
        wire.feed(ev.ResponseOutputAudioTranscriptDelta(**PLACE, delta=f"it is {word}"))
        wire.feed(ev.ResponseOutputTextDelta(**PLACE, delta=f"it is {word}"))
        wire.transport.feed(f"no JSON: {word}".encode())
        session.emit(OrderPlaced(order_id=word, guest=f"says {word}", api_key="short"))
    text = only(tmp_path).read_text()
    assert word not in text
    assert all(b64encode(word.encode()[at:])[2:20].decode() not in text for at in range(3))
    broken = [line.data for line in of(lines_of(tmp_path), Received) if line.broken is not None]
    assert broken == [b"no JSON: ***"]
    [told] = [line for line in of(lines_of(tmp_path), Told) if line.application]
    assert told.event == {"order_id": "***", "guest": "says ***", "api_key": "***"}


async def test_audio_is_left_out_on_request(tmp_path: Path) -> None:
    """Its length is kept: of deltas, appends, and parts of items; all else is as it came."""
    async with recorded(Recorder(tmp_path, audio=False)) as (session, wire):
        wire.feed(ev.ResponseOutputAudioDelta(**PLACE, delta=bytes(4801)))
        session.send_nowait(ev.InputAudioBufferAppend(audio=bytes(960)))
        part = ev.InputAudio(audio=bytes(100), transcript="words")
        item = ev.MessageItem(id="i", role="user", content=[part, part])
        session.send_nowait(ev.ConversationItemCreate(item=item))
        session.emit(OrderPlaced(order_id="1", guest="Al"))
    text = only(tmp_path).read_text()
    assert "AAAA" not in text
    lines = [line for line in lines_of(tmp_path) if getattr(line, "audio_bytes", None)]
    assert [line.audio_bytes for line in lines] == [4801, 960, 200]
    event = json.loads(lines[0].data)
    assert (event["delta"], event["item_id"]) == ("", "a")
    assert "words" in text
    assert not Recording(only(tmp_path)).header.audio


async def test_texts_are_left_out_on_request(tmp_path: Path) -> None:
    """An x for each character; ids, states and settings stay, audio too."""
    secret = "geheim"
    async with recorded(Recorder(tmp_path, texts=False), raises=False) as (session, wire):
        wire.feed(
            ev.ResponseOutputAudioTranscriptDelta(**PLACE, delta=secret),
            ev.ResponseFunctionCallArgumentsDone(
                **{k: v for k, v in PLACE.items() if k != "content_index"},
                call_id="c",
                name="look",
                arguments=f'{{"q":"{secret}"}}',
            ),
            ev.ResponseOutputAudioDelta(**PLACE, delta=b"\1\2\3"),
            ev.Error(error=ev.ErrorDetails(type="x", code="c", message="as it is")),
        )
        wire.transport.feed(f'{{"type":"brand.new","something":["{secret}"]}}'.encode())
        wire.transport.feed(f"no JSON {secret}".encode())
        output = ev.FunctionCallOutputItem(call_id="c", output=secret)
        session.send_nowait(ev.ConversationItemCreate(item=output))
        session.send_nowait(
            ev.SessionUpdate(session=ev.RealtimeSessionRequest(instructions=secret))
        )
        session.emit(OrderPlaced(order_id="17", guest=secret))
        session.on(ev.InputAudioBufferCleared)(fails)
        wire.feed(ev.InputAudioBufferCleared())
    text = only(tmp_path).read_text()
    assert secret not in text
    frames = [json.loads(line.data) for line in lines_of(tmp_path) if getattr(line, "data", b"")]
    by_type = {frame["type"]: frame for frame in frames}
    assert by_type["response.output_audio_transcript.delta"]["delta"] == "xxxxxx"
    assert by_type["response.function_call_arguments.done"]["name"] == "look"
    assert len(by_type["response.function_call_arguments.done"]["arguments"]) == 14
    assert by_type["response.output_audio.delta"]["delta"] == "AQID"
    assert by_type["error"]["error"]["message"] == "as it is"
    assert by_type["brand.new"]["something"] == ["xxxxxx"]
    assert by_type["session.update"]["session"]["instructions"] == "xxxxxx"
    told = {line.type: line.event for line in of(lines_of(tmp_path), Told)}
    assert told["app.order_placed"] == {"order_id": "17", "guest": "xxxxxx", "api_key": ""}
    assert told["bus.handler_failed"]["error"]["type"] == "ValueError"
    assert "test_redaction.py:" in told["bus.handler_failed"]["error"]["at"]


def fails(_: ev.InputAudioBufferCleared) -> None:
    """Raise."""
    raise ValueError("geheim")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.booleans())
def test_what_holds_no_key_stays_as_it_is(value: Any, ascii_only: bool) -> None:
    """Every frame that is JSON, byte for byte but for line breaks."""
    frame = json.dumps({"type": "brand.new", "value": value}, ensure_ascii=ascii_only)
    if any(word in frame.lower() for word in ("key", "token", "secret", "passw", "cookie", "auth")):
        return
    cut = Redaction().cut(frame.encode("utf-8", "surrogatepass"))
    assert cut.frame == frame.encode("utf-8", "surrogatepass")


@given(json_values)
def test_without_texts_frames_keep_their_shape(value: Any) -> None:
    """The same fields and lengths."""

    def shape(value: Any) -> Any:
        if isinstance(value, str):
            return len(value)
        if isinstance(value, list):
            return [shape(each) for each in value]
        if isinstance(value, dict):
            return {key: shape(each) for key, each in value.items()}
        return value

    if '"logprobs"' in json.dumps(value):
        return
    cut = Redaction(texts=False).cut(json.dumps({"value": value}).encode())
    if cut.is_json:
        assert shape(json.loads(cut.frame)) == {"value": shape(value)}


def test_a_large_frame_is_searched_around_its_audio(tmp_path: Path) -> None:
    """What follows an image of megabytes is hidden, and that quickly."""
    frame = b'{"type":"x","image":"%s","authorization":"%s"}' % (b"A" * 16_000_000, b"y" * 20)
    writer = RecordingWriter(tmp_path / "x.jsonl", Header(t_us=0))
    writer.frame(1, "in", frame)
    writer.close()
    [line] = of(list(Recording(tmp_path / "x.jsonl")), Received)
    assert line.data == frame.replace(b"y" * 20, b"***")


async def test_without_texts_it_still_says_how_turns_and_tools_went(tmp_path: Path) -> None:
    """Which responses, begun by what, and with which outcome."""
    turn = TurnCompleted(
        origin="speech", item_id="u", response_ids=["r1", "r2"], status="completed"
    )
    tool = ToolFinished(call_id="c", name="look_up", outcome="failed", took_s=1.0)
    async with recorded(Recorder(tmp_path, texts=False)) as (session, _):
        session.emit(turn)
        session.emit(tool)
    told = {line.type: line.event for line in of(lines_of(tmp_path), Told)}
    assert told["bus.turn_completed"]["origin"] == "speech"
    assert told["bus.turn_completed"]["response_ids"] == ["r1", "r2"]
    assert told["bus.tool_finished"]["outcome"] == "failed"


def test_no_audio_is_searched_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes its frames with spaces, or in another order: that would cost the most."""
    searched: list[int] = []

    class Counting:
        def search(self, text: bytes) -> None:
            searched.append(len(text))

    monkeypatch.setattr(_redaction, "_SOUNDS_SECRET", Counting())
    sound = "key/" + base64.b64encode(bytes(3000)).decode()  # by chance, one in ten has such a word
    frame = {"event_id": "e", "type": "response.output_audio.delta", "delta": sound}
    without_keys(json.dumps(frame).encode())
    assert sum(searched) < 200
    without_keys(json.dumps({"type": "x", "text": "a key " * 20}).encode())
    assert searched  # what is text is


def test_a_key_beside_audio_is_hidden() -> None:
    """Before it and behind it."""
    frame = {"authorization": "abc", "delta": "A" * 3000, "note": "sk-0123456789abcdef0123"}
    plain = without_keys(json.dumps(frame).encode())
    assert json.loads(plain) == {"authorization": "***", "delta": "A" * 3000, "note": "***"}


@given(
    pcm=st.binary(max_size=400),
    before=st.dictionaries(
        st.sampled_from(["event_id", "response_id", "delta", "audio"]), st.text()
    ),
    behind=st.dictionaries(st.sampled_from(["note", "delta", "audio"]), st.text(max_size=20)),
    audio=st.booleans(),
    texts=st.booleans(),
)
def test_what_stands_around_audio_is_cut_as_if_it_stood_alone(
    pcm: bytes, before: dict[str, str], behind: dict[str, str], audio: bool, texts: bool
) -> None:
    """A long piece is taken out first, and put back: nothing else comes of it."""
    name, key = "response.output_audio.delta", "delta"
    fields = {"type": name, **before, key: base64.b64encode(pcm).decode(), **behind}
    frame = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    redaction = Redaction(audio=audio, texts=texts)
    assert redaction.cut(frame) == redaction._cut(frame)


@pytest.mark.parametrize("audio", [True, False])
@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize("tail", ['"}', '"]', '","event_id":"e"}', '"} ', '"'])
def test_a_microphones_frame_is_cut_as_any_other(audio: bool, texts: bool, tail: str) -> None:
    """It is known to hold nothing else; one that does is looked into."""
    pcm = base64.b64encode(bytes(range(256)) * 4).decode()
    frame = f'{{"type":"input_audio_buffer.append","audio":"{pcm}{tail}'.encode()
    redaction = Redaction(audio=audio, texts=texts)
    assert redaction.cut(frame) == redaction._cut(frame)


@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize("audio", [True, False])
@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"response.output_audio.delta","delta":"%s","x":"said"}',
        '{"type": "response.output_audio.delta", "delta": "%s", "x": "said"}',
        '{"x":"said","delta":"%s","type":"response.output_audio.delta"}',
        '{"type":"response.output_\\u0061udio.delta","delta":"%s","x":"said"}',
    ],
)
def test_audio_is_known_however_its_frame_is_written(frame: str, audio: bool, texts: bool) -> None:
    """It is kept without texts, and left out without audio; what is said beside it is a text."""
    pcm = base64.b64encode(bytes(range(256)) * 4).decode()
    cut = Redaction(audio=audio, texts=texts).cut((frame % pcm).encode())
    assert cut.is_json
    fields = msgspec.json.decode(cut.frame)
    assert fields == {
        "type": "response.output_audio.delta",
        "delta": pcm if audio else "",
        "x": "said" if texts else "xxxx",
    }
    assert cut.audio_bytes == (None if audio else 1024)

"""Audio is cut out of frames, not parsed: always the right text, and bad base64 is drift."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from realtime_bus import events as ev

from ._watched import AUDIO, Watched, text

SIZES = [3, 9600]  # below and above where the audio is cut out of the frame


def frame_of(base64_text: str, **more: object) -> bytes:
    """Build an audio delta; the text goes in as it is."""
    plain = {key: value for key, value in AUDIO.items() if key != "delta"} | more
    return text(plain)[:-1] + b',"delta":"' + base64_text.encode() + b'"}'


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("warm", [(), (AUDIO,)], ids=["first", "later"])
def test_audio_arrives_whole(size: int, warm: tuple[dict[str, Any], ...]) -> None:
    """The bytes that were sent are read, and every other field with them."""
    audio = bytes(range(256)) * (size // 256 + 1)
    watched = Watched(*warm)
    event = watched.decode(AUDIO | {"delta": base64.b64encode(audio).decode()})
    assert event.delta == audio
    assert (event.item_id, event.output_index, event.content_index) == ("item_1", 2, 3)
    assert watched.counts == {}


@pytest.mark.parametrize("padding", ["", "A" * 4000], ids=["small", "large"])
@pytest.mark.parametrize(
    "bad", ["?", "AAA", "A", "A===", "AAAA\\n", "é", "AA==AA==", "\\\\", "\\u00e9"], ids=str
)
def test_bad_base64_is_silence_and_is_told_when_read(padding: str, bad: str) -> None:
    """Broken audio reads as none; it is counted once for each event, reported once."""
    frame = frame_of(padding + bad)
    watched = Watched(AUDIO)
    for _ in range(2):
        event = watched.decode(frame)
        assert event.delta == b""
        assert event.delta == b""  # a second read is no second report
        assert event.item_id == "item_1"
    assert watched.counts == {(AUDIO["type"], "delta", "wrong_type"): 2}
    assert [drift.message for drift in watched.reports] == ["the text is not valid base64"]


def test_bad_base64_in_the_first_frame_of_its_type_is_told_too() -> None:
    """The first frame is looked at whole, so its bad audio is reported at once."""
    watched = Watched()
    assert watched.decode(frame_of("?")).delta == b""
    assert watched.counts == {(AUDIO["type"], "delta", "wrong_type"): 1}


@pytest.mark.parametrize("value", [5, None, True, {"a": 1}, [1], 1.5], ids=str)
@pytest.mark.parametrize("padding", ["", "x" * 4000], ids=["small", "large"])
def test_audio_that_is_no_text_is_silence(value: object, padding: str) -> None:
    """Another JSON type in place of audio costs the audio only, and is reported."""
    for watched in (Watched(), Watched(AUDIO)):
        event = watched.decode(AUDIO | {"delta": value, "event_id": "event_1" + padding})
        assert type(event) is ev.ResponseOutputAudioDelta
        assert event.delta == b""
        assert event.event_id == "event_1" + padding
        assert watched.counts == {(AUDIO["type"], "delta", "wrong_type"): 1}


def test_missing_audio_is_told() -> None:
    """A delta without a delta is an event all the same."""
    for watched in (Watched(), Watched(AUDIO)):
        event = watched.decode({key: value for key, value in AUDIO.items() if key != "delta"})
        assert event.item_id == "item_1"
        assert watched.counts == {(AUDIO["type"], "delta", "missing"): 1}


@pytest.mark.parametrize("count", [3, 3000])
def test_escaped_slashes_are_base64_too(count: int) -> None:
    """Some JSON writers put a backslash before each slash."""
    watched = Watched(AUDIO)
    escaped = base64.b64encode(b"\xff" * count).decode().replace("/", "\\/")
    assert watched.decode(frame_of(escaped)).delta == b"\xff" * count
    assert watched.counts == {}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "more",
    [
        {"obfuscation": ',"delta":"'},
        {"obfuscation": '"delta":"BBBB"'},
        {',"delta': "BBBB"},
        {'x"delta': "BBBB"},
        {"x": {"delta": "BBBB"}},
        {"x": [{"a": 1, "delta": "BBBB"}]},
        {"event_id": "{"},
        {"event_id": '",'},
        {"event_id": "\\"},
        {"event_id": "delta"},
    ],
    ids=str,
)
def test_only_the_events_own_audio_is_taken(size: int, more: dict[str, Any]) -> None:
    """Neither texts that look like the key nor the same key further down are mistaken for it."""
    watched = Watched(AUDIO)
    audio = base64.b64encode(b"\x01" * size).decode()
    for plain in (AUDIO | more | {"delta": audio}, AUDIO | {"delta": audio} | more):
        plain["delta"] = audio
        for frame in (text(plain), text(dict(sorted(plain.items()))), json.dumps(plain)):
            event = watched.decode(frame)
            assert event.delta == b"\x01" * size
            assert event.item_id == "item_1"
            assert event.event_id == plain["event_id"]


def test_an_escaped_quote_in_the_audio_is_no_exception() -> None:
    """Where a quote in the audio text misleads the cut, the frame is walked or the audio bad."""
    for tail in ('\\"', '\\"AAAA', '\\",\\"x\\":\\"y', '\\\\\\"'):
        watched = Watched(AUDIO)
        event = watched.decode(frame_of("A" * 4000 + tail))
        assert isinstance(event, ev.ResponseOutputAudioDelta | ev.InvalidFrame)
        if isinstance(event, ev.ResponseOutputAudioDelta):
            assert event.delta == b""


def test_unread_audio_is_passed_on_as_it_came() -> None:
    """A relay does not decode what nobody reads."""
    watched = Watched(AUDIO)
    frame = frame_of("AAEC" * 2000)
    assert watched.decode(frame).to_json() == text(dict(sorted_like_the_struct(frame)))


def sorted_like_the_struct(frame: bytes) -> list[tuple[str, Any]]:
    """Put a frame's fields in the order in which the struct has them."""
    plain = json.loads(frame)
    order = ["type", *ev.ResponseOutputAudioDelta.__struct_fields__]
    return [(key, plain[key]) for key in order]


# Audio further down


def retrieved(audio: object) -> dict[str, Any]:
    """Build the answer to a retrieve."""
    part = {"type": "input_audio", "audio": audio}
    return {
        "type": "conversation.item.retrieved",
        "event_id": "event_1",
        "item": {"id": "item_1", "type": "message", "role": "user", "content": [part]},
    }


@pytest.mark.parametrize("audio", ["AAEC", None], ids=str)
def test_audio_in_items_is_read_like_any_other(audio: str | None) -> None:
    """A retrieved item's audio is bytes, or None where there is none."""
    for watched in (Watched(), Watched(retrieved("AAAA"))):
        part = watched.decode(retrieved(audio)).item.content[0]
        assert part.audio == (None if audio is None else b"\x00\x01\x02")
        assert watched.counts == {}


@pytest.mark.parametrize("bad", ["?", "AAA", 5, {"a": 1}], ids=str)
def test_bad_audio_in_items_is_told_with_its_path(bad: object) -> None:
    """Bad audio further down is counted by where it is."""
    for watched in (Watched(), Watched(retrieved("AAAA"))):
        part = watched.decode(retrieved(bad)).item.content[0]
        assert part.audio == b""
        path = "item.content[].audio"
        assert watched.counts == {("conversation.item.retrieved", path, "wrong_type"): 1}


# Beta names


@pytest.mark.parametrize(("beta", "name"), ev.REALTIME.old_names.items())
@pytest.mark.parametrize("delta", ["AAEC", "AAEC" * 2000], ids=["small", "large"])
@pytest.mark.parametrize("layout", ["type first", "event_id first", "type last", "pretty"])
def test_beta_names_give_the_ga_structs(beta: str, name: str, delta: str, layout: str) -> None:
    """An event under its beta name is the event, in each frame and in every layout."""
    plain = AUDIO | {"type": name, "delta": delta, "text": "t", "transcript": "t"}
    expected = Watched().decode(plain)
    renamed = plain | {"type": beta}
    frame = {
        "type first": text(renamed),
        "event_id first": text({"event_id": "event_1"} | renamed),
        "type last": text({k: v for k, v in renamed.items() if k != "type"} | {"type": beta}),
        "pretty": json.dumps(renamed, indent=1).encode(),
    }[layout]
    watched = Watched()
    for _ in range(3):
        event = watched.decode(frame)
        assert type(event) is type(expected)
        assert event == expected
        assert event.type == name
    assert {key[0] for key in watched.counts} <= {name}


@pytest.mark.parametrize("order", [1, -1])
def test_a_beta_name_as_a_text_is_left_alone(order: int) -> None:
    """Only the type is renamed, not a text that happens to be the same."""
    beta = "response.text.delta"
    plain = AUDIO | {"type": beta, "delta": beta, "item_id": beta}
    watched = Watched()
    for _ in range(3):
        event = watched.decode(text(dict([*plain.items()][::order])))
        assert type(event) is ev.ResponseOutputTextDelta
        assert (event.delta, event.item_id) == (beta, beta)


def test_drift_under_a_beta_name_costs_one_field() -> None:
    """What does not fit is walked, under a beta name as well, and counted by the event's name."""
    watched = Watched()
    for _ in range(3):
        event = watched.decode(AUDIO | {"type": "response.audio.delta", "item_id": 5})
        assert (event.item_id, event.delta) == (5, b"\x00\x01\x02")
    assert watched.counts == {(AUDIO["type"], "item_id", "wrong_type"): 3}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "again",
    [
        b'"delta":"BBBB"',
        b'"delta":""',
        b'"delta" : "BBBB"',
        b'"item_id":"x","delta":"BBBB"',
        b'"d\\u0065lta":"BBBB"',
        b'"d\\u0065lta":""',
        b'"delta":null',
        b'"delta":5',
    ],
    ids=bytes.decode,
)
def test_of_two_keys_with_a_name_the_last_one_counts(size: int, again: bytes) -> None:
    """As JSON parsers have it, however large the frame is and wherever the other one stands."""
    audio = base64.b64encode(b"\x01" * size)
    frame = frame_of(audio.decode())
    for twice in (frame[:-1] + b"," + again + b"}", frame.replace(b'"delta"', again + b',"delta"')):
        plain = json.loads(twice)["delta"]
        watched = Watched(AUDIO)
        assert watched.decode(twice).delta == base64.b64decode(plain if type(plain) is str else "")
        assert watched.decode(twice).item_id in {"item_1", "x"}

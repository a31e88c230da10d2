"""Lenient in: whatever a server sends, decoding gives a value, counts the drift, and goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from realtime_bus import codec, decode
from realtime_bus import events as ev
from realtime_bus.codec import Decoder

from ._watched import AUDIO, DELETED, RETRIEVED, Watched, text


@pytest.fixture(params=["first frame", "later frame"])
def watched(request: pytest.FixtureRequest) -> Watched:
    """Both ways of decoding: a type's first frame is walked, later ones are not."""
    return Watched() if request.param == "first frame" else Watched(DELETED, AUDIO)


# What is no event


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "empty"),
        ("", "empty"),
        (b" \n\t ", "empty"),
        (b"{", "not JSON"),
        (b"\x00", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"type":"error"} {}', "not JSON"),
        (b'{"type":"conversation.item.deleted","item_id":"a"', "not JSON"),
        (b'{"type":"response.output_audio.delta","delta":"AAAA', "not JSON"),
        (b'{"type":"conversation.item.deleted","item_id":' + b"1" * 5000 + b"}", "not JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"1", "not an object"),
        (b'"error"', "not an object"),
        (b"{}", "no type"),
        (b'{"item_id":"item_1"}', "no type"),
        (b'{"kind":"conversation.item.deleted","item_id":"item_1"}', "no type"),
        (b'{"type":1}', "not a string"),
        (b'{"type":null}', "not a string"),
        (b'{"type":["error"]}', "not a string"),
        (b'{"type":{"type":"error"}}', "not a string"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (
            b'{"type":"conversation.item.deleted","item_id":"a","x":' + b"[" * 100_000,
            "nested too deeply",
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_event_is_an_invalid_frame(
    watched: Watched, frame: bytes | str, reason: str
) -> None:
    """A frame that is no event becomes an InvalidFrame that says why and keeps the frame."""
    event = watched.decode(frame)
    assert isinstance(event, ev.InvalidFrame)
    assert reason in event.reason
    assert event.frame == (frame.encode() if isinstance(frame, str) else frame)
    assert watched.counts == {("", "", "wrong_type"): 1}
    assert watched.reports[0].message == event.reason


@pytest.mark.parametrize(
    "kind", ["response.animation_viseme.delta", "", "x" * 5000, "Error", "é\n"]
)
def test_an_unknown_type_is_an_unknown_event(watched: Watched, kind: str) -> None:
    """An event of an unknown type becomes an UnknownEvent that keeps its type and frame."""
    frame = text({"type": kind, "new": {"a": [1]}})
    event = watched.decode(frame)
    assert event == ev.UnknownEvent(event_type=kind, frame=frame)
    assert watched.counts == {(kind[:128], "type", "unknown_variant"): 1}


def test_a_large_frame_is_an_event_like_any_other(watched: Watched) -> None:
    """A frame of 20 MB is decoded, with its audio."""
    event = watched.decode(AUDIO | {"delta": "AAAA" * 5_000_000})
    assert len(event.delta) == 15_000_000
    assert watched.counts == {}


@pytest.mark.parametrize("frame", [b"x" * 20_000_000, b'{"type":"' + b"x" * 20_000_000])
def test_a_large_frame_of_nonsense_is_invalid(frame: bytes) -> None:
    """A frame of 20 MB that is no JSON is refused like a small one."""
    assert isinstance(decode(frame), ev.InvalidFrame)


# Drift that costs one field


@pytest.mark.parametrize(
    ("change", "field", "value", "drift"),
    [
        ({"item_id": 5}, "item_id", 5, ("item_id", "wrong_type")),
        ({"item_id": None}, "item_id", None, ("item_id", "wrong_type")),
        ({"item_id": ["a"]}, "item_id", ["a"], ("item_id", "wrong_type")),
        ({"event_id": {"a": 1}}, "event_id", {"a": 1}, ("event_id", "wrong_type")),
        ({"event_id": None}, "event_id", "", ("event_id", "wrong_type")),
        ({"item_id": ...}, "item_id", None, ("item_id", "missing")),
    ],
    ids=str,
)
def test_a_field_that_does_not_fit_stays_raw(
    watched: Watched, change: dict[str, Any], field: str, value: object, drift: tuple[str, str]
) -> None:
    """A wrong type, a null or a gap costs that field; the event keeps all others."""
    plain = {key: v for key, v in (DELETED | change).items() if v is not ...}
    event = watched.decode(plain)
    assert type(event) is ev.ConversationItemDeleted
    assert getattr(event, field) == value
    other = "event_id" if field == "item_id" else "item_id"
    assert getattr(event, other) == DELETED[other]
    assert watched.counts == {(DELETED["type"], *drift): 1}


def test_an_unknown_field_is_ignored_and_noticed_in_the_first_frame_of_a_type() -> None:
    """A new field changes nothing, and is reported when the type is first seen."""
    watched = Watched()
    event = watched.decode(DELETED | {"novelty": {"deep": [1, 2]}})
    assert event == ev.ConversationItemDeleted(event_id="event_1", item_id="item_1")
    assert watched.counts == {(DELETED["type"], "novelty", "unknown_field"): 1}


def test_an_unknown_field_is_ignored_in_later_frames() -> None:
    """A new field does not slow down or change the events after the first."""
    watched = Watched(DELETED)
    event = watched.decode(DELETED | {"novelty": 1})
    assert event == ev.ConversationItemDeleted(event_id="event_1", item_id="item_1")


MESSAGE: dict[str, Any] = {"type": "message", "role": "user", "content": []}


@pytest.mark.parametrize(
    ("plain", "path"),
    [
        ({"type": "conversation.item.added", "item": {"type": "dance", "id": "i"}}, "item"),
        (
            {
                "type": "conversation.item.added",
                "item": MESSAGE | {"content": [{"type": "smell", "id": "i"}]},
            },
            "item.content[0]",
        ),
        (
            {
                "type": "session.created",
                "session": {"type": "realtime", "tools": [{"type": "hammer", "id": "i"}]},
            },
            "session.tools[0]",
        ),
        (
            {
                "type": "session.updated",
                "session": {
                    "type": "realtime",
                    "audio": {"input": {"turn_detection": {"type": "azure_vad", "id": "i"}}},
                },
            },
            "session.audio.input.turn_detection",
        ),
        ({"type": "session.created", "session": {"type": "video", "id": "i"}}, "session"),
        ({"type": "session.created", "session": {"id": "i"}}, "session"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unknown_nested_object_is_kept_raw(plain: dict[str, Any], path: str) -> None:
    """A new kind of item, part, tool, turn detection or session costs only that object."""
    for watched in (Watched(), Watched(plain)):
        event = watched.decode(plain)
        found = follow(event, path)
        assert isinstance(found, ev.UnknownObject)
        assert found.id == "i"
        assert found.data["id"] == "i"
        kind = "unknown_variant" if found.type else "missing"
        counted = path.replace("[0]", "[]") + ".type"
        assert (plain["type"], counted, kind) in watched.counts


def follow(value: Any, path: str) -> Any:
    """Go to a path within an event."""
    for step in path.replace("[0]", ".0").split("."):
        value = value[0] if step == "0" else getattr(value, step)
    return value


def test_the_rest_of_an_event_is_typed_all_the_same() -> None:
    """One wrong field deep inside leaves its neighbours typed."""
    plain = {
        "type": "response.done",
        "response": {
            "id": "resp_1",
            "status": "melted",
            "usage": {"total_tokens": "many", "input_tokens": 3},
            "output": [MESSAGE | {"id": "item_1"}, {"type": "function_call", "name": "f"}, 7],
        },
    }
    response = decode(text(plain)).response
    assert response.status == "melted"
    assert response.usage == ev.Usage(total_tokens="many", input_tokens=3)
    assert response.output[0] == ev.MessageItem(id="item_1", role="user", content=[])
    assert response.output[1].name == "f"
    assert response.output[1].arguments is None
    assert response.output[2] == 7


def test_an_event_whose_object_is_none_keeps_what_came() -> None:
    """An error that is only a text can still be read."""
    event = decode(b'{"type":"error","error":"boom"}')
    assert isinstance(event, ev.Error)
    assert event.error == "boom"


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1" * 400, b"NaN", b"Infinity", b"1e300"])
def test_numbers_out_of_every_range_are_no_exception(number: bytes) -> None:
    """Numbers that no float or no 64 bits can hold come through somehow."""
    for kind, field in [
        (b"input_audio_buffer.speech_started", b"audio_start_ms"),
        (b"conversation.item.input_audio_transcription.segment", b"start"),
    ]:
        decoder = Decoder()
        for _ in range(2):
            event = decoder.decode(b'{"type":"%b","item_id":"i","%b":%b}' % (kind, field, number))
            assert event.type == kind.decode()


def test_a_deeply_nested_unknown_field_costs_nothing_as_long_as_it_can_be_parsed() -> None:
    """Depth that the parser still takes is ignored, wherever it is."""
    for depth in (10, 100, 500, 900, 950, 975, 990):
        nested = b"[" * depth + b"]" * depth
        for frame in (
            b'{"type":"conversation.item.deleted","item_id":"a","x":%b}' % nested,
            b'{"type":"conversation.item.deleted","item_id":%b}' % nested,
            b'{"type":"conversation.item.added","item":{"type":%b}}' % nested,
            b'{"type":"conversation.item.added","item":{"type":"\\ud800","x":%b}}' % nested,
            b'{"type":"response.created","response":{"status":%b}}' % nested,
        ):
            event = decode(frame)
            assert event.type in {
                "conversation.item.deleted",
                "conversation.item.added",
                "response.created",
                "bus.invalid_frame",
            }


@pytest.mark.parametrize("surrogate", [b"\\ud800", b"\\udfff", b"\\ud800\\ud800", b"\xed\xa0\x80"])
@pytest.mark.parametrize("place", ["value", "key", "nested", "type"])
def test_lone_surrogates_become_replacement_characters(
    watched: Watched, surrogate: bytes, place: str
) -> None:
    """Half a character, escaped or raw, never stops a frame, and can be printed afterwards."""
    frame = {
        "value": b'{"type":"conversation.item.deleted","item_id":"a%b"}',
        "key": b'{"type":"conversation.item.deleted","item_id":"a","k%b":1}',
        "nested": b'{"type":"error","error":{"type":"t","message":"a%b"}}',
        "type": b'{"type":"a%b"}',
    }[place] % surrogate
    event = watched.decode(frame)
    assert not isinstance(event, ev.InvalidFrame)
    repr(event).encode()
    if place == "value":
        assert event.item_id.startswith("a\ufffd")
    for drift in watched.reports:
        drift.to_json()


def test_surrogates_in_a_str_frame_are_no_exception() -> None:
    """A str may hold lone surrogates by itself."""
    event = decode('{"type":"conversation.item.deleted","item_id":"a\ud800"}')
    assert event == ev.ConversationItemDeleted(item_id="a\ufffd")


# Counting and reporting


def test_drift_is_counted_each_time_and_reported_once() -> None:
    """Of each kind there is one report, and a count that goes on."""
    watched = Watched(DELETED)
    for _ in range(3):
        watched.decode(DELETED | {"item_id": 1})
        watched.decode(DELETED | {"item_id": None})
        watched.decode({"type": "novelty"})
        watched.decode(b"?")
    assert watched.counts == {
        (DELETED["type"], "item_id", "wrong_type"): 6,
        ("novelty", "type", "unknown_variant"): 3,
        ("", "", "wrong_type"): 3,
    }
    assert [(drift.event_type, drift.kind) for drift in watched.reports] == [
        (DELETED["type"], "wrong_type"),
        ("novelty", "unknown_variant"),
        ("", "wrong_type"),
    ]
    assert watched.reports[0].path == "item_id"
    assert watched.reports[0].message == "expected a string, got an integer"


def test_elements_of_an_array_are_one_kind() -> None:
    """The same drift in many elements is one report."""
    watched = Watched()
    limits = [{"name": "tokens", "limit": "x"} for _ in range(5)]
    watched.decode({"type": "rate_limits.updated", "rate_limits": limits})
    assert watched.counts == {("rate_limits.updated", "rate_limits[].limit", "wrong_type"): 5}
    assert len(watched.reports) == 1


def test_kinds_of_drift_are_bounded() -> None:
    """A server that makes up names fills neither the memory nor the log."""
    watched = Watched()
    for index in range(1500):
        watched.decode({"type": f"made.up.{index}"})
    assert len(watched.counts) == 1001
    assert watched.counts[("", "", "too many kinds")] == 500
    assert len(watched.reports) == 1001
    assert "more than" in watched.reports[-1].message or "over" in watched.reports[-1].message


def test_decoders_count_apart() -> None:
    """Each session has its own counts."""
    one, other = Decoder(), Decoder()
    one.decode(b"?")
    assert other.drift_counts == {}


# How a frame may be written


@pytest.mark.parametrize("plain", [DELETED, AUDIO, RETRIEVED], ids=["small", "audio", "nested"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_layout_of_the_json_does_not_matter(plain: dict[str, Any], size: str) -> None:
    """Blanks, order of keys, str or bytes: the same event comes out, on whichever path."""
    if size == "large" and "delta" in plain:
        plain = plain | {"delta": "AAEC" * 2000}
    expected = decode(text(plain))
    backwards = dict(reversed(plain.items()))
    frames: list[Any] = [
        text(plain),
        text(plain).decode(),
        bytearray(text(plain)),
        memoryview(text(plain)),
        text(backwards),
        json.dumps(plain),
        json.dumps(plain, indent=2),
        json.dumps(backwards, indent="\t"),
        b" \n" + text(plain) + b"\r\n ",
        text({"event_id": plain["event_id"]} | plain),
        text(plain).replace(b".", b"\\u002e", 1),
    ]
    for frame in frames:
        watched = Watched(DELETED, AUDIO, RETRIEVED)
        for _ in range(2):
            event = watched.decode(frame) if isinstance(frame, bytes | str) else None
            event = event or watched.decoder.decode(frame)
            assert event == expected
            assert event.to_json() == expected.to_json()
        assert watched.counts == {}


@pytest.mark.parametrize("kind", [str, bytearray, memoryview, bytes])
def test_bad_audio_within_an_item_is_told_whatever_holds_the_frame(kind: Any) -> None:
    """Audio in items is deferred in frames of text and of any kind of bytes."""
    watched = Watched(RETRIEVED)
    bad = text(RETRIEVED).replace(b"AAEC", b"A+=C")
    event: Any = watched.decoder.decode(bad.decode() if kind is str else kind(bad))
    assert event.item.content[0].audio == b""
    assert [(drift.path, drift.kind) for drift in watched.reports] == [
        ("item.content[].audio", "wrong_type")
    ]


def test_a_stray_blank_in_the_type_is_forgiven(watched: Watched) -> None:
    """One server writes a blank after the type."""
    event = watched.decode(DELETED | {"type": "conversation.item.deleted "})
    assert event == ev.ConversationItemDeleted(event_id="event_1", item_id="item_1")


@pytest.mark.parametrize(
    "frame",
    [
        b'{"type":"conversation.item.deleted","item_id":"a","item_id":"b"}',
        b'{"type":"error","type":"conversation.item.deleted","item_id":"b"}',
        b'{"type":"conversation.item.deleted","type":"conversation.item.deleted","item_id":"b"}',
    ],
)
def test_of_duplicate_keys_the_last_one_counts(watched: Watched, frame: bytes) -> None:
    """Duplicate keys are read as every JSON parser reads them."""
    assert watched.decode(frame) == ev.ConversationItemDeleted(item_id="b")


def test_duplicate_types_never_raise() -> None:
    """Two types that contradict each other give one of the two events, or no event."""
    decoder = Decoder()
    frame = b'{"type":"conversation.item.deleted","item_id":"b","type":"error"}'
    for _ in range(2):
        assert decoder.decode(frame).type in {"error", "conversation.item.deleted"}


# The other tables


def test_client_events_are_decoded_for_relays() -> None:
    """A relay reads what a client sends; a server's events are unknown on that side."""
    event = codec.decode_client(b'{"type":"input_audio_buffer.append","audio":"AAEC"}')
    assert event == ev.InputAudioBufferAppend(audio=b"\x00\x01\x02")
    assert isinstance(codec.decode_client(text(DELETED)), ev.UnknownEvent)


def test_translation_events_have_classes_of_their_own() -> None:
    """The translation protocol's names mean its own structs, both ways."""
    delta = b'{"type":"session.output_audio.delta","delta":"AAEC","elapsed_ms":1}'
    event = codec.decode(delta, protocol="translation")
    assert type(event) is ev.translation.SessionOutputAudioDelta
    assert event.delta == b"\x00\x01\x02"
    closing = codec.decode_client(b'{"type":"session.close"}', protocol="translation")
    assert closing == ev.translation.SessionClose()
    assert isinstance(codec.decode(text(AUDIO), protocol=ev.TRANSLATION), ev.UnknownEvent)


LINKED: dict[str, type[ev.Event]] = {
    "conversation.item.added": ev.ConversationItemAdded,
    "conversation.item.done": ev.ConversationItemDone,
    "conversation.item.created": ev.ConversationItemCreated,
    "input_audio_buffer.committed": ev.InputAudioBufferCommitted,
}
ITEM = {"type": "message", "role": "user", "content": []}


@pytest.mark.parametrize("drift", [{}, {"event_id": 5}], ids=["fits", "drifts"])
@pytest.mark.parametrize("kind", LINKED)
@pytest.mark.parametrize(
    "link", [{}, {"previous_item_id": None}, {"previous_item_id": "i"}], ids=str
)
def test_an_absent_link_is_not_a_null_one(
    kind: str, link: dict[str, Any], drift: dict[str, Any]
) -> None:
    """UNSET is absent, None is null, by msgspec and by the walk; and so it is encoded again."""
    own = {"item_id": "i"} if kind.startswith("input") else {"item": ITEM}
    watched = Watched({"type": kind} | own)
    for _ in range(2):
        event = watched.decode({"type": kind} | own | link | drift)
        assert type(event) is LINKED[kind]
        assert event.previous_item_id == link.get("previous_item_id", UNSET)
        assert event.to_dict().items() >= link.items()
        assert ("previous_item_id" in event.to_dict()) == bool(link)


@pytest.mark.parametrize("drift", [{}, {"output": 5}], ids=["fits", "drifts"])
@pytest.mark.parametrize("name", ["metadata", "conversation_id"])
@pytest.mark.parametrize("kind", ["response.created", "response.done"])
def test_what_a_response_leaves_out_is_not_null(
    kind: str, name: str, drift: dict[str, Any]
) -> None:
    """A server that says nothing of metadata or conversation is not one that says null."""
    watched = Watched({"type": kind, "response": {}})
    for plain, wanted in (({}, UNSET), ({name: None}, None)):
        event = watched.decode({"type": kind, "response": plain | drift})
        assert getattr(event.response, name) is wanted
        assert (name in event.to_dict()["response"]) == bool(plain)

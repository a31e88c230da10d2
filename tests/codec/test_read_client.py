"""Reading a client's frame strictly: every problem, with its path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from realtime_bus import events as ev
from realtime_bus.codec._read_client import NotAnObject, read_client

from ._watched import text


def problems(plain: dict[str, Any]) -> dict[str, str]:
    """Read a frame and return what kind of problem is at each path."""
    return {problem.path: problem.kind for problem in read_client(text(plain))[1]}


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ({}, {"type": "missing"}),
        ({"type": 5}, {"type": "constraint"}),
        ({"type": "session.updat"}, {"type": "constraint"}),
        ({"type": "session.created"}, {"type": "constraint"}),
        ({"type": "input_audio_buffer.append"}, {"audio": "missing"}),
        ({"type": "input_audio_buffer.append", "audio": "?"}, {"audio": "wrong_type"}),
        ({"type": "input_audio_buffer.append", "audio": 5}, {"audio": "wrong_type"}),
        ({"type": "input_audio_buffer.append", "audio": "", "x": 1}, {"x": "unknown_field"}),
        ({"type": "conversation.item.delete"}, {"item_id": "missing"}),
        ({"type": "conversation.item.delete", "item_id": None}, {"item_id": "wrong_type"}),
        (
            {"type": "session.update", "session": {"type": "realtime", "voice": "a", "tools": 1}},
            {"session.voice": "unknown_field", "session.tools": "wrong_type"},
        ),
        (
            {
                "type": "session.update",
                "session": {
                    "type": "realtime",
                    "audio": {
                        "input": {
                            "turn_detection": {
                                "type": "server_vad",
                                "threshold": 2,
                                "idle_timeout_ms": 1,
                            }
                        }
                    },
                },
            },
            {
                "session.audio.input.turn_detection.threshold": "constraint",
                "session.audio.input.turn_detection.idle_timeout_ms": "constraint",
            },
        ),
        ({"type": "session.update", "session": {}}, {"session.type": "missing"}),
        (
            {"type": "conversation.item.create", "item": {"type": "x"}},
            {"item.type": "unknown_variant"},
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "king", "content": [{"type": "input_text"}, 3]},
            },
            {
                "item.role": "constraint",
                "item.content[0].text": "missing",
                "item.content[1]": "wrong_type",
            },
        ),
        (
            {"type": "response.create", "response": {"metadata": {"a": 1}}},
            {"response.metadata.a": "wrong_type"},
        ),
        ({"type": "response.cancel", "event_id": "e" * 513}, {"event_id": "constraint"}),
    ],
    ids=str,
)
def test_every_problem_is_found_with_its_path(
    plain: dict[str, Any], expected: dict[str, str]
) -> None:
    """A strict server can name each field that it refuses."""
    assert problems(plain) == expected


@pytest.mark.parametrize("layout", ["compact", "pretty", "escaped", "type last", "type twice"])
def test_appends_are_read_in_any_layout(layout: str) -> None:
    """An append is read with its audio, however it is written."""
    compact = b'{"type":"input_audio_buffer.append","event_id":"e","audio":"////"}'
    frame = {
        "compact": compact,
        "pretty": json.dumps(json.loads(compact), indent=1).encode(),
        "escaped": compact.replace(b"////", rb"\/\/\/\/"),
        "type last": b'{"event_id":"e","audio":"////","type":"input_audio_buffer.append"}',
        "type twice": compact[:-1] + b',"type":"input_audio_buffer.append"}',
    }[layout]
    event, found, plain = read_client(frame)
    assert event == ev.InputAudioBufferAppend(audio=b"\xff\xff\xff", event_id="e")
    assert found == []
    assert plain["event_id"] == "e"


def test_the_last_of_two_types_counts() -> None:
    """A frame that changes its type at the end is what it says last."""
    frame = b'{"type":"input_audio_buffer.append","audio":"AAAA","type":"input_audio_buffer.clear"}'
    event, found, _ = read_client(frame)
    assert event == ev.InputAudioBufferClear()
    assert [problem.path for problem in found] == ["audio"]


@pytest.mark.parametrize("frame", [b"", b"[]", b"{", b'"x"', b"[" * 100_000, b"\xff"])
def test_what_is_no_object_is_an_exception_of_its_own(frame: bytes) -> None:
    """A server answers these without looking for an event."""
    with pytest.raises(NotAnObject):
        read_client(frame)


def test_messages_are_for_people_and_short() -> None:
    """A problem's message says what is allowed, and never repeats a long value."""
    _, found, _ = read_client(text({"type": "x" * 10_000}))
    assert "known are" in found[0].message
    assert "session.update" in found[0].message
    assert len(found[0].message) < 600


def test_of_two_audio_keys_the_last_one_counts() -> None:
    """As JSON parsers have it."""
    event, problems, _ = read_client(
        b'{"type":"input_audio_buffer.append","audio":"AAAA","audio":"BBBB"}'
    )
    assert isinstance(event, ev.InputAudioBufferAppend)
    assert (event.audio, problems) == (b"\x04\x10\x41", [])

"""Encoding of `input_audio_buffer.append`: 20 ms and 1 s of audio, and the largest append.

Every row starts from the audio as bytes and ends with the text of the frame.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from functools import partial

import msgspec

from realtime_bus import encode
from realtime_bus.cli._bench._figures import Figure, Section, interleaved
from realtime_bus.events import InputAudioBufferAppend

__all__ = ["rows", "section"]

OURS, BARE, JSON, OPENAI = "realtime-bus", "bare msgspec", "json and base64", "openai-python"
COLUMNS = {"20 ms": (960, 2000), "1 s": (48_000, 200), "15 MiB": (15 * 1024 * 1024, 1)}
"""Bytes of audio, and how many appends a round has."""

_Encode = Callable[[bytes], object]


class _Append(msgspec.Struct, tag_field="type", tag="input_audio_buffer.append"):
    audio: bytes


def _ours(audio: bytes) -> bytes:
    return encode(InputAudioBufferAppend(audio=audio))


_ENCODER = msgspec.json.Encoder()


def _bare(audio: bytes) -> bytes:
    return _ENCODER.encode(_Append(audio))


def _json(audio: bytes) -> str:
    text = base64.b64encode(audio).decode()
    return json.dumps({"type": "input_audio_buffer.append", "audio": text})


def _openai() -> _Encode | None:
    try:
        from openai.types.realtime import InputAudioBufferAppendEvent  # noqa: PLC0415  # a peer
    except ImportError:
        return None

    def run(audio: bytes) -> str:  # what connection.send does with an event
        text = base64.b64encode(audio).decode()
        event = InputAudioBufferAppendEvent(type="input_audio_buffer.append", audio=text)
        return event.to_json(use_api_names=True, exclude_unset=True)

    return run


RULES = {
    OURS: "encode(InputAudioBufferAppend(audio=…)), which is checked",
    BARE: "a struct with a bytes field; nothing is checked",
    JSON: "json.dumps with base64.b64encode(…).decode()",
    OPENAI: "InputAudioBufferAppendEvent(…).to_json, as connection.send does",
}


def rows() -> dict[str, _Encode]:
    """Return what encodes, by name."""
    found = {OURS: _ours, BARE: _bare, JSON: _json, OPENAI: _openai()}
    return {name: run for name, run in found.items() if run is not None}


def section(*, rounds: int, progress: Callable[[], object] = lambda: None) -> Section:
    """Measure the time of an append."""
    found = rows()
    figures: dict[str, dict[str, Figure]] = {}
    for column, (size, count) in COLUMNS.items():
        audio = random.Random(1).randbytes(size)  # noqa: S311  # sample data, no secret
        work = {name: partial(_repeat, run, audio, count) for name, run in found.items()}
        figures[column] = interleaved(work, units=count, rounds=rounds)
        progress()
    return Section(
        "encode",
        "Encode: an append, from bytes of audio to the text of its frame",
        ("µs", 1e6),
        figures,
        RULES,
        OURS,
        {name: "it is not installed" for name in RULES if name not in found},
    )


def _repeat(run: _Encode, audio: bytes, count: int) -> None:
    for _ in range(count):
        run(audio)

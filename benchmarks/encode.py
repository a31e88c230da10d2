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
from realtime_bus.cli.bench import OPENAI, OURS, Section, interleaved, is_installed
from realtime_bus.events import InputAudioBufferAppend

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


def _openai() -> _Encode:
    from openai.types.realtime import InputAudioBufferAppendEvent  # noqa: PLC0415  # a peer

    def run(audio: bytes) -> str:  # what connection.send does with an event
        text = base64.b64encode(audio).decode()
        event = InputAudioBufferAppendEvent(type="input_audio_buffer.append", audio=text)
        return event.to_json(use_api_names=True, exclude_unset=True)

    return run


BARE, JSON = "bare msgspec", "json and base64"
RULES = {
    OURS: "encode(InputAudioBufferAppend(audio=…)), which is checked",
    BARE: "a struct with a bytes field; nothing is checked",
    JSON: "json.dumps with base64.b64encode(…).decode()",
    OPENAI: "InputAudioBufferAppendEvent(…).to_json, as connection.send does",
}


def encoding(*, rounds: int) -> Section:
    """Measure the time of an append."""
    rows: dict[str, _Encode] = {OURS: _ours, BARE: _bare, JSON: _json}
    left_out = {} if is_installed("openai") else {OPENAI: "it is not installed"}
    if not left_out:
        rows[OPENAI] = _openai()

    def repeat(run: _Encode, audio: bytes, count: int) -> None:
        for _ in range(count):
            run(audio)

    figures = {}
    for column, (size, count) in COLUMNS.items():
        audio = random.Random(1).randbytes(size)  # noqa: S311  # sample data, no secret
        work = {name: partial(repeat, run, audio, count) for name, run in rows.items()}
        figures[column] = interleaved(work, units=count, rounds=rounds)
    title = "Encode: an append, from bytes of audio to the text of its frame"
    return Section("encode", title, ("µs", 1e6), figures, RULES, OURS, left_out)

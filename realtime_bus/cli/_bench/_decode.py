"""Decoding, for `realtime-bus bench`; the repository's own suite has more columns."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from typing import Any

import pybase64

from realtime_bus import events as ev
from realtime_bus.codec import Decoder

from ._bare import bare_decoder
from ._figures import Section, interleaved
from ._frames import audio_frames, mixed_frames, small_frames
from ._processes import is_installed

__all__ = ["decode_section"]

OURS, BARE, OPENAI = "realtime-bus", "floor: bare msgspec", "openai-python"
_Read = Callable[[bytes], Any]


def _ours() -> _Read:
    decode = Decoder().decode

    def read(frame: bytes) -> object:
        event = decode(frame)
        return event.delta if type(event) is ev.ResponseOutputAudioDelta else event

    return read


def _bare() -> _Read:
    decode, plain = bare_decoder()
    audio = plain[ev.ResponseOutputAudioDelta]

    def read(frame: bytes) -> object:
        event = decode(frame)
        if type(event) is audio:
            return pybase64.b64decode(memoryview(event.delta)[1:-1], validate=True)
        return event

    return read


def _openai() -> _Read:
    from openai.resources.realtime.realtime import (  # noqa: PLC0415  # a peer
        RealtimeConnection,
    )

    # the parser is a method that uses nothing of its connection
    parse: _Read = partial(RealtimeConnection.parse_event, object.__new__(RealtimeConnection))

    def read(frame: bytes) -> object:
        event: Any = parse(frame)
        if event.type == "response.output_audio.delta":
            return base64.b64decode(event.delta)
        return event

    return read


_RULES: dict[str, tuple[Callable[[], _Read], str, str | None]] = {
    OURS: (_ours, "Decoder.decode; audio by reading event.delta", None),
    BARE: (_bare, "a union of 46 plain structs, strict; audio by pybase64 on the Raw field", None),
    OPENAI: (_openai, "RealtimeConnection.parse_event; audio by base64.b64decode", "openai"),
}


def decode_section(*, rounds: int, progress: Callable[[], object] = lambda: None) -> Section:
    """Measure the time of a frame."""
    found = {name: make for name, (make, _, needs) in _RULES.items() if is_installed(needs)}
    readers = {name: make() for name, make in found.items()}
    columns = {
        "small": small_frames(256),
        "audio, read": audio_frames(100),
        "mix, read": mixed_frames(256, 100),
    }
    figures = {}
    for column, frames in columns.items():
        work = {name: partial(_run, read, frames) for name, read in readers.items()}
        figures[column] = interleaved(work, units=len(frames), rounds=rounds)
        progress()
    return Section(
        "decode",
        "Decode: time of a frame; the same frames, the audio as bytes at the end",
        ("µs", 1e6),
        figures,
        {name: rule for name, (_, rule, _) in _RULES.items()},
        OURS,
        {name: "it is not installed" for name in _RULES if name not in found},
    )


def _run(read: _Read, frames: list[bytes]) -> None:
    for frame in frames:
        read(frame)

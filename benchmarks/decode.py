"""Throughput of decoding: `python -m benchmarks.decode [--smoke] [--json PATH]`.

Every row decodes the same frames, one at a time, each into what its library gives its users.
"Read" means: of every audio delta, the audio is there as bytes at the end. Rows that are
nobody's library are there to show what is possible: `json.loads` gives plain dicts, and bare
msgspec is a tagged union of the 46 events with a `Raw` audio field, without any leniency.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pybase64
from rich.console import Console

from realtime_bus.cli._bench._bare import bare_decoder
from realtime_bus.cli._bench._figures import Figure, Section, interleaved
from realtime_bus.cli._bench._table import show
from realtime_bus.codec import Decoder
from realtime_bus.events import ResponseOutputAudioDelta

from ._frames import audio_frames, mixed_frames, small_frames

OURS, BARE, OPENAI, JSON = "realtime-bus", "bare msgspec", "openai-python", "json.loads"
AUDIO = "response.output_audio.delta"

# Marks on the mix with the audio read, and where a noisy machine has clearly left them.
MARKS = {OPENAI: (20.0, 15.0), BARE: (1 / 1.5, 1 / 1.8)}


class Row(NamedTuple):
    """One way to decode."""

    name: str
    rule: str
    decode: Callable[[bytes], Any]
    read: Callable[[bytes], Any]


def our_row() -> Row:
    decode = Decoder().decode

    def read(frame: bytes) -> object:
        event = decode(frame)
        return event.delta if type(event) is ResponseOutputAudioDelta else event

    return Row(OURS, "Decoder.decode; audio by reading event.delta", decode, read)


def json_row() -> Row:
    def read(frame: bytes) -> object:
        event = json.loads(frame)
        return base64.b64decode(event["delta"]) if event["type"] == AUDIO else event

    return Row(JSON, "plain dicts; audio by base64.b64decode", json.loads, read)


def bare_row() -> Row:
    decode, plain = bare_decoder()
    audio = plain[ResponseOutputAudioDelta]

    def read(frame: bytes) -> object:
        event = decode(frame)
        if type(event) is audio:
            return pybase64.b64decode(memoryview(event.delta)[1:-1], validate=True)
        return event

    rule = "one union of 46 plain structs, strict; audio by pybase64 on the Raw field"
    return Row(BARE, rule, decode, read)


def openai_row() -> Row | None:
    try:
        from openai.resources.realtime.realtime import RealtimeConnection  # noqa: PLC0415  # a peer that may be missing
    except ImportError:
        return None
    # the parser is a method that uses nothing of its connection
    parse = partial(RealtimeConnection.parse_event, object.__new__(RealtimeConnection))

    def read(frame: bytes) -> object:
        event: Any = parse(frame)
        return base64.b64decode(event.delta) if event.type == AUDIO else event

    return Row(OPENAI, "RealtimeConnection.parse_event; audio by base64.b64decode", parse, read)


def rows() -> list[Row]:
    found = [our_row(), bare_row(), json_row(), openai_row()]
    return [row for row in found if row is not None]


def columns(scale: int) -> dict[str, tuple[list[bytes], bool]]:
    """Return the frames of each column, and whether their audio is read."""
    small, audio = small_frames(128 * scale), audio_frames(50 * scale)
    mix = mixed_frames(128 * scale, 50 * scale)
    return {
        "small": (small, False),
        "audio": (audio, False),
        "audio, read": (audio, True),
        "mix": (mix, False),
        "mix, read": (mix, True),
    }


def section(found: list[Row], *, scale: int, rounds: int) -> Section:
    """Measure the time of a frame."""
    figures: dict[str, dict[str, Figure]] = {}
    for column, (frames, read) in columns(scale).items():
        work = {row.name: partial(run, row.read if read else row.decode, frames) for row in found}
        figures[column] = interleaved(work, units=len(frames), rounds=rounds)
    left_out = {} if OPENAI in {row.name for row in found} else {OPENAI: "it is not installed"}
    return Section(
        "decode",
        "Decode: time of a frame; the same frames, one at a time; where read, audio is bytes",
        ("µs", 1e6),
        figures,
        {row.name: row.rule for row in found},
        OURS,
        left_out,
    )


def run(decode: Callable[[bytes], Any], frames: list[bytes]) -> None:
    for frame in frames:
        decode(frame)


def failures(measured: Section) -> list[str]:
    """Return which marks are clearly missed, on the mix with the audio read."""
    ratios = {name: measured.ratio("mix, read", name) for name in MARKS}
    return [
        f"{name} takes {ratio:.2f}x our time; mark {MARKS[name][0]:.2f}x, "
        f"limit {MARKS[name][1]:.2f}x"
        for name, ratio in ratios.items()
        if ratio is not None and ratio < MARKS[name][1]
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Throughput of decoding, side by side.")
    parser.add_argument("--smoke", action="store_true", help="a few seconds; fail on missed marks")
    parser.add_argument("--rounds", type=int, default=None, help="rounds of each row")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    options = parser.parse_args(arguments)
    rounds = options.rounds or (7 if options.smoke else 25)
    measured = section(rows(), scale=2 if options.smoke else 10, rounds=rounds)
    show(Console(width=None if sys.stdout.isatty() else 180), measured)
    if options.json is not None:
        options.json.write_text(json.dumps(measured.as_dict(), indent=1), encoding="utf-8")
    missed = failures(measured) if options.smoke else []
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

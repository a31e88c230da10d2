"""How long it takes to work out what a recording says happened, and to export it.

    uv run python -m benchmarks.timeline

An hour of conversation on disk, 360,000 events with audio, 0.5 GB: read alone, its time line, the
same with waveforms, both voices as a WAV file, the conversation as JSON. CPU seconds, as multiples
of reading the lines alone in the same run; memory is the most that was in use. ``--smoke`` takes a
minute of conversation, and fails if memory grows with the audio.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec

from realtime_bus.recording import Recording, Timeline, export_wav
from realtime_bus.recording import conversation as exported

from .inspector import conversation

_MOST_MB_A_MINUTE = 2.0  # a minute's audio is 5.8 MB


def write(path: Path, minutes: float) -> int:
    """Write a recording, and return how many lines it has."""
    encoder = msgspec.json.Encoder()
    count = 0
    with path.open("wb") as file:
        for line in conversation(minutes):
            file.write(encoder.encode(line) + b"\n")
            count += 1
    return count


def _cpu_s(work: Callable[[], object]) -> float:
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


def _most_mb(work: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def run(minutes: float, folder: Path) -> dict[str, float]:
    """Write a recording of so many minutes, and measure what is made of it."""
    path, wav = folder / "call.jsonl", folder / "call.wav"
    lines = write(path, minutes)
    recording = Recording(path)
    timeline = Timeline.of(recording)
    works: dict[str, Callable[[], object]] = {
        "the lines alone": lambda: sum(1 for _ in recording),
        "time line": lambda: Timeline.of(recording),
        "time line with waveforms": lambda: Timeline.of(recording, peaks=True),
        "WAV, as heard": lambda: export_wav(recording, wav),
        "WAV, as generated": lambda: export_wav(recording, wav, what="generated"),
        "conversation as JSON": lambda: exported(timeline).json(),
    }
    found = {name: _cpu_s(work) for name, work in works.items()}
    sample = folder / "minute.jsonl"
    write(sample, min(minutes, 2.0))  # tracing memory takes ten times as long
    most = _most_mb(lambda: export_wav(Recording(sample), wav)) / min(minutes, 2.0)
    return {"lines": lines, "MB": path.stat().st_size / 1e6, **found, "MB of memory a minute": most}


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timeline", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--smoke", action="store_true", help="a minute of conversation")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = run(1.0 if options.smoke else options.minutes, Path(folder))
    lines, size, most = found.pop("lines"), found.pop("MB"), found.pop("MB of memory a minute")
    alone = found["the lines alone"]
    print(f"{lines:.0f} lines, {size:.0f} MB")
    for name, cpu_s in found.items():
        print(f"{name:>26}: {cpu_s:7.2f} s of CPU, {cpu_s / alone:5.1f} x reading the lines")
    print(f"{'memory for the WAV':>26}: {most:7.2f} MB for each minute of conversation")
    return int(options.smoke and most > _MOST_MB_A_MINUTE)


if __name__ == "__main__":
    sys.exit(main())

"""What recording costs a session: `python -m benchmarks.recorder`.

Sessions at real-time pace over loopback sockets, from another process: 60 frames a second each, 28 %
of them 200 ms of audio, as in the suite; and a microphone, 50 frames a second each. Sides take
turns in one process, round by round, and which begins changes. Counted is the CPU time of the
process, its writing thread's and the kernel's in its name, until all is written. `--smoke` takes
some seconds and fails if the share has clearly left its target.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from time import process_time
from typing import Any

import anyio

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.cli.bench import Sender
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import NullSink

RATE_HZ, MICROPHONE_HZ = 60, 50
CHUNK_BYTES = 960  # 20 ms
TARGET = 0.05
SIDES: dict[str, dict[str, Any] | None] = {
    "not recorded": None,
    "recorded": {},
    "without audio": {"audio": False},
    "without texts": {"texts": False},
    "zstd": {"compress": True},
}
LIMIT_S = 60.0


def receive() -> None:
    """Take orders from stdin, answer each by two lines: ready, and the CPU time of a frame."""
    for line in sys.stdin:
        order = json.loads(line)
        folder = tempfile.mkdtemp(prefix="recordings-", dir=order["folder"])
        try:
            say(anyio.run(received, order, folder))
        finally:
            shutil.rmtree(folder)


async def received(order: dict[str, Any], folder: str) -> dict[str, Any]:
    """Take so many frames in so many sessions; return the CPU time of a frame."""
    ended = anyio.Event()
    options = SIDES[order["side"]]
    frames, sent = 0, 0
    expected = round(order["sessions"] * RATE_HZ * order["seconds"])
    sessions: list[Session] = []
    bus = Bus()

    def count() -> None:
        nonlocal frames
        frames += 1
        if frames == expected:
            ended.set()

    @bus.on(ev.ResponseOutputAudioTranscriptDelta)
    def text(_: ev.ResponseOutputAudioTranscriptDelta) -> None:
        count()

    @bus.on(ev.ResponseOutputAudioDelta)
    def audio(event: ev.ResponseOutputAudioDelta) -> None:
        len(event.delta)
        count()

    async def microphone() -> None:
        nonlocal sent
        due_s = anyio.current_time()
        chunk = os.urandom(CHUNK_BYTES)
        while not ended.is_set():
            for session in sessions:
                session.send_nowait(ev.InputAudioBufferAppend(audio=chunk))
                sent += 1
            due_s += 1 / MICROPHONE_HZ
            await anyio.sleep(max(0.0, due_s - anyio.current_time()))

    async with AsyncExitStack() as stack:
        for _ in range(order["sessions"]):
            plugins: list[Any] = []
            if order["sink"]:
                plugins.append(NullSink())
            if options is not None:
                sink = plugins[0] if plugins else None
                plugins.append(Recorder(folder, sink=sink, **options))
            connected = bus.connect(order["url"], api_key="sk-none-of-it", plugins=plugins)
            sessions.append(await stack.enter_async_context(connected))
        await anyio.sleep(0.5)
        say({"ready": True})
        started_s = process_time()
        if order["microphone"]:
            sessions[0].start_soon(microphone)
        with anyio.fail_after(LIMIT_S):
            await ended.wait()
        await anyio.sleep(0.5)  # what is left is being written
        took_s = process_time() - started_s
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {"cpu_s": took_s, "frames": frames + sent, "bytes": size}


def say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


@contextmanager
def receiver() -> Iterator[Any]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.recorder", "--receive"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def hear(process: Any) -> dict[str, Any]:
    guard = threading.Timer(LIMIT_S, process.kill)
    guard.start()
    try:
        line = process.stdout.readline()
    finally:
        guard.cancel()
    if not line:
        raise SystemExit("benchmarks.recorder: the receiver ended without an answer")
    answer: dict[str, Any] = json.loads(line)
    return answer


def measure(
    sides: list[str], *, rounds: int, order: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """Return what each side said of each round, but for the first."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with Sender() as sender, receiver() as process:
        for number in range(rounds + 1):
            for side in sides if number % 2 else sides[::-1]:
                process.stdin.write(json.dumps({**order, "side": side, "url": sender.url}) + "\n")
                process.stdin.flush()
                hear(process)
                sender.tell({"do": "pace", "rate_hz": RATE_HZ, "seconds": order["seconds"]})
                sender.hear()
                answer = hear(process)
                if number:
                    found[side].append(answer)
    return found


def shares(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Return what each side costs beyond the first, as a share of that, by round."""
    plain, *others = found
    return {
        side: [
            this["cpu_s"] / base["cpu_s"] - 1
            for this, base in zip(found[side], found[plain], strict=True)
        ]
        for side in others
    }


def main() -> int:
    """Measure, print, and return 1 if the target was clearly missed in a smoke test."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recorder", description=__doc__)
    parser.add_argument(
        "--smoke", action="store_true", help="some seconds; fail far off the target"
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="whose disk is written to")
    parser.add_argument("--sides", default="recorded,without audio,without texts,zstd")
    parser.add_argument("--no-microphone", action="store_true")
    parser.add_argument("--no-sink", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.sessions, options.seconds = 3, 30, 1.0
        options.sides = "recorded"
    order = {
        "sessions": options.sessions,
        "seconds": options.seconds,
        "folder": options.folder,
        "microphone": not options.no_microphone,
        "sink": not options.no_sink,
    }
    sides = ["not recorded", *options.sides.split(",")]
    found = measure(sides, rounds=options.rounds, order=order)
    for side, answers in found.items():
        cpu_us = [answer["cpu_s"] / answer["frames"] * 1e6 for answer in answers]
        kilobytes = statistics.median(answer["bytes"] for answer in answers) / 1e3
        per_session = kilobytes / options.sessions / options.seconds
        print(
            f"{side:<14} {statistics.median(cpu_us):6.2f} µs a frame (min {min(cpu_us):.2f}), "
            f"{per_session:6.1f} kB a second and session"
        )
    result = shares(found)
    for side, values in result.items():
        fewest = min(a["cpu_s"] for a in found[side]) / min(a["cpu_s"] for a in found[sides[0]]) - 1
        print(
            f"{side}: {statistics.median(values):+.1%} CPU (rounds {min(values):+.1%} to "
            f"{max(values):+.1%}; of the minima {fewest:+.1%})"
        )
    return int(options.smoke and statistics.median(result["recorded"]) > 4 * TARGET)


if __name__ == "__main__":
    sys.exit(receive() if sys.argv[1:] == ["--receive"] else main())

"""This checkout beside another one: `python -m benchmarks.compare /path/to/other --rounds 7`.

Socket to handler at full speed and at real-time pace, as in the suite. One
sender serves both sides and both run the receiver below, so that only the library differs; it uses
nothing but `Bus`, `Bus.connect` and event classes. Each round has a fresh process of each side,
under the checkout's own `.venv` if it has one; within a round they take turns, tenths of a second
apart, so that both meet the same machine. The ratio is the median of the rounds' ratios: above 1
this checkout is the slower one. On a busy machine two checkouts of one commit differ by 2 % over
six rounds, which take two minutes.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from time import process_time
from typing import Any

HERE = Path(__file__).resolve().parent.parent
BURST = {"small": 1280, "audio": 500}
SESSIONS, RATE_HZ, SECONDS = 50, 60, 1.0
LIMIT_S = 90.0


def receive() -> None:
    """Take orders from stdin, answer each by two lines: ready, and the CPU time of a frame."""
    import anyio  # noqa: PLC0415  # of the checkout that is measured, as the next one
    import structlog  # noqa: PLC0415  # the same

    import realtime_bus  # noqa: PLC0415  # the same

    sys.stdout = sys.stderr  # answers go to the file descriptor, and nothing else does
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    say({"package": realtime_bus.__file__})
    for line in sys.stdin:
        say(anyio.run(received, json.loads(line)))


async def received(order: dict[str, Any]) -> dict[str, Any]:
    """Take so many frames in so many sessions; return the CPU time of a frame."""
    import anyio  # noqa: PLC0415  # of the checkout that is measured

    from realtime_bus import Bus  # noqa: PLC0415  # the same
    from realtime_bus import events as ev  # noqa: PLC0415  # the same

    bus, ended = Bus(), anyio.Event()
    frames = audio_bytes = 0

    def count() -> None:
        nonlocal frames
        frames += 1
        if frames == order["frames"]:
            ended.set()

    @bus.on(ev.ResponseOutputAudioTranscriptDelta)
    def text(_: ev.ResponseOutputAudioTranscriptDelta) -> None:
        count()

    @bus.on(ev.ResponseOutputAudioDelta)
    def audio(event: ev.ResponseOutputAudioDelta) -> None:
        nonlocal audio_bytes
        audio_bytes += len(event.delta)
        count()

    async with AsyncExitStack() as stack:
        for _ in range(order["sessions"]):
            await stack.enter_async_context(bus.connect(order["url"], api_key="none"))
        await anyio.sleep(0.05)
        gc.collect()
        say({"ready": True})
        started_s = process_time()
        with anyio.fail_after(LIMIT_S):
            await ended.wait()
        took_s = process_time() - started_s
    return {"cpu_s": took_s / order["frames"], "audio_bytes": audio_bytes}


def say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


@contextmanager
def receiver(checkout: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a receiver that imports the library from a checkout."""
    own = checkout / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    process = subprocess.Popen(
        [str(own) if own.exists() else sys.executable, "-P", __file__, "--receive"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        text=True,
    )
    guard = threading.Timer(LIMIT_S, process.kill)
    guard.start()
    try:
        package = hear(process)["package"]
        assert Path(package).is_relative_to(checkout), f"{package} is not of {checkout}"
        yield process
    finally:
        guard.cancel()
        process.kill()
        process.communicate()


def hear(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("benchmarks.compare: a receiver ended without an answer")
    answer: dict[str, Any] = json.loads(line)
    return answer


def ask(process: Any, sender: Any, order: dict[str, Any], send: dict[str, Any]) -> dict[str, Any]:
    """Let the sender send to a receiver, and return what that says at the end."""
    process.stdin.write(json.dumps(order | {"url": sender.url}) + "\n")
    process.stdin.flush()
    hear(process)
    sender.tell(send)
    sender.hear()
    return hear(process)


def burst(process: Any, sender: Any) -> float:
    order = {"sessions": 1, "frames": BURST["small"] + BURST["audio"]}
    found = ask(process, sender, order, {"do": "burst", **BURST})
    assert found["audio_bytes"] == BURST["audio"] * 9600, found
    return float(found["cpu_s"])


def pace(process: Any, sender: Any) -> float:
    order = {"sessions": SESSIONS, "frames": round(SESSIONS * RATE_HZ * SECONDS)}
    send = {"do": "pace", "rate_hz": RATE_HZ, "seconds": SECONDS}
    return float(ask(process, sender, order, send)["cpu_s"])


ROWS = {
    "full speed: CPU of a frame": (burst, 12),
    f"paced: CPU of a frame, {SESSIONS} sessions": (pace, 4),
}
"""What is measured, and how often in a round; once more before that, which does not count."""


def compare(other: Path, *, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Return the figures of this checkout and of the other one, by row."""
    from realtime_bus.cli.bench import Sender  # noqa: PLC0415  # not in a receiver

    figures: dict[str, tuple[list[float], list[float]]] = {row: ([], []) for row in ROWS}
    with Sender() as sender:
        for number in range(rounds):
            with receiver(HERE) as this, receiver(other) as that:
                for row, (measure, times) in ROWS.items():
                    taken: tuple[list[float], list[float]] = ([], [])
                    for turn in range(times + 1):
                        # whose turn it is first changes: who comes second meets another machine
                        for side in (0, 1) if turn % 2 else (1, 0):
                            cpu_s = measure((this, that)[side], sender)
                            taken[side].extend([cpu_s] if turn else [])
                    for rounded, of_side in zip(figures[row], taken, strict=True):
                        rounded.append(statistics.median(of_side))
                    shown = " and ".join(f"{side[-1] * 1e6:.2f}" for side in figures[row])
                    print(f"round {number + 1} of {rounds}, {row}: {shown} µs", flush=True)
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Compare, and print medians, minima and ratios; above 1 this checkout is the slower one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each side")
    options = parser.parse_args(arguments)
    figures = compare(options.other.resolve(), rounds=options.rounds)
    print(f"\n{'µs, median (minimum)':<36}{'this':>16}{'other':>16}   this / other")
    for row, sides in figures.items():
        cells = [f"{statistics.median(side) * 1e6:.2f} ({min(side) * 1e6:.2f})" for side in sides]
        ratios = [ours / theirs for ours, theirs in zip(*sides, strict=True)]
        print(f"{row:<36}{cells[0]:>16}{cells[1]:>16}   {statistics.median(ratios):.3f}", end="")
        print(f"  (rounds from {min(ratios):.3f} to {max(ratios):.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(receive() if sys.argv[1:] == ["--receive"] else main())

"""This checkout beside another one: `python -m benchmarks.compare /path/to/other --rounds 7`.

Socket to handler at full speed and at real-time pace, as `full_speed` and `paced` measure them. One
sender serves both sides and both run the receiver below, so that only the library differs; it uses
nothing but `Bus`, `Bus.connect` and event classes. Rounds go this, other, this, other; each is a
fresh process under the checkout's own `.venv`, if it has one, and its first burst does not count.
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
BURSTS = 4
SESSIONS, RATE_HZ, SECONDS = 50, 60, 3.0
LIMIT_S = 90.0

ROWS = {"full speed": "CPU of a frame", "paced": f"CPU of a frame, {SESSIONS} sessions"}


def receive() -> None:
    """Take orders from stdin, answer each by two lines: ready, and the CPU time of a frame."""
    import anyio  # noqa: PLC0415  # of the checkout that is measured, as the next one
    import realtime_bus  # noqa: PLC0415  # the same
    import structlog  # noqa: PLC0415  # the same

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


def measured(sender: Any, checkout: Path) -> dict[str, float]:
    """Run one round of a checkout: some bursts, and a while at real-time pace."""
    burst = {"sessions": 1, "frames": BURST["small"] + BURST["audio"]}
    pace = {"sessions": SESSIONS, "frames": round(SESSIONS * RATE_HZ * SECONDS)}
    with receiver(checkout) as process:

        def run(order: dict[str, Any], send: dict[str, Any]) -> dict[str, Any]:
            assert process.stdin is not None
            process.stdin.write(json.dumps(order | {"url": sender.url}) + "\n")
            process.stdin.flush()
            hear(process)
            sender.tell(send)
            sender.hear()
            return hear(process)

        bursts = [run(burst, {"do": "burst", **BURST}) for _ in range(1 + BURSTS)][1:]
        assert all(each["audio_bytes"] == BURST["audio"] * 9600 for each in bursts), bursts
        paced = run(pace, {"do": "pace", "rate_hz": RATE_HZ, "seconds": SECONDS})
    return {
        "full speed": statistics.median(each["cpu_s"] for each in bursts),
        "paced": paced["cpu_s"],
    }


def compare(other: Path, *, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return the figures of both sides, row by row."""
    from realtime_bus.cli._bench._processes import Sender  # noqa: PLC0415  # not in a receiver

    figures: dict[str, dict[str, list[float]]] = {row: {"this": [], "other": []} for row in ROWS}
    with Sender() as sender:
        for number in range(rounds):
            for side, checkout in (("this", HERE), ("other", other)):
                found = measured(sender, checkout)
                for row, cpu_s in found.items():
                    figures[row][side].append(cpu_s)
                shown = ", ".join(f"{row} {cpu_s * 1e6:.2f} µs" for row, cpu_s in found.items())
                print(f"round {number + 1} of {rounds}, {side}: {shown}", flush=True)
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
        this, other = sides["this"], sides["other"]
        cells = [f"{statistics.median(s) * 1e6:.2f} ({min(s) * 1e6:.2f})" for s in (this, other)]
        ratios = [f"{take(this) / take(other):.3f}" for take in (statistics.median, min)]
        title = f"{row}: {ROWS[row]}"
        print(f"{title:<36}{cells[0]:>16}{cells[1]:>16}   {ratios[0]} ({ratios[1]})")
    return 0


if __name__ == "__main__":
    sys.exit(receive() if sys.argv[1:] == ["--receive"] else main())

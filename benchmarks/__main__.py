"""All benchmarks: `uv run --group bench python -m benchmarks`.

Takes some minutes. Prints a table of each, and writes `results.json` and `results.svg` into
`--out`. `--only decode,dispatch` takes some of them; `--smoke` takes a minute at most and fails
if a ratio has clearly left its target.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console

from realtime_bus.cli import bench
from realtime_bus.cli.bench import Section, show

from . import smoke, sockets
from .dispatch import deliver, dispatch
from .encode import encoding
from .peers import decode_rows
from .plot import plot
from .startup import startup
from .tricks import tricks

_PACKAGES = (
    "realtime-bus",
    "msgspec",
    "websockets",
    "openai",
    "openai-agents",
    "livekit-plugins-openai",
    "pipecat-ai",
    "azure-ai-voicelive",
    "picows",
    "uvloop",
    "blinker",
    "pyee",
)


BENCHMARKS: dict[str, Callable[[int], Section]] = {
    "decode": lambda rounds: bench.decode(decode_rows(), scale=10, rounds=2 * rounds),
    "dispatch": lambda rounds: dispatch(rounds=2 * rounds),
    "deliver": lambda rounds: deliver(rounds=2 * rounds),
    "encode": lambda rounds: encoding(rounds=rounds),
    "tricks": lambda rounds: tricks(rounds=rounds),
    "full_speed": lambda rounds: sockets.full_speed(rounds=rounds),
    "paced": lambda rounds: sockets.paced(rounds=max(1, rounds // 3)),
    "paced_tls": lambda rounds: sockets.paced_tls(rounds=max(1, rounds // 4)),
    "crowd": lambda rounds: sockets.crowd(rounds=max(1, rounds // 5)),
    "barge_in": lambda rounds: sockets.barge_in(rounds=max(1, rounds // 2)),
    "silence": lambda rounds: sockets.silence(rounds=max(1, rounds // 3)),
    "memory_idle": lambda _: sockets.memory_idle(),
    "memory_queued": lambda _: sockets.memory_queued(),
    "startup": lambda rounds: startup(rounds=max(1, rounds // 2)),
}
"""What is measured, given how many rounds."""


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": _versions(),
    }


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Side by side.")
    parser.add_argument("--smoke", action="store_true", help="a minute; fail on missed ratios")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each row")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="some of: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="where to write")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    options = _arguments(arguments)
    if options.smoke:
        return smoke.main()
    console = Console(width=None if sys.stdout.isatty() else 180)
    sections: list[Section] = []
    for name in options.only.split(","):
        console.print(f"measuring {name} …", style="dim")
        sections.append(BENCHMARKS[name](options.rounds))
        show(console, sections[-1])
    _write(sections, options.out, console)
    return 0


def _write(sections: list[Section], out: Path, console: Console) -> None:
    out.mkdir(parents=True, exist_ok=True)
    found = {"machine": _machine(), "sections": [section.as_dict() for section in sections]}
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (out / "results.json").write_text(text + "\n", encoding="utf-8")
    plot(found["sections"], out / "results.svg")
    console.print(f"\nwrote {out / 'results.json'} and results.svg")


if __name__ == "__main__":
    sys.exit(main())

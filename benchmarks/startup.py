"""Start-up: how long the import takes in a fresh process, beyond Python's own start."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

from realtime_bus.cli.bench import OURS, Section, figure, is_installed

MODULES = {
    OURS: "realtime_bus",
    "openai-python": "openai.types.realtime",
    "openai-agents": "agents.realtime",
    "LiveKit": "livekit.plugins.openai",
    "Pipecat": "pipecat.services.openai.realtime.llm",
    "azure-ai-voicelive": "azure.ai.voicelive.aio",
    "parts: msgspec, anyio, websockets, structlog": "msgspec, anyio, structlog, websockets.client",
}


def startup(*, rounds: int) -> Section:
    """Measure all that is installed."""
    found = {n: m for n, m in MODULES.items() if is_installed(m.split(",")[0])}
    taken: dict[str, list[float]] = {name: [] for name in found}
    for number in range(rounds + 1):
        bare_s = _run("pass")
        for name, module in found.items():
            took_s = _run(f"import {module}") - bare_s
            if number:  # the first round fills the caches of bytecode and disk
                taken[name].append(took_s)
    return Section(
        "startup",
        "Start-up: importing the library in a fresh process, without Python's own start",
        ("ms", 1e3),
        {"import": {name: figure(values) for name, values in taken.items()}},
        {name: f"import {module}" for name, module in MODULES.items()},
        OURS,
        {name: "it is not installed" for name in MODULES if name not in found},
    )


def _run(code: str) -> float:
    started = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
    return perf_counter() - started

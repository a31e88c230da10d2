"""``realtime-bus bench``: how fast it is on this machine, beside the floors and openai-python.

The suite with all the peers is in ``benchmarks/`` of the repository and measures with the same
parts: a `Section` is a benchmark, a `Row` a library that takes part in those over a socket.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ._figures import (
    Figure,
    Section,
    figure,
    interleaved,
    interleaved_async,
    is_installed,
    show,
)
from ._in_process import (
    DISPATCH_COLUMNS,
    Countdown,
    DecodeRow,
    DispatchRow,
    decode,
    decode_rows,
    dispatch,
    dispatch_rows,
)
from ._rows import (
    FLOOR,
    OPENAI,
    OURS,
    bare_decoder,
    counting_bus,
    playing_taker,
    rows,
    tallying_taker,
)
from ._socket import (
    Certificate,
    Sender,
    barge_in,
    full_speed,
    idle_memory,
    paced,
    queued_memory,
)
from ._work import Backlog, Row, Tally, audio_frames, mixed_frames, small_frames

__all__ = [
    "FLOOR",
    "OPENAI",
    "OURS",
    "Backlog",
    "Certificate",
    "Countdown",
    "DecodeRow",
    "DispatchRow",
    "Figure",
    "Row",
    "Section",
    "Sender",
    "Tally",
    "audio_frames",
    "bare_decoder",
    "barge_in",
    "counting_bus",
    "decode",
    "decode_rows",
    "dispatch",
    "dispatch_rows",
    "figure",
    "full_speed",
    "idle_memory",
    "interleaved",
    "interleaved_async",
    "is_installed",
    "mixed_frames",
    "paced",
    "playing_taker",
    "queued_memory",
    "rows",
    "run_bench",
    "show",
    "small_frames",
    "tallying_taker",
]

_Measure = Callable[[Callable[[], object]], Section]


def run_bench(
    *, short: bool = False, json_path: Path | None = None, console: Console | None = None
) -> list[Section]:
    """Measure decoding, dispatch, socket to handler, and barge-in under backlog; show tables.

    Takes about a minute, half of it if short. Loopback only; openai-python takes part if
    it is installed.

    Args:
        short: Fewer rounds.
        json_path: Also write the figures there.
        console: Where to print.
    """
    console = console or Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    sections: list[Section] = []
    with Progress(*columns, console=console, transient=True) as progress:
        for name, (steps, measure) in _plan(rounds=3 if short else 9).items():
            task = progress.add_task(name, total=steps)
            sections.append(measure(lambda task=task: progress.advance(task)))  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
    for section in sections:
        show(console, section)
    if json_path is not None:
        text = json.dumps([section.as_dict() for section in sections], indent=1)
        json_path.write_text(text, encoding="utf-8")
    return sections


def _plan(*, rounds: int) -> dict[str, tuple[int, _Measure]]:
    """Return how often each benchmark reports progress, and what runs it."""
    found = [row for row in rows() if is_installed(row.needs)]
    slow, few = sum(row.connect_slow is not None for row in found), rounds // 3 + 1
    return {
        "decode": (3, lambda step: decode(decode_rows(), rounds=4 * rounds, progress=step)),
        "dispatch": (
            len(DISPATCH_COLUMNS),
            lambda step: dispatch(dispatch_rows(), rounds=2 * rounds, progress=step),
        ),
        "socket to handler": (
            len(found) * (rounds + 1),
            lambda step: full_speed(rows(), rounds=rounds, progress=step),
        ),
        "barge-in": (
            slow * (few + 1),
            lambda step: barge_in(rows(), rounds=few, progress=step),
        ),
    }

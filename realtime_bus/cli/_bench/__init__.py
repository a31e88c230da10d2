"""``realtime-bus bench``: how fast it is on this machine, beside the floors and openai-python.

The suite with all the peers is in ``benchmarks/`` of the repository and uses the same parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from . import _rows, _socket
from ._decode import decode_section
from ._dispatch import COLUMNS, dispatch, own_dispatch_rows
from ._figures import Section
from ._handler import Row
from ._processes import is_installed
from ._table import show

__all__ = ["run_bench"]

_Step = Callable[[Callable[[], object]], Section]


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
    rows = _rows.rows()
    sections = list(_measured(console, _plan(rows, rounds=3 if short else 9)))
    for section in sections:
        show(console, section)
    if json_path is not None:
        text = json.dumps([section.as_dict() for section in sections], indent=1)
        json_path.write_text(text, encoding="utf-8")
    return sections


def _plan(rows: list[Row], *, rounds: int) -> list[tuple[str, int, _Step]]:
    """Return each step: its name, how often it reports progress, and what does it."""
    module = _rows.__name__
    found = [row for row in rows if is_installed(row.needs)]
    slow = sum(row.connect_slow is not None for row in found)
    own = own_dispatch_rows()
    return [
        ("decode", 3, lambda step: decode_section(rounds=4 * rounds, progress=step)),
        (
            "dispatch",
            len(COLUMNS),
            lambda step: dispatch(own, left_out={}, rounds=2 * rounds, progress=step),
        ),
        (
            "socket to handler",
            len(found) * (rounds + 1),
            lambda step: _socket.full_speed(rows, module=module, rounds=rounds, progress=step),
        ),
        (
            "barge-in",
            slow * (rounds // 3 + 2),
            lambda step: _socket.backlog(
                rows, module=module, rounds=rounds // 3 + 1, progress=step
            ),
        ),
    ]


def _measured(console: Console, plan: list[tuple[str, int, _Step]]) -> Iterator[Section]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for name, steps, step in plan:
            task = progress.add_task(name, total=steps)
            yield step(lambda task=task: progress.advance(task))  # type: ignore[misc]  # mypy cannot infer lambdas with defaults

"""What a benchmark results in, how it is timed, and how it is shown.

Rounds are interleaved, so that all rows see the same machine; ratios come first, for absolute
times say more about the machine; minima are the steadiest, for noise only ever adds.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.util import find_spec
from time import thread_time
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

Progress = Callable[[], object]
"""Called after each step."""


def no_progress() -> None:
    """Show none."""


class Figure(NamedTuple):
    """What one thing costs, over all rounds: seconds, bytes or shares for each unit of work."""

    median: float
    minimum: float


class Section(NamedTuple):
    """One benchmark.

    Attributes:
        name: A short name, for JSON.
        title: What is measured, and the rule that is fair to all.
        unit: What the figures are shown in, and how much of it is one of theirs.
        figures: By column, then by row.
        rules: What of each row is measured.
        ours: The row that the ratios are to.
        left_out: Rows that were not measured, and why.
        by: What the ratios are of: minima for work, for noise only ever adds to it; medians
            for latencies, which depend on what happens to be in the way.
    """

    name: str
    title: str
    unit: tuple[str, float]
    figures: dict[str, dict[str, Figure]]
    rules: dict[str, str]
    ours: str
    left_out: dict[str, str]
    by: Literal["minimum", "median"] = "minimum"

    def ratio(self, column: str, row: str) -> float | None:
        """Return how many times as much a row costs as ours, or None if either is missing."""
        figures = self.figures.get(column, {})
        if row not in figures or self.ours not in figures:
            return None
        ours = float(getattr(figures[self.ours], self.by))
        return float(getattr(figures[row], self.by)) / ours if ours else None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON; with the ratios."""
        columns = {
            column: {
                row: found._asdict() | {"times_ours": self.ratio(column, row)}
                for row, found in rows.items()
            }
            for column, rows in self.figures.items()
        }
        return self._asdict() | {"unit": self.unit[0], "scale": self.unit[1], "figures": columns}


def is_installed(module: str | None) -> bool:
    """Tell whether a row's module can be imported; a row that needs none always can."""
    try:
        return module is None or find_spec(module) is not None
    except ModuleNotFoundError:  # its package is missing
        return False


def figure(values: Iterable[float]) -> Figure:
    """Return the median and the minimum."""
    found = list(values)
    return Figure(statistics.median(found), min(found))


def interleaved(
    work: Mapping[str, Callable[[], object]], *, units: int, rounds: int
) -> dict[str, Figure]:
    """Time several things, a round of each in turn, and one round before that does not count.

    The time is the thread's own: what else the machine does while it waits is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, call in work.items():
            started = _start()
            call()
            times[name].append((thread_time() - started) / units)
    return {name: figure(taken[1:]) for name, taken in times.items()}


async def interleaved_async(
    work: Mapping[str, Callable[[], Awaitable[object]]], *, units: int, rounds: int
) -> dict[str, Figure]:
    """Do the same with things to await."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, call in work.items():
            started = _start()
            await call()
            times[name].append((thread_time() - started) / units)
    return {name: figure(taken[1:]) for name, taken in times.items()}


def _start() -> float:
    gc.collect()  # nobody pays for another's garbage; within a call, collection runs as usual
    return thread_time()


def show(console: Console, section: Section) -> None:
    """Print a section: of each row and column the ratio to ours, then median and minimum."""
    console.print()
    console.print(Text(section.title, style="bold"))
    console.print(_table(section))
    for row, rule in section.rules.items():
        if row not in section.left_out:
            console.print(Text(f"  {row}: {rule}", style="dim"))
    for row, why in section.left_out.items():
        console.print(Text(f"  {row}: left out, {why}", style="yellow"))


def _table(section: Section) -> Table:
    unit, scale = section.unit
    table = Table()
    table.add_column("", min_width=len("realtime-bus,"))
    for column in section.figures:
        table.add_column(f"{column}\ntimes ours by {section.by}", justify="right")
        table.add_column(f"{unit}\nmedian (min)".strip(), justify="right")
    measured = {row for figures in section.figures.values() for row in figures}
    for row in (row for row in section.rules if row in measured):
        cells: list[str] = []
        for column, figures in section.figures.items():
            ratio, found = section.ratio(column, row), figures.get(row)
            cells.append("" if ratio is None else f"{ratio:.2f}x")
            cells.append(
                f"{found.median * scale:.4g} ({found.minimum * scale:.4g})" if found else ""
            )
        table.add_row(row, *cells, style="bold" if row == section.ours else "")
    return table

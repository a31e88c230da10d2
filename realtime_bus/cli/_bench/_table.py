"""Sections as tables in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ._figures import Figure, Section

__all__ = ["show"]


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
    for row in _rows(section):
        cells: list[str] = []
        for column, figures in section.figures.items():
            cells += [_ratio(section.ratio(column, row)), _absolute(figures.get(row), scale)]
        table.add_row(row, *cells, style="bold" if row == section.ours else "")
    return table


def _rows(section: Section) -> list[str]:
    measured = {row for figures in section.figures.values() for row in figures}
    return [row for row in section.rules if row in measured]


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def _absolute(figure: Figure | None, scale: float) -> str:
    if figure is None:
        return ""
    return f"{figure.median * scale:.4g} ({figure.minimum * scale:.4g})"

"""The demo's last words: the figures, and whether it went as it should."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ._judge import Check, Figures
from ._record import Record, Said

__all__ = ["print_summary", "spoken"]


def print_summary(
    console: Console, record: Record, found: Figures, checks: list[Check], wav: Path
) -> None:
    """Print what was said, the figures, and each expectation."""
    console.print(_conversation(record))
    console.print(_figures(found, record))
    console.print(_verdict(checks))
    console.print(f"Both sides as heard (left person, right assistant): [bold]{wav}[/bold]")


def _conversation(record: Record) -> Panel:
    lines = [spoken(said) for said in record.said]
    return Panel(Group(*lines), title="what was said", title_align="left", border_style="dim")


def spoken(said: Said) -> Text:
    """Show what somebody said; what was never heard is struck out."""
    style = "green" if said.who == "person" else "yellow"
    heard = said.heard_chars
    line = Text.assemble((f"{said.who}: ", f"bold {style}"), said.text[:heard] or "…")
    if said.cut_ms is not None:
        line.append(f" ✂ interrupted after {said.cut_ms / 1000:.1f} s", "bold red")
        line.append(said.text[heard:], "dim strike")
    return line


def _figures(found: Figures, record: Record) -> Table:
    table = Table(title="in numbers", title_justify="left", show_header=False, border_style="dim")
    latency = "none" if found.latency_ms is None else f"{found.latency_ms:.3f} ms"
    table.add_row("events seen", f"{found.events} of {len(record.counts)} types")
    table.add_row("barge-in latency (frame received → sink silent)", latency, style="bold")
    table.add_row("audio received", f"{found.received_ms} ms")
    table.add_row("audio heard", f"{found.heard_ms} ms")
    table.add_row("audio discarded", f"{found.discarded_ms} ms")
    table.add_row("answer cut at", _ms(found.cut_ms))
    table.add_row("the server's confirmation of the cut", _ms(found.confirmed_ms))
    return table


def _ms(value: int | None) -> str:
    return "none" if value is None else f"{value} ms"


def _verdict(checks: list[Check]) -> Table:
    passed = all(check.passed for check in checks)
    title = (
        "[bold green]it went as it should[/]"
        if passed
        else "[bold red]it did not go as it should[/]"
    )
    table = Table(title=title, title_justify="left", show_header=False, border_style="dim")
    for check in checks:
        table.add_row("[green]✓[/]" if check.passed else "[bold red]✗[/]", check.what, check.found)
    return table

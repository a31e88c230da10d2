"""The demo on the screen: live in a terminal, plain lines elsewhere, and the summary at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import anyio
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from realtime_bus.audio import AudioSink

from ._conversation import Person
from ._judge import Check, Figures
from ._record import Line, Record, Said

_REFRESH_S = 0.08
_STYLES = {"server": "cyan", "bus": "magenta"}


class Scene(NamedTuple):
    """What there is to see.

    Attributes:
        title: What the demo talks to.
        record: What has happened.
        person: Who speaks into the session.
        sink: Where the assistant is heard.
    """

    title: str
    record: Record
    person: Person
    sink: AudioSink


class LiveView:
    """Draws the whole screen, several times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def run(self, scene: Scene) -> None:
        """Draw until cancelled."""
        with Live(console=self._console, screen=False, auto_refresh=False, transient=True) as live:
            while True:
                live.update(_screen(scene, self._console.height), refresh=True)
                await anyio.sleep(_REFRESH_S)


def _screen(scene: Scene, height: int) -> RenderableType:
    rows = max(18, min(height - 1, 34))
    layout = Layout(size=rows)
    layout.split_column(
        Layout(_speakers(scene), size=5), Layout(_transcript(scene, rows // 3)), Layout(name="low")
    )
    layout["low"].update(_events(scene, rows - rows // 3 - 8))
    frame = Table.grid(expand=True)
    frame.add_row(Panel(layout, height=rows, border_style="dim", padding=0))
    return frame


def _speakers(scene: Scene) -> Panel:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=11)
    table.add_column(width=13)
    table.add_column(ratio=1)
    table.add_column(justify="right", width=26)
    table.add_row(*_person_row(scene))
    table.add_row(*_assistant_row(scene))
    clock = f"{scene.record.now_s():5.1f} s"
    return Panel(
        table, title=f"realtime-bus demo · {scene.title}", subtitle=clock, border_style="blue"
    )


def _person_row(scene: Scene) -> tuple[RenderableType, ...]:
    speaking = scene.person.speaking
    meter = ProgressBar(total=100, completed=scene.person.level * 100, complete_style="green")
    heard = (
        Text("the server hears speech", style="green") if scene.record.speech_heard else Text("")
    )
    return Text("person", style="bold green"), _state(active=speaking), meter, heard


def _assistant_row(scene: Scene) -> tuple[RenderableType, ...]:
    now = next(iter(scene.sink.positions()), None)
    total = max(now.written_ms, 1) if now else 1
    played = now.played_ms if now else 0
    bar = ProgressBar(total=total, completed=played, complete_style="yellow")
    label = Text(f"{played / 1000:4.1f} of {total / 1000:4.1f} s received" if now else "")
    return Text("assistant", style="bold yellow"), _state(active=scene.sink.playing), bar, label


def _state(*, active: bool) -> Text:
    return Text("● speaking", style="bold") if active else Text("○ silent", style="dim")


def _transcript(scene: Scene, rows: int) -> Panel:
    lines = [spoken(said) for said in scene.record.said[-rows:]]
    return Panel(Group(*lines), title="conversation", title_align="left", border_style="dim")


def _events(scene: Scene, rows: int) -> Panel:
    lines = [_event(line) for line in list(scene.record.lines)[-max(rows, 3) :]]
    count = sum(scene.record.counts.values())
    return Panel(
        Group(*lines),
        title=f"events as they pass · {count}",
        title_align="left",
        border_style="dim",
    )


def _event(line: Line) -> Text:
    times = f" x{line.count}" if line.count > 1 else ""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{line.at_s:6.2f}  ", "dim")
    text.append(
        f"{line.name}{times}  ", "bold red" if "interrupted" in line.name else _STYLES[line.kind]
    )
    text.append(line.detail, "dim")
    return text


class PlainView:
    """Prints a line for each event, for logs and for terminals that cannot do more."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def run(self, scene: Scene) -> None:
        """Print until cancelled."""
        printed: Line | None = None
        try:
            while True:
                printed = self._print(
                    _new_lines(scene.record, printed, finished_only=True), printed
                )
                await anyio.sleep(_REFRESH_S)
        finally:
            self._print(_new_lines(scene.record, printed, finished_only=False), printed)

    def _print(self, lines: Iterator[Line], last: Line | None) -> Line | None:
        for line in lines:
            self._console.print(_event(line), soft_wrap=True)
            last = line
        return last


def _new_lines(record: Record, printed: Line | None, *, finished_only: bool) -> Iterator[Line]:
    """Yield what came after a line; a run of deltas only when it has ended."""
    lines = list(record.lines)
    start = lines.index(printed) + 1 if printed in lines else 0
    end = len(lines) - 1 if finished_only else len(lines)
    yield from lines[start:end]


def print_summary(
    console: Console, record: Record, found: Figures, checks: list[Check], wav: Path | None
) -> None:
    """Print what was said, the figures, each expectation, and where to hear it, if anywhere."""
    console.print(_conversation(record))
    console.print(_figures(found, record))
    console.print(_verdict(checks))
    if wav is not None:
        where = Text("Both sides as heard (left person, right assistant): ")
        console.print(where.append(str(wav), "bold"), soft_wrap=True)


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

"""The demo on the screen: live in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from realtime_bus.session import Session
from realtime_bus.audio import AudioSink

from ._person import Person
from ._record import Line, Record
from ._summary import spoken

__all__ = ["LiveView", "PlainView", "Scene"]

_REFRESH_S = 0.08
_STYLES = {"server": "cyan", "bus": "magenta"}


class Scene:
    """What there is to see.

    Attributes:
        title: What the demo talks to.
        record: What has happened.
        person: Who speaks into the session.
        sink: Where the assistant is heard.
        session: The conversation.
    """

    def __init__(
        self, title: str, record: Record, person: Person, sink: AudioSink, session: Session
    ) -> None:
        self.title = title
        self.record = record
        self.person = person
        self.sink = sink
        self.session = session


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
    return Group(_sized(layout, rows))


def _sized(layout: Layout, rows: int) -> RenderableType:
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

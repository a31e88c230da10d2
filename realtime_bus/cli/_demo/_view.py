"""The views of a running conversation: live in a terminal, plain lines elsewhere.

A view draws a `Scene`; whatever has a session, somebody who speaks, and a sink can make one::

    record = Record(bus)
    async with bus.connect(..., plugins=[sink, Interruption(sink)]) as session:
        scene = Scene("gpt-realtime", record, microphone, sink, name="realtime-bus talk")
        session.start_soon(LiveView(console).run, scene)
"""

from __future__ import annotations

from collections.abc import Iterator

import anyio
from rich.console import Console, Group
from rich.live import Live

from ._record import Line, Record
from ._screen import Scene, event_line, row_of, screen

_REFRESH_S = 0.08


class Terminal(Console):
    """A console that raises `BrokenPipeError` where nobody reads it; rich's ends the process."""

    def on_broken_pipe(self) -> None:
        """Called while a BrokenPipeError is handled."""
        raise  # noqa: PLE0704  # that one


async def show(view: LiveView | PlainView, scene: Scene, notes: list[str]) -> None:
    """Show a conversation until cancelled; a terminal that breaks is noted, and no more."""
    try:
        await view.run(scene)
    except (OSError, ValueError) as error:  # it is gone, full, or closed
        notes.append(f"The view broke off: {error}")


class LiveView:
    """Draws the whole screen, several times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def run(self, scene: Scene) -> None:
        """Draw until cancelled."""
        # a screen of its own: what is drawn leaves no trace, whatever the terminal's size becomes
        with Live(console=self._console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(Group(*screen(scene, self._console)), refresh=True)
                await anyio.sleep(_REFRESH_S)


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
            self._console.print(event_line(row_of(line)), soft_wrap=True)
            last = line
        return last


def _new_lines(record: Record, printed: Line | None, *, finished_only: bool) -> Iterator[Line]:
    """Yield what came after a line; a run of deltas only when it has ended."""
    lines = list(record.lines)
    start = lines.index(printed) + 1 if printed in lines else 0
    end = len(lines) - 1 if finished_only else len(lines)
    yield from lines[start:end]

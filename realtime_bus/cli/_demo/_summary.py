"""What is left of the conversation when it is over: what was said, figures, and the verdict."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from realtime_bus import RealtimeBusError
from realtime_bus.inspector import inspection_page
from realtime_bus.recording import Recording
from realtime_bus_plugins.sinks import Track, write_stereo_wav

from ._judge import Check, Figures, figures, judge
from ._record import Record
from ._screen import spoken
from ._view import Terminal


class Summary:
    """What is told at the end, wherever the conversation came to it.

    Args:
        record: What has happened.
        wav: Where to write both sides; beside it, the page of `realtime-bus inspect`.
        recorded: Where the recording is.

    Attributes:
        begun: Whether there was a conversation.
        person: What the person said.
        assistant: What was heard of the assistant.
        broken_off: Why the conversation did not come to its end; None if it did.
        notes: What else went wrong, and is no fault of the conversation.
    """

    def __init__(self, record: Record, *, wav: Path, recorded: Path | None = None) -> None:
        self.record = record
        self._wav = wav
        self._recorded = recorded
        self.begun = False
        self.person = self.assistant = Track(pcm=b"")
        self.broken_off: str | None = "somebody ended it"
        self.notes: list[str] = []

    def tell(self, console: Console) -> bool:
        """Write the file, print the summary, and return whether all went well.

        What stdout does not take goes to stderr.
        """
        written, page = self._write_wav(), self._write_page()
        checks = judge(self.record)
        for place in (console, Terminal(stderr=True)):
            try:
                self._print(place, checks, written=written, page=page)
                break
            except (OSError, ValueError) as error:
                self.notes.append(f"The summary could not be printed: {error}")
        return written and self.broken_off is None and all(check.passed for check in checks)

    def _write_wav(self) -> bool:
        try:
            self._wav.open("wb").close()  # where this fails, `wave` would leave a warning behind
            write_stereo_wav(self._wav, self.person, self.assistant)
        except OSError as error:
            self.notes.append(f"{self._wav} was not written: {error.strerror or error}")
            return False
        return True

    def _write_page(self) -> Path | None:
        found = sorted(self._recorded.glob("*.jsonl")) if self._recorded else []
        if not found:
            return None
        path = self._wav.with_suffix(".html")
        try:
            path.write_bytes(inspection_page(Recording(found[0])))
        except (OSError, RealtimeBusError) as error:
            self.notes.append(f"{path} was not written: {getattr(error, 'strerror', error)}")
            return None
        return path

    def _print(
        self, console: Console, checks: list[Check], *, written: bool, page: Path | None
    ) -> None:
        console.print(_conversation(self.record))
        console.print(_figures(figures(self.record), self.record))
        console.print(_verdict(checks))
        if written:
            where = Text("Both sides as heard (left person, right assistant): ")
            console.print(where.append(str(self._wav), "bold"), soft_wrap=True)
        if page is not None:
            where = Text("What happened, on a time line, for your browser: ")
            console.print(where.append(str(page), "bold"), soft_wrap=True)
        broken_off = [f"The conversation broke off: {self.broken_off}"] if self.broken_off else []
        for trouble in (*self.notes, *broken_off):
            console.print(Text(trouble, "bold red"), soft_wrap=True)


def _conversation(record: Record) -> Panel:
    lines = [spoken(said) for said in record.said]
    return Panel(Group(*lines), title="what was said", title_align="left", border_style="dim")


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

"""How a running conversation looks on a terminal of any size, from 40 columns and 10 rows.

The rules
---------
1. The screen is a list of lines, each cut or wrapped here: nothing scrolls, nothing is framed
   twice. A section is a rule with its name.
2. Who speaks stands on top, and under it, from the first moment on and never moved, the line of
   the interruption: it is what there is to see.
3. The conversation is clipped from its top, by lines as they are wrapped. What the person says
   is shown while they say it, as far as anybody knows it; what the assistant has sent and nobody
   has heard yet is dim, and struck out once nobody will.
4. Runs of ``.delta`` and of ``.done`` are one line each, but not ``response.done``, which says how
   a response ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count, groupby
from typing import NamedTuple, Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from realtime_bus.audio import AudioSink
from realtime_bus_plugins.interruption import PlaybackInterrupted

from ._record import Line, Record, Said

_KIND_STYLES = {"server": "cyan", "bus": "magenta"}
_WHO_STYLES = {"person": "green", "assistant": "yellow"}
_FIXED_ROWS = 6  # two rules more than the title, two speakers, the interruption
_WIDE_COLUMNS = 76
_LOST = "lost"
_HEARD = ("heard as speech", "the server hears speech")  # in few words, and in more


class Speaks(Protocol):
    """Who speaks into the session: the demo's `Person`, or a microphone with a meter."""

    @property
    def speaking(self) -> bool:
        """Whether there is a voice in what is being sent."""
        ...

    @property
    def level(self) -> float:
        """How loud it is, from 0 to 1."""
        ...

    @property
    def words(self) -> str:
        """What is being said, or was said last, as far as it is known on this side."""
        ...

    @property
    def note(self) -> str:
        """In a word of up to eight letters, what there is to know instead of silence: muted."""
        ...


class Scene(NamedTuple):
    """What there is to see.

    Attributes:
        title: What is talked to.
        record: What has happened.
        person: Who speaks into the session.
        sink: Where the assistant is heard.
        name: What runs.
        keys: Which keys do what.
    """

    title: str
    record: Record
    person: Speaks
    sink: AudioSink
    name: str = "realtime-bus demo"
    keys: str = ""


def screen(scene: Scene, console: Console) -> list[Text]:
    """Return the lines of a screen, as many as the console has rows, each at most as wide."""
    width, height = console.size
    free = max(height - _FIXED_ROWS, 2)
    event_rows = max(free * 3 // 8, 1)
    events = [event_line(row) for row in folded(scene.record.lines)[-event_rows:]]
    seen = sum(scene.record.counts.values())
    lines = [
        _rule(width, f"{scene.name} · {scene.title}", f"{scene.record.now_s():.1f} s", "bold blue"),
        _person(scene, width),
        _assistant(scene, width),
        interruption(scene.record.interruptions, width),
        _rule(width, "conversation", scene.keys, end_style="dim"),
        *_filled(_conversation(scene, console, width)[-(free - event_rows) :], free - event_rows),
        _rule(width, "events as they pass", f"{seen}"),
        *_filled(events, event_rows),
    ]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return lines[:height]


def _rule(
    width: int, left: str, right: str = "", style: str = "bold", *, end_style: str = ""
) -> Text:
    label = Text.assemble(("── ", "dim"), (left, style), " ")
    end = Text.assemble(" ", (right, end_style or style), (" ──", "dim")) if right else Text()
    label.truncate(max(width - end.cell_len, 1), overflow="ellipsis")
    label.append("─" * (width - label.cell_len - end.cell_len), "dim")
    return label + end


def _filled(lines: list[Text], rows: int) -> list[Text]:
    return [*lines, *(Text() for _ in range(rows - len(lines)))]


def _person(scene: Scene, width: int) -> Text:
    person = scene.person
    heard = _HEARD[width >= _WIDE_COLUMNS] if scene.record.speech_heard else ""
    note = _LOST if "microphone" in scene.record.lost else person.note
    return _speaker("person", person.speaking, person.level, heard, width, instead=note)


def _assistant(scene: Scene, width: int) -> Text:
    """Show how much of what has come was played; the meter stands for the item at hand."""
    now = next(iter(scene.sink.positions()), None)
    note, share = "", 0.0
    if now is not None:
        received = " received" if width >= _WIDE_COLUMNS else ""
        note = f"{now.played_ms / 1000:.1f} of {now.written_ms / 1000:.1f} s{received}"
        share = now.played_ms / max(now.written_ms, 1)
    lost = _LOST if "speaker" in scene.record.lost else ""
    return _speaker("assistant", scene.sink.playing and not lost, share, note, width, instead=lost)


def _speaker(
    who: str, speaking: bool, share: float, note: str, width: int, *, instead: str = ""
) -> Text:
    style = _WHO_STYLES[who]
    state, state_style = ("● speaking", "bold") if speaking else ("○ silent", "dim")
    if instead and not speaking:
        state, state_style = f"○ {instead}", "bold red" if instead == _LOST else "bold"
    line = Text.assemble((f"{who:9} ", f"bold {style}"), (f"{state:11}", state_style))
    room = max(width - line.cell_len - len(_HEARD[width >= _WIDE_COLUMNS]) - 1, 4)
    full = min(max(round(share * room), 1 if share > 0 else 0), room)
    line.append("█" * full, style)
    line.append("░" * (room - full), "dim")
    return line.append(f" {note}", style)


def interruption(happened: list[PlaybackInterrupted], width: int) -> Text:
    """Return the line of the interruption, in as many words as there is room for."""
    if not happened:
        return Text("✂ nobody has interrupted yet", style="dim")
    last = happened[-1]
    items = [item for item in last.items if item.action == "truncated"] or last.items
    heard_s = items[0].played_ms / 1000
    unheard_s = sum(item.discarded_ms for item in last.items) / 1000
    times = f"{len(happened)} times, last " if len(happened) > 1 else ""
    after = f"✂ interrupted {times}at {heard_s:.1f} s"
    silent = f"silent in {last.latency_s * 1000:.2f} ms"
    versions = (
        f"{after} of the answer · {silent} · {unheard_s:.1f} s never heard",
        f"{after} · {silent} · {unheard_s:.1f} s unheard",
        f"{after} · {silent}",
    )
    fitting = (version for version in versions if cell_len(version) <= width)
    return Text(next(fitting, after), style="bold red")


def _conversation(scene: Scene, console: Console, width: int) -> list[Text]:
    """Return everything that was said, wrapped."""
    record = scene.record
    heard = dict.fromkeys(record.started, 1.0)
    heard |= {at.item_id: at.played_ms / max(at.written_ms, 1) for at in scene.sink.positions()}
    being_said = Text.assemble(
        ("person: ", "bold green"), (f"{scene.person.words.rstrip()} ".lstrip(), "italic"), "…"
    )
    lines = [
        spoken(said, heard.get(said.item_id, 0.0))
        if said.text or said is not record.said[-1]
        else being_said  # committed, and not written down yet
        for said in record.said
    ]
    if scene.person.speaking or record.speech_heard:
        lines.append(being_said)
    return [line for text in lines for line in text.wrap(console, width)]


def spoken(said: Said, share: float = 1.0) -> Text:
    """Show what somebody said.

    Args:
        said: By whom, and the words.
        share: How much of an assistant's answer has been heard, from 0 to 1.
    """
    line = Text.assemble((f"{said.who}: ", f"bold {_WHO_STYLES[said.who]}"))
    if said.cut_ms is not None:
        at = said.heard_chars(said.heard_share)
        heard, unheard = said.text[:at].rstrip(), said.text[at:].lstrip()
        line.append(f"{heard} " if heard else "")
        line.append(f"✂ interrupted after {said.cut_ms / 1000:.1f} s; unheard: ", "bold red")
        return line.append(unheard, "dim strike")
    heard = len(said.text) if said.who == "person" else said.heard_chars(share)
    line.append(said.text[:heard] if said.text else "…")
    return line.append(said.text[heard:], "dim")


class Row(NamedTuple):
    """A line of the events: one that passed, or a run of like ones."""

    at_s: float
    name: str
    kind: str
    detail: str


def folded(lines: Iterable[Line]) -> list[Row]:
    """Return events as they are shown: runs of ``.delta`` and of ``.done`` as one each."""
    return [_row(suffix, [*run]) for suffix, run in _runs(lines)]


def _runs(lines: Iterable[Line]) -> Iterator[tuple[str, Iterator[Line]]]:
    alone = count()  # what belongs to no run differs from its neighbours

    def run_of(line: Line) -> str:
        suffix = line.name.rpartition(".")[2]
        in_run = suffix in {"delta", "done"} and line.name != "response.done"
        return suffix if in_run else f"#{next(alone)}"

    return groupby(lines, key=run_of)


def _row(run: str, lines: list[Line]) -> Row:
    first, last = lines[0], lines[-1]
    if len(lines) == 1:
        return row_of(first)
    counts: Counter[str] = Counter()
    for line in lines:
        counts[line.name.removesuffix(f".{run}").removeprefix("response.")] += line.count
    detail = ", ".join(name if n == 1 else f"{name} x{n}" for name, n in counts.items())
    return Row(first.at_s, f"*.{run} x{counts.total()}", last.kind, detail)


def row_of(line: Line) -> Row:
    """Return an event as it is shown alone."""
    times = f" x{line.count}" if line.count > 1 else ""
    return Row(line.at_s, f"{line.name}{times}", line.kind, line.detail)


def event_line(row: Row) -> Text:
    """Show an event."""
    style = "bold red" if "interrupted" in row.name else _KIND_STYLES[row.kind]
    detail = f"  {row.detail}" if row.detail else ""
    return Text.assemble((f"{row.at_s:6.2f}  ", "dim"), (row.name, style), (detail, "dim"))

"""What is asked of a replay, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec
from typing_extensions import TypedDict

from realtime_bus import events as ev
from realtime_bus.recording._format import Line
from realtime_bus.recording._reading import Recording

from ._comparison import Comparison
from ._difference import Difference, stamp
from ._plan import ActSelector, Plan

_LAST_US: Final = 1_000_000  # of a recording, in which nothing is missing


class ReplayOptions(TypedDict, total=False):
    """How a recording is replayed.

    Attributes:
        speed: How many times faster than then; None, the default, for as fast as can be. That is
            exact on a virtual clock, as `run_replay` has it; on a real one, handlers' sleeps are
            not waited for unless the recording needs what comes behind them.
        compare: Whether what is done now is compared with what was done then, as it is by
            default. If not, as for other handlers on an old session, nothing is expected of them,
            and nothing is waited for.
        left: What is left to the recording besides microphone audio and the first settings: names
            of commands or of the application's events, patterns of them, or predicates of their
            fields.
        outside: Events that came from outside, by class or name: they are emitted again.
        ignore: Paths of fields that do not matter, such as ``item.output``; ``*`` stands for
            anything.
        late_s: How much later than then is late, in seconds; 1 if left out.
        audio_within_ms: How far apart truncations may be, in milliseconds; 50 if left out.
        patience_s: How long an answer of the server's is held back because it was not asked for
            yet, in seconds of the recording; 5 if left out.
        on_line: Called with each line of the recording when its time has come.
    """

    speed: float | None
    compare: bool
    left: Sequence[ActSelector]
    outside: Iterable[str | type[ev.BusEvent]]
    ignore: Sequence[str]
    late_s: float
    audio_within_ms: int
    patience_s: float
    on_line: Callable[[Line], object]


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a replay. ``str()`` is what to show of it; msgspec encodes it as JSON.

    Attributes:
        recording: The recording's name.
        differences: What was done otherwise, in order of time; empty if all was as it had been.
        compared: How many acts of the recording have one of the replay beside them.
        left: How often the recording did something for the application, by name.
        sent: How many commands were sent, by name; audio too.
        frames: How many frames were delivered.
        recorded_s: How long the recording is, in seconds.
        took_s: How long it took to replay, in seconds.
        notes: What to know about it, in sentences.
    """

    recording: str
    differences: list[Difference]
    compared: int
    left: dict[str, int]
    sent: dict[str, int]
    frames: int
    recorded_s: float
    took_s: float
    notes: list[str]

    def __str__(self) -> str:
        """Return a few lines for people."""
        count = len(self.differences)
        found = "no difference" if not count else f"{count} difference{'s' * (count > 1)}"
        head = (
            f"{self.recording}: {stamp(self.recorded_s)} in {self.took_s:.2f} s, "
            f"{self.frames} frames, {self.compared} acts compared, {found}"
        )
        lines = [
            head,
            *(f"  {line}" for each in self.differences for line in f"{each}".split("\n")),
        ]
        if self.left:
            left = ", ".join(f"{name} ({number})" for name, number in sorted(self.left.items()))
            lines.append(f"left to the recording: {left}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def make_report(
    recording: Recording,
    plan: Plan,
    comparison: Comparison | None,
    *,
    closed_us: int | None,
    sent: Mapping[str, int],
    frames: int,
    took_s: float,
    notes: Sequence[str],
) -> ReplayReport:
    """Return what came of a replay.

    Args:
        recording: What was replayed.
        plan: What was known of it.
        comparison: What was done beside what was done then; None if that did not matter.
        closed_us: When the session closed the connection itself, if it did.
        sent: How many commands were sent, by name.
        frames: How many frames were delivered.
        took_s: How long it took, in seconds.
        notes: What to know besides, in sentences.
    """
    differences, left = list[Difference](), Counter(plan.left)
    if comparison is not None:
        differences = _differences(plan, comparison, closed_us)
        left.update(act.type for act in plan.acts if not act.expected and act.mate is None)
    return ReplayReport(
        recording=recording.header.recording_id or recording.path.name,
        differences=differences,
        compared=0 if comparison is None else comparison.paired,
        left=dict(left),
        sent=dict(sent),
        frames=frames,
        recorded_s=plan.last_us / 1e6,
        took_s=took_s,
        notes=[*notes, *_notes(recording, plan, compared=comparison is not None)],
    )


def _differences(plan: Plan, comparison: Comparison, closed_us: int | None) -> list[Difference]:
    cut_off = plan.ended is None
    until_us = plan.last_us - (_LAST_US if cut_off else 0)
    closed: list[Difference] = []
    if closed_us is not None and closed_us < plan.last_us - _LAST_US:
        until_us, what = closed_us, "the session was closed"
        closed = [Difference(kind="closed", t_s=closed_us / 1e6, type=what)]
    return [*closed, *comparison.differences(until_us, cut_off=cut_off)]


def _notes(recording: Recording, plan: Plan, *, compared: bool) -> list[str]:
    notes = [f"something is missing in the recording: {why}" for why in plan.missing]
    if part := recording.header.part:
        notes.append(f"the recording's first {part} files are not read: begin with the first one")
    if plan.ended is None:
        compares = ": nothing of its last second is compared" if compared else ""
        notes.append(f"the recording was cut off{compares}")
    if compared and not recording.header.texts:
        notes.append(
            "texts were left out of the recording: what depends on them, such as the arguments of "
            "tools, cannot be as it was"
        )
    return notes

"""What is asked of a replay, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec
from typing_extensions import TypedDict

from realtime_bus import events as ev

from ._comparison import Difference, stamp
from ._format import Line

ActSelector: TypeAlias = str | Callable[[dict[str, Any]], bool]
"""Which acts: a name or pattern such as ``conversation.item.*``, or a predicate of the fields."""


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

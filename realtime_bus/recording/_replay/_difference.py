"""What a replay does otherwise: the data, and how it is shown."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from ._act import leaves

DifferenceKind: TypeAlias = Literal["missing", "extra", "different", "late", "closed"]

_SHOWN_CHARS: Final = 60


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A field that is not what it was.

    Attributes:
        path: Where it is, such as ``item.output``.
        then: Its value in the recording; None if it was not there.
        now: Its value in the replay; None if it is not there.
    """

    path: str
    then: Any
    now: Any


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the replayed session does otherwise.

    ``str()`` is what to show of it.

    Attributes:
        kind: ``missing``: done then, and not now. ``extra``: the reverse. ``different``: see
            `changes`. ``late``: the same, later. ``closed``: the session was closed early.
        t_s: When, in seconds of the recording.
        type: The command's or event's name.
        then: What was sent or emitted then, without ids that a client makes up.
        now: The same of the replay.
        changes: What is different.
        late_s: How much later it was done, in seconds; less than 0 is earlier.
    """

    kind: DifferenceKind
    t_s: float
    type: str
    then: dict[str, Any] | None = None
    now: dict[str, Any] | None = None
    changes: list[Change] = []
    late_s: float = 0.0

    def __str__(self) -> str:
        """Return a line for people, and one for each change."""
        late = f" by {self.late_s:.3f} s" if self.kind == "late" else ""
        lines = [f"{stamp(self.t_s)}  {self.kind + late:<10} {self.type}  {_brief(self)}".rstrip()]
        lines += [
            f"            {each.path}: then {_short(each.then)}, now {_short(each.now)}"
            for each in self.changes
        ]
        return "\n".join(lines)


def stamp(t_s: float) -> str:
    """Return a time of the recording for people: ``0:07.066``."""
    return f"{int(t_s // 60)}:{t_s % 60:06.3f}"


def _brief(difference: Difference) -> str:
    """Return what an act is about, in few words."""
    if difference.changes:
        return ""
    act = difference.now if difference.then is None else difference.then
    said = [
        f"{path.rpartition('.')[2]} {_short(value)}"
        for path, value in leaves(act or {})
        if path != "type"
    ]
    return ", ".join(said[:4])


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else str(value)
    quoted = repr(text) if isinstance(value, str) else text
    return quoted if len(quoted) <= _SHOWN_CHARS else quoted[: _SHOWN_CHARS - 1] + "…"

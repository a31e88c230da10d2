"""What a replay does otherwise: the data, and how it is shown."""

from __future__ import annotations

from os.path import commonprefix
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ._act import leaves

DifferenceKind: TypeAlias = Literal["missing", "extra", "different", "late", "closed"]

_SHOWN_CHARS: Final = 60
_BEFORE_CHARS: Final = 20  # of what two texts have in common, before they part
_LATER_S: Final = 0.1  # that is worth a word


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
        lines = [f"{stamp(self.t_s)}  {self.kind:<10} {self.type}  {_brief(self)}".rstrip()]
        for each in self.changes:
            then, now = _side_by_side(each.then, each.now)
            lines.append(f"            {each.path}: then {then}, now {now}")
        return "\n".join(lines)


def stamp(t_s: float) -> str:
    """Return a time of the recording for people: ``0:07.066``."""
    return f"{int(t_s // 60)}:{t_s % 60:06.3f}"


def _brief(difference: Difference) -> str:
    """Return what an act is about, and how late it was, in few words."""
    has_mate = difference.then is not None and difference.now is not None
    late = [f"{difference.late_s:.3f} s later"] if has_mate and difference.late_s > _LATER_S else []
    act = difference.now if difference.then is None else difference.then
    said = [
        f"{path.rpartition('.')[2]} {_short(value)}"
        for path, value in leaves(act or {})
        if path != "type" and not difference.changes
    ]
    return ", ".join([*late, *said[:4]])


def _side_by_side(then: Any, now: Any) -> tuple[str, str]:
    """Return two values, short; of long texts what is around the place where they part."""
    if isinstance(then, str) and isinstance(now, str) and max(len(then), len(now)) > _SHOWN_CHARS:
        same = len(commonprefix([then, now]))  # noqa: RUF071  # texts are what it is given
        if same > _BEFORE_CHARS:
            then, now = (f"…{text[same - _BEFORE_CHARS :]}" for text in (then, now))
    return _short(then), _short(now)


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else str(value)
    quoted = repr(text) if isinstance(value, str) else text
    return quoted if len(quoted) <= _SHOWN_CHARS else quoted[: _SHOWN_CHARS - 1] + "…"

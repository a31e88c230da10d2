"""The first stage of an injector: what is done to a single event.

Each function is given the fault, the frame on its way, and what is left to chance; it changes what
is sent in the frame's place, and returns whether it could do what it was to do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

import msgspec

from realtime_bus.codec._frame import wire_name

from . import faults as of
from ._fault_order import told

_GARBLED: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda frame: frame[: len(frame) // 2],
    "text": lambda _: b"upstream connect error or disconnect before headers",
    "array": lambda frame: b"[" + frame + b"]",
    "number": lambda _: b"42",
    "empty": lambda _: b"",
    "untyped": lambda _: b'{"event_id":"event_untyped","session":{}}',
    "deep": lambda _: b"[" * 10_000,
}
_STRANGE = b'{"type":"response.hologram.delta","event_id":"event_unknown_%08x","delta":"?"}'


class Passing:
    """A frame of the server on its way through the stage.

    Args:
        frame: One WebSocket message.
        last_audio: The last audio delta before it.

    Attributes:
        name: The event's wire name, empty if it has none.
        before: What is sent before it.
        frame: The frame, changed or not; None if it is lost.
        after: What is sent after it.
        hold: The fault that has it wait for others to overtake.
    """

    def __init__(self, frame: bytes, last_audio: bytes = b"") -> None:
        self.name: str = name_of(frame)
        self.before: list[bytes] = []
        self.frame: bytes | None = frame
        self.after: list[bytes] = []
        self.hold: object = None
        self.last_audio = last_audio


def name_of(frame: bytes) -> str:
    """Return a frame's wire name, empty if it has none."""
    return (wire_name(frame) or b"").decode("utf-8", "replace")


def _lose(_fault: of.Lose, passing: Passing, _frame: bytes, _chance: random.Random) -> bool:
    passing.frame = None
    return True


def _malform(fault: of.Malform, passing: Passing, frame: bytes, chance: random.Random) -> bool:
    how: str = fault.how or chance.choice(sorted(_GARBLED))
    passing.before.append(_GARBLED[how](frame))
    if fault.instead:
        passing.frame = None
    return True


def _unknown(fault: of.Unknown, passing: Passing, _frame: bytes, chance: random.Random) -> bool:
    passing.before += [_STRANGE % chance.getrandbits(32) for _ in range(fault.count)]
    return True


def _duplicate(fault: of.Duplicate, passing: Passing, frame: bytes, _chance: random.Random) -> bool:
    passing.after += [frame] * fault.count
    return True


def _add_late(
    fault: of.LateDeltas, passing: Passing, _frame: bytes, _chance: random.Random
) -> bool:
    plain = msgspec.json.decode(passing.last_audio)
    for number in range(fault.count):
        late = {**plain, "event_id": f"{plain['event_id']}_late_{number}"}
        passing.after.append(msgspec.json.encode(late))
    return True


def _watch(_fault: of.ShortLife, _passing: Passing, _frame: bytes, _chance: random.Random) -> bool:
    return True  # the session does it


def _spoil(
    fault: of.Missing | of.Null, passing: Passing, frame: bytes, chance: random.Random
) -> bool:
    """Take a field out, or make it null."""
    try:
        plain = msgspec.json.decode(frame)
    except (ValueError, RecursionError):
        return False
    places = _places(plain)
    path = fault.field or chance.choice(sorted(places.keys() - {"type"}) or [""])
    if path not in places:
        return False
    members, name = places[path]
    if isinstance(fault, of.Null):
        members[name] = None
    else:
        del members[name]
    passing.frame = msgspec.json.encode(plain)
    return True


def _places(value: object, path: str = "") -> dict[str, tuple[dict[str, Any], str]]:
    """Return where each field stands, by its path."""
    found: dict[str, tuple[dict[str, Any], str]] = {}
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        for name, member in members.items():
            found[path + name] = (members, name)
            found |= _places(member, f"{path}{name}.")
    elif isinstance(value, list):
        for index, member in enumerate(cast("list[object]", value)):
            found |= _places(member, f"{path}{index}.")
    return found


def is_cut_short(passing: Passing) -> bool:
    """Tell whether this is the end of the cancelled response that the last audio belongs to."""
    if passing.name != "response.done" or passing.frame is None:
        return False
    ended, audio = told(passing.frame), told(passing.last_audio)
    response = ended.response if ended is not None else None
    return (
        response is not None
        and response.status == "cancelled"
        and audio is not None
        and audio.response_id == response.id
    )


def is_expiry(passing: Passing) -> bool:
    """Tell whether this is the error that says that the session has reached its limit."""
    return passing.name == "error" and b'"session_expired"' in (passing.frame or b"")


WHERE: dict[type, Callable[[Passing], bool]] = {
    of.LateDeltas: is_cut_short,
    of.ShortLife: is_expiry,
}
"""Faults that know their events."""

DO: dict[type, Callable[[Any, Passing, bytes, random.Random], bool]] = {
    of.Lose: _lose,
    of.Malform: _malform,
    of.Unknown: _unknown,
    of.Duplicate: _duplicate,
    of.LateDeltas: _add_late,
    of.Missing: _spoil,
    of.Null: _spoil,
    of.ShortLife: _watch,
}
"""What they do."""

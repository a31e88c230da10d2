"""Read a client's frame the way a strict server does: every problem, with its path."""

from __future__ import annotations

from typing import Any

from realtime_bus.events import ClientEvent
from realtime_bus.events._registry import REALTIME, WireProtocol

from ._audio import cut_audio
from ._decode import TypeCodec, table_of
from ._frame import NotAnObject, parse_object, wire_name
from ._scalars import Problem, shown
from ._walk import walk

_MAX_VALUES = 20_000  # of an event; more than any client means to send


def read_client(
    frame: bytes, protocol: WireProtocol = REALTIME
) -> tuple[ClientEvent | None, list[Problem], dict[str, Any]]:
    """Read a client event, and note everything in it that a strict server refuses.

    Args:
        frame: One WebSocket message.
        protocol: What the client speaks.

    Returns:
        The event (None if its type is missing, no string or unknown), all problems, and the
        frame's object as plain data, without its audio where that was cut out.

    Raises:
        NotAnObject: The frame is no JSON object; the message says what it is.
    """
    types = table_of(protocol, "client").types
    name = wire_name(frame) or b""
    read = _read_append(frame, name, types.get(name))
    if read is not None:
        return read
    plain = parse_object(frame)
    kind = plain.get("type")
    codec = types.get(kind.encode()) if type(kind) is str else None
    if codec is None:
        return None, [_type_problem(plain, protocol)], plain
    event, problems = walk(plain, codec.cls, max_values=_MAX_VALUES)
    return event, problems, plain  # type: ignore[return-value]  # the table holds client events


def _read_append(
    frame: bytes, name: bytes, codec: TypeCodec | None
) -> tuple[ClientEvent, list[Problem], dict[str, Any]] | None:
    """Read an append without parsing its audio; None if it is none, or an unusual one."""
    cut = cut_audio(frame, codec.marker) if codec is not None and codec.slot is not None else None
    if codec is None or codec.slot is None or cut is None:
        return None
    rest, start, end = cut
    plain = _plain(rest, name.decode())
    if plain is None or b"\\" in frame[start:end]:
        return None
    audio = frame[start:end].decode("ascii", "replace")
    event, problems = walk(plain | {codec.slot.name: audio}, codec.cls)
    return event, problems, plain  # type: ignore[return-value]  # the table holds client events


def _plain(rest: bytes, kind: str) -> dict[str, Any] | None:
    try:
        plain = parse_object(rest)
    except NotAnObject:
        return None
    return plain if plain.get("type") == kind else None


def _type_problem(plain: dict[str, Any], protocol: WireProtocol) -> Problem:
    if "type" not in plain:
        return Problem("type", "missing", "this field is required")
    known = ", ".join(sorted(protocol.client))
    return Problem("type", "constraint", f"{shown(plain['type'])} is not known; known are {known}")

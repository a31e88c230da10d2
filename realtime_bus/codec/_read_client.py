"""Read a client's frame the way a strict server does: every problem, with its path."""

from __future__ import annotations

from typing import Any

from ..events import ClientEvent
from ..events._vocabulary import REALTIME
from ._decode import TypeCodec, cut_audio, type_codecs, wire_name
from ._json import NotAnObject, parse_object
from ._walk import Problem, walk

__all__ = ["NotAnObject", "read_client"]

_CLIENT = type_codecs(dict(REALTIME.client))


def read_client(
    frame: bytes,
) -> tuple[ClientEvent | None, list[Problem], dict[str, Any]]:
    """Read a client event, and note everything in it that a strict server refuses.

    Args:
        frame: One WebSocket message.

    Returns:
        The event (None if its type is missing, no string or unknown), all problems, and the
        frame's object as plain data, without its audio where that was cut out.

    Raises:
        NotAnObject: The frame is no JSON object; the message says what it is.
    """
    codec = _CLIENT.get(wire_name(frame) or b"")
    if codec is not None and codec.slot is not None:
        read = _read_audio(frame, codec)
        if read is not None:
            return read
    plain = parse_object(frame)
    kind = plain.get("type")
    codec = _CLIENT.get(kind.encode("utf-8", "replace")) if type(kind) is str else None
    if codec is None:
        return None, [_type_problem(plain)], plain
    event, problems = walk(plain, codec.cls)
    return event, problems, plain  # type: ignore[return-value]  # the table holds client events


def _read_audio(
    frame: bytes, codec: TypeCodec
) -> tuple[ClientEvent, list[Problem], dict[str, Any]] | None:
    """Read an append without parsing its audio; None if it is unusual."""
    cut = cut_audio(frame, codec.marker)
    if cut is None or codec.slot is None:
        return None
    rest, start, end = cut
    try:
        plain = parse_object(rest)
    except NotAnObject:
        return None
    plain[codec.slot.name] = frame[start:end].decode("ascii", "replace")
    event, problems = walk(plain, codec.cls)
    plain[codec.slot.name] = ""
    return event, problems, plain  # type: ignore[return-value]  # the table holds client events


def _type_problem(plain: dict[str, Any]) -> Problem:
    if "type" not in plain:
        return Problem("type", "missing", "this field is required")
    known = ", ".join(sorted(name.decode() for name in _CLIENT))
    return Problem("type", "constraint", f"{plain['type']!r:.80} is not known; known are {known}")

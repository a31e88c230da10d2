"""Read an event's wire name off its frame, without parsing the frame."""

from __future__ import annotations

import re

import msgspec

from realtime_bus.events._registry import REALTIME, WireProtocol

__all__ = ["HEAD", "MAX_HEAD_BYTES", "frame_heads", "wire_name"]

HEAD = b'{"type":"'
"""How nearly every frame of every server begins; its wire name follows."""

MAX_HEAD_BYTES = 140
"""Where to stop looking for the name's end, so that a frame of 20 MB without one costs nothing."""

_BEGINNING = re.compile(
    rb'\s*\{\s*(?:"event_id"\s*:\s*"[^"\\]*"\s*,\s*)?"type"\s*:\s*"([^"\\]{0,128})"'
)
"""Other beginnings that are common: blanks, and the event's id before its type."""


def frame_heads(name: str, protocol: WireProtocol = REALTIME) -> list[bytes]:
    """Return how the frames of an event begin, up to the end of its name, old names too.

    ``frame[: frame.find(b'"', len(HEAD), MAX_HEAD_BYTES)]`` is one of them for nearly every frame.
    """
    names = [name, *(old for old, new in protocol.old_names.items() if new == name)]
    return [HEAD + each.encode() for each in names]


class _Type(msgspec.Struct):
    type: str


_TYPE = msgspec.json.Decoder(_Type)


def wire_name(frame: bytes) -> bytes | None:
    """Return a frame's type; None if there is none that can be read simply.

    The type is only a hint: the frame may be broken further on.
    """
    if frame.startswith(HEAD):
        end = frame.find(b'"', len(HEAD), MAX_HEAD_BYTES)
        return frame[len(HEAD) : end] if end > 0 else None
    match = _BEGINNING.match(frame)
    return match[1] if match is not None else _name_further_on(frame)


def _name_further_on(frame: bytes) -> bytes | None:
    try:
        return _TYPE.decode(frame).type.encode()
    except (ValueError, RecursionError):
        return None

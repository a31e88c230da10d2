"""Frames as text: the wire name read off without parsing, and JSON parsed leniently."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import msgspec

from realtime_bus.events import REALTIME, WireProtocol

HEAD = b'{"type":"'
"""How nearly every frame of every server begins; its wire name follows."""

MAX_HEAD_BYTES = 140
"""Where to stop looking for the name's end, so that a frame of 20 MB without one costs nothing."""

_LENIENT_BYTES = 256 * 1024  # Python's parser, and what mends its texts, take a second for 2 MiB

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


def type_of(frame: bytes) -> str:
    """Return the type of a frame, which is parsed to its end; nothing is made of the rest.

    Raises:
        ValueError: It is no JSON object, or has no type.
        RecursionError: It is nested too deeply.
    """
    return _TYPE.decode(frame).type.strip()


class NotAnObject(Exception):  # noqa: N818  # internal: its text is the reason given
    """The frame holds no JSON object; the message says what it holds."""


class NotJson(NotAnObject):
    """The frame is no JSON at all."""


def parse_object(frame: bytes) -> dict[str, Any]:
    """Parse a frame that must be a JSON object.

    msgspec is strict; Python's own parser also takes lone surrogates and NaN, which some
    servers send. Lone surrogates become U+FFFD, so that the text can be printed and encoded.

    Raises:
        NotAnObject: It is something else (`NotJson`: no JSON); the message says what.
    """
    if not frame.strip():
        raise NotJson("the frame is empty")
    plain = parse(frame)
    if type(plain) is not dict:
        raise NotAnObject("it is JSON, but not an object")
    return cast("dict[str, Any]", plain)


def parse(frame: bytes) -> Any:
    """Parse a frame or a part of one, leniently if it is not too large for that.

    Raises:
        NotAnObject: It is nested too deeply, or (`NotJson`) no JSON.
    """
    try:
        return msgspec.json.decode(frame)
    except RecursionError:
        raise NotAnObject("it is nested too deeply") from None
    except ValueError as error:  # msgspec's errors, and bytes that are no UTF-8
        if len(frame) > _LENIENT_BYTES:
            reason = f"it is not JSON: {error}"
            raise NotJson(reason) from None
        return _parse_leniently(frame)


def _parse_leniently(frame: bytes) -> Any:
    try:
        return _without_surrogates(json.loads(frame.decode("utf-8", "surrogatepass")))
    except RecursionError:
        raise NotAnObject("it is nested too deeply") from None
    except ValueError as error:
        raise NotJson(f"it is not JSON: {error}") from None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        if value.isascii():
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(element) for element in cast("list[object]", value)]
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value).items()
        return {_without_surrogates(key): _without_surrogates(entry) for key, entry in entries}
    return value

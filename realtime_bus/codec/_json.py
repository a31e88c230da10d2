"""JSON that msgspec refuses, or that is not what an event is."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec

__all__ = ["NotAnObject", "parse_object"]


class NotAnObject(Exception):  # noqa: N818  # internal: its text is the reason given
    """The frame holds no JSON object; the message says what it holds."""


def parse_object(frame: bytes) -> dict[str, Any]:
    """Parse a frame that must be a JSON object.

    msgspec is strict; Python's own parser also takes lone surrogates and NaN, which some
    servers send. Lone surrogates become U+FFFD, so that the text can be printed and encoded.

    Raises:
        NotAnObject: It is something else; the message says what.
    """
    if not frame.strip():
        raise NotAnObject("the frame is empty")
    plain = _parse(frame)
    if type(plain) is not dict:
        raise NotAnObject("it is JSON, but not an object")
    return cast("dict[str, Any]", plain)


def _parse(frame: bytes) -> Any:
    try:
        return msgspec.json.decode(frame)
    except RecursionError:
        raise NotAnObject("it is nested too deeply") from None
    except ValueError:  # msgspec's errors, and bytes that are no UTF-8
        return _parse_leniently(frame)


def _parse_leniently(frame: bytes) -> Any:
    try:
        return _without_surrogates(json.loads(frame.decode("utf-8", "surrogatepass")))
    except RecursionError:
        raise NotAnObject("it is nested too deeply") from None
    except ValueError as error:
        reason = f"it is not JSON: {error}"
        raise NotAnObject(reason) from None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(element) for element in cast("list[object]", value)]
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value).items()
        return {_without_surrogates(key): _without_surrogates(entry) for key, entry in entries}
    return value

"""What the bus tells, as data: events that were never made to be written down.

Rules:

1. Numbers, texts, lists and objects are written down as they are, up to a depth, a number of parts
   and a length of each text.
2. Of bytes the length is written, of an exception its type, its text and the place where it was
   raised, of anything else its ``repr``. A frame is recorded already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from realtime_bus import events as ev
from realtime_bus.log import place_of, text_of

_MAX_DEPTH, _MAX_PARTS, _MAX_TEXT = 8, 2000, 16_384
_FRAMES = (ev.UnknownEvent, ev.InvalidFrame)


def written_down(event: ev.BusEvent) -> dict[str, Any]:
    """Return an event's fields as `Told` has them."""
    paper = _Paper()
    return {
        name: paper.put(getattr(event, name), 0)
        for name in event.__struct_fields__
        if not (name == "frame" and isinstance(event, _FRAMES))  # it is recorded already
    }


class _Paper:
    """Takes data down, up to a bound."""

    def __init__(self) -> None:
        self._left = _MAX_PARTS

    def put(self, value: object, depth: int) -> Any:
        """Return a value as it can be written down."""
        kind = type(value)
        if kind in (bool, int, float, type(None)):
            return value
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0:
            return "…"
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return {"bytes": len(cast("bytes", value))}
        if isinstance(value, BaseException):
            return {
                "type": kind.__name__,
                "text": self._text(text_of(value)),
                "at": place_of(value),
            }
        return self._many(value, depth + 1)

    def _many(self, value: object, depth: int) -> Any:
        if isinstance(value, msgspec.Struct):
            config = value.__struct_config__
            which = {} if config.tag is None else {str(config.tag_field): config.tag}
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            return {name: self.put(field, depth) for name, field in {**which, **fields}.items()}
        if isinstance(value, Mapping):
            entries = cast("Mapping[object, object]", value).items()
            return {self._text(str(key)): self.put(each, depth) for key, each in entries}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.put(each, depth) for each in cast("list[object]", value)]
        try:
            return self._text(repr(value))
        except Exception as error:  # noqa: BLE001  # an application's own may fail at that
            return f"<{type(value).__name__}: {text_of(error)}>"

    def _text(self, text: str) -> str:
        text = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
        return text if text.isascii() else text.encode("utf-8", "replace").decode()

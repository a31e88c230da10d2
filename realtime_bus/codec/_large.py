"""Large frames that do not fit: read field by field, so that nothing is made of what nobody wants.

Sixty megabytes of small texts in a field that nobody knows would be a gigabyte of objects.

Rules:

1. Only the fields of the event itself are taken out of the frame, each as its text.
2. A small one is read like that of a small frame: parsed leniently, and walked.
3. A large one is read strictly. If it does not fit, it counts as missing, and is told as drift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import force_setattr

from realtime_bus.events import Event
from realtime_bus.events._audio import AudioSlot

from ._frame import NotAnObject, parse
from ._scalars import Problem
from ._walk import walk

_E = TypeVar("_E", bound=Event)
_MISSING: Any = object()


class _Fields(NamedTuple):
    """What there is to know of an event's fields.

    Attributes:
        take: Decodes a frame into a struct that has the text of each field, or None.
        decoders: What reads a field strictly, by its name on the wire.
    """

    take: Callable[[bytes], Any]
    decoders: Mapping[str, Callable[[bytes], Any]]


@cache
def _fields_of(cls: type[Event]) -> _Fields:
    fields = msgspec.structs.fields(cls)
    texts = msgspec.defstruct("Texts", [(field.encode_name, Raw, None) for field in fields])
    decoders = {field.encode_name: msgspec.json.Decoder(field.type).decode for field in fields}
    return _Fields(msgspec.json.Decoder(texts).decode, decoders)


def read_large(
    frame: bytes, cls: type[_E], large_bytes: int, max_values: int
) -> tuple[_E, list[Problem]]:
    """Return the event of a frame as far as it fits, and all problems.

    Args:
        frame: One WebSocket message.
        cls: The struct of its type.
        large_bytes: A field that is longer is read strictly.
        max_values: So many values of the others are looked at.

    Raises:
        ValueError: The frame is no JSON object.
        RecursionError: It is nested too deeply.
    """
    take, decoders = _fields_of(cls)
    texts = take(frame)
    plain: dict[str, object] = {}
    large: dict[str, object] = {}
    problems: list[Problem] = []
    for name, decode in decoders.items():
        text = bytes(getattr(texts, name) or b"")
        if len(text) > large_bytes:
            large[name] = _strictly(decode, text)
            if large[name] is _MISSING:
                message = f"it does not fit, and its {len(text)} bytes are not looked at"
                problems.append(Problem(name, "constraint", message))
        elif text:
            try:
                plain[name] = parse(text)
            except NotAnObject as error:
                problems.append(Problem(name, "wrong_type", str(error)))
                large[name] = _MISSING
    event, found = walk(plain, cls, max_values=max_values)
    for name, value in large.items():
        slot = vars(cls).get(name)
        put = slot.set if isinstance(slot, AudioSlot) else _setter(name)
        if value is not _MISSING:
            put(event, value)
    return event, [*problems, *(each for each in found if each.path not in large)]


def _strictly(decode: Callable[[bytes], Any], text: bytes) -> Any:
    try:
        value = decode(text)
    except (ValueError, RecursionError):
        return _MISSING
    # audio: `AudioSlot` decodes the text when it is read
    return _MISSING if isinstance(value, Raw) and not text.startswith(b'"') else value


def _setter(name: str) -> Callable[[Any, Any], None]:
    return lambda event, value: force_setattr(event, name, value)

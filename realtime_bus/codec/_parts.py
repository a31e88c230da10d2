"""What an event is made of: its structs and values with their paths, and where audio can be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from msgspec import Struct, inspect

from realtime_bus.events._base import AudioSlot

__all__ = ["audio_slots", "holds_audio", "join", "parts"]


def join(path: str, key: object) -> str:
    """Return the path of an object's field."""
    return f"{path}.{key}" if path else str(key)


def parts(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield a value and all that it holds, outermost first, each with its path.

    Audio that nobody has read yet is yielded unread.
    """
    yield path, value
    for at, inner in _inner(value, path):
        yield from parts(inner, at)


def _inner(value: object, path: str) -> Iterable[tuple[str, object]]:
    if isinstance(value, Struct):
        return [(join(path, name), _stored(value, name)) for name in value.__struct_fields__]
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value)
        return [(join(path, key), entry) for key, entry in entries.items()]
    if isinstance(value, list | tuple):
        elements = cast("list[object]", value)
        return [(f"{path}[{index}]", element) for index, element in enumerate(elements)]
    return ()


def _stored(struct: Struct, name: str) -> object:
    slot = vars(type(struct)).get(name)
    return slot.stored(struct) if isinstance(slot, AudioSlot) else getattr(struct, name)


def audio_slots(cls: type[object]) -> tuple[AudioSlot, ...]:
    """Return the audio fields of a struct class; any other class has none."""
    if not issubclass(cls, Struct):
        return ()
    return tuple(slot for slot in vars(cls).values() if isinstance(slot, AudioSlot))


def holds_audio(cls: type[Struct]) -> bool:
    """Tell whether a struct class has audio further down: in an item, or in a part of one."""
    below = _structs_below(inspect.type_info(cls), set())
    return any(audio_slots(struct) for struct in below - {cls})


def _structs_below(node: object, found: set[type[Struct]]) -> set[type[Struct]]:
    """Add every struct class that a type can hold to those found."""
    if isinstance(node, inspect.StructType) and node.cls not in found:
        found.add(node.cls)
        for field in node.fields:
            _structs_below(field.type, found)
    elif isinstance(node, inspect.UnionType):
        for member in node.types:
            _structs_below(member, found)
    elif isinstance(node, inspect.ListType):
        _structs_below(node.item_type, found)
    elif isinstance(node, inspect.DictType):
        _structs_below(node.value_type, found)
    return found

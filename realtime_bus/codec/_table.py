"""What decoders know of a vocabulary: one msgspec decoder, and where the audio is in each type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Union

import msgspec

from realtime_bus.events import Event
from realtime_bus.events._base import AudioSlot
from realtime_bus.events._vocabulary import BETA_NAMES, Vocabulary

from ._parts import audio_slots, holds_audio

__all__ = ["Side", "Table", "TypeCodec", "table_of"]

Side = Literal["server", "client"]


class TypeCodec(NamedTuple):
    """One type of event.

    Attributes:
        cls: Its struct.
        slot: Where its audio goes, if it has any of its own.
        marker: What stands before that audio in a frame, such as ``b',"delta":"'``.
        nested: Whether items or parts within it can have audio.
    """

    cls: type[Event]
    slot: AudioSlot | None
    marker: bytes
    nested: bool


class Table(NamedTuple):
    """One direction of a vocabulary.

    Attributes:
        decode: msgspec's decoder of all its types; it looks the type up by itself.
        types: The types, by wire name.
        beta: GA names, by beta name.
    """

    decode: Callable[[bytes], Any]
    types: dict[bytes, TypeCodec]
    beta: dict[bytes, bytes]


_TABLES: dict[tuple[str, Side], Table] = {}


def table_of(vocabulary: Vocabulary, side: Side) -> Table:
    """Return the table of a vocabulary's direction; built once, shared by all decoders."""
    key = (vocabulary.name, side)
    if key not in _TABLES:
        _TABLES[key] = _table(getattr(vocabulary, side))
    return _TABLES[key]


def _table(classes: Mapping[str, type[Event]]) -> Table:
    every: Any = Union[tuple(classes.values())]  # noqa: UP007  # its members are not known here
    return Table(
        decode=msgspec.json.Decoder(every).decode,
        types={name.encode(): _type_codec(cls) for name, cls in classes.items()},
        beta={old.encode(): new.encode() for old, new in BETA_NAMES.items() if new in classes},
    )


def _type_codec(cls: type[Event]) -> TypeCodec:
    slot = next(iter(audio_slots(cls)), None)
    marker = b',"%b":"' % slot.name.encode() if slot else b""
    return TypeCodec(cls, slot, marker, holds_audio(cls))

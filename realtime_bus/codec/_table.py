"""What decoders know of a protocol: one msgspec decoder, and where the audio is in each type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple, Union

import msgspec

from realtime_bus.events import Event
from realtime_bus.events._base import AudioSlot
from realtime_bus.events._registry import WireProtocol

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
    """One direction of a protocol.

    Attributes:
        decode: msgspec's decoder of all its types; it looks the type up by itself.
        types: The types, by wire name.
        renamed: Names of today, by the name that earlier versions had.
    """

    decode: Callable[[bytes], Any]
    types: dict[bytes, TypeCodec]
    renamed: dict[bytes, bytes]


@cache
def table_of(protocol: WireProtocol, side: Side) -> Table:
    """Return the table of a protocol's direction; built once, shared by all decoders."""
    classes: Mapping[str, type[Event]] = protocol.server if side == "server" else protocol.client
    every: Any = Union[tuple(classes.values())]  # noqa: UP007  # its members are not known here
    old_names = protocol.old_names.items()
    return Table(
        decode=msgspec.json.Decoder(every).decode,
        types={name.encode(): _type_codec(cls) for name, cls in classes.items()},
        renamed={old.encode(): new.encode() for old, new in old_names if new in classes},
    )


def _type_codec(cls: type[Event]) -> TypeCodec:
    slot = next(iter(audio_slots(cls)), None)
    marker = b',"%b":"' % slot.name.encode() if slot else b""
    return TypeCodec(cls, slot, marker, holds_audio(cls))

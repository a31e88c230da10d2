"""What every event is made of."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import msgspec
from msgspec import Meta, Raw, Struct

from ._audio import LazyBase64


def _encode_hook(value: object) -> object:
    """Encode what msgspec does not know: audio nobody has read, and unknown objects."""
    if isinstance(value, LazyBase64):
        return Raw(b'"%b"' % value.frame[value.start : value.end])
    if isinstance(value, UnknownObject):
        return value.data
    if isinstance(value, BaseException):  # of a handler, in an event of the bus that is logged
        return repr(value)
    msg = f"cannot encode {type(value).__name__}: {value!r:.80}"
    raise TypeError(msg)


ENCODER = msgspec.json.Encoder(enc_hook=_encode_hook)


Id = Annotated[str, Meta(max_length=512)]
"""What names an item, a response or a call. State machines key by it, and bound how many they keep:
a longer one is drift, and reads as none where it is narrowed."""


class Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    """One event of a protocol, or of the bus itself."""

    @property
    def type(self) -> str:
        """The wire name, such as ``"response.done"``."""
        return str(self.__struct_config__.tag)

    def to_dict(self) -> dict[str, Any]:
        """Return the event as plain dicts, lists and scalars, as it would be on the wire."""
        plain: dict[str, Any] = msgspec.json.decode(self.to_json())
        return plain

    def to_json(self) -> bytes:
        """Return the event as JSON text (UTF-8). Nothing is checked: see `realtime_bus.encode`."""
        return ENCODER.encode(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Build the event from plain data.

        Raises:
            msgspec.ValidationError: A field is missing or of the wrong type.
        """
        return cls.from_json(ENCODER.encode(plain))

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Build the event from JSON text, strictly.

        Raises:
            msgspec.ValidationError: A field is missing or of the wrong type.
            msgspec.DecodeError: The text is not JSON.
        """
        return msgspec.json.decode(text, type=cls)


class ServerEvent(Event, frozen=True, kw_only=True):
    """An event that a server sends."""

    # Those that hold text, numbers and flags alone have ``gc=False``: 7 % off their decoding. It is
    # safe, for they cannot be part of a cycle; audio can, by way of its decoder and session.

    event_id: str = ""
    """Unique in its session; empty where a server leaves it out, and then left out again."""

    def to_json(self) -> bytes:
        """Return the event as JSON text (UTF-8)."""
        text = super().to_json()
        return text if self.event_id else text.replace(b',"event_id":""', b"", 1)


class ClientEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An event that a client sends."""

    event_id: Annotated[str, Meta(max_length=512)] | None = None
    """The client's own id, at most 512 characters; comes back as ``error.event_id``."""


class UnknownObject:
    """A nested object of a type that this version does not know, kept as it came.

    Attributes:
        type: What the object calls itself, or None if it does not say.
        data: The object, as plain data.
    """

    __slots__ = ("data", "type")
    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # it holds a dict

    def __init__(self, data: dict[str, Any]) -> None:
        self.data: dict[str, Any] = data
        kind = data.get("type")
        self.type: str | None = kind if isinstance(kind, str) else None

    @property
    def id(self) -> str | None:
        """The object's id, if it has one."""
        found = self.data.get("id")
        return found if isinstance(found, str) else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnknownObject) and other.data == self.data

    def __repr__(self) -> str:
        return f"UnknownObject({self.data!r})"


class Variant(Struct, frozen=True, kw_only=True, tag_field="type"):
    """An object that names its kind in ``type``; the name belongs to the class."""

    @property
    def type(self) -> str:
        """The kind, as on the wire, such as ``"function_call"``."""
        return str(self.__struct_config__.tag)

"""Audio fields: base64 on the wire, bytes to whoever reads them, decoded when first read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
import pybase64
from msgspec import NODEFAULT, Raw, Struct

if TYPE_CHECKING:
    Audio = bytes
    """Audio in a struct: bytes to whoever reads or builds it, base64 on the wire."""
    OptionalAudio = bytes | None
    """The same where it may be left out: give it the default None."""
else:
    Audio = Raw
    OptionalAudio = Raw  # msgspec holds no union with Raw; AudioSlot reads a JSON null as None

_T = TypeVar("_T", bound=Struct)


class AudioSlot:
    """A descriptor over a struct's own slot: base64 goes in, bytes come out.

    msgspec fills and reads slots by offset, so it never sees this descriptor: it stores a
    `Raw` (a view of the frame, no copy). The first read decodes it and puts the bytes in its
    place, which frozen structs allow through their member descriptor, and which no reader can
    tell from having been there all along. Bad base64 reads as no audio (``b""``); the
    decoder that made the event learns of it through `on_bad`.
    """

    __slots__ = ("_get", "name", "required", "set")

    def __init__(self, name: str, member: Any, *, required: bool) -> None:
        self.name = name
        self.required = required
        self._get = member.__get__
        self.set: Callable[[Any, Any], None] = member.__set__

    def __get__(self, struct: Any, owner: type | None = None) -> Any:
        if struct is None:
            return self
        value = self._get(struct)
        if type(value) is bytes or value is None:
            return value
        audio = self._bytes_of(value)
        self.set(struct, audio)
        return audio

    def _bytes_of(self, value: Any) -> Any:
        if type(value) is LazyBase64:
            audio = _decode_base64(memoryview(value.frame)[value.start : value.end])
            if audio is None:
                value.on_bad()
            return audio or b""
        if isinstance(value, Raw):
            text = bytes(value)
            return (
                None if text == b"null" and not self.required else _decode_base64(text[1:-1]) or b""
            )
        mutable = isinstance(value, bytearray | memoryview)
        return bytes(cast("bytearray", value)) if mutable else value

    def __set__(self, struct: Any, value: Any) -> None:
        msg = f"{type(struct).__name__} is immutable"
        raise AttributeError(msg)

    def stored(self, struct: Any) -> Any:
        """Return what is in the slot, undecoded: `Raw`, `LazyBase64`, bytes or None."""
        return self._get(struct)


class LazyBase64:
    """Base64 inside a frame that nobody has read yet, and what to call if it is bad.

    No struct, though that would be made faster: msgspec would encode it as an object.
    """

    __slots__ = ("end", "frame", "on_bad", "start")

    def __init__(self, frame: bytes, start: int, end: int, on_bad: Callable[[], None]) -> None:
        self.frame = frame
        self.start = start
        self.end = end
        self.on_bad = on_bad


def _decode_base64(text: bytes | memoryview) -> bytes | None:
    """Return the bytes, or None if the base64 is bad."""
    try:
        # validate=True takes the SIMD path: three times as fast as skipping odd characters
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        return _decode_escaped(text)


def _decode_escaped(text: bytes | memoryview) -> bytes | None:
    """Decode base64 whose JSON text has escapes: some encoders put a backslash before a slash."""
    try:
        plain = msgspec.json.decode(b'"%b"' % bytes(text), type=str)
        return pybase64.b64decode(plain, validate=True)
    except ValueError:
        return None


def lazy_audio(*fields: str) -> Callable[[type[_T]], type[_T]]:
    """Make audio fields of a struct class read as bytes and decode once, when first read.

    Equality and the printed form look at the audio too: as bytes, and as its length.
    """

    def install(cls: type[_T]) -> type[_T]:
        for field in fields:
            slot = AudioSlot(field, cls.__dict__[field], required=_is_required(cls, field))
            type.__setattr__(cls, field, slot)
        type.__setattr__(cls, "__eq__", _audio_eq)
        type.__setattr__(cls, "__hash__", _audio_hash)
        type.__setattr__(cls, "__repr__", _audio_repr)
        return cls

    return install


def _is_required(cls: type[Struct], field: str) -> bool:
    # defaults belong to the last fields
    backwards = zip(
        reversed(cls.__struct_fields__), reversed(cls.__struct_defaults__), strict=False
    )
    return dict(backwards).get(field, NODEFAULT) is NODEFAULT


def _audio_eq(self: Struct, other: object) -> bool:
    if type(self) is not type(other):
        return False
    names = self.__struct_fields__
    return bool(all(getattr(self, name) == getattr(other, name) for name in names))


def _audio_hash(self: Struct) -> int:
    return hash(tuple(getattr(self, name) for name in self.__struct_fields__))


def _audio_repr(self: Struct) -> str:
    parts = ((name, getattr(self, name)) for name in self.__struct_fields__)
    shown = (
        f"{name}=<{len(value)} bytes>" if isinstance(value, bytes) else f"{name}={value!r}"
        for name, value in parts
    )
    return f"{type(self).__name__}({', '.join(shown)})"

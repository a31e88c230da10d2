"""The parts of an event, and the audio among them: cut out of frames, decoded when it is read.

Rules:

1. Audio that is most of its frame is not parsed at all: it is cut out, the rest is decoded, and
   the event remembers where in the frame its audio is (`OwnAudio.decode_cut`).
2. Audio that msgspec has read is left as the base64 text that it was, in a `LazyBase64`.
3. So bad base64 is found by whoever reads the audio, and reported then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import islice
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import Struct, inspect

from realtime_bus.events._audio import AudioSlot, LazyBase64

_MAX_PARTS = 5000

# What an event is made of


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
        return [(join(path, name), stored(value, name)) for name in value.__struct_fields__]
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value)
        return [(join(path, key), entry) for key, entry in entries.items()]
    if isinstance(value, list | tuple):
        elements = cast("list[object]", value)
        return [(f"{path}[{index}]", element) for index, element in enumerate(elements)]
    return ()


def stored(struct: Struct, name: str) -> object:
    """Return a field as it is stored: audio that nobody has read yet unread."""
    slot = vars(type(struct)).get(name)
    return slot.stored(struct) if isinstance(slot, AudioSlot) else getattr(struct, name)


# Which classes have audio


@cache
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


# Audio in frames


def cut_audio(frame: bytes, marker: bytes) -> tuple[bytes, int, int] | None:
    """Cut the audio out of a frame: return the rest, and where the base64 starts and ends.

    Args:
        frame: The frame.
        marker: What stands before the audio, such as ``b',"delta":"'``.

    Returns:
        None where the audio cannot be found without parsing. Otherwise it is safe: the
        marker can only be a key, for within a JSON string its quotes would be escaped; it is a
        key of the event itself, for no other object was opened before it; and it is the last
        of its name, which is the one that counts. Base64 holds no quote, so the next one ends
        it; if that was an escaped one, the text before it ends in a backslash, which is
        reported as bad base64.
    """
    start = frame.find(marker) + len(marker)
    if start < len(marker) or frame.rfind(b"{", 1, start) > 0:
        return None
    end = frame.find(b'"', start)
    if end < 0:
        return None
    tail = frame[end:]
    if tail != b'"}' and (marker[1:-2] in tail or b"\\" in tail):  # perhaps the same key again
        return None
    return frame[:start] + tail, start, end


class OwnAudio(NamedTuple):
    """What there is to do with an event that has audio in a field of its own.

    Attributes:
        decode: msgspec's decoder of the event.
        slot: Where the audio goes.
        marker: What stands before the audio in the frame.
        on_bad: Called when the audio is read and its base64 turns out to be bad.
    """

    decode: Callable[[bytes], Any]
    slot: AudioSlot
    marker: bytes
    on_bad: Callable[[], None]

    def decode_cut(self, frame: bytes) -> Any:
        """Decode a frame without parsing the audio; the event keeps the frame until it is read.

        Raises:
            ValueError: The frame is not as it should be.
        """
        cut = cut_audio(frame, self.marker)
        if cut is None:
            return self.defer(self.decode(frame), frame)
        rest, start, end = cut
        event = self.decode(rest)
        self.slot.set(event, LazyBase64(frame, start, end, self.on_bad))
        return event

    def defer(self, event: Any, _frame: bytes) -> Any:
        """Leave the audio of an event that msgspec has decoded for its reader to decode."""
        _defer(self.slot, self.on_bad, event)
        return event


class NestedAudio(NamedTuple):
    """What there is to do with an event whose items or parts may have audio; few do.

    Attributes:
        on_bad: Called with the path of audio that is read and turns out to be bad base64.
    """

    on_bad: Callable[[str], None]

    def defer(self, event: Any, frame: bytes) -> Any:
        """Leave all audio in the event for its reader to decode."""
        if b'"audio":' in frame:
            for path, part in islice(parts(event), _MAX_PARTS):  # others are decoded when read, too
                for slot in audio_slots(type(part)):
                    _defer(slot, partial(self.on_bad, join(path, slot.name)), part)
        return event


def _defer(slot: AudioSlot, on_bad: Callable[[], None], struct: object) -> None:
    """Put a `LazyBase64` in place of the `Raw` that msgspec has left.

    Raises:
        msgspec.ValidationError: It is no text.
    """
    text = bytes(slot.stored(struct) or b"null")
    if text.startswith(b'"'):
        slot.set(struct, LazyBase64(text, 1, len(text) - 1, on_bad))
    elif text != b"null" or slot.required:
        msg = "audio must be base64 text"
        raise msgspec.ValidationError(msg)

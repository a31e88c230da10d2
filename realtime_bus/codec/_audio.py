"""Audio in frames: cut out of them where that is safe, and left undecoded until it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from realtime_bus.events._base import AudioSlot, LazyBase64

from ._parts import audio_slots, join, parts

__all__ = ["adopt", "adopter_nested", "cut_audio", "decode_cut"]


def cut_audio(frame: bytes, marker: bytes) -> tuple[bytes, int, int] | None:
    """Cut the audio out of a frame: return the rest, and where the base64 starts and ends.

    Safe because the marker, such as ``,"delta":"``, can only be a key: within a JSON string
    its quotes would be escaped. It is a key of the event itself as long as no other object
    was opened before it. Base64 holds no quote, so the next one ends it; if that was an
    escaped one, the text before it ends in a backslash and will be told as bad base64.
    """
    start = frame.find(marker) + len(marker)
    if start < len(marker) or frame.rfind(b"{", 1, start) > 0:
        return None
    end = frame.find(b'"', start)
    if end < 0:
        return None
    return frame[:start] + frame[end:], start, end


def decode_cut(
    decode: Callable[[bytes], Any],
    slot: AudioSlot,
    marker: bytes,
    on_bad: Callable[[], None],
    frame: bytes,
) -> Any:
    """Decode an event whose own audio is most of its frame, without parsing the audio.

    Args:
        decode: msgspec's decoder.
        slot: Where the audio goes.
        marker: What stands before the audio in the frame.
        on_bad: Called when the audio is read and its base64 turns out to be bad.
        frame: The frame; the event keeps it until its audio is read.

    Raises:
        ValueError: The frame is not as it should be.
    """
    cut = cut_audio(frame, marker)
    if cut is None:
        event = decode(frame)
        adopt(slot, on_bad, event)
    else:
        rest, start, end = cut
        event = decode(rest)
        slot.set(event, LazyBase64(frame, start, end, on_bad))
    return event


def adopt(slot: AudioSlot, on_bad: Callable[[], None], struct: object, _frame: bytes = b"") -> Any:
    """Take charge of audio that msgspec has left as `Raw`, and return the struct.

    Raises:
        msgspec.ValidationError: It is no text.
    """
    text = bytes(slot.stored(struct) or b"null")
    if text.startswith(b'"'):
        slot.set(struct, LazyBase64(text, 1, len(text) - 1, on_bad))
    elif text != b"null" or slot.required:
        msg = "audio must be base64 text"
        raise msgspec.ValidationError(msg)
    return struct


def adopter_nested(on_bad: Callable[[str], Callable[[], None]]) -> Callable[[Any, bytes], Any]:
    """Return what takes charge of the audio in an event's items and parts; few have any.

    It is a closure: called by a `partial` it would take half as long again. It raises
    `msgspec.ValidationError` if some of the audio is no text.
    """

    def adopt_nested(event: Any, frame: bytes) -> Any:
        if frame.find(b'"audio":') < 0:  # not ``in``, which takes twice as long
            return event
        for path, part in parts(event):
            for slot in audio_slots(type(part)):
                adopt(slot, on_bad(join(path, slot.name)), part)
        return event

    return adopt_nested

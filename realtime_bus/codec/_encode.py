"""Events into frames; what a server would refuse is refused here, before it is sent.

Rules:

1. Every client event is checked against its own type: names, values, ranges, lengths.
2. An `UnknownObject` was put there on purpose and goes through: a server may know its type.
3. Audio is the hot path: its size is checked and its base64 is made by pybase64, nothing more.
4. Server events are encoded as they are: only servers and relays have any to send.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pybase64
from msgspec import UNSET, Raw

from realtime_bus.errors import EventTooLarge, InvalidEvent
from realtime_bus.events import BusEvent, ClientEvent, Event, InputAudioBufferAppend, UnknownObject
from realtime_bus.events._audio import LazyBase64
from realtime_bus.events._base import ENCODER
from realtime_bus.events.translation import SessionInputAudioBufferAppend

from ._audio import audio_slots, join, parts
from ._frame import parse_object
from ._scalars import Problem
from ._walk import walk

MAX_APPEND_BYTES = 15 * 1024 * 1024
"""How much audio one append may carry (Realtime protocol, `input_audio_buffer.append`)."""

_MAX_EVENT_ID = 512
_REFUSED = (TypeError, ValueError, OverflowError, RecursionError)  # what ENCODER raises
_AUDIO = (bytes, bytearray, memoryview, LazyBase64, Raw, type(None))


def encode(event: Event) -> bytes:
    """Return the event as the JSON text of one frame.

    Args:
        event: A client event, which is checked; or a server event, which is not.

    Raises:
        InvalidEvent: A field's value would be refused; names the field and what is allowed.
        EventTooLarge: An append with more than 15 MiB of audio.
    """
    if isinstance(event, InputAudioBufferAppend | SessionInputAudioBufferAppend):
        return _encode_append(event)
    if isinstance(event, BusEvent):
        msg = f"{event.type} is an event of the bus, not of the protocol: it cannot be sent"
        raise InvalidEvent(msg, event_type=event.type)
    text = _to_json(event)
    if isinstance(event, ClientEvent):
        _check(event, text)
    return text


def _encode_append(event: InputAudioBufferAppend | SessionInputAudioBufferAppend) -> bytes:
    audio: Any = event.audio  # whatever the constructor was given
    if type(audio) is not bytes:
        message = f"audio must be bytes, not {type(audio).__name__}"
        raise _refused(event.type, [Problem("audio", "wrong_type", message)])
    if len(audio) > MAX_APPEND_BYTES:
        raise _too_large(event.type, len(audio))
    head = b'{"type":"%b",%b"audio":"' % (
        event.type.encode(),
        _event_id(event.type, event.event_id),
    )
    # pybase64 makes the text six times as fast as msgspec's own encoder of bytes
    return b"".join((head, pybase64.b64encode(audio), b'"}'))


def _event_id(event_type: str, event_id: object) -> bytes:
    if event_id is None:
        return b""
    if not isinstance(event_id, str):
        message = f"expected a string, got {type(event_id).__name__}"
        raise _refused(event_type, [Problem("event_id", "wrong_type", message)])
    if len(event_id) > _MAX_EVENT_ID:
        message = f"has {len(event_id)} characters; allowed are at most {_MAX_EVENT_ID}"
        raise _refused(event_type, [Problem("event_id", "constraint", message)])
    try:
        return b'"event_id":%b,' % msgspec.json.encode(event_id)
    except UnicodeError as error:
        raise _refused(event_type, [Problem("event_id", "wrong_type", str(error))]) from error


def _too_large(event_type: str, size_bytes: int) -> EventTooLarge:
    return EventTooLarge(
        f"{event_type}: audio has {size_bytes} bytes, the limit is {MAX_APPEND_BYTES} (15 MiB); "
        "send it in several appends, or use session.append_audio, which splits by itself",
        event_type=event_type,
        param="audio",
        size_bytes=size_bytes,
        limit_bytes=MAX_APPEND_BYTES,
    )


def _to_json(event: Event) -> bytes:
    try:
        return ENCODER.encode(event)
    except _REFUSED as error:
        raise _refused(event.type, [_culprit(event, error)]) from error


def _culprit(event: Event, error: Exception) -> Problem:
    """Find the innermost value that cannot be encoded; parts come after what holds them."""
    path, message = "", str(error)
    if not isinstance(error, RecursionError):  # else its parts have no end
        for at, part in parts(event):
            try:
                ENCODER.encode(None if part is UNSET else part)  # UNSET alone has no JSON
            except _REFUSED as inner:
                path, message = at, str(inner)
    return Problem(path, "wrong_type", message)


def _check(event: Event, text: bytes) -> None:
    """Read the event back strictly: what we could not read ourselves, no server would."""
    everything = [*parts(event)]
    on_purpose = {join(at, "type") for at, part in everything if isinstance(part, UnknownObject)}
    _, found = walk(parse_object(text), type(event))
    problems = [
        *_misplaced_bytes(everything),
        *(problem for problem in found if problem.path not in on_purpose),
    ]
    if problems:
        raise _refused(event.type, problems)


def _misplaced_bytes(everything: list[tuple[str, object]]) -> Iterator[Problem]:
    """Yield audio that is no bytes, and bytes that are no audio: msgspec would encode both."""
    audio_at = {join(at, slot.name) for at, part in everything for slot in audio_slots(type(part))}
    for at, part in everything:
        if at in audio_at and not isinstance(part, _AUDIO):
            message = f"audio must be bytes, not {type(part).__name__}"
            yield Problem(at, "wrong_type", message)
        elif at not in audio_at and isinstance(part, bytes | bytearray | memoryview):
            yield Problem(at, "wrong_type", "bytes are for audio only; decode them to text first")


def _refused(event_type: str, problems: list[Problem]) -> InvalidEvent:
    first = problems[0]
    where = f"{first.path}: " if first.path else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidEvent(
        f"{event_type} was not sent: {where}{first.message}{more}",
        event_type=event_type,
        param=first.path,
        problems=problems,
    )

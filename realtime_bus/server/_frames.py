"""Events into frames, with the oddities of other servers where an option asks for them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import msgspec
import pybase64

from realtime_bus import events as ev

from ._options import ServerOptions

__all__ = ["to_frame"]


def to_frame(event: ev.ServerEvent, options: ServerOptions) -> bytes:
    """Return an event as the JSON text of one frame."""
    if isinstance(event, ev.ResponseOutputAudioDelta):
        frame = _audio_frame(event)
    else:
        frame = event.to_json()
    if options.omit_nulls:
        frame = msgspec.json.encode(_without_nulls(msgspec.json.decode(frame)))
    if options.obfuscation and event.type.endswith(".delta"):
        # padding of random length, so that its size tells nothing about the text
        padding = secrets.token_hex(1 + secrets.randbelow(8)).encode()
        frame = frame[:-1] + b',"obfuscation":"%b"}' % padding
    return frame


def _audio_frame(event: ev.ResponseOutputAudioDelta) -> bytes:
    """Encode nearly all of a session's bytes: pybase64 is faster than msgspec's own base64."""
    head = msgspec.json.encode(
        {
            "type": event.type,
            "event_id": event.event_id,
            "response_id": event.response_id,
            "item_id": event.item_id,
            "output_index": event.output_index,
            "content_index": event.content_index,
        }
    )
    return head[:-1] + b',"delta":"%b"}' % pybase64.b64encode(event.delta)


def _without_nulls(value: object) -> object:
    strip = _STRIP.get(type(value))
    return value if strip is None else strip(value)


def _object(value: dict[str, Any]) -> dict[str, Any]:
    return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}


def _array(value: list[Any]) -> list[Any]:
    return [_without_nulls(element) for element in value]


_STRIP: dict[type, Callable[[Any], Any]] = {dict: _object, list: _array}

"""The frames of a reply, as a server sends them: what every benchmark over a socket uses.

Small frames are transcript deltas of about 270 bytes; audio deltas carry 200 ms, 9600 bytes of
24 kHz PCM in 12.8 kB of base64. All belong to one item that was announced before, because some
libraries keep books of items. Made from a fixed seed: the same in every run and process.
"""

from __future__ import annotations

import base64
import json
import random
from typing import Any

__all__ = [
    "AUDIO_BYTES",
    "STAMP",
    "audio_frames",
    "mixed_frames",
    "opening_frames",
    "session_frame",
    "small_frames",
    "speech_frame",
    "stamped",
]

AUDIO_BYTES = 9600
STAMP = b"event_000000000000000000000"
"""The event id of every frame; `stamped` puts the time of sending into it."""

_RESPONSE, _ITEM = "resp_AbCdEfGhIjKlMnOpQrStU", "item_AbCdEfGhIjKlMnOpQrStU"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def stamped(frame: bytes, time_ns: int) -> bytes:
    """Return the frame with a time, in nanoseconds, as its event id."""
    return frame.replace(STAMP, b"event_%021d" % time_ns, 1)


def small_frames(count: int) -> list[bytes]:
    """Return transcript deltas."""
    rng = random.Random(1)  # noqa: S311  # sample data, no secret
    kind = "response.output_audio_transcript.delta"
    return [
        _part(
            kind, delta=" timer", obfuscation="".join(rng.choices(_LETTERS, k=rng.randint(8, 40)))
        )
        for _ in range(count)
    ]


def audio_frames(count: int) -> list[bytes]:
    """Return audio deltas, each with audio of its own."""
    rng = random.Random(2)  # noqa: S311  # sample data, no secret
    return [_part("response.output_audio.delta", delta=_audio(rng)) for _ in range(count)]


def mixed_frames(small: int, audio: int) -> list[bytes]:
    """Return small frames and audio deltas, interleaved as they arrive."""
    frames = [*small_frames(small), *audio_frames(audio)]
    random.Random(3).shuffle(frames)  # noqa: S311  # sample data, no secret
    return frames


def session_frame(kind: str) -> bytes:
    """Return ``session.created`` or ``session.updated``."""
    audio = {"input": {"format": _PCM}, "output": {"format": _PCM, "voice": "marin", "speed": 1.0}}
    session = {
        "type": "realtime",
        "id": "sess_AbCdEfGhIjKlMnOpQrStU",
        "object": "realtime.session",
        "model": "gpt-realtime-2.1",
        "output_modalities": ["audio"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "audio": audio,
    }
    return _frame(kind, session=session)


_PCM = {"type": "audio/pcm", "rate": 24000}


def opening_frames() -> list[bytes]:
    """Return what announces the reply that all deltas belong to."""
    response = {
        "object": "realtime.response",
        "id": _RESPONSE,
        "status": "in_progress",
        "output": [],
        "metadata": None,
        "output_modalities": ["audio"],
    }
    item: dict[str, Any] = {
        "id": _ITEM,
        "type": "message",
        "object": "realtime.item",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }
    return [
        _frame("response.created", response=response),
        _frame("response.output_item.added", response_id=_RESPONSE, output_index=0, item=item),
        _frame("conversation.item.added", previous_item_id=None, item=item),
        _part("response.content_part.added", part={"type": "audio", "transcript": ""}),
    ]


def speech_frame() -> bytes:
    """Return ``input_audio_buffer.speech_started``."""
    item = "item_ZyXwVuTsRqPoNmLkJiHgF"
    return _frame("input_audio_buffer.speech_started", audio_start_ms=100, item_id=item)


def _audio(rng: random.Random) -> str:
    return base64.b64encode(rng.randbytes(AUDIO_BYTES)).decode()


def _part(kind: str, **fields: object) -> bytes:
    return _frame(
        kind, response_id=_RESPONSE, item_id=_ITEM, output_index=0, content_index=0, **fields
    )


def _frame(kind: str, **fields: object) -> bytes:
    event = {"type": kind, "event_id": STAMP.decode(), **fields}
    return json.dumps(event, separators=(",", ":")).encode()

"""Frames as a voice application receives them: the mix that every benchmark uses.

72 % are small (about 270 bytes, mostly transcript deltas), 28 % are audio deltas of 200 ms:
9600 bytes of 24 kHz PCM, 12.8 kB of base64. Made from a fixed seed: the same in every run.
"""

from __future__ import annotations

import base64
import json
import random
from typing import Any

__all__ = ["AUDIO_BYTES", "audio_frames", "mixed_frames", "small_frames"]

AUDIO_BYTES = 9600
_WORDS = ["the", "kitchen", "timer", "is", "set", "for", "twelve", "minutes", "and", "tell"]
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def small_frames(count: int) -> list[bytes]:
    """Return small frames of several types, in the order of a conversation."""
    rng = random.Random(1)  # noqa: S311  # sample data, no secret
    makers = [*[_transcript_delta] * 14, *[_arguments_delta] * 2, *[_heard_delta] * 2, *_RARE]
    return [_frame(makers[index % len(makers)](rng)) for index in range(count)]


def audio_frames(count: int) -> list[bytes]:
    """Return audio deltas, each with audio of its own."""
    rng = random.Random(2)  # noqa: S311  # sample data, no secret
    return [_frame(_audio_delta(rng)) for _ in range(count)]


def mixed_frames(small: int, audio: int) -> list[bytes]:
    """Return small frames and audio deltas, interleaved as they arrive."""
    frames = [*small_frames(small), *audio_frames(audio)]
    random.Random(3).shuffle(frames)  # noqa: S311  # sample data, no secret
    return frames


def _frame(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def _id(rng: random.Random, prefix: str) -> str:
    return prefix + "_" + "".join(rng.choices(_LETTERS, k=21))


def _part(rng: random.Random, kind: str, **fields: object) -> dict[str, Any]:
    return {
        "type": kind,
        "event_id": _id(rng, "event"),
        "response_id": _id(rng, "resp"),
        "item_id": _id(rng, "item"),
        "output_index": 0,
        "content_index": 0,
        **fields,
    }


def _padding(rng: random.Random) -> str:
    return "".join(rng.choices(_LETTERS, k=rng.randint(8, 70)))


def _transcript_delta(rng: random.Random) -> dict[str, Any]:
    kind = "response.output_audio_transcript.delta"
    return _part(rng, kind, delta=" " + rng.choice(_WORDS), obfuscation=_padding(rng))


def _audio_delta(rng: random.Random) -> dict[str, Any]:
    audio = base64.b64encode(rng.randbytes(AUDIO_BYTES)).decode()
    return _part(rng, "response.output_audio.delta", delta=audio)


def _arguments_delta(rng: random.Random) -> dict[str, Any]:
    event = _part(rng, "response.function_call_arguments.delta", call_id=_id(rng, "call"))
    del event["content_index"]
    return event | {"delta": '"minutes":', "obfuscation": _padding(rng)}


def _heard_delta(rng: random.Random) -> dict[str, Any]:
    return {
        "type": "conversation.item.input_audio_transcription.delta",
        "event_id": _id(rng, "event"),
        "item_id": _id(rng, "item"),
        "content_index": 0,
        "delta": " " + rng.choice(_WORDS),
        "obfuscation": _padding(rng),
    }


def _speech_started(rng: random.Random) -> dict[str, Any]:
    return {
        "type": "input_audio_buffer.speech_started",
        "event_id": _id(rng, "event"),
        "audio_start_ms": rng.randint(0, 600_000),
        "item_id": _id(rng, "item"),
    }


def _committed(rng: random.Random) -> dict[str, Any]:
    return {
        "type": "input_audio_buffer.committed",
        "event_id": _id(rng, "event"),
        "previous_item_id": _id(rng, "item"),
        "item_id": _id(rng, "item"),
    }


def _item_added(rng: random.Random) -> dict[str, Any]:
    return {
        "type": "conversation.item.added",
        "event_id": _id(rng, "event"),
        "previous_item_id": _id(rng, "item"),
        "item": {
            "id": _id(rng, "item"),
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        },
    }


def _part_added(rng: random.Random) -> dict[str, Any]:
    return _part(rng, "response.content_part.added", part={"type": "audio", "transcript": ""})


def _rate_limits(rng: random.Random) -> dict[str, Any]:
    limits = [
        {"name": name, "limit": 40000, "remaining": rng.randint(0, 40000), "reset_seconds": 0.112}
        for name in ("requests", "tokens")
    ]
    return {
        "type": "rate_limits.updated",
        "event_id": _id(rng, "event"),
        "rate_limits": limits,
    }


_RARE = [_speech_started, _committed, _item_added, _part_added, _rate_limits]

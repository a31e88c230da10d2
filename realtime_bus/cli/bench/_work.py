"""The work that every library is given: the same frames, and the same handlers.

Frames are made from a fixed seed: the same in every run and process. Small ones have about 270
bytes; audio deltas carry 200 ms, 9600 bytes of 24 kHz PCM in 12.8 kB of base64; 72 % are small and
28 % audio where they are mixed. Over a socket all belong to one item that was announced before,
because some libraries keep books of items; decoding sees the several types of a conversation.
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from time import perf_counter_ns
from typing import Any, Literal, NamedTuple

import anyio

AUDIO_BYTES = 9600
_STAMP = "event_000000000000000000000"
_RESPONSE, _ITEM = "resp_AbCdEfGhIjKlMnOpQrStU", "item_AbCdEfGhIjKlMnOpQrStU"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def stamped(frame: bytes, time_ns: int) -> bytes:
    """Return the frame with a time, in nanoseconds, as its event id."""
    return frame.replace(_STAMP.encode(), b"event_%021d" % time_ns, 1)


def small_frames(count: int) -> list[bytes]:
    """Return transcript deltas."""
    rng = random.Random(1)  # noqa: S311  # sample data, no secret
    kind = "response.output_audio_transcript.delta"
    return [
        _part(kind, delta=" timer", obfuscation=_letters(rng, rng.randint(8, 40)))
        for _ in range(count)
    ]


def audio_frames(count: int) -> list[bytes]:
    """Return audio deltas, each with audio of its own."""
    rng = random.Random(2)  # noqa: S311  # sample data, no secret
    return [
        _part(
            "response.output_audio.delta",
            delta=base64.b64encode(rng.randbytes(AUDIO_BYTES)).decode(),
        )
        for _ in range(count)
    ]


def mixed_frames(small: list[bytes], audio: list[bytes]) -> list[bytes]:
    """Return small frames and audio deltas, interleaved as they arrive."""
    frames = [*small, *audio]
    random.Random(3).shuffle(frames)  # noqa: S311  # sample data, no secret
    return frames


def session_frame(kind: str) -> bytes:
    """Return ``session.created`` or ``session.updated``."""
    pcm = {"type": "audio/pcm", "rate": 24000}
    session = {
        "type": "realtime",
        "id": "sess_AbCdEfGhIjKlMnOpQrStU",
        "object": "realtime.session",
        "model": "gpt-realtime-2.1",
        "output_modalities": ["audio"],
        "instructions": "",
        "tools": [],
        "tool_choice": "auto",
        "audio": {
            "input": {"format": pcm},
            "output": {"format": pcm, "voice": "marin", "speed": 1.0},
        },
    }
    return _frame(kind, session=session)


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


def _part(kind: str, **fields: object) -> bytes:
    place: dict[str, Any] = {"response_id": _RESPONSE, "item_id": _ITEM, "output_index": 0}
    return _frame(kind, **place, content_index=0, **fields)


def _frame(kind: str, **fields: object) -> bytes:
    event = {"type": kind, "event_id": _STAMP, **fields}
    return json.dumps(event, separators=(",", ":")).encode()


def _letters(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(_LETTERS, k=count))


_IN_RESPONSE = '"event_id":"event_#","response_id":"resp_#","item_id":"item_#","output_index":0'
_IN_ITEM = '"event_id":"event_#","previous_item_id":"item_#"'
_MESSAGE = (
    '"id":"item_#","type":"message","status":"completed","role":"user",'
    '"content":[{"type":"input_audio","transcript":null}]'
)
_LIMIT = '"limit":40000,"remaining":31415,"reset_seconds":0.112'
_TRANSCRIPT = (
    f'{{"type":"response.output_audio_transcript.delta",{_IN_RESPONSE},"content_index":0,'
    '"delta":" kitchen","obfuscation":"*"}'
)
_ARGUMENTS = (
    f'{{"type":"response.function_call_arguments.delta",{_IN_RESPONSE},"call_id":"call_#",'
    '"delta":"\\"minutes\\":","obfuscation":"*"}'
)
_HEARD = (
    '{"type":"conversation.item.input_audio_transcription.delta","event_id":"event_#",'
    '"item_id":"item_#","content_index":0,"delta":" kitchen","obfuscation":"*"}'
)
_SPEECH = (
    '{"type":"input_audio_buffer.speech_started","event_id":"event_#","audio_start_ms":271828,'
    '"item_id":"item_#"}'
)
_COMMITTED = f'{{"type":"input_audio_buffer.committed",{_IN_ITEM},"item_id":"item_#"}}'
_ADDED = f'{{"type":"conversation.item.added",{_IN_ITEM},"item":{{{_MESSAGE}}}}}'
_PART = (
    f'{{"type":"response.content_part.added",{_IN_RESPONSE},"content_index":0,'
    '"part":{"type":"audio","transcript":""}}'
)
_LIMITS = (
    '{"type":"rate_limits.updated","event_id":"event_#","rate_limits":['
    f'{{"name":"requests",{_LIMIT}}},{{"name":"tokens",{_LIMIT}}}]}}'
)
_RARE = [_SPEECH, _COMMITTED, _ADDED, _PART, _LIMITS]
_VARIED = [*[_TRANSCRIPT] * 14, *[_ARGUMENTS] * 2, *[_HEARD] * 2, *_RARE]
"""Small frames as often as a conversation has them; ``#`` is the rest of an id, ``*`` padding."""


def varied_frames(count: int) -> list[bytes]:
    """Return small frames of several types."""
    rng = random.Random(1)  # noqa: S311  # sample data, no secret

    def filled(place: re.Match[str]) -> str:
        return _letters(rng, 21 if place[0] == "#" else rng.randint(8, 70))

    return [re.sub(r"[#*]", filled, _VARIED[n % len(_VARIED)]).encode() for n in range(count)]


class Tally:
    """Counts frames and bytes of audio, and notes how late each was, if that was asked for.

    Args:
        expected: After how many frames `ended` is set.
        clocked: Whether event ids hold the time of sending.
    """

    def __init__(self, *, expected: int = -1, clocked: bool = False) -> None:
        self.frames: int = 0
        self.audio_bytes: int = 0
        self.late_ns: list[int] = []
        self.ended: anyio.Event = anyio.Event()
        self._expected = expected
        self._clocked = clocked

    def text(self, event_id: str) -> None:
        """Handle a transcript delta."""
        self._count(event_id)

    def audio(self, audio: bytes, event_id: str) -> None:
        """Handle an audio delta."""
        self.audio_bytes += len(audio)
        self._count(event_id)

    def _count(self, event_id: str) -> None:
        self.frames += 1
        if self._clocked and event_id:
            self.late_ns.append(perf_counter_ns() - int(event_id[6:]))
        if self.frames == self._expected:
            self.ended.set()


class Backlog:
    """Takes its time over audio, and notes how late the news of speech arrives."""

    def __init__(self, *, takes_s: float) -> None:
        self.takes_s = takes_s
        self.late_ns: int = 0
        self.heard: anyio.Event = anyio.Event()

    async def audio(self, audio: bytes) -> None:  # noqa: ARG002  # decoded by whoever calls
        """Handle an audio delta."""
        await anyio.sleep(self.takes_s)

    def speech(self, event_id: str) -> None:
        """Handle the start of speech."""
        if not self.heard.is_set():
            self.late_ns = perf_counter_ns() - int(event_id[6:])
            self.heard.set()


class Row(NamedTuple):
    """One way to receive events over a socket; it is pickled, so that a process can run it.

    Attributes:
        name: What the tables call it.
        rule: What of it is measured: the fair rule of this row.
        needs: The module without which it is left out, or None.
        connect: Open a session whose events go to a `Tally`; None if it does not fit.
        connect_slow: Open one whose events go to a `Backlog`; None if it does not fit.
        backend: What runs it.
    """

    name: str
    rule: str
    needs: str | None
    connect: Callable[[str, Tally], AbstractAsyncContextManager[object]] | None
    connect_slow: Callable[[str, Backlog], AbstractAsyncContextManager[object]] | None = None
    backend: Literal["asyncio", "trio", "uvloop"] = "asyncio"

"""A recording by hand: a question, an answer that is interrupted, a tool call, an error, drift."""

from __future__ import annotations

import base64
import math
import struct
from functools import cache
from typing import Any

import msgspec

from realtime_bus.audio import PlayedItem
from realtime_bus.recording import Ended, Flushed, Header, Line, Played, Received, Sent, Told

QUESTION = "How do I cook a risotto?"
ANSWER = "First, warm one litre of stock in a small pot, and keep it hot."
SESSION = {
    "type": "realtime",
    "id": "sess_1",
    "model": "gpt-realtime",
    "audio": {
        "input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 500}},
        "output": {"voice": "marin"},
    },
}


@cache
def tone(length_ms: int, *, hz: float = 220, level: float = 0.5, rate_hz: int = 24_000) -> bytes:
    """Return PCM16 that can be seen and heard."""
    samples = range(rate_hz * length_ms // 1000)
    wave = (int(level * 32767 * math.sin(2 * math.pi * hz * n / rate_hz)) for n in samples)
    return struct.pack(f"<{len(samples)}h", *wave)


def received(at_ms: float, kind: str, **fields: Any) -> Received:
    """Return a frame of the server's."""
    frame = msgspec.json.encode({"type": kind, "event_id": f"event_{at_ms}", **fields})
    return Received(t_us=int(at_ms * 1000), frame=msgspec.Raw(frame))


def sent(at_ms: float, kind: str, **fields: Any) -> Sent:
    """Return a frame of the client's."""
    frame = msgspec.json.encode({"type": kind, **fields})
    return Sent(t_us=int(at_ms * 1000), frame=msgspec.Raw(frame))


def text(audio: bytes) -> str:
    """Return audio as it stands in a frame."""
    return base64.b64encode(audio).decode()


def conversation(
    *, question: str = QUESTION, answer: str = ANSWER, name: str = "set_timer"
) -> list[Line]:
    """Return six seconds: the person asks, and cuts in after one second of the answer's three."""
    spoken, answered = tone(1000), tone(3000, hz=330)
    lines: list[Line] = [received(1, "session.created", session=SESSION)]
    for n in range(290):
        audio = spoken[n * 960 :][:960] if n < 50 else b""
        at_ms = 20.0 * (n + 1)
        lines.append(sent(at_ms, "input_audio_buffer.append", audio=text(audio.ljust(960, b"\0"))))
    delta = {"response_id": "r1", "item_id": "a1", "output_index": 0, "content_index": 0}
    message = {"id": "a1", "type": "message", "role": "assistant", "content": []}
    asked = {"id": "p1", "type": "message", "role": "user", "content": [{"type": "input_audio"}]}
    call = {
        "id": "f1",
        "type": "function_call",
        "name": name,
        "call_id": "c1",
        "arguments": '{"minutes": 3}',
    }
    output = {"type": "function_call_output", "call_id": "c1", "output": "3 min"}
    cut = PlayedItem(item_id="a1", content_index=0, played_ms=1000, written_ms=3000)
    was_cut = {
        "items": [{"item_id": "a1", "content_index": 0, "played_ms": 1000, "received_ms": 3000}],
        "latency_s": 0.0004,
        "audio_start_ms": 2680,
    }
    created = {"id": "r1", "status": "in_progress", "conversation_id": "conv"}
    done = {
        "id": "r1",
        "status": "cancelled",
        "conversation_id": "conv",
        "status_details": {"type": "cancelled", "reason": "turn_detected"},
        "output": [],
    }
    created_2 = {"id": "r2", "status": "in_progress", "conversation_id": "conv"}
    done_2 = {"id": "r2", "status": "completed", "conversation_id": "conv", "output": [call]}
    lines += [
        received(200, "input_audio_buffer.speech_started", item_id="p1", audio_start_ms=0),
        received(1600, "input_audio_buffer.speech_stopped", item_id="p1", audio_end_ms=1500),
        received(1601, "input_audio_buffer.committed", item_id="p1"),
        received(1602, "conversation.item.added", item=asked),
        received(
            1610,
            "conversation.item.input_audio_transcription.completed",
            item_id="p1",
            content_index=0,
            transcript=question,
        ),
        received(1620, "response.created", response=created),
        received(1621, "response.output_item.added", response_id="r1", item=message),
        received(1622, "conversation.item.added", item=message),
        *(
            received(
                1700 + n * 10,
                "response.output_audio.delta",
                delta=text(answered[n * 4800 :][:4800]),
                **delta,
            )
            for n in range(30)
        ),
        received(1701, "response.output_audio_transcript.delta", delta=answer, **delta),
        Told(t_us=1_702_000, type="bus.playback_started", event={"item_id": "a1"}),
        Played(t_us=1_702_000, items=[PlayedItem(item_id="a1", played_ms=0, written_ms=100)]),
        received(2010, "response.output_audio_transcript.done", transcript=answer, **delta),
        received(2700, "input_audio_buffer.speech_started", item_id="p2", audio_start_ms=2680),
        sent(2700.3, "conversation.item.truncate", item_id="a1", audio_end_ms=1000),
        Flushed(t_us=2_700_400, items=[cut]),
        Told(t_us=2_700_500, type="bus.playback_interrupted", event=was_cut),
        received(2702, "response.done", response=done),
        received(3400, "input_audio_buffer.speech_stopped", item_id="p2", audio_end_ms=3300),
        received(3401, "input_audio_buffer.committed", item_id="p2"),
        received(3410, "response.created", response=created_2),
        received(3500, "conversation.item.added", item=call),
        received(
            3510,
            "response.function_call_arguments.done",
            response_id="r2",
            item_id="f1",
            call_id="c1",
            name=name,
            arguments='{"minutes": 3}',
        ),
        received(3520, "response.done", response=done_2),
        sent(3900, "conversation.item.create", item=output),
        received(4000, "error", error={"type": "invalid_request_error", "message": "no such item"}),
        Told(t_us=4_100_000, type="bus.drift", event={"event_type": "x.y", "path": "response.z"}),
        Received(t_us=4_200_000, broken=base64.b64encode(b"\xff\xfe").decode()),
        Ended(t_us=5_900_000, code=1000, clean=True),
    ]
    header = Header(t_us=0, recording_id="made-by-hand", started_at="2026-01-02T03:04:05+00:00")
    return [header, *sorted(lines, key=lambda line: line.t_us)]


HOSTILE = (
    "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"
    "<!-- \u2028 \u2029 \u202eabc\u202c مرحبا & \"'`${window.pwned = 3}"
)
"""What must be seen as it is, and do nothing."""

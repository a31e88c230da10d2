"""Lines of a recording, made by hand."""

from __future__ import annotations

from typing import Any

import msgspec

from realtime_bus import events as ev
from realtime_bus.recording import Header, Line, Received, Sent

HEADER = Header(t_us=0, recording_id="by hand")


def line(at_ms: float, event: Any, *, left_out_bytes: int | None = None) -> Line:
    """Return a line with a frame."""
    is_sent = isinstance(event, ev.ClientEvent) or (
        isinstance(event, bytes) and b"buffer.append" in event
    )
    kind = Sent if is_sent else Received
    frame = msgspec.Raw(event if isinstance(event, bytes) else event.to_json())
    return kind(t_us=round(at_ms * 1000), frame=frame, audio_bytes=left_out_bytes)


def created(at_ms: float, audio_format: ev.AudioFormat | None = None) -> Line:
    """Return a session's beginning."""
    audio = ev.AudioConfig(
        input=ev.AudioInputConfig(format=audio_format),
        output=ev.AudioOutputConfig(format=audio_format),
    )
    return line(at_ms, ev.SessionCreated(session=ev.RealtimeSession(id="s", audio=audio)))


def delta(at_ms: float, audio: bytes, item_id: str = "a", **options: Any) -> Line:
    """Return audio that came."""
    event = ev.ResponseOutputAudioDelta(
        response_id=f"r_{item_id}", item_id=item_id, output_index=0, content_index=0, delta=audio
    )
    return line(at_ms, event, **options)

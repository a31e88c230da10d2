"""Rules about audio, in and out."""

from __future__ import annotations

from realtime_bus import events as ev
from realtime_bus.audio import sample_width

from ._known import Known
from ._rule import Rule

__all__ = ["AUDIO_RULES"]

_SHORTEST_COMMIT_MS = 100


def _format_unconfirmed(_event: ev.InputAudioBufferAppend, known: Known) -> str | None:
    awaited = known.settings.awaited_input_format
    if awaited is None:
        return None
    return f"{awaited.type} was asked for, and session.updated has not confirmed it yet"


def _half_samples(event: ev.InputAudioBufferAppend, known: Known) -> str | None:
    width = sample_width(known.settings.input_format)
    if len(event.audio) % width:
        return f"{len(event.audio)} bytes of PCM16 are no whole samples"
    return None


def _too_short(_event: ev.InputAudioBufferCommit, known: Known) -> str | None:
    length_ms = known.buffer.length_ms
    if length_ms < _SHORTEST_COMMIT_MS - 1e-6:  # it is a sum of fractions
        return f"the buffer has at most {length_ms:g} ms"
    return None


def _no_output_buffer(_event: ev.OutputAudioBufferClear, known: Known) -> str | None:
    return None if known.output_buffer else "nothing has shown that this session is a call"


AUDIO_RULES = (
    Rule(
        id="format-confirmed-before-audio",
        text="Wait for session.updated before sending audio in a new format.",
        events=(ev.InputAudioBufferAppend,),
        check=_format_unconfirmed,
    ),
    Rule(
        id="whole-samples",
        text="PCM16 is sent in whole samples of two bytes.",
        events=(ev.InputAudioBufferAppend,),
        check=_half_samples,
    ),
    Rule(
        id="commit-100-ms",
        text="A commit needs at least 100 ms of audio since the last commit or clear.",
        events=(ev.InputAudioBufferCommit,),
        check=_too_short,
    ),
    Rule(
        id="output-buffer-in-calls-only",
        text="output_audio_buffer.clear is for WebRTC and SIP, not for a WebSocket alone.",
        events=(ev.OutputAudioBufferClear,),
        check=_no_output_buffer,
    ),
)

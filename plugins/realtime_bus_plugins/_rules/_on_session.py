"""Rules about the session, about client events as such, and about audio in and out."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from realtime_bus import events as ev
from realtime_bus.audio import sample_width

from ._observed import Observed, find
from ._rule import Rule

_EVERY = tuple(ev.REALTIME.client.values())
_MAX_EVENT_ID = 512
_NEEDS_NO_VAD = ("gpt-realtime-whisper", "gpt-live-transcribe")
_SHORTEST_COMMIT_MS = 100


def _before_created(_event: ev.ClientEvent, observed: Observed) -> str | None:
    return None if observed.started else "the server has not said session.created yet"


def _event_id_twice(event: ev.ClientEvent, observed: Observed) -> str | None:
    if event.event_id is not None and event.event_id in observed.event_ids:
        return f"event_id {event.event_id!r} was used before"
    return None


def _event_id_length(event: ev.ClientEvent, _observed: Observed) -> str | None:
    length = len(event.event_id or "")
    return f"event_id has {length} characters" if length > _MAX_EVENT_ID else None


def _type_changed(event: ev.SessionUpdate, observed: Observed) -> str | None:
    asked, kind = event.session.type, observed.settings.kind
    if kind is not None and asked != kind:
        return f"the session is a {kind} one, and the update says {asked}"
    return None


def _model_changed(event: ev.SessionUpdate, observed: Observed) -> str | None:
    asked, model = find(event.session, "model"), observed.settings.model
    if asked is not None and model is not None and asked != model:
        return f"the session's model is {model!r}, and the update says {asked!r}"
    return None


def _voice_changed(event: ev.SessionUpdate | ev.ResponseCreate, observed: Observed) -> str | None:
    request = event.session if isinstance(event, ev.SessionUpdate) else event.response
    asked = find(request, "audio", "output", "voice")
    voice = find(observed.settings.echo, "audio", "output", "voice")
    if observed.spoken and None not in (asked, voice) and asked != voice:
        return f"the model has spoken with {voice!r} already, and {asked!r} is asked for"
    return None


def _tracing_changed(event: ev.SessionUpdate, observed: Observed) -> str | None:
    tracing = find(observed.settings.echo, "tracing")
    if tracing is not None and _after(event.session, observed.settings.echo, "tracing") != tracing:
        return f"tracing is on ({tracing!r})"
    return None


def _idle_timeout(event: ev.SessionUpdate, _observed: Observed) -> str | None:
    detection: Any = find(event.session, "audio", "input", "turn_detection")
    # only an object of the application's own can hold what our types do not allow
    data = detection.data if isinstance(detection, ev.UnknownObject) else {}
    if data.get("idle_timeout_ms") is not None and data.get("type") != "server_vad":
        return f"idle_timeout_ms is given for {data.get('type')!r}"
    return None


def _streaming_transcriber(event: ev.SessionUpdate, observed: Observed) -> str | None:
    source, echo = (
        find(event.session, "audio", "input"),
        find(observed.settings.echo, "audio", "input"),
    )
    model = find(_after(source, echo, "transcription"), "model")
    if model in _NEEDS_NO_VAD and _after(source, echo, "turn_detection") is not None:
        return f"{model} would transcribe with turn detection on"
    return None


def _after(request: object, echo: object, name: str) -> Any:
    """Return a setting as it would be after an update."""
    asked = getattr(request, name, UNSET)
    return find(echo, name) if asked is UNSET else asked


# audio


def _format_unconfirmed(_event: ev.InputAudioBufferAppend, observed: Observed) -> str | None:
    awaited = observed.awaited_input_format
    if awaited is None:
        return None
    return f"{awaited.type} was asked for, and session.updated has not confirmed it yet"


def _half_samples(event: ev.InputAudioBufferAppend, observed: Observed) -> str | None:
    width = sample_width(observed.settings.input_format)
    if len(event.audio) % width:
        return f"{len(event.audio)} bytes of PCM16 are no whole samples"
    return None


def _too_short(_event: ev.InputAudioBufferCommit, observed: Observed) -> str | None:
    length_ms = observed.buffer_ms
    if length_ms < _SHORTEST_COMMIT_MS - 1e-6:  # it is a sum of fractions
        return f"the buffer has at most {length_ms:g} ms"
    return None


def _no_output_buffer(_event: ev.OutputAudioBufferClear, observed: Observed) -> str | None:
    return None if observed.output_buffer else "nothing has shown that this session is a call"


SESSION_RULES = (
    Rule(
        id="wait-for-session-created",
        text="Wait for session.created before sending anything.",
        events=_EVERY,
        check=_before_created,
    ),
    Rule(
        id="event-id-once",
        text="An event_id is used for one event only, unless that one was refused.",
        events=_EVERY,
        check=_event_id_twice,
    ),
    Rule(
        id="event-id-length",
        text="An event_id has at most 512 characters.",
        events=_EVERY,
        check=_event_id_length,
    ),
    Rule(
        id="session-type-fixed",
        text="The type of a session never changes.",
        events=(ev.SessionUpdate,),
        check=_type_changed,
    ),
    Rule(
        id="model-fixed",
        text="The model of a session never changes.",
        events=(ev.SessionUpdate,),
        check=_model_changed,
    ),
    Rule(
        id="voice-fixed-once-heard",
        text="The voice does not change once there was output audio.",
        events=(ev.SessionUpdate, ev.ResponseCreate),
        check=_voice_changed,
    ),
    Rule(
        id="tracing-fixed-once-on",
        text="Tracing does not change once it is on.",
        events=(ev.SessionUpdate,),
        check=_tracing_changed,
    ),
    Rule(
        id="idle-timeout-with-server-vad",
        text="Only server_vad has an idle_timeout_ms.",
        events=(ev.SessionUpdate,),
        check=_idle_timeout,
    ),
    Rule(
        id="streaming-transcriber-without-vad",
        text="gpt-realtime-whisper and gpt-live-transcribe need turn_detection null.",
        events=(ev.SessionUpdate,),
        check=_streaming_transcriber,
    ),
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

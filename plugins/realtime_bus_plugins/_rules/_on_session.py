"""Rules about the session and about client events as such."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from realtime_bus import events as ev

from ._known import Known
from ._rule import Rule
from ._settings import path

__all__ = ["SESSION_RULES"]

_EVERY = tuple(ev.REALTIME.client.values())
_MAX_EVENT_ID = 512
_NEEDS_NO_VAD = ("gpt-realtime-whisper", "gpt-live-transcribe")


def _before_created(_event: ev.ClientEvent, known: Known) -> str | None:
    return None if known.started else "the server has not said session.created yet"


def _event_id_twice(event: ev.ClientEvent, known: Known) -> str | None:
    if event.event_id is not None and event.event_id in known.event_ids:
        return f"event_id {event.event_id!r} was used before"
    return None


def _event_id_length(event: ev.ClientEvent, _known: Known) -> str | None:
    length = len(event.event_id or "")
    return f"event_id has {length} characters" if length > _MAX_EVENT_ID else None


def _type_changed(event: ev.SessionUpdate, known: Known) -> str | None:
    asked, kind = event.session.type, known.settings.kind
    if kind is not None and asked != kind:
        return f"the session is a {kind} one, and the update says {asked}"
    return None


def _model_changed(event: ev.SessionUpdate, known: Known) -> str | None:
    asked, model = path(event.session, "model"), path(known.settings.echo, "model")
    if asked is not None and model is not None and asked != model:
        return f"the session's model is {model!r}, and the update says {asked!r}"
    return None


def _voice_changed(event: ev.SessionUpdate | ev.ResponseCreate, known: Known) -> str | None:
    request = event.session if isinstance(event, ev.SessionUpdate) else event.response
    asked = path(request, "audio", "output", "voice")
    voice = path(known.settings.echo, "audio", "output", "voice")
    if known.replies.spoken and None not in (asked, voice) and asked != voice:
        return f"the model has spoken with {voice!r} already, and {asked!r} is asked for"
    return None


def _tracing_changed(event: ev.SessionUpdate, known: Known) -> str | None:
    tracing = path(known.settings.echo, "tracing")
    if tracing is not None and _after(event.session, known.settings.echo, "tracing") != tracing:
        return f"tracing is on ({tracing!r})"
    return None


def _idle_timeout(event: ev.SessionUpdate, _known: Known) -> str | None:
    detection: Any = path(event.session, "audio", "input", "turn_detection")
    # only an object of the application's own can hold what our types do not allow
    data = detection.data if isinstance(detection, ev.UnknownObject) else {}
    if data.get("idle_timeout_ms") is not None and data.get("type") != "server_vad":
        return f"idle_timeout_ms is given for {data.get('type')!r}"
    return None


def _streaming_transcriber(event: ev.SessionUpdate, known: Known) -> str | None:
    source, echo = (
        path(event.session, "audio", "input"),
        path(known.settings.echo, "audio", "input"),
    )
    model = path(_after(source, echo, "transcription"), "model")
    if model in _NEEDS_NO_VAD and _after(source, echo, "turn_detection") is not None:
        return f"{model} would transcribe with turn detection on"
    return None


def _after(request: object, echo: object, name: str) -> Any:
    """Return a setting as it would be after an update."""
    asked = getattr(request, name, UNSET)
    return path(echo, name) if asked is UNSET else asked


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
)

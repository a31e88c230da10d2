"""A session's settings: what is in force, and how an update changes it.

The rules
---------
* An update names what is to change. Objects are merged along ``audio``, ``audio.input`` and
  ``audio.output``; everything else is replaced as a whole.
* Null puts a setting back to its default, and turns turn detection off.
* A new ``turn_detection`` object starts from its kind's defaults, not from what was in force.
* Model and kind of the session never change; the voice not after the first audio; tracing not
  once it is on. Where the address says ``any``, the first model that the client names is the one.
* Transcription models that stream need turn detection off in a transcription session; in a
  conversation they go beside it.
* All settings together take at most `MAX_SETTINGS_BYTES`: they are repeated at each update.
* An update that is refused changes nothing.
* The echo is everything in force; a transcription session's has nothing of responses in it.

What a single value may be is checked before, where the frame is read. The defaults are those of
recorded sessions (Realtime protocol, session and turn detection).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal, cast

import msgspec

from realtime_bus import events as ev

from ._wire import MAX_SETTINGS_BYTES, InvalidRequest, invalid_value

SessionKind = Literal["realtime", "transcription"]

RATE_HZ = 24_000
ANY_MODEL = "any"
LONGEST_MS = 60_000
"""The most padding or silence that is accepted; the protocol states no limit."""

DEFAULT_INSTRUCTIONS = (
    "You are a helpful, witty, and friendly voice assistant. Speak in a warm, lively tone, "
    "answer briefly, and stop when you are interrupted."
)

_PCM = {"type": "audio/pcm", "rate": RATE_HZ}

_DETECTIONS: dict[str, dict[str, Any]] = {
    "server_vad": {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 200,
        "create_response": True,
        "interrupt_response": True,
        "idle_timeout_ms": None,
    },
    "semantic_vad": {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    },
}
_OF_RESPONSES = ("create_response", "interrupt_response", "idle_timeout_ms")
_TURN_DETECTION: dict[SessionKind, dict[str, dict[str, Any]]] = {
    "realtime": _DETECTIONS,
    "transcription": {
        name: {key: value for key, value in detection.items() if key not in _OF_RESPONSES}
        for name, detection in _DETECTIONS.items()
    },
}


def _input_defaults(kind: SessionKind) -> dict[str, Any]:
    return {
        "format": _PCM,
        "transcription": None,
        "noise_reduction": None,
        "turn_detection": _TURN_DETECTION[kind]["server_vad"],
    }


_DEFAULTS: dict[SessionKind, dict[str, Any]] = {
    "realtime": {
        "output_modalities": ["audio"],
        "instructions": DEFAULT_INSTRUCTIONS,
        "audio": {
            "input": _input_defaults("realtime"),
            "output": {"format": _PCM, "voice": None, "speed": 1.0},
        },
        "include": None,
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "tracing": None,
        "prompt": None,
    },
    "transcription": {"audio": {"input": _input_defaults("transcription")}, "include": None},
}

_ECHOES: dict[SessionKind, tuple[str, Any]] = {
    "realtime": ("realtime.session", ev.RealtimeSession),
    "transcription": ("realtime.transcription_session", ev.TranscriptionSession),
}

_NEEDS_NO_VAD = frozenset({"gpt-realtime-whisper", "gpt-live-transcribe"})


class SessionConfig:
    """What is in force in one session.

    Args:
        kind: Conversation, or transcription only.
        session_id: The session.
        model: From the URL; None in transcription sessions.
        voice: The voice to begin with.
        expires_at: When it will end, in Unix seconds.

    Attributes:
        spoken: Whether there was output audio yet, which fixes the voice.
        size_bytes: About how much the settings are, as JSON.
    """

    def __init__(
        self,
        *,
        kind: SessionKind = "realtime",
        session_id: str,
        model: str | None,
        voice: str = "marin",
        expires_at: int = 0,
    ) -> None:
        self.kind: SessionKind = kind
        self.session_id = session_id
        self.spoken = False
        self.size_bytes = 0
        self._fixed: dict[str, Any] = {
            "type": kind,
            "object": _ECHOES[kind][0],
            "expires_at": expires_at,
            "id": session_id,
        }
        self._defaults = deepcopy(_DEFAULTS[kind])
        if kind == "realtime":
            self._fixed["model"] = model
            self._defaults["audio"]["output"]["voice"] = voice
        self._use(deepcopy(self._defaults))

    def _use(self, plain: dict[str, Any]) -> None:
        self._plain = plain
        self._echo = msgspec.convert({**self._fixed, **plain}, _ECHOES[self.kind][1])

    def update(self, request: dict[str, Any], plain: dict[str, Any] | None = None) -> None:
        """Change what a request names.

        Args:
            request: The request, as its struct has it.
            plain: The same as the client wrote it, nulls included that the struct has no place for.

        Raises:
            InvalidRequest: The change is not allowed; nothing was changed.
        """
        changes = _with_nulls(request, plain or {})
        if changes.pop("type", self.kind) != self.kind:
            raise invalid_value("session.type", f"This is a '{self.kind}' session and stays one.")
        model, fixed = changes.pop("model", None), self._fixed.get("model")
        if model not in (None, fixed) and fixed != ANY_MODEL:
            raise invalid_value("session.model", "A session's model cannot be changed.")
        merged = self._merge(self._plain, changes, self._defaults)
        self._check_change(merged)
        size_bytes = len(msgspec.json.encode(merged))
        if size_bytes > MAX_SETTINGS_BYTES:
            message = f"A session's settings take at most {MAX_SETTINGS_BYTES} bytes as JSON."
            raise InvalidRequest("event_too_large", message, param="session")
        self.size_bytes = size_bytes
        if model is not None:
            self._fixed["model"] = model
        self._use(merged)

    def _check_change(self, plain: dict[str, Any]) -> None:
        before, after = self._plain["audio"], plain["audio"]
        if self.spoken and before["output"]["voice"] != after["output"]["voice"]:
            raise voice_is_fixed("session.audio.output.voice")
        if self._plain.get("tracing") not in (None, plain.get("tracing")):
            raise invalid_value("session.tracing", "Tracing cannot be changed once it is on.")
        detection: dict[str, Any] = after["input"]["turn_detection"] or {}
        for name in ("prefix_padding_ms", "silence_duration_ms"):
            if not 0 <= detection.get(name, 0) <= LONGEST_MS:
                message = f"{detection[name]} is out of range; allowed are 0 to {LONGEST_MS}."
                raise invalid_value(f"session.audio.input.turn_detection.{name}", message)
        for direction, settings in after.items():
            wire: dict[str, Any] = settings.get("format") or {}
            check_rate(f"session.audio.{direction}.format.rate", wire.get("rate", RATE_HZ))
        transcription: dict[str, Any] = after["input"]["transcription"] or {}
        model = transcription.get("model")
        if self.kind == "transcription" and model in _NEEDS_NO_VAD and detection:
            message = f"'{model}' needs turn_detection null: the client commits."
            raise invalid_value("session.audio.input.turn_detection", message)

    def _merge(
        self,
        base: dict[str, Any],
        changes: dict[str, Any],
        defaults: dict[str, Any],
        path: str = "",
    ) -> dict[str, Any]:
        """Return base with the changes in it; neither is modified."""
        merged = dict(base)
        for key, value in changes.items():
            at = f"{path}.{key}" if path else key
            if value is None:
                merged[key] = None if key == "turn_detection" else deepcopy(defaults.get(key))
            elif at in _MERGED:
                merged[key] = self._merge(base[key], value, defaults[key], at)
            elif key == "turn_detection":
                merged[key] = _TURN_DETECTION[self.kind][value["type"]] | _not_null(value)
            elif key == "transcription":
                merged[key] = {"language": None, "prompt": None} | _not_null(value)
            else:
                merged[key] = value
        return merged

    # What is in force

    @property
    def echo(self) -> ev.SessionObject:
        """Everything in force, as ``session.created`` and ``session.updated`` show it."""
        return cast("ev.SessionObject", self._echo)

    @property
    def realtime(self) -> ev.RealtimeSession:
        """The echo of a conversation's session, for what only those have.

        Raises:
            InvalidRequest: This session only transcribes.
        """
        if not isinstance(self._echo, ev.RealtimeSession):
            raise InvalidRequest("invalid_value", "A transcription session has no responses.")
        return self._echo

    @property
    def _input(self) -> ev.AudioInputConfig:
        return cast("ev.AudioInputConfig", self._echo.audio.input)

    @property
    def input_format(self) -> ev.AudioFormat | None:
        """How the client's audio is encoded."""
        return self._input.format

    @property
    def transcription(self) -> ev.Transcription | None:
        """How input is transcribed, or None."""
        return self._input.transcription

    @property
    def turn_detection(self) -> ev.TurnDetection | None:
        """Who decides where turns end, every field set; None is the client."""
        return self._input.turn_detection

    @property
    def creates_responses(self) -> bool:
        """Whether a detected turn starts a response."""
        return self.kind == "realtime" and self._detects("create_response")

    @property
    def interrupts_responses(self) -> bool:
        """Whether detected speech cancels the default conversation's response."""
        return self._detects("interrupt_response")

    def _detects(self, flag: str) -> bool:
        return getattr(self.turn_detection, flag, False) is True

    @property
    def idle_timeout_ms(self) -> int | None:
        """After how much silence the model speaks up, or None."""
        timeout_ms = getattr(self.turn_detection, "idle_timeout_ms", None)
        return timeout_ms if isinstance(timeout_ms, int) else None


_MERGED = frozenset({"audio", "audio.input", "audio.output"})


def _not_null(value: dict[str, Any]) -> dict[str, Any]:
    return {name: setting for name, setting in value.items() if setting is not None}


def _with_nulls(request: dict[str, Any], plain: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return the request with the nulls that the client wrote along the merged objects."""
    changes = {key: None for key, value in plain.items() if value is None} | request
    for key, value in request.items():
        at = f"{path}.{key}" if path else key
        if at in _MERGED and isinstance(value, dict):
            changes[key] = _with_nulls(cast("dict[str, Any]", value), plain.get(key) or {}, at)
    return changes


# For sessions and responses alike


def check_rate(path: str, rate: int) -> None:
    """Refuse PCM of another rate than 24 kHz, the only one (Realtime protocol, audio formats).

    The code for a lower one is what OpenAI was recorded with in September 2026.

    Raises:
        InvalidRequest: It is another one.
    """
    if rate < RATE_HZ:
        message = f"Invalid '{path}': {rate}. Expected a value >= {RATE_HZ}."
        raise InvalidRequest("integer_below_min_value", message, param=path)
    if rate > RATE_HZ:
        raise invalid_value(path, f"{rate} is not supported; the only rate is {RATE_HZ}.")


def voice_is_fixed(param: str) -> InvalidRequest:
    """Refuse another voice once the model has spoken."""
    return InvalidRequest(
        "cannot_update_voice",
        "Cannot update a conversation's voice if assistant audio is present.",
        param=param,
    )

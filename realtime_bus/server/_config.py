"""A session's settings: what is in force, and how an update changes it.

The rules
---------
* An update names what is to change. Objects are merged along ``audio``, ``audio.input`` and
  ``audio.output``; everything else is replaced as a whole.
* Null puts a setting back to its default, and turns turn detection off.
* A new ``turn_detection`` object starts from its kind's defaults, not from what was in force.
* Model and kind of the session never change; the voice not after the first audio; tracing not
  once it is on.
* An update that is refused changes nothing.
* The echo is everything in force.

What a single value may be is checked before, where the frame is read.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, cast

import msgspec

from realtime_bus import events as ev

from ._defaults import DEFAULTS, SessionKind, merge
from ._refusals import Refusal, bad_value, voice_is_fixed

__all__ = ["RATE_HZ", "SessionConfig", "check_rate"]

RATE_HZ = 24_000
LONGEST_MS = 60_000
"""The most padding or silence that is accepted; the protocol states no limit."""

_ECHOES: dict[SessionKind, Any] = {
    "realtime": ev.RealtimeSession,
    "transcription": ev.TranscriptionSession,
}
_OBJECTS: dict[SessionKind, str] = {
    "realtime": "realtime.session",
    "transcription": "realtime.transcription_session",
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
        self._fixed: dict[str, Any] = {
            "type": kind,
            "object": _OBJECTS[kind],
            "expires_at": expires_at,
        }
        self._fixed |= {"id": session_id}
        self._defaults = deepcopy(DEFAULTS[kind])
        if kind == "realtime":
            self._fixed["model"] = model
            self._defaults["audio"]["output"]["voice"] = voice
        self._use(deepcopy(self._defaults))

    def _use(self, plain: dict[str, Any]) -> None:
        self._plain = plain
        self._echo = msgspec.convert({**self._fixed, **plain}, _ECHOES[self.kind])

    @property
    def echo(self) -> ev.SessionObject:
        """Everything in force, as ``session.created`` and ``session.updated`` show it."""
        return cast("ev.SessionObject", self._echo)

    def update(self, request: dict[str, Any]) -> None:
        """Change what the request names; it was read strictly before.

        Raises:
            Refusal: The change is not allowed; nothing was changed.
        """
        changes = dict(request)
        kind, model = changes.pop("type", self.kind), changes.pop("model", None)
        self._check_fixed(kind, model)
        plain = merge(self._plain, changes, self._defaults)
        self._check_change(plain)
        self._use(plain)

    def _check_fixed(self, kind: str, model: str | None) -> None:
        if kind != self.kind:
            raise bad_value("session.type", f"This is a '{self.kind}' session and stays one.")
        if model is not None and model != self._fixed.get("model"):
            raise bad_value("session.model", "A session's model cannot be changed.")

    def _check_change(self, plain: dict[str, Any]) -> None:
        before, after = self._plain["audio"], plain["audio"]
        if self.spoken and _voice(before) != _voice(after):
            raise voice_is_fixed("session.audio.output.voice")
        if self._plain.get("tracing") not in (None, plain.get("tracing")):
            raise bad_value("session.tracing", "Tracing cannot be changed once it is on.")
        _check_times(after["input"]["turn_detection"] or {})
        for direction, settings in after.items():
            wire: dict[str, Any] = settings.get("format") or {}
            check_rate(f"session.audio.{direction}.format.rate", wire.get("rate", RATE_HZ))
        transcription: dict[str, Any] = after["input"]["transcription"] or {}
        if transcription.get("model") in _NEEDS_NO_VAD and after["input"]["turn_detection"]:
            raise _vad_with_streaming_model(transcription["model"])

    # What the rooms go by

    @property
    def _input(self) -> ev.AudioInputConfig:
        return cast("ev.AudioInputConfig", self._echo.audio.input)

    @property
    def input_format(self) -> ev.AudioFormat | None:
        """How the client's audio is encoded."""
        return self._input.format

    @property
    def turn_detection(self) -> ev.TurnDetection | None:
        """Who decides where turns end, every field set; None is the client."""
        return self._input.turn_detection

    @property
    def transcription(self) -> ev.Transcription | None:
        """How input is transcribed, or None."""
        return self._input.transcription

    @property
    def creates_responses(self) -> bool:
        """Whether a detected turn starts a response."""
        return self.kind == "realtime" and self._flag("create_response")

    @property
    def interrupts_responses(self) -> bool:
        """Whether detected speech cancels the default conversation's response."""
        return self._flag("interrupt_response")

    def _flag(self, name: str) -> bool:
        return getattr(self.turn_detection, name, False) is True

    @property
    def idle_timeout_ms(self) -> int | None:
        """After how much silence the model speaks up, or None."""
        return getattr(self.turn_detection, "idle_timeout_ms", None)

    @property
    def realtime(self) -> ev.RealtimeSession:
        """The echo of a conversation's session, for what only those have.

        Raises:
            Refusal: This session only transcribes.
        """
        if not isinstance(self._echo, ev.RealtimeSession):
            raise Refusal("invalid_value", "A transcription session has no responses.")
        return self._echo


def _voice(audio: dict[str, Any]) -> object:
    return audio.get("output", {}).get("voice")


def check_rate(path: str, rate: int) -> None:
    """Refuse PCM of another rate than 24 kHz, the only one (Realtime protocol, audio formats).

    Raises:
        Refusal: It is another one.
    """
    if rate != RATE_HZ:
        raise bad_value(path, f"{rate} is not supported; the only rate is {RATE_HZ}.")


def _check_times(detection: dict[str, Any]) -> None:
    for name in ("prefix_padding_ms", "silence_duration_ms"):
        if not 0 <= detection.get(name, 0) <= LONGEST_MS:
            message = f"{detection[name]} is out of range; allowed are 0 to {LONGEST_MS}."
            raise bad_value(f"session.audio.input.turn_detection.{name}", message)


def _vad_with_streaming_model(model: str) -> Refusal:
    return bad_value(
        "session.audio.input.turn_detection",
        f"'{model}' needs turn_detection null: the client commits.",
    )

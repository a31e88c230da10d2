"""Settings of a session: what is asked for under short names, and what is in force.

``voice="marin"`` stands for three nested objects of the protocol. Each kind of session has settings
of its own: a conversation `SessionSettings`, a transcription `TranscriptionSettings`, a translation
`TranslationSettings`. What the server echoes is read through `ActiveSettings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import msgspec
from msgspec import UNSET

from realtime_bus import events as ev
from realtime_bus.errors import UsageError
from realtime_bus.events import translation

SessionKind = Literal["realtime", "transcription", "translation"]
"""What a session does: hold a conversation, only transcribe, or only translate."""

_FormatName = Literal["pcm", "pcmu", "pcma"]
_Include = Literal["item.input_audio_transcription.logprobs"]


class TranscriptionSettings(TypedDict, total=False):
    """Settings of a session that only transcribes; what is left out keeps its value.

    Attributes:
        input_format: What we send: ``"pcm"`` (24 kHz), ``"pcmu"``, ``"pcma"`` (8 kHz).
        turn_detection: `events.ServerVad`, `events.SemanticVad`, or None for manual commit.
        transcription: `events.Transcription`: the model and what to expect.
        noise_reduction: `events.NoiseReduction`, or None.
        include: Extra fields to be sent.
    """

    input_format: ev.AudioFormat | _FormatName
    turn_detection: ev.TurnDetection | None
    transcription: ev.Transcription | None
    noise_reduction: ev.NoiseReduction | None
    include: Sequence[_Include]


class SessionSettings(TranscriptionSettings, total=False):
    """Settings of a conversation; what is left out keeps its value, None turns a thing off.

    Those of `TranscriptionSettings`, and:

    Attributes:
        instructions: How the model should behave.
        output_modalities: ``["audio"]`` or ``["text"]``.
        voice: A voice's name, or `events.CustomVoice`; fixed after the first audio.
        speed: 0.25 to 1.5.
        output_format: What we receive.
        tools: What the model may call.
        tool_choice: Whether it must.
        parallel_tool_calls: Whether it may call several at once.
        max_output_tokens: 1 to 4096, or ``"inf"``.
        reasoning: How hard it thinks.
        truncation: What leaves a full context.
        tracing: ``"auto"``, `events.TracingConfig`, or None.
        prompt: A stored prompt, or None.
    """

    instructions: str
    output_modalities: Sequence[Literal["text", "audio"]]
    voice: str | ev.CustomVoice
    speed: float
    output_format: ev.AudioFormat | _FormatName
    tools: Sequence[ev.Tool]
    tool_choice: ev.ToolChoice
    parallel_tool_calls: bool
    max_output_tokens: int | Literal["inf"]
    reasoning: ev.Reasoning
    truncation: ev.Truncation
    tracing: ev.TracingConfig | Literal["auto"] | None
    prompt: ev.Prompt | None


class TranslationSettings(TypedDict, total=False):
    """Settings of a session that only translates; what is left out keeps its value.

    Attributes:
        language: What to translate into.
        transcription: `events.translation.TranslationTranscription` of what is said, or None.
        noise_reduction: `events.translation.TranslationNoiseReduction`, or None.
    """

    language: str
    transcription: translation.TranslationTranscription | None
    noise_reduction: translation.TranslationNoiseReduction | None


_NAMES: dict[SessionKind, frozenset[str]] = {
    "realtime": SessionSettings.__optional_keys__,
    "transcription": TranscriptionSettings.__optional_keys__,
    "translation": TranslationSettings.__optional_keys__,
}

_FORMATS: dict[str, ev.AudioFormat] = {
    "pcm": ev.AudioPCM(),
    "pcmu": ev.AudioPCMU(),
    "pcma": ev.AudioPCMA(),
}

_INPUT = {
    "input_format": "format",
    "turn_detection": "turn_detection",
    "transcription": "transcription",
    "noise_reduction": "noise_reduction",
}
_OUTPUT = {"output_format": "format", "voice": "voice", "speed": "speed", "language": "language"}
_LISTS = ("output_modalities", "tools", "include")


def settings_request(settings: Mapping[str, Any], kind: SessionKind) -> Any:
    """Build the nested object that ``session.update`` of a kind of session wants.

    Raises:
        UsageError: That kind of session has no such setting; lists those there are.
    """
    given = {name: _normal(name, value) for name, value in settings.items()}
    for name in given.keys() - _NAMES[kind]:
        raise UsageError(
            f"a {kind} session has no setting {name!r}; known are {', '.join(sorted(_NAMES[kind]))}"
        )
    inputs = {to: given[name] for name, to in _INPUT.items() if name in given}
    outputs = {to: given[name] for name, to in _OUTPUT.items() if name in given}
    rest = {name: value for name, value in given.items() if name not in _INPUT | _OUTPUT}
    session, audio, source, target = _STRUCTS[kind]
    parts: dict[str, Any] = {"input": source(**inputs)} if inputs else {}
    if outputs:
        parts["output"] = target(**outputs)
    return session(audio=audio(**parts) if parts else UNSET, **rest)


_STRUCTS: dict[SessionKind, tuple[Any, Any, Any, Any]] = {
    "realtime": (
        ev.RealtimeSessionRequest,
        ev.AudioConfigRequest,
        ev.AudioInputConfigRequest,
        ev.AudioOutputConfigRequest,
    ),
    "transcription": (
        ev.TranscriptionSessionRequest,
        ev.TranscriptionAudioConfigRequest,
        ev.AudioInputConfigRequest,
        None,
    ),
    "translation": (
        translation.TranslationSessionRequest,
        translation.TranslationAudioRequest,
        translation.TranslationAudioInputRequest,
        translation.TranslationAudioOutputRequest,
    ),
}


def _normal(name: str, value: Any) -> Any:
    """Return a setting's value as its struct wants it: formats by name, lists of any sequence."""
    if name in _LISTS:
        return list(value)
    if not name.endswith("_format") or not isinstance(value, str):
        return value
    if value not in _FORMATS:
        raise UsageError(f"{name}={value!r} is not known; choose one of {', '.join(_FORMATS)}")
    return _FORMATS[value]


def merge_settings(known: Any, fresh: Any) -> Any:
    """Return a settings request with what a later one changes."""
    if known is None or type(known) is not type(fresh):
        return fresh
    changes = {
        name: merge_settings(getattr(known, name), value) if name in _NESTED else value
        for name in fresh.__struct_fields__
        if (value := getattr(fresh, name)) is not UNSET
    }
    return msgspec.structs.replace(known, **changes)


_NESTED = frozenset({"audio", "input", "output"})  # whose members are settings of their own


class ActiveSettings(msgspec.Struct, frozen=True):
    """What the server's echo says is in force; an echo is read leniently, so any of it may be odd.

    Where the echo does not say, a property tells the protocol's default.

    Attributes:
        echo: The session object of ``session.created`` or ``session.updated``; None before both.
    """

    echo: Any = None

    def _find(self, *names: str) -> Any:
        """Return a nested value; None where anything on the way is missing or raw data."""
        found = self.echo
        for name in names:
            found = getattr(found, name, None)
        return None if found is UNSET else found

    @property
    def kind(self) -> SessionKind | None:
        """What the session does; None before the server has said so."""
        kind = self._find("type")
        return kind if kind in _NAMES else None

    @property
    def model(self) -> str | None:
        """The model that answers."""
        model = self._find("model")
        return model if isinstance(model, str) else None

    @property
    def transcription_model(self) -> str | None:
        """The model that transcribes the user's speech, or None."""
        model = self._find("audio", "input", "transcription", "model")
        return model if isinstance(model, str) else None

    @property
    def input_format(self) -> ev.AudioFormat:
        """How input audio is encoded; PCM16 where the server does not say."""
        return usable_format(self._find("audio", "input", "format"))

    @property
    def output_format(self) -> ev.AudioFormat:
        """How output audio is encoded; PCM16 where the server does not say."""
        return usable_format(self._find("audio", "output", "format"))

    @property
    def turn_detection(self) -> ev.TurnDetection | None:
        """Who decides where turns end; None if it is the client, or unknown."""
        found = self._find("audio", "input", "turn_detection")
        known = ev.ServerVad | ev.SemanticVad | ev.UnknownObject
        return found if isinstance(found, known) else None

    @property
    def detects_turns(self) -> bool:
        """Whether the server says where speech begins and ends; unless it says no, it does."""
        return self._find("audio", "input") is None or self.turn_detection is not None

    @property
    def server_interrupts(self) -> bool:
        """Whether speech makes the server cancel its response by itself (true by default)."""
        return self._of_turn_detection("interrupt_response")

    @property
    def server_responds(self) -> bool:
        """Whether the end of speech makes the server respond by itself (true by default)."""
        return self.detects_turns and self._of_turn_detection("create_response")

    def _of_turn_detection(self, name: str) -> bool:
        detection = self.turn_detection
        if isinstance(detection, ev.UnknownObject):
            return detection.data.get(name) is not False
        return getattr(detection, name, None) is not False


def usable_format(found: object) -> ev.AudioFormat:
    """Return an audio format that can be played, whatever was read."""
    if isinstance(found, ev.AudioPCM) and not 1000 <= found.rate <= 384_000:
        return ev.AudioPCM()  # no rate that anything could be played at
    if isinstance(found, ev.AudioPCM | ev.AudioPCMU | ev.AudioPCMA):
        return found
    return ev.AudioPCM()

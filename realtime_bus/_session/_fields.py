"""Session settings under short names: ``voice="marin"`` in place of three nested objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import msgspec
from msgspec import UNSET

from realtime_bus import events as ev
from realtime_bus.errors import UsageError

__all__ = ["SessionFields", "session_request"]

_FormatName = Literal["pcm", "pcmu", "pcma"]


class SessionFields(TypedDict, total=False):
    """Settings of a session; what is left out keeps its value, None turns a thing off.

    Attributes:
        instructions: How the model should behave.
        output_modalities: ``["audio"]`` or ``["text"]``.
        voice: A voice's name, or `events.CustomVoice`; fixed after the first audio.
        speed: 0.25 to 1.5.
        input_format: What we send: ``"pcm"`` (24 kHz), ``"pcmu"``, ``"pcma"`` (8 kHz).
        output_format: What we receive.
        turn_detection: `events.ServerVad`, `events.SemanticVad`, or None for manual commit.
        transcription: `events.Transcription` of the user's speech, or None.
        noise_reduction: `events.NoiseReduction`, or None.
        tools: What the model may call.
        tool_choice: Whether it must.
        parallel_tool_calls: Whether it may call several at once.
        max_output_tokens: 1 to 4096, or ``"inf"``.
        reasoning: How hard it thinks.
        truncation: What leaves a full context.
        tracing: ``"auto"``, `events.TracingConfig`, or None.
        prompt: A stored prompt, or None.
        include: Extra fields to be sent.
    """

    instructions: str
    output_modalities: Sequence[Literal["text", "audio"]]
    voice: str | ev.CustomVoice
    speed: float
    input_format: ev.AudioFormat | _FormatName
    output_format: ev.AudioFormat | _FormatName
    turn_detection: ev.TurnDetection | None
    transcription: ev.Transcription | None
    noise_reduction: ev.NoiseReduction | None
    tools: Sequence[ev.Tool]
    tool_choice: ev.ToolChoice
    parallel_tool_calls: bool
    max_output_tokens: int | Literal["inf"]
    reasoning: ev.Reasoning
    truncation: ev.Truncation
    tracing: ev.TracingConfig | Literal["auto"] | None
    prompt: ev.Prompt | None
    include: Sequence[Literal["item.input_audio_transcription.logprobs"]]


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
_OUTPUT = {"output_format": "format", "voice": "voice", "speed": "speed"}
_LISTS = ("output_modalities", "tools", "include")


def session_request(fields: SessionFields) -> ev.RealtimeSessionRequest:
    """Build the nested request that the protocol wants.

    Raises:
        UsageError: A field has no such name; the message lists those there are.
    """
    given: dict[str, Any] = dict(fields)
    _refuse_unknown(given)
    for name in ("input_format", "output_format"):
        if isinstance(given.get(name), str):
            given[name] = _format(name, given[name])
    for name in _LISTS:
        if name in given:
            given[name] = list(given[name])
    audio = _audio(given)
    rest = {name: value for name, value in given.items() if name not in _INPUT | _OUTPUT}
    return ev.RealtimeSessionRequest(audio=audio, **rest)


def _refuse_unknown(given: dict[str, Any]) -> None:
    known = SessionFields.__annotations__
    for name in given:
        if name not in known:
            raise UsageError(
                f"there is no session field {name!r}; known are {', '.join(sorted(known))}"
            )


def _format(name: str, value: str) -> ev.AudioFormat:
    if value not in _FORMATS:
        raise UsageError(
            f"{name}={value!r} is not known; choose one of {', '.join(_FORMATS)}"
        )
    return _FORMATS[value]


def _audio(given: dict[str, Any]) -> ev.AudioConfigRequest | msgspec.UnsetType:
    inputs = {to: given[name] for name, to in _INPUT.items() if name in given}
    outputs = {to: given[name] for name, to in _OUTPUT.items() if name in given}
    if not inputs and not outputs:
        return UNSET
    return ev.AudioConfigRequest(
        input=ev.AudioInputConfigRequest(**inputs) if inputs else UNSET,
        output=ev.AudioOutputConfigRequest(**outputs) if outputs else UNSET,
    )

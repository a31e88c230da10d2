"""Session settings: what we ask for, and what the server says is in force.

A request holds only what is to change: a field that was not given is UNSET and is not sent,
while None is sent as null, which turns a thing off. The server's echo holds everything that is
in force; there, an absent field and null both read as None. Turn detection, transcription and
noise reduction are the same objects in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ._base import UnknownObject, Variant
from ._common import (
    AudioFormat,
    Include,
    MaxOutputTokens,
    Modality,
    OneModality,
    Speed,
    UnitInterval,
)
from ._tools import Tool, ToolChoice

# Settings that requests and echoes share


class ServerVad(Variant, frozen=True, kw_only=True, tag="server_vad"):
    """Turns end after a stretch of silence.

    Attributes:
        threshold: From 0 to 1; higher needs louder speech. The server takes 0.5.
        prefix_padding_ms: How much audio before the speech belongs to it. The server takes
            300.
        silence_duration_ms: How much silence ends a turn, added to every reply's latency. The
            server takes 500 by its schema and 200 in practice: see the echo.
        create_response: Whether a turn's end starts a response. The server takes true.
        interrupt_response: Whether speech cancels the response of the default conversation.
            The server takes true.
        idle_timeout_ms: After how much silence, 5000 to 30000, the model speaks up by itself;
            None is never.
    """

    threshold: UnitInterval | UnsetType = UNSET
    prefix_padding_ms: int | UnsetType = UNSET
    silence_duration_ms: int | UnsetType = UNSET
    create_response: bool | UnsetType = UNSET
    interrupt_response: bool | UnsetType = UNSET
    idle_timeout_ms: Annotated[int, Meta(ge=5000, le=30000)] | UnsetType | None = UNSET


class SemanticVad(Variant, frozen=True, kw_only=True, tag="semantic_vad"):
    """Turns end when a model thinks that the speaker has finished.

    Attributes:
        eagerness: How soon it thinks so: at most 8 s of waiting at low, 4 s at medium, 2 s at
            high; auto is medium.
        create_response: Whether a turn's end starts a response. The server takes true.
        interrupt_response: Whether speech cancels the response of the default conversation.
            The server takes true.
    """

    eagerness: Literal["low", "medium", "high", "auto"] | UnsetType = UNSET
    create_response: bool | UnsetType = UNSET
    interrupt_response: bool | UnsetType = UNSET


_KnownTurnDetection = ServerVad | SemanticVad

if TYPE_CHECKING:
    TurnDetection = _KnownTurnDetection | UnknownObject
else:
    TurnDetection = _KnownTurnDetection


class Transcription(Struct, frozen=True, kw_only=True):
    """How input audio is transcribed. Which fields may be given depends on the model.

    Attributes:
        model: Such as ``"gpt-4o-transcribe"`` or ``"whisper-1"``.
        language: ISO 639-1 code of what is spoken; None for whatever it is.
        languages: Codes of what may be spoken; at least one.
        keywords: Words to expect.
        prompt: Words to expect for whisper-1, free text for the gpt-4o models.
        delay: How long the model may wait to be more certain; ``gpt-realtime-whisper`` only.
    """

    model: str | UnsetType = UNSET
    language: str | UnsetType | None = UNSET
    languages: Annotated[list[str], Meta(min_length=1)] | UnsetType = UNSET
    keywords: list[str] | UnsetType = UNSET
    prompt: str | UnsetType | None = UNSET
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | UnsetType = UNSET


class NoiseReduction(Struct, frozen=True, kw_only=True):
    """How input audio is cleaned before turn detection and the model hear it.

    Attributes:
        type: Where the microphone is: near_field for headsets, far_field for rooms.
        strength: From 0 to 1. The server takes 1 at first, and keeps it when left out later.
    """

    type: Literal["near_field", "far_field"] | UnsetType = UNSET
    strength: UnitInterval | UnsetType = UNSET


class CustomVoice(Struct, frozen=True, kw_only=True):
    """A voice of one's own.

    Attributes:
        id: The voice.
    """

    id: str


class TracingConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the server's trace of a session is labelled.

    Attributes:
        workflow_name: The workflow it belongs to.
        group_id: What groups several traces.
        metadata: Anything else.
    """

    workflow_name: str | None = None
    group_id: str | None = None
    metadata: dict[str, Any] | None = None


class Reasoning(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much a reasoning model thinks.

    Attributes:
        effort: More effort, later answers. The server takes low.
    """

    effort: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None


class TokenLimits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much context a model gets.

    Attributes:
        post_instructions: Tokens for all that follows the instructions.
    """

    post_instructions: Annotated[int, Meta(ge=0)] | None = None


class RetentionRatio(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="retention_ratio"):
    """When the context is full, drop to this part of it at once, which spares the cache.

    Attributes:
        retention_ratio: Which part is kept, from 0 to 1.
        token_limits: What counts as full.
    """

    retention_ratio: UnitInterval
    token_limits: TokenLimits | None = None


_KnownTruncation = Literal["auto", "disabled"] | RetentionRatio

if TYPE_CHECKING:
    Truncation = _KnownTruncation | UnknownObject
else:
    Truncation = _KnownTruncation


# Prompts that are stored at the server


class PromptCacheBreakpoint(Struct, frozen=True, kw_only=True):
    """The prompt up to here is worth caching.

    Attributes:
        mode: Always the same.
        ttl: For how long at least; the request's own time if absent.
    """

    mode: Literal["explicit"] = "explicit"
    ttl: Literal["30m", "12h"] | UnsetType = UNSET


class PromptText(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="input_text"):
    """Text for a prompt's variable.

    Attributes:
        text: The text.
        prompt_cache_breakpoint: Whether to cache up to here.
    """

    text: str
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


class PromptImage(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="input_image"):
    """An image for a prompt's variable, by address or by file.

    Attributes:
        detail: How closely the model looks.
        image_url: An address or a data URI.
        file_id: An uploaded file.
        prompt_cache_breakpoint: Whether to cache up to here.
    """

    detail: Literal["low", "high", "auto", "original"]
    image_url: str | None = None
    file_id: str | None = None
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


class PromptFile(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="input_file"):
    """A file for a prompt's variable.

    Attributes:
        file_id: An uploaded file.
        filename: Its name.
        file_data: Its content.
        file_url: Its address.
        detail: How closely the model looks.
        prompt_cache_breakpoint: Whether to cache up to here.
    """

    file_id: str | None = None
    filename: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    detail: Literal["auto", "low", "high"] | None = None
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


_KnownPromptVariable = str | PromptText | PromptImage | PromptFile

if TYPE_CHECKING:
    PromptVariable = _KnownPromptVariable | UnknownObject
else:
    PromptVariable = _KnownPromptVariable


class Prompt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Instructions that are stored at the server.

    Attributes:
        id: Which prompt.
        version: Which version of it; the current one if absent.
        variables: Values for its placeholders.
    """

    id: str
    version: str | None = None
    variables: dict[str, PromptVariable] | None = None


# The server's echo


class AudioInputConfig(Struct, frozen=True, kw_only=True):
    """What is in force for input audio.

    Attributes:
        format: How the audio is encoded.
        transcription: How it is transcribed, or None if it is not.
        noise_reduction: How it is cleaned, or None if it is not.
        turn_detection: Who decides where turns end; None is the client.
    """

    format: AudioFormat | None = None
    transcription: Transcription | None = None
    noise_reduction: NoiseReduction | None = None
    turn_detection: TurnDetection | None = None


class AudioOutputConfig(Struct, frozen=True, kw_only=True):
    """What is in force for output audio.

    Attributes:
        format: How the audio is encoded.
        voice: The name of a voice, or a voice of one's own.
        speed: How fast it speaks, 1 being natural.
    """

    format: AudioFormat | None = None
    voice: str | CustomVoice | None = None
    speed: float | None = None


class AudioConfig(Struct, frozen=True, kw_only=True):
    """What is in force for audio.

    Attributes:
        input: What we send.
        output: What we receive.
    """

    input: AudioInputConfig | None = None
    output: AudioOutputConfig | None = None


class TranscriptionAudioConfig(Struct, frozen=True, kw_only=True):
    """What is in force for audio in a session that only transcribes.

    Attributes:
        input: What we send.
    """

    input: AudioInputConfig | None = None


class RealtimeSession(Variant, frozen=True, kw_only=True, tag="realtime"):
    """A conversation's settings as the server echoes them.

    Attributes:
        id: The session, ``sess_…``.
        object: Always the same.
        expires_at: When the server will end the session, in Unix seconds.
        model: Fixed for the session.
        output_modalities: What the model answers with; one element.
        instructions: How the model should behave.
        audio: Formats, voice, turn detection and so on.
        include: Extra fields that were asked for.
        tools: What the model may call.
        tool_choice: How it chooses.
        parallel_tool_calls: Whether it may call several at once.
        reasoning: How much it thinks.
        max_output_tokens: The limit for one response.
        truncation: What happens when the context is full.
        tracing: Whether and how the server traces the session.
        prompt: The stored prompt in use.
    """

    id: str | None = None
    object: Literal["realtime.session"] | None = None
    expires_at: int | None = None
    model: str | None = None
    output_modalities: list[Modality] | None = None
    instructions: str | None = None
    audio: AudioConfig | None = None
    include: list[Include] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: int | Literal["inf"] | None = None
    truncation: Truncation | None = None
    tracing: Literal["auto"] | TracingConfig | None = None
    prompt: Prompt | None = None


class TranscriptionSession(Variant, frozen=True, kw_only=True, tag="transcription"):
    """The settings of a session that only transcribes, as the server echoes them.

    Attributes:
        id: The session, ``sess_…``.
        object: ``"realtime.transcription_session"``.
        expires_at: When the server will end the session, in Unix seconds.
        include: Extra fields that were asked for.
        audio: Format, transcription, turn detection and so on.
    """

    id: str | None = None
    object: str | None = None
    expires_at: int | None = None
    include: list[Include] | None = None
    audio: TranscriptionAudioConfig | None = None


_KnownSession = RealtimeSession | TranscriptionSession

if TYPE_CHECKING:
    SessionObject = _KnownSession | UnknownObject
else:
    SessionObject = _KnownSession


# What we ask for


class AudioInputConfigRequest(Struct, frozen=True, kw_only=True):
    """Changes for input audio.

    Attributes:
        format: How the audio is encoded.
        transcription: How to transcribe it; None turns transcription off.
        noise_reduction: How to clean it; None turns noise reduction off.
        turn_detection: Who decides where turns end; None leaves it to the client. The new
            object replaces the old one as a whole.
    """

    format: AudioFormat | UnsetType = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    noise_reduction: NoiseReduction | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class AudioOutputConfigRequest(Struct, frozen=True, kw_only=True):
    """Changes for output audio.

    Attributes:
        format: How the audio is encoded.
        voice: The name of a voice, or a voice of one's own. Fixed once the model has spoken.
        speed: From 0.25 to 1.5; takes effect between turns.
    """

    format: AudioFormat | UnsetType = UNSET
    voice: str | CustomVoice | UnsetType = UNSET
    speed: Speed | UnsetType = UNSET


class AudioConfigRequest(Struct, frozen=True, kw_only=True):
    """Changes for audio.

    Attributes:
        input: What we send.
        output: What we receive.
    """

    input: AudioInputConfigRequest | UnsetType = UNSET
    output: AudioOutputConfigRequest | UnsetType = UNSET


class TranscriptionAudioConfigRequest(Struct, frozen=True, kw_only=True):
    """Changes for audio in a session that only transcribes.

    Attributes:
        input: What we send.
    """

    input: AudioInputConfigRequest | UnsetType = UNSET


class RealtimeSessionRequest(Variant, frozen=True, kw_only=True, tag="realtime"):
    """Changes to a conversation's settings; what is not given stays as it is.

    Attributes:
        output_modalities: What the model answers with: exactly one of text and audio.
        model: Only where a session is made; it cannot be changed later.
        instructions: How the model should behave.
        audio: Formats, voice, turn detection and so on.
        include: Extra fields to send; None for none.
        tracing: Whether and how the server traces the session; cannot be changed once on.
        tools: What the model may call, replacing what was there.
        tool_choice: How it chooses.
        parallel_tool_calls: Whether it may call several at once; reasoning models only.
        reasoning: How much it thinks; reasoning models only.
        max_output_tokens: The limit for one response, 1 to 4096 or ``"inf"``.
        truncation: What happens when the context is full.
        prompt: A stored prompt; None for none.
    """

    output_modalities: OneModality | UnsetType = UNSET
    model: str | UnsetType = UNSET
    instructions: str | UnsetType = UNSET
    audio: AudioConfigRequest | UnsetType = UNSET
    include: list[Include] | UnsetType | None = UNSET
    tracing: Literal["auto"] | TracingConfig | UnsetType | None = UNSET
    tools: list[Tool] | UnsetType = UNSET
    tool_choice: ToolChoice | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    reasoning: Reasoning | UnsetType = UNSET
    max_output_tokens: MaxOutputTokens | UnsetType = UNSET
    truncation: Truncation | UnsetType = UNSET
    prompt: Prompt | UnsetType | None = UNSET


class TranscriptionSessionRequest(Variant, frozen=True, kw_only=True, tag="transcription"):
    """Changes to a session that only transcribes; what is not given stays as it is.

    Attributes:
        audio: Format, transcription, turn detection and so on.
        include: Extra fields to send; None for none.
    """

    audio: TranscriptionAudioConfigRequest | UnsetType = UNSET
    include: list[Include] | UnsetType | None = UNSET


_KnownSessionRequest = RealtimeSessionRequest | TranscriptionSessionRequest

if TYPE_CHECKING:
    SessionRequest = _KnownSessionRequest | UnknownObject
else:
    SessionRequest = _KnownSessionRequest

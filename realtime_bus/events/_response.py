"""Responses, what they cost, and what may be asked of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import UNSET, Struct, UnsetType

from ._base import Id, UnknownObject, Variant
from ._common import AudioFormat, MaxOutputTokens, Metadata, Modality, OneModality
from ._items import Item, ResponseInput
from ._session import CustomVoice, Prompt, Reasoning
from ._tools import Tool, ToolChoice

# Responses


class StatusError(Struct, frozen=True, kw_only=True):
    """Why a response failed.

    Attributes:
        type: Kind of error.
        code: Such as ``"inference_rate_limit_exceeded"``.
        message: The server's words.
    """

    type: str | None = None
    code: str | None = None
    message: str | None = None


class StatusDetails(Struct, frozen=True, kw_only=True):
    """Why a response ended as it did.

    Attributes:
        type: The same as the response's status.
        reason: What cancelled it (turn_detected, client_cancelled) or cut it short
            (max_output_tokens, content_filter).
        error: Why it failed.
    """

    type: Literal["completed", "cancelled", "failed", "incomplete"] | None = None
    reason: (
        Literal["turn_detected", "client_cancelled", "max_output_tokens", "content_filter"] | None
    ) = None
    error: StatusError | None = None


class CachedTokensDetails(Struct, frozen=True, kw_only=True):
    """Input tokens that came from the cache, by kind.

    Attributes:
        text_tokens: Of text.
        audio_tokens: Of audio.
        image_tokens: Of images.
    """

    text_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class InputTokenDetails(Struct, frozen=True, kw_only=True):
    """Input tokens by kind.

    Attributes:
        text_tokens: Of text.
        audio_tokens: Of audio.
        image_tokens: Of images.
        cached_tokens: How many of all these came from the cache.
        cached_tokens_details: The same by kind.
    """

    text_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    cached_tokens: int | None = None
    cached_tokens_details: CachedTokensDetails | None = None


class OutputTokenDetails(Struct, frozen=True, kw_only=True):
    """Output tokens by kind.

    Attributes:
        text_tokens: Of text, transcripts among it.
        audio_tokens: Of audio.
    """

    text_tokens: int | None = None
    audio_tokens: int | None = None


class Usage(Struct, frozen=True, kw_only=True):
    """What a response cost, in tokens; all zero if it was cancelled before any output.

    Attributes:
        total_tokens: Input and output.
        input_tokens: The context it was given.
        output_tokens: What it produced.
        input_token_details: The input by kind.
        output_token_details: The output by kind.
    """

    total_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_token_details: InputTokenDetails | None = None
    output_token_details: OutputTokenDetails | None = None


class ResponseAudioOutput(Struct, frozen=True, kw_only=True):
    """What a response's audio is like.

    Attributes:
        format: How it is encoded.
        voice: The name of a voice, or a voice of one's own.
    """

    format: AudioFormat | None = None
    voice: str | CustomVoice | None = None


class ResponseAudio(Struct, frozen=True, kw_only=True):
    """What a response's audio is like.

    Attributes:
        output: Format and voice.
    """

    output: ResponseAudioOutput | None = None


class Response(Struct, frozen=True, kw_only=True):
    """What a model answers, as one or more items.

    Attributes:
        id: The response, ``resp_…``.
        object: Always the same.
        status: How far it has come, or how it ended.
        status_details: Why it ended so; None if it completed or has not ended.
        output: Its items, without audio; empty until ``response.done``.
        conversation_id: The conversation it is part of; None if it is out of band, UNSET if the
            server does not say.
        output_modalities: What it answers with; one element.
        audio: Format and voice.
        max_output_tokens: The limit it was given.
        metadata: What ``response.create`` came with; UNSET if the server leaves it out, as one
            that echoes none does.
        usage: What it cost; None until it is done.
    """

    id: Id | None = None
    object: Literal["realtime.response"] | None = None
    status: Literal["completed", "cancelled", "failed", "incomplete", "in_progress"] | None = None
    status_details: StatusDetails | None = None
    output: list[Item] = []
    conversation_id: Id | UnsetType | None = UNSET
    output_modalities: list[Modality] | None = None
    audio: ResponseAudio | None = None
    max_output_tokens: int | Literal["inf"] | None = None
    metadata: dict[str, str] | UnsetType | None = UNSET
    usage: Usage | None = None


class ResponseAudioOutputRequest(Struct, frozen=True, kw_only=True):
    """What one response's audio should be like.

    Attributes:
        format: How to encode it.
        voice: The name of a voice, or a voice of one's own. Fixed once the model has spoken.
    """

    format: AudioFormat | UnsetType = UNSET
    voice: str | CustomVoice | UnsetType = UNSET


class ResponseAudioRequest(Struct, frozen=True, kw_only=True):
    """What one response's audio should be like.

    Attributes:
        output: Format and voice.
    """

    output: ResponseAudioOutputRequest | UnsetType = UNSET


class ResponseCreateParams(Struct, frozen=True, kw_only=True):
    """What is asked of one response; what is not given is as in the session.

    Attributes:
        conversation: ``"auto"`` for the default conversation, ``"none"`` for a response out of
            band.
        input: The context for this response in place of the conversation; empty for none.
        instructions: In place of the session's.
        output_modalities: Exactly one of text and audio.
        audio: Format and voice.
        tools: In place of the session's.
        tool_choice: How the model chooses.
        parallel_tool_calls: Whether it may call several at once; reasoning models only.
        reasoning: How much it thinks; reasoning models only.
        max_output_tokens: From 1 to 4096, or ``"inf"``.
        metadata: Comes back with the response, the only sure link between the two.
        prompt: A stored prompt; None for none.
    """

    conversation: str | UnsetType = UNSET
    input: list[ResponseInput] | UnsetType = UNSET
    instructions: str | UnsetType = UNSET
    output_modalities: OneModality | UnsetType = UNSET
    audio: ResponseAudioRequest | UnsetType = UNSET
    tools: list[Tool] | UnsetType = UNSET
    tool_choice: ToolChoice | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    reasoning: Reasoning | UnsetType = UNSET
    max_output_tokens: MaxOutputTokens | UnsetType = UNSET
    metadata: Metadata | UnsetType | None = UNSET
    prompt: Prompt | UnsetType | None = UNSET


# Transcription


class LogProb(Struct, frozen=True, kw_only=True):
    """How sure the transcriber is of one token.

    Attributes:
        token: The token.
        logprob: Natural logarithm of its probability.
        bytes: The token in UTF-8.
    """

    token: str
    logprob: float
    bytes: list[int]


class TranscriptionLanguage(Struct, frozen=True, kw_only=True):
    """A language that was heard.

    Attributes:
        code: ISO 639-1.
    """

    code: str


class TranscriptionTokenDetails(Struct, frozen=True, kw_only=True):
    """Input tokens of a transcription by kind.

    Attributes:
        text_tokens: Of the prompt.
        audio_tokens: Of the audio.
    """

    text_tokens: int | None = None
    audio_tokens: int | None = None


class TokenUsage(Variant, frozen=True, kw_only=True, tag="tokens"):
    """What a transcription cost, in tokens.

    Attributes:
        input_tokens: Audio and prompt.
        output_tokens: The transcript.
        total_tokens: Both.
        input_token_details: The input by kind.
    """

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_token_details: TranscriptionTokenDetails | None = None


class DurationUsage(Variant, frozen=True, kw_only=True, tag="duration"):
    """What a transcription cost, by time.

    Attributes:
        seconds: Length of the audio.
    """

    seconds: float


_KnownTranscriptionUsage = TokenUsage | DurationUsage

if TYPE_CHECKING:
    TranscriptionUsage = _KnownTranscriptionUsage | UnknownObject
else:
    TranscriptionUsage = _KnownTranscriptionUsage


class TranscriptionError(Struct, frozen=True, kw_only=True):
    """Why there is no transcript.

    Attributes:
        type: Such as ``"transcription_error"``.
        code: Such as ``"audio_unintelligible"``.
        message: The server's words.
        param: The setting at fault, if one is.
    """

    type: str | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None


# The rest


class ErrorDetails(Struct, frozen=True, kw_only=True):
    """What went wrong. Look at the code first, and at the message where there is none.

    Attributes:
        type: Kind of error, mostly ``"invalid_request_error"``.
        message: The server's words.
        code: Such as ``"invalid_value"``; None for a few errors.
        param: Path of the field at fault, such as ``"session.audio.output.speed"``.
        event_id: The client event at fault, if it had an id.
    """

    type: str
    message: str
    code: str | None = None
    param: str | None = None
    event_id: str | None = None


class RateLimit(Struct, frozen=True, kw_only=True):
    """How much may still be used.

    Attributes:
        name: Of what.
        limit: How much there is in all.
        remaining: How much is left.
        reset_seconds: Seconds until all of it is there again.
    """

    name: Literal["requests", "tokens"] | None = None
    limit: int | None = None
    remaining: int | None = None
    reset_seconds: float | None = None


class Conversation(Struct, frozen=True, kw_only=True):
    """A conversation.

    Attributes:
        id: The conversation, ``conv_…``.
        object: ``"realtime.conversation"``.
    """

    id: Id | None = None
    object: str | None = None

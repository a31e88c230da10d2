"""The translation protocol: continuous speech in, speech in another language out.

There are no turns, responses, items or tools. The names follow the same rule as those of the
realtime protocol, with which it shares some wire names, so it has a module of its own. Input is
24 kHz PCM16. Silence must keep flowing: a gap in sending is no pause, later audio is taken as
following directly.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from ._audio import Audio, lazy_audio
from ._base import ClientEvent, ServerEvent, Variant
from ._common import UnitInterval
from ._server import Error

__all__ = [
    "Error",
    "SessionClose",
    "SessionClosed",
    "SessionCreated",
    "SessionInputAudioBufferAppend",
    "SessionInputTranscriptDelta",
    "SessionOutputAudioDelta",
    "SessionOutputTranscriptDelta",
    "SessionUpdate",
    "SessionUpdated",
    "TranslationAudio",
    "TranslationAudioInput",
    "TranslationAudioInputRequest",
    "TranslationAudioOutput",
    "TranslationAudioOutputRequest",
    "TranslationAudioRequest",
    "TranslationNoiseReduction",
    "TranslationSession",
    "TranslationSessionRequest",
    "TranslationTranscription",
]


# Settings


class TranslationTranscription(Struct, frozen=True, kw_only=True):
    """How input audio is transcribed.

    Attributes:
        model: The transcriber.
    """

    model: str


class TranslationNoiseReduction(Struct, frozen=True, kw_only=True):
    """How input audio is cleaned.

    Attributes:
        type: Where the microphone is: near_field for headsets, far_field for rooms.
        strength: From 0 to 1.
    """

    type: Literal["near_field", "far_field"]
    strength: UnitInterval | UnsetType = UNSET


class TranslationAudioInput(Struct, frozen=True, kw_only=True):
    """What is in force for input audio.

    Attributes:
        transcription: How it is transcribed, or None if it is not.
        noise_reduction: How it is cleaned, or None if it is not.
    """

    transcription: TranslationTranscription | None = None
    noise_reduction: TranslationNoiseReduction | None = None


class TranslationAudioOutput(Struct, frozen=True, kw_only=True):
    """What is in force for output audio.

    Attributes:
        language: What it is translated into.
    """

    language: str | None = None


class TranslationAudio(Struct, frozen=True, kw_only=True):
    """What is in force for audio.

    Attributes:
        input: What we send.
        output: What we receive.
    """

    input: TranslationAudioInput | None = None
    output: TranslationAudioOutput | None = None


class TranslationSession(Variant, frozen=True, kw_only=True, tag="translation"):
    """A translation's settings as the server echoes them.

    Attributes:
        id: The session, ``sess_…``.
        expires_at: When the server will end the session, in Unix seconds.
        model: Fixed for the session.
        audio: Language, transcription, noise reduction.
    """

    id: str | None = None
    expires_at: int | None = None
    model: str | None = None
    audio: TranslationAudio | None = None


class TranslationAudioInputRequest(Struct, frozen=True, kw_only=True):
    """Changes for input audio.

    Attributes:
        transcription: How to transcribe it; None turns transcription off.
        noise_reduction: How to clean it; None turns noise reduction off.
    """

    transcription: TranslationTranscription | UnsetType | None = UNSET
    noise_reduction: TranslationNoiseReduction | UnsetType | None = UNSET


class TranslationAudioOutputRequest(Struct, frozen=True, kw_only=True):
    """Changes for output audio.

    Attributes:
        language: What to translate into.
    """

    language: str | UnsetType = UNSET


class TranslationAudioRequest(Struct, frozen=True, kw_only=True):
    """Changes for audio.

    Attributes:
        input: What we send.
        output: What we receive.
    """

    input: TranslationAudioInputRequest | UnsetType = UNSET
    output: TranslationAudioOutputRequest | UnsetType = UNSET


class TranslationSessionRequest(Struct, frozen=True, kw_only=True):
    """Changes to a translation's settings; type and model are fixed.

    Attributes:
        audio: Language, transcription, noise reduction.
    """

    audio: TranslationAudioRequest | UnsetType = UNSET


# What the server sends


class SessionCreated(ServerEvent, frozen=True, kw_only=True, tag="session.created"):
    """The session has begun; always the first event.

    Attributes:
        session: The settings in force.
    """

    session: TranslationSession


class SessionUpdated(ServerEvent, frozen=True, kw_only=True, tag="session.updated"):
    """Settings were changed.

    Attributes:
        session: All settings in force.
    """

    session: TranslationSession


class SessionClosed(ServerEvent, frozen=True, kw_only=True, gc=False, tag="session.closed"):
    """Everything has been translated and sent; always the last event."""


class SessionInputTranscriptDelta(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="session.input_transcript.delta"
):
    """More of what was said; only with transcription on.

    Attributes:
        delta: Text to append as it is, without a space.
        elapsed_ms: Where in the session's audio.
    """

    delta: str
    elapsed_ms: int | None = None


class SessionOutputTranscriptDelta(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="session.output_transcript.delta"
):
    """More of the translation.

    Attributes:
        delta: Text to append as it is, without a space.
        elapsed_ms: Where in the session's audio.
    """

    delta: str
    elapsed_ms: int | None = None


@lazy_audio("delta")
class SessionOutputAudioDelta(
    ServerEvent, frozen=True, kw_only=True, weakref=True, tag="session.output_audio.delta"
):
    """More of the translation, spoken.

    Attributes:
        delta: The bytes, of varying length.
        sample_rate: Samples a second.
        channels: How many.
        format: Signed 16-bit little-endian samples.
        elapsed_ms: Where in the session's audio.
    """

    delta: Audio
    sample_rate: int = 24000
    channels: int = 1
    format: Literal["pcm16"] = "pcm16"
    elapsed_ms: int | None = None


# What the client sends


class SessionUpdate(ClientEvent, frozen=True, kw_only=True, tag="session.update"):
    """Change settings; answered by ``session.updated``.

    Attributes:
        session: What is to change.
    """

    session: TranslationSessionRequest


@lazy_audio("audio")
class SessionInputAudioBufferAppend(
    ClientEvent, frozen=True, kw_only=True, tag="session.input_audio_buffer.append"
):
    """Send more speech; not answered.

    Attributes:
        audio: 24 kHz PCM16. The engine works on 200 ms (9600 bytes) at a time: shorter input
            waits for more.
    """

    audio: Audio


class SessionClose(ClientEvent, frozen=True, kw_only=True, tag="session.close"):
    """End the session once all has been translated; answered by ``session.closed``."""

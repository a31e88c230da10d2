"""Audio formats, types that several objects share, and the limits of what we may send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from ._base import UnknownObject, Variant

Modality = Literal["text", "audio"]
"""What a model answers with; audio always brings its transcript."""

Status = Literal["completed", "incomplete", "in_progress"]
"""How far an item has come."""

Include = Literal["item.input_audio_transcription.logprobs"]
"""Extra fields that a server sends on request."""

OneModality = Annotated[list[Modality], Meta(min_length=1, max_length=1)]
"""What we may ask for: exactly one modality."""

MaxOutputTokens = Annotated[int, Meta(ge=1, le=4096)] | Literal["inf"]
"""A limit of 1 to 4096 tokens, or none."""

Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]
"""At most 16 pairs, keys of at most 64 characters, values of at most 512."""

UnitInterval = Annotated[float, Meta(ge=0, le=1)]
"""A number from 0 to 1."""

Speed = Annotated[float, Meta(ge=0.25, le=1.5)]
"""How fast speech is played, 1 being natural."""


class AudioPCM(Variant, frozen=True, kw_only=True, tag="audio/pcm"):
    """Signed 16-bit little-endian samples.

    Attributes:
        rate: Samples a second. OpenAI knows 24000 only (48 bytes a millisecond); other
            providers have other rates.
    """

    rate: int = 24000


class AudioPCMU(Variant, frozen=True, kw_only=True, tag="audio/pcmu"):
    """G.711 µ-law at 8 kHz, 8 bytes a millisecond."""


class AudioPCMA(Variant, frozen=True, kw_only=True, tag="audio/pcma"):
    """G.711 A-law at 8 kHz, 8 bytes a millisecond."""


_KnownFormat = AudioPCM | AudioPCMU | AudioPCMA

if TYPE_CHECKING:
    AudioFormat = _KnownFormat | UnknownObject
else:
    AudioFormat = _KnownFormat

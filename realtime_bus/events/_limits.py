"""Types that several objects share, and the limits that a server puts on what we send."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

__all__ = [
    "Include",
    "MaxOutputTokens",
    "Metadata",
    "Modality",
    "OneModality",
    "Speed",
    "Status",
    "UnitInterval",
]

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

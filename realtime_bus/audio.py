"""Audio as the protocol carries it, and the seams where it is played and recorded.

Three formats exist, each mono: PCM16 (signed 16-bit little-endian, 24 kHz), G.711 µ-law and
A-law (8 kHz, one byte a sample). Times are in whole milliseconds, rounded down, as truncation
needs them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

import msgspec

from .events import AudioFormat, AudioPCM, AudioPCMA, AudioPCMU

__all__ = [
    "AudioSink",
    "AudioSource",
    "PlayedItem",
    "bytes_per_ms",
    "bytes_to_ms",
    "ms_to_bytes",
    "sample_width",
]

_BYTES_PER_MS: dict[type, int] = {AudioPCM: 48, AudioPCMU: 8, AudioPCMA: 8}


def bytes_per_ms(audio_format: AudioFormat | None) -> int:
    """Return how many bytes a millisecond takes: 48 for PCM16 at 24 kHz, 8 for G.711.

    None means the protocol's default, PCM16. A PCM rate other than 24 kHz, which some
    providers have, is taken at its word.
    """
    if isinstance(audio_format, AudioPCM):
        return audio_format.rate * 2 // 1000
    return _BYTES_PER_MS.get(type(audio_format), 48)


def sample_width(audio_format: AudioFormat | None) -> int:
    """Return the bytes of one sample: 2 for PCM16, 1 for G.711."""
    return 1 if isinstance(audio_format, AudioPCMU | AudioPCMA) else 2


def bytes_to_ms(length_bytes: int, audio_format: AudioFormat | None = None) -> int:
    """Return how long so many bytes play, in whole milliseconds, rounded down."""
    return length_bytes // bytes_per_ms(audio_format)


def ms_to_bytes(duration_ms: int, audio_format: AudioFormat | None = None) -> int:
    """Return how many bytes so many milliseconds take."""
    return duration_ms * bytes_per_ms(audio_format)


class PlayedItem(msgspec.Struct, frozen=True, kw_only=True):
    """What a sink has really played of one item.

    Attributes:
        item_id: The conversation item that the audio belongs to.
        content_index: Which content part of it.
        played_ms: What a person has heard of it, rounded down.
        written_ms: What the sink was given of it, rounded down.
    """

    item_id: str
    content_index: int = 0
    played_ms: int
    written_ms: int


@runtime_checkable
class AudioSink(Protocol):
    """Where output audio is played.

    Every method is synchronous and returns at once: they run between the socket and the
    speaker, and an interruption must not wait.
    """

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of the audio that follows; called before the first write."""
        ...

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Queue audio of an item behind what is already queued."""
        ...

    def flush(self) -> list[PlayedItem]:
        """Fall silent now, and return every item that was playing or queued, in order.

        What was returned is forgotten: a second flush returns an empty list until more
        audio is written.
        """
        ...

    def positions(self) -> list[PlayedItem]:
        """Return the same as `flush` would, without stopping anything."""
        ...

    @property
    def playing(self) -> bool:
        """Whether something can be heard now, or is queued to be."""
        ...


class AudioSource(Protocol):
    """Where input audio comes from."""

    def chunks(self, audio_format: AudioFormat) -> AsyncIterator[bytes]:
        """Yield audio in the given format as it is recorded, typically 20 ms at a time."""
        ...

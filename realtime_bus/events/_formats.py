"""The audio formats of the protocol, each mono."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._base import UnknownObject
from ._variant import Variant

__all__ = ["AudioFormat", "AudioPCM", "AudioPCMA", "AudioPCMU"]


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

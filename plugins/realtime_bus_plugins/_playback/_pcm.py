"""Between a session's audio formats and PCM16 at 24 kHz, which every sink and device here uses.

One inner format means that nothing changes for the player when a session changes its format,
and that the device is opened once. PCM16 at 24 kHz passes through untouched; the rest is
decoded and resampled by `audioop`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from realtime_bus.audio import bytes_per_ms, sample_width
from realtime_bus.events import AudioFormat, AudioPCM, AudioPCMA, AudioPCMU

from ._g711 import load_audioop

__all__ = ["RATE_HZ", "FromSession", "ToSession", "rate_hz"]

RATE_HZ = 24_000
"""Samples per second of the inner format."""

_DECODERS: dict[type, str] = {AudioPCMU: "ulaw2lin", AudioPCMA: "alaw2lin"}
_ENCODERS: dict[type, str] = {AudioPCMU: "lin2ulaw", AudioPCMA: "lin2alaw"}


def rate_hz(audio_format: AudioFormat | None) -> int:
    """Return the format's samples per second."""
    return bytes_per_ms(audio_format) * 1000 // sample_width(audio_format)


class FromSession:
    """Turn a session's output audio into PCM16 at 24 kHz, or count what it would be.

    Deltas need not hold whole samples: half of one is kept for the same item's next delta.

    Args:
        audio_format: The session's output format.
        counting_only: Only `samples` will be called, which needs no codec.

    Raises:
        MissingExtra: The format needs audioop-lts, and it is not installed.
    """

    def __init__(
        self, audio_format: AudioFormat | None = None, *, counting_only: bool = False
    ) -> None:
        self.audio_format: AudioFormat = audio_format or AudioPCM()
        self._width = sample_width(self.audio_format)
        self._rate_hz = rate_hz(self.audio_format)
        self._source: object = None
        self._half = b""
        self._resampler: Any = None
        needed = not counting_only and (self._width == 1 or self._rate_hz != RATE_HZ)
        self._audioop: ModuleType | None = load_audioop() if needed else None

    def samples(self, audio: bytes, source: object) -> int:
        """Return how many samples at 24 kHz the audio makes, without converting it."""
        return len(self._whole(audio, source)) // self._width * RATE_HZ // self._rate_hz

    def convert(self, audio: bytes, source: object) -> bytes:
        """Return the audio as PCM16 at 24 kHz.

        Args:
            audio: Audio in the session's format.
            source: What it belongs to; halves of samples are not joined across sources.
        """
        whole = self._whole(audio, source)
        return whole if self._audioop is None else self._resampled(self._audioop, whole)

    def _whole(self, audio: bytes, source: object) -> bytes:
        """Return whole samples, and keep the half that is left over."""
        if source != self._source:
            self._source, self._half, self._resampler = source, b"", None
        if self._half:
            audio = self._half + audio
        odd = len(audio) % self._width
        self._half = audio[-odd:] if odd else b""
        return audio[:-odd] if odd else audio

    def _resampled(self, audioop: ModuleType, audio: bytes) -> bytes:
        decoder = _DECODERS.get(type(self.audio_format))
        pcm: bytes = getattr(audioop, decoder)(audio, 2) if decoder else audio
        if self._rate_hz == RATE_HZ:
            return pcm
        expected = len(pcm) // 2 * RATE_HZ // self._rate_hz * 2
        made, self._resampler = audioop.ratecv(pcm, 2, 1, self._rate_hz, RATE_HZ, self._resampler)
        # the resampler's first call falls a few samples short: it has no sample before the first
        missing: bytes = bytes(max(0, expected - len(made)))
        return missing + bytes(made)


class ToSession:
    """Turn recorded PCM16 at 24 kHz into a session's input format."""

    def __init__(self, audio_format: AudioFormat | None = None) -> None:
        self.audio_format: AudioFormat = audio_format or AudioPCM()
        self._rate_hz = rate_hz(self.audio_format)
        self._resampler: Any = None
        encoder = _ENCODERS.get(type(self.audio_format))
        needed = encoder is not None or self._rate_hz != RATE_HZ
        self._audioop: ModuleType | None = load_audioop() if needed else None
        self._encode: Callable[[bytes, int], bytes] | None = (
            getattr(self._audioop, encoder) if encoder else None
        )

    def convert(self, pcm: bytes) -> bytes:
        """Return the audio in the session's format; call it with consecutive audio."""
        if self._audioop is not None and self._rate_hz != RATE_HZ:
            pcm, self._resampler = self._audioop.ratecv(
                pcm, 2, 1, RATE_HZ, self._rate_hz, self._resampler
            )
        return pcm if self._encode is None else self._encode(pcm, 2)

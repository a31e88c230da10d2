"""Samples: G.711, loudness, and the wire's formats to and from those who listen or speak.

Everything is mono; PCM16 is signed, 16-bit, little-endian. Rates are changed by `Resampler`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

from realtime_bus import events as ev
from realtime_bus.audio import Resampler
from realtime_bus.errors import MissingExtra

with warnings.catch_warnings():
    # audioop left the standard library in 3.13, and says so in 3.11 and 3.12: we know
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        import audioop
    except ImportError as error:  # pragma: no cover  # only without the extra, from 3.13 on
        raise MissingExtra("audioop-lts", extra="server") from error

try:  # it takes a while, which no session is to wait for
    Resampler(24_000, 16_000)
except MissingExtra as error:
    raise MissingExtra("soxr", extra="server") from error

_G711_HZ = 8_000

_WHOLE_MS = 1000
"""How much of a sound that is all there is resampled at a time: what lags does not matter."""


def ulaw_encode(pcm: bytes) -> bytes:
    """Return PCM16 as G.711 µ-law."""
    return audioop.lin2ulaw(pcm, 2)


def ulaw_decode(audio: bytes) -> bytes:
    """Return G.711 µ-law as PCM16."""
    return audioop.ulaw2lin(audio, 2)


def alaw_encode(pcm: bytes) -> bytes:
    """Return PCM16 as G.711 A-law."""
    return audioop.lin2alaw(pcm, 2)


def alaw_decode(audio: bytes) -> bytes:
    """Return G.711 A-law as PCM16."""
    return audioop.alaw2lin(audio, 2)


def level_dbfs(pcm: bytes) -> float:
    """Return how loud PCM16 is: RMS in dB below full scale, -100 for silence."""
    rms = audioop.rms(pcm, 2)
    return 20 * math.log10(rms / 32_768) if rms else -100.0


_DECODERS: dict[type, Callable[[bytes], bytes]] = {
    ev.AudioPCMU: ulaw_decode,
    ev.AudioPCMA: alaw_decode,
}
_ENCODERS: dict[type, Callable[[bytes], bytes]] = {
    ev.AudioPCMU: ulaw_encode,
    ev.AudioPCMA: alaw_encode,
}


def wire_rate_hz(audio_format: ev.AudioFormat | None) -> int:
    """Return the sample rate of a format: 8000 for G.711, 24000 for the protocol's PCM."""
    if audio_format is None:
        return 24_000
    return audio_format.rate if isinstance(audio_format, ev.AudioPCM) else _G711_HZ


class InputConverter:
    """Wire audio in any of the protocol's formats to PCM16 at `to_hz`, piece by piece.

    Pieces may end in the middle of a sample.

    Args:
        audio_format: What the wire carries; None is PCM16 at 24 kHz.
        to_hz: The rate wanted.
        piece_ms: How much is resampled at a time; see `Resampler`.
    """

    def __init__(
        self,
        audio_format: ev.AudioFormat | None = None,
        *,
        to_hz: int = 16_000,
        piece_ms: int = 20,
    ) -> None:
        self._decode = _DECODERS.get(type(audio_format), self._whole_samples)
        self._resampler = Resampler(wire_rate_hz(audio_format), to_hz, piece_ms=piece_ms)
        self._odd = b""

    def _whole_samples(self, audio: bytes) -> bytes:
        """Keep the odd byte at the end for the next piece."""
        if self._odd:
            audio = self._odd + audio
        odd = len(audio) % 2
        self._odd = audio[-1:] if odd else b""
        return audio[:-1] if odd else audio

    def feed(self, audio: bytes) -> bytes:
        """Take wire bytes, return PCM16."""
        return self._resampler.feed(self._decode(audio))

    def flush(self) -> bytes:
        """Return what is still inside, less half a sample; the next feed starts anew."""
        self._odd = b""
        return self._resampler.flush()


class OutputConverter:
    """PCM16 at `from_hz` to wire audio in any of the protocol's formats, piece by piece.

    Args:
        audio_format: What the wire carries; None is PCM16 at 24 kHz.
        from_hz: The rate of what is fed.
    """

    def __init__(
        self, audio_format: ev.AudioFormat | None = None, *, from_hz: int = 24_000
    ) -> None:
        self._encode = _ENCODERS.get(type(audio_format), bytes)
        self._resampler = Resampler(from_hz, wire_rate_hz(audio_format))

    def feed(self, pcm: bytes) -> bytes:
        """Take PCM16 in whole samples, return wire bytes."""
        return self._encode(self._resampler.feed(pcm))

    def flush(self) -> bytes:
        """Return what is still inside; call it at the end of an item."""
        return self._encode(self._resampler.flush())


def pcm_bytes_per_byte(audio_format: ev.AudioFormat | None) -> int:
    """Return how many bytes of PCM16 at 24 kHz a byte of a format becomes: 6 for G.711, else 1."""
    return 6 if type(audio_format) in _DECODERS else 1


def to_pcm24(audio: bytes, audio_format: ev.AudioFormat | None = None) -> bytes:
    """Return a whole stretch of wire audio as PCM16 at 24 kHz, what a responder is given."""
    converter = InputConverter(audio_format, to_hz=24_000, piece_ms=_WHOLE_MS)
    return converter.feed(audio) + converter.flush()

"""Bytes and milliseconds of the protocol's audio formats."""

from __future__ import annotations

from realtime_bus.events import AudioFormat, AudioPCM, AudioPCMA, AudioPCMU

_BYTES_PER_MS: dict[type, int] = {AudioPCM: 48, AudioPCMU: 8, AudioPCMA: 8}
_RATES_HZ = range(4_000, 384_001)  # what audio is recorded in; a server may write any number


def bytes_per_ms(audio_format: AudioFormat | None) -> int:
    """Return how many bytes a millisecond takes: 48 for PCM16 at 24 kHz, 8 for G.711.

    None means the protocol's default, PCM16. A PCM rate other than 24 kHz, which some
    providers have, is taken at its word, from 4 to 384 kHz; any other is a mistake.
    """
    if isinstance(audio_format, AudioPCM) and audio_format.rate in _RATES_HZ:
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

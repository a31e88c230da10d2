"""WAV files of what was heard: PCM16, one side or both."""

from __future__ import annotations

import os
import wave
from typing import TypeAlias

import msgspec

__all__ = ["StrPath", "Track", "write_stereo_wav", "write_wav"]

StrPath: TypeAlias = str | os.PathLike[str]


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a conversation.

    Attributes:
        pcm: PCM16 little-endian mono.
        start_s: When its first sample was heard or said, on a clock that both sides share.
    """

    pcm: bytes
    start_s: float = 0.0


def write_wav(path: StrPath, pcm: bytes, *, rate_hz: int = 24_000, channels: int = 1) -> None:
    """Write PCM16 as a WAV file.

    Raises:
        OSError: The file cannot be written.
    """
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm)


def write_stereo_wav(path: StrPath, left: Track, right: Track, *, rate_hz: int = 24_000) -> None:
    """Write both sides of a conversation into one WAV file, each at its own time.

    The file starts with whichever track starts first, and ends with whichever ends last.

    Args:
        path: Where to.
        left: By custom the person.
        right: By custom the assistant.
        rate_hz: Sample rate of both.

    Raises:
        OSError: The file cannot be written.
    """
    zero_s = min(left.start_s, right.start_s)
    sides = [_placed(track, zero_s, rate_hz) for track in (left, right)]
    write_wav(path, _interleaved(*sides), rate_hz=rate_hz, channels=2)


def _placed(track: Track, zero_s: float, rate_hz: int) -> bytes:
    silence = bytes(2 * round((track.start_s - zero_s) * rate_hz))
    return silence + track.pcm[: len(track.pcm) // 2 * 2]


def _interleaved(left: bytes, right: bytes) -> bytes:
    length = max(len(left), len(right))
    mixed = bytearray(2 * length)
    for channel, side in enumerate((left, right)):
        full = side.ljust(length, b"\0")
        # byte by byte, so that it does not depend on the machine's own byte order
        mixed[2 * channel :: 4] = full[0::2]
        mixed[2 * channel + 1 :: 4] = full[1::2]
    return bytes(mixed)

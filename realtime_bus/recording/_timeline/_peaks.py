"""How loud audio is, 10 ms at a time: what a waveform is drawn from.

One byte for each 10 ms: the loudest sample's distance from zero, 255 being full scale. With numpy
(the extra ``audio`` brings it) an hour takes a fraction of a second, without it some.
"""

from __future__ import annotations

import importlib
import sys
from array import array
from functools import cache
from typing import Any

from realtime_bus.audio import bytes_per_ms
from realtime_bus.events import AudioFormat, AudioPCMA, AudioPCMU

PEAK_MS = 10
"""How much audio each peak stands for, in milliseconds."""

_BATCH = 100  # peaks that are worked out at a time


@cache
def _numpy() -> Any:
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None


def _linear(byte: int, *, a_law: bool) -> int:
    """Return the 16-bit sample that a byte of G.711 stands for (ITU-T G.711)."""
    if a_law:
        byte ^= 0x55
        exponent, mantissa = byte >> 4 & 7, byte & 15
        size = (mantissa << 4) + 8 if exponent == 0 else (mantissa << 4) + 264 << exponent - 1
        return size if byte & 0x80 else -size
    byte = ~byte & 0xFF
    size = ((byte & 15) << 3) + 132 << (byte >> 4 & 7)
    return 132 - size if byte & 0x80 else size - 132


@cache
def _tables(a_law: bool) -> tuple[bytes, bytes]:
    samples = [_linear(byte, a_law=a_law) & 0xFFFF for byte in range(256)]
    return bytes(s & 0xFF for s in samples), bytes(s >> 8 for s in samples)


def as_pcm(audio: bytes, audio_format: AudioFormat) -> bytes:
    """Return audio as PCM16 little-endian, at its own rate."""
    if not isinstance(audio_format, AudioPCMU | AudioPCMA):
        return audio
    low, high = _tables(isinstance(audio_format, AudioPCMA))
    pcm = bytearray(2 * len(audio))
    pcm[0::2] = audio.translate(low)
    pcm[1::2] = audio.translate(high)
    return bytes(pcm)


class Peaks:
    """The peaks of one stream, in whatever formats it comes."""

    def __init__(self) -> None:
        self._format: AudioFormat | None = None
        self._pcm = bytearray()
        self._bytes = 480  # of PCM16 for one peak
        self._done = bytearray()

    def add(self, audio: bytes, audio_format: AudioFormat, length_ms: float) -> None:
        """Take more of the stream; of audio that was left out, only its length is known."""
        if audio_format != self._format:
            self._work(whole=True)
            self._format = audio_format
            wide = 1 if bytes_per_ms(audio_format) >= 16 else 2  # PCM16 takes two for G.711's one
            self._bytes = bytes_per_ms(audio_format) * PEAK_MS * wide
        if audio:
            self._pcm += as_pcm(audio, audio_format)
        else:
            self._pcm += bytes(2 * int(length_ms * self._bytes / PEAK_MS / 2))
        if len(self._pcm) >= _BATCH * self._bytes:
            self._work()

    def _work(self, *, whole: bool = False) -> None:
        """Work out what is there; with `whole`, the last begun peak, too."""
        if whole and len(self._pcm) % self._bytes:
            self._pcm += bytes(self._bytes - len(self._pcm) % self._bytes)
        count = len(self._pcm) // self._bytes
        if count:
            self._done += _peaks(bytes(self._pcm[: count * self._bytes]), self._bytes // 2)
            del self._pcm[: count * self._bytes]

    def taken(self) -> bytes:
        """Return the peaks."""
        self._work(whole=True)
        return bytes(self._done)


def _peaks(pcm: bytes, samples: int) -> bytes:
    numpy = _numpy()
    if numpy is not None:
        rows = numpy.frombuffer(pcm, "<i2").reshape(-1, samples).astype("i4")
        return bytes((numpy.abs(rows).max(axis=1) >> 7).clip(0, 255).astype("u1"))
    values = array("h", pcm)
    if sys.byteorder == "big":
        values.byteswap()
    view = memoryview(values)
    found = bytearray()
    for start in range(0, len(values), samples):
        row = view[start : start + samples]
        found.append(min(255, max(*row, -min(row)) >> 7))
    return bytes(found)

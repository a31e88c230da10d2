"""Sample rates: PCM16 resampled by soxr, piece by piece, to the sample and with little lag.

The rules:

1. A stream of n samples comes out as ``n * to_hz / from_hz`` of them, rounded up; each keeps its
   place in time. Nothing above the lower rate's half comes back as a ghost.
2. Fed with a stream, soxr would hold back 37 ms of it (73 ms at 8 kHz), for it filters in large
   blocks. So it is given pieces, each one whole, with a margin of the stream's own audio on both
   sides for its filter to look at; what becomes of the margins is thrown away. The difference to
   a stream filtered as a whole is below -85 dB.
3. Pieces end on a grid: the result does not depend on how the stream was cut. The grid lies so
   that a stream that comes in multiples of a piece lags by the margin alone.
"""

from __future__ import annotations

import importlib
import math
from functools import cache
from typing import Any

from realtime_bus.errors import MissingExtra, UsageError

_MARGIN = 64
"""Samples of the lower rate that the filter sees on either side of a piece."""


@cache
def _load() -> tuple[Any, Any]:
    """Return numpy and soxr: an extra's, and slow to import; soxr has no types."""
    try:
        return importlib.import_module("numpy"), importlib.import_module("soxr")
    except ImportError as error:
        raise MissingExtra("soxr", extra="audio") from error


class Resampler:
    """Change the sample rate of a stream of PCM16 mono, piece by piece, with soxr.

    The result does not depend on how the stream was cut. What comes out lags behind by 64 samples
    of the lower rate (2.7 ms at 24 kHz, 8 ms at 8 kHz), and by up to ``piece_ms`` more if the
    stream does not come in multiples of it; `flush` gives the rest.

    Args:
        from_hz: The rate that goes in.
        to_hz: The rate that comes out; the same rate costs nothing, and needs no extra.
        piece_ms: How much is resampled at a time; a piece costs some 35 µs, whatever its length.

    Raises:
        UsageError: A rate is not positive.
        MissingExtra: The package soxr is not installed.
    """

    def __init__(self, from_hz: int, to_hz: int, *, piece_ms: int = 20) -> None:
        if from_hz <= 0 or to_hz <= 0:
            raise UsageError(f"sample rates must be positive, not {from_hz} and {to_hz}")
        common = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // common, from_hz // common
        self._same = from_hz == to_hz
        if self._same:
            return
        self._numpy, soxr = _load()
        self._soxr = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
        # in input samples, and as whole output samples
        self._margin = self._whole(_MARGIN * from_hz / min(from_hz, to_hz))
        self._piece = max(self._whole(from_hz * piece_ms / 1000), self._margin + self._down)
        self._restart()

    def _whole(self, samples: float) -> int:
        return math.ceil(samples / self._down) * self._down

    def _restart(self) -> None:
        self._samples = self._numpy.zeros(self._margin, "f4")  # silence before the first one
        self._next = self._piece - self._margin

    def feed(self, pcm: bytes) -> bytes:
        """Take PCM16 in whole samples, return PCM16 at the other rate."""
        if self._same or not pcm:
            return pcm
        fresh = self._numpy.frombuffer(pcm, "<i2")
        self._samples = self._numpy.concatenate((self._samples, fresh), dtype="f4")
        out: list[bytes] = []
        done = 0
        while len(self._samples) - done >= self._next + 2 * self._margin:
            end = done + self._next + 2 * self._margin
            out.append(self._resampled(self._samples[done:end], self._next))
            done += self._next
            self._next = self._piece
        if done:
            self._samples = self._samples[done:]
        return b"".join(out)

    def peek(self) -> bytes:
        """Return what `flush` would, and stay as it is."""
        if self._same:
            return b""
        rest = len(self._samples) - self._margin
        silence = self._numpy.zeros(self._margin + self._down, "f4")
        return self._resampled(self._numpy.concatenate((self._samples, silence)), rest)

    def flush(self) -> bytes:
        """Return what is still inside, as if silence followed; the next feed starts anew."""
        tail = self.peek()
        if not self._same:
            self._restart()
        return tail

    def _resampled(self, samples: Any, length: int) -> bytes:
        """Resample so many samples that stand behind a margin and before one."""
        self._soxr.clear()
        made = self._soxr.resample_chunk(samples, last=True)
        start = self._margin * self._up // self._down
        made = made[start : start + -(-length * self._up // self._down)]
        np = self._numpy
        return bytes(np.clip(np.rint(made), -32_768, 32_767).astype("<i2"))

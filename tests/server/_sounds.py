"""Sounds for the tests: sines, noise, and a person who speaks."""

import math
from array import array
from functools import cache

import numpy as np

from realtime_bus.server._voice import Voice

RATE_HZ = 24_000
PERSON = Voice("en-us", rate_wpm=180, pitch=65)


def sine(hz: float, *, rate_hz: int = RATE_HZ, ms: int = 1000, peak: int = 16_000) -> bytes:
    """Return a sine as PCM16."""
    return samples(peak * np.sin(2 * np.pi * hz / rate_hz * np.arange(rate_hz * ms // 1000)))


def noise(ms: int, *, deviation: float) -> bytes:
    """Return white noise as PCM16 at 24 kHz, the same every time."""
    return samples(np.random.default_rng(7).normal(0, deviation, RATE_HZ * ms // 1000))


def silence(ms: int) -> bytes:
    """Return silence as PCM16 at 24 kHz."""
    return bytes(48 * ms)


def samples(values) -> bytes:
    """Return sample values as PCM16, rounded and clipped."""
    return np.clip(np.rint(values), -32_768, 32_767).astype("<i2").tobytes()


@cache
def speech(text: str) -> bytes:
    """Return what a person says, PCM16 at 24 kHz, without the silence around it."""
    pcm = array("h", b"".join(spoken.pcm for spoken in PERSON.synthesize(text)))
    loud = [i for i, value in enumerate(pcm) if abs(value) > 500]
    return pcm[loud[0] : loud[-1] + 1][: (loud[-1] - loud[0]) // 24 * 24].tobytes()


def loudness(pcm: bytes) -> float:
    """Return the RMS of PCM16."""
    values = array("h", pcm)
    return math.sqrt(sum(value * value for value in values) / len(values))


def difference_db(pcm: bytes, wanted: bytes) -> float:
    """Return how far below the wanted sound the difference lies, away from the edges."""
    pairs = list(zip(array("h", pcm), array("h", wanted), strict=True))[400:-400]
    error = math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(pairs))
    return 20 * math.log10(error / loudness(wanted) + 1e-9)

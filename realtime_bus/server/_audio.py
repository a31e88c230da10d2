"""Samples: sample rates, G.711, and the wire's formats to and from those who listen or speak.

Everything is mono; PCM16 is signed, 16-bit, little-endian.

Resampling is a polyphase low-pass, a whole piece at a time in C. The rates are as ``up`` to
``down`` in lowest terms. Seen at ``up`` times the input rate, an output sample is the low-pass
laid over the input around its own place, ``down`` steps after the one before. Every ``up``-th
output sample therefore meets the same taps, with the input ``down`` samples further on: one
phase. So a phase is worked out for a whole piece at once, tap by tap: every ``down``-th sample
is scaled and added up by audioop.
"""

from __future__ import annotations

import math
import warnings
from array import array
from collections.abc import Callable
from functools import cache

from realtime_bus import events as ev
from realtime_bus.errors import MissingExtra, UsageError

with warnings.catch_warnings():
    # audioop left the standard library in 3.13, and says so in 3.11 and 3.12: we know
    warnings.simplefilter("ignore", DeprecationWarning)
    try:
        import audioop
    except ImportError as error:  # pragma: no cover  # only without the extra, from 3.13 on
        raise MissingExtra("audioop-lts", extra="server") from error

ZERO_CROSSINGS = 10
"""Half-length of the low-pass, in zero crossings of its sinc: longer is steeper and slower."""

KAISER_BETA = 5.0
"""Shape of the low-pass's window: some 50 dB of stop-band, more than G.711 can tell."""

PASS_SHARE = 0.88
"""Where the low-pass is half down, as a share of the lower rate's half: room for its slope."""


@cache
def _low_pass(widest: int) -> tuple[float, ...]:
    """Return one side of a windowed sinc, its middle first."""
    reach = ZERO_CROSSINGS * widest

    def sinc(x: float) -> float:
        return math.sin(math.pi * x) / (math.pi * x) if x else 1.0

    def kaiser(x: float) -> float:  # not scaled to 1: each phase is
        bent = KAISER_BETA * math.sqrt(1 - x * x)
        return math.fsum(((bent / 2) ** k / math.factorial(k)) ** 2 for k in range(16))

    return tuple(sinc(i * PASS_SHARE / widest) * kaiser(i / reach) for i in range(reach + 1))


class _Phase:
    """One of the `up` output samples that each `down` input samples give.

    Attributes:
        first: The input sample that the first tap meets, relative to the block's own first.
        taps: Scaled to a quarter, so that no sum of 32-bit samples can overflow.
    """

    __slots__ = ("first", "taps")

    def __init__(self, number: int, up: int, down: int) -> None:
        side = _low_pass(max(up, down))
        reach, place = len(side) - 1, number * down
        self.first = -((reach - place) // up)
        last = (place + reach) // up
        taps = [side[abs(place - q * up)] for q in range(self.first, last + 1)]
        gain = 4 * math.fsum(taps)  # every phase has gain 1: silence and hum stay what they are
        self.taps = tuple(tap / gain for tap in taps)

    @property
    def last(self) -> int:
        return self.first + len(self.taps) - 1

    def run(self, samples: array[int], history: int, blocks: int, down: int) -> array[int]:
        """Return this phase's output sample of each block."""
        start = history + self.first
        total = bytes(4 * blocks)
        for at, tap in enumerate(self.taps, start):
            part = samples[at : at + blocks * down : down]
            total = audioop.add(total, audioop.mul(part, 4, tap), 4)
        # half a step is added before the low bits go, so that rounding has no bias
        return array("h", audioop.lin2lin(audioop.mul(audioop.bias(total, 4, 0x2000), 4, 4), 4, 2))


@cache
def _phases(up: int, down: int) -> tuple[_Phase, ...]:
    return tuple(_Phase(number, up, down) for number in range(up))


class Resampler:
    """Change the sample rate of a stream, piece by piece.

    The result does not depend on how the stream was cut. The output lags some samples behind
    (10 of the lower rate, and up to ``down`` of the input); `flush` gives the rest. A sound
    keeps its place in time, and nothing above the lower rate's half comes back as a ghost.

    Args:
        from_hz: The rate that goes in.
        to_hz: The rate that comes out; the same rate costs nothing.

    Raises:
        UsageError: A rate is not positive.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if from_hz <= 0 or to_hz <= 0:
            raise UsageError(f"sample rates must be positive, not {from_hz} and {to_hz}")
        common = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // common, from_hz // common
        self._phases = () if from_hz == to_hz else _phases(self._up, self._down)
        self._history = max((-phase.first for phase in self._phases), default=0)
        self._ahead = max((phase.last for phase in self._phases), default=0)
        self._restart()

    def _restart(self) -> None:
        self._samples = array("i", bytes(4 * self._history))  # silence before the first sample
        self._fed = self._given = 0

    def feed(self, pcm: bytes) -> bytes:
        """Take PCM16 in whole samples, return PCM16 at the other rate."""
        if not self._phases:
            return pcm
        self._fed += len(pcm) // 2
        self._samples.frombytes(audioop.lin2lin(pcm, 2, 4))
        return self._take()

    def _take(self) -> bytes:
        blocks = (len(self._samples) - self._history - self._ahead + self._down - 1) // self._down
        if blocks <= 0:
            return b""
        out = array("h", bytes(2 * blocks * self._up))
        for number, phase in enumerate(self._phases):
            out[number :: self._up] = phase.run(self._samples, self._history, blocks, self._down)
        del self._samples[: blocks * self._down]
        self._given += len(out)
        return out.tobytes()

    def flush(self) -> bytes:
        """Return what is still inside, as if silence followed; the next feed starts anew."""
        if not self._phases:
            return b""
        wanted = -(-self._fed * self._up // self._down) - self._given
        self._samples.extend([0] * (self._ahead + self._down))
        tail = self._take()[: 2 * wanted]
        self._restart()
        return tail


_G711_HZ = 8_000


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
    """

    def __init__(self, audio_format: ev.AudioFormat | None = None, *, to_hz: int = 16_000) -> None:
        self._decode = _DECODERS.get(type(audio_format), self._whole_samples)
        self._resampler = Resampler(wire_rate_hz(audio_format), to_hz)
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
    converter = InputConverter(audio_format, to_hz=24_000)
    return converter.feed(audio) + converter.flush()

"""Between a session's audio formats and PCM16 at 24 kHz, which every sink and device here uses.

One inner format means that nothing changes for the player when a session changes its format,
and that the device is opened once. PCM16 at 24 kHz passes through untouched; the rest is
decoded and resampled by `audioop`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from realtime_bus import MissingExtra
from realtime_bus.audio import bytes_per_ms, sample_width
from realtime_bus.events import AudioFormat, AudioPCM, AudioPCMA, AudioPCMU

RATE_HZ = 24_000
"""Samples per second of the inner format."""

_REMEMBERED_SOURCES = 64
_DECODERS: dict[type, str] = {AudioPCMU: "ulaw2lin", AudioPCMA: "alaw2lin"}
_ENCODERS: dict[type, str] = {AudioPCMU: "lin2ulaw", AudioPCMA: "lin2alaw"}


def load_audioop() -> ModuleType:
    """Return `audioop`: the standard library's before Python 3.13, audioop-lts from then on.

    Raises:
        MissingExtra: Python is 3.13 or newer and audioop-lts is not installed.
    """
    try:
        with warnings.catch_warnings():
            # 3.11 and 3.12 announce the module's removal; the replacement is in the extras
            warnings.simplefilter("ignore", DeprecationWarning)
            import audioop  # noqa: PLC0415 - only G.711 and resampling need it
    except ImportError as error:
        raise MissingExtra("audioop-lts", extra="server") from error
    return audioop


def _rate_hz(audio_format: AudioFormat) -> int:
    return bytes_per_ms(audio_format) * 1000 // sample_width(audio_format)


class _Source:
    """How far one item's audio has been converted: deltas of two items may take turns."""

    __slots__ = ("half", "made", "resampler", "taken")

    def __init__(self) -> None:
        self.half = b""
        self.resampler: Any = None
        self.taken = 0  # samples that came
        self.made = 0  # samples at 24 kHz that they have made


class FromSession:
    """Turn a session's output audio into PCM16 at 24 kHz, or count what it would be.

    Deltas need not hold whole samples: half of one is kept for the same source's next delta.

    Args:
        counting_only: Only `samples` will be called, which needs no codec.
    """

    def __init__(self, *, counting_only: bool = False) -> None:
        self._counting_only = counting_only
        self._by_format: dict[AudioFormat, dict[object, _Source]] = {}
        self.use(AudioPCM())

    def use(self, audio_format: AudioFormat) -> None:
        """Take note of the format of what follows.

        Raises:
            MissingExtra: The format needs audioop-lts, and it is not installed.
        """
        self._format = audio_format
        self._sources = self._by_format.setdefault(audio_format, {})
        self._width = sample_width(audio_format)
        self._rate_hz = _rate_hz(audio_format)
        needed = not self._counting_only and (self._width == 1 or self._rate_hz != RATE_HZ)
        self._audioop: ModuleType | None = load_audioop() if needed else None

    def forget(self) -> None:
        """Forget all sources: what follows begins anew."""
        for sources in self._by_format.values():
            sources.clear()

    def samples(self, audio: bytes, source: object) -> int:
        """Return how many samples at 24 kHz the audio makes, without converting it."""
        state = self._source(source)
        samples = len(self._whole(audio, state)) // self._width
        return samples if self._rate_hz == RATE_HZ else self._due(state, samples)

    def convert(self, audio: bytes, source: object) -> bytes:
        """Return the audio as PCM16 at 24 kHz.

        Args:
            audio: Audio in the session's format.
            source: What it belongs to; each source is converted on its own.
        """
        state = self._source(source)
        whole = self._whole(audio, state)
        if self._audioop is None:
            return whole
        decoder = _DECODERS.get(type(self._format))
        pcm: bytes = getattr(self._audioop, decoder)(whole, 2) if decoder else whole
        if self._rate_hz == RATE_HZ:
            return pcm
        first = state.resampler is None
        made, state.resampler = self._audioop.ratecv(
            pcm, 2, 1, self._rate_hz, RATE_HZ, state.resampler
        )
        # the resampler's first call falls a few samples short: it has no sample before the first
        missing = 2 * self._due(state, len(pcm) // 2) - len(made) if first else 0
        return bytes(max(0, missing)) + bytes(made)

    def _source(self, source: object) -> _Source:
        state = self._sources.get(source)
        if state is None:
            if len(self._sources) >= _REMEMBERED_SOURCES:
                del self._sources[next(iter(self._sources))]
            state = self._sources[source] = _Source()
        return state

    def _whole(self, audio: bytes, state: _Source) -> bytes:
        """Return whole samples, and keep the half that is left over."""
        if state.half:
            audio = state.half + audio
        odd = len(audio) % self._width
        state.half = audio[-odd:] if odd else b""
        return audio[:-odd] if odd else audio

    def _due(self, state: _Source, samples: int) -> int:
        """Return what so many more samples make at 24 kHz; fractions add up."""
        state.taken += samples
        due = state.taken * RATE_HZ // self._rate_hz - state.made
        state.made += due
        return due


class ToSession:
    """Turn recorded PCM16 at 24 kHz into a session's input format."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.audio_format = audio_format
        self._rate_hz = _rate_hz(audio_format)
        self._resampler: Any = None
        encoder = _ENCODERS.get(type(audio_format))
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

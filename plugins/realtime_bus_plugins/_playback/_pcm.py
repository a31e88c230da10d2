"""Between a session's audio formats and PCM16 at 24 kHz, which every sink and device here uses.

One inner format means that nothing changes for the player when a session changes its format,
and that the device is opened once. PCM16 at 24 kHz passes through untouched; G.711 is decoded by
`audioop`, and other rates are changed by `Resampler`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from realtime_bus import MissingExtra
from realtime_bus.audio import Resampler, sample_width
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
            import audioop  # noqa: PLC0415 - only G.711 needs it
    except ImportError as error:
        raise MissingExtra("audioop-lts", extra="audio") from error
    return audioop


def _rate_hz(audio_format: AudioFormat) -> int:
    return audio_format.rate if isinstance(audio_format, AudioPCM) else 8_000


class _Source:
    """How far one item's audio has been converted: deltas of two items may take turns."""

    __slots__ = ("certain", "half", "made", "resampler", "taken")

    def __init__(self) -> None:
        self.half = b""
        self.resampler: Resampler | None = None
        self.taken = 0  # samples that came
        self.made = 0  # samples at 24 kHz that they have made
        self.certain = 0  # how many of those will not change any more


class Converted(NamedTuple):
    """PCM16 at 24 kHz.

    Attributes:
        pcm: The samples.
        revised: So many at its beginning take the place of the last ones that the source was
            given: these were made as if silence followed.
    """

    pcm: bytes
    revised: int = 0


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
        decoder = _DECODERS.get(type(audio_format))
        self._decode: Callable[[bytes, int], bytes] | None = None
        if not self._counting_only:
            Resampler(self._rate_hz, RATE_HZ)  # complains now
            if decoder is not None:
                self._decode = getattr(load_audioop(), decoder)

    def forget(self) -> None:
        """Forget all sources: what follows begins anew."""
        for sources in self._by_format.values():
            sources.clear()

    def samples(self, audio: bytes, source: object) -> int:
        """Return how many samples at 24 kHz the audio makes, without converting it."""
        state = self._source(source)
        samples = len(self._whole(audio, state)) // self._width
        return samples if self._rate_hz == RATE_HZ else self._due(state, samples)

    def convert(self, audio: bytes, source: object) -> Converted:
        """Return the audio as PCM16 at 24 kHz, exactly as many samples as are due.

        Args:
            audio: Audio in the session's format.
            source: What it belongs to; each source is converted on its own.
        """
        state = self._source(source)
        whole = self._whole(audio, state)
        pcm = whole if self._decode is None else self._decode(whole, 2)
        if self._rate_hz == RATE_HZ:
            return Converted(pcm)
        if state.resampler is None:
            state.resampler = Resampler(self._rate_hz, RATE_HZ)
        revised = state.made - state.certain
        due = revised + self._due(state, len(pcm) // 2)
        certain = state.resampler.feed(pcm)
        state.certain += len(certain) // 2
        return Converted((certain + state.resampler.peek())[: 2 * due], revised)

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
        self._resampler = Resampler(RATE_HZ, _rate_hz(audio_format))
        encoder = _ENCODERS.get(type(audio_format))
        self._encode: Callable[[bytes, int], bytes] | None = (
            getattr(load_audioop(), encoder) if encoder else None
        )

    def convert(self, pcm: bytes) -> bytes:
        """Return the audio in the session's format; call it with consecutive audio.

        At another rate it lags by 4 ms (8 ms at 8 kHz).
        """
        pcm = self._resampler.feed(pcm)
        return pcm if self._encode is None else self._encode(pcm, 2)


class Recoding:
    """Turn one audio format into another; what is in the right one passes through untouched.

    Call it with consecutive audio in whole samples. Where the rate changes, what comes out lags.
    """

    def __init__(self, source: AudioFormat, target: AudioFormat) -> None:
        self.source = source
        self.target = target
        self._same = source == target
        self._rates_hz = _rate_hz(source), _rate_hz(target)
        self._width = sample_width(source)
        self._resampler = Resampler(*self._rates_hz)
        self._taken = self._made = 0  # samples
        decoder, encoder = _DECODERS.get(type(source)), _ENCODERS.get(type(target))
        self._decode: Callable[[bytes, int], bytes] | None = None
        self._encode: Callable[[bytes, int], bytes] | None = None
        if not self._same:
            self._decode = getattr(load_audioop(), decoder) if decoder else None
            self._encode = getattr(load_audioop(), encoder) if encoder else None

    @property
    def lag_ms(self) -> int:
        """How much of what was taken is still inside, in milliseconds, rounded up."""
        from_hz, to_hz = self._rates_hz
        return max(0, -(-1000 * (self._taken * to_hz - self._made * from_hz) // (from_hz * to_hz)))

    def convert(self, audio: bytes) -> bytes:
        """Return what comes out of so much more audio."""
        if self._same:
            return audio
        self._taken += len(audio) // self._width
        pcm = audio if self._decode is None else self._decode(audio, 2)
        return self._out(self._resampler.feed(pcm))

    def flush(self) -> bytes:
        """Return the rest, as if silence followed; what is converted next begins anew."""
        rest = b"" if self._same else self._out(self._resampler.flush())
        self._taken = self._made = 0
        return rest

    def _out(self, pcm: bytes) -> bytes:
        self._made += len(pcm) // 2
        return pcm if self._encode is None else self._encode(pcm, 2)

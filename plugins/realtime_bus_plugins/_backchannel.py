"""What tells a backchannel from an interruption: its words, and how long it sounds. Pure."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable

from realtime_bus.audio import bytes_per_ms
from realtime_bus.events import AudioFormat, AudioPCMA, AudioPCMU

_NOISE = re.compile(r"\[[^]]*\]|\([^)]*\)|\*[^*]*\*|<[^>]*>|[♪♫]+")  # [laughter], *sighs*
_WORD = re.compile(r"[\w'-]+")
_REPEATED = re.compile(r"(.+?)\1+")


class Words:
    """Judge transcripts by a list of words and phrases.

    Case, punctuation and repetition do not count ("Yeah, yeah.", "hahaha"), nor do the names of
    noises that transcribers put into brackets.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._phrases = {tuple(_words(phrase)) for phrase in phrases}
        self._longest = max(map(len, self._phrases), default=0)

    def cover(self, transcript: str, *, complete: bool = True) -> bool:
        """Tell whether there is nothing else in a transcript.

        Args:
            transcript: What was said; empty counts as nothing said.
            complete: Whether that is all. If not, the last word may be half of one, and the last
                words half of a phrase: they count as whole.
        """
        words = _words(transcript)
        at = 0
        while at < len(words):
            left = words[at:]
            longest = range(min(self._longest, len(left)), 0, -1)
            step = next((n for n in longest if tuple(left[:n]) in self._phrases), 0)
            if not step:
                return not complete and any(_begins(phrase, left) for phrase in self._phrases)
            at += step
        return True


def _begins(phrase: tuple[str, ...], words: list[str]) -> bool:
    """Tell whether words, the last of them perhaps half a word, are how a phrase begins."""
    *whole, half = words
    return (
        len(words) <= len(phrase)
        and phrase[: len(whole)] == tuple(whole)
        and phrase[len(whole)].startswith(half)
    )


def _words(text: str) -> list[str]:
    """Return the words of a text in their plainest form."""
    plain = _NOISE.sub(" ", text.casefold().replace("\u2019", "'"))
    return [unit for word in _WORD.findall(plain) if (unit := _unit(word))]


def _unit(word: str) -> str:
    """Return what a word repeats: "haha" is "ha", "mmm" is "m", and a word is itself."""
    bare = word.strip("-'")
    found = _REPEATED.fullmatch(bare)
    return found[1] if found else bare


# loudness

_FRAME_MS = 20
_KEPT_FRAMES = 60
_STRIDE = 4  # every fourth sample tells the level as well
_SPAN_DB = 25.0
_STEADY_DB = 8.0
_SILENCE_DB = -100.0


def _ulaw(code: int) -> int:
    code = ~code & 0xFF
    return (((code & 0xF) << 3) + 0x84 << (code >> 4 & 7)) - 0x84


def _alaw(code: int) -> int:
    code ^= 0x55
    exponent, mantissa = code >> 4 & 7, (code & 0xF) << 4
    return mantissa + 0x108 << exponent - 1 if exponent else mantissa + 8


_AMPLITUDES: dict[type, list[int]] = {
    AudioPCMU: [_ulaw(code) for code in range(256)],
    AudioPCMA: [_alaw(code) for code in range(256)],
}


class Loudness:
    """Tell whether somebody makes a sound, from the last 1.2 s of what a microphone gave.

    Sound is what lies in the upper half, in decibels, between the quietest and the loudest of it,
    and at most 25 dB below that. What is loud all the time is taken for sound: whoever asks must
    not miss anybody. Nothing is worked out before somebody asks.
    """

    def __init__(self) -> None:
        self._format: AudioFormat | None = None
        self._audio = bytearray()  # what no level is known of
        self._levels_db: deque[float] = deque(maxlen=_KEPT_FRAMES)

    def add(self, audio: bytes, audio_format: AudioFormat) -> None:
        """Take note of audio as it is sent."""
        if audio_format != self._format:
            self._format = audio_format
            self._audio.clear()
        self._audio += audio
        excess = len(self._audio) - bytes_per_ms(audio_format) * _FRAME_MS * _KEPT_FRAMES
        if excess > 0:
            del self._audio[: excess + excess % 2]  # whole samples

    @property
    def quiet_ms(self) -> int | None:
        """How long there has been no sound; None if nothing was ever sent."""
        self._work_out()
        if not self._levels_db:
            return None
        quietest, loudest = min(self._levels_db), max(self._levels_db)
        if loudest - quietest < _STEADY_DB:
            return 0 if loudest > _SILENCE_DB else len(self._levels_db) * _FRAME_MS
        threshold = max((quietest + loudest) / 2, loudest - _SPAN_DB)
        frames = reversed(self._levels_db)
        return _FRAME_MS * next(n for n, level in enumerate(frames) if level > threshold)

    def _work_out(self) -> None:
        if self._format is None:
            return
        size = bytes_per_ms(self._format) * _FRAME_MS
        whole = len(self._audio) // size * size
        for at in range(0, whole, size):
            self._levels_db.append(_level_db(self._audio[at : at + size], self._format))
        del self._audio[:whole]


def _level_db(audio: bytearray, audio_format: AudioFormat) -> float:
    """Return the mean amplitude, in dB below full scale."""
    table = _AMPLITUDES.get(type(audio_format))
    if table is None:
        samples = memoryview(audio).cast("h")[::_STRIDE].tolist()
    else:
        samples = [table[code] for code in audio[::_STRIDE]]
    mean = sum(map(abs, samples)) / max(len(samples), 1)
    return 20 * math.log10(mean / 32_768) if mean else _SILENCE_DB

"""A voice: text goes in, clauses and their sound come out, so that the two run in step."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator

import anyio.to_thread
import msgspec

from ._espeak import VoiceSettings, speak
from ._resample import Resampler

__all__ = ["Spoken", "Voice", "split_text", "voice_named"]

_RATE_HZ = 24_000
_LONGEST_CLAUSE = 120
"""Characters that are synthesized at once, about eight seconds: what others wait for at most."""

# up to a stop, with its closing quotes and the spaces after it; the second kind of stop (full
# width, in Chinese and Japanese) needs no space after it
_CLAUSE = re.compile(
    r".+?(?:[.!?\u2026:;,]+[\"'\u201d\u2019)\]]*(?:\s+|\Z)"
    r"|[\u3002\uff01\uff1f\uff1b\uff0c\u3001]+\s*|\n\s*|\Z)",
    re.DOTALL,
)
_SHORT_ENOUGH = re.compile(
    rf".{{1,{_LONGEST_CLAUSE}}}(?:\s+|\Z)|.{{1,{_LONGEST_CLAUSE}}}", re.DOTALL
)
# control characters are commands to eSpeak, and a NUL ends the text
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")


class Spoken(msgspec.Struct, frozen=True):
    """A clause and its sound.

    Attributes:
        text: The words, with the spaces after them: the pieces of a text join to the text.
        pcm: PCM16 mono, 24 kHz, little-endian; empty where there is nothing to say.
    """

    text: str
    pcm: bytes


class Voice:
    """Somebody who can speak, by eSpeak NG.

    A voice has no state of its own; any number may be used from any threads, and take turns.

    Args:
        name: eSpeak's voice: a language (``"en-us"``), a variant after a plus sign
            (``"en-us+f3"``); British English is ``"en"`` to eSpeak, and ``"en-gb"`` to us too.
        rate_wpm: Words a minute, 80 to 450.
        pitch: How high, 0 to 100.
        pitch_range: How lively, 0 to 100.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        name: str = "en-us",
        *,
        rate_wpm: int = 175,
        pitch: int = 50,
        pitch_range: int = 50,
    ) -> None:
        _check("rate_wpm", rate_wpm, 80, 450)
        _check("pitch", pitch, 0, 100)
        _check("pitch_range", pitch_range, 0, 100)
        self.settings = VoiceSettings(
            name=_espeak_name(name), rate_wpm=rate_wpm, pitch=pitch, pitch_range=pitch_range
        )

    def __repr__(self) -> str:
        return f"Voice({self.settings.name!r})"

    def synthesize(self, text: str) -> Iterator[Spoken]:
        """Speak a text, clause by clause; blocks some milliseconds a clause.

        Raises:
            MissingExtra: espeakng-loader is not installed, or does not work here.
            ValueError: eSpeak has no voice of this name.
        """
        return (self._spoken(clause) for clause in split_text(text))

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        """Speak a text, clause by clause, in a worker thread; raises as `synthesize` does.

        Whoever leaves early closes it (`contextlib.aclosing`).
        """
        for clause in split_text(text):
            yield await anyio.to_thread.run_sync(self._spoken, clause)

    def _spoken(self, clause: str) -> Spoken:
        words = _UNSPEAKABLE.sub(" ", clause).strip()
        if not words:
            return Spoken(clause, b"")
        pcm, rate_hz = speak(words, self.settings)
        resampler = Resampler(rate_hz, _RATE_HZ)
        return Spoken(clause, resampler.feed(pcm) + resampler.flush())


def _espeak_name(name: str) -> str:
    """Return what eSpeak calls a voice; it files British English under ``en``."""
    language, plus, variant = name.partition("+")
    return {"en-gb": "en"}.get(language.lower(), language) + plus + variant


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")


_VOICES: dict[str, Voice] = {
    "marin": Voice("en-gb+f2", rate_wpm=170, pitch=55),
    "cedar": Voice("en-gb", rate_wpm=165, pitch=35),
    "alloy": Voice("en-us", rate_wpm=175, pitch=50),
    "ash": Voice("en-us+m3", rate_wpm=175, pitch=40),
    "ballad": Voice("en-gb+m2", rate_wpm=155, pitch=45, pitch_range=70),
    "coral": Voice("en-us+f3", rate_wpm=180, pitch=60),
    "echo": Voice("en-us+m4", rate_wpm=170, pitch=35),
    "sage": Voice("en-us+f1", rate_wpm=165, pitch=50),
    "shimmer": Voice("en-us+f4", rate_wpm=180, pitch=70),
    "verse": Voice("en-gb+m7", rate_wpm=170, pitch=45),
}


def voice_named(name: str) -> Voice:
    """Return the voice that stands for one of the protocol's voices (``"marin"``, …).

    An unknown name gets marin's.
    """
    return _VOICES.get(name, _VOICES["marin"])


def split_text(text: str) -> list[str]:
    """Split a text into clauses of some seconds each; joined, they are the text again."""
    clauses: list[str] = _CLAUSE.findall(text)
    return [piece for clause in clauses for piece in _SHORT_ENOUGH.findall(clause)]

"""How words sound in a test: at once and alike each time, or as people do.

The instant voice hums: each word for as long as its letters take at about 150 words a minute, so
that what was heard of a text is known to the word. The real one is eSpeak's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Literal, TypeAlias
from zlib import crc32

from realtime_bus.server import EnergyDetector, SileroDetector, SpeechDetector, Spoken, Voice

Voices: TypeAlias = Literal["instant", "real"]

BYTES_PER_MS = 48  # PCM16, 24 kHz
_LETTER_MS = 65

DETECTORS: dict[Voices, type[SpeechDetector]] = {
    "instant": EnergyDetector,
    "real": SileroDetector,
}
"""What hears each kind of voice."""


async def speak(text: str, voices: Voices, voice: Voice) -> AsyncGenerator[Spoken, None]:
    """Say a text, piece by piece: by words with the instant voice, by clauses with a real one.

    Whoever leaves early closes it (`contextlib.aclosing`).
    """
    if voices == "real":
        async for spoken in voice.speak(text):
            yield spoken
        return
    for word in _words(text):
        yield Spoken(word, _hum(word, seed=crc32(text.encode())))


def _words(text: str) -> list[str]:
    """Split a text into words, each with the space that follows it."""
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + words[-1:]


def _hum(word: str, *, seed: int) -> bytes:
    """Return a square wave, other ones for other texts: what was said can be told from it."""
    half = 6 + seed % 19  # samples: 500 to 2000 Hz
    peak = 8_000 + (seed >> 8) % 8_000
    wave = peak.to_bytes(2, "little") * half + (-peak).to_bytes(2, "little", signed=True) * half
    length = len(word) * _LETTER_MS * BYTES_PER_MS
    return (wave * (length // len(wave) + 1))[:length]


def heard_words(pieces: Sequence[tuple[str, float]], heard_ms: float) -> str:
    """Return what has been said of a text after so long, in whole words.

    Args:
        pieces: What was said piece by piece, and how long each took in milliseconds. Within a
            piece, words are taken to be evenly long.
        heard_ms: How much of the sound was heard.
    """
    said = ""
    for text, length_ms in pieces:
        if heard_ms < length_ms:
            words = _words(text.strip())
            return (said + "".join(words[: int(heard_ms / length_ms * len(words))])).strip()
        heard_ms -= length_ms
        said += text
    return said.strip()

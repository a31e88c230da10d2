"""A voice: text goes in, clauses and their sound come out, so that the two run in step.

The voice is eSpeak NG through ctypes, from the library and the data that `espeakng-loader`
carries. eSpeak is one object with global state in the whole process, and not safe to share: one
lock is held from choosing the voice until the last sample.
"""

from __future__ import annotations

import atexit
import ctypes
import re
import tempfile
import threading
from collections.abc import AsyncGenerator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from anyio.lowlevel import RunVar

from realtime_bus.audio import Resampler
from realtime_bus.errors import MissingExtra, UsageError

_RATE_HZ = 24_000
_LONGEST_CLAUSE = 120
"""Characters that are synthesized at once, about eight seconds: what others wait for at most."""

# up to a stop, with its closing quotes and the spaces after it; the second kind of stop (full
# width, in Chinese and Japanese) needs no space after it
_CLAUSE = re.compile(
    r".+?(?:[.!?\u2026:;,]++[\"'\u201d\u2019)\]]*+(?:\s++|\Z)"
    r"|[\u3002\uff01\uff1f\uff1b\uff0c\u3001]++\s*+|\n\s*+|\Z)",
    re.DOTALL,
)
_WHOLE_WORDS = re.compile(r".*\s", re.DOTALL)
# where a speaker breathes: at a stop or a new line, not where a clause was cut for its length
_LONGEST_BREATH = 16  # characters
_BREATH = re.compile(
    r"(?:[.!?\u2026:;,\u3002\uff01\uff1f\uff1b\uff0c\u3001][\"'\u201d\u2019)\]]*+|\n)\s*+\Z"
)
# control characters are commands to eSpeak, and a NUL ends the text
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")


class Spoken(msgspec.Struct, frozen=True):
    """A clause and its sound.

    Attributes:
        text: The words, with the spaces after them: the pieces of a text join to the text.
        pcm: PCM16 mono, 24 kHz, little-endian, with the pause that belongs after the words unless
            they are the text's last; empty where there is nothing to say.
    """

    text: str
    pcm: bytes


class _Settings(msgspec.Struct, frozen=True):
    """How eSpeak is to sound; see `Voice`."""

    name: str
    rate_wpm: int
    pitch: int
    pitch_range: int


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
        UsageError: A number is out of its range.
    """

    def __init__(
        self,
        name: str = "en-us",
        *,
        rate_wpm: int = 175,
        pitch: int = 50,
        pitch_range: int = 50,
    ) -> None:
        for what, value, least, most in (
            ("rate_wpm", rate_wpm, 80, 450),
            ("pitch", pitch, 0, 100),
            ("pitch_range", pitch_range, 0, 100),
        ):
            if not least <= value <= most:
                raise UsageError(f"{what} must be from {least} to {most}, not {value}")
        language, plus, variant = name.partition("+")
        language = "en" if language.lower() == "en-gb" else language  # as eSpeak files it
        self.settings: _Settings = _Settings(
            language + plus + variant, rate_wpm, pitch, pitch_range
        )

    def __repr__(self) -> str:
        return f"Voice({self.settings.name!r})"

    def synthesize(self, text: str) -> Iterator[Spoken]:
        """Speak a text, clause by clause; blocks some milliseconds a clause.

        Raises:
            MissingExtra: espeakng-loader is not installed, or does not work here.
            UsageError: eSpeak has no voice of this name.
        """
        return (self._spoken(*piece) for piece in _with_pauses(text))

    async def speak(self, text: str) -> AsyncGenerator[Spoken, None]:
        """Speak a text, clause by clause, in a worker thread; raises as `synthesize` does.

        Whoever leaves early closes it (`contextlib.aclosing`).
        """
        for piece in _with_pauses(text):
            yield await anyio.to_thread.run_sync(self._spoken, *piece, limiter=_one_at_a_time())

    def _spoken(self, clause: str, pauses: bool) -> Spoken:
        words = _UNSPEAKABLE.sub(" ", clause).strip()
        if not words:
            return Spoken(clause, b"")
        pcm, rate_hz = _speak(words, self.settings, pauses=pauses)
        resampler = Resampler(rate_hz, _RATE_HZ, piece_ms=1000)
        return Spoken(clause, resampler.feed(pcm) + resampler.flush())


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


def split_text(text: str) -> Iterator[str]:
    """Split a text into clauses of some seconds each; joined, they are the text again.

    Each is looked for in the next `_LONGEST_CLAUSE` characters only, and when it is wanted: what
    a text costs is proportional to its length, whatever it is, and never due at once.
    """
    start = 0
    while start < len(text):
        end = min(start + _LONGEST_CLAUSE, len(text))
        clause = _CLAUSE.match(text, start, end)
        if clause is not None and clause.end() < end:
            end = clause.end()
        elif end < len(text) and (words := _WHOLE_WORDS.match(text, start, end)) is not None:
            end = words.end()
        yield text[start:end]
        start = end


def _with_pauses(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each clause of a text, and whether a pause belongs after it: before another one."""
    held: list[str] = []  # the last clause, and blanks after it
    for clause in split_text(text):
        if held and clause.strip():
            yield held[0], _BREATH.search(held[0][-_LONGEST_BREATH:]) is not None
            yield from ((blank, False) for blank in held[1:])
            held = []
        held.append(clause)
    yield from ((clause, False) for clause in held)


# eSpeak

# constants of speak_lib.h
_OUTPUT_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000  # without it, eSpeak ends the process when it finds no data
_TEXT_IS_UTF8 = 1
_END_PAUSE = 0x1000
"""Keep the pause after the text: some 150 ms for a comma, 220 for a colon, 300 for a sentence."""
_RATE, _PITCH, _RANGE = 1, 3, 4

_LONGEST_DATA_PATH = 120
"""eSpeak keeps the path of its data in 160 bytes, file names included, and cuts what is longer."""

_LOCK = threading.Lock()

_LIMITER = RunVar[anyio.CapacityLimiter]("_LIMITER")


def _one_at_a_time() -> anyio.CapacityLimiter:
    """Return what waits for the lock in place of the application's worker threads."""
    limiter = _LIMITER.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(1)
        _LIMITER.set(limiter)
    return limiter


def _speak(text: str, settings: _Settings, *, pauses: bool) -> tuple[bytes, int]:
    """Return a text as PCM16 mono, and its sample rate in Hz.

    Raises:
        MissingExtra: espeakng-loader is not installed, or does not work here.
        UsageError: eSpeak has no voice of this name.
    """
    with _LOCK:
        engine = _engine()
        engine.use(settings)
        return engine.say(text, pauses=pauses), engine.rate_hz


class _Engine:
    """The library, started; hold the lock."""

    def __init__(self, library: Any, data_path: str) -> None:
        self._library = library
        self._samples = bytearray()
        size, flags, count, pointer = ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p
        library.espeak_Initialize.argtypes = [count, count, ctypes.c_char_p, count]
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p, size, flags, count, flags, flags, pointer, pointer,
        ]  # fmt: skip  # one line as in speak_lib.h
        self.rate_hz: int = library.espeak_Initialize(
            _OUTPUT_SYNCHRONOUS, 0, data_path.encode(), _DO_NOT_EXIT
        )
        if self.rate_hz <= 0:
            raise OSError(f"eSpeak NG did not start with its data in {data_path}")
        # kept, because C holds no reference to it
        self._callback = _SYNTH_CALLBACK(self._collect)
        library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._samples += ctypes.string_at(samples, count * 2)
        return 0  # go on

    def use(self, settings: _Settings) -> None:
        if self._library.espeak_SetVoiceByName(settings.name.encode()) != 0:
            raise UsageError(f"eSpeak NG has no voice {settings.name!r}; try 'en-us' or 'en-us+f3'")
        self._library.espeak_SetParameter(_RATE, settings.rate_wpm, 0)
        self._library.espeak_SetParameter(_PITCH, settings.pitch, 0)
        self._library.espeak_SetParameter(_RANGE, settings.pitch_range, 0)

    def say(self, text: str, *, pauses: bool) -> bytes:
        self._samples.clear()
        encoded = text.encode("utf-8", "replace")
        flags = _TEXT_IS_UTF8 | (_END_PAUSE if pauses else 0)
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, flags, None, None)
        self._library.espeak_Synchronize()
        return bytes(self._samples)


_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


@cache
def _engine() -> _Engine:
    try:
        import espeakng_loader  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]  # optional; ships no types

        library = ctypes.CDLL(espeakng_loader.get_library_path())
        return _Engine(library, _short_path(espeakng_loader.get_data_path()))
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingExtra("espeakng-loader", extra="server") from error


def _short_path(data_path: str) -> str:
    """Return a path that eSpeak can hold: a link to the data, if their own path is too long."""
    if len(data_path.encode()) <= _LONGEST_DATA_PATH:
        return data_path
    folder = tempfile.TemporaryDirectory(prefix="espeak-")
    atexit.register(folder.cleanup)  # eSpeak opens dictionaries as it needs them
    link = Path(folder.name) / "data"
    link.symlink_to(data_path, target_is_directory=True)
    return str(link)

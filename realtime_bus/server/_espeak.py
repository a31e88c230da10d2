"""eSpeak NG through ctypes, from the library and the data that `espeakng-loader` carries.

eSpeak is one object with global state in the whole process, and not safe to share: one lock
is held from choosing the voice until the last sample.
"""

from __future__ import annotations

import atexit
import ctypes
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from realtime_bus.errors import MissingExtra

__all__ = ["VoiceSettings", "speak"]

# constants of speak_lib.h
_OUTPUT_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000  # without it, eSpeak ends the process when it finds no data
_TEXT_IS_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4

_LONGEST_DATA_PATH = 120
"""eSpeak keeps the path of its data in 160 bytes, file names included, and cuts what is longer."""

_LOCK = threading.Lock()


class VoiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How eSpeak is to sound; see `realtime_bus.server.Voice`."""

    name: str
    rate_wpm: int
    pitch: int
    pitch_range: int


def speak(text: str, settings: VoiceSettings) -> tuple[bytes, int]:
    """Return a text as PCM16 mono, and its sample rate in Hz.

    Raises:
        MissingExtra: espeakng-loader is not installed, or does not work here.
        ValueError: eSpeak has no voice of this name.
    """
    with _LOCK:
        engine = _engine()
        engine.use(settings)
        return engine.say(text), engine.rate_hz


class _Engine:
    """The library, started; hold the lock."""

    def __init__(self, library: Any, data_path: str) -> None:
        self._library = library
        self._samples = bytearray()
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

    def use(self, settings: VoiceSettings) -> None:
        if self._library.espeak_SetVoiceByName(settings.name.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {settings.name!r}; try 'en-us' or 'en-us+f3'")
        wanted = ((_RATE, settings.rate_wpm), (_PITCH, settings.pitch))
        for parameter, value in (*wanted, (_RANGE, settings.pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)

    def say(self, text: str) -> bytes:
        self._samples.clear()
        encoded = text.encode("utf-8", "replace")
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _TEXT_IS_UTF8, None, None)
        self._library.espeak_Synchronize()
        return bytes(self._samples)


_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


@cache
def _engine() -> _Engine:
    try:
        import espeakng_loader  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]  # optional; ships no types

        library = _declare(ctypes.CDLL(espeakng_loader.get_library_path()))
        return _Engine(library, _short_path(espeakng_loader.get_data_path()))
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingExtra("espeakng-loader", extra="server") from error


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Tell ctypes the types that are not int."""
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    flags, position = ctypes.c_uint, ctypes.c_int
    library.espeak_Initialize.argtypes = [position, position, ctypes.c_char_p, position]
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, size, flags, position, flags, flags, pointer, pointer,
    ]  # fmt: skip  # one line as in speak_lib.h
    return library


def _short_path(data_path: str) -> str:
    """Return a path that eSpeak can hold: a link to the data, if their own path is too long."""
    if len(data_path.encode()) <= _LONGEST_DATA_PATH:
        return data_path
    folder = tempfile.TemporaryDirectory(prefix="espeak-")
    atexit.register(folder.cleanup)  # eSpeak opens dictionaries as it needs them
    link = Path(folder.name) / "data"
    link.symlink_to(data_path, target_is_directory=True)
    return str(link)

"""Opening a stream of PortAudio: PCM16, 24 kHz, mono, 20 ms at a time."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeAlias

from realtime_bus import MissingExtra, RealtimeBusError
from realtime_bus_plugins._playback import RATE_HZ

__all__ = ["CHUNK_MS", "Device", "NoSoundDevice", "open_stream"]

CHUNK_MS = 20
_STREAM = {
    "samplerate": RATE_HZ,
    "channels": 1,
    "dtype": "int16",
    "blocksize": RATE_HZ * CHUNK_MS // 1000,
}

Device: TypeAlias = int | str | None
"""A device by its number or (part of) its name; None is the system's default."""


class NoSoundDevice(RealtimeBusError):  # noqa: N818 - named for what it tells, as the core's
    """A microphone or loudspeaker could not be opened.

    Attributes:
        device: Which one was asked for; None for the default.
    """

    def __init__(self, message: str, *, device: Device = None) -> None:
        super().__init__(message)
        self.device = device


def _sounddevice() -> Any:
    """Return the module sounddevice, which has no types.

    Raises:
        MissingExtra: It is not installed.
        NoSoundDevice: It is, but the library PortAudio is not.
    """
    try:
        return importlib.import_module("sounddevice")
    except ImportError as error:
        raise MissingExtra("sounddevice", extra="devices") from error
    except OSError as error:
        raise NoSoundDevice(
            f"sounddevice cannot be used: {error}; install PortAudio "
            "(Debian and Ubuntu: the package libportaudio2)"
        ) from error


def open_stream(kind: str, device: Device, callback: Callable[..., None]) -> Any:
    """Open and start a stream of sounddevice.

    Raises:
        MissingExtra: The package sounddevice is not installed.
        NoSoundDevice: There is no such device, or it does not take 24 kHz mono.
    """
    sounddevice = _sounddevice()
    try:
        stream = getattr(sounddevice, kind)(
            **_STREAM, device=device, latency="low", callback=callback
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        name = "the default sound device" if device is None else f"sound device {device!r}"
        raise NoSoundDevice(
            f"{name} cannot be opened: {error}; list the devices with: python -m sounddevice",
            device=device,
        ) from error
    return stream

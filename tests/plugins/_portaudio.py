"""A PortAudio of the test's own: it drives the streams, and says what they take."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

import anyio


class PortAudioError(Exception):
    """What PortAudio complains about."""


class FakeStream:
    """A stream that the test drives."""

    latency = 0.0
    opened: list[FakeStream] = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self, kind: str, **settings: Any) -> None:
        device = SoundDevice.device
        if settings["device"] == "broken" or not device["takes"](
            settings["samplerate"], settings["channels"]
        ):
            raise PortAudioError("Invalid sample rate")
        self.kind = kind
        self.settings = settings
        self.state = "new"
        self.opened.append(self)

    def start(self) -> None:
        """Start, unless the device is taken."""
        if self.settings["device"] == "taken":
            raise PortAudioError("Device unavailable")
        self.state = "started"

    def abort(self) -> None:
        """Stop."""
        self.state = "aborted"

    def close(self) -> None:
        """Close."""
        self.state = "closed"

    def play(self, duration_ms: int, *, status: object = None) -> bytes:
        """Let the device take audio."""
        rate_hz, channels = self.settings["samplerate"], self.settings["channels"]
        frames = rate_hz * duration_ms // 1000
        out = bytearray(2 * channels * frames)
        self.settings["callback"](memoryview(out), frames, None, status)
        return bytes(out)

    def record(self, audio: bytes, *, status: object = None) -> None:
        """Let the device give audio, in a thread of its own."""
        frames = len(audio) // 2 // self.settings["channels"]
        thread = threading.Thread(
            target=self.settings["callback"], args=(memoryview(audio), frames, None, status)
        )
        thread.start()
        thread.join()

    def lose(self) -> None:
        """End by itself, as a device does that was unplugged."""
        thread = threading.Thread(target=self.settings["finished_callback"])
        thread.start()
        thread.join()


class SoundDevice(ModuleType):
    """What the plugin needs of sounddevice."""

    PortAudioError = PortAudioError
    device: Any = None
    reloaded = 0

    @staticmethod
    def query_devices(device: Any, kind: str) -> dict[str, Any]:
        """Describe the one device there is."""
        if device == "unknown" or SoundDevice.device is None:
            raise ValueError(f"No {kind} device matching {device!r}")
        return {
            "hostapi": 0,
            "default_samplerate": SoundDevice.device["rate_hz"],
            "max_input_channels": 2,
            "max_output_channels": 2,
        }

    @staticmethod
    def query_hostapis(number: int) -> dict[str, Any]:
        """Name what the system's sound is called."""
        return {"name": SoundDevice.device["host"]}

    @staticmethod
    def WasapiSettings(**settings: Any) -> Any:
        """Return them."""
        return settings

    @staticmethod
    def RawOutputStream(**settings: Any) -> FakeStream:
        """Open."""
        return FakeStream("output", **settings)

    @staticmethod
    def RawInputStream(**settings: Any) -> FakeStream:
        """Open."""
        return FakeStream("input", **settings)

    @staticmethod
    def _terminate() -> None:
        """Unload."""

    @staticmethod
    def _initialize() -> None:
        """Look for devices."""
        SoundDevice.reloaded += 1


def plug_in(
    *, rate_hz: int = 44_100, host: str = "ALSA", takes: Any = lambda rate_hz, channels: True
) -> None:
    """Have a device that takes these rates and channels; None of them for no device at all."""
    SoundDevice.device = {"rate_hz": rate_hz, "host": host, "takes": takes}


def unplug() -> None:
    """Have no device."""
    SoundDevice.device = None


async def opened(streams: list[FakeStream], count: int = 1) -> FakeStream:
    """Wait until so many streams were opened, and the last one runs."""
    with anyio.fail_after(60):
        while not (len(streams) >= count and streams[-1].state == "started"):  # noqa: ASYNC110 - a thread opens it
            await anyio.sleep(0.001)
    return streams[-1]


def wait_closed(stream: FakeStream) -> None:
    """Wait for the thread that closes it."""
    for thread in threading.enumerate():
        if thread.name.startswith("realtime-bus closes"):
            thread.join(5)
    assert stream.state == "closed"

"""Streams of PortAudio: opened at a rate that the device takes, watched, drained before closing.

The rules:

1. 24 kHz mono is asked for first: then nothing need be resampled here. A device that does not take
   it is opened at its own rate, then at those that every device has, with one channel, then two.
2. PortAudio is called by one thread at a time. Opening may take 300 ms the first time, and draining
   some 50: both are for a worker thread.
3. PortAudio's `stop` does not wait for what the sound server still holds (29 to 64 ms measured), so
   silence is played for as long before it.
4. PortAudio lists the devices once, when it is loaded. It is loaded anew where opening fails and
   nothing is open: the device may have come since.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, TypeAlias

from realtime_bus import MissingExtra, RealtimeBusError

Device: TypeAlias = int | str | None
"""A device by its number or (part of) its name; None is the system's default."""

Kind: TypeAlias = Literal["microphone", "speaker"]

_RATES_HZ = (48_000, 44_100)
_WANTED_HZ = 24_000
_STREAMS: dict[Kind, str] = {"microphone": "RawInputStream", "speaker": "RawOutputStream"}
_WAYS: dict[Kind, str] = {"microphone": "input", "speaker": "output"}
_calls = threading.Lock()
_open: set[Stream] = set()


class NoSoundDevice(RealtimeBusError):  # noqa: N818 - named for what it tells, as the core's
    """A microphone or loudspeaker could not be opened.

    Attributes:
        device: Which one was asked for; None for the default.
    """

    def __init__(self, message: str, *, device: Device = None) -> None:
        super().__init__(message)
        self.device = device


class Block(Protocol):
    """Called in PortAudio's thread with a buffer of PCM16, interleaved, and its frames."""

    def __call__(self, buffer: Any, frames: int, /) -> None:
        """Fill it, or read it."""


class Stream:
    """An open stream.

    Attributes:
        rate_hz: The rate that the device takes.
        channels: One or two.
        block_ms: How much audio goes over at a time.
        latency_s: What PortAudio says of the way between here and the device.
        xruns: How often the device had nothing to play, or recorded what nobody took in time.
        lost: Whether it has ended by itself.
    """

    def __init__(self, rate_hz: int, channels: int, block_ms: int) -> None:
        self.rate_hz = rate_hz
        self.channels = channels
        self.block_ms = block_ms
        self.latency_s: float = 0.0
        self.xruns = 0
        self.lost = False
        self.on_lost: Callable[[], object] = lambda: None
        self._raw: Any = None
        self._called_s = time.monotonic()
        self._closing = False

    def start(self, raw: Any) -> None:
        """Take PortAudio's stream, and start it; one that does not start is closed."""
        self._raw = raw
        try:
            raw.start()
        except BaseException:
            raw.close()
            raise
        self.latency_s = float(raw.latency)
        self._called_s = time.monotonic()

    def called(self, status: Any) -> None:
        """Note a call from PortAudio's thread."""
        self._called_s = time.monotonic()
        if status:
            self.xruns += 1

    def finished(self) -> None:
        """Note PortAudio's word that the stream has ended."""
        if not self._closing:
            self.lost = True
            self.on_lost()

    @property
    def idle_s(self) -> float:
        """How long ago the device last took or gave anything."""
        return time.monotonic() - self._called_s

    def close(self, *, drain: bool = False) -> None:
        """Close it; what was played is heard to its end if asked for. Blocks some milliseconds."""
        if drain and not self.lost:
            time.sleep(self.latency_s + 3 * self.block_ms / 1000)
        self._closing = True
        with _calls:
            _open.discard(self)
            try:
                self._raw.abort()
            finally:
                self._raw.close()


def open_stream(
    kind: Kind, device: Device, make: Callable[[Stream], Block], block_ms: int
) -> Stream:
    """Open and start a stream at the first rate and number of channels that the device takes.

    Args:
        kind: Which way.
        device: Which device.
        make: Returns what PortAudio is to call, for a stream of this rate and these channels.
        block_ms: How much audio goes over at a time.

    Raises:
        MissingExtra: The package sounddevice is not installed.
        NoSoundDevice: There is no PortAudio, or no such device, or it cannot be opened.
    """
    sounddevice = load_sounddevice()
    errors = (sounddevice.PortAudioError, ValueError)
    with _calls:
        try:
            return _opened(sounddevice, kind, device, make, block_ms)
        except errors as first:
            error: Exception = first
        if not _open and hasattr(sounddevice, "_initialize"):
            try:
                sounddevice._terminate()  # noqa: SLF001 - the package has no other way
                sounddevice._initialize()  # noqa: SLF001 - the same
                return _opened(sounddevice, kind, device, make, block_ms)
            except errors as second:
                error = second
    name = f"the default {kind}" if device is None else f"the {kind} {device!r}"
    why = "there is none" if str(error) == "Error querying device -1" else error
    raise NoSoundDevice(
        f"{name} cannot be opened: {why}; list the devices with: python -m sounddevice",
        device=device,
    ) from error


def load_sounddevice() -> Any:
    """Return sounddevice, which has no types.

    Raises:
        MissingExtra: It is not installed.
        NoSoundDevice: There is no PortAudio.
    """
    try:
        importlib.import_module("numpy")
        return importlib.import_module("sounddevice")
    except ImportError as error:
        raise MissingExtra(error.name or "sounddevice", extra="devices") from error
    except OSError as error:
        raise NoSoundDevice(
            f"sounddevice cannot be used: {error}; install PortAudio "
            "(Debian and Ubuntu: the package libportaudio2)"
        ) from error


def _opened(
    sounddevice: Any, kind: Kind, device: Device, make: Callable[[Stream], Block], block_ms: int
) -> Stream:
    info = sounddevice.query_devices(device, _WAYS[kind])
    settings = _host_settings(sounddevice, info)
    refused: Exception | None = None
    for rate_hz, channels in _ways(info, kind):
        stream = Stream(rate_hz, channels, block_ms)
        block = make(stream)

        def call(
            buffer: Any,
            frames: int,
            _time: Any,
            status: Any,
            stream: Stream = stream,
            block: Block = block,
        ) -> None:
            stream.called(status)
            block(buffer, frames)

        try:
            raw = getattr(sounddevice, _STREAMS[kind])(
                samplerate=rate_hz,
                channels=channels,
                dtype="int16",
                blocksize=rate_hz * block_ms // 1000,
                device=device,
                latency="low",
                extra_settings=settings,
                callback=call,
                finished_callback=stream.finished,
            )
            stream.start(raw)
        except (sounddevice.PortAudioError, ValueError) as error:
            refused = refused or error  # what was wrong with the first way says most
            continue
        _open.add(stream)
        return stream
    raise refused or ValueError("it has no channels")


def _ways(info: Any, kind: Kind) -> Iterator[tuple[int, int]]:
    """Yield rates and channels to try, best first."""
    own_hz = round(info["default_samplerate"])
    rates = dict.fromkeys((_WANTED_HZ, own_hz, *_RATES_HZ))
    most = info[f"max_{_WAYS[kind]}_channels"]
    for channels in (1, 2):
        if channels <= most:
            yield from ((rate_hz, channels) for rate_hz in rates)


def _host_settings(sounddevice: Any, info: Any) -> Any:
    """Return what WASAPI needs to convert by itself: in shared mode it has one rate alone."""
    host = sounddevice.query_hostapis(info["hostapi"])["name"]
    return sounddevice.WasapiSettings(auto_convert=True) if "WASAPI" in host else None

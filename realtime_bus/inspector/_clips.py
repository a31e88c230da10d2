"""Audio as a page carries it: small enough to be embedded, and ready to be drawn.

The rules:

1. A clip is mono at 16 kHz, as IMA ADPCM: four bits a sample, 8 kB a second.
2. It is cut into chunks of one second, so that a page decodes what it plays. Each stands by
   itself: predictor (signed, two bytes, little-endian), step index (one byte), a zero, and the
   samples, the high nibble first. A chunk that is silent is not there at all.
3. What is drawn are bins of 10 ms, two bytes each: the peak and the root mean square, 255 being
   full scale.
"""

from __future__ import annotations

import importlib
import struct
import warnings
from functools import cache
from typing import Any, Final

from realtime_bus import events as ev
from realtime_bus.audio import Resampler
from realtime_bus.errors import MissingExtra
from realtime_bus.events import AudioFormat, AudioPCMA, AudioPCMU
from realtime_bus.events import translation as tr
from realtime_bus.recording import Line, Received, Sent
from realtime_bus.recording._timeline._frames import Formats, Frames, part_of, rate_hz
from realtime_bus.recording._timeline._hearing import PartKey
from realtime_bus.recording._timeline._peaks import as_pcm

RATE_HZ: Final = 16_000
_BIN = RATE_HZ // 100
_SECOND = 2 * RATE_HZ  # bytes
_SILENCE: dict[type, bytes] = {AudioPCMU: b"\xff", AudioPCMA: b"\xd5"}
_MOST_BYTES = 1 << 24  # in a frame; the protocol allows 15 MiB
_SILENT = 2  # of 32768: what dithering leaves


class Clip:
    """One stream of audio, made as it comes.

    Args:
        audio: Whether it can be played; if not, it is only drawn.

    Attributes:
        chunks: Where in `adpcm` each second begins, in bytes; -1 if it is silent.
        adpcm: The chunks.
        bins: What is drawn.

    Raises:
        MissingExtra: The packages of the extra ``audio`` are not installed.
    """

    def __init__(self, *, audio: bool = True) -> None:
        self.chunks: list[int] = []
        self.adpcm: bytearray = bytearray()
        self.bins: bytearray = bytearray()
        self._numpy, self._audioop = _load()
        self._audio = audio
        self._samples = bytearray()  # at 16 kHz, less than a second
        self._state = (0, 0)
        self._format: AudioFormat | None = None
        self._resampler = Resampler(RATE_HZ, RATE_HZ)

    def add(self, audio: bytes, audio_format: AudioFormat, left_out_bytes: int | None) -> None:
        """Take more of it; of audio that was left out, only its length is known."""
        audio = audio or _SILENCE.get(type(audio_format), b"\0") * min(
            left_out_bytes or 0, _MOST_BYTES
        )
        if audio_format != self._format:
            self._take(self._resampler.flush())
            self._format = audio_format
            self._resampler = Resampler(rate_hz(audio_format), RATE_HZ, piece_ms=1000)
        pcm = as_pcm(audio, audio_format)
        self._take(self._resampler.feed(pcm[: len(pcm) // 2 * 2]))

    def finish(self) -> None:
        """Take what is left."""
        self._take(self._resampler.flush())
        if self._samples:
            self._chunk(bytes(self._samples))

    def _take(self, pcm: bytes) -> None:
        self._samples += pcm
        while len(self._samples) >= _SECOND:
            self._chunk(bytes(self._samples[:_SECOND]))
            del self._samples[:_SECOND]

    def _chunk(self, pcm: bytes) -> None:
        np = self._numpy
        samples = np.frombuffer(pcm, "<i2").astype("f4")
        samples = np.pad(samples, (0, -len(samples) % _BIN)).reshape(-1, _BIN) / 32768
        peaks = np.abs(samples).max(axis=1)
        levels = np.sqrt(np.square(samples).mean(axis=1))
        self.bins += (np.stack((peaks, levels), axis=1) * 255).clip(0, 255).astype("u1").tobytes()
        if not self._audio:
            return
        if self._audioop.max(pcm, 2) <= _SILENT:
            self.chunks.append(-1)
            self._state = (0, 0)
            return
        self.chunks.append(len(self.adpcm))
        self.adpcm += struct.pack("<hBx", *self._state)
        coded, self._state = self._audioop.lin2adpcm(pcm, 2, self._state)
        self.adpcm += coded


class Listening:
    """Makes clips of all audio.

    Attributes:
        person: What the person's side sent.
        parts: What the assistant generated.
    """

    def __init__(self, *, audio: bool) -> None:
        self._audio = audio
        self._read = Frames().event
        self._formats = Formats()
        self.person: Clip = Clip(audio=audio)
        self.parts: dict[PartKey, Clip] = {}

    def note(self, line: Line) -> None:
        """Take the audio of a line, if there is any."""
        if not isinstance(line, Received | Sent) or line.broken is not None:
            return
        event = self._read(line)
        match event:
            case ev.InputAudioBufferAppend() | tr.SessionInputAudioBufferAppend():
                self.person.add(event.audio, self._formats.input, line.audio_bytes)
            case ev.ResponseOutputAudioDelta() | tr.SessionOutputAudioDelta():
                key = part_of(event)
                if key not in self.parts:
                    self.parts[key] = Clip(audio=self._audio)
                self.parts[key].add(event.delta, self._formats.of(event), line.audio_bytes)
            case _:
                self._formats.see(event)


@cache
def _load() -> tuple[Any, Any]:
    """Return numpy and audioop, an extra's."""
    try:
        with warnings.catch_warnings():
            # audioop left the standard library in 3.13, and says so in 3.11 and 3.12: we know
            warnings.simplefilter("ignore", DeprecationWarning)
            return importlib.import_module("numpy"), importlib.import_module("audioop")
    except ImportError as error:
        raise MissingExtra(error.name or "numpy", extra="audio") from error

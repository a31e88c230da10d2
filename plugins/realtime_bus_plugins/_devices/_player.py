"""What a loudspeaker is given: a `Ribbon` at the device's own rate, with an end that fades out.

The rules:

1. What the device has taken counts as heard, to the sample: so many frames at its rate are so
   many samples at 24 kHz, rounded down. What the resampler looks at ahead does not count.
2. A flush is heard as a fade of 4 ms over what follows, be it silence or new audio: a hard cut
   clicks. The fade is no part of the account: 4 ms are heard that are not reported.
3. The lock is held for some 100 µs at most, for the device's thread waits for it.
4. A tap that raises is told of: a device whose thread is raised into would end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from realtime_bus.audio import PlayedItem, Resampler
from realtime_bus.events import AudioFormat
from realtime_bus.log import Repeats, get_logger
from realtime_bus_plugins._playback import RATE_HZ, Ribbon

FADE_MS = 4
_log = get_logger("realtime_bus.plugins.devices")
_PIECE_MS = 10
_PIECE = RATE_HZ * _PIECE_MS // 1000


class _Stage:
    """From the ribbon to the device's rate."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.given = 0
        self._resampler = Resampler(RATE_HZ, rate_hz, piece_ms=_PIECE_MS)
        self._ready = bytearray()

    def take(self, ribbon: Ribbon, frames: int) -> bytes:
        """Return what the device plays next."""
        self.given += frames
        if self.rate_hz == RATE_HZ:
            return ribbon.take(frames)
        while len(self._ready) < 2 * frames:
            self._ready += self._resampler.feed(ribbon.take(_PIECE))
        taken = bytes(self._ready[: 2 * frames])
        del self._ready[: 2 * frames]
        return taken

    def end(self, pcm: bytes) -> bytes:
        """Return what is on the way, and what is made of a little more."""
        return bytes(self._ready) + self._resampler.feed(pcm) + self._resampler.flush()


class Player:
    """Takes a session's audio, and gives it to a device. Safe to use from two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ribbon = Ribbon()
        self._stage = _Stage(RATE_HZ)
        self._origin = 0  # what had been heard when the stage began
        self._ending: tuple[_Stage, bytes] | None = None
        self._fade = b""
        self._taps: list[Callable[[bytes], object]] = []
        self._tap_resampler = Resampler(RATE_HZ, RATE_HZ)
        self._repeats = Repeats()

    # --- from the session --------------------------------------------------------------------

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of what is written next."""
        self._ribbon.start(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int) -> None:
        """Queue audio of an item."""
        with self._lock:
            self._ribbon.write(self._heard, audio, item_id=item_id, content_index=content_index)

    def flush(self) -> list[PlayedItem]:
        """Fall silent, and return every item that was playing or queued, in order."""
        with self._lock:
            now = self._heard
            sounding = self._ribbon.sounding(now)
            if sounding:
                self._ending = (self._stage, self._ribbon.take(RATE_HZ * FADE_MS // 1000))
            played = self._ribbon.flush(now)
            if sounding or self._stage.given:
                self._begin(self._stage.rate_hz, now)
            return played

    def positions(self) -> list[PlayedItem]:
        """Return the same as `flush` would, without stopping anything."""
        with self._lock:
            return self._ribbon.positions(self._heard)

    @property
    def dropped_bytes(self) -> int:
        """Audio that was not queued, for too much was already."""
        return self._ribbon.dropped_bytes

    @property
    def playing(self) -> bool:
        """Whether something is still to be taken by the device."""
        with self._lock:
            return self._ribbon.playing(self._heard)

    # --- to the device -----------------------------------------------------------------------

    def use(self, rate_hz: int) -> None:
        """Play on a device of this rate from now on."""
        with self._lock:
            if rate_hz != RATE_HZ:
                _Stage(rate_hz)  # loads what it needs now
            self._begin(rate_hz, max(self._heard, self._ribbon.first))
            self._ending, self._fade = None, b""
            self._tap_resampler = Resampler(rate_hz, RATE_HZ, piece_ms=_PIECE_MS)

    def add_tap(self, tap: Callable[[bytes], object]) -> Callable[[], None]:
        """Call a function with everything that the device is given; return what ends it.

        It is called in the device's thread, with PCM16 at 24 kHz.
        """
        self._taps = [*self._taps, tap]

        def remove() -> None:
            self._taps = [other for other in self._taps if other is not tap]

        return remove

    def fill(self, buffer: Any, frames: int, channels: int) -> None:
        """Fill a device's buffer: the queue, then silence."""
        with self._lock:
            pcm = self._stage.take(self._ribbon, frames)
            if self._ending is not None:
                stage, more = self._ending
                self._ending, self._fade = None, _faded(stage.end(more), stage.rate_hz)
            fade, self._fade = self._fade[: 2 * frames], self._fade[2 * frames :]
        if fade:
            pcm = _mixed(pcm, fade)
        buffer[:] = pcm if channels == 1 else _on_all(pcm, channels)
        if self._taps:
            heard = self._tap_resampler.feed(pcm)
            for tap in self._taps:
                try:
                    tap(heard)
                except Exception as error:  # noqa: BLE001  # somebody else's: rule 4
                    suppressed = self._repeats.due("tap", error=error)
                    if suppressed is not None:
                        _log.error("device.tap_failed", exc_info=error, **suppressed)

    @property
    def _heard(self) -> int:
        return self._origin + self._stage.given * RATE_HZ // self._stage.rate_hz

    def _begin(self, rate_hz: int, now: int) -> None:
        self._stage = _Stage(rate_hz)
        self._origin = now
        self._ribbon.turn_back(now)


def _faded(pcm: bytes, rate_hz: int) -> bytes:
    """Return the beginning, falling to silence along half a cosine."""
    import numpy as np  # noqa: PLC0415 - of the extra

    samples = np.frombuffer(pcm, "<i2")[: rate_hz * FADE_MS // 1000]
    ramp = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, len(samples) + 1) / (len(samples) + 1))
    return bytes(np.rint(samples * ramp).astype("<i2"))


def _mixed(pcm: bytes, other: bytes) -> bytes:
    """Return a sound with another, which is no longer, over its beginning."""
    import numpy as np  # noqa: PLC0415 - of the extra

    both = np.frombuffer(pcm, "<i2").astype("i4")
    both[: len(other) // 2] += np.frombuffer(other, "<i2")
    return bytes(np.clip(both, -32_768, 32_767).astype("<i2"))


def _on_all(pcm: bytes, channels: int) -> bytes:
    import numpy as np  # noqa: PLC0415 - of the extra

    return bytes(np.repeat(np.frombuffer(pcm, "<i2"), channels))

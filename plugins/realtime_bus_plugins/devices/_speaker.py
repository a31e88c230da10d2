"""The loudspeaker."""

from __future__ import annotations

import threading
from typing import Any, Self

from realtime_bus import Session
from realtime_bus.audio import PlayedItem
from realtime_bus.events import AudioFormat
from realtime_bus_plugins._playback import RATE_HZ, FromSession, Timeline, feed_sink

from ._open import Device, open_stream

__all__ = ["Speaker"]


class Speaker:
    """A sink and plugin that plays on a loudspeaker.

    The device is opened when the speaker is attached to a session, and closed with it; what is
    still queued then is not played: wait until `playing` is false to hear the end. What counts
    as played is what the device has taken, at most its own latency (some 10 to 50 ms) before a
    person hears it; after `flush` the device gets silence.

    Args:
        device: Which loudspeaker; None for the default.
    """

    def __init__(self, device: Device = None) -> None:
        self._device = device
        self._stream: Any = None
        # PortAudio calls from a thread of its own; nothing slow is done while holding the lock
        self._lock = threading.Lock()
        self._timeline = Timeline(rate_hz=RATE_HZ)
        self._converter = FromSession()
        self._queue = bytearray()
        self._taken = 0

    def attach(self, session: Session) -> None:
        """Play a session's output audio, on a device that is opened now.

        Raises:
            MissingExtra: The package sounddevice is not installed.
            NoSoundDevice: The device could not be opened.
        """
        self.open()
        feed_sink(session, self)
        session.on_close(self.close)

    def open(self) -> None:
        """Open the device; nothing happens if it is open.

        Raises:
            MissingExtra: The package sounddevice is not installed.
            NoSoundDevice: The device could not be opened.
        """
        if self._stream is None:
            self._stream = open_stream("RawOutputStream", self._device, self._wanted)

    def close(self) -> None:
        """Fall silent and close the device; nothing happens if it is closed."""
        self.flush()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
            stream.close()

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of the audio that follows.

        Raises:
            MissingExtra: The format must be decoded, and audioop-lts is missing (Python 3.13).
        """
        if audio_format != self._converter.audio_format:
            self._converter = FromSession(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Queue audio of an item behind what is already queued."""
        pcm = self._converter.convert(audio, (item_id, content_index))
        with self._lock:
            self._timeline.write(
                self._taken, len(pcm) // 2, item_id=item_id, content_index=content_index
            )
            self._queue.extend(pcm)

    def flush(self) -> list[PlayedItem]:
        """Fall silent now, and return every item that was playing or queued, in order."""
        with self._lock:
            self._queue.clear()
            return self._timeline.flush(self._taken)

    def positions(self) -> list[PlayedItem]:
        """Return the same as `flush` would, without stopping anything."""
        with self._lock:
            return self._timeline.positions(self._taken)

    @property
    def playing(self) -> bool:
        """Whether something can be heard now, or is queued to be."""
        with self._lock:
            return self._timeline.playing(self._taken)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _wanted(self, out: Any, frames: int, time: Any, status: Any) -> None:  # noqa: ARG002 - PortAudio's signature
        """Hand the device what it plays next: the queue, then silence."""
        with self._lock:
            audio = bytes(self._queue[: 2 * frames])
            del self._queue[: 2 * frames]
            self._taken += frames
        out[:] = audio.ljust(2 * frames, b"\0")

"""Where the demo is heard: in a file, and on a sound device if one is wanted."""

from __future__ import annotations

from typing import Any

from realtime_bus.session import Session
from realtime_bus.audio import AudioSink, PlayedItem
from realtime_bus.events import AudioFormat

__all__ = ["BothSinks"]


class BothSinks:
    """Plays on a device and keeps a record; what was heard is what the device says.

    Args:
        device: The sink that a person listens to. It is the plugin: it feeds this one.
        record: The sink that keeps what was heard.
    """

    def __init__(self, device: Any, record: AudioSink) -> None:
        self._device = device
        self._record = record

    def attach(self, session: Session) -> None:
        """Let both take part; each is fed by the session itself."""
        self._device.attach(session)
        self._record.attach(session)  # type: ignore[attr-defined]  # our sinks are plugins too

    def start(self, audio_format: AudioFormat) -> None:
        """Pass the format on."""
        self._device.start(audio_format)
        self._record.start(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Pass audio on."""
        self._device.write(audio, item_id=item_id, content_index=content_index)
        self._record.write(audio, item_id=item_id, content_index=content_index)

    def flush(self) -> list[PlayedItem]:
        """Silence the device first."""
        played: list[PlayedItem] = self._device.flush()
        self._record.flush()
        return played

    def positions(self) -> list[PlayedItem]:
        """Return what the device says."""
        played: list[PlayedItem] = self._device.positions()
        return played

    @property
    def playing(self) -> bool:
        """Whether the device plays."""
        return bool(self._device.playing)

"""The input audio buffer: at most how much the server can have in it.

The clock is the audio that was sent. A commit or clear of ours empties the buffer. A turn that
the server found takes what lies before its end; what came after stays.
"""

from __future__ import annotations

from realtime_bus import events as ev
from realtime_bus.audio import bytes_per_ms

from ._settings import SettingsKnown

__all__ = ["BufferKnown"]


class BufferKnown:
    """How much audio was sent, and up to where the server has taken it."""

    SEEN = (ev.InputAudioBufferSpeechStopped, ev.InputAudioBufferTimeoutTriggered)

    def __init__(self) -> None:
        self._sent_ms = 0.0
        self._taken_ms = 0.0

    @property
    def length_ms(self) -> float:
        """At most so much is in the buffer."""
        return self._sent_ms - self._taken_ms

    def see(self, event: ev.ServerEvent) -> None:
        """Take note of the end of a turn; its commit follows."""
        if isinstance(event, self.SEEN):
            self._taken_ms = max(self._taken_ms, min(self._sent_ms, event.audio_end_ms))

    def sent(self, event: ev.ClientEvent, settings: SettingsKnown) -> None:
        """Take note of audio, and of what empties the buffer."""
        if isinstance(event, ev.InputAudioBufferAppend):
            self._sent_ms += len(event.audio) / bytes_per_ms(settings.input_format)
        elif isinstance(event, ev.InputAudioBufferCommit | ev.InputAudioBufferClear):
            self._taken_ms = self._sent_ms

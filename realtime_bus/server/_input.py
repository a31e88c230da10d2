"""The input audio buffer: what the client has said and nobody has committed yet.

The rules
---------
* The clock is the audio received, in whole milliseconds since the session's first byte; see
  `_vad` for what it is good for. Audio is kept as it came, in the session's input format.
* Audio is heard some 300 ms at a time, so that a large append holds nobody else up. Until all
  of it was heard, the session handles no further client event.
* With turn detection, what lies further back than `IDLE_MS` is dropped while nobody speaks.
  Without, the buffer grows up to the server's limit; an append above it is refused whole.
* A commit by hand takes the whole buffer, at least 100 ms of it. A turn's end takes what lies
  between the turn's start and its end; what came before goes, what came after stays.
* Clearing empties the buffer and moves no clock.
* A change of the input format discards what is uncommitted: the two cannot be mixed.
"""

from __future__ import annotations

from collections.abc import Callable

from realtime_bus import events as ev
from realtime_bus.audio import bytes_per_ms, bytes_to_ms, ms_to_bytes

from ._audio import pcm_bytes_per_byte
from ._items import ItemAudio
from ._vad import SpeechDetector, SpeechStarted, SpeechStopped, TurnDetector, TurnSettings
from ._wire import InvalidRequest, invalid_value

HEARD_AT_ONCE_MS = 320
"""Ten looks of silero, some 20 ms of CPU: as long as others may have to wait."""

IDLE_MS = 30_000
"""Silence that stays in the buffer under turn detection, for whoever commits by hand."""

SHORTEST_COMMIT_MS = 100


class InputBuffer:
    """The uncommitted audio of one session, and its turn detector.

    Args:
        make_detector: Makes what tells speech from silence.
        audio_format: The session's input format.
        detection: The session's turn detection.
        max_bytes: The most that may be uncommitted, once it is PCM16 at 24 kHz.
    """

    def __init__(
        self,
        make_detector: Callable[[], SpeechDetector],
        *,
        audio_format: ev.AudioFormat | None,
        detection: ev.TurnDetection | None,
        max_bytes: int,
    ) -> None:
        self._settings = TurnSettings.of(detection)
        self._detector = TurnDetector(
            make_detector(), audio_format=audio_format, settings=self._settings
        )
        self._max_bytes = max_bytes
        self._format = audio_format
        self._unheard = bytearray()
        self._audio = bytearray()
        self._base_ms = 0  # where on the clock this format began
        self._dropped = 0  # bytes since then that are no longer in the buffer

    @property
    def audio_ms(self) -> int:
        """The session's clock: audio heard so far."""
        return self._detector.audio_ms

    @property
    def speaking(self) -> bool:
        """Whether a turn is open."""
        return self._detector.speaking

    @property
    def behind(self) -> bool:
        """Whether audio waits to be heard."""
        return bool(self._unheard)

    def configure(
        self, audio_format: ev.AudioFormat | None, detection: ev.TurnDetection | None
    ) -> None:
        """Take the session's new settings."""
        settings = TurnSettings.of(detection)
        if settings != self._settings:
            self._settings = settings
            self._detector.configure(settings)
        if audio_format != self._format:
            self.clear()
            self._detector.use_format(audio_format)
            self._format = audio_format
            self._base_ms, self._dropped = self.audio_ms, 0

    def append(self, audio: bytes) -> None:
        """Take audio; `hear` has to be called while `behind`.

        Raises:
            InvalidRequest: The buffer would be above its limit.
        """
        max_bytes = self._max_bytes // pcm_bytes_per_byte(self._format)
        if len(self._audio) + len(self._unheard) + len(audio) > max_bytes:
            message = f"The input buffer may hold {max_bytes} bytes; commit or clear it."
            raise invalid_value("audio", message)
        self._unheard += audio

    def hear(self) -> list[SpeechStarted | SpeechStopped]:
        """Hear the next stretch of what was appended; return what happened in it."""
        piece = bytes(self._unheard[: ms_to_bytes(HEARD_AT_ONCE_MS, self._format)])
        del self._unheard[: len(piece)]
        self._audio += piece
        happened = self._detector.feed(piece)
        if self._settings is not None and not self.speaking and not happened:
            self._drop(len(self._audio) - ms_to_bytes(IDLE_MS, self._format))
        return happened

    def _drop(self, length_bytes: int) -> None:
        length_bytes = min(len(self._audio), max(0, length_bytes))
        del self._audio[:length_bytes]
        self._dropped += length_bytes

    def _offset(self, at_ms: int) -> int:
        """Return where in the buffer a moment of the clock is."""
        at = ms_to_bytes(at_ms - self._base_ms, self._format) - self._dropped
        return min(len(self._audio), max(0, at))

    def take(self, start_ms: int, end_ms: int) -> ItemAudio:
        """Commit a stretch of the clock; what lies before it is gone too."""
        end = self._offset(end_ms)
        audio = bytes(self._audio[self._offset(start_ms) : end])
        self._drop(end)
        self._detector.commit(end_ms)
        return ItemAudio(audio, self._format)

    def commit(self) -> ItemAudio:
        """Commit everything, by hand.

        Raises:
            InvalidRequest: There are less than 100 ms.
        """
        if bytes_to_ms(len(self._audio), self._format) < SHORTEST_COMMIT_MS:
            raise InvalidRequest(
                "input_audio_buffer_commit_empty",
                "Error committing input audio buffer: buffer too small. Expected at least 100ms "
                f"of audio, but buffer only has {len(self._audio) / bytes_per_ms(self._format):.2f}"
                "ms of audio.",
            )
        committed = ItemAudio(bytes(self._audio), self._format)
        self.clear()
        return committed

    def clear(self) -> None:
        """Forget what is uncommitted, an open turn too."""
        self._drop(len(self._audio))
        self._detector.forget()
        self._detector.commit(self.audio_ms)

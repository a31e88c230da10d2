"""Input transcription: the words of user turns, whenever they are ready.

The rules
---------
* A committed turn is transcribed if the session asks for it at that moment. It takes its time:
  the result may come before or long after the reply, and turns may overtake each other.
* One delta with the whole text, then ``completed`` with the duration as usage, as whisper-1
  does; or ``failed``, and the session goes on.
* What was said is noted in the item, for whoever answers later.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

from msgspec.structs import replace

from realtime_bus import events as ev

from ._conversation import Conversation
from ._options import ServerOptions
from ._outbox import Outbox, Transcribe
from ._pcm import to_pcm24

__all__ = ["Transcriptions"]


class Transcriptions:
    """The transcriptions that are under way in one session.

    Args:
        out: Where events and commands go.
        conversation: Whose items are transcribed.
        options: The server's knobs.
    """

    def __init__(self, out: Outbox, conversation: Conversation, options: ServerOptions) -> None:
        self._out = out
        self._conversation = conversation
        self._options = options
        self._seconds: dict[str, float] = {}  # of the turns that were asked for
        self._results: list[tuple[float, int, str, str | None]] = []
        self._numbers = count()

    def ask(self, item_id: str, turn_index: int) -> None:
        """Have a user turn written down."""
        entry = self._conversation.find(item_id)
        sound = entry.sounds.get(0) if entry else None
        if sound is None:
            return
        self._seconds[item_id] = sound.length_ms / 1000
        audio = to_pcm24(bytes(sound.audio), sound.audio_format)
        self._out.order(Transcribe(item_id, turn_index, audio))

    def take(self, item_id: str, transcript: str | None) -> None:
        """Take a result; None is a failure. The client is told after the configured delay."""
        if item_id in self._seconds:
            due_s = self._out.now_s + self._options.transcription_delay_s
            heappush(self._results, (due_s, next(self._numbers), item_id, transcript))

    def next_deadline(self) -> float | None:
        """Return when the next result is to be told."""
        return self._results[0][0] if self._results else None

    def advance(self) -> None:
        """Tell the results that are due."""
        while self._results and self._results[0][0] <= self._out.now_s:
            _, _, item_id, transcript = heappop(self._results)
            seconds = self._seconds.pop(item_id, 0.0)
            if transcript is None or self._options.transcription_fails:
                self._failed(item_id)
            else:
                self._completed(item_id, transcript, seconds)

    def _completed(self, item_id: str, transcript: str, seconds: float) -> None:
        self._note(item_id, transcript)
        self._out.send(
            ev.ConversationItemInputAudioTranscriptionDelta(item_id=item_id, delta=transcript)
        )
        self._out.send(
            ev.ConversationItemInputAudioTranscriptionCompleted(
                item_id=item_id,
                transcript=transcript,
                usage=ev.DurationUsage(seconds=seconds),
            )
        )

    def _note(self, item_id: str, transcript: str) -> None:
        entry = self._conversation.find(item_id)
        if entry is not None and isinstance(entry.item, ev.MessageItem):
            entry.item = replace(entry.item, content=[ev.InputAudio(transcript=transcript)])

    def _failed(self, item_id: str) -> None:
        error = ev.TranscriptionError(
            type="transcription_error",
            code="audio_unintelligible",
            message="The audio could not be transcribed.",
        )
        self._out.send(
            ev.ConversationItemInputAudioTranscriptionFailed(item_id=item_id, error=error)
        )

"""Whose turn it is: what speech, silence and commits do to the conversation, and transcription.

The rules
---------
* Speech starts: ``speech_started`` with the id of an item to come; then, with
  ``interrupt_response``, the default conversation's response is cancelled (Realtime protocol,
  barge-in). One that has already been sent whole has ended, and nothing follows.
* Speech stops: ``speech_stopped``, ``committed``, the item's two events, and, with
  ``create_response``, a response. If one is still active, the client gets the usual error.
* A commit by hand makes the same item, under the announced id if a turn is open (which then
  gets no ``speech_stopped``), and starts no response.
* Idle: `idle_timeout_ms` after a response's end and the playing of its audio, if nobody spoke
  and nothing was started, ``timeout_triggered``, the silence is committed, and a response
  starts.
* A committed turn is transcribed if the session asks for it at that moment. It takes its time:
  the result may come before or long after the response, and turns may overtake each other.
* At most `MAX_ASKED` turns, and ``max_buffer_bytes`` of audio, wait to be written down; the
  transcription of one more fails, with ``rate_limit_exceeded``.
* One delta with the whole text, then ``completed`` with the duration as usage, as whisper-1
  does; or ``failed``, and the session goes on. What was said is noted in the item.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

from msgspec.structs import replace

from realtime_bus import events as ev

from ._config import SessionConfig
from ._conversation import DefaultConversation
from ._input import InputBuffer
from ._items import ItemAudio, StoredItem
from ._options import ServerOptions
from ._response import RunningResponse
from ._responses import ResponseTable
from ._vad import SpeechStarted, SpeechStopped
from ._wire import EncodedAudio, EventWriter, InvalidRequest, Transcribe

MAX_ASKED = 32


class UserTurns:
    """The user's turns in one session.

    Args:
        out: Where events go.
        config: The session's settings.
        buffer: The input buffer.
        conversation: Where turns become items.
        responses: What speech interrupts and turns start.
        transcriptions: Who writes turns down.
    """

    def __init__(
        self,
        out: EventWriter,
        config: SessionConfig,
        *,
        buffer: InputBuffer,
        conversation: DefaultConversation,
        responses: ResponseTable,
        transcriptions: Transcriptions,
    ) -> None:
        self._out = out
        self._config = config
        self._buffer = buffer
        self._conversation = conversation
        self._responses = responses
        self._transcriptions = transcriptions
        self._announced: str | None = None
        self._start_ms = 0
        self._count = 0
        self._idle_from_s: float | None = None
        responses.on_ended = self._response_ended

    # Speech

    def heard(self, happened: SpeechStarted | SpeechStopped) -> None:
        """React to what turn detection heard."""
        if isinstance(happened, SpeechStarted):
            self._started(happened.audio_start_ms)
        else:
            self._stopped(happened.audio_end_ms)

    def _started(self, start_ms: int) -> None:
        self._idle_from_s = None
        self._start_ms = start_ms
        item_id = self._announced = self._conversation.fresh_id()
        self._out.send(ev.InputAudioBufferSpeechStarted(audio_start_ms=start_ms, item_id=item_id))
        if self._config.interrupts_responses:
            self._responses.interrupt()

    def _stopped(self, end_ms: int) -> None:
        item_id = self._take_id()
        self._out.send(ev.InputAudioBufferSpeechStopped(audio_end_ms=end_ms, item_id=item_id))
        self._make_item(item_id, self._buffer.take(self._start_ms, end_ms))
        if self._config.creates_responses:
            self._respond()

    def _take_id(self) -> str:
        announced, self._announced = self._announced, None
        return self._conversation.fresh_id(wanted=announced)

    def _respond(self) -> None:
        """Start a response nobody asked for; a refusal is told, but belongs to no event."""
        try:
            self._responses.create()
        except InvalidRequest as refusal:
            self._out.send(refusal.to_event(None))

    def _make_item(self, item_id: str, audio: ItemAudio) -> None:
        item = ev.MessageItem(
            id=item_id,
            object="realtime.item",
            status="completed",
            role="user",
            content=[ev.InputAudio()],
        )
        stored = StoredItem(item, item_id)
        stored.audio[0] = audio
        last_id = self._conversation.last_id
        self._out.send(ev.InputAudioBufferCommitted(item_id=item_id, previous_item_id=last_id))
        self._conversation.add(stored)
        self._conversation.done(stored, item)
        if self._config.transcription is not None:
            self._transcriptions.ask(stored, self._count)
        self._count += 1

    # By hand

    def commit(self) -> None:
        """Commit the buffer because the client says so.

        Raises:
            InvalidRequest: There is too little in it.
        """
        committed = self._buffer.commit()
        self._make_item(self._take_id(), committed)

    def clear(self) -> None:
        """Empty the buffer because the client says so."""
        self._buffer.clear()
        self._announced = None
        self._out.send(ev.InputAudioBufferCleared())

    def settings_changed(self) -> None:
        """Take the session's new settings."""
        self._buffer.configure(self._config.input_format, self._config.turn_detection)
        if not self._buffer.speaking:
            self._announced = None

    # Idle

    def _response_ended(self, response: RunningResponse) -> None:
        self._idle_from_s = self._out.now_s + response.audio_ms / 1000

    def next_deadline(self) -> float | None:
        """Return when the model is to speak up, or None."""
        timeout_ms = self._config.idle_timeout_ms
        quiet = self._responses.active_id is None and not self._buffer.speaking
        if timeout_ms is None or self._idle_from_s is None or not quiet:
            return None
        return self._idle_from_s + timeout_ms / 1000

    def advance(self) -> None:
        """Have the model speak up if it is time."""
        deadline_s, timeout_ms = self.next_deadline(), self._config.idle_timeout_ms
        if deadline_s is None or timeout_ms is None or self._out.now_s < deadline_s:
            return
        self._idle_from_s = None
        end_ms = self._buffer.audio_ms
        start_ms = max(0, end_ms - timeout_ms)
        item_id = self._take_id()
        self._out.send(
            ev.InputAudioBufferTimeoutTriggered(
                audio_start_ms=start_ms, audio_end_ms=end_ms, item_id=item_id
            )
        )
        self._make_item(item_id, self._buffer.take(start_ms, end_ms))
        self._respond()


class Transcriptions:
    """The transcriptions that are under way in one session.

    Args:
        out: Where events and commands go.
        conversation: Whose items they are.
        options: The server's knobs.
    """

    def __init__(
        self, out: EventWriter, conversation: DefaultConversation, options: ServerOptions
    ) -> None:
        self._out = out
        self._conversation = conversation
        self._options = options
        self._asked: dict[str, tuple[StoredItem, int]] = {}
        self._asked_bytes = 0
        self._results: list[tuple[float, int, StoredItem, str | None]] = []
        self._numbers = count()

    def ask(self, stored: StoredItem, turn_index: int) -> None:
        """Have a user turn written down."""
        part = stored.audio[0]
        encoded = EncodedAudio(bytes(part.audio), part.audio_format)
        full = self._asked_bytes + encoded.pcm_bytes > self._options.max_buffer_bytes
        if full or len(self._asked) >= MAX_ASKED:
            message = "Too much waits to be transcribed; send slower."
            self._failed(stored.item_id, "rate_limit_exceeded", message)
            return
        self._asked[stored.item_id] = stored, encoded.pcm_bytes
        self._asked_bytes += encoded.pcm_bytes
        self._out.order(Transcribe(stored.item_id, turn_index, encoded))

    def take(self, item_id: str, transcript: str | None) -> None:
        """Take a result; None is a failure. The client is told after the configured delay."""
        if (asked := self._asked.pop(item_id, None)) is not None:
            stored, pcm_bytes = asked
            self._asked_bytes -= pcm_bytes
            due_s = self._out.now_s + self._options.transcription_delay_s
            heappush(self._results, (due_s, next(self._numbers), stored, transcript))

    def next_deadline(self) -> float | None:
        """Return when the next result is to be told."""
        return self._results[0][0] if self._results else None

    def advance(self) -> None:
        """Tell the results that are due."""
        while self._results and self._results[0][0] <= self._out.now_s:
            _, _, stored, transcript = heappop(self._results)
            if transcript is None or self._options.transcription_fails:
                self._failed(stored.item_id)
            else:
                self._completed(stored, transcript)

    def _completed(self, stored: StoredItem, transcript: str) -> None:
        if isinstance(stored.item, ev.MessageItem):
            part = ev.InputAudio(transcript=transcript)
            stored.item = replace(stored.item, content=[part])
            self._conversation.count(stored)
        item_id, seconds = stored.item_id, stored.audio[0].length_ms / 1000
        self._out.send(
            ev.ConversationItemInputAudioTranscriptionDelta(item_id=item_id, delta=transcript)
        )
        self._out.send(
            ev.ConversationItemInputAudioTranscriptionCompleted(
                item_id=item_id, transcript=transcript, usage=ev.DurationUsage(seconds=seconds)
            )
        )

    def _failed(
        self,
        item_id: str,
        code: str = "audio_unintelligible",
        message: str = "The audio could not be transcribed.",
    ) -> None:
        error = ev.TranscriptionError(type="transcription_error", code=code, message=message)
        self._out.send(
            ev.ConversationItemInputAudioTranscriptionFailed(item_id=item_id, error=error)
        )

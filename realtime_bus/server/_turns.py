"""Whose turn it is: what speech, silence and commits do to the conversation.

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
"""

from __future__ import annotations

from realtime_bus import events as ev

from ._config import SessionConfig
from ._conversation import Conversation
from ._entries import Entry, Sound
from ._input import Committed, InputBuffer
from ._outbox import Outbox
from ._refusals import Refusal
from ._reply import Reply
from ._responses import Responses
from ._transcription import Transcriptions
from ._vad import SpeechStarted, SpeechStopped

__all__ = ["Turns"]


class Turns:
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
        out: Outbox,
        config: SessionConfig,
        *,
        buffer: InputBuffer,
        conversation: Conversation,
        responses: Responses,
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
        item_id = self._announced = self._conversation.fresh_id(self._out.new_id)
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
        return self._conversation.fresh_id(self._out.new_id, wanted=announced)

    def _respond(self) -> None:
        """Start a response nobody asked for; a refusal is told, but belongs to no event."""
        try:
            self._responses.create()
        except Refusal as refusal:
            self._out.send(refusal.to_event(None))

    def _make_item(self, item_id: str, committed: Committed) -> None:
        item = ev.MessageItem(
            id=item_id,
            object="realtime.item",
            status="completed",
            role="user",
            content=[ev.InputAudio()],
        )
        entry = Entry(item, item_id)
        entry.sounds[0] = Sound(committed.audio, committed.audio_format)
        last_id = self._conversation.last_id
        self._out.send(ev.InputAudioBufferCommitted(item_id=item_id, previous_item_id=last_id))
        self.add(entry)
        if self._config.transcription is not None:
            self._transcriptions.ask(item_id, self._count)
        self._count += 1

    def add(self, entry: Entry, *, after: str | None = None) -> None:
        """Put a finished item into the conversation and tell.

        Raises:
            Refusal: It has no place there.
        """
        self._conversation.add(entry, after=after)
        before = entry.previous_item_id
        self._out.send(ev.ConversationItemAdded(item=entry.item, previous_item_id=before))
        self._out.send(ev.ConversationItemDone(item=entry.item, previous_item_id=before))

    # By hand

    def commit(self) -> None:
        """Commit the buffer because the client says so.

        Raises:
            Refusal: There is too little in it.
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

    def _response_ended(self, reply: Reply) -> None:
        self._idle_from_s = self._out.now_s + reply.audio_ms / 1000

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
        self._time_out(max(0, end_ms - timeout_ms), end_ms)

    def _time_out(self, start_ms: int, end_ms: int) -> None:
        item_id = self._take_id()
        self._out.send(
            ev.InputAudioBufferTimeoutTriggered(
                audio_start_ms=start_ms, audio_end_ms=end_ms, item_id=item_id
            )
        )
        self._make_item(item_id, self._buffer.take(start_ms, end_ms))
        self._respond()

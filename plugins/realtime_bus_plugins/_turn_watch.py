"""The turns of a session, as its events tell them: what feeds a `TurnLog`.

What is received counts from when its frame reached the session, and everything else from when it
happens. Interceptors take note, for what a handler sends because of an event comes after the event;
a turn's end is looked for in handlers, when its last event has been seen by those of the bus.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import anyio

from realtime_bus import Session
from realtime_bus import events as ev
from realtime_bus.audio import bytes_per_ms

from ._playback import PlaybackInterrupted, PlaybackStarted
from ._turns import TurnCompleted, TurnLog


class TurnWatch:
    """One session's turns.

    Args:
        session: The session.
        clock: Returns seconds; None for `Session.clock`.
        tell: Called with each turn that is over.

    Attributes:
        log: The turns.
        now_s: The time.
    """

    def __init__(
        self,
        session: Session,
        clock: Callable[[], float] | None,
        tell: Callable[[TurnCompleted], object],
    ) -> None:
        self.log: TurnLog = TurnLog()
        self.now_s: Callable[[], float] = clock or session.clock
        self._session = session
        self._tell = tell
        self._watching = False

    def subscribe(self) -> None:
        """Listen to the session."""
        session = self._session
        session.intercept(tuple(self._RECEIVED), self._receive, narrowed=True)
        session.intercept_outgoing(tuple(self._SENT), self._send)
        # by then the session knows whose response it is
        session.on(ev.ResponseCreated, narrowed=True)(self._created)
        session.on(*_MAY_END)(self._settle)

    def _receive(self, event: ev.Event, _session: Session) -> ev.Event:
        self._RECEIVED[type(event)](self, event)
        return event

    def _send(self, event: ev.ClientEvent, _session: Session) -> ev.ClientEvent:
        self._SENT[type(event)](self, event)
        return event

    def _settle(self, _event: ev.Event) -> None:
        for turn in self.log.settle(self.now_s()):
            self._tell(turn)
        if self.log.next_end_s() is not None and not self._watching:
            self._watching = True
            self._session.start_soon(self._watch)

    async def _watch(self) -> None:
        """Emit what is over once its audio has been played."""
        try:
            while (end_s := self.log.next_end_s()) is not None:
                await anyio.sleep(max(0.0, end_s - self.now_s()))
                for turn in self.log.settle(self.now_s()):
                    self._tell(turn)
        finally:
            self._watching = False

    # what is sent

    def _commit(self, _event: ev.InputAudioBufferCommit) -> None:
        self.log.input_ended("commit", self.now_s())

    def _create(self, event: ev.ConversationItemCreate) -> None:
        if isinstance(event.item, ev.MessageItem) and event.item.role == "user":
            self.log.input_ended("text", self.now_s(), event.item.id)

    def _respond(self, event: ev.ResponseCreate) -> None:
        if event.response is None or event.response.conversation != "none":
            self.log.asked(self.now_s())

    # what is received

    def _stopped(self, event: ev.InputAudioBufferSpeechStopped) -> None:
        self.log.input_ended("speech", self.now_s(), event.item_id)

    def _idle(self, event: ev.InputAudioBufferTimeoutTriggered) -> None:
        self.log.input_ended("idle", self.now_s(), event.item_id)

    def _committed(self, event: ev.InputAudioBufferCommitted) -> None:
        self.log.committed(event.item_id)

    def _created(self, event: ev.ResponseCreated) -> None:
        response_id = _id(event.response)
        if self._session.conversation.has_response(response_id):
            self.log.response_created(response_id, self.now_s())

    def _done(self, event: ev.ResponseDone) -> None:
        response_id = _id(event.response)
        self.log.response_done(
            response_id,
            event.response,
            self.now_s(),
            in_conversation=self._session.conversation.has_response(response_id),
        )

    def _text(self, event: ev.ResponseOutputTextDelta) -> None:
        self.log.text(event.response_id, self.now_s())

    def _audio(self, event: ev.ResponseOutputAudioDelta) -> None:
        audio_format = self._session.conversation.audio_format_of(event.response_id)
        length_s = len(event.delta) / bytes_per_ms(audio_format) / 1000
        self.log.audio(event.response_id, event.item_id, length_s, self.now_s())

    def _heard(self, event: PlaybackStarted) -> None:
        self.log.heard(event.response_id, self.now_s())

    def _interrupted(self, event: PlaybackInterrupted) -> None:
        cut = [item for item in event.items if item.discarded_ms or item.action != "left"]
        discarded_s = {item.item_id: item.discarded_ms / 1000 for item in cut}
        self.log.interrupted(discarded_s, event.latency_s, self.now_s())

    def _buffer_started(self, event: ev.OutputAudioBufferStarted) -> None:
        self.log.plays(event.response_id, self.now_s())

    def _buffer_stopped(self, event: ev.OutputAudioBufferStopped) -> None:
        self.log.silenced(event.response_id, self.now_s(), interrupted=False)

    def _buffer_cleared(self, event: ev.OutputAudioBufferCleared) -> None:
        self.log.silenced(event.response_id, self.now_s(), interrupted=True)

    def _lost(self, _event: ev.Reconnecting) -> None:
        self.log.connection_lost(self.now_s())

    def _closed(self, _event: ev.Closed) -> None:
        for turn in self.log.close(self.now_s()):
            self._tell(turn)

    _SENT: ClassVar[dict[type[ev.Event], Callable[[TurnWatch, Any], None]]] = {
        ev.InputAudioBufferCommit: _commit,
        ev.ConversationItemCreate: _create,
        ev.ResponseCreate: _respond,
    }
    _RECEIVED: ClassVar[dict[type[ev.Event], Callable[[TurnWatch, Any], None]]] = {
        ev.InputAudioBufferSpeechStopped: _stopped,
        ev.InputAudioBufferTimeoutTriggered: _idle,
        ev.InputAudioBufferCommitted: _committed,
        ev.ResponseDone: _done,
        ev.ResponseOutputTextDelta: _text,
        ev.ResponseOutputAudioDelta: _audio,
        PlaybackStarted: _heard,
        PlaybackInterrupted: _interrupted,
        ev.OutputAudioBufferStarted: _buffer_started,
        ev.OutputAudioBufferStopped: _buffer_stopped,
        ev.OutputAudioBufferCleared: _buffer_cleared,
        ev.Closed: _closed,
        ev.Reconnecting: _lost,
    }


_MAY_END = (
    ev.ResponseDone,
    ev.InputAudioBufferSpeechStopped,  # a new turn, for which an old one may have to go
    ev.InputAudioBufferTimeoutTriggered,
    ev.Reconnecting,
    PlaybackInterrupted,
    ev.OutputAudioBufferStopped,
    ev.OutputAudioBufferCleared,
)


def _id(response: object) -> str:
    """Return a response's id; empty where it has none, or was read as raw data."""
    match response:
        case ev.Response(id=str(response_id)):
            return response_id
        case _:
            return ""

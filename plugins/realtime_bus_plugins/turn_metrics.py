"""How fast the assistant answers: one `TurnCompleted` for every turn.

::

    bus = Bus(plugins=[sink, Interruption(sink), TurnMetrics()])


    @bus.on(TurnCompleted)
    async def show(turn: TurnCompleted) -> None:
        print(turn.heard_s, turn.interrupted, turn.usage)

The rules are in ``_turns.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import anyio

from realtime_bus import Session
from realtime_bus import events as ev
from realtime_bus.audio import bytes_per_ms

from ._playback import PlaybackInterrupted, PlaybackStarted
from ._turns import TurnCompleted, TurnLog, TurnOrigin

__all__ = ["TurnCompleted", "TurnMetrics", "TurnOrigin"]


class TurnMetrics:
    """Measure each turn of each session, and emit `TurnCompleted` when it is over.

    When an answer is heard, and whether it was cut off at the sink, is known from
    `Interruption` (put it before this plugin), or from the server's output buffer in calls.
    Without either, a turn is over when its audio would have been played.

    Args:
        clock: Returns seconds; any zero point. By default it is `Session.clock`.
    """

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock

    def attach(self, session: Session) -> None:
        """Watch a session. Called by the bus."""
        _Attached(session, self._clock).subscribe()


class _Attached:
    """One session's turns."""

    def __init__(self, session: Session, clock: Callable[[], float] | None) -> None:
        self._session = session
        self._now_s = clock or session.clock
        self._log = TurnLog()
        self._watching = False

    def subscribe(self) -> None:
        session = self._session
        # interceptors: what a handler sends because of an event comes after the event
        session.intercept(tuple(self._RECEIVED), self._receive, narrowed=True)
        session.intercept_outgoing(tuple(self._SENT), self._send)
        # handlers: by then the session knows whose response it is, and a turn's last event has
        # been seen by those of the bus
        session.on(ev.ResponseCreated, narrowed=True)(self._created)
        session.on(*_MAY_END)(self._settle)

    def _receive(self, event: ev.Event, _session: Session) -> ev.Event:
        self._RECEIVED[type(event)](self, event)
        return event

    def _send(self, event: ev.ClientEvent, _session: Session) -> ev.ClientEvent:
        self._SENT[type(event)](self, event)
        return event

    def _settle(self, _event: ev.Event) -> None:
        for turn in self._log.settle(self._now_s()):
            self._session.emit(turn)
        if self._log.next_end_s() is not None and not self._watching:
            self._watching = True
            self._session.start_soon(self._watch)

    async def _watch(self) -> None:
        """Emit what is over once its audio has been played."""
        try:
            while (end_s := self._log.next_end_s()) is not None:
                await anyio.sleep(max(0.0, end_s - self._now_s()))
                for turn in self._log.settle(self._now_s()):
                    self._session.emit(turn)
        finally:
            self._watching = False

    # what is sent

    def _commit(self, _event: ev.InputAudioBufferCommit) -> None:
        self._log.input_ended("commit", self._now_s())

    def _create(self, event: ev.ConversationItemCreate) -> None:
        if isinstance(event.item, ev.MessageItem) and event.item.role == "user":
            self._log.input_ended("text", self._now_s(), event.item.id)

    def _respond(self, event: ev.ResponseCreate) -> None:
        if event.response is None or event.response.conversation != "none":
            self._log.asked(self._now_s())

    # what is received

    def _stopped(self, event: ev.InputAudioBufferSpeechStopped) -> None:
        self._log.input_ended("speech", self._now_s(), event.item_id)

    def _idle(self, event: ev.InputAudioBufferTimeoutTriggered) -> None:
        self._log.input_ended("idle", self._now_s(), event.item_id)

    def _committed(self, event: ev.InputAudioBufferCommitted) -> None:
        self._log.committed(event.item_id)

    def _created(self, event: ev.ResponseCreated) -> None:
        response_id = _id(event.response)
        if self._session.conversation.has_response(response_id):
            self._log.response_created(response_id, self._now_s())

    def _done(self, event: ev.ResponseDone) -> None:
        response_id = _id(event.response)
        self._log.response_done(
            response_id,
            event.response,
            self._now_s(),
            in_conversation=self._session.conversation.has_response(response_id),
        )

    def _text(self, event: ev.ResponseOutputTextDelta) -> None:
        self._log.text(event.response_id, self._now_s())

    def _audio(self, event: ev.ResponseOutputAudioDelta) -> None:
        audio_format = self._session.conversation.audio_format_of(event.response_id)
        length_s = len(event.delta) / bytes_per_ms(audio_format) / 1000
        self._log.audio(event.response_id, event.item_id, length_s, self._now_s())

    def _heard(self, event: PlaybackStarted) -> None:
        self._log.heard(event.response_id, self._now_s())

    def _interrupted(self, event: PlaybackInterrupted) -> None:
        cut = [item.item_id for item in event.items if item.discarded_ms or item.action != "left"]
        self._log.interrupted(cut, event.latency_s, self._now_s())

    def _buffer_started(self, event: ev.OutputAudioBufferStarted) -> None:
        self._log.plays(event.response_id, self._now_s())

    def _buffer_stopped(self, event: ev.OutputAudioBufferStopped) -> None:
        self._log.silenced(event.response_id, self._now_s(), interrupted=False)

    def _buffer_cleared(self, event: ev.OutputAudioBufferCleared) -> None:
        self._log.silenced(event.response_id, self._now_s(), interrupted=True)

    def _closed(self, _event: ev.Closed | ev.Reconnecting) -> None:
        for turn in self._log.close():
            self._session.emit(turn)

    _SENT: ClassVar[dict[type[ev.Event], Callable[[_Attached, Any], None]]] = {
        ev.InputAudioBufferCommit: _commit,
        ev.ConversationItemCreate: _create,
        ev.ResponseCreate: _respond,
    }
    _RECEIVED: ClassVar[dict[type[ev.Event], Callable[[_Attached, Any], None]]] = {
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
        ev.Reconnecting: _closed,  # a response that had begun does not go on
    }


_MAY_END = (
    ev.ResponseDone,
    ev.InputAudioBufferSpeechStopped,  # a new turn, for which an old one may have to go
    ev.InputAudioBufferTimeoutTriggered,
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

"""When the model is asked to go on: a state machine beside `Rounds`, and as pure.

The rules (Realtime protocol, turn detection, and function calls):

1. A round whose calls are all answered is owed one ``response.create``. It is sent when the
   conversation's latest response has ended and no call of it is open: the model would talk about
   missing results. Calls of older responses are not waited for: the conversation has gone on
   without them. What several rounds are owed meanwhile is one response.
2. While somebody speaks, nobody is asked to talk over them. When they stop, and the server answers
   speech by itself (``create_response``), its response comes first.
3. A response of the conversation that begins when the server has confirmed all outputs has them
   in its context: it takes the place of the one that is owed. An output that is not confirmed yet
   may have come too late for it.
4. Whoever keeps the time may insist: what is owed is then asked for although the latest response
   or its calls have not ended, or a response that should begin has not begun. (The session's
   arbiter sends it when it can be sent.) Not while somebody speaks.

Memory is bounded: the last 256 outputs are known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from realtime_bus import events as ev

from ._calls import Call

__all__ = ["Pace"]

_MAX_OUTPUTS = 256


class Pace:
    """What the model is owed, and whether this is the moment.

    Attributes:
        owed: The answered calls that the model has not been asked to go on from.
    """

    def __init__(self) -> None:
        self.owed: tuple[Call, ...] = ()
        self._outputs: dict[str, None] = {}
        self._speaking = False
        self._answer_due = False  # the server's own, to what somebody has said
        self._answers_speech = True

    def see(self, event: ev.Event) -> None:
        """Take note of one of the events in `SEEN`."""
        self.SEEN[type(event)](self, event)

    def owe(self, calls: tuple[Call, ...]) -> None:
        """Take note that all calls of a response have been answered."""
        self.owed += calls

    def response_began(self) -> None:
        """Take note of a new response of the conversation."""
        self._answer_due = False
        if all(call.call_id in self._outputs for call in self.owed):
            self.owed = ()

    def release(self, *, busy: bool) -> tuple[Call, ...]:
        """Return the calls to go on from now, if it is time; they are owed no more.

        Args:
            busy: Whether the latest response is active, or a call of it open.
        """
        return () if busy or self._answer_due else self.insist()

    def insist(self) -> tuple[Call, ...]:
        """Return the calls to go on from, although something that was due has not come."""
        if self._speaking:
            return ()
        released, self.owed = self.owed, ()
        return released

    # events

    def _item_added(self, event: ev.ConversationItemAdded) -> None:
        if isinstance(event.item, ev.FunctionCallOutputItem):
            self._outputs[event.item.call_id] = None
            if len(self._outputs) > _MAX_OUTPUTS:
                del self._outputs[next(iter(self._outputs))]

    def _speech_started(self, _: ev.InputAudioBufferSpeechStarted) -> None:
        self._speaking, self._answer_due = True, False

    def _speech_stopped(self, _: ev.InputAudioBufferSpeechStopped) -> None:
        self._speaking, self._answer_due = False, self._answers_speech

    def _cleared(self, _: ev.InputAudioBufferCleared) -> None:
        self._speaking = self._answer_due = False

    def _configured(self, event: ev.SessionCreated | ev.SessionUpdated) -> None:
        # getattr: the echo is decoded leniently, so any part of it may be missing or raw data
        source = getattr(getattr(event.session, "audio", None), "input", None)
        detection = getattr(source, "turn_detection", None)
        if isinstance(detection, ev.UnknownObject):
            self._answers_speech = detection.data.get("create_response") is not False
        else:
            self._answers_speech = getattr(detection, "create_response", None) is not False
        if source is not None and detection is None:  # nobody will say that the speech is over
            self._speaking = self._answer_due = False

    SEEN: ClassVar[dict[type[ev.Event], Callable[[Pace, Any], None]]] = {
        ev.ConversationItemAdded: _item_added,
        ev.ConversationItemCreated: _item_added,
        ev.InputAudioBufferSpeechStarted: _speech_started,
        ev.InputAudioBufferSpeechStopped: _speech_stopped,
        ev.InputAudioBufferCleared: _cleared,
        ev.SessionCreated: _configured,
        ev.SessionUpdated: _configured,
    }
    """What is noted of each event that is looked at."""

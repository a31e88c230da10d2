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
4. The debt stays until a response that pays it, ours or the server's, has ended well: whatever it
   ended as, except ``failed``; one that was cancelled, somebody did not want. If it failed, or
   was refused, the model is asked anew after a second, then two, four … up to 60.
5. What one waits for may never come: a response that never ends or begins, calls that stay open,
   speech whose end nobody calls (a muted microphone). After `wait_s` in which nothing of it has
   changed, the model is asked all the same. (The session sends it when it can be sent.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from realtime_bus import ActiveSettings, ConversationState
from realtime_bus import events as ev

CallState: TypeAlias = Literal["held", "waiting", "running", "answered"]

PATIENCE_S = 15.0
"""How long, in seconds, the model is kept waiting for an event that ought to come first."""

SPEECH_PATIENCE_S = 60.0
"""How long it is kept waiting for the end of what somebody says."""

RESPONSE_PATIENCE_S = 120.0
"""How long it is kept waiting for the end of a response that has seen all outputs."""

_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 60.0
_MAX_OWED = 1024  # calls; one response pays for all of them


@dataclass(slots=True, kw_only=True)
class Call:
    """One call of a function, as the model wants it, and how far it has come.

    Attributes:
        response_id: The response that it is part of.
        call_id: What the output answers.
        name: Which function.
        arguments: Model text.
        status: The status of its item.
        state: How far it has come.
        ran: Whether it was run.
    """

    response_id: str
    call_id: str
    name: str
    arguments: str
    status: str | None = field(default=None, compare=False)
    state: CallState = field(default="held", compare=False)
    ran: bool = field(default=False, compare=False)


class FollowUps:
    """What the model is owed, and whether this is the moment.

    Args:
        conversation: Tells who speaks, and which outputs the server has confirmed.

    Attributes:
        owed: The answered calls that nothing has paid for yet.
        changes: Counts what has an influence: when it has changed, `wait_s` begins anew.
    """

    def __init__(self, conversation: ConversationState) -> None:
        self.owed: tuple[Call, ...] = ()
        self.changes = 0
        self._conversation = conversation
        self._asked = False  # a request of ours is under way
        self._paying: tuple[str, tuple[Call, ...]] = ("", ())  # an active response, and what for
        self._failures = 0
        self._pausing = False
        self._answer_due = False  # the server's own, to what somebody has said
        self._server_responds = True

    @property
    def wait_s(self) -> float | None:
        """How long to wait for a change before `waited` is called; None for as long as it takes."""
        if self._asked or not (self.owed or self._paying[1]):
            return None
        if self._paying[1]:
            return RESPONSE_PATIENCE_S
        if self._pausing:
            return float(min(_FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10), _MAX_PAUSE_S))
        return SPEECH_PATIENCE_S if self._conversation.user_speaking else PATIENCE_S

    def owe(self, calls: tuple[Call, ...]) -> None:
        """Take note that all calls of a response have been answered."""
        self.owed = (*self.owed, *calls)[-_MAX_OWED:]
        self.changes += 1

    def release(self, *, busy: bool) -> tuple[Call, ...]:
        """Return the calls to go on from now, if it is time; say `ended` when that has ended.

        Args:
            busy: Whether the latest response is active, or a call of it open.
        """
        wait = busy or self._answer_due or self._pausing or self._conversation.user_speaking
        return () if wait else self._ask()

    def waited(self, *, busy: bool) -> tuple[Call, ...]:
        """Return the calls to go on from, after `wait_s` without a change."""
        self.changes += 1
        self._take_back()
        if self._pausing:
            self._pausing = False
            return self.release(busy=busy)
        return self._ask()

    def _ask(self) -> tuple[Call, ...]:
        if self._asked or not self.owed:
            return ()
        self._asked = True
        return self.owed

    def ended(self, calls: tuple[Call, ...], *, well: bool) -> None:
        """Take note how the request of ours that `calls` were released for has ended."""
        self._asked = False
        self.changes += 1
        if well:
            self._pay(calls)
        elif not self._pausing and any(call in self.owed for call in calls):
            self._put_off()  # else a response is paying, has paid, or has failed and said so

    # responses, ours and the server's

    def response_began(self, response_id: str) -> None:
        """Take note of a new response of the conversation."""
        self._take_back()
        self._answer_due = False
        self.changes += 1
        if self.owed:
            items = self._conversation.items.values()
            outputs = {i.call_id for i in items if i.type == "function_call_output" and i.confirmed}
            if all(call.call_id in outputs for call in self.owed):
                self._paying, self.owed = (response_id, self.owed), ()

    def response_ended(self, response_id: str, *, well: bool) -> None:
        """Take note of the end of a response."""
        self.changes += 1
        paying_id, calls = self._paying
        if response_id == paying_id:
            self._take_back()
            if well:
                self._pay(calls)
            else:
                self._put_off()

    def connection_replaced(self) -> None:
        """Take note that what a response was to pay for is not paid, and nothing else is due."""
        self._take_back()
        self._answer_due = False
        self.changes += 1

    def _take_back(self) -> None:
        """Owe again what a response was to pay for: one that never ended has paid for nothing."""
        self.owed = (*self._paying[1], *self.owed)
        self._paying = ("", ())

    def _pay(self, calls: tuple[Call, ...]) -> None:
        self.owed = tuple(call for call in self.owed if call not in calls)
        self._failures, self._pausing = 0, False

    def _put_off(self) -> None:
        self._failures += 1
        self._pausing = True

    # events

    def see(self, event: ev.Event) -> None:
        """Take note of one of the events in `SEEN`; the conversation has seen it already."""
        self.changes += 1
        self.SEEN[type(event)](self, event)

    def _speech_started(self, _: ev.InputAudioBufferSpeechStarted) -> None:
        self._answer_due = False

    def _speech_stopped(self, _: ev.InputAudioBufferSpeechStopped) -> None:
        self._answer_due = self._server_responds

    def _committed(self, _: ev.InputAudioBufferCommitted) -> None:
        """The end of speech, if it is ours: nothing to note beside what the conversation does."""

    def _cleared(self, _: ev.InputAudioBufferCleared) -> None:
        self._answer_due = False

    def _configured(self, event: ev.SessionCreated | ev.SessionUpdated) -> None:
        settings = ActiveSettings(event.session)
        self._server_responds = settings.server_responds
        if not settings.detects_turns:  # nobody will answer what was said
            self._answer_due = False

    SEEN: ClassVar[dict[type[ev.Event], Callable[[FollowUps, Any], None]]] = {
        ev.InputAudioBufferSpeechStarted: _speech_started,
        ev.InputAudioBufferSpeechStopped: _speech_stopped,
        ev.InputAudioBufferCommitted: _committed,
        ev.InputAudioBufferCleared: _cleared,
        ev.SessionCreated: _configured,
        ev.SessionUpdated: _configured,
    }
    """What is noted of each event that is looked at."""

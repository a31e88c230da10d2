"""The arbiter of ``response.create``: at most one response at a time in the conversation.

Pure: requests and server events go in, frames to send and outcomes come out; time is given.

Rules (Realtime protocol, "flows" and "errors"; `DIALECTS.md` for servers that say less):

1. Requests for the default conversation wait in one queue. The first is sent when no response
   is active and no other request is on its way.
2. Out-of-band requests (``conversation: "none"``) are sent at once and tracked by their id.
3. A request is recognised in ``response.created`` by a mark in its metadata, which servers
   echo; one whose metadata had no room for the mark, by all of its metadata. A server that has
   never echoed a mark may not echo at all. One whose ``response.created`` has no metadata member
   does not; of one that says null, nobody knows until the first of our requests is over.
4. Where nothing is echoed, a response is given to the oldest request on its way that asked for it
   where it is, but not if the server owed an answer to what somebody had said. A mark or a refusal
   that comes later takes it back. Of a response that is given to nobody for a doubt, its end tells:
   if the request that was on its way when it began is neither created nor refused `ROUND_TRIP_S`
   after it was sent, that was its response, and the server does not echo.
5. A response that the server started by itself is active like any other. A request that lost
   the race to it (``conversation_already_has_active_response``) goes back to the head of the
   queue and is sent again after that response's ``response.done``; if that was already
   there, at once, though not more than `AT_ONCE` times.
6. Only the server ends a response: by ``response.done``, with or without ``response.created``
   before it, by beginning another one, or by ``response_cancel_not_active``. After `STALE_S`
   without any frame of the active response, the next request is sent to find out.
7. A request that nothing answers within `STALE_S` stands aside. A late answer that bears its mark
   still finds it; nothing else is given to it, nor to an out-of-band one that ran out of time.
8. While somebody speaks, and until the answer that the server owes them has begun and ended, the
   queue waits, but for requests that are to be sent `while_speaking`. It goes on after `SPEECH_S`
   of speech without an end, or `ANSWER_S` without the answer; both may never come.
9. A request whose owner has gone is taken out of the queue. One that is on its way and
   `unwanted` is cancelled as soon as it is created, and not sent again if it loses a race.
10. A lost connection fails the requests whose responses had begun. Those that it left unanswered
    wait at the head of the queue; nothing is sent until another connection has taken over.
11. A request that cannot be sent, or is refused, fails; the next one has its turn. A refusal that
    does not say what it refuses means the request on its way, if nothing else awaits an answer.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Callable

import msgspec

from realtime_bus import events as ev
from realtime_bus.routing import reported

from ._conversation import ConversationState
from ._requests import blamed_type

STALE_S = 30.0
"""Seconds without any frame of the active response, or without an answer to a request, after which
the next one has its turn."""

SPEECH_S = 60.0
"""Seconds that somebody may speak before the queue goes on: a muted microphone ends no turn."""

ANSWER_S = 5.0
"""Seconds that the server may take to begin its own answer before the queue goes on."""

ROUND_TRIP_S = 1.0
"""Seconds in which a server has surely created or refused what it was sent."""

AT_ONCE = 3
"""How often a request is sent again without waiting for a ``response.done``."""

MARK = "realtime_bus_request"
"""The metadata key that carries a request's id to its response."""

_RECENT = 64  # how many responses, and cancels, are remembered
_MAX_UNANSWERED = 256  # requests; the oldest stale one makes room
_MAX_METADATA = 16  # pairs that a response may have (Realtime protocol, "limits")
_LOST_RACE = "conversation_already_has_active_response"
_NOT_ACTIVE = "response_cancel_not_active"


class ResponseRequest:
    """One wanted response, from the request to ``response.done``.

    Attributes:
        event: The request as it is sent, with its ``event_id``.
        out_of_band: Whether it is outside the default conversation.
        response_id: Known from ``response.created`` on.
        response: The finished response.
        error: What to raise instead, if the request was refused.
        retries: How often it lost the race.
        unwanted: Whether to cancel it as soon as that is possible.
        while_speaking: Whether to send it although somebody speaks, or is about to be answered.
        sent_s: When it was sent last.
        stale: Whether nothing answered it for too long.
        recognised: Whether its response bore its mark.
        on_settled: Called once, at the end, good or bad.
    """

    def __init__(self, event: ev.ResponseCreate, *, while_speaking: bool = False) -> None:
        params = event.response
        self.event = event
        self.out_of_band: bool = params is not None and params.conversation == "none"
        self.response_id: str | None = None
        self.response: ev.Response | None = None
        self.error: Exception | None = None
        self.retries = 0
        self.unwanted = False
        self.while_speaking = while_speaking
        self.sent_s: float = 0.0
        self.stale = False
        self.recognised = False
        self.on_settled: Callable[[], None] | None = None

    @property
    def request_id(self) -> str:
        """The ``event_id`` of the request."""
        return self.event.event_id or ""

    @property
    def metadata(self) -> dict[str, str]:
        """What the request carries to its response."""
        return dict(self.event.response.metadata or {}) if self.event.response else {}

    @property
    def settled(self) -> bool:
        """Whether the end is known."""
        return self.response is not None or self.error is not None

    def settle(self, response: ev.Response | None = None, error: Exception | None = None) -> None:
        """Note the end; the first one counts."""
        if not self.settled:
            self.response, self.error = response, error
            tell, self.on_settled = self.on_settled, None
            if tell is not None:
                tell()

    def give_up(self) -> None:
        """End as cancelled, without the server having heard of it."""
        cancelled = ev.StatusDetails(type="cancelled", reason="client_cancelled")
        self.settle(response=ev.Response(status="cancelled", status_details=cancelled))


def mark_request(params: ev.ResponseCreateParams, request_id: str) -> ev.ResponseCreateParams:
    """Return the parameters with the mark in their metadata, if there is room for it."""
    metadata = dict(params.metadata or {})
    if len(metadata) >= _MAX_METADATA:
        return params
    metadata[MARK] = request_id
    return msgspec.structs.replace(params, metadata=metadata)


class _Doubt:
    """A response that was given to nobody, and the request that it may answer (rule 4)."""

    def __init__(self, request: ResponseRequest, *, answers_speech: bool) -> None:
        self.request = request
        self.answers_speech = answers_speech
        self.response: ev.Response | None = None  # once it has ended


class Arbiter:
    """Who may start a response, and which response answers whose request.

    Args:
        send: Sends a request.
        cancel: Sends a ``response.cancel`` for a response's id.
        conversation: Sees every event first; knows which response is active, and who speaks.
    """

    def __init__(
        self,
        send: Callable[[ev.ResponseCreate], None],
        cancel: Callable[[str | None], None],
        conversation: ConversationState,
    ) -> None:
        self._send = send
        self._cancel = cancel
        self._conversation = conversation
        self._queue: OrderedDict[ResponseRequest, None] = OrderedDict()
        self._sent: dict[str, ResponseRequest] = {}  # not created yet; oldest first
        self._asked: ResponseRequest | None = None  # the one of them that others wait for
        self._created: dict[str, ResponseRequest] = {}  # by response id
        self._doubts: dict[str, _Doubt] = {}  # by response id
        self._echoes: bool | None = None  # whether the server echoes metadata; None: unknown
        self._aside: list[ResponseRequest] = []  # out of band, to be sent when that is possible
        self._held = False  # there is no connection
        self._blocked = False  # the server says that something is active, but not what
        self._silent_id: str | None = None  # the active response, if nothing came of it for long
        self._replaced_answer = False  # the server's own that is due is not wanted
        self._seen: deque[str | None] = deque(maxlen=_RECENT)  # responses whose start was seen
        self._ended: deque[str | None] = deque(maxlen=_RECENT)
        self._cancels: dict[str, str | None] = {}  # sent: which response each was for
        self._cancelled_id: str | None = None
        self._sign_of_life_s = 0.0  # of what is active
        self._turn_s = 0.0  # when somebody last began or ceased to speak

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._queue)

    @property
    def active_id(self) -> str | None:
        """The active response of the default conversation, or None."""
        return self._conversation.active_response_id

    def request_of(self, response_id: str | None) -> ResponseRequest | None:
        """Return the request that an active response answers, or None."""
        return self._created.get(response_id) if isinstance(response_id, str) else None

    def perhaps_of(self, response_id: str | None) -> ResponseRequest | None:
        """Return the request that a response answers if the server echoes nothing, or None."""
        doubt = self._doubts.get(response_id) if isinstance(response_id, str) else None
        return None if doubt is None else doubt.request

    def asked_out_of_band(self, response: ev.Response) -> bool | None:
        """Tell whether a response was asked for out of band; None if it answers no request."""
        request = self.request_of(response.id) or self._owner(response)
        return None if request is None else request.out_of_band

    # --- what we want ------------------------------------------------------------------------

    def submit(self, request: ResponseRequest, now_s: float) -> None:
        """Send a request, now or when its turn has come."""
        if request.out_of_band:
            if self._held:
                self._aside.append(request)
            else:
                self._try(request, now_s)
            return
        if not self._queue:  # before, nobody looked for signs of life
            self._sign_of_life_s = now_s
        self._queue[request] = None
        self.advance(now_s)

    def make_way(self) -> None:
        """Cancel what the next request would have to wait for; once."""
        if self.active_id is None:
            if self._asked is not None:
                self._asked.unwanted = True
            self._replaced_answer = self._conversation.answer_due
        elif self.active_id != self._cancelled_id:
            self._cancelled_id = self.active_id
            self._cancel(self.active_id)

    def withdraw(self, request: ResponseRequest) -> bool:
        """Take a request back; return False if it has been sent already."""
        if request in self._aside:
            self._aside.remove(request)
        elif request in self._queue:
            del self._queue[request]
        else:
            return False
        request.give_up()
        return True

    def advance(self, now_s: float) -> None:
        """Send the next request if nothing stands in its way."""
        if self._held:
            return
        self._decide(now_s)
        deadline_s = self._occupied_until_s()
        if deadline_s is not None and now_s >= deadline_s:
            if self._asked is not None:
                self._asked.stale = True  # what was sent can still be answered
                self._asked = None
            self._blocked = False
            self._silent_id = self.active_id
        if self._conversation.answer_due and now_s >= self._turn_s + ANSWER_S:
            self._conversation.presume_unanswered()
        while self._occupied_until_s() is None and (request := self._next(now_s)) is not None:
            del self._queue[request]
            self._asked = request
            self._try(request, now_s)

    def _occupied_until_s(self) -> float | None:
        """When to send the next request all the same; None if none is active or on its way."""
        until_s: list[float] = []
        if self._blocked or self.active_id not in {None, self._silent_id}:
            until_s.append(self._sign_of_life_s + STALE_S)
        if self._asked is not None:
            until_s.append(self._asked.sent_s + STALE_S)
        return max(until_s, default=None)

    def _held_until_s(self) -> float | None:
        """When to go on although somebody speaks or is to be answered; None if nobody is."""
        if self._conversation.user_speaking:
            return self._turn_s + SPEECH_S
        return self._turn_s + ANSWER_S if self._conversation.answer_due else None

    def _next(self, now_s: float) -> ResponseRequest | None:
        held_until_s = self._held_until_s()
        held = held_until_s is not None and now_s < held_until_s
        return next((r for r in self._queue if r.while_speaking or not held), None)

    def _try(self, request: ResponseRequest, now_s: float) -> None:
        if len(self._sent) >= _MAX_UNANSWERED:
            stale = next(
                (name for name, r in self._sent.items() if r.stale), next(iter(self._sent))
            )
            del self._sent[stale]
        self._sent[request.request_id] = request
        request.sent_s = now_s
        try:
            self._send(request.event)
        except BaseException as error:  # noqa: BLE001  # whatever it is, whoever awaits the reply gets it
            self._forget(request)
            request.settle(error=reported(error))

    def ran_out_of_time(self, request: ResponseRequest) -> None:
        """Give no response to a request any more only because it is next in order (rule 7)."""
        if request is not self._asked:
            request.stale = True

    def next_deadline_s(self) -> float | None:
        """When to call `advance` again, even if nothing happens; later than its last call."""
        if self._held:
            return None
        ended = (doubt for doubt in self._doubts.values() if doubt.response is not None)
        deadlines = [doubt.request.sent_s + ROUND_TRIP_S for doubt in ended]
        if self._queue:
            held_until_s = None if next(iter(self._queue)).while_speaking else self._held_until_s()
            waits = [self._occupied_until_s(), held_until_s]
            deadlines += [max(found)] if (found := [s for s in waits if s is not None]) else []
        return min(deadlines, default=None)

    # --- what the server says ----------------------------------------------------------------

    def signs_of_life(self, response_id: str | None, now_s: float) -> None:
        """Note that something came of a response; of the active one if it does not say of which."""
        if response_id is None or response_id == self.active_id:
            self._sign_of_life_s = now_s
            self._silent_id = None

    def turn_changed(self, now_s: float) -> None:
        """Note that somebody has begun or ceased to speak."""
        self._turn_s = now_s
        self.advance(now_s)

    def created(self, response: ev.Response, now_s: float) -> None:
        """See a response start: one of ours, or the server's own."""
        self._age(now_s)
        self._decide(now_s)
        request = self._owner(response)
        if request is not None:
            self._begin(request, response.id or "")
        else:
            self._doubt(response)
        self._seen.append(response.id)
        if response.id is not None and response.id == self.active_id:
            self._blocked = False
            self.signs_of_life(response.id, now_s)
        replaced = self._replaced_answer and request is None and response.id == self.active_id
        self._replaced_answer = self._replaced_answer and self._conversation.answer_due
        if replaced or (request is not None and request.unwanted):
            self._cancel(response.id)
        self.advance(now_s)  # one without an id is active for nobody

    def _owner(self, response: ev.Response) -> ResponseRequest | None:
        """Find whose response this is, as far as that is sure (rules 3 and 4)."""
        metadata = response.metadata if isinstance(response.metadata, dict) else {}
        mark = metadata.get(MARK)
        if isinstance(mark, str):
            self._echoes = True
            request = self._sent.get(mark) or self._taken_back(mark)
        else:
            alike = (r for r in self._sent.values() if metadata and r.metadata == metadata)
            request = next(alike, None)
        if request is not None:
            request.recognised = True
            return request
        if response.metadata is msgspec.UNSET and self._echoes is None:
            self._echoes = False
        if self._echoes is not False or self._answers_speech(response):
            return None
        return self._perhaps_owner(response)

    def _answers_speech(self, response: ev.Response) -> bool:
        state = self._conversation.responses.get(response.id or "")
        return state is not None and state.answers_speech

    def _perhaps_owner(self, response: ev.Response) -> ResponseRequest | None:
        """Find the oldest request on its way that may have asked for a response (rule 4)."""
        if self._echoes or response.metadata:
            return None
        names = isinstance(response.conversation_id, str)
        aside = response.conversation_id is None and self._conversation.names_conversations
        taken = [
            doubt.request
            for doubt in self._doubts.values()
            if self._answers_speech(response) or not doubt.answers_speech
        ]
        for request in self._sent.values():
            elsewhere = names if request.out_of_band else aside
            if not (request.stale or elsewhere or request in taken):
                return request
        return None

    def _doubt(self, response: ev.Response) -> _Doubt | None:
        """Note which request a response may answer, if there is one."""
        request = self._perhaps_owner(response)
        if request is None:
            return None
        self._clear_up(request)
        doubt = _Doubt(request, answers_speech=self._answers_speech(response))
        self._doubts[response.id or ""] = doubt
        return doubt

    def _clear_up(self, request: ResponseRequest) -> None:
        """Have no doubt any more about a request."""
        self._doubts = {name: d for name, d in self._doubts.items() if d.request is not request}

    def done(self, response: ev.Response, now_s: float) -> None:
        """See a response end, whether or not its start was seen."""
        response_id = response.id or ""
        request = self._created.pop(response_id, None)
        doubt = self._doubts.get(response_id)
        if request is None and response.id not in (*self._seen, *self._ended):
            request = self._owner(response)
            doubt = self._doubt(response) if request is None else None
        if doubt is not None:
            doubt.response = response
        self._ended.append(response.id)
        ended = (None, response.id)
        self._cancels = {name: of for name, of in self._cancels.items() if of not in ended}
        if request is not None:
            self._finish(request, response)
        if request is None or not request.out_of_band:
            self._blocked = False
        self.advance(now_s)

    def _finish(self, request: ResponseRequest, response: ev.Response) -> None:
        self._forget(request)
        if request.response_id is None:
            request.response_id = response.id
        request.settle(response=response)

    def _decide(self, now_s: float) -> None:
        """Learn what ended responses were, and with that whether marks come back (rule 4)."""
        if self._echoes:
            self._doubts.clear()
        for response_id, doubt in [*self._doubts.items()]:
            request = doubt.request
            if doubt.response is not None and now_s >= request.sent_s + ROUND_TRIP_S:
                self._echoes = False
                self._finish(request, doubt.response)
            elif self._echoes is False and doubt.response is None and not doubt.answers_speech:
                self._begin(request, response_id)

    def _begin(self, request: ResponseRequest, response_id: str) -> None:
        self._forget(request)
        self._created[response_id] = request
        request.response_id = response_id

    def _age(self, now_s: float) -> None:
        """Let requests stand aside that nothing has answered (rule 7)."""
        for request in self._sent.values():
            request.stale |= request is not self._asked and now_s >= request.sent_s + STALE_S

    def _forget(self, request: ResponseRequest) -> None:
        """Take a request out of those on their way."""
        self._sent.pop(request.request_id, None)
        self._clear_up(request)
        request.stale = False
        if request is self._asked:
            self._asked = None

    # --- refusals ----------------------------------------------------------------------------

    def refused(
        self, error: ev.ErrorDetails, now_s: float, *, alone: bool = True
    ) -> ResponseRequest | None:
        """See a request of ours refused; return it if that is final.

        One that lost a race goes back to the head of the queue.

        Args:
            error: What the server complains about.
            now_s: The time.
            alone: Whether no other kind of request awaits an answer.
        """
        if error.code == _NOT_ACTIVE:
            self._nothing_to_cancel(error.event_id, now_s)
            return None
        self._age(now_s)
        lost_race = error.code == _LOST_RACE
        request = self._blamed(error, now_s, lost_race=lost_race, alone=alone)
        if request is None:
            return None
        self._forget(request)
        if not lost_race or request.out_of_band:
            self.advance(now_s)
            return request
        self._note_blocker(request, error, now_s)
        if request.unwanted:
            request.give_up()
        else:
            self._queue[request] = None
            self._queue.move_to_end(request, last=False)
        self.advance(now_s)
        return None

    def _blamed(
        self, error: ev.ErrorDetails, now_s: float, *, lost_race: bool, alone: bool
    ) -> ResponseRequest | None:
        if error.event_id is not None:
            return self._sent.get(error.event_id) or self._taken_back(error.event_id)
        kind = blamed_type(error)
        if kind != "response.create" and not (alone and kind is None):
            return None
        fresh = [r for r in self._sent.values() if not (r.stale or (lost_race and r.out_of_band))]
        begun = [d.request for d in self._doubts.values() if not d.answers_speech]
        found = next((r for r in fresh if r not in begun), None)
        if found is None:  # perhaps it has begun, and something else is wrong with it
            at_once = (r for r in fresh if kind is not None or now_s < r.sent_s + ROUND_TRIP_S)
            found = next(at_once, None)
        if found is None and kind is not None:
            found = self._taken_back(None)
        return found

    def _taken_back(self, request_id: str | None) -> ResponseRequest | None:
        """Take back a response that was given to a request by order alone.

        Without an id that is the latest one in the conversation: it has lost a race.
        """
        for response_id, request in reversed(self._created.items()):
            is_meant = (
                not request.out_of_band
                if request_id is None
                else (request.request_id == request_id)
            )
            if is_meant and not request.recognised:
                del self._created[response_id]
                request.response_id = None
                return request
        return None

    def _note_blocker(self, request: ResponseRequest, error: ev.ErrorDetails, now_s: float) -> None:
        """Learn from a lost race what is active, though nobody may have seen it start."""
        request.retries += 1
        self._sign_of_life_s = now_s  # something is active: the server has just said so
        self._silent_id = None
        if self.active_id is not None:
            return
        named = re.search(r"resp_[\w-]+", str(error.message))
        if named is not None:
            self._conversation.presume_active(named[0])
        if request.retries > AT_ONCE and self.active_id is None:
            self._blocked = True

    def cancel_sent(self, event: ev.ResponseCancel) -> None:
        """Note a ``response.cancel``, whoever sends it."""
        while len(self._cancels) >= _RECENT:
            del self._cancels[next(iter(self._cancels))]
        self._cancels[event.event_id or f"cancel {id(event)}"] = event.response_id

    def _nothing_to_cancel(self, event_id: str | None, now_s: float) -> None:
        """Learn that a response is over, though its ``response.done`` was not seen."""
        name = event_id or next(iter(self._cancels), "")
        if name not in self._cancels:
            return
        response_id = self._cancels.pop(name) or self.active_id
        request = self.request_of(response_id)
        if request is not None and request.unwanted:
            del self._created[response_id or ""]
            request.give_up()
        if response_id is not None and response_id == self.active_id:
            self._conversation.presume_over()
        self._blocked = False
        self.advance(now_s)

    # --- the connection ----------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is under way."""
        return not (self._queue or self._sent or self._created or self._aside)

    def connection_lost(
        self, fail: Callable[[ResponseRequest], Exception]
    ) -> list[ResponseRequest]:
        """Fail what had begun, or may have; return what is to be sent again (rule 10)."""
        doubtful = [doubt.request for doubt in self._doubts.values()]
        unanswered = [r for r in self._sent.values() if r not in doubtful]
        failed = [*self._created.values(), *doubtful, *(r for r in unanswered if r.stale)]
        again = [r for r in unanswered if not (r.stale or r.unwanted)]
        for request in unanswered:
            if request.unwanted:
                request.give_up()
        self._forget_connection()
        self._held = True
        self._aside = [r for r in again if r.out_of_band]
        for request in reversed([r for r in again if not r.out_of_band]):
            self._queue[request] = None
            self._queue.move_to_end(request, last=False)
        for request in failed:
            request.settle(error=fail(request))
        return again

    def connection_restored(self, now_s: float) -> None:
        """Go on over another connection."""
        self._held = False
        self._sign_of_life_s = now_s
        aside, self._aside = self._aside, []
        for request in aside:
            self._try(request, now_s)
        self.advance(now_s)

    def _forget_connection(self) -> None:
        self._sent.clear()
        self._created.clear()
        self._doubts.clear()
        self._cancels.clear()
        self._asked = self._silent_id = self._cancelled_id = None
        self._blocked = self._replaced_answer = False
        self._conversation.presume_over()

    def close(self, error: Exception) -> None:
        """Fail every request: the session has ended."""
        waiting = [*self._queue, *self._aside]
        requests = [*waiting, *self._sent.values(), *self._created.values()]
        self._queue.clear()
        self._aside.clear()
        self._forget_connection()
        for request in requests:
            request.settle(error=error)

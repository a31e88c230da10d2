"""The arbiter of ``response.create``: at most one response at a time in the conversation.

Pure: requests and server events go in, frames to send and outcomes come out; time is given.

Rules (Realtime protocol, "flows" and "errors"):

1. Requests for the default conversation wait in one queue. The first is sent when no response
   is active and no other request is on its way.
2. Out-of-band requests (``conversation: "none"``) are sent at once and tracked by their id.
3. A request is recognised in ``response.created`` by a mark in its metadata, which servers
   echo; one whose metadata had no room for the mark, by all of its metadata. A server whose
   ``response.created`` has no metadata member at all, and which has never echoed a mark,
   echoes nothing; there, the oldest request on its way is meant.
4. A response that the server started by itself is active like any other. A request that lost
   the race to it (``conversation_already_has_active_response``) goes back to the head of the
   queue and is sent again after that response's ``response.done``; if that was already
   there, at once, though not more than `AT_ONCE` times.
5. ``response.done`` without ``response.created`` ends what it names. One that never comes
   counts as come after `STALE_S` without any sign of life, as soon as somebody wants to go on.
   A request that nothing answers stands aside in the same way; a late answer still finds it.
6. A request whose owner has gone is taken out of the queue. One that is on its way and
   `unwanted` is cancelled as soon as it is created, and not sent again if it loses a race.
7. A request that cannot be sent, or is refused, fails; the next one has its turn.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

import msgspec

from realtime_bus import events as ev
from realtime_bus.routing import reported

from ._conversation import Conversation
from ._requests import blamed_type

__all__ = ["AT_ONCE", "MARK", "STALE_S", "Arbiter", "ResponseRequest", "mark_request"]

STALE_S = 30.0
"""Seconds without any event of the active response after which it is taken for lost."""

AT_ONCE = 3
"""How often a request is sent again without waiting for a ``response.done``."""

MARK = "realtime_bus_request"
"""The metadata key that carries a request's id to its response."""

_RECENT = 64  # how many responses are remembered
_MAX_METADATA = 16  # pairs that a response may have (Realtime protocol, "limits")
_LOST_RACE = "conversation_already_has_active_response"


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
        on_settled: Called once, at the end, good or bad.
    """

    def __init__(self, event: ev.ResponseCreate) -> None:
        params = event.response
        self.event = event
        self.out_of_band: bool = params is not None and params.conversation == "none"
        self.response_id: str | None = None
        self.response: ev.Response | None = None
        self.error: Exception | None = None
        self.retries = 0
        self.unwanted = False
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


class Arbiter:
    """Who may start a response, and which response answers whose request.

    Args:
        send: Sends a request.
        cancel: Sends a ``response.cancel`` for a response's id.
        conversation: Sees every event first; knows which response is active.
    """

    def __init__(
        self,
        send: Callable[[ev.ResponseCreate], None],
        cancel: Callable[[str | None], None],
        conversation: Conversation,
    ) -> None:
        self._send = send
        self._cancel = cancel
        self._conversation = conversation
        self._queue: deque[ResponseRequest] = deque()
        self._sent: dict[str, ResponseRequest] = {}  # not created yet; oldest first
        self._asked: ResponseRequest | None = None  # the one of them that others wait for
        self._created: dict[str, ResponseRequest] = {}  # by response id
        self._blocked = False  # the server says that something is active, but not what
        self._echoes = False  # a mark has come back
        self._seen: deque[str | None] = deque(maxlen=_RECENT)  # responses whose start was seen
        self._ended: deque[str | None] = deque(maxlen=_RECENT)
        self._cancelled_id: str | None = None
        self._sign_of_life_s = 0.0

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._queue)

    @property
    def active_id(self) -> str | None:
        """The active response of the default conversation, or None."""
        return self._conversation.active_response_id

    @property
    def _occupied(self) -> bool:
        return self.active_id is not None or self._asked is not None or self._blocked

    def request_of(self, response_id: str | None) -> ResponseRequest | None:
        """Return the request that an active response answers, or None."""
        return self._created.get(response_id) if isinstance(response_id, str) else None

    def asked_out_of_band(self, response: ev.Response) -> bool | None:
        """Tell whether a response was asked for out of band; None if it answers no request."""
        request = self.request_of(response.id) or self._owner(response)
        return None if request is None else request.out_of_band

    # --- what we want ------------------------------------------------------------------------

    def submit(self, request: ResponseRequest, now_s: float) -> None:
        """Send a request, now or when its turn has come."""
        if request.out_of_band:
            self._try(request)
            return
        self._queue.append(request)
        self.advance(now_s)

    def make_way(self) -> None:
        """Cancel what the next request would have to wait for; once."""
        if self.active_id is None:
            if self._asked is not None:
                self._asked.unwanted = True
        elif self.active_id != self._cancelled_id:
            self._cancelled_id = self.active_id
            self._cancel(self.active_id)

    def withdraw(self, request: ResponseRequest) -> bool:
        """Take a request back; return False if it has been sent already."""
        if request not in self._queue:
            return False
        self._queue.remove(request)
        request.give_up()
        return True

    def advance(self, now_s: float) -> None:
        """Send the next request if nothing stands in its way."""
        if self._occupied and now_s - self._sign_of_life_s >= STALE_S:
            self._asked = None  # what was sent can still be answered
            self._blocked = False
            self._conversation.presume_over()
        while self._queue and not self._occupied:
            request = self._asked = self._queue.popleft()
            self._sign_of_life_s = now_s
            self._try(request)

    def _try(self, request: ResponseRequest) -> None:
        self._sent[request.request_id] = request
        try:
            self._send(request.event)
        except BaseException as error:  # noqa: BLE001  # whatever it is, whoever awaits the reply gets it
            self._forget(request)
            request.settle(error=reported(error))

    def next_deadline_s(self) -> float | None:
        """When to call `advance` again, even if nothing happens."""
        return self._sign_of_life_s + STALE_S if self._queue else None

    # --- what the server says ----------------------------------------------------------------

    def signs_of_life(self, response_id: str, now_s: float) -> None:
        """Note that something came of a response."""
        if response_id == self.active_id:
            self._sign_of_life_s = now_s

    def created(self, response: ev.Response, now_s: float) -> None:
        """See a response start: one of ours, or the server's own."""
        request = self._owner(response)
        if request is not None:
            self._forget(request)
            self._created[response.id or ""] = request
        self._seen.append(response.id)
        if response.id is not None and response.id == self.active_id:
            self._blocked = False
            self._sign_of_life_s = now_s
        if request is not None:
            request.response_id = response.id
            if request.unwanted:
                self._cancel(response.id)

    def _owner(self, response: ev.Response) -> ResponseRequest | None:
        """Find whose response this is (rule 3)."""
        sent = self._sent.values()
        metadata = response.metadata if isinstance(response.metadata, dict) else {}
        mark = metadata.get(MARK)
        if isinstance(mark, str):
            self._echoes = True
            return self._sent.get(mark)
        if response.metadata is not msgspec.UNSET or self._echoes:
            return next((r for r in sent if metadata and r.metadata == metadata), None)
        return next(iter(sent), None)

    def done(self, response: ev.Response, now_s: float) -> None:
        """See a response end, whether or not its start was seen."""
        request = self._created.pop(response.id or "", None)
        if request is None and response.id not in (*self._seen, *self._ended):
            request = self._owner(response)
        self._ended.append(response.id)
        if request is not None:
            self._forget(request)
            if request.response_id is None:
                request.response_id = response.id
            request.settle(response=response)
        if request is None or not request.out_of_band:
            self._blocked = False
        self.advance(now_s)

    def _forget(self, request: ResponseRequest) -> None:
        """Take a request out of those on their way."""
        self._sent.pop(request.request_id, None)
        if request is self._asked:
            self._asked = None

    def refused(self, error: ev.ErrorDetails, now_s: float) -> ResponseRequest | None:
        """See a request of ours refused; return it if that is final.

        One that lost a race goes back to the head of the queue.
        """
        lost_race = error.code == _LOST_RACE
        request = self._blamed(error, lost_race=lost_race)
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
            self._queue.appendleft(request)
        self.advance(now_s)
        return None

    def _blamed(self, error: ev.ErrorDetails, *, lost_race: bool) -> ResponseRequest | None:
        if error.event_id is not None:
            found = self._sent.get(error.event_id)
            return found or (self._taken_for(error.event_id) if lost_race else None)
        if blamed_type(error) != "response.create":
            return None
        sent = self._sent.values()
        return next((r for r in sent if not (lost_race and r.out_of_band)), None)

    def _taken_for(self, request_id: str) -> ResponseRequest | None:
        """Take back a response that was given to a request by order: it was the server's own."""
        for response_id, request in self._created.items():
            if request.request_id == request_id:
                del self._created[response_id]
                request.response_id = None
                return request
        return None

    def _note_blocker(self, request: ResponseRequest, error: ev.ErrorDetails, now_s: float) -> None:
        """Learn from a lost race what is active, though nobody may have seen it start."""
        request.retries += 1
        self._sign_of_life_s = now_s  # something is active: the server has just said so
        if self.active_id is not None:
            return
        named = re.search(r"resp_[\w-]+", str(error.message))
        if named is not None:
            self._conversation.presume_active(named[0])
        if request.retries > AT_ONCE and self.active_id is None:
            self._blocked = True

    def close(self, error: Exception) -> None:
        """Fail every request: the session has ended."""
        requests = [*self._queue, *self._sent.values(), *self._created.values()]
        self._queue.clear()
        self._sent.clear()
        self._created.clear()
        self._asked = None
        self._blocked = False
        self._conversation.presume_over()
        for request in requests:
            request.settle(error=error)

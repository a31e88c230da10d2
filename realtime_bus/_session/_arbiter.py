"""The arbiter of ``response.create``: at most one response at a time in the conversation.

Pure: requests and server events go in, frames to send and outcomes come out; time is given.

Rules (Realtime protocol, "flows" and "errors"):

1. Requests for the default conversation wait in one queue. The first is sent when no response
   is active and no other request is on its way.
2. Out-of-band requests (``conversation: "none"``) are sent at once and tracked by their id.
3. A request is recognised in ``response.created`` by a mark in its metadata, which servers
   echo. A server whose ``response.created`` has no metadata member at all echoes nothing;
   there, the oldest request on its way is meant.
4. A response that the server started by itself is active like any other. A request that lost
   the race to it (``conversation_already_has_active_response``) goes back to the head of the
   queue and is sent again after that response's ``response.done``; if that was already
   there, at once.
5. ``response.done`` without ``response.created`` ends what it names. One that never comes
   counts as come after `STALE_S` without any sign of life, as soon as somebody wants to go on.
6. A request whose owner has gone is taken out of the queue; if it is already active it goes
   on, and its end is still noted.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from .. import events as ev

__all__ = ["MARK", "STALE_S", "Arbiter", "ResponseTask", "mark_request"]

MARK = "realtime_bus_request"
"""The metadata key that carries a request's id to its response."""

STALE_S = 30.0
"""Seconds without any event of the active response after which it is taken for lost."""

_RECENT = 64  # how many finished responses are remembered


class ResponseTask:
    """One wanted response, from the request to ``response.done``.

    Attributes:
        event: The request as it is sent, with its ``event_id``.
        out_of_band: Whether it is outside the default conversation.
        response_id: Known from ``response.created`` on.
        response: The finished response.
        error: What to raise instead, if the request was refused.
        retries: How often it lost the race.
        on_created: Called once, when the response has started.
        on_settled: Called once, at the end, good or bad.
    """

    def __init__(self, event: ev.ResponseCreate) -> None:
        params = event.response
        self.event = event
        self.out_of_band = params is not None and params.conversation == "none"
        self.response_id: str | None = None
        self.response: ev.Response | None = None
        self.error: Exception | None = None
        self.retries = 0
        self.on_created: Callable[[], None] = _nothing
        self.on_settled: Callable[[], None] = _nothing

    @property
    def request_id(self) -> str:
        """The ``event_id`` of the request."""
        return self.event.event_id or ""

    @property
    def settled(self) -> bool:
        """Whether the end is known."""
        return self.response is not None or self.error is not None

    def start(self, response_id: str | None) -> None:
        """Note that the response has been created."""
        self.response_id = response_id
        self.on_created()

    def settle(self, response: ev.Response | None = None, error: Exception | None = None) -> None:
        """Note the end."""
        self.response, self.error = response, error
        self.on_settled()


def _nothing() -> None:
    pass


class Arbiter:
    """Who may start a response, and which response is whose."""

    def __init__(self, send: Callable[[ev.ResponseCreate], None]) -> None:
        self._send = send
        self._queue: deque[ResponseTask] = deque()
        self._asked: ResponseTask | None = None  # sent for the default conversation, not created
        self._free: dict[str, ResponseTask] = {}  # out of band, sent, not created; by request id
        self._tasks: dict[str, ResponseTask] = {}  # created; by response id
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self.active_id: str | None = None
        """The active response of the default conversation."""
        self._sign_of_life_s = 0.0

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._queue)

    def submit(self, task: ResponseTask, now_s: float) -> None:
        """Send a request, now or when its turn has come."""
        if task.out_of_band:
            self._free[task.request_id] = task
            self._send(task.event)
            return
        self._queue.append(task)
        self.advance(now_s)

    def withdraw(self, task: ResponseTask) -> bool:
        """Take a request back; return whether it had not been sent yet."""
        if task in self._queue:
            self._queue.remove(task)
            return True
        return False

    def advance(self, now_s: float) -> None:
        """Send the next request if nothing stands in its way."""
        if self._is_stale(now_s):
            self._finish_active()
        if self._queue and self.active_id is None and self._asked is None:
            task = self._asked = self._queue.popleft()
            self._sign_of_life_s = now_s
            self._send(task.event)

    def _is_stale(self, now_s: float) -> bool:
        occupied = self.active_id is not None or self._asked is not None
        return occupied and now_s - self._sign_of_life_s >= STALE_S

    def _finish_active(self) -> None:
        if self.active_id is not None:
            self._recent.append(self.active_id)
        self.active_id = None
        self._asked = None

    def next_deadline_s(self) -> float | None:
        """When to call `advance` again, even if nothing happens."""
        return self._sign_of_life_s + STALE_S if self._queue else None

    def signs_of_life(self, response_id: str, now_s: float) -> None:
        """Note that something came of a response."""
        if response_id == self.active_id:
            self._sign_of_life_s = now_s

    def created(self, response: ev.Response, now_s: float, *, echoes: bool = True) -> None:
        """See a response start: one of ours, or the server's own.

        Args:
            response: As in ``response.created``.
            now_s: The time.
            echoes: Whether the event had a metadata member, be it null.
        """
        task = self._owner(response, echoes=echoes)
        if task is not None:
            self._adopt(task, response.id)
        if not (task.out_of_band if task is not None else _is_anothers(response)):
            self.active_id = response.id
            self._sign_of_life_s = now_s

    def _adopt(self, task: ResponseTask, response_id: str | None) -> None:
        if task is self._asked:
            self._asked = None
        self._free.pop(task.request_id, None)
        self._tasks[response_id or ""] = task
        task.start(response_id)

    def _owner(self, response: ev.Response, *, echoes: bool) -> ResponseTask | None:
        """Find whose response this is, by its mark, or by order where there are no marks."""
        mark = (response.metadata or {}).get(MARK)
        if mark is not None:
            asked = self._asked
            return asked if asked is not None and asked.request_id == mark else self._free.get(mark)
        if echoes:
            return None
        return self._asked or next(iter(self._free.values()), None)

    def done(self, response: ev.Response, now_s: float, *, echoes: bool = True) -> None:
        """See a response end, whether or not its start was seen; see `created`."""
        task = self._tasks.pop(response.id or "", None)
        if task is None and response.id != self.active_id:
            task = self._owner(response, echoes=echoes)
        self._recent.append(response.id or "")
        if task is not None:
            self._end(task, response)
        if response.id == self.active_id:
            self.active_id = None
        self.advance(now_s)

    def _end(self, task: ResponseTask, response: ev.Response) -> None:
        self._free.pop(task.request_id, None)
        if task is self._asked:
            self._asked = None
        if task.response_id is None:
            task.start(response.id)
        task.settle(response=response)

    def refused(self, error: Any, now_s: float) -> ResponseTask | None:
        """See a request of ours refused; return it if that is final.

        One that lost a race goes back to the head of the queue.
        """
        task = self._blamed(error)
        if task is None:
            return None
        self._free.pop(task.request_id, None)
        if task is self._asked:
            self._asked = None
        lost_race = error.code == "conversation_already_has_active_response"
        if lost_race and not task.out_of_band:
            self._try_again(task, error, now_s)
            return None
        self.advance(now_s)
        return task

    def _blamed(self, error: Any) -> ResponseTask | None:
        asked = self._asked
        if asked is not None and error.event_id in (asked.request_id, None):
            named = error.event_id is not None
            if named or error.code == "conversation_already_has_active_response":
                return asked
        return self._free.get(str(error.event_id))

    def _try_again(self, task: ResponseTask, error: Any, now_s: float) -> None:
        task.retries += 1
        self._queue.appendleft(task)
        named = re.search(r"resp_[\w-]+", str(error.message or ""))
        blocker = named[0].rstrip(".") if named else None
        if self.active_id is None and blocker is not None and blocker not in self._recent:
            self.active_id = blocker
            self._sign_of_life_s = now_s
        self.advance(now_s)

    def close(self, error: Exception) -> None:
        """Fail every request: the session has ended."""
        asked = [self._asked] if self._asked is not None else []
        tasks = {id(t): t for t in [*self._queue, *asked, *self._free.values(), *self._tasks.values()]}
        self._queue.clear()
        self._free.clear()
        self._tasks.clear()
        self._asked = self.active_id = None
        for task in tasks.values():
            task.settle(error=error)


def _is_anothers(response: ev.Response) -> bool:
    """Tell a response out of band that another peer of the session asked for.

    A server's own responses have a conversation and no metadata. Some servers name no
    conversation at all, so a response without either is taken for the default one's.
    """
    return response.conversation_id is None and bool(response.metadata)


def mark_request(params: ev.ResponseCreateParams | None, request_id: str) -> ev.ResponseCreateParams:
    """Return the parameters with the mark in their metadata, if there is room for it."""
    params = params or ev.ResponseCreateParams()
    metadata = dict(params.metadata or {})
    if len(metadata) >= 16:
        return params
    metadata[MARK] = request_id
    return msgspec.structs.replace(params, metadata=metadata)

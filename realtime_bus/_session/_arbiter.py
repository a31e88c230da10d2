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

from realtime_bus import events as ev

from ._requests import blamed_type
from ._response_task import MARK, ResponseTask

__all__ = ["AT_ONCE", "STALE_S", "Arbiter"]

STALE_S = 30.0
"""Seconds without any event of the active response after which it is taken for lost."""

AT_ONCE = 3
"""How often a request is sent again without waiting for a ``response.done``."""

_RECENT = 64  # how many finished responses are remembered
_LOST_RACE = "conversation_already_has_active_response"


class Arbiter:
    """Who may start a response, and which response is whose.

    Args:
        send: Sends a request.
        cancel: Sends a ``response.cancel`` for a response's id.

    Attributes:
        active_id: The active response of the default conversation, or None.
    """

    def __init__(
        self, send: Callable[[ev.ResponseCreate], None], cancel: Callable[[str | None], None]
    ) -> None:
        self._send = send
        self._cancel = cancel
        self._queue: deque[ResponseTask] = deque()
        self._sent: dict[str, ResponseTask] = {}  # not created yet; oldest first
        self._asked: ResponseTask | None = None  # the one of them that others wait for
        self._tasks: dict[str, ResponseTask] = {}  # created; by response id
        self._recent: deque[str | None] = deque(maxlen=_RECENT)
        self.active_id: str | None = None
        self._blocked = False  # the server says that something is active, but not what
        self._echoes = False  # a mark has come back
        self._cancelled_id: str | None = None
        self._sign_of_life_s = 0.0

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._queue)

    @property
    def _occupied(self) -> bool:
        return self.active_id is not None or self._asked is not None or self._blocked

    # --- what we want ------------------------------------------------------------------------

    def submit(self, task: ResponseTask, now_s: float) -> None:
        """Send a request, now or when its turn has come."""
        if task.out_of_band:
            self._try(task)
            return
        self._queue.append(task)
        self.advance(now_s)

    def make_way(self) -> None:
        """Cancel what the next request would have to wait for; once."""
        if self.active_id is None:
            if self._asked is not None:
                self._asked.unwanted = True
        elif self.active_id != self._cancelled_id:
            self._cancelled_id = self.active_id
            self._cancel(self.active_id)

    def withdraw(self, task: ResponseTask) -> bool:
        """Take a request back; return False if it has been sent already."""
        if task not in self._queue:
            return False
        self._queue.remove(task)
        task.give_up()
        return True

    def advance(self, now_s: float) -> None:
        """Send the next request if nothing stands in its way."""
        if self._occupied and now_s - self._sign_of_life_s >= STALE_S:
            self._stop_waiting()
        while self._queue and not self._occupied:
            task = self._asked = self._queue.popleft()
            self._sign_of_life_s = now_s
            self._try(task)

    def _try(self, task: ResponseTask) -> None:
        self._sent[task.request_id] = task
        try:
            self._send(task.event)
        except Exception as error:  # noqa: BLE001  # whatever it is, whoever awaits the reply gets it
            self._forget(task)
            task.settle(error=error)

    def _stop_waiting(self) -> None:
        self._asked = self.active_id = None  # what was sent can still be answered
        self._blocked = False

    def next_deadline_s(self) -> float | None:
        """When to call `advance` again, even if nothing happens."""
        return self._sign_of_life_s + STALE_S if self._queue else None

    # --- what the server says ----------------------------------------------------------------

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
            self._forget(task)
            self._tasks[response.id or ""] = task
        if not (task.out_of_band if task is not None else _is_anothers(response)):
            self.active_id = response.id
            self._blocked = False
            self._sign_of_life_s = now_s
        if task is not None:
            task.start(response.id)
            if task.unwanted:
                self._cancel(response.id)

    def _owner(self, response: ev.Response, *, echoes: bool) -> ResponseTask | None:
        """Find whose response this is (rule 3)."""
        sent = self._sent.values()
        metadata = response.metadata if isinstance(response.metadata, dict) else {}
        mark = metadata.get(MARK)
        if mark is not None:
            self._echoes = True
            return self._sent.get(mark)
        if echoes or self._echoes:
            return next((t for t in sent if metadata and t.metadata == metadata), None)
        return next(iter(sent), None)

    def done(self, response: ev.Response, now_s: float, *, echoes: bool = True) -> None:
        """See a response end, whether or not its start was seen; see `created`."""
        task = self._tasks.pop(response.id or "", None)
        if task is None and response.id != self.active_id and response.id not in self._recent:
            task = self._owner(response, echoes=echoes)
        self._recent.append(response.id)
        if task is not None:
            self._forget(task)
            if task.response_id is None:
                task.start(response.id)
            task.settle(response=response)
        if response.id == self.active_id:
            self.active_id = None
        if task is None or not task.out_of_band:
            self._blocked = False
        self.advance(now_s)

    def _forget(self, task: ResponseTask) -> None:
        """Take a request out of those on their way."""
        self._sent.pop(task.request_id, None)
        if task is self._asked:
            self._asked = None

    def refused(self, error: ev.ErrorDetails, now_s: float) -> ResponseTask | None:
        """See a request of ours refused; return it if that is final.

        One that lost a race goes back to the head of the queue.
        """
        lost_race = error.code == _LOST_RACE
        task = self._blamed(error, lost_race=lost_race)
        if task is None:
            return None
        self._forget(task)
        if not lost_race or task.out_of_band:
            self.advance(now_s)
            return task
        self._note_blocker(task, error, now_s)
        if task.unwanted:
            task.give_up()
        else:
            self._queue.appendleft(task)
        self.advance(now_s)
        return None

    def _blamed(self, error: ev.ErrorDetails, *, lost_race: bool) -> ResponseTask | None:
        if error.event_id is not None:
            found = self._sent.get(error.event_id)
            return found or (self._taken_for(error.event_id) if lost_race else None)
        if blamed_type(error) != "response.create":
            return None
        sent = self._sent.values()
        return next((task for task in sent if not (lost_race and task.out_of_band)), None)

    def _taken_for(self, request_id: str) -> ResponseTask | None:
        """Take back a response that was given to a request by order: it was the server's own."""
        for response_id, task in self._tasks.items():
            if task.request_id == request_id:
                del self._tasks[response_id]
                task.response_id = None
                return task
        return None

    def _note_blocker(self, task: ResponseTask, error: ev.ErrorDetails, now_s: float) -> None:
        """Learn from a lost race what is active, though nobody may have seen it start."""
        task.retries += 1
        self._sign_of_life_s = now_s  # something is active: the server has just said so
        named = re.search(r"resp_[\w-]+", str(error.message))
        blocker = named[0] if named else None
        if self.active_id is not None:
            return
        if blocker is not None and blocker not in self._recent:
            self.active_id = blocker
        elif task.retries > AT_ONCE:
            self._blocked = True

    def close(self, error: Exception) -> None:
        """Fail every request: the session has ended."""
        tasks = [*self._queue, *self._sent.values(), *self._tasks.values()]
        self._queue.clear()
        self._sent.clear()
        self._tasks.clear()
        self._asked = self.active_id = None
        self._blocked = False
        for task in tasks:
            task.settle(error=error)


def _is_anothers(response: ev.Response) -> bool:
    """Tell a response out of band that another peer of the session asked for.

    A server's own responses have a conversation and no metadata. Some servers name no
    conversation at all, so a response without either is taken for the default one's.
    """
    return not response.conversation_id and bool(response.metadata)

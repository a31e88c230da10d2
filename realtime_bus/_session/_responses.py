"""The responses of a session: asked for one at a time, whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from realtime_bus import events as ev
from realtime_bus.errors import CloseInfo, UsageError, RequestRejected, SessionClosed
from realtime_bus.codec import encode

from ._arbiter import Arbiter
from ._reply import Reply
from ._requests import error_details, rejection
from ._response_task import ResponseTask, mark_request
from ._verbs import Verbs, not_sent

if TYPE_CHECKING:
    from realtime_bus._bus._bus import Bus
    from realtime_bus.events._vocabulary import Vocabulary
    from realtime_bus.transport import Transport

__all__ = ["RESPONSE_TIMEOUT_S", "Responses"]

RESPONSE_TIMEOUT_S = 120.0
"""Seconds that a reply may take if nothing else is said: longer than any spoken answer."""

_ITEM_EVENTS = (ev.ResponseOutputItemAdded, ev.ResponseOutputItemDone)


class Responses(Verbs):
    """A session that keeps its responses in order, by an arbiter."""

    def __init__(self, bus: Bus, transport: Transport, vocabulary: Vocabulary) -> None:
        super().__init__(bus, transport, vocabulary)
        self._arbiter = Arbiter(self._send_create, self._send_cancel)
        self._guarding = False
        self._close_waiters.append(self._fail_responses)
        self._watch(self._see_response, ev.ResponseCreated, ev.ResponseDone)
        self._watch(self._see_progress, *_ITEM_EVENTS)
        self._watch(self._see_refusal, ev.Error)

    def _send_create(self, event: ev.ResponseCreate) -> None:
        if not self.send_nowait(event):
            raise not_sent(event)

    def _send_cancel(self, response_id: str | None) -> None:
        event_id = self.next_event_id()
        self.send_nowait(ev.ResponseCancel(event_id=event_id, response_id=response_id))

    # --- what the server says ----------------------------------------------------------------

    def _see_response(self, event: Any) -> None:
        if not isinstance(event.response, ev.Response):
            return  # a server's mistake, reported as drift
        see = self._arbiter.done if isinstance(event, ev.ResponseDone) else self._arbiter.created
        see(event.response, anyio.current_time(), echoes=b'"metadata"' in self.frame)
        self._guard()

    def _see_progress(self, event: Any) -> None:
        self._arbiter.signs_of_life(event.response_id, anyio.current_time())

    def _see_refusal(self, event: ev.Error) -> None:
        error = error_details(event)
        task = self._arbiter.refused(error, anyio.current_time())
        if task is not None:
            task.settle(error=rejection(task.event, error))
        self._guard()

    def _fail_responses(self, close: CloseInfo) -> None:
        reason = f" ({close.reason})" if close.reason else ""
        message = f"the session closed with {close.code}{reason} before the response was done"
        self._arbiter.close(SessionClosed(message, close=close))

    def _guard(self) -> None:
        """See that a ``response.done`` that never comes holds up nobody for ever."""
        if self._arbiter.waiting and not self._guarding and self._tasks is not None:
            self._guarding = True
            self.start_soon(self._guard_queue)

    async def _guard_queue(self) -> None:
        try:
            while (deadline_s := self._arbiter.next_deadline_s()) is not None:
                await anyio.sleep_until(deadline_s)
                self._arbiter.advance(anyio.current_time())
        finally:
            self._guarding = False

    # --- what the application asks for -------------------------------------------------------

    def respond(
        self,
        params: ev.ResponseCreateParams | None = None,
        *,
        replace: bool = False,
        timeout_s: float | None = RESPONSE_TIMEOUT_S,
        **fields: Any,
    ) -> Reply:
        """Ask for a response; while another one is active, wait for its end first.

        Args:
            params: Everything about it; or give single fields of `events.ResponseCreateParams`
                by name, such as ``instructions=...`` or ``conversation="none"``.
            replace: Cancel the active response instead of waiting for its end.
            timeout_s: Seconds that awaiting the reply may take, the time in the queue included;
                None for as long as it takes.
            **fields: Fields of `events.ResponseCreateParams`.

        Returns:
            A `Reply`: await it for the finished response, or read it while it comes.

        Raises:
            InvalidEvent: The request would be refused; nothing was sent.
            UsageError: Both an object and fields were given.
            SessionClosed: The session has ended.
        """
        if self._close is not None:
            raise self.closed_error("respond")
        if params is not None and fields:
            raise UsageError("respond() takes a params object or single fields, not both")
        request_id = self.next_event_id()
        wanted = mark_request(params or ev.ResponseCreateParams(**fields), request_id)
        task = ResponseTask(ev.ResponseCreate(event_id=request_id, response=wanted))
        encode(task.event)  # it may have to wait, and a mistake should be told here
        reply = Reply(self, task, timeout_s=timeout_s)
        self._submit(task, replace=replace)
        return reply

    def _submit(self, task: ResponseTask, *, replace: bool) -> None:
        if replace and not task.out_of_band:
            self._arbiter.make_way()
        self._arbiter.submit(task, anyio.current_time())
        self._guard()

    @property
    def active_response_id(self) -> str | None:
        """The response of the default conversation that is being generated, or None."""
        return self._arbiter.active_id

    async def cancel(self, response_id: str | None = None) -> None:
        """Stop a response; if none is active, that is no error.

        Args:
            response_id: Which one; None for the active one of the default conversation.
        """
        wanted = response_id or self._arbiter.active_id
        if wanted is None:
            return
        try:
            await self.request(ev.ResponseCancel(response_id=wanted))
        except RequestRejected as error:
            if error.code != "response_cancel_not_active":
                raise

    def withdraw(self, task: ResponseTask) -> None:
        """Take a request back if it waits; have it cancelled when it is created, if it is sent."""
        if not self.take_back(task):
            task.unwanted = True

    def take_back(self, task: ResponseTask) -> bool:
        """Take a request out of the queue; return False if it has been sent already."""
        return self._arbiter.withdraw(task)

"""Requests that wait for their answer. Pure: events in, outcomes out; no clock, no tasks.

Rules (Realtime protocol, "general rules" and "errors"):

1. A request is sent with an ``event_id``. An ``error`` that names it rejects it.
2. Each kind of request has one confirming event. Where that event names an item or a
   response, it must be the right one; where it names none (commit, clear, session.update),
   the oldest request of its kind is meant: one socket answers in order.
3. An ``error`` without ``event_id`` is matched by what it complains about: its code, then
   the first part of its ``param``; failing that, it is nobody's.
4. Where a server gives a created item an id of its own, the oldest create of an item of the
   same type and role is meant.
5. An item that is in progress, or holds audio of the user, was made by the server and
   answers nobody.
6. When the session ends, every request fails with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from realtime_bus import events as ev
from realtime_bus.errors import CloseInfo, RequestRejected, SessionClosed

__all__ = [
    "CONFIRMING",
    "ITEM_ID_PREFIX",
    "Pending",
    "Requests",
    "blamed_type",
    "error_details",
    "rejection",
]


class Pending:
    """A request on its way.

    Attributes:
        event: What was sent, with its ``event_id``.
        answer: The confirming event, once it is there.
        error: What to raise instead, once that is known.
        on_settled: Called once, when either is there.
    """

    __slots__ = ("answer", "error", "event", "event_id", "on_settled")

    def __init__(self, event: ev.ClientEvent, on_settled: Callable[[], None]) -> None:
        self.event = event
        self.event_id = event.event_id or ""
        self.on_settled = on_settled
        self.answer: ev.Event | None = None
        self.error: Exception | None = None

    def settle(self, *, answer: ev.Event | None = None, error: Exception | None = None) -> None:
        """Give the request its outcome."""
        self.answer = answer
        self.error = error
        self.on_settled()


class Requests:
    """All requests of one session that are on their way, oldest first."""

    def __init__(self) -> None:
        self._pending: dict[str, Pending] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, pending: Pending) -> None:
        """Start waiting for a request's answer."""
        self._pending[pending.event_id] = pending

    def forget(self, pending: Pending) -> None:
        """Stop waiting, because whoever asked has gone; a late answer finds nobody."""
        self._pending.pop(pending.event_id, None)

    def observe(self, event: ev.Event) -> None:
        """Look at what the server sent, and settle the request that it answers."""
        if isinstance(event, ev.Error):
            self._reject(error_details(event))
            return
        matches = _MATCHES.get(type(event))
        if matches is None:
            return
        for pending in self._pending.values():
            if type(pending.event) in CONFIRMING[type(event)] and matches(pending.event, event):
                self._settle(pending, answer=event)
                return

    def _settle(self, pending: Pending, **outcome: Any) -> None:
        self.forget(pending)
        pending.settle(**outcome)

    def _reject(self, error: ev.ErrorDetails) -> None:
        pending = self._blamed(error)
        if pending is not None:
            self._settle(pending, error=rejection(pending.event, error))

    def _blamed(self, error: ev.ErrorDetails) -> Pending | None:
        if error.event_id is not None:
            return self._pending.get(str(error.event_id))
        kind = blamed_type(error)
        return next((p for p in self._pending.values() if p.event.type == kind), None)

    def fail_all(self, close: CloseInfo) -> None:
        """Fail every request: the session has ended."""
        for pending in list(self._pending.values()):
            reason = f" ({close.reason})" if close.reason else ""
            message = (
                f"the session closed with {close.code}{reason} "
                f"before {pending.event.type} was answered"
            )
            self._settle(pending, error=SessionClosed(message, close=close))


def error_details(event: ev.Error) -> ev.ErrorDetails:
    """Return what the server complains about, even where it says so in a shape of its own."""
    error: Any = event.error  # raw data, where it did not fit
    if isinstance(error, ev.ErrorDetails):
        return error
    return ev.ErrorDetails(type="", message=str(error))


def rejection(event: ev.ClientEvent, error: ev.ErrorDetails) -> RequestRejected:
    """Make the exception for a request that the server refused."""
    code = f" [{error.code}]" if error.code else ""
    param = f" (at {error.param})" if error.param else ""
    return RequestRejected(
        f"the server refused {event.type}{code}: {error.message}{param}",
        event_type=event.type,
        event_id=event.event_id or "",
        error=error,
    )


_BLAMED_BY_CODE: dict[str, str] = {
    "conversation_already_has_active_response": "response.create",
    "response_cancel_not_active": "response.cancel",
    "input_audio_buffer_commit_empty": "input_audio_buffer.commit",
    "item_truncate_invalid_item_id": "conversation.item.truncate",
    "item_already_truncated": "conversation.item.truncate",
    "unsupported_content_type": "conversation.item.truncate",
    "item_delete_invalid_item_id": "conversation.item.delete",
    "item_retrieve_invalid_item_id": "conversation.item.retrieve",
    "invalid_tool_call_id": "conversation.item.create",
    "cannot_update_voice": "session.update",
}

_BLAMED_BY_PARAM: dict[str, str] = {
    "session": "session.update",
    "item": "conversation.item.create",
    "previous_item_id": "conversation.item.create",
    "audio_end_ms": "conversation.item.truncate",
    "response": "response.create",
}


def blamed_type(error: ev.ErrorDetails) -> str | None:
    """Return the wire name of the request that an error is about, or None if it does not say."""
    by_code = _BLAMED_BY_CODE.get(str(error.code))
    return by_code or _BLAMED_BY_PARAM.get(str(error.param or "").split(".", 1)[0])


def _same_item(request: Any, answer: Any) -> bool:
    return bool(request.item_id == answer.item_id)


def _same_retrieved(request: Any, answer: Any) -> bool:
    return bool(request.item_id == getattr(answer.item, "id", None))


def _same_created(request: Any, answer: Any) -> bool:
    """Match a created item by the id we gave it, or by its kind where the id was replaced."""
    item_id = getattr(answer.item, "id", None)
    if request.item.id == item_id:
        return True
    ours = str(item_id or "").startswith(ITEM_ID_PREFIX)
    return not ours and _kind(request.item) == _kind(answer.item) and not _is_own(answer.item)


ITEM_ID_PREFIX = "item_rb_"
"""How the ids start that a session gives to the items it creates."""


def _kind(item: Any) -> tuple[object, object]:
    return getattr(item, "type", None), getattr(item, "role", None)


def _is_own(item: Any) -> bool:
    """Tell an item that the server made by itself, of speech or in a response."""
    parts: list[object] = getattr(item, "content", None) or []
    spoken = any(isinstance(part, ev.InputAudio) for part in parts)
    return spoken or getattr(item, "status", None) == "in_progress"


def _cancelled(request: Any, answer: Any) -> bool:
    answered = getattr(answer.response, "id", None)
    return request.response_id is None or bool(request.response_id == answered)


def _any(_request: Any, _answer: Any) -> bool:
    return True


CONFIRMING: dict[type[ev.Event], tuple[type[ev.Event], ...]] = {
    ev.SessionUpdated: (ev.SessionUpdate,),
    ev.translation.SessionUpdated: (ev.translation.SessionUpdate,),
    ev.ConversationItemAdded: (ev.ConversationItemCreate,),
    ev.ConversationItemCreated: (ev.ConversationItemCreate,),
    ev.ConversationItemDeleted: (ev.ConversationItemDelete,),
    ev.ConversationItemRetrieved: (ev.ConversationItemRetrieve,),
    ev.ConversationItemTruncated: (ev.ConversationItemTruncate,),
    ev.InputAudioBufferCommitted: (ev.InputAudioBufferCommit,),
    ev.InputAudioBufferCleared: (ev.InputAudioBufferClear,),
    ev.OutputAudioBufferCleared: (ev.OutputAudioBufferClear,),
    ev.ResponseDone: (ev.ResponseCancel,),
}
"""Which event confirms which requests. ``response.create`` has a stream for an answer."""

_MATCHES: dict[type[ev.Event], Callable[[Any, Any], bool]] = {
    ev.SessionUpdated: _any,
    ev.translation.SessionUpdated: _any,
    ev.ConversationItemAdded: _same_created,
    ev.ConversationItemCreated: _same_created,
    ev.ConversationItemDeleted: _same_item,
    ev.ConversationItemRetrieved: _same_retrieved,
    ev.ConversationItemTruncated: _same_item,
    ev.InputAudioBufferCommitted: _any,
    ev.InputAudioBufferCleared: _any,
    ev.OutputAudioBufferCleared: _any,
    ev.ResponseDone: _cancelled,
}

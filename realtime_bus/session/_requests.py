"""Requests that wait for their answer. Pure: events in, outcomes out; no clock, no tasks.

Rules (Realtime protocol, "general rules" and "errors"):

1. Every command that has an answer is noted when it is sent, whoever sends it: one socket answers
   in order. A request is one that somebody awaits.
2. An ``error`` that names a command's ``event_id`` rejects it. One that names none is matched by
   what it complains about: its code, then the first part of its ``param``; the oldest command of
   that kind is meant. Failing that, it is nobody's.
3. Each kind of command has one confirming event. Where that event names an item or a response, it
   must be the right one; where it names none (commit, clear, session.update), the oldest command
   of its kind is meant.
4. Where a server gives a created item an id of its own, the oldest create of an item of the same
   type and role is meant, unless another create has just that id, or the item has answered one:
   said again, it answers nobody.
5. An item that is in progress, or holds audio of the user, was made by the server and
   answers nobody; nor does a commit of what turn detection ended.
6. A request that nobody awaits any more keeps its place: its late answer is not another's.
7. When the session ends, every request fails with the reason. When a connection is lost and the
   session goes on, those that may be repeated wait on, and are sent again; the others fail.

Bound: the last 256 commands that nobody awaits, and items that were created.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from realtime_bus import events as ev
from realtime_bus._secrets import redact
from realtime_bus.errors import CloseInfo, ConnectionLost, RequestRejected, SessionClosed

from ._settings import merge_settings

_MAX_UNAWAITED = _MAX_CREATED = 256


class Pending:
    """A command on its way.

    Attributes:
        event: What was sent.
        answer: The confirming event, once it is there.
        error: What to raise instead, once that is known.
        on_settled: Called once, when either is there; None if nobody waits.
    """

    __slots__ = ("answer", "error", "event", "on_settled")

    def __init__(self, event: ev.ClientEvent, on_settled: Callable[[], None] | None = None) -> None:
        self.event = event
        self.on_settled = on_settled
        self.answer: ev.Event | None = None
        self.error: Exception | None = None

    def settle(self, *, answer: ev.Event | None = None, error: Exception | None = None) -> None:
        """Give the request its outcome."""
        self.answer, self.error = answer, error
        if self.on_settled is not None:
            self.on_settled()


class Requests:
    """All commands of one session that have an answer and wait for it, oldest first.

    Attributes:
        settings: All the settings that the server has confirmed, as one request; None before.
    """

    def __init__(self) -> None:
        self.settings: Any = None
        self._expected: dict[str, Pending] = {}  # about to be sent, by event_id
        self._sent: list[Pending] = []
        self._ended_by_vad: deque[str] = deque(maxlen=16)  # items
        self._created: deque[str] = deque(maxlen=_MAX_CREATED)  # items that answer nobody

    def __len__(self) -> int:
        return sum(pending.on_settled is not None for pending in self._sent)

    @property
    def any_unanswered(self) -> bool:
        """Whether a command has no answer yet, awaited or not."""
        return bool(self._sent)

    def expect(self, pending: Pending) -> None:
        """Wait for the answer of a command that is sent next."""
        self._expected[pending.event.event_id or ""] = pending

    def sent(self, given: ev.ClientEvent, event: ev.ClientEvent) -> None:
        """Note a command that was sent, as it was given and as interceptors have left it."""
        pending = self._expected.pop(given.event_id or "", None)
        if pending is None:
            pending = Pending(event)
            unawaited = [p for p in self._sent if p.on_settled is None]
            if len(unawaited) >= _MAX_UNAWAITED:
                self._sent.remove(unawaited[0])
        else:
            pending.event = event
        self._sent.append(pending)

    def unsent(self, event: ev.ClientEvent) -> None:
        """Forget the command that was noted last: the transport did not take it."""
        if self._sent and self._sent[-1].event is event:
            self._sent.pop()

    def abandon(self, pending: Pending) -> None:
        """Stop waiting: whoever asked has gone."""
        self._expected.pop(pending.event.event_id or "", None)
        pending.on_settled = None

    def observe(self, event: ev.Event) -> None:
        """Look at what the server sent, and settle the request that it answers."""
        if isinstance(event, ev.Error):
            error = error_details(event)
            if (pending := self._blamed(error)) is not None:
                self._settle(pending, error=rejection(pending.event, error))
        elif isinstance(event, ev.InputAudioBufferSpeechStopped):
            self._ended_by_vad.append(str(event.item_id))
        elif not self._is_of_vad(event):
            confirmed = _CONFIRMING[type(event)]
            for matches in _MATCHES[type(event)]:
                if matches is _created_alike and _item_id(event) in self._created:
                    return
                for pending in self._sent:  # the oldest is meant, as a rule
                    if type(pending.event) in confirmed and matches(pending.event, event):
                        self._settle(pending, answer=event)
                        return

    def _is_of_vad(self, event: ev.Event) -> bool:
        return (
            isinstance(event, ev.InputAudioBufferCommitted) and event.item_id in self._ended_by_vad
        )

    def _settle(self, pending: Pending, **outcome: Any) -> None:
        self._sent.remove(pending)
        if isinstance(pending.event, _UPDATES) and "answer" in outcome:
            self.settings = merge_settings(self.settings, pending.event.session)
        made = _item_id(outcome.get("answer"))  # some servers name none
        if made and isinstance(pending.event, ev.ConversationItemCreate):
            self._created.append(made)
        pending.settle(**outcome)

    def _blamed(self, error: ev.ErrorDetails) -> Pending | None:
        if error.event_id is not None:
            return next((p for p in self._sent if p.event.event_id == error.event_id), None)
        kind = blamed_type(error)
        return next((p for p in self._sent if p.event.type == kind), None)

    def connection_lost(
        self,
        close: CloseInfo,
        is_waiting: Callable[[ev.ClientEvent], bool],
        confirmed: Callable[[ev.ClientEvent], ev.Event | None],
    ) -> tuple[list[ev.ClientEvent], list[ev.ClientEvent]]:
        """Decide about every command that a connection has not answered (rule 7).

        Args:
            close: How the connection ended.
            is_waiting: Tells whether a command was not sent at all, but waits for the next one.
            confirmed: Returns what confirms a command although nothing has answered it.

        Returns:
            The commands to send again, in order, and those that have failed.
        """
        again: list[ev.ClientEvent] = []
        failed: list[ev.ClientEvent] = []
        for pending in list(self._sent):
            event = pending.event
            if (answer := confirmed(event)) is not None:
                self._settle(pending, answer=answer)
            elif isinstance(event, _REPEATABLE) and not is_waiting(event):
                again.append(event)
            elif not is_waiting(event):
                failed.append(event)
                self._settle(pending, error=lost_with(event, close))
        self._ended_by_vad.clear()
        return again, failed

    def restored(self, item_ids: Iterable[str]) -> None:
        """Note which items another connection has: told again, they answer nobody."""
        self._created = deque(item_ids, maxlen=_MAX_CREATED)

    def fail(self, event: ev.ClientEvent, error: Exception) -> None:
        """Fail the request that a command is, if it is one."""
        pending = next((p for p in self._sent if p.event is event), None)
        if pending is not None:
            self._settle(pending, error=error)

    def fail_all(self, close: CloseInfo) -> None:
        """Fail every request: the session has ended."""
        pendings, self._sent = [*self._expected.values(), *self._sent], []
        self._expected.clear()
        for pending in pendings:
            message = f"the session closed with {close} before {pending.event.type} was answered"
            pending.settle(error=SessionClosed(message, close=close))


_UPDATES = (ev.SessionUpdate, ev.translation.SessionUpdate)
_REPEATABLE = (*_UPDATES, ev.ConversationItemCreate, ev.ConversationItemDelete)


def lost_with(event: ev.ClientEvent, close: CloseInfo) -> ConnectionLost:
    """Make the exception for a request that a lost connection has cost."""
    return ConnectionLost(
        f"the connection was lost ({close}) before {event.type} was answered; the session goes on",
        event_type=event.type,
        event_id=event.event_id or "",
        close=close,
    )


def error_details(event: ev.Error) -> ev.ErrorDetails:
    """Return what the server complains about, even where it says so in a shape of its own.

    Keys are taken out: what comes of this goes to logs and exceptions.
    """
    error: Any = event.error  # raw data, where it did not fit; and so may be its fields
    if not isinstance(error, ev.ErrorDetails):
        return ev.ErrorDetails(type="", message=redact(str(error)))
    fields = {name: getattr(error, name) for name in error.__struct_fields__}
    texts = {name: redact(str(raw)) for name, raw in fields.items() if raw is not None}
    return msgspec.structs.replace(error, **texts) if texts != fields else error


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
    "audio": "input_audio_buffer.append",
}


def blamed_type(error: ev.ErrorDetails) -> str | None:
    """Return the wire name of the request that an error is about, or None if it does not say."""
    by_code = _BLAMED_BY_CODE.get(str(error.code))
    return by_code or _BLAMED_BY_PARAM.get(str(error.param or "").split(".", 1)[0])


def _item_id(event: Any) -> str:
    return str(getattr(getattr(event, "item", None), "id", None) or "")


def _same_item(request: Any, answer: Any) -> bool:
    return bool(request.item_id == answer.item_id)


def _same_retrieved(request: Any, answer: Any) -> bool:
    return bool(request.item_id == getattr(answer.item, "id", None))


def _created_as_named(request: Any, answer: Any) -> bool:
    return bool(request.item.id == getattr(answer.item, "id", None))


def _created_alike(request: Any, answer: Any) -> bool:
    """Match a created item by its kind, where the server has replaced our id."""
    ours = _item_id(answer).startswith(ITEM_ID_PREFIX)
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


_CONFIRMING: dict[type[ev.Event], tuple[type[ev.ClientEvent], ...]] = {
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
"""Which event confirms which commands. ``response.create`` has a stream for an answer."""

_MATCHES: dict[type[ev.Event], tuple[Callable[[Any, Any], bool], ...]] = {
    ev.SessionUpdated: (_any,),
    ev.translation.SessionUpdated: (_any,),
    ev.ConversationItemAdded: (_created_as_named, _created_alike),
    ev.ConversationItemCreated: (_created_as_named, _created_alike),
    ev.ConversationItemDeleted: (_same_item,),
    ev.ConversationItemRetrieved: (_same_retrieved,),
    ev.ConversationItemTruncated: (_same_item,),
    ev.InputAudioBufferCommitted: (_any,),
    ev.InputAudioBufferCleared: (_any,),
    ev.OutputAudioBufferCleared: (_any,),
    ev.ResponseDone: (_cancelled,),
}
"""How they are matched: the surest way first."""

ANSWERED = frozenset(command for commands in _CONFIRMING.values() for command in commands)
"""The commands that have a confirming event."""

SEEN: tuple[type[ev.Event], ...] = (*_CONFIRMING, ev.Error, ev.InputAudioBufferSpeechStopped)
"""The events that may answer a command, or say that one does not."""

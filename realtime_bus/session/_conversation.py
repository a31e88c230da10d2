"""The one view of the conversation: its responses and items, what is active, who speaks.

Pure: events go in, facts come out. A session feeds its own with every server event in `SEEN`,
before interceptors and handlers, so that whoever is given an event finds the state after it.

Rules (Realtime protocol, "flows", "out-of-band responses"; servers that say less: `DIALECTS.md`):

1. A response is of the default conversation if it names a conversation, or if a
   ``conversation.item`` event told of one of its items. That is proof, whenever it comes.
2. Without proof, a response that answers a request of ours is where that request asked for it.
3. Failing that, ``conversation_id: null`` means out of band where this server names the
   conversation of others, or where the response carries metadata, which only requests have. An
   absent ``conversation_id`` tells nothing: such a response counts as the default conversation's.
4. One response of the conversation is active at a time: a newer one ends an older one whose
   ``response.done`` never came. One that is done does not begin again.
5. ``response.done`` without ``response.created`` is a response that ended at once.
6. An item is confirmed when a ``conversation.item`` event or a commit told of it; until it is
   deleted, it may be truncated and deleted. Items of responses out of band are never confirmed.
7. Somebody speaks from ``speech_started`` until ``speech_stopped``, a commit, a clear, or until
   turn detection is switched off.
8. Where the server answers speech by itself, its answer is due from ``speech_stopped`` or
   ``timeout_triggered`` on, until a response of the conversation begins, which is taken for it,
   somebody speaks again, the buffer is cleared, or the server is told not to answer any more.

Bounds: the last 128 responses and the last 4096 items; what is active stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar, TypeVar

import msgspec

from realtime_bus import events as ev

from ._settings import ActiveSettings, usable_format

_MAX_RESPONSES, _MAX_ITEMS = 128, 4096
_T = TypeVar("_T")


class ResponseState(msgspec.Struct, kw_only=True, eq=False):
    """What is known of a response.

    Attributes:
        id: Its id.
        in_conversation: Whether it is of the default conversation.
        done: Whether ``response.done`` was seen.
        over: Whether it is not active any more: done, superseded, or presumed lost.
        answers_speech: Whether it began when an answer of the server's own was due.
        status: How it ended; None while it is active, and where the server did not say.
        audio_format: How its audio is encoded: as the server announced for it, else as the
            session's was when it began. A later change of the session's does not touch it.
        item_ids: Its items, in the order in which they were first seen.
    """

    id: str
    in_conversation: bool = False
    done: bool = False
    over: bool = False
    answers_speech: bool = False
    status: str | None = None
    audio_format: ev.AudioFormat = ev.AudioPCM()
    item_ids: list[str] = []


class ItemState(msgspec.Struct, kw_only=True, eq=False):
    """What is known of an item.

    Attributes:
        id: Its id.
        type: Such as ``"message"`` or ``"function_call"``; None if it was only committed so far.
        role: Of a message.
        call_id: Of a function call or its output.
        response_id: The response that generated it, or None.
        confirmed: Whether the server said that it is in the conversation.
        deleted: Whether it was taken out again.
        truncated: Whether its audio was cut.
    """

    id: str
    type: str | None = None
    role: str | None = None
    call_id: str | None = None
    response_id: str | None = None
    confirmed: bool = False
    deleted: bool = False
    truncated: bool = False


class ConversationState:
    """The default conversation of one session, as far as its client can know it.

    Args:
        asked_out_of_band: Tells of a response that names no conversation whether the request that
            it answers asked for it out of band; None if nobody knows. See rule 2.

    Attributes:
        responses: By id, oldest first, those out of band included.
        items: By id, oldest first, those out of band and those deleted included.
        active_response: The response of the conversation that is being generated, or None.
        user_speaking: Whether the server's turn detection hears somebody.
        answer_due: Whether the server is about to answer by itself what somebody has said.
        names_conversations: Whether a response has named its conversation; then one that says
            null is out of band.
    """

    def __init__(
        self, asked_out_of_band: Callable[[ev.Response], bool | None] | None = None
    ) -> None:
        self._asked_out_of_band = asked_out_of_band
        self.responses: dict[str, ResponseState] = {}
        self.items: dict[str, ItemState] = {}
        self.active_response: ResponseState | None = None
        self.user_speaking: bool = False
        self.answer_due: bool = False
        self.names_conversations: bool = False
        self._settings = ActiveSettings()

    @property
    def active_response_id(self) -> str | None:
        """The id of the active response, or None."""
        return None if self.active_response is None else self.active_response.id

    def has_response(self, response_id: str | None) -> bool:
        """Tell whether a response is of the conversation, active or ended."""
        found = _find(self.responses, response_id)
        return found is not None and found.in_conversation

    def has_item(self, item_id: str | None) -> bool:
        """Tell whether an item is in the conversation now, as the server has confirmed."""
        found = _find(self.items, item_id)
        return found is not None and found.confirmed and not found.deleted

    def audio_format_of(self, response_id: str | None) -> ev.AudioFormat:
        """Return how a response's audio is encoded; of one that is not known, as the session's."""
        found = _find(self.responses, response_id)
        return self._settings.output_format if found is None else found.audio_format

    @property
    def quiet(self) -> bool:
        """Whether nobody speaks, answers, or is about to."""
        return not (self.user_speaking or self.answer_due or self.active_response)

    def connection_lost(self) -> bool:
        """Give up on all that was under way; return whether an answer to speech was due."""
        due = self.answer_due
        self.user_speaking = self.answer_due = False
        self.presume_over()
        for response in self.responses.values():
            response.over = True
        return due

    def restored(self, item_ids: Collection[str]) -> None:
        """Note which items another connection has: those alone are in the conversation."""
        for item in self.items.values():
            item.deleted = item.id not in item_ids
        for item_id in item_ids:
            self._item(item_id).confirmed = True

    def see(self, event: ev.Event) -> None:
        """Take note of one of the events in `SEEN`."""
        self.SEEN[type(event)](self, event)

    # --- responses ---------------------------------------------------------------------------

    def _created(self, event: ev.ResponseCreated) -> None:
        self._begin(event.response)

    def _done(self, event: ev.ResponseDone) -> None:
        response: Any = event.response
        is_new = _text(response, "id") not in self.responses
        state = self._begin(response, over=True) if is_new else self.responses[response.id]
        if state is not None:
            state.done = state.over = True
            state.status = _text(response, "status")
            if state is self.active_response:
                self.active_response = None

    def _begin(self, response: Any, *, over: bool = False) -> ResponseState | None:
        """Note a response, as read in whatever state; None if it has no id."""
        response_id = _text(response, "id")
        if response_id is None:
            return None
        state = self._response(response_id)
        state.over |= over
        names = _text(response, "conversation_id") is not None
        self.names_conversations |= names
        if names or not self._is_out_of_band(response):
            self._include(state)
        own = getattr(getattr(getattr(response, "audio", None), "output", None), "format", None)
        if isinstance(own, ev.AudioFormat):
            state.audio_format = usable_format(own)
        return state

    def presume_active(self, response_id: str) -> None:
        """Learn from a refusal which response is active, although nobody saw it begin."""
        state = self._response(response_id)
        if not state.done:
            state.over = state.in_conversation = False
            self._include(state)

    def presume_over(self) -> None:
        """Give up on the active response: the server has shown that there is none."""
        if self.active_response is not None:
            self.active_response.over = True
            self.active_response = None

    def presume_unanswered(self) -> None:
        """Give up on the server's answer to what somebody said: it should have begun by now."""
        self.answer_due = False

    def _is_out_of_band(self, response: Any) -> bool:
        """Apply rules 2 and 3 to a response that names no conversation."""
        asked = None if self._asked_out_of_band is None else self._asked_out_of_band(response)
        if asked is not None:
            return asked
        if getattr(response, "conversation_id", None) is not None:  # UNSET: the key is absent
            return False
        return self.names_conversations or bool(getattr(response, "metadata", None))

    def _include(self, state: ResponseState) -> None:
        """Take a response into the conversation; it ends an older active one (rule 4)."""
        if state.in_conversation:
            return
        state.in_conversation = True
        self.answer_due = False
        if not state.over:
            if self.active_response is not None:
                self.active_response.over = True
            self.active_response = state

    def _response(self, response_id: str) -> ResponseState:
        return _known(
            self.responses,
            response_id,
            _MAX_RESPONSES,
            lambda: ResponseState(
                id=response_id,
                answers_speech=self.answer_due,
                audio_format=self._settings.output_format,
            ),
            keep=self.active_response,
        )

    # --- items -------------------------------------------------------------------------------

    def _item(self, item_id: str) -> ItemState:
        return _known(self.items, item_id, _MAX_ITEMS, lambda: ItemState(id=item_id))

    def _read(self, item: Any) -> ItemState | None:
        item_id = _text(item, "id")
        if item_id is None:
            return None
        state = self._item(item_id)
        state.type = _text(item, "type") or state.type
        state.role = _text(item, "role") or state.role
        state.call_id = _text(item, "call_id") or state.call_id
        return state

    def _output_item(self, event: ev.ResponseOutputItemAdded | ev.ResponseOutputItemDone) -> None:
        state, response_id = self._read(event.item), _text(event, "response_id")
        if state is None or not response_id:  # left out: nobody knows whose it is
            return
        is_new, state.response_id = state.response_id != response_id, response_id
        if response_id not in self.responses:  # begun unseen: where, its items will tell
            self._include(self._response(response_id))
        response = self.responses[response_id]
        if is_new and len(response.item_ids) < _MAX_ITEMS:
            response.item_ids.append(state.id)
        if state.confirmed:
            self._include(response)

    def _conversation_item(
        self,
        event: ev.ConversationItemAdded | ev.ConversationItemCreated | ev.ConversationItemDone,
    ) -> None:
        state = self._read(event.item)
        if state is None:
            return
        if not isinstance(event, ev.ConversationItemDone):
            state.deleted = state.truncated = False  # added anew under an id of its own
        state.confirmed = True
        response = self.responses.get(state.response_id or "")
        if response is not None:
            self._include(response)

    def _committed(self, event: ev.InputAudioBufferCommitted) -> None:
        self.user_speaking = False
        if (item_id := _text(event, "item_id")) is not None:
            self._item(item_id).confirmed = True

    def _deleted(self, event: ev.ConversationItemDeleted) -> None:
        if (item_id := _text(event, "item_id")) in self.items:
            self.items[item_id].deleted = True

    def _truncated(self, event: ev.ConversationItemTruncated) -> None:
        if (item_id := _text(event, "item_id")) in self.items:
            self.items[item_id].truncated = True

    # --- who speaks --------------------------------------------------------------------------

    def _speech_started(self, _event: ev.InputAudioBufferSpeechStarted) -> None:
        self.user_speaking, self.answer_due = True, False

    def _turn_ended(
        self, _event: ev.InputAudioBufferSpeechStopped | ev.InputAudioBufferTimeoutTriggered
    ) -> None:
        self.user_speaking, self.answer_due = False, self._settings.server_responds

    def _cleared(self, _event: ev.InputAudioBufferCleared) -> None:
        self.user_speaking = self.answer_due = False

    def _configured(self, event: ev.SessionCreated | ev.SessionUpdated) -> None:
        settings = self._settings = ActiveSettings(event.session)
        self.user_speaking &= settings.detects_turns
        self.answer_due &= settings.server_responds

    SEEN: ClassVar[dict[type[ev.Event], Callable[[ConversationState, Any], None]]] = {
        ev.ResponseCreated: _created,
        ev.ResponseDone: _done,
        ev.ResponseOutputItemAdded: _output_item,
        ev.ResponseOutputItemDone: _output_item,
        ev.ConversationItemAdded: _conversation_item,
        ev.ConversationItemCreated: _conversation_item,
        ev.ConversationItemDone: _conversation_item,
        ev.ConversationItemDeleted: _deleted,
        ev.ConversationItemTruncated: _truncated,
        ev.InputAudioBufferCommitted: _committed,
        ev.InputAudioBufferSpeechStarted: _speech_started,
        ev.InputAudioBufferSpeechStopped: _turn_ended,
        ev.InputAudioBufferTimeoutTriggered: _turn_ended,
        ev.InputAudioBufferCleared: _cleared,
        ev.SessionCreated: _configured,
        ev.SessionUpdated: _configured,
    }
    """What is noted of each event that is looked at."""


def _text(thing: object, name: str) -> Any:
    """Return a text field; None where it is missing, empty, null, or something else."""
    found = getattr(thing, name, None)
    return found if isinstance(found, str) and found else None


def _find(known: dict[str, _T], key: object) -> _T | None:
    """Return the entry for an id, as read in whatever state; None if there is none."""
    return known.get(key) if isinstance(key, str) else None


def _known(
    known: dict[str, _T],
    key: str,
    limit: int,
    make: Callable[[], _T],
    keep: _T | None = None,
) -> _T:
    """Return the entry for a key, made if need be; the oldest makes room, except one to keep."""
    if key not in known:
        if len(known) >= limit:
            del known[next(old for old, entry in known.items() if entry is not keep)]
        known[key] = make()
    return known[key]

"""What a client can know when it sends: a pure machine, fed with both directions.

What the server has confirmed is asked of `ConversationState`, which sees each event first; here is
what our own events will have done by the time the next one arrives.

The rules
---------
* What is sent counts at once, as one socket delivers in order: an item that was created may be
  followed, one that was deleted may not.
* An ``error`` that names an event takes back what that event would have done. One that names
  none takes back a ``response.create`` on its way, for it may be that one's; the rest stands.
* Where two sides may have crossed on the wire, the client is believed: only what it knew, or
  could have known, makes an event wrong.
* The input buffer is measured by the audio that was sent. A commit or clear of ours empties it. A
  turn that the server found takes what lies before its end; what came after stays.

Bounds: the last 4096 event ids, items, parts, calls and responses; the last 256 events that may be
taken back, and requests for a response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias, TypeVar

from msgspec import UNSET

from realtime_bus import ActiveSettings, ConversationState
from realtime_bus import events as ev
from realtime_bus.audio import bytes_per_ms, bytes_to_ms
from realtime_bus_plugins._recent import Recent

_MAX_KNOWN, _MAX_UNDO = 4096, 256
_SPOKEN_PARTS = (ev.OutputAudio, ev.AudioPart)
_FORMATS = (ev.AudioPCM, ev.AudioPCMU, ev.AudioPCMA)
_Undo: TypeAlias = Callable[[], None]
_V = TypeVar("_V")


def find(thing: object, *names: str) -> Any:
    """Return a nested setting; None where anything on the way is missing, not set or raw data."""
    for name in names:
        thing = getattr(thing, name, None)
    return None if thing is UNSET else thing


def is_out_of_band(event: ev.ResponseCreate) -> bool:
    """Tell whether a request is for a response outside the default conversation."""
    return event.response is not None and event.response.conversation == "none"


class Observed:
    """What is known of a session.

    Args:
        conversation: The session's view of the conversation; it sees each event first.

    Attributes:
        conversation: The same.
        settings: What is in force.
        started: Whether the server has said anything yet.
        output_buffer: Whether the server has one: the session is a call's.
        spoken: Whether there was any output audio.
        event_ids: The ids that were used and not refused.
        answered: Ids of the calls whose output was sent.
        buffer_ms: At most so much audio is in the input buffer.
    """

    def __init__(self, conversation: ConversationState) -> None:
        self.conversation = conversation
        self.settings = ActiveSettings()
        self.started = self.output_buffer = self.spoken = False
        self.event_ids = Recent[str, None](_MAX_KNOWN)
        self.answered = Recent[str, None](_MAX_KNOWN)
        self._asked: list[ev.ResponseCreate] = []
        self.buffer_ms = 0.0
        self._sent_ms = 0.0
        self._asked_free: list[ev.ResponseCreate] = []
        self._answers = Recent[str, None](_MAX_KNOWN)  # responses that a request was taken off for
        self._last_error: object = None
        self._updates: list[ev.SessionUpdate] = []  # not confirmed yet
        self._created = Recent[str, Any](_MAX_KNOWN)  # items of ours, not confirmed yet
        self._leaving = Recent[str, None](_MAX_KNOWN)  # items that we have deleted, likewise
        self._truncated = Recent[str, None](_MAX_KNOWN)
        self._voiced = Recent[str, None](_MAX_KNOWN)  # items with audio of the assistant
        self._received = Recent[tuple[str, int], int](
            _MAX_KNOWN
        )  # its bytes, by item and content index
        self._formats = Recent[str, ev.AudioFormat](_MAX_KNOWN)  # what they are encoded in, by item
        self._undo = Recent[str, _Undo](_MAX_UNDO)

    def successor(self, settings: ActiveSettings) -> Observed:
        """Return what is to be observed of another connection, on which the session goes on."""
        successor = Observed(self.conversation)
        successor.started, successor.settings = True, settings
        successor.answered = self.answered
        # what was heard as audio may be truncated there, too: the session sees to how
        successor._voiced, successor._truncated = self._voiced, self._truncated
        successor._received, successor._formats = self._received, self._formats
        for response_id in self.conversation.responses:
            successor._answers[response_id] = None
        return successor

    def see(self, event: ev.ServerEvent) -> None:
        """Take note of one of the events in `SEEN`; the conversation has seen it already."""
        self.started = True
        self.SEEN[type(event)](self, event)

    def sent(self, event: ev.ClientEvent) -> None:
        """Take note of an event that is being sent."""
        send = self._SENDING.get(type(event))
        undo = None if send is None else send(self, event)
        if event.event_id is not None:
            self.event_ids[event.event_id] = None
            if undo is not None:
                self._undo[event.event_id] = undo

    # settings and the input buffer

    @property
    def awaited_input_format(self) -> ev.AudioFormat | None:
        """An input format that was asked for and is not confirmed, if it is another one."""
        asked = (find(event.session, "audio", "input", "format") for event in self._updates)
        current = self.settings.input_format
        return next((f for f in asked if isinstance(f, _FORMATS) and f != current), None)

    def _configured(self, event: ev.SessionCreated | ev.SessionUpdated) -> None:
        self.settings = ActiveSettings(event.session)
        if isinstance(event, ev.SessionUpdated):  # updates are confirmed in order
            del self._updates[:1]

    def _update(self, event: ev.SessionUpdate) -> _Undo:
        self._updates.append(event)
        del self._updates[:-_MAX_UNDO]
        return lambda: _remove(self._updates, event)

    def _append(self, event: ev.InputAudioBufferAppend) -> None:
        added_ms = len(event.audio) / bytes_per_ms(self.settings.input_format)
        self._sent_ms += added_ms
        self.buffer_ms += added_ms

    def _empty(self, _event: ev.ClientEvent) -> None:
        self.buffer_ms = 0.0

    def _turn_ended(
        self, event: ev.InputAudioBufferSpeechStopped | ev.InputAudioBufferTimeoutTriggered
    ) -> None:
        """The turn's commit follows."""
        end_ms = min(event.audio_end_ms, self._sent_ms)  # a server may write any number
        left_ms = self._sent_ms - max(0, end_ms)
        self.buffer_ms = min(self.buffer_ms, left_ms)

    # responses

    @property
    def active_id(self) -> str | None:
        """The active response of the conversation."""
        return self.conversation.active_response_id

    @property
    def expects_response(self) -> bool:
        """Whether a response of the conversation is active, or was asked for."""
        return bool(self.asked) or self.active_id is not None

    @property
    def free_ids(self) -> list[str]:
        """The active responses out of band."""
        responses = self.conversation.responses.values()
        return [r.id for r in responses if not r.in_conversation and not r.over]

    @property
    def asked(self) -> list[ev.ResponseCreate]:
        """Requests for a response of the conversation that were not answered yet."""
        for response in self.conversation.responses.values():
            if response.id not in self._answers:
                self._answers[response.id] = None
                del (self._asked if response.in_conversation else self._asked_free)[:1]
        return self._asked

    def _create_response(self, event: ev.ResponseCreate) -> _Undo:
        own = self.asked
        asked = self._asked_free if is_out_of_band(event) else own
        asked.append(event)
        del asked[:-_MAX_UNDO]
        return lambda: _remove(asked, event)

    def refused(self, error: object) -> None:
        """Take note of the last error, once; an answer to it may go out before `see` is called."""
        if error is self._last_error:
            return
        self._last_error = error
        event_id = find(error, "event_id")
        if isinstance(event_id, str):
            self.event_ids.pop(event_id, None)
            self._undo.pop(event_id, _nothing)()
        else:
            for blamed in (*self.asked[:1], *self._asked_free[:1]):
                self.event_ids.pop(blamed.event_id or "", None)
            del self._asked[:1]
            del self._asked_free[:1]

    def _error(self, event: ev.Error) -> None:
        error: Any = event.error
        if isinstance(error, ev.ErrorDetails):  # raw data is another object in each reading
            self.refused(error)

    # items

    def has_item(self, item_id: str) -> bool:
        """Tell whether an item is there, or was asked for and not refused."""
        if item_id in self._created:
            return True
        state = self.conversation.items.get(item_id)
        if item_id in self._leaving or (state is not None and state.deleted):
            return False
        if state is None:
            return item_id in self._voiced
        return state.confirmed or self.conversation.has_response(state.response_id)

    def has_call(self, call_id: str) -> bool:
        """Tell whether a function call with this id is in the conversation."""
        return any(
            item.type == "function_call" and item.call_id == call_id and self.has_item(item.id)
            for items in (self._created, self.conversation.items)
            for item in items.values()
        )

    def is_assistant_audio(self, item_id: str) -> bool:
        """Tell whether an item holds audio of the assistant."""
        return item_id in self._voiced

    def is_truncated(self, item_id: str) -> bool:
        """Tell whether an item was cut."""
        state = self.conversation.items.get(item_id)
        return item_id in self._truncated or (state is not None and state.truncated)

    def received_ms(self, item_id: str, content_index: int) -> int | None:
        """Return how much audio of a part came, rounded down; None if none did."""
        length = self._received.get((item_id, content_index))
        return None if length is None else bytes_to_ms(length, self._formats.get(item_id))

    def kind_of(self, item_id: str) -> str:
        """Return an item's role or type, for messages."""
        item: Any = self._created.get(item_id) or self.conversation.items.get(item_id)
        return getattr(item, "role", None) or getattr(item, "type", None) or "unheard"

    def _item(self, event: Any) -> None:
        item_id = find(event.item, "id")
        self._created.pop(item_id, None)
        content: Any = find(event.item, "content") or ()
        if find(event.item, "role") == "assistant" and any(
            isinstance(part, _SPOKEN_PARTS) for part in content
        ):
            self._voice(item_id)

    def _voice(self, item_id: str | None) -> None:
        if item_id:
            self._voiced[item_id] = None

    def _part(self, event: ev.ResponseContentPartAdded) -> None:
        if isinstance(event.part, _SPOKEN_PARTS):
            self._voice(event.item_id)

    def _audio(self, event: ev.ResponseOutputAudioDelta) -> None:
        self.spoken = True
        response = self.conversation.responses.get(event.response_id)
        if response is None or response.in_conversation:
            place = (event.item_id, event.content_index)
            self._voice(event.item_id)
            self._received[place] = self._received.get(place, 0) + len(event.delta)
            audio_format = self.conversation.audio_format_of(event.response_id)
            self._formats[event.item_id] = audio_format

    def _deleted(self, event: ev.ConversationItemDeleted) -> None:
        self._leaving.pop(event.item_id, None)
        self._voiced.pop(event.item_id, None)

    def _create(self, event: ev.ConversationItemCreate) -> _Undo:
        item: Any = event.item
        call_id = item.call_id if isinstance(item, ev.FunctionCallOutputItem) else None
        if call_id is not None:
            self.answered[call_id] = None
        if item.id is not None:
            self._created[item.id] = item
            self._truncated.pop(item.id, None)

        def undo() -> None:
            self._created.pop(item.id or "", None)
            self.answered.pop(call_id or "", None)

        return undo

    def _delete(self, event: ev.ConversationItemDelete) -> _Undo | None:
        item_id = event.item_id
        if not self.has_item(item_id):
            return None
        created = self._created.pop(item_id, None)
        item = created or self.conversation.items.get(item_id)
        output = getattr(item, "type", None) == "function_call_output"
        call_id = getattr(item, "call_id", None) if output else None
        answered = call_id in self.answered
        self.answered.pop(call_id or "", None)
        self._leaving[item_id] = None

        def undo() -> None:
            self._leaving.pop(item_id, None)
            if created is not None:
                self._created[item_id] = created
            if answered and call_id is not None:
                self.answered[call_id] = None

        return undo

    def _truncate(self, event: ev.ConversationItemTruncate) -> _Undo | None:
        if not self.has_item(event.item_id):
            return None
        self._truncated[event.item_id] = None
        return lambda: _nothing(self._truncated.pop(event.item_id, None))

    # tables

    def _call(self, _event: ev.ServerEvent) -> None:
        self.output_buffer = True

    def _told(self, _event: ev.ServerEvent) -> None:
        """What the conversation keeps."""

    SEEN: ClassVar[dict[type[ev.ServerEvent], Callable[[Observed, Any], None]]] = {
        ev.SessionCreated: _configured,
        ev.SessionUpdated: _configured,
        ev.InputAudioBufferSpeechStopped: _turn_ended,
        ev.InputAudioBufferTimeoutTriggered: _turn_ended,
        ev.InputAudioBufferCommitted: _told,
        ev.ResponseCreated: _told,
        ev.ResponseDone: _told,
        ev.ResponseOutputItemAdded: _item,
        ev.ResponseOutputItemDone: _item,
        ev.ResponseContentPartAdded: _part,
        ev.ResponseOutputAudioDelta: _audio,
        ev.ConversationItemAdded: _item,
        ev.ConversationItemCreated: _item,
        ev.ConversationItemDone: _item,
        ev.ConversationItemDeleted: _deleted,
        ev.ConversationItemTruncated: _told,
        ev.OutputAudioBufferStarted: _call,
        ev.OutputAudioBufferStopped: _call,
        ev.OutputAudioBufferCleared: _call,
        ev.Error: _error,
    }
    """What is noted of each event that is looked at."""

    _SENDING: ClassVar[dict[type[ev.Event], Callable[[Observed, Any], _Undo | None]]] = {
        ev.SessionUpdate: _update,
        ev.InputAudioBufferAppend: _append,
        ev.InputAudioBufferCommit: _empty,
        ev.InputAudioBufferClear: _empty,
        ev.ResponseCreate: _create_response,
        ev.ConversationItemCreate: _create,
        ev.ConversationItemDelete: _delete,
        ev.ConversationItemTruncate: _truncate,
    }


def _remove(events: list[_V], event: _V) -> None:
    """Remove this very event: another one may be equal."""
    events[:] = [other for other in events if other is not event]


def _nothing(_value: object = None) -> None:
    pass

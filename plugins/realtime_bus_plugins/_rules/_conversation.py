"""The conversation's items: which exist, what was said in them, and which calls are open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from realtime_bus import events as ev
from realtime_bus.audio import bytes_to_ms

from ._replies import RepliesKnown
from ._settings import SettingsKnown, known_format

__all__ = ["ConversationKnown", "ItemKnown"]

_SPOKEN_PARTS = (ev.OutputAudio, ev.AudioPart)
Undo = Callable[[], None]


class ItemKnown:
    """What is known of an item.

    Attributes:
        item: Its last reading; None if only audio of it was seen.
        spoken: Whether it holds the assistant's audio.
        received: Bytes of audio by content index.
        audio_format: What they are encoded in.
        truncated: Whether it was cut.
    """

    def __init__(self, item: Any = None) -> None:
        self.item = item
        self.spoken = False
        self.received: dict[int, int] = {}
        self.audio_format: ev.AudioFormat | None = None
        self.truncated = False

    def received_ms(self, content_index: int) -> int | None:
        """Return how much audio of a part came, rounded down; None if none did."""
        length = self.received.get(content_index)
        return None if length is None else bytes_to_ms(length, self.audio_format)

    def read(self, item: Any) -> None:
        """Take note of the item as the server shows it."""
        self.item = item
        content: Any = getattr(item, "content", None) or ()
        if getattr(item, "role", None) == "assistant":
            self.spoken |= any(isinstance(part, _SPOKEN_PARTS) for part in content)


class ConversationKnown:
    """Items by id, and which calls were answered.

    Attributes:
        items: What exists, and what was asked for and not refused.
        answered: Ids of the calls whose output was sent.
    """

    SEEN = (
        ev.ConversationItemAdded,
        ev.ConversationItemCreated,
        ev.ConversationItemDone,
        ev.ConversationItemDeleted,
        ev.ConversationItemTruncated,
        ev.InputAudioBufferCommitted,
        ev.ResponseOutputItemAdded,
        ev.ResponseOutputItemDone,
        ev.ResponseContentPartAdded,
        ev.ResponseOutputAudioDelta,
    )

    def __init__(self) -> None:
        self.items: dict[str, ItemKnown] = {}
        self.answered: set[str] = set()
        self._leaving: set[str] = set()

    def __contains__(self, item_id: str) -> bool:
        return item_id in self.items

    def knows_call(self, call_id: str) -> bool:
        """Tell whether a function call with this id is in the conversation."""
        calls = (known.item for known in self.items.values())
        return any(isinstance(c, ev.FunctionCallItem) and c.call_id == call_id for c in calls)

    # what the server says

    def see(self, event: ev.ServerEvent, replies: RepliesKnown, settings: SettingsKnown) -> None:
        """Take note of items that come, change and go; those out of band are no items."""
        see = self._SEEING.get(type(event))
        response_id = getattr(event, "response_id", None)
        if see is not None and response_id not in replies.free:
            see(self, event)
            if isinstance(event, ev.ResponseOutputAudioDelta):
                own = replies.format_of(event.response_id)
                known = self.items[event.item_id]
                known.audio_format = known_format(own or settings.output_format)

    def _item(self, event: Any) -> None:
        item_id = getattr(event.item, "id", None)
        if isinstance(item_id, str) and item_id not in self._leaving:
            self.items.setdefault(item_id, ItemKnown()).read(event.item)

    def _committed(self, event: ev.InputAudioBufferCommitted) -> None:
        self.items.setdefault(event.item_id, ItemKnown())

    def _part(self, event: ev.ResponseContentPartAdded) -> None:
        if event.item_id in self.items:
            self.items[event.item_id].spoken |= isinstance(event.part, _SPOKEN_PARTS)

    def _audio(self, event: ev.ResponseOutputAudioDelta) -> None:
        known = self.items.setdefault(event.item_id, ItemKnown())
        known.spoken = True
        received = known.received.get(event.content_index, 0)
        known.received[event.content_index] = received + len(event.delta)

    def _deleted(self, event: ev.ConversationItemDeleted) -> None:
        if event.item_id in self._leaving:  # gone since we asked; it may have been made anew
            self._leaving.discard(event.item_id)
        else:
            self.items.pop(event.item_id, None)

    def _truncated(self, event: ev.ConversationItemTruncated) -> None:
        if event.item_id in self.items:
            self.items[event.item_id].truncated = True

    _SEEING: ClassVar[dict[type[ev.Event], Callable[[ConversationKnown, Any], None]]] = {
        ev.ConversationItemAdded: _item,
        ev.ConversationItemCreated: _item,
        ev.ConversationItemDone: _item,
        ev.ConversationItemDeleted: _deleted,
        ev.ConversationItemTruncated: _truncated,
        ev.InputAudioBufferCommitted: _committed,
        ev.ResponseOutputItemAdded: _item,
        ev.ResponseOutputItemDone: _item,
        ev.ResponseContentPartAdded: _part,
        ev.ResponseOutputAudioDelta: _audio,
    }

    # what we send

    def sent(self, event: ev.ClientEvent) -> Undo | None:
        """Take note of what is created, deleted and cut."""
        send = self._SENDING.get(type(event))
        return None if send is None else send(self, event)

    def _create(self, event: ev.ConversationItemCreate) -> Undo | None:
        item: Any = event.item
        if isinstance(item, ev.FunctionCallOutputItem):
            self.answered.add(item.call_id)
        if item.id is not None:
            self.items[item.id] = ItemKnown(item)
        return lambda: self._uncreate(item)

    def _uncreate(self, item: Any) -> None:
        self.items.pop(item.id, None)
        self.answered.discard(getattr(item, "call_id", ""))

    def _delete(self, event: ev.ConversationItemDelete) -> Undo | None:
        known = self.items.pop(event.item_id, None)
        if known is None:
            return None
        self._leaving.add(event.item_id)
        if isinstance(known.item, ev.FunctionCallOutputItem):
            self.answered.discard(known.item.call_id)
        return lambda: self._undelete(event.item_id, known)

    def _undelete(self, item_id: str, known: ItemKnown) -> None:
        self._leaving.discard(item_id)
        self.items[item_id] = known
        if isinstance(known.item, ev.FunctionCallOutputItem):
            self.answered.add(known.item.call_id)

    def _truncate(self, event: ev.ConversationItemTruncate) -> Undo | None:
        known = self.items.get(event.item_id)
        if known is None:
            return None
        known.truncated = True
        return lambda: setattr(known, "truncated", False)

    _SENDING: ClassVar[dict[type[ev.Event], Callable[[ConversationKnown, Any], Undo | None]]] = {
        ev.ConversationItemCreate: _create,
        ev.ConversationItemDelete: _delete,
        ev.ConversationItemTruncate: _truncate,
    }

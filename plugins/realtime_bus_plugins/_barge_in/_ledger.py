"""What is known of a session's responses and spoken items: the facts, without decisions.

Bounds: the last 128 responses and the last 128 items of the assistant; older ones are forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from realtime_bus import events as ev

__all__ = ["ItemState", "Ledger", "ResponseState"]

_KEPT = 128
_T = TypeVar("_T")


class ResponseState:
    """What is known of a response."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.in_conversation = False
        self.over = False
        """Done, or cancelled by us or by the server: a cancel would be refused."""


class ItemState:
    """What is known of an item that may hold audio."""

    def __init__(self) -> None:
        self.response_id: str | None = None
        self.in_conversation = False
        self.closed = False
        """Cut, truncated or deleted: nothing more is to be sent about it."""
        self.received_bytes: dict[int, int] = {}
        self.ended: set[int] = set()


class Ledger:
    """Keep the books on responses and items, from a session's events.

    Attributes:
        generation: How often somebody has interrupted.
        responses: By id, oldest first.
        items: By id, oldest first; only those that may hold the assistant's audio.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.responses: dict[str, ResponseState] = {}
        self.items: dict[str, ItemState] = {}

    def see(self, event: ev.ServerEvent) -> None:
        """Take note of one of the events in `SEEN`."""
        self.SEEN[type(event)](self, event)

    def response(self, response_id: str) -> ResponseState:
        """Return what is known of a response; one that is new belongs to this generation."""
        return _known(self.responses, response_id, lambda: ResponseState(self.generation))

    def item(self, item_id: str) -> ItemState:
        """Return what is known of an item."""
        return _known(self.items, item_id, ItemState)

    def generated(self, item_id: str, response_id: str) -> ItemState:
        """Note that an item is part of a response."""
        item = self.item(item_id)
        item.response_id = response_id
        if item.in_conversation:
            self.response(response_id).in_conversation = True
        return item

    def _created(self, event: ev.ResponseCreated) -> None:
        if response_id := _id(event.response):
            response = self.response(response_id)
            # null for out-of-band responses; a server that never says is told by its items
            response.in_conversation |= bool(getattr(event.response, "conversation_id", None))

    def _done(self, event: ev.ResponseDone) -> None:
        if response_id := _id(event.response):
            self.response(response_id).over = True
            for item in self.items.values():
                if item.response_id == response_id:
                    item.ended.update(item.received_bytes)

    def _output_item(self, event: ev.ResponseOutputItemAdded) -> None:
        if (item_id := _id(event.item)) and _may_speak(event.item):
            self.generated(item_id, event.response_id)

    def _in_conversation(
        self,
        event: ev.ConversationItemAdded | ev.ConversationItemCreated | ev.ConversationItemDone,
    ) -> None:
        if (item_id := _id(event.item)) and _may_speak(event.item):
            item = self.item(item_id)
            item.in_conversation = True
            if item.response_id is not None:
                self.response(item.response_id).in_conversation = True

    def _audio_done(self, event: ev.ResponseOutputAudioDone) -> None:
        self.item(event.item_id).ended.add(event.content_index)

    def _gone(self, event: ev.ConversationItemDeleted | ev.ConversationItemTruncated) -> None:
        if event.item_id in self.items:
            self.items[event.item_id].closed = True

    SEEN: ClassVar[dict[type[ev.ServerEvent], Callable[[Ledger, Any], None]]] = {
        ev.ResponseCreated: _created,
        ev.ResponseDone: _done,
        ev.ResponseOutputItemAdded: _output_item,
        ev.ResponseOutputAudioDone: _audio_done,
        ev.ConversationItemAdded: _in_conversation,
        ev.ConversationItemCreated: _in_conversation,
        ev.ConversationItemDone: _in_conversation,
        ev.ConversationItemDeleted: _gone,
        ev.ConversationItemTruncated: _gone,
    }


def _known(known: dict[str, _T], key: str, make: Callable[[], _T]) -> _T:
    """Return the entry for a key, made if need be; the oldest makes room."""
    if key not in known:
        if len(known) >= _KEPT:
            del known[next(iter(known))]
        known[key] = make()
    return known[key]


def _id(thing: object) -> str:
    found = getattr(thing, "id", None)  # a nested object of an unknown kind may have none
    return found if isinstance(found, str) else ""


def _may_speak(item: object) -> bool:
    """Tell whether an item may hold the assistant's audio."""
    return getattr(item, "role", None) == "assistant"

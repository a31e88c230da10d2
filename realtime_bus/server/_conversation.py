"""The default conversation: its items in order, and how much of them is kept.

The rules
---------
* A new item goes to the end, behind `previous_item_id`, or first (``"root"``). An unknown
  `previous_item_id` and an id that exists are refused; nothing is added.
* Truncation is for the model's spoken messages, once there is audio, and no longer than that.
  The transcript goes, for nobody knows how far it was heard.
* What is kept has a bound, in items and in bytes. Above the latter the oldest audio goes first:
  nothing but ``retrieve`` shows it, and truncation goes by lengths, which stay.
* When that does not do, a client's item is refused, with ``conversation_full``. A turn and the
  model's items are not, for there is nobody who could be told to try again: the oldest items go,
  and each is told by ``conversation.item.deleted``.

Source: Realtime protocol, conversation items.
"""

from __future__ import annotations

from collections.abc import Iterator

from realtime_bus import events as ev

from ._items import StoredItem
from ._wire import EventWriter, InvalidRequest, invalid_value


class DefaultConversation:
    """The items of one session's default conversation.

    Args:
        out: Where the events of added items go; makes the ids.
        max_items: How many it takes.
        max_bytes: How much it keeps of them, their audio included.
        margin_ms: By how much it believes its audio to be shorter, in truncations.
    """

    def __init__(
        self,
        out: EventWriter,
        *,
        max_items: int = 10_000,
        max_bytes: int = 64 * 1024 * 1024,
        margin_ms: int = 0,
    ) -> None:
        self.conversation_id = out.new_id("conv")
        self._out = out
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._margin_ms = margin_ms
        self._order: list[str] = []
        self._items: dict[str, StoredItem] = {}
        self._calls: dict[str, int] = {}  # how many items are a call with this id
        self._audible: dict[str, StoredItem] = {}  # those whose audio is kept, the oldest first
        self._payload_bytes = self._audio_bytes = 0

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[StoredItem]:
        return (self._items[item_id] for item_id in self._order)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    @property
    def last_id(self) -> str | None:
        """The last item's id."""
        return self._order[-1] if self._order else None

    def find(self, item_id: str) -> StoredItem | None:
        """Return an item, or None if it is not there."""
        return self._items.get(item_id)

    def knows_call(self, call_id: str) -> bool:
        """Tell whether a function call with this id is in the conversation."""
        return call_id in self._calls

    def fresh_id(self, *, wanted: str | None = None) -> str:
        """Return the wanted id, or one that is free: clients may have taken any."""
        while wanted is None or wanted in self._items:
            wanted = self._out.new_id("item")
        return wanted

    def check_room(self, stored: StoredItem) -> None:
        """Refuse one more of a client's items.

        Raises:
            InvalidRequest: There are as many as there may be.
        """
        if len(self._order) >= self._max_items or not self._fits(stored):
            message = (
                f"The conversation is full: it keeps {self._max_items} items and "
                f"{self._max_bytes} bytes. Delete what is not needed any more."
            )
            raise InvalidRequest("conversation_full", message, param="item")

    def _fits(self, stored: StoredItem) -> bool:
        more = stored.payload_bytes + stored.kept_bytes
        return self._payload_bytes + more <= self._max_bytes  # other items' audio can go

    def add(self, stored: StoredItem, *, after: str | None = None) -> None:
        """Put an item at its place, note what it follows, and tell; the oldest make room.

        Raises:
            InvalidRequest: There is no such predecessor, or the id is taken.
        """
        if after not in (None, "root") and after not in self._items:
            message = f"The item with id '{after}' does not exist; nothing was added."
            raise invalid_value("previous_item_id", message)
        if stored.item_id in self._items:
            message = f"Error adding item: an item with id '{stored.item_id}' already exists."
            raise InvalidRequest("item_create_duplicate_item_id", message)
        while self._order and (len(self._order) >= self._max_items or not self._fits(stored)):
            self._push_out(self._order[0])
        place = len(self._order)
        if after is not None:
            known = after != "root" and after in self._items  # it may have been the oldest
            place = self._order.index(after) + 1 if known else 0
        stored.previous_item_id = self._order[place - 1] if place else None
        self._order.insert(place, stored.item_id)
        self._items[stored.item_id] = stored
        if isinstance(stored.item, ev.FunctionCallItem) and stored.item.call_id:
            self._calls[stored.item.call_id] = self._calls.get(stored.item.call_id, 0) + 1
        self.count(stored)
        before = stored.previous_item_id
        self._out.send(ev.ConversationItemAdded(item=stored.item, previous_item_id=before))

    def done(self, stored: StoredItem, item: ev.Item) -> None:
        """Tell that an item is complete, unless the client has deleted it meanwhile."""
        if stored.item_id in self._items:
            before = stored.previous_item_id
            self._out.send(ev.ConversationItemDone(item=item, previous_item_id=before))

    def count(self, stored: StoredItem) -> None:
        """Count an item again that has changed, and let the oldest audio go if it is too much."""
        if self._items.get(stored.item_id) is not stored:
            return
        before, stored.weight_bytes = stored.weight_bytes, stored.payload_bytes
        self._payload_bytes += stored.weight_bytes - before
        self.count_audio(stored)

    def count_audio(self, stored: StoredItem) -> None:
        """The same, for an item whose audio alone has changed."""
        before, stored.audio_bytes = stored.audio_bytes, stored.kept_bytes
        self._audio_bytes += stored.audio_bytes - before
        if stored.audio_bytes:
            self._audible.setdefault(stored.item_id, stored)
        while self._audible and self._payload_bytes + self._audio_bytes > self._max_bytes:
            oldest = self._audible.pop(next(iter(self._audible)))
            self._audio_bytes -= oldest.audio_bytes
            oldest.audio_bytes = 0
            for part in oldest.audio.values():
                part.forget()

    def retrieve(self, item_id: str) -> ev.Item:
        """Return an item with its audio.

        Raises:
            InvalidRequest: It is not there.
        """
        return self._existing("retrieve", item_id).with_audio()

    def delete(self, item_id: str) -> None:
        """Remove an item.

        Raises:
            InvalidRequest: It is not there.
        """
        self._existing("delete", item_id)
        self._remove(item_id)

    def _remove(self, item_id: str) -> None:
        self._order.remove(item_id)
        stored = self._items.pop(item_id)
        self._audible.pop(item_id, None)
        self._payload_bytes -= stored.weight_bytes
        self._audio_bytes -= stored.audio_bytes
        if isinstance(stored.item, ev.FunctionCallItem) and stored.item.call_id:
            left = self._calls[stored.item.call_id] = self._calls[stored.item.call_id] - 1
            if not left:
                del self._calls[stored.item.call_id]

    def _push_out(self, item_id: str) -> None:
        self._remove(item_id)
        self._out.send(ev.ConversationItemDeleted(item_id=item_id))

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Keep only what was heard of a spoken message of the model.

        Raises:
            InvalidRequest: It is no such message, or not that long.
        """
        stored = self._existing("truncate", item_id)
        part = stored.audio.get(content_index)
        if stored.by_model and stored.audio and part is None:
            message = f"Item '{item_id}' has no audio at content index {content_index}."
            raise invalid_value("content_index", message)
        if not stored.by_model or part is None or not (part.length_bytes or stored.truncated):
            raise InvalidRequest(
                "unsupported_content_type",
                f"Only model output audio messages can be truncated; '{item_id}' is none.",
                param="item_id",
            )
        length_ms = max(0, part.length_ms - self._margin_ms)
        if audio_end_ms > length_ms:
            message = f"Audio content of {length_ms}ms is already shorter than {audio_end_ms}ms"
            raise invalid_value("audio_end_ms", message)
        part.cut(audio_end_ms)
        stored.truncate()
        self.count(stored)

    def _existing(self, action: str, item_id: str) -> StoredItem:
        stored = self._items.get(item_id)
        if stored is None:
            message = f"Error: the item with id '{item_id}' does not exist."
            raise InvalidRequest(f"item_{action}_invalid_item_id", message, param="item_id")
        return stored

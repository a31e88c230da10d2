"""The default conversation: its items in order, and the audio that belongs to them.

The rules
---------
* A new item goes to the end, behind `previous_item_id`, or first (``"root"``). An unknown
  `previous_item_id` and an id that exists are refused; nothing is added.
* Clients may add messages, function calls and outputs; an output must answer a known call. They
  cannot add assistant audio.
* Items are kept and shown without audio; only ``retrieved`` shows it. Of the model's audio the
  conversation keeps what was sent, which is all that a client can have heard.
* Truncation is for the model's spoken messages: more than 0 ms, and no longer than the audio.
  The transcript goes, for nobody knows how far it was heard.
* What is kept has a bound: above it, the oldest audio goes. Truncation goes by lengths, which
  stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from realtime_bus import events as ev

from ._entries import Entry, Sound
from ._refusals import bad_value, no_such_item, not_truncatable

__all__ = ["Conversation"]


class Conversation:
    """The items of one session's default conversation.

    Args:
        conversation_id: Its id.
        max_items: How many it takes.
        max_audio_bytes: How much audio it keeps.
        margin_ms: By how much it believes its audio to be shorter, in truncations.
    """

    def __init__(
        self,
        conversation_id: str,
        *,
        max_items: int = 10_000,
        max_audio_bytes: int = 64 * 1024 * 1024,
        margin_ms: int = 0,
    ) -> None:
        self.conversation_id = conversation_id
        self._max_items = max_items
        self._max_audio_bytes = max_audio_bytes
        self._margin_ms = margin_ms
        self._order: list[str] = []
        self._entries: dict[str, Entry] = {}
        self._audio_bytes = 0

    def __iter__(self) -> Iterator[Entry]:
        return (self._entries[item_id] for item_id in self._order)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._entries

    @property
    def last_id(self) -> str | None:
        """The last item's id."""
        return self._order[-1] if self._order else None

    def find(self, item_id: str) -> Entry | None:
        """Return an item, or None if it is not there."""
        return self._entries.get(item_id)

    def knows_call(self, call_id: str) -> bool:
        """Tell whether a function call with this id is in the conversation."""
        return any(
            isinstance(entry.item, ev.FunctionCallItem) and entry.item.call_id == call_id
            for entry in self._entries.values()
        )

    def fresh_id(self, new_id: Callable[[str], str], *, wanted: str | None = None) -> str:
        """Return the wanted id, or one that is free: clients may have taken any."""
        while wanted is None or wanted in self._entries:
            wanted = new_id("item")
        return wanted

    def check_room(self) -> None:
        """Refuse one more of a client's items.

        Turns and replies are not refused: they cost audio, and cannot be made in masses.

        Raises:
            Refusal: There are as many as there may be.
        """
        if len(self._order) >= self._max_items:
            raise bad_value("item", f"The conversation is full: {self._max_items} items.")

    def add(self, entry: Entry, *, after: str | None = None) -> None:
        """Put an item at its place and note what it follows.

        Raises:
            Refusal: There is no such predecessor, or the id is taken.
        """
        place = self._place(after)
        if entry.item_id in self._entries:
            raise bad_value("item.id", f"Item with id '{entry.item_id}' already exists.")
        entry.previous_item_id = self._order[place - 1] if place else None
        self._order.insert(place, entry.item_id)
        self._entries[entry.item_id] = entry
        self.keep(sum(len(sound.audio) for sound in entry.sounds.values()))

    def _place(self, after: str | None) -> int:
        if after is None:
            return len(self._order)
        if after == "root":
            return 0
        if after not in self._entries:
            message = f"The item with id '{after}' does not exist; nothing was added."
            raise bad_value("previous_item_id", message)
        return self._order.index(after) + 1

    def keep(self, more_bytes: int) -> None:
        """Count audio that was added, and let the oldest go if it is too much."""
        self._audio_bytes += more_bytes
        if self._audio_bytes <= self._max_audio_bytes:
            return
        for entry in self:
            for sound in entry.sounds.values():
                self._audio_bytes -= len(sound.audio)
                sound.audio.clear()
            if self._audio_bytes <= self._max_audio_bytes:
                return

    def retrieve(self, item_id: str) -> ev.Item:
        """Return an item with its audio.

        Raises:
            Refusal: It is not there.
        """
        return self._entry("retrieve", item_id).with_audio()

    def delete(self, item_id: str) -> None:
        """Remove an item.

        Raises:
            Refusal: It is not there.
        """
        entry = self._entry("delete", item_id)
        self._order.remove(item_id)
        del self._entries[item_id]
        self._audio_bytes -= sum(len(sound.audio) for sound in entry.sounds.values())

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Keep only what was heard of a spoken message of the model.

        Raises:
            Refusal: It is no such message, or not that long.
        """
        entry = self._entry("truncate", item_id)
        sound = self._truncatable(entry, content_index)
        self._check_range(sound, audio_end_ms)
        before = len(sound.audio)
        sound.cut(audio_end_ms)
        self._audio_bytes -= before - len(sound.audio)
        entry.cut()

    def _truncatable(self, entry: Entry, content_index: int) -> Sound:
        if not entry.by_model or not entry.sounds:
            raise not_truncatable(entry.item_id)
        if content_index not in entry.sounds:
            message = f"Item '{entry.item_id}' has no audio at content index {content_index}."
            raise bad_value("content_index", message)
        return entry.sounds[content_index]

    def _check_range(self, sound: Sound, audio_end_ms: int) -> None:
        length_ms = max(0, sound.length_ms - self._margin_ms)
        if audio_end_ms > length_ms:
            raise bad_value(
                "audio_end_ms",
                f"Audio content of {length_ms}ms is already shorter than {audio_end_ms}ms",
            )
        if audio_end_ms <= 0:
            message = "Nothing was heard of the item: delete it, truncation needs more than 0ms."
            raise bad_value("audio_end_ms", message)

    def _entry(self, verb: str, item_id: str) -> Entry:
        entry = self._entries.get(item_id)
        if entry is None:
            raise no_such_item(verb, item_id)
        return entry

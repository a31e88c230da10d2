"""The default conversation: its items in order, and the audio that belongs to them.

The rules
---------
* A new item goes to the end, behind `previous_item_id`, or first (``"root"``). An unknown
  `previous_item_id` and an id that exists are refused; nothing is added.
* Clients may add messages, function calls and outputs; an output must answer a known call. They
  cannot add assistant audio. Which part goes with which role is in a table.
* Items are kept and shown without audio; only ``retrieved`` shows it. Of the model's audio the
  conversation keeps what was sent, which is all that a client can have heard.
* Truncation is for the model's spoken messages, once there is audio, and no longer than that.
  The transcript goes, for nobody knows how far it was heard.
* What is kept has a bound: above it, the oldest audio goes. Truncation goes by lengths, which
  stay.

Source: Realtime protocol, conversation items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from realtime_bus import events as ev
from realtime_bus.audio import bytes_to_ms, ms_to_bytes

from ._wire import EventWriter, InvalidRequest, invalid_value


class ItemAudio:
    """The audio of one content part.

    Attributes:
        audio: The bytes, as far as they are kept.
        audio_format: What they are encoded in.
        length_bytes: How much there is, kept or not.
    """

    __slots__ = ("audio", "audio_format", "length_bytes")

    def __init__(self, audio: bytes, audio_format: ev.AudioFormat | None) -> None:
        self.audio = bytearray(audio)
        self.audio_format = audio_format
        self.length_bytes = len(audio)

    @property
    def length_ms(self) -> int:
        """How long it is, rounded down."""
        return bytes_to_ms(self.length_bytes, self.audio_format)

    def cut(self, length_ms: int) -> None:
        """Keep only so much of the beginning."""
        self.length_bytes = ms_to_bytes(length_ms, self.audio_format)
        del self.audio[self.length_bytes :]


class StoredItem:
    """One item, and the audio that belongs to it.

    Attributes:
        item: As the protocol shows it, without audio.
        item_id: Its id.
        previous_item_id: What it followed when it was added.
        audio: The audio of its parts, by content index.
        by_model: Whether the model made it.
        truncated: Whether it was truncated: what the model still says does not count.
    """

    __slots__ = ("audio", "by_model", "item", "item_id", "previous_item_id", "truncated")

    def __init__(self, item: ev.Item, item_id: str, *, by_model: bool = False) -> None:
        self.item = item
        self.item_id = item_id
        self.previous_item_id: str | None = None
        self.audio: dict[int, ItemAudio] = {}
        self.by_model = by_model
        self.truncated = False

    @property
    def kept_bytes(self) -> int:
        """How much audio it holds."""
        return sum(len(part.audio) for part in self.audio.values())

    def show(self, item: ev.Item) -> None:
        """Show the item like this from now on, but what was truncated has no transcript."""
        if self.truncated and isinstance(item, ev.MessageItem):
            parts = item.content
            parts = [ev.OutputAudio() if isinstance(p, ev.OutputAudio) else p for p in parts]
            item = replace(item, content=parts)
        self.item = item

    def truncate(self) -> None:
        """Drop the transcript, now and for good."""
        self.truncated = True
        self.show(self.item)

    def with_audio(self) -> ev.Item:
        """Return the item as ``conversation.item.retrieved`` shows it."""
        if not self.audio or not isinstance(self.item, ev.MessageItem):
            return self.item
        parts = list(self.item.content)
        for index, part in enumerate(parts):
            if index in self.audio and isinstance(part, ev.InputAudio | ev.OutputAudio):
                parts[index] = replace(part, audio=bytes(self.audio[index].audio))
        return replace(self.item, content=parts)


class DefaultConversation:
    """The items of one session's default conversation.

    Args:
        out: Where the events of added items go; makes the ids.
        max_items: How many it takes.
        max_audio_bytes: How much audio it keeps.
        margin_ms: By how much it believes its audio to be shorter, in truncations.
    """

    def __init__(
        self,
        out: EventWriter,
        *,
        max_items: int = 10_000,
        max_audio_bytes: int = 64 * 1024 * 1024,
        margin_ms: int = 0,
    ) -> None:
        self.conversation_id = out.new_id("conv")
        self._out = out
        self._max_items = max_items
        self._max_audio_bytes = max_audio_bytes
        self._margin_ms = margin_ms
        self._order: list[str] = []
        self._items: dict[str, StoredItem] = {}
        self._audio_bytes = 0

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
        return any(
            isinstance(stored.item, ev.FunctionCallItem) and stored.item.call_id == call_id
            for stored in self._items.values()
        )

    def fresh_id(self, *, wanted: str | None = None) -> str:
        """Return the wanted id, or one that is free: clients may have taken any."""
        while wanted is None or wanted in self._items:
            wanted = self._out.new_id("item")
        return wanted

    def check_room(self) -> None:
        """Refuse one more of a client's items.

        Turns and responses are not refused: they cost audio, and cannot be made in masses.

        Raises:
            InvalidRequest: There are as many as there may be.
        """
        if len(self._order) >= self._max_items:
            raise invalid_value("item", f"The conversation is full: {self._max_items} items.")

    def add(self, stored: StoredItem, *, after: str | None = None) -> None:
        """Put an item at its place, note what it follows, and tell.

        Raises:
            InvalidRequest: There is no such predecessor, or the id is taken.
        """
        if after not in (None, "root") and after not in self._items:
            message = f"The item with id '{after}' does not exist; nothing was added."
            raise invalid_value("previous_item_id", message)
        if stored.item_id in self._items:
            message = f"Error adding item: an item with id '{stored.item_id}' already exists."
            raise InvalidRequest("item_create_duplicate_item_id", message)
        place = len(self._order)
        if after is not None:
            place = 0 if after == "root" else self._order.index(after) + 1
        stored.previous_item_id = self._order[place - 1] if place else None
        self._order.insert(place, stored.item_id)
        self._items[stored.item_id] = stored
        self.keep(stored.kept_bytes)
        before = stored.previous_item_id
        self._out.send(ev.ConversationItemAdded(item=stored.item, previous_item_id=before))

    def done(self, stored: StoredItem, item: ev.Item) -> None:
        """Tell that an item is complete, unless the client has deleted it meanwhile."""
        if stored.item_id in self._items:
            before = stored.previous_item_id
            self._out.send(ev.ConversationItemDone(item=item, previous_item_id=before))

    def keep(self, more_bytes: int) -> None:
        """Count audio that was added, and let the oldest go if it is too much."""
        self._audio_bytes += more_bytes
        for stored in self:
            if self._audio_bytes <= self._max_audio_bytes:
                return
            self._audio_bytes -= stored.kept_bytes
            for part in stored.audio.values():
                part.audio.clear()

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
        stored = self._existing("delete", item_id)
        self._order.remove(item_id)
        del self._items[item_id]
        self._audio_bytes -= stored.kept_bytes

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
        before = len(part.audio)
        part.cut(audio_end_ms)
        self._audio_bytes -= before - len(part.audio)
        stored.truncate()

    def _existing(self, action: str, item_id: str) -> StoredItem:
        stored = self._items.get(item_id)
        if stored is None:
            message = f"Error: the item with id '{item_id}' does not exist."
            raise InvalidRequest(f"item_{action}_invalid_item_id", message, param="item_id")
        return stored


# Items that clients bring

_PARTS: dict[str, dict[type, str]] = {
    "system": {ev.InputText: "input_text"},
    "user": {
        ev.InputText: "input_text",
        ev.InputAudio: "input_audio",
        ev.InputImage: "input_image",
    },
    "assistant": {ev.OutputText: "output_text", ev.TextPart: "text"},
}


def client_item(
    item: ev.Item | ev.ResponseInput,
    conversation: DefaultConversation,
    *,
    new_id: Callable[[str], str],
    audio_format: ev.AudioFormat | None,
    path: str = "item",
) -> StoredItem:
    """Check an item that a client brings, give it its ids, and put its audio aside.

    Args:
        item: As the client sent it.
        conversation: Where calls are looked up.
        new_id: Makes ids.
        audio_format: The session's input format, for audio that the item brings.
        path: Where in the event the item is, for errors.

    Raises:
        InvalidRequest: Clients cannot create such an item.
    """
    if not isinstance(item, ev.MessageItem | ev.FunctionCallItem | ev.FunctionCallOutputItem):
        message = f"Clients cannot create items of type '{item.type}'."
        raise invalid_value(f"{path}.type", message)
    if item.id in ("", "root"):
        raise invalid_value(f"{path}.id", f"'{item.id}' cannot be the id of an item.")
    item_id = item.id or conversation.fresh_id()
    if isinstance(item, ev.MessageItem):
        return _client_message(item, item_id, audio_format, path)
    if isinstance(item, ev.FunctionCallItem):
        call_id = item.call_id or new_id("call")
        return StoredItem(replace(item, id=item_id, status="completed", call_id=call_id), item_id)
    if not conversation.knows_call(item.call_id):
        message = f"Tool call ID '{item.call_id}' not found in conversation."
        raise InvalidRequest("invalid_tool_call_id", message, param=f"{path}.call_id")
    return StoredItem(replace(item, id=item_id, status="completed"), item_id)


def _client_message(
    item: ev.MessageItem, item_id: str, audio_format: ev.AudioFormat | None, path: str
) -> StoredItem:
    allowed, audio = _PARTS[item.role], dict[int, ItemAudio]()
    parts = list(item.content)
    for index, part in enumerate(parts):
        if type(part) not in allowed:
            raise _wrong_part(item.role, part, f"{path}.content[{index}]")
        if isinstance(part, ev.InputAudio) and part.audio is not None:
            audio[index] = ItemAudio(part.audio, audio_format)
            parts[index] = ev.InputAudio(transcript=part.transcript)
        elif isinstance(part, ev.TextPart):  # the beta's spelling
            parts[index] = ev.OutputText(text=part.text or "")
    stored = StoredItem(replace(item, id=item_id, status="completed", content=parts), item_id)
    stored.audio = audio
    return stored


def _wrong_part(role: str, part: ev.ContentPart, path: str) -> InvalidRequest:
    if role == "assistant" and isinstance(part, ev.OutputAudio | ev.AudioPart):
        message = f"Missing required parameter: '{path}.text': assistant audio cannot be added."
        return InvalidRequest("missing_required_parameter", message, param=f"{path}.text")
    allowed = ", ".join(_PARTS[role].values())
    message = f"'{part.type}' is not allowed in a {role} message; allowed are {allowed}."
    return invalid_value(f"{path}.type", message)

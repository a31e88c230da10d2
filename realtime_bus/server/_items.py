"""One item of a conversation: what it is, the audio that belongs to it, and what it weighs.

The rules
---------
* Clients may bring messages, function calls and outputs; an output must answer a known call. They
  cannot bring assistant audio. Which part goes with which role is in a table. Ids are short.
* Items are kept and shown without audio; only ``retrieved`` shows it. Of the model's audio the
  conversation keeps what was sent, which is all that a client can have heard.
* An item weighs what its texts, images and arguments take in memory, and something for itself and
  each of its parts. Audio is weighed beside it, for it may be forgotten.

Source: Realtime protocol, conversation items.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import getsizeof
from typing import Any, Protocol

from msgspec.structs import replace

from realtime_bus import events as ev
from realtime_bus.audio import bytes_to_ms, ms_to_bytes

from ._wire import MAX_EVENT_ID_CHARS, InvalidRequest, invalid_value

MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
"""What a client's item may weigh without its audio: it is told twice, in ``added`` and ``done``."""

ITEM_BYTES = 1024
PART_BYTES = 128
"""What an item and a part of one take, whatever is in them."""


def weigh(item: ev.Item) -> int:
    """Return about how much memory an item takes, in bytes; without audio."""
    parts = item.content if isinstance(item, ev.MessageItem) else []
    texts = (text for part in (item, *parts) for text in _fields(part) if type(text) is str)
    return ITEM_BYTES + PART_BYTES * len(parts) + sum(map(getsizeof, texts))


def _fields(part: Any) -> list[Any]:
    return [getattr(part, name) for name in part.__struct_fields__]


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

    def forget(self) -> None:
        """Keep only the length."""
        # not cleared: what is left of a cleared bytearray would keep its place in the heap, and
        # the hole behind it would be too small for the next one of the same size
        self.audio = bytearray()

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
        weight_bytes: What it was counted with, without its audio; the conversation's business.
        audio_bytes: What its audio was counted with.
        tokens: Those of its texts and images, and what it was when they were counted.
        truncated: Whether it was truncated: what the model still says does not count.
    """

    __slots__ = (
        "_weighed",
        "audio",
        "audio_bytes",
        "by_model",
        "item",
        "item_id",
        "previous_item_id",
        "tokens",
        "truncated",
        "weight_bytes",
    )

    def __init__(self, item: ev.Item, item_id: str, *, by_model: bool = False) -> None:
        self.item = item
        self.item_id = item_id
        self.previous_item_id: str | None = None
        self.audio: dict[int, ItemAudio] = {}
        self.by_model = by_model
        self.weight_bytes = self.audio_bytes = 0
        self.tokens: tuple[ev.Item | None, int, int] = None, 0, 0
        self._weighed: tuple[ev.Item | None, int] = None, 0
        self.truncated = False

    @property
    def payload_bytes(self) -> int:
        """What it weighs without its audio."""
        if self._weighed[0] is not self.item:
            self._weighed = self.item, weigh(self.item)
        return self._weighed[1]

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


class KnowsItems(Protocol):
    """What is asked of a conversation."""

    def knows_call(self, call_id: str) -> bool:
        """Tell whether a function call with this id is in it."""
        ...

    def fresh_id(self) -> str:
        """Return an id that is free."""
        ...


def client_item(
    item: ev.Item | ev.ResponseInput,
    conversation: KnowsItems,
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
    stored = _client_item(item, conversation, new_id=new_id, audio_format=audio_format, path=path)
    if stored.payload_bytes > MAX_PAYLOAD_BYTES:
        message = f"Without its audio, an item has at most {MAX_PAYLOAD_BYTES} bytes."
        raise InvalidRequest("event_too_large", message, param=path)
    return stored


def _client_item(
    item: ev.Item | ev.ResponseInput,
    conversation: KnowsItems,
    *,
    new_id: Callable[[str], str],
    audio_format: ev.AudioFormat | None,
    path: str,
) -> StoredItem:
    if not isinstance(item, ev.MessageItem | ev.FunctionCallItem | ev.FunctionCallOutputItem):
        message = f"Clients cannot create items of type '{item.type}'."
        raise invalid_value(f"{path}.type", message)
    if item.id in ("", "root"):
        raise invalid_value(f"{path}.id", f"'{item.id}' cannot be the id of an item.")
    if len(item.id or "") > MAX_EVENT_ID_CHARS:
        raise invalid_value(f"{path}.id", f"An id has at most {MAX_EVENT_ID_CHARS} characters.")
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

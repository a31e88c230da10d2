"""Items that clients bring: checked, given ids, their audio put aside.

Which part goes with which role, and who may create what, is in two tables (Realtime protocol,
conversation items).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from realtime_bus import events as ev

from ._conversation import Conversation
from ._entries import Entry, Sound
from ._refusals import Refusal, bad_value, unknown_call

__all__ = ["client_entry"]

_PARTS: dict[str, dict[type, str]] = {
    "system": {ev.InputText: "input_text"},
    "user": {
        ev.InputText: "input_text",
        ev.InputAudio: "input_audio",
        ev.InputImage: "input_image",
    },
    "assistant": {ev.OutputText: "output_text", ev.TextPart: "text"},
}


class _Bringing(msgspec.Struct, frozen=True):
    """What the checks of an item go by: where it goes, and where in the event it is."""

    conversation: Conversation
    new_id: Callable[[str], str]
    path: str


def client_entry(
    item: ev.Item | ev.ResponseInput,
    conversation: Conversation,
    *,
    new_id: Callable[[str], str],
    audio_format: ev.AudioFormat | None,
    path: str = "item",
) -> Entry:
    """Return a client's item ready to be added.

    Args:
        item: As the client sent it.
        conversation: Where calls are looked up.
        new_id: Makes ids.
        audio_format: The session's input format, for audio that the item brings.
        path: Where in the event the item is, for errors.

    Raises:
        Refusal: Clients cannot create such an item.
    """
    prepare = _PREPARE.get(type(item))
    if prepare is None:
        message = f"Clients cannot create items of type '{item.type}'."
        raise bad_value(f"{path}.type", message)
    item_id = _checked_id(item.id, path) or conversation.fresh_id(new_id)
    prepared = prepare(item, _Bringing(conversation, new_id, path))
    entry = Entry(replace(prepared, id=item_id), item_id)
    _put_audio_aside(entry, audio_format)
    return entry


def _checked_id(item_id: str | None, path: str) -> str | None:
    if item_id in ("", "root"):
        raise bad_value(f"{path}.id", f"'{item_id}' cannot be the id of an item.")
    return item_id


def _message(item: ev.MessageItem, bringing: _Bringing) -> ev.MessageItem:
    allowed = _PARTS[item.role]
    for index, part in enumerate(item.content):
        if not isinstance(part, tuple(allowed)):
            raise _wrong_part(item.role, part, f"{bringing.path}.content[{index}]")
    return replace(item, status="completed", content=[_plain(part) for part in item.content])


def _plain(part: ev.ContentPart) -> ev.ContentPart:
    """Spell the beta's text part the way items have it now."""
    return ev.OutputText(text=part.text or "") if isinstance(part, ev.TextPart) else part


def _wrong_part(role: str, part: ev.ContentPart, path: str) -> Refusal:
    if role == "assistant" and isinstance(part, ev.OutputAudio | ev.AudioPart):
        message = f"Missing required parameter: '{path}.text': assistant audio cannot be added."
        return Refusal("missing_required_parameter", message, param=f"{path}.text")
    allowed = ", ".join(_PARTS[role].values())
    message = f"'{part.type}' is not allowed in a {role} message; allowed are {allowed}."
    return bad_value(f"{path}.type", message)


def _call(item: ev.FunctionCallItem, bringing: _Bringing) -> ev.FunctionCallItem:
    call_id = item.call_id or bringing.new_id("call")
    return replace(item, status="completed", call_id=call_id)


def _call_output(item: ev.FunctionCallOutputItem, bringing: _Bringing) -> ev.FunctionCallOutputItem:
    if not bringing.conversation.knows_call(item.call_id):
        raise unknown_call(item.call_id, param=f"{bringing.path}.call_id")
    return replace(item, status="completed")


_PREPARE: dict[type, Callable[[Any, _Bringing], Any]] = {
    ev.MessageItem: _message,
    ev.FunctionCallItem: _call,
    ev.FunctionCallOutputItem: _call_output,
}


def _put_audio_aside(entry: Entry, audio_format: ev.AudioFormat | None) -> None:
    """Keep audio of user messages beside the item, which is shown without it."""
    if not isinstance(entry.item, ev.MessageItem):
        return
    parts = list(entry.item.content)
    for index, part in enumerate(parts):
        if isinstance(part, ev.InputAudio) and part.audio is not None:
            entry.sounds[index] = Sound(part.audio, audio_format)
            parts[index] = ev.InputAudio(transcript=part.transcript)
    entry.item = replace(entry.item, content=parts)

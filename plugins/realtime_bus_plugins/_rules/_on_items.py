"""Rules about the conversation's items."""

from __future__ import annotations

from typing import Any

from realtime_bus import events as ev

from ._known import Known
from ._rule import Rule

__all__ = ["ITEM_RULES"]

_CREATE = (ev.ConversationItemCreate,)
_CREATABLE = (
    ev.MessageItem,
    ev.FunctionCallItem,
    ev.FunctionCallOutputItem,
    ev.McpApprovalResponseItem,
    ev.UnknownObject,  # put there on purpose: a server may know it
)
_PARTS: dict[str, tuple[type, ...]] = {
    "system": (ev.InputText, ev.UnknownObject),
    "user": (ev.InputText, ev.InputAudio, ev.InputImage, ev.UnknownObject),
    "assistant": (ev.OutputText, ev.TextPart, ev.UnknownObject),
}
_ASSISTANT_AUDIO = (ev.OutputAudio, ev.AudioPart)


def _not_creatable(event: ev.ConversationItemCreate, _known: Known) -> str | None:
    return None if isinstance(event.item, _CREATABLE) else f"{event.item.type} is the server's"


def _assistant_audio(event: ev.ConversationItemCreate, _known: Known) -> str | None:
    item: Any = event.item
    parts = item.content if getattr(item, "role", None) == "assistant" else ()
    if any(isinstance(part, _ASSISTANT_AUDIO) for part in parts):
        return "the assistant's message has audio; send its transcript as output_text"
    return None


def _wrong_part(event: ev.ConversationItemCreate, _known: Known) -> str | None:
    item = event.item
    if not isinstance(item, ev.MessageItem):
        return None
    allowed = (*_PARTS[item.role], *(_ASSISTANT_AUDIO if item.role == "assistant" else ()))
    wrong = [part.type for part in item.content if not isinstance(part, allowed)]
    return f"{wrong[0]} is no part of a {item.role} message" if wrong else None


def _bad_id(event: ev.ConversationItemCreate, known: Known) -> str | None:
    item_id = event.item.id
    if item_id in ("", "root"):
        return f"{item_id!r} cannot be the id of an item"
    if item_id is not None and item_id in known.items:
        return f"there is an item {item_id!r} already"
    return None


def _no_predecessor(event: ev.ConversationItemCreate, known: Known) -> str | None:
    after = event.previous_item_id
    if after in (None, "root") or after in known.items:
        return None
    return f"there is no item {after!r}"


def _unknown_call(event: ev.ConversationItemCreate, known: Known) -> str | None:
    item = event.item
    if isinstance(item, ev.FunctionCallOutputItem) and not known.items.knows_call(item.call_id):
        return f"the conversation has no call {item.call_id!r}"
    return None


def _answered(event: ev.ConversationItemCreate, known: Known) -> str | None:
    item = event.item
    if isinstance(item, ev.FunctionCallOutputItem) and item.call_id in known.items.answered:
        return f"call {item.call_id!r} has its output already"
    return None


def _no_request(event: ev.ConversationItemCreate, known: Known) -> str | None:
    item = event.item
    if not isinstance(item, ev.McpApprovalResponseItem):
        return None
    asked = item.approval_request_id in known.items
    return None if asked else f"there is no request {item.approval_request_id!r}"


def _unknown_item(event: Any, known: Known) -> str | None:
    return None if event.item_id in known.items else f"there is no item {event.item_id!r}"


ITEM_RULES = (
    Rule(
        id="item-type-for-clients",
        text="Clients create messages, function calls and outputs, and approval responses only.",
        events=_CREATE,
        check=_not_creatable,
    ),
    Rule(
        id="no-assistant-audio",
        text="Assistant audio cannot be added to a conversation.",
        events=_CREATE,
        check=_assistant_audio,
    ),
    Rule(
        id="parts-fit-role",
        text="System messages hold input_text; user messages input_text, input_audio and "
        "input_image; assistant messages output_text.",
        events=_CREATE,
        check=_wrong_part,
    ),
    Rule(
        id="item-id-once",
        text="An item's id is new, not empty and not 'root'.",
        events=_CREATE,
        check=_bad_id,
    ),
    Rule(
        id="previous-item-exists",
        text="previous_item_id names an item of the conversation, or 'root'.",
        events=_CREATE,
        check=_no_predecessor,
    ),
    Rule(
        id="output-for-known-call",
        text="A function's output names a call of the conversation.",
        events=_CREATE,
        check=_unknown_call,
    ),
    Rule(
        id="call-answered-once",
        text="A function call gets one output.",
        events=_CREATE,
        check=_answered,
    ),
    Rule(
        id="approval-for-known-request",
        text="An approval response names an approval request of the conversation.",
        events=_CREATE,
        check=_no_request,
    ),
    Rule(
        id="delete-known-item",
        text="Only an item of the conversation can be deleted, and only once.",
        events=(ev.ConversationItemDelete,),
        check=_unknown_item,
    ),
    Rule(
        id="retrieve-known-item",
        text="Only an item of the conversation can be retrieved.",
        events=(ev.ConversationItemRetrieve,),
        check=_unknown_item,
    ),
    Rule(
        id="truncate-known-item",
        text="Only an item of the conversation can be truncated.",
        events=(ev.ConversationItemTruncate,),
        check=_unknown_item,
    ),
)

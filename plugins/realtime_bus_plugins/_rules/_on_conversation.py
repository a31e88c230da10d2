"""Rules about the conversation: its items, cutting what the assistant has said, responses."""

from __future__ import annotations

from typing import Any

from realtime_bus import events as ev

from ._observed import Observed, is_out_of_band
from ._rule import Rule

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
_TRUNCATE = (ev.ConversationItemTruncate,)


def _not_creatable(event: ev.ConversationItemCreate, _observed: Observed) -> str | None:
    return None if isinstance(event.item, _CREATABLE) else f"{event.item.type} is the server's"


def _assistant_audio(event: ev.ConversationItemCreate, _observed: Observed) -> str | None:
    item: Any = event.item
    parts = item.content if getattr(item, "role", None) == "assistant" else ()
    if any(isinstance(part, _ASSISTANT_AUDIO) for part in parts):
        return "the assistant's message has audio; send its transcript as output_text"
    return None


def _wrong_part(event: ev.ConversationItemCreate, _observed: Observed) -> str | None:
    item = event.item
    if not isinstance(item, ev.MessageItem):
        return None
    allowed = (*_PARTS[item.role], *(_ASSISTANT_AUDIO if item.role == "assistant" else ()))
    wrong = [part.type for part in item.content if not isinstance(part, allowed)]
    return f"{wrong[0]} is no part of a {item.role} message" if wrong else None


def _bad_id(event: ev.ConversationItemCreate, observed: Observed) -> str | None:
    item_id = event.item.id
    if item_id in ("", "root"):
        return f"{item_id!r} cannot be the id of an item"
    if item_id is not None and observed.has_item(item_id):
        return f"there is an item {item_id!r} already"
    return None


def _no_predecessor(event: ev.ConversationItemCreate, observed: Observed) -> str | None:
    after = event.previous_item_id
    if after is None or after == "root" or observed.has_item(after):
        return None
    return f"there is no item {after!r}"


def _unknown_call(event: ev.ConversationItemCreate, observed: Observed) -> str | None:
    item = event.item
    if isinstance(item, ev.FunctionCallOutputItem) and not observed.has_call(item.call_id):
        return f"the conversation has no call {item.call_id!r}"
    return None


def _answered(event: ev.ConversationItemCreate, observed: Observed) -> str | None:
    item = event.item
    if isinstance(item, ev.FunctionCallOutputItem) and item.call_id in observed.answered:
        return f"call {item.call_id!r} has its output already"
    return None


def _no_request(event: ev.ConversationItemCreate, observed: Observed) -> str | None:
    item = event.item
    if not isinstance(item, ev.McpApprovalResponseItem):
        return None
    asked = observed.has_item(item.approval_request_id)
    return None if asked else f"there is no request {item.approval_request_id!r}"


def _unknown_item(event: Any, observed: Observed) -> str | None:
    known = observed.has_item(event.item_id)
    return None if known else f"there is no item {event.item_id!r}"


# cutting what the assistant has said (Realtime protocol, barge-in)


def _not_spoken(event: ev.ConversationItemTruncate, observed: Observed) -> str | None:
    if not observed.has_item(event.item_id) or observed.is_assistant_audio(event.item_id):
        return None
    kind = observed.kind_of(event.item_id)
    return f"item {event.item_id!r} is no speech of the assistant ({kind})"


def _nothing_heard(event: ev.ConversationItemTruncate, _observed: Observed) -> str | None:
    if event.audio_end_ms > 0:
        return None
    return "audio_end_ms is 0; delete the item, for nothing of it was heard"


def _beyond(event: ev.ConversationItemTruncate, observed: Observed) -> str | None:
    received_ms = observed.received_ms(event.item_id, event.content_index)
    if received_ms is None or event.audio_end_ms <= received_ms:
        return None
    return f"audio_end_ms is {event.audio_end_ms}, and {received_ms} ms were received"


def _twice(event: ev.ConversationItemTruncate, observed: Observed) -> str | None:
    if not observed.is_truncated(event.item_id):
        return None
    return f"item {event.item_id!r} was truncated before"


# responses


def _in_transcription(event: ev.ClientEvent, observed: Observed) -> str | None:
    return (
        f"{event.type} in a transcription session"
        if observed.settings.kind == "transcription"
        else None
    )


def _second(event: ev.ResponseCreate, observed: Observed) -> str | None:
    if is_out_of_band(event):
        return None
    if observed.active_id is not None:
        return f"response {observed.active_id!r} is active"
    return "another response.create is not answered yet" if observed.asked else None


def _nothing_active(event: ev.ResponseCancel, observed: Observed) -> str | None:
    if event.response_id is not None or observed.expects_response or observed.free_ids:
        return None
    return "no response is active"


def _needs_id(event: ev.ResponseCancel, observed: Observed) -> str | None:
    free = observed.free_ids
    if event.response_id is not None or observed.expects_response or not free:
        return None
    return f"only {', '.join(free)} is active, out of band"


def _not_active(event: ev.ResponseCancel, observed: Observed) -> str | None:
    response_id = event.response_id
    if response_id in (None, observed.active_id, *observed.free_ids):
        return None
    state = "has ended" if response_id in observed.conversation.responses else "is unknown"
    return f"response {response_id!r} {state}"


CONVERSATION_RULES = (
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
    Rule(
        id="truncate-assistant-audio-only",
        text="Only the assistant's audio can be truncated.",
        events=_TRUNCATE,
        check=_not_spoken,
    ),
    Rule(
        id="truncate-more-than-zero",
        text="A truncation keeps more than 0 ms.",
        events=_TRUNCATE,
        check=_nothing_heard,
    ),
    Rule(
        id="truncate-within-audio",
        text="A truncation keeps no more than was received of the item, rounded down.",
        events=_TRUNCATE,
        check=_beyond,
    ),
    Rule(
        id="truncate-once",
        text="An item is truncated once.",
        events=_TRUNCATE,
        check=_twice,
    ),
    Rule(
        id="no-responses-in-transcription",
        text="A transcription session has no responses.",
        events=(ev.ResponseCreate, ev.ResponseCancel),
        check=_in_transcription,
    ),
    Rule(
        id="one-active-response",
        text="The default conversation has one response at a time: wait for response.done.",
        events=(ev.ResponseCreate,),
        check=_second,
    ),
    Rule(
        id="cancel-something",
        text="A cancel needs an active response.",
        events=(ev.ResponseCancel,),
        check=_nothing_active,
    ),
    Rule(
        id="cancel-out-of-band-by-id",
        text="An out-of-band response is cancelled by its id.",
        events=(ev.ResponseCancel,),
        check=_needs_id,
    ),
    Rule(
        id="cancel-active-response",
        text="A cancel with an id names a response that is active.",
        events=(ev.ResponseCancel,),
        check=_not_active,
    ),
)

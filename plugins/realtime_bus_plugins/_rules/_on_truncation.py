"""Rules about cutting what the assistant has said (Realtime protocol, barge-in)."""

from __future__ import annotations

from realtime_bus import events as ev

from ._known import Known
from ._rule import Rule

__all__ = ["TRUNCATION_RULES"]

_TRUNCATE = (ev.ConversationItemTruncate,)


def _not_spoken(event: ev.ConversationItemTruncate, known: Known) -> str | None:
    item = known.items.items.get(event.item_id)
    if item is None or item.spoken:
        return None
    role = getattr(item.item, "role", None) or getattr(item.item, "type", "unheard")
    return f"item {event.item_id!r} is no speech of the assistant ({role})"


def _nothing_heard(event: ev.ConversationItemTruncate, _known: Known) -> str | None:
    if event.audio_end_ms > 0:
        return None
    return "audio_end_ms is 0; delete the item, for nothing of it was heard"


def _beyond(event: ev.ConversationItemTruncate, known: Known) -> str | None:
    item = known.items.items.get(event.item_id)
    received_ms = None if item is None else item.received_ms(event.content_index)
    if received_ms is None or event.audio_end_ms <= received_ms:
        return None
    return f"audio_end_ms is {event.audio_end_ms}, and {received_ms} ms were received"


def _twice(event: ev.ConversationItemTruncate, known: Known) -> str | None:
    item = known.items.items.get(event.item_id)
    if item is None or not item.truncated:
        return None
    return f"item {event.item_id!r} was truncated before"


TRUNCATION_RULES = (
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
)

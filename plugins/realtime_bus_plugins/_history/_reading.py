"""From the protocol's items to a history's, and one reading on top of another.

The protocol sends an item several times: empty, then whole, and its audio never. What is known
and not in a later reading stays: above all transcripts, which have events of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from msgspec.structs import replace

from realtime_bus import events as ev

from ._items import HistoryItem, HistoryPart

__all__ = ["merge", "read_item", "with_part"]


def _text(part: Any) -> HistoryPart:
    text = _str(part, "text")
    return HistoryPart(kind="text", text=text, final=bool(text))


def _audio(part: Any) -> HistoryPart:
    text = _str(part, "transcript")
    return HistoryPart(kind="audio", text=text, final=bool(text))


def _image(_part: Any) -> HistoryPart:
    return HistoryPart(kind="image", final=True)


_PARTS: dict[type, Callable[[Any], HistoryPart]] = {
    ev.InputText: _text,
    ev.OutputText: _text,
    ev.TextPart: _text,
    ev.InputAudio: _audio,
    ev.OutputAudio: _audio,
    ev.AudioPart: _audio,
    ev.InputImage: _image,
}


def _str(thing: object, name: str) -> str | None:
    found = getattr(thing, name, None)  # read leniently: any field may hold something else
    return found if isinstance(found, str) else None


def read_item(item: object) -> HistoryItem | None:
    """Return an item of the protocol as one of the history; None if it has no id."""
    item_id, kind = _str(item, "id"), _str(item, "type")
    if not item_id or kind is None:
        return None
    content = getattr(item, "content", None)
    parts = cast("list[object]", content) if isinstance(content, list) else []
    plain = {name: _str(item, name) for name in _PLAIN}
    return HistoryItem(
        id=item_id,
        type=kind,
        parts=tuple(_PARTS.get(type(part), _other)(part) for part in parts),
        error=_str(getattr(item, "error", None), "message"),
        **plain,
    )


_PLAIN = ("role", "status", "name", "call_id", "arguments", "output", "server_label")


def _other(_part: Any) -> HistoryPart:
    return HistoryPart(kind="other")


def merge(known: HistoryItem, fresh: HistoryItem) -> HistoryItem:
    """Return the fresh reading, with what only the known one has."""
    plain = {name: getattr(fresh, name) or getattr(known, name) for name in (*_PLAIN, "error")}
    if fresh.status == "in_progress" and known.status is not None:
        plain["status"] = known.status  # a late start does not undo the end
    return replace(fresh, parts=_merge_parts(known.parts, fresh.parts), **plain)


def _merge_parts(
    known: tuple[HistoryPart, ...], fresh: tuple[HistoryPart, ...]
) -> tuple[HistoryPart, ...]:
    both = [_merge_part(old, new) for old, new in zip(known, fresh, strict=False)]
    longer = known if len(known) > len(fresh) else fresh
    return (*both, *longer[len(both) :])


def _merge_part(known: HistoryPart, fresh: HistoryPart) -> HistoryPart:
    if fresh.text:
        return replace(known, kind=fresh.kind, text=fresh.text, final=True)
    return replace(known, kind=fresh.kind)


def with_part(
    item: HistoryItem, index: int, change: Callable[[HistoryPart], HistoryPart]
) -> HistoryItem:
    """Return the item with one of its parts changed; parts that are not there yet are made."""
    if not 0 <= index < _MOST_PARTS:
        return item
    missing = index + 1 - len(item.parts)
    parts = [*item.parts, *[HistoryPart(kind="audio")] * missing]
    parts[index] = change(parts[index])
    return replace(item, parts=tuple(parts))


_MOST_PARTS = 256  # a nonsensical index must not make a million parts

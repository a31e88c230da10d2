"""Texts and other fields of a server's objects as attributes: the conventions' message format.

What a server sends is read leniently: any field may be missing or raw data. Keys and passwords are
blotted out of texts, whoever says them.
"""

from __future__ import annotations

import traceback
from typing import Any, cast

import msgspec

from realtime_bus import events as ev
from realtime_bus_plugins._blotted import blotted

MAX_CHARACTERS = 32_000  # of one text; an SDK can be told to take less
_FINISH = {"max_output_tokens": "length", "content_filter": "content_filter"}
_WORDS = ("transcript", "text")


def plain(text: object) -> str | None:
    """Return a text that may be shown; None if it is none."""
    return blotted(text, MAX_CHARACTERS) if isinstance(text, str) and text else None


def finish_reason(response: ev.Response) -> str:
    """Return why a response ended, in the conventions' words where they have one."""
    reason = getattr(response.status_details, "reason", None)
    if response.status == "completed":
        return "tool_call" if calls_in(response) else "stop"
    if response.status == "failed":
        return "error"
    return _FINISH.get(str(reason), str(reason or response.status or "error"))


def calls_in(response: ev.Response) -> list[ev.FunctionCallItem]:
    """Return the functions that a response calls."""
    return [item for item in _list(response.output) if isinstance(item, ev.FunctionCallItem)]


def message_of(item: object) -> dict[str, Any] | None:
    """Return an item as a message; None if there are no words in it, or not yet."""
    if isinstance(item, ev.FunctionCallItem):
        call = {"type": "tool_call", "id": item.call_id, "name": item.name}
        return {"role": "assistant", "parts": [call | {"arguments": plain(item.arguments)}]}
    if not isinstance(item, ev.MessageItem):
        return None
    words = [plain(getattr(each, n, None)) for each in _list(item.content) for n in _WORDS]
    parts = [part(text) for text in words if text is not None]
    return {"role": item.role, "parts": parts} if parts else None


def spoken(text: str) -> dict[str, Any]:
    """Return what a person said as a message."""
    return {"role": "user", "parts": [part(plain(text) or "")]}


def messages(found: list[dict[str, Any] | None], **more: str) -> str | None:
    """Return messages as JSON text; None if there are none."""
    there = [message | more for message in found if message is not None]
    return msgspec.json.encode(there).decode() if there else None


def output_messages(response: ev.Response) -> str | None:
    """Return what a response says and calls, as JSON text."""
    found = [message_of(item) for item in _list(response.output)]
    return messages(found, finish_reason=finish_reason(response))


def instructions(text: object) -> str | None:
    """Return a session's instructions, as JSON text."""
    shown = plain(text)
    return None if shown is None else msgspec.json.encode([part(shown)]).decode()


def part(text: str) -> dict[str, str]:
    """Return a text as a part of a message."""
    return {"type": "text", "content": text}


def failure(error: BaseException, *, texts: bool) -> dict[str, str]:
    """Return what raised, and where; what it says only if texts are wanted."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else _full_name(kind)
    where = "".join(traceback.format_tb(error.__traceback__, limit=-20))
    found = {"exception.type": name, "exception.stacktrace": f"{where}{name}"}
    if texts:
        found["exception.message"] = plain(_said(error)) or ""
    return found


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # an exception's own text may fail, too
        return ""


def _list(found: object) -> list[object]:
    return cast("list[object]", found) if isinstance(found, list) else []

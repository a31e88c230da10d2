"""A conversation as text, for people and for prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from ._items import HistoryItem, HistoryPart

__all__ = ["View", "render"]

View = Literal["heard", "generated"]


def render(items: Iterable[HistoryItem], view: View) -> str:
    """Return a line for each item that says something."""
    lines = (_LINES.get(item.type, _other)(item, view) for item in items)
    return "\n".join(line for line in lines if line)


def _message(item: HistoryItem, view: View) -> str:
    words = " ".join(filter(None, _words(item, view)))
    return f"{item.role or 'somebody'}: {words}" if words else ""


def _words(item: HistoryItem, view: View) -> Iterator[str]:
    for part in item.parts:
        yield _spoken(part, view) if part.kind in ("text", "audio") else f"[{part.kind}]"


def _spoken(part: HistoryPart, view: View) -> str:
    if part.failure is not None:
        return f"[not transcribed: {part.failure}]"
    text = part.text if view == "generated" else part.estimated_heard_text
    unknown = "[audio]" if part.kind == "audio" and text is None else ""
    cut = "" if part.heard_ms is None else f"[interrupted after {part.heard_ms} ms]"
    return " ".join(filter(None, [text, unknown, cut]))


def _call(item: HistoryItem, _view: View) -> str:
    return f"assistant calls {item.name}({item.arguments or ''})"


def _output(item: HistoryItem, _view: View) -> str:
    return f"function returns {item.output or ''}"


def _mcp_call(item: HistoryItem, _view: View) -> str:
    outcome = f"error: {item.error}" if item.error else item.output or "…"
    return f"assistant calls {item.server_label}.{item.name}({item.arguments or ''}) -> {outcome}"


def _other(item: HistoryItem, _view: View) -> str:
    return f"[{item.type}]"


_LINES: dict[str, Callable[[HistoryItem, View], str]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _output,
    "mcp_call": _mcp_call,
}

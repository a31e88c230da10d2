"""What a history consists of: items, their parts, calls; read from the protocol's, and as text.

The protocol sends an item several times: empty, then whole, and its audio never. What is known
and not in a later reading stays: above all transcripts, which have events of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, cast

from msgspec import Struct
from msgspec.structs import replace

from realtime_bus import events as ev

PartKind = Literal["text", "audio", "image", "other"]
View = Literal["heard", "generated"]

_MAX_PARTS = 256  # a nonsensical index must not make a million parts


class SpeakerSegment(Struct, frozen=True, kw_only=True):
    """What one speaker said, from a transcription model that tells speakers apart.

    Attributes:
        speaker: Who, as a label.
        text: What was said.
        start_s: Where it begins, in seconds from the start of the item's audio.
        end_s: Where it ends, likewise.
    """

    speaker: str
    text: str
    start_s: float
    end_s: float


class HistoryPart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One content part of a message.

    Attributes:
        kind: What it is.
        text: What is written, or the transcript of what is said: of the assistant, all that was
            generated, whether heard or not. None if it is not known.
        final: Whether the text is complete.
        failure: Why there is no transcript.
        segments: The transcript by speaker, if the model tells.
        heard_ms: How much of the audio was heard, if it was cut off; None if it was not.
        generated_ms: How much audio there was when somebody spoke over it, if that is known.
        in_context: Whether the model still knows the text. A truncation takes it away, for the
            server cannot know how far it was heard.
    """

    kind: PartKind
    text: str | None = None
    final: bool = False
    failure: str | None = None
    segments: tuple[SpeakerSegment, ...] = ()
    heard_ms: int | None = None
    generated_ms: int | None = None
    in_context: bool = True

    @property
    def estimated_heard_text(self) -> str | None:
        """What was heard of the text: an estimate, for nothing links words to moments.

        It is the text's beginning, in proportion to the share of the audio that was heard, in
        whole words. All of the text if nothing was cut off; None if it cannot be told.
        """
        if self.heard_ms is None or self.text is None:
            return self.text
        if self.heard_ms <= 0:
            return ""
        if not self.generated_ms:
            return None
        return _whole_words(self.text, self.heard_ms / self.generated_ms)


def _whole_words(text: str, share: float) -> str:
    end = int(len(text) * share)
    beginning = text[:end]
    if end >= len(text) or text[end].isspace() or not any(map(str.isspace, text)):
        return beginning.rstrip()
    return beginning.rpartition(" ")[0].rstrip()


class HistoryItem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of the conversation.

    Attributes:
        id: The item.
        type: As on the wire: ``"message"``, ``"function_call"``, ``"function_call_output"`` …
        role: Who speaks, in a message.
        status: ``"completed"``, ``"incomplete"`` if it was cut off, ``"in_progress"``.
        parts: A message's content.
        name: The function or tool that is called.
        call_id: What links a call and its output.
        arguments: Of a call; model text that should be JSON.
        output: What a function or tool returned.
        server_label: The MCP server, in its items.
        error: Why an MCP call failed.
    """

    id: str
    type: str = "message"
    role: str | None = None
    status: str | None = None
    parts: tuple[HistoryPart, ...] = ()
    name: str | None = None
    call_id: str | None = None
    arguments: str | None = None
    output: str | None = None
    server_label: str | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        """All that is written or said in it, as far as it is known; generated, not heard."""
        return " ".join(part.text for part in self.parts if part.text)

    @property
    def estimated_heard_text(self) -> str:
        """The same, cut to what was heard: see `HistoryPart.estimated_heard_text`."""
        heard = (part.estimated_heard_text for part in self.parts)
        return " ".join(text for text in heard if text)

    @property
    def cut_off(self) -> bool:
        """Whether somebody spoke over it."""
        return any(part.heard_ms is not None for part in self.parts)


class FunctionCall(Struct, frozen=True, kw_only=True):
    """A function call and what came of it.

    Attributes:
        call_id: The call.
        name: The function.
        arguments: Model text that should be JSON; empty while it is written.
        item_id: The item with the call.
        output: What was returned; None if nothing was yet.
        output_item_id: The item with the output.
    """

    call_id: str
    name: str
    arguments: str
    item_id: str
    output: str | None = None
    output_item_id: str | None = None


# reading the protocol's items

_PLAIN = ("role", "status", "name", "call_id", "arguments", "output", "server_label")
_PART_KINDS: dict[type, tuple[PartKind, str]] = {
    ev.InputText: ("text", "text"),
    ev.OutputText: ("text", "text"),
    ev.TextPart: ("text", "text"),
    ev.InputAudio: ("audio", "transcript"),
    ev.OutputAudio: ("audio", "transcript"),
    ev.AudioPart: ("audio", "transcript"),
}
"""Parts of the protocol: their kind here, and the field with their text."""


def read_item(item: object) -> HistoryItem | None:
    """Return an item of the protocol as one of the history; None if it has no id."""
    item_id, kind = _str(item, "id"), _str(item, "type")
    if not item_id or kind is None:
        return None
    content = getattr(item, "content", None)
    parts = cast("list[object]", content) if isinstance(content, list) else []
    return HistoryItem(
        id=item_id,
        type=kind,
        parts=tuple(map(_read_part, parts)),
        error=_str(getattr(item, "error", None), "message"),
        **{name: _str(item, name) for name in _PLAIN},
    )


def _read_part(part: object) -> HistoryPart:
    if isinstance(part, ev.InputImage):
        return HistoryPart(kind="image", final=True)
    kind, field = _PART_KINDS.get(type(part), ("other", ""))
    text = _str(part, field)
    return HistoryPart(kind=kind, text=text, final=bool(text))


def _str(thing: object, name: str) -> str | None:
    found = getattr(thing, name, None)  # read leniently: any field may hold something else
    return found if isinstance(found, str) else None


def merge_items(known: HistoryItem, fresh: HistoryItem) -> HistoryItem:
    """Return the fresh reading, with what only the known one has."""
    plain = {name: getattr(fresh, name) or getattr(known, name) for name in (*_PLAIN, "error")}
    if fresh.status == "in_progress" and known.status is not None:
        plain["status"] = known.status  # a late start does not undo the end
    both = [_merge_part(old, new) for old, new in zip(known.parts, fresh.parts, strict=False)]
    longer = known.parts if len(known.parts) > len(fresh.parts) else fresh.parts
    return replace(fresh, parts=(*both, *longer[len(both) :]), **plain)


def _merge_part(known: HistoryPart, fresh: HistoryPart) -> HistoryPart:
    if fresh.text:
        return replace(known, kind=fresh.kind, text=fresh.text, final=True)
    return replace(known, kind=fresh.kind)


def change_part(
    item: HistoryItem, index: int, change: Callable[[HistoryPart], HistoryPart]
) -> HistoryItem:
    """Return the item with one of its parts changed; parts that are not there yet are made."""
    if not 0 <= index < _MAX_PARTS:
        return item
    missing = index + 1 - len(item.parts)
    parts = [*item.parts, *[HistoryPart(kind="audio")] * missing]
    parts[index] = change(parts[index])
    return replace(item, parts=tuple(parts))


# as text, for people and for prompts


def render_items(items: Iterable[HistoryItem], view: View) -> str:
    """Return a line for each item that says something."""
    lines = (_LINES.get(item.type, _other)(item, view) for item in items)
    return "\n".join(line for line in lines if line)


def _message(item: HistoryItem, view: View) -> str:
    words = " ".join(filter(None, (_part(part, view) for part in item.parts)))
    return f"{item.role or 'somebody'}: {words}" if words else ""


def _part(part: HistoryPart, view: View) -> str:
    if part.kind not in ("text", "audio"):
        return f"[{part.kind}]"
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

"""The conversation of a recording, as JSON and as text."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from realtime_bus.history import TokenCounts
from realtime_bus.history._items import render_items
from realtime_bus.recording._format import Line

from ._model import Timeline
from ._moments import Said

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


class ConversationEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of a conversation.

    Attributes:
        at_ms: When it began, since the recording's beginning.
        end_ms: When it was over.
        item_id: The item.
        type: As on the wire: ``"message"``, ``"function_call"``, ``"function_call_output"`` …
        role: Who speaks, in a message.
        text: All that was written or said; of the assistant, all that was generated.
        heard_text: What was heard of it, if it was cut off: an estimate.
        heard_ms: How much of its audio that was.
        name: The function that is called.
        call_id: What links a call and its output.
        arguments: Of a call.
        output: Of a call.
    """

    at_ms: float
    end_ms: float
    item_id: str
    type: str
    role: str | None = None
    text: str = ""
    heard_text: str | None = None
    heard_ms: int | None = None
    name: str | None = None
    call_id: str | None = None
    arguments: str | None = None
    output: str | None = None


class Conversation(Struct, frozen=True, kw_only=True):
    """What was said in a session.

    Attributes:
        recording_id: Of which recording.
        started_at: When that began, ISO 8601 in UTC.
        length_ms: How long it is.
        heard_from: How it is known what was heard; see `Timeline`.
        entries: In the conversation's order.
        usage: Tokens by model.
    """

    recording_id: str
    started_at: str
    length_ms: float
    heard_from: str
    entries: list[ConversationEntry]
    usage: dict[str, TokenCounts]

    def json(self) -> bytes:
        """Return it as JSON in UTF-8, indented."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def conversation(recording: Iterable[Line] | Timeline) -> Conversation:
    """Return what was said in a recording.

    Args:
        recording: A `Recording`, its lines, or what was worked out of them already.
    """
    timeline = _timeline(recording)
    return Conversation(
        recording_id=timeline.header.recording_id,
        started_at=timeline.header.started_at,
        length_ms=timeline.end_ms,
        heard_from=timeline.heard_from,
        entries=[_entry(said) for said in timeline.said],
        usage=timeline.usage,
    )


def conversation_text(recording: Iterable[Line] | Timeline) -> str:
    """Return what was said in a recording as text for people, a line for each item.

    The assistant's words go as far as they were heard. Control characters are taken out: it may
    be shown in a terminal.

    Args:
        recording: A `Recording`, its lines, or what was worked out of them already.
    """
    lines = ((said.at_ms, render_items([said.item], "heard")) for said in _timeline(recording).said)
    return "".join(f"{_stamp(at_ms)} {_CONTROL.sub(' ', line)}\n" for at_ms, line in lines if line)


def _timeline(recording: Iterable[Line] | Timeline) -> Timeline:
    return recording if isinstance(recording, Timeline) else Timeline.of(recording)


def _stamp(at_ms: float) -> str:
    minutes, ms = divmod(round(at_ms), 60_000)
    return f"[{minutes:02}:{ms / 1000:06.3f}]"


def _entry(said: Said) -> ConversationEntry:
    item, cut = said.item, said.heard_ms is not None
    return ConversationEntry(
        at_ms=round(said.at_ms, 3),
        end_ms=round(said.end_ms, 3),
        item_id=item.id,
        type=item.type,
        role=item.role,
        text=said.text,
        heard_text=said.heard_text if cut else None,
        heard_ms=said.heard_ms,
        name=item.name,
        call_id=item.call_id,
        arguments=item.arguments,
        output=item.output,
    )

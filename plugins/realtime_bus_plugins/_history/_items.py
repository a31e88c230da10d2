"""What a history consists of: items, their parts, calls."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["FunctionCall", "HistoryItem", "HistoryPart", "PartKind", "SpeakerSegment"]

PartKind = Literal["text", "audio", "image", "other"]


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
        generated_ms: How much audio there was when it was cut off, if that is known.
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

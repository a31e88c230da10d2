"""The 46 events that a server sends.

`output_index` and `content_index` read as 0 where a server leaves them out, as some do.
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType, field

from ._audio import Audio, lazy_audio
from ._base import Id, ServerEvent
from ._items import ContentPart, Item
from ._response import (
    Conversation,
    ErrorDetails,
    LogProb,
    RateLimit,
    Response,
    TranscriptionError,
    TranscriptionLanguage,
    TranscriptionUsage,
)
from ._session import SessionObject

# Session, errors, limits


class SessionCreated(ServerEvent, frozen=True, kw_only=True, tag="session.created"):
    """The session has begun; always the first event.

    Attributes:
        session: The settings in force.
    """

    session: SessionObject


class SessionUpdated(ServerEvent, frozen=True, kw_only=True, tag="session.updated"):
    """Settings were changed.

    Attributes:
        session: All settings in force, not only those that changed.
    """

    session: SessionObject


class Error(ServerEvent, frozen=True, kw_only=True, tag="error"):
    """Something went wrong; unless it is fatal, the session goes on with its state unchanged.

    Attributes:
        error: What, and because of which client event.
    """

    error: ErrorDetails


class RateLimitsUpdated(ServerEvent, frozen=True, kw_only=True, tag="rate_limits.updated"):
    """How much may still be used; at no fixed place within a response.

    Attributes:
        rate_limits: One for each kind of limit; some servers send none.
    """

    rate_limits: list[RateLimit] = field(default_factory=list[RateLimit])


# Conversation


class ConversationCreated(ServerEvent, frozen=True, kw_only=True, tag="conversation.created"):
    """A conversation has begun. In GA's schema, but not seen from OpenAI.

    Attributes:
        conversation: Its id.
    """

    conversation: Conversation


class ConversationItemAdded(ServerEvent, frozen=True, kw_only=True, tag="conversation.item.added"):
    """An item has entered the conversation.

    Attributes:
        item: A client's item is whole, without audio; a model's is empty and in
            progress.
        previous_item_id: What it follows; None if it is the first, UNSET if the server does not
            say.
    """

    item: Item
    previous_item_id: Id | UnsetType | None = UNSET


class ConversationItemDone(ServerEvent, frozen=True, kw_only=True, tag="conversation.item.done"):
    """An item is final.

    Attributes:
        item: The whole item, without audio.
        previous_item_id: What it follows; None if it is the first, UNSET if the server does not
            say.
    """

    item: Item
    previous_item_id: Id | UnsetType | None = UNSET


class ConversationItemCreated(
    ServerEvent, frozen=True, kw_only=True, tag="conversation.item.created"
):
    """An item has entered the conversation, as the beta protocol says it.

    Attributes:
        item: The item.
        previous_item_id: What it follows; None if it is the first, UNSET if the server does not
            say.
    """

    item: Item
    previous_item_id: Id | UnsetType | None = UNSET


class ConversationItemRetrieved(
    ServerEvent, frozen=True, kw_only=True, tag="conversation.item.retrieved"
):
    """The answer to ``conversation.item.retrieve``.

    Attributes:
        item: The whole item, with audio.
    """

    item: Item


class ConversationItemTruncated(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="conversation.item.truncated"
):
    """An assistant message was cut to what was heard.

    The answer to ``conversation.item.truncate``; over WebRTC and SIP also unasked.

    Attributes:
        item_id: Which item.
        content_index: Which content part of it.
        audio_end_ms: What is left of its audio, in milliseconds from its start.
    """

    item_id: Id
    content_index: int = 0
    audio_end_ms: int


class ConversationItemDeleted(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="conversation.item.deleted"
):
    """An item was removed.

    Attributes:
        item_id: Which item.
    """

    item_id: Id


# Input audio


class InputAudioBufferSpeechStarted(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="input_audio_buffer.speech_started"
):
    """Somebody has begun to speak: the moment to fall silent.

    Attributes:
        audio_start_ms: Milliseconds from the first audio ever appended to the start of
            the speech, padding included.
        item_id: The user message that will be made of it; it does not exist yet.
    """

    audio_start_ms: int
    item_id: Id


class InputAudioBufferSpeechStopped(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="input_audio_buffer.speech_stopped"
):
    """The turn has ended.

    Attributes:
        audio_end_ms: Milliseconds from the first audio ever appended to the end of the
            turn, the silence that ended it included.
        item_id: The user message that will be made of it.
    """

    audio_end_ms: int
    item_id: Id


class InputAudioBufferCommitted(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="input_audio_buffer.committed"
):
    """A user message is made of the input buffer; its item event follows.

    Attributes:
        item_id: The user message.
        previous_item_id: What it follows; None if it is the first, UNSET if the server does not
            say.
    """

    item_id: Id
    previous_item_id: Id | UnsetType | None = UNSET


class InputAudioBufferCleared(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="input_audio_buffer.cleared"
):
    """The input buffer was discarded."""


class InputAudioBufferTimeoutTriggered(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="input_audio_buffer.timeout_triggered"
):
    """Nobody has spoken for the idle timeout; a commit and a response follow.

    Attributes:
        audio_start_ms: Milliseconds from the first audio ever appended to the start of
            the silence.
        audio_end_ms: The same to its end.
        item_id: The user message that will be made of the silence.
    """

    audio_start_ms: int
    audio_end_ms: int
    item_id: Id


class InputAudioBufferDtmfEventReceived(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="input_audio_buffer.dtmf_event_received"
):
    """The caller has pressed a key; SIP only. It has no event id.

    Attributes:
        event: The key: 0 to 9, ``*``, ``#``, A to D.
        received_at: When, in Unix seconds.
    """

    event: str
    received_at: int


# Input transcription: apart from responses, at any time after the commit


class _InputTranscription(ServerEvent, frozen=True, kw_only=True):
    """What these have in common."""

    item_id: Id
    """The user message that is transcribed."""
    content_index: int = 0
    """Which content part of it."""


class ConversationItemInputAudioTranscriptionDelta(
    _InputTranscription,
    frozen=True,
    kw_only=True,
    tag="conversation.item.input_audio_transcription.delta",
):
    """More of a transcript.

    Attributes:
        delta: Text to append.
        logprobs: How sure the transcriber is, if that was asked for.
    """

    delta: str = ""
    logprobs: list[LogProb] | None = None


class ConversationItemInputAudioTranscriptionCompleted(
    _InputTranscription,
    frozen=True,
    kw_only=True,
    tag="conversation.item.input_audio_transcription.completed",
):
    """A transcript is final; it replaces the deltas.

    Attributes:
        transcript: All of it.
        usage: What it cost; beta servers do not say.
        languages: What was spoken, if the model says.
        logprobs: How sure the transcriber is, if that was asked for.
    """

    transcript: str
    usage: TranscriptionUsage | None = None
    languages: list[TranscriptionLanguage] | None = None
    logprobs: list[LogProb] | None = None


class ConversationItemInputAudioTranscriptionSegment(
    _InputTranscription,
    frozen=True,
    kw_only=True,
    gc=False,
    tag="conversation.item.input_audio_transcription.segment",
):
    """What one speaker said, from a model that separates speakers.

    Attributes:
        id: The segment.
        text: What was said.
        speaker: The speaker, as a label.
        start: Where it begins, in seconds from the start of the item's audio.
        end: Where it ends, likewise.
    """

    id: Id
    text: str
    speaker: str
    start: float
    end: float


class ConversationItemInputAudioTranscriptionFailed(
    _InputTranscription,
    frozen=True,
    kw_only=True,
    tag="conversation.item.input_audio_transcription.failed",
):
    """There will be no transcript; the session goes on.

    Attributes:
        error: Why.
    """

    error: TranscriptionError


# Responses


class _InResponse(ServerEvent, frozen=True, kw_only=True):
    """What is part of a response."""

    response_id: Id
    """Which response."""


class _OfOutputItem(_InResponse, frozen=True, kw_only=True):
    """What is part of an item of a response."""

    item_id: Id
    """Which item."""
    output_index: int = 0
    """Where in the response's output the item is."""


class _OfContentPart(_OfOutputItem, frozen=True, kw_only=True):
    """What is part of a content part of an item of a response."""

    content_index: int = 0
    """Where in the item's content the part is."""


class ResponseCreated(ServerEvent, frozen=True, kw_only=True, tag="response.created"):
    """A response has begun.

    Attributes:
        response: In progress, without output.
    """

    response: Response


class ResponseDone(ServerEvent, frozen=True, kw_only=True, tag="response.done"):
    """A response has ended, in whatever way; sent exactly once.

    Attributes:
        response: Status, items (without audio) and usage.
    """

    response: Response


class ResponseOutputItemAdded(
    _InResponse, frozen=True, kw_only=True, tag="response.output_item.added"
):
    """A response has begun an item.

    Attributes:
        output_index: Where in the response's output the item is.
        item: In progress and empty; a function call has its name and call id already.
    """

    output_index: int = 0
    item: Item


class ResponseOutputItemDone(
    _InResponse, frozen=True, kw_only=True, tag="response.output_item.done"
):
    """An item of a response has ended.

    Attributes:
        output_index: Where in the response's output the item is.
        item: The whole item, without audio; incomplete if the response was cut off.
    """

    output_index: int = 0
    item: Item


class ResponseContentPartAdded(
    _OfContentPart, frozen=True, kw_only=True, tag="response.content_part.added"
):
    """A content part of an item has begun.

    Attributes:
        part: The empty part, an `AudioPart` or a `TextPart`.
    """

    part: ContentPart


class ResponseContentPartDone(
    _OfContentPart, frozen=True, kw_only=True, tag="response.content_part.done"
):
    """A content part of an item has ended.

    Attributes:
        part: The part, with its text or transcript and without audio.
    """

    part: ContentPart


class ResponseOutputTextDelta(
    _OfContentPart, frozen=True, kw_only=True, gc=False, tag="response.output_text.delta"
):
    """More text.

    Attributes:
        delta: Text to append.
    """

    delta: str


class ResponseOutputTextDone(
    _OfContentPart, frozen=True, kw_only=True, gc=False, tag="response.output_text.done"
):
    """A text is final.

    Attributes:
        text: All of it.
    """

    text: str


@lazy_audio("delta")
class ResponseOutputAudioDelta(
    _OfContentPart, frozen=True, kw_only=True, weakref=True, tag="response.output_audio.delta"
):
    """More audio, faster than it plays.

    Attributes:
        delta: The bytes, in the session's output format, of varying length; not always
            whole samples.
    """

    delta: Audio


class ResponseOutputAudioDone(
    _OfContentPart, frozen=True, kw_only=True, gc=False, tag="response.output_audio.done"
):
    """All audio of a content part has been sent; it may play for long yet."""


class ResponseOutputAudioTranscriptDelta(
    _OfContentPart,
    frozen=True,
    kw_only=True,
    gc=False,
    tag="response.output_audio_transcript.delta",
):
    """More of what the model says, mostly ahead of the audio.

    Attributes:
        delta: Text to append.
    """

    delta: str


class ResponseOutputAudioTranscriptDone(
    _OfContentPart, frozen=True, kw_only=True, gc=False, tag="response.output_audio_transcript.done"
):
    """The transcript of what the model says is final.

    Attributes:
        transcript: All of it, heard or not.
    """

    transcript: str


class ResponseFunctionCallArgumentsDelta(
    _OfOutputItem, frozen=True, kw_only=True, gc=False, tag="response.function_call_arguments.delta"
):
    """More of a function call's arguments.

    Attributes:
        call_id: The call.
        delta: Text to append.
    """

    call_id: Id
    delta: str


class ResponseFunctionCallArgumentsDone(
    _OfOutputItem, frozen=True, kw_only=True, gc=False, tag="response.function_call_arguments.done"
):
    """A function call's arguments are final.

    Attributes:
        call_id: The call; what its output must name.
        arguments: All of them: model text that should be JSON and need not be.
        name: Which function. Some servers leave it out: the item has it.
    """

    call_id: Id
    arguments: str
    name: str | None = None


# The server's output buffer: WebRTC and SIP, or a socket beside such a call


class OutputAudioBufferStarted(
    _InResponse, frozen=True, kw_only=True, gc=False, tag="output_audio_buffer.started"
):
    """The server has begun to play a response."""


class OutputAudioBufferStopped(
    _InResponse, frozen=True, kw_only=True, gc=False, tag="output_audio_buffer.stopped"
):
    """The server has played all of a response."""


class OutputAudioBufferCleared(
    _InResponse, frozen=True, kw_only=True, gc=False, tag="output_audio_buffer.cleared"
):
    """The server has discarded what it had not yet played of a response."""


# MCP: tools that the server calls by itself


class _OfMcpCall(ServerEvent, frozen=True, kw_only=True):
    """What happens to an MCP call; it does not name its response."""

    item_id: Id
    """The `McpCallItem`."""
    output_index: int = 0
    """Where in the response's output the item is."""


class McpListToolsInProgress(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="mcp_list_tools.in_progress"
):
    """The import of an MCP server's tools has begun.

    Attributes:
        item_id: The `McpListToolsItem`.
    """

    item_id: Id


class McpListToolsCompleted(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="mcp_list_tools.completed"
):
    """An MCP server's tools were imported, and can be called from the next turn.

    Attributes:
        item_id: The `McpListToolsItem`.
    """

    item_id: Id


class McpListToolsFailed(
    ServerEvent, frozen=True, kw_only=True, gc=False, tag="mcp_list_tools.failed"
):
    """An MCP server's tools could not be imported.

    Attributes:
        item_id: The `McpListToolsItem`.
    """

    item_id: Id


class ResponseMcpCallArgumentsDelta(
    _OfOutputItem, frozen=True, kw_only=True, gc=False, tag="response.mcp_call_arguments.delta"
):
    """More of an MCP call's arguments.

    Attributes:
        delta: Text to append.
        obfuscation: Random padding that hides the length of the frame.
    """

    delta: str
    obfuscation: str | None = None


class ResponseMcpCallArgumentsDone(
    _OfOutputItem, frozen=True, kw_only=True, gc=False, tag="response.mcp_call_arguments.done"
):
    """An MCP call's arguments are final.

    Attributes:
        arguments: All of them, as JSON text.
    """

    arguments: str


class ResponseMcpCallInProgress(
    _OfMcpCall, frozen=True, kw_only=True, gc=False, tag="response.mcp_call.in_progress"
):
    """The server is calling the tool."""


class ResponseMcpCallCompleted(
    _OfMcpCall, frozen=True, kw_only=True, gc=False, tag="response.mcp_call.completed"
):
    """The call has succeeded; its item has the output."""


class ResponseMcpCallFailed(
    _OfMcpCall, frozen=True, kw_only=True, gc=False, tag="response.mcp_call.failed"
):
    """The call has failed; its item has the error."""

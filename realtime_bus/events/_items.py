"""Conversation items and the parts that messages are made of.

The same structs serve both directions, so most fields are optional: an absent one is None, and
None is not sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from ._audio import OptionalAudio, lazy_audio
from ._base import Id, UnknownObject, Variant
from ._common import Status

# Parts of messages


class InputText(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="input_text"):
    """Text in a user or system message.

    Attributes:
        text: The text.
    """

    text: str


@lazy_audio("audio")
class InputAudio(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="input_audio"):
    """Audio in a user message.

    Attributes:
        audio: The bytes, in the session's input format. Servers send them only in
            ``conversation.item.retrieved``.
        transcript: What was said, once transcribed. The model never sees a client's.
    """

    audio: OptionalAudio = None
    transcript: str | None = None


class InputImage(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="input_image"):
    """An image in a user message.

    Attributes:
        image_url: A PNG or JPEG as a data URI.
        detail: How closely the model looks; auto acts as high.
    """

    image_url: str | None = None
    detail: Literal["auto", "low", "high"] | None = None


class OutputText(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="output_text"):
    """Text in an assistant message.

    Attributes:
        text: The text.
    """

    text: str


@lazy_audio("audio")
class OutputAudio(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="output_audio"):
    """Speech in an assistant message.

    Attributes:
        transcript: What the model says.
        audio: The bytes, in the session's output format; only in
            ``conversation.item.retrieved``.
    """

    transcript: str | None = None
    audio: OptionalAudio = None


@lazy_audio("audio")
class AudioPart(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="audio"):
    """Speech, as ``response.content_part.*`` and the beta protocol spell it.

    Attributes:
        transcript: What the model says; empty when the part has just begun.
        audio: The bytes, in the session's output format; rarely sent.
    """

    transcript: str | None = None
    audio: OptionalAudio = None


class TextPart(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="text"):
    """Text, as ``response.content_part.*`` and the beta protocol spell it.

    Attributes:
        text: The text; empty when the part has just begun.
    """

    text: str | None = None


_KnownPart = InputText | InputAudio | InputImage | OutputText | OutputAudio | AudioPart | TextPart

if TYPE_CHECKING:
    ContentPart = _KnownPart | UnknownObject
else:
    ContentPart = _KnownPart


# Messages and function calls


class _ConversationItem(Variant, frozen=True, kw_only=True, omit_defaults=True):
    """What messages and function items share."""

    id: Id | None = None
    """Unique in the conversation; a client may choose its own."""
    object: Literal["realtime.item"] | None = None
    """Always the same, and often left out."""
    status: Status | None = None
    """How far the item has come; a cut-off one is incomplete. Ignored when a client sends it."""


class MessageItem(_ConversationItem, frozen=True, kw_only=True, omit_defaults=True, tag="message"):
    """A message.

    Attributes:
        role: Who speaks. Clients may create any, but no assistant audio.
        content: The parts, in order; empty in a message that the model has just begun.
        phase: What a newer model says the message is, ``"commentary"`` or
            ``"final_answer"``.
    """

    role: Literal["system", "user", "assistant"]
    content: list[ContentPart]
    phase: str | None = None


class FunctionCallItem(
    _ConversationItem, frozen=True, kw_only=True, omit_defaults=True, tag="function_call"
):
    """The model wants a function called.

    Attributes:
        name: Which function.
        arguments: Model text that should be JSON and need not be; empty while it is written.
        call_id: What a `FunctionCallOutputItem` answers to.
    """

    name: str
    arguments: str
    call_id: Id | None = None


class FunctionCallOutputItem(
    _ConversationItem, frozen=True, kw_only=True, omit_defaults=True, tag="function_call_output"
):
    """What a function returned; the client creates it.

    Attributes:
        call_id: The `FunctionCallItem` it answers.
        output: Free text, usually JSON; may be empty.
    """

    call_id: Id
    output: str


# Tools that the server calls on an MCP server


class McpListedTool(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool that an MCP server offers.

    Attributes:
        name: The tool's name.
        input_schema: JSON Schema of its arguments.
        description: What it does.
        annotations: Hints of the MCP server.
    """

    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    annotations: dict[str, Any] | None = None


class McpListToolsItem(
    Variant, frozen=True, kw_only=True, omit_defaults=True, tag="mcp_list_tools"
):
    """The tools that were imported from an MCP server.

    Attributes:
        id: The item.
        server_label: Which MCP server, as its `McpTool` calls it.
        tools: What it offers; empty until the import has completed.
    """

    server_label: str
    tools: list[McpListedTool]
    id: Id | None = None


class McpProtocolError(Variant, frozen=True, kw_only=True, tag="protocol_error"):
    """The MCP server answered with a protocol error.

    Attributes:
        code: JSON-RPC error code.
        message: The server's words.
    """

    code: int
    message: str


class McpToolExecutionError(Variant, frozen=True, kw_only=True, tag="tool_execution_error"):
    """The tool ran and failed.

    Attributes:
        message: The tool's words.
    """

    message: str


class McpHttpError(Variant, frozen=True, kw_only=True, tag="http_error"):
    """The MCP server could not be reached properly.

    Attributes:
        code: HTTP status.
        message: The server's words.
    """

    code: int
    message: str


_KnownMcpError = McpProtocolError | McpToolExecutionError | McpHttpError

if TYPE_CHECKING:
    McpCallError = _KnownMcpError | UnknownObject
else:
    McpCallError = _KnownMcpError


class McpCallItem(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="mcp_call"):
    """A call that the server made on an MCP server; nothing is left for the client to do.

    Attributes:
        id: The item.
        server_label: Which MCP server, as its `McpTool` calls it.
        name: Which tool.
        arguments: JSON text.
        approval_request_id: The `McpApprovalRequestItem` that allowed it, if one was needed.
        output: What the tool returned.
        error: Why there is no output.
    """

    id: Id
    server_label: str
    name: str
    arguments: str
    approval_request_id: Id | None = None
    output: str | None = None
    error: McpCallError | None = None


class McpApprovalRequestItem(Variant, frozen=True, kw_only=True, tag="mcp_approval_request"):
    """The server asks whether it may call a tool; answer with a `McpApprovalResponseItem`.

    Attributes:
        id: The item, and the request's id.
        server_label: Which MCP server, as its `McpTool` calls it.
        name: Which tool.
        arguments: JSON text.
    """

    id: Id
    server_label: str
    name: str
    arguments: str


class McpApprovalResponseItem(
    Variant, frozen=True, kw_only=True, omit_defaults=True, tag="mcp_approval_response"
):
    """The client's answer to a `McpApprovalRequestItem`.

    Attributes:
        id: The item; the client chooses it.
        approval_request_id: The request's id.
        approve: Whether the tool may be called.
        reason: Why, in words.
    """

    id: Id
    approval_request_id: Id
    approve: bool
    reason: str | None = None


class ItemReference(Variant, frozen=True, kw_only=True, tag="item_reference"):
    """An item of the conversation by its id; only in the input of ``response.create``.

    Attributes:
        id: Which item.
    """

    id: Id


_KnownItem = (
    MessageItem
    | FunctionCallItem
    | FunctionCallOutputItem
    | McpListToolsItem
    | McpCallItem
    | McpApprovalRequestItem
    | McpApprovalResponseItem
)

if TYPE_CHECKING:
    Item = _KnownItem | UnknownObject
    ResponseInput = _KnownItem | ItemReference | UnknownObject
else:
    Item = _KnownItem
    ResponseInput = _KnownItem | ItemReference

"""Tools that a model may use, and how it chooses.

The same structs serve both directions: an absent field is None, and None is not sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from ._base import UnknownObject, Variant


class FunctionTool(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="function"):
    """A function that the client runs when the model calls it.

    Attributes:
        name: What the model calls it.
        description: When and how to use it, for the model.
        parameters: JSON Schema of an object that holds the arguments.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class McpToolFilter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some of an MCP server's tools.

    Attributes:
        tool_names: Those with these names.
        read_only: Those that say of themselves that they change nothing.
    """

    tool_names: list[str] | None = None
    read_only: bool | None = None


class McpApprovalFilter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which tools of an MCP server need approval.

    Attributes:
        always: These do, at each call.
        never: These do not.
    """

    always: McpToolFilter | None = None
    never: McpToolFilter | None = None


class McpTool(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="mcp"):
    """An MCP server whose tools the server imports and calls by itself.

    Give one of `server_url`, `connector_id` and `tunnel_id`; later in a session the label alone
    is enough.

    Attributes:
        server_label: A name for the MCP server, unique in the session.
        server_url: Where it is.
        connector_id: A connector that OpenAI runs.
        tunnel_id: A tunnel to a server that is not public.
        authorization: OAuth access token; not together with an Authorization header.
        server_description: What it is for, for the model.
        headers: HTTP headers for it.
        allowed_tools: Names, or a filter; all tools if absent.
        allowed_callers: Who may call: the model, or code that it writes.
        require_approval: Which calls the client must approve; all of them if absent.
        defer_loading: Whether the tools are imported only when they are searched for.
    """

    server_label: str
    server_url: str | None = None
    connector_id: (
        Literal[
            "connector_dropbox",
            "connector_gmail",
            "connector_googlecalendar",
            "connector_googledrive",
            "connector_microsoftteams",
            "connector_outlookcalendar",
            "connector_outlookemail",
            "connector_sharepoint",
        ]
        | None
    ) = None
    tunnel_id: str | None = None
    authorization: str | None = None
    server_description: str | None = None
    headers: dict[str, str] | None = None
    allowed_tools: list[str] | McpToolFilter | None = None
    allowed_callers: (
        Annotated[list[Literal["direct", "programmatic"]], Meta(min_length=1)] | None
    ) = None
    require_approval: Literal["always", "never"] | McpApprovalFilter | None = None
    defer_loading: bool | None = None


class ToolChoiceFunction(Variant, frozen=True, kw_only=True, tag="function"):
    """The model must call this function.

    Attributes:
        name: Which one.
    """

    name: str


class ToolChoiceMcp(Variant, frozen=True, kw_only=True, omit_defaults=True, tag="mcp"):
    """The model must use this MCP server.

    Attributes:
        server_label: Which one.
        name: Which of its tools; any of them if absent.
    """

    server_label: str
    name: str | None = None


_KnownTool = FunctionTool | McpTool
_KnownToolChoice = Literal["none", "auto", "required"] | ToolChoiceFunction | ToolChoiceMcp

if TYPE_CHECKING:
    Tool = _KnownTool | UnknownObject
    ToolChoice = _KnownToolChoice | UnknownObject
else:
    Tool = _KnownTool
    ToolChoice = _KnownToolChoice

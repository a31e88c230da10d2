"""What is told of a tool call while it runs: a file of its own, for other plugins look on."""

from __future__ import annotations

from typing import Literal, TypeAlias

from realtime_bus import events as ev

ToolOutcome: TypeAlias = Literal["succeeded", "failed", "invalid", "timed_out", "interrupted"]
"""How a call ended."""


class ToolStarted(ev.BusEvent, frozen=True, kw_only=True, tag="bus.tool_started"):
    """A tool begins to run; told in its own task, before it.

    Attributes:
        call_id: Which call.
        name: Which tool.
    """

    call_id: str
    name: str


class ToolFinished(ev.BusEvent, frozen=True, kw_only=True, tag="bus.tool_finished"):
    """A tool has run, or was stopped; told in its own task, before the model is.

    Attributes:
        call_id: Which call.
        name: Which tool.
        outcome: How it ended.
        took_s: How long it ran, in seconds.
        error: What it raised, if it failed.
    """

    call_id: str
    name: str
    outcome: ToolOutcome
    took_s: float
    error: Exception | None = None

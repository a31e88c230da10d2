"""Tool calls of one session: told by the protocol, and by `Tools` where that runs them.

A call begins when the model has written it, and ends when its output is sent, whoever answers it.
What `Tools` tells in a call's own task makes its span the current one there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from realtime_bus import events as ev
from realtime_bus_plugins._recent import Recent
from realtime_bus_plugins._tool_events import ToolFinished, ToolStarted

from . import _content as content
from ._told import Told

_OUTCOMES = {"failed": "failed", "timed_out": "timeout", "invalid": "invalid_arguments"}
"""What of a tool's outcomes is an error, and what it is called."""

_MOST_MCP = 64  # calls that the server runs at once


class Calls:
    """The calls of one session."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._mcp_since_s = Recent[str, float](_MOST_MCP)

    def _item_done(self, event: ev.ResponseOutputItemDone) -> None:
        item: object = event.item
        turn = self._told.turn_of(response_id=event.response_id)
        if isinstance(item, ev.FunctionCallItem) and item.call_id:
            self._open_call(item.call_id, turn, self._told.watch.now_s(), item, "function")
        elif isinstance(item, ev.McpCallItem):
            since_s = self._mcp_since_s.pop(item.id, self._told.watch.now_s())
            self._open_call(item.id, turn, since_s, item, "extension")
            failed = item.error is not None
            self._told.spans.calls[item.id].error_type = "failed" if failed else None
            self.close(item.id, "failed" if failed else "succeeded", item.output)

    def _open_call(
        self,
        call_id: str,
        turn: str | None,
        since_s: float,
        item: ev.FunctionCallItem | ev.McpCallItem,
        kind: str,
    ) -> None:
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.provider.name": self._told.model["gen_ai.provider.name"],
            **self._told.agent,
            "gen_ai.tool.name": item.name,
            "gen_ai.tool.type": kind,
            "gen_ai.tool.call.id": call_id,
        }
        if self._told.options.texts:
            attributes["gen_ai.tool.call.arguments"] = content.plain(item.arguments) or ""
        self._told.spans.call(call_id, turn, since_s, item.name, attributes)

    def _mcp_began(self, event: ev.ResponseMcpCallInProgress) -> None:
        self._mcp_since_s[event.item_id] = self._told.watch.now_s()

    def _tool_started(self, event: ToolStarted) -> None:
        self._told.spans.enter_call(event.call_id)

    def _tool_finished(self, event: ToolFinished) -> None:
        call = self._told.spans.leave_call(event.call_id)
        if call is None:
            return
        call.span.set_attribute("realtime_bus.tool.outcome", event.outcome)
        call.span.set_attribute("realtime_bus.tool.ran", event.took_s)
        call.error_type = _OUTCOMES.get(event.outcome)
        if event.error is not None:
            shown = content.failure(event.error, texts=self._told.options.texts)
            call.span.add_event("exception", shown)
            call.error_type = shown["exception.type"]
        if not call.in_turn:  # nobody need be told of its output
            self.close(event.call_id, event.outcome, None)

    def close(self, call_id: str, outcome: str | None, output: str | None) -> None:
        """End a call, if it is open."""
        shown = {"realtime_bus.tool.outcome": outcome}
        if self._told.options.texts:
            shown["gen_ai.tool.call.result"] = content.plain(output)
        at_s = self._told.watch.now_s()
        call = self._told.spans.end_call(call_id, at_s, shown)
        if call is not None:
            attributes = {"gen_ai.operation.name": "execute_tool", **self._told.model} | {
                "gen_ai.tool.name": call.name
            }
            if call.error_type is not None:
                attributes["error.type"] = call.error_type
            took_s = at_s - call.since_s
            self._told.record("gen_ai.client.operation.duration", took_s, attributes)

    SEEN: ClassVar[dict[type[ev.Event], Callable[[Calls, Any], None]]] = {
        ev.ResponseOutputItemDone: _item_done,
        ev.ResponseMcpCallInProgress: _mcp_began,
        ToolStarted: _tool_started,
        ToolFinished: _tool_finished,
    }

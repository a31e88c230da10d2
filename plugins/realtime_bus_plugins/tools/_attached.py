"""Tools at work in one session: what the machine decides is done here.

Inline handlers only take note. Calls run in tasks of the session; what they answer is sent without
waiting, and a server handles what it is sent in order, so nothing waits for a confirmation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import msgspec
import structlog

from realtime_bus import Session, SessionClosed
from realtime_bus import events as ev

from ._calls import Action, Call, FollowUp, Interrupt, Refuse, Run
from ._outputs import interrupted, not_run, unknown_tool
from ._parameters import Injected
from ._rounds import Rounds
from ._tool import Outcome, Tool

__all__ = ["Attached"]

_log: structlog.stdlib.BoundLogger = structlog.get_logger("realtime_bus.tools")

PATIENCE_S = 15.0
"""How long, in seconds, the model is kept waiting for an event that ought to come first."""


class Attached:
    """One session's calls.

    Args:
        session: The session.
        tools: What may be called, by name; it may grow and shrink.
        hosted: Tools that the server runs.
        state: What is injected as the application's state.
        limit: How many calls run at once.
        follow_up: Whether the model is asked to go on.
    """

    def __init__(
        self,
        session: Session,
        tools: Mapping[str, Tool],
        hosted: tuple[ev.Tool, ...],
        *,
        state: object,
        limit: int,
        follow_up: bool,
    ) -> None:
        self._session = session
        self._tools = tools
        self._hosted = hosted
        self._follow_up = follow_up
        self._injected: dict[Injected, object] = {"session": session, "state": state}
        self._rounds = Rounds(limit=limit)
        self._threads = anyio.CapacityLimiter(limit)
        self._scopes: dict[Call, anyio.CancelScope] = {}
        self._connected = False
        self._patient = False

    def subscribe(self) -> None:
        """Listen to the session."""
        session = self._session
        session.on(ev.Connected)(self._begin)
        session.on(*Rounds.SEEN)(self._see)
        session.intercept_outgoing(ev.SessionUpdate, self._watch_update)

    # telling the server which tools there are

    def _begin(self, event: ev.Connected) -> None:  # noqa: ARG002 - the handler of an event
        self._connected = True
        if self._tools or self._hosted:
            self.announce()

    def announce(self) -> None:
        """Tell the server which tools there are; before the session has begun, nothing."""
        # a session that only transcribes or translates has no tools
        if self._connected and isinstance(self._session.config, ev.RealtimeSession | None):
            tools = [*(tool.to_event() for tool in self._tools.values()), *self._hosted]
            self._send(ev.SessionUpdate(session=ev.RealtimeSessionRequest(tools=tools)))

    def _watch_update(
        self,
        event: ev.SessionUpdate,
        session: Session,  # noqa: ARG002 - an interceptor is called with it
    ) -> ev.SessionUpdate:
        """Say so when the application takes our tools away without meaning to."""
        listed = getattr(event.session, "tools", msgspec.UNSET)
        if listed is not msgspec.UNSET:
            names = {getattr(tool, "name", None) for tool in listed}
            lost = [name for name in self._tools if name not in names]
            if lost:
                _log.warning(
                    "this session.update replaces the tools of the Tools plugin; "
                    "give it the others with Tools(hosted=[...]), and functions with @tools.tool",
                    lost=lost,
                )
        return event

    # what the machine says

    def _see(self, event: ev.Event) -> None:
        self._act(self._rounds.see(event))

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            self._ACTS[type(action)](self, action)
        if self._rounds.owing and not self._patient:
            self._patient = True
            self._session.start_soon(self._wait_patiently)

    async def _wait_patiently(self) -> None:
        """See that what was to come first, and never comes, does not silence the model."""
        try:
            while self._rounds.owing:
                await anyio.sleep(PATIENCE_S)
                self._act(self._rounds.insist())
        finally:
            self._patient = False

    def _run(self, action: Run) -> None:
        self._scopes[action.call] = anyio.CancelScope()
        self._session.start_soon(self._work, action.call)

    def _refuse(self, action: Refuse) -> None:
        tool = self._tools.get(action.call.name)
        if tool is not None:
            tool.statistics.not_run += 1
        self._answer(action.call, not_run(action.reason))

    def _interrupt(self, action: Interrupt) -> None:
        tool = self._tools.get(action.call.name)
        if tool is not None and tool.options.on_interrupt == "cancel":
            self._scopes[action.call].cancel()

    def _go_on(self, action: FollowUp) -> None:
        found = [self._tools.get(call.name) for call in action.calls]
        wanted = any(tool is None or tool.options.follow_up for tool in found)
        if self._follow_up and wanted:
            with suppress(SessionClosed):  # then there is nobody left to go on
                self._session.respond()

    _ACTS: ClassVar[dict[type, Callable[[Attached, Any], None]]] = {
        Run: _run,
        Refuse: _refuse,
        Interrupt: _interrupt,
        FollowUp: _go_on,
    }

    # running

    async def _work(self, call: Call) -> None:
        output = await self.output_of(call, self._scopes[call])
        del self._scopes[call]
        self._answer(call, output)
        self._act(self._rounds.finished(call))

    async def output_of(self, call: Call, scope: anyio.CancelScope) -> str:
        """Run a call, and return what it is answered with; raises nothing."""
        tool = self._tools.get(call.name)
        if tool is None:
            _log.warning("the model called an unknown tool", tool=call.name, call_id=call.call_id)
            return unknown_tool(call.name, self._tools)
        outcome = Outcome("interrupted", interrupted(tool.name))
        tool.statistics.running += 1
        started_s = perf_counter()
        try:
            with scope:
                await anyio.lowlevel.checkpoint()  # one that was interrupted already does not begin
                outcome = await tool.run(call.arguments, self._injected, self._threads)
        finally:
            tool.statistics.running -= 1
        self._count(tool, outcome, perf_counter() - started_s)
        self._report(tool, call, outcome)
        return outcome.output

    def _count(self, tool: Tool, outcome: Outcome, took_s: float) -> None:
        figures = tool.statistics
        setattr(figures, outcome.kind, getattr(figures, outcome.kind) + 1)
        figures.total_s += took_s
        figures.slowest_s = max(figures.slowest_s, took_s)

    def _report(self, tool: Tool, call: Call, outcome: Outcome) -> None:
        if outcome.error is not None:
            _log.error(
                "a tool failed", tool=tool.name, call_id=call.call_id, exc_info=outcome.error
            )
            self._session.emit(
                ev.HandlerFailed(
                    handler=f"tool {tool.name}",
                    event_type="response.output_item.done",
                    error=outcome.error,
                )
            )
        elif outcome.kind in ("invalid", "timed_out"):
            _log.warning(
                "a tool call came to nothing",
                tool=tool.name,
                call_id=call.call_id,
                reason=outcome.kind,
                output=outcome.output,
            )

    # answering

    def _answer(self, call: Call, output: str) -> None:
        item = ev.FunctionCallOutputItem(call_id=call.call_id, output=output)
        self._send(ev.ConversationItemCreate(item=item))

    def _send(self, event: ev.ClientEvent) -> None:
        with suppress(SessionClosed):  # then there is nobody left to be told
            self._session.send_nowait(event)

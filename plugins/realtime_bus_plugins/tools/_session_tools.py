"""Tools at work in one session: what `Rounds` decides is done here.

Inline handlers only take note. Calls run in tasks of the session; what they answer is sent without
waiting, and a server handles what it is sent in order, so nothing waits for a confirmation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import msgspec

from realtime_bus import RealtimeBusError, Reply, Session, SessionClosed
from realtime_bus import events as ev
from realtime_bus.log import Repeats, describe, get_logger
from realtime_bus_plugins._tool_events import ToolFinished, ToolStarted

from ._follow_up import Call
from ._rounds import Action, Decline, FollowUp, Interrupt, Rounds, Run
from ._tool import Outcome, Tool, declined, interrupted, unknown_tool

_log = get_logger("realtime_bus.tools")


class SessionTools:
    """One session's calls.

    Args:
        session: The session.
        tools: What may be called, by name; it may grow and shrink.
        hosted: Tools that the server runs.
        limit: How many calls run at once.
        follow_up: Whether the model is asked to go on.
    """

    def __init__(
        self,
        session: Session,
        tools: Mapping[str, Tool],
        hosted: tuple[ev.Tool, ...],
        *,
        limit: int,
        follow_up: bool,
    ) -> None:
        self.state = session.state
        self._session = session
        self._log = _log
        self._repeats = Repeats(burst=5)
        self._tools = tools
        self._hosted = hosted
        self._follow_up = follow_up
        self._rounds = Rounds(session.conversation, limit=limit)
        self._threads = anyio.CapacityLimiter(limit)
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._connected = False
        self._timed = -1  # the number of changes when the timer was set
        self._timer: anyio.CancelScope | None = None  # one task's, however much changes

    def subscribe(self) -> None:
        """Listen to the session."""
        session = self._session
        session.on(ev.Connected)(self._begin)
        session.on(*Rounds.SEEN, narrowed=True)(self._see)
        session.intercept_outgoing(ev.SessionUpdate, self._watch_update)

    # telling the server which tools there are

    def _begin(self, _event: ev.Connected) -> None:
        self._connected = True
        self._log = _log.bind(session_id=self._session.id)
        if self._tools or self._hosted:
            self.announce()

    def announce(self) -> None:
        """Tell the server which tools there are; before the session has begun, nothing."""
        # a session that only transcribes or translates has no tools
        if self._connected and self._session.settings.kind in ("realtime", None):
            tools = [*(tool.to_event(self.state) for tool in self._tools.values()), *self._hosted]
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
                self._log.warning(
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
        self._set_timer()

    def _set_timer(self) -> None:
        follow_ups = self._rounds.follow_ups
        if self._timed == follow_ups.changes:
            return
        self._timed, wait_s = follow_ups.changes, follow_ups.wait_s
        if self._timer is not None:
            self._timer.deadline = inf if wait_s is None else anyio.current_time() + wait_s
        elif wait_s is not None:
            self._timer = anyio.CancelScope(deadline=anyio.current_time() + wait_s)
            self._start(self._wait)

    async def _wait(self) -> None:
        """See that what was to come first, and never comes, does not silence the model."""
        while self._timer is not None:
            with self._timer:
                await anyio.sleep_forever()
            later = anyio.current_time() < self._timer.deadline  # it was moved meanwhile
            self._timer = anyio.CancelScope(deadline=self._timer.deadline if later else inf)
            if not later:
                self._act(self._rounds.waited())

    def _run(self, action: Run) -> None:
        self._scopes[action.call.call_id] = anyio.CancelScope()
        self._start(self._work, action.call)

    def _decline(self, action: Decline) -> None:
        tool = self._tools.get(action.call.name)
        if tool is not None:
            tool.statistics.not_run += 1
        self._answer(action.call, declined(action.reason))

    def _interrupt(self, action: Interrupt) -> None:
        tool = self._tools.get(action.call.name)
        if tool is not None and tool.options.on_interrupt == "cancel":
            self._scopes[action.call.call_id].cancel()

    def _go_on(self, action: FollowUp) -> None:
        found = [self._tools.get(call.name) for call in action.calls]
        if self._follow_up and any(tool is None or tool.options.follow_up for tool in found):
            with suppress(SessionClosed):  # then there is nobody left to go on
                reply = self._session.respond(while_speaking=action.at_once)
                self._start(self._see_reply, reply, action.calls)
        else:
            self._act(self._rounds.followed_up(action.calls, well=True))

    async def _see_reply(self, reply: Reply, calls: tuple[Call, ...]) -> None:
        try:
            response = await reply
            well = response.status != "failed"
        except SessionClosed:
            return
        except RealtimeBusError as error:
            self._log.warning(
                "the model was not asked to go on; it will be again", error=str(error)
            )
            well = False
        self._act(self._rounds.followed_up(calls, well=well))

    _ACTS: ClassVar[dict[type, Callable[[SessionTools, Any], None]]] = {
        Run: _run,
        Decline: _decline,
        Interrupt: _interrupt,
        FollowUp: _go_on,
    }

    # running

    async def _work(self, call: Call) -> None:
        output = interrupted(call.name)  # whatever happens, the call is answered
        try:
            output = await self.output_of(call, self._scopes[call.call_id])
        finally:
            del self._scopes[call.call_id]
            self._answer(call, output)
            self._act(self._rounds.finished(call))

    async def output_of(self, call: Call, scope: anyio.CancelScope) -> str:
        """Run a call, and return what it is answered with; raises nothing."""
        tool = self._tools.get(call.name)
        if tool is None:
            self._tell("the model called an unknown tool", call)
            return unknown_tool(call.name, self._tools)
        outcome = Outcome("interrupted", interrupted(tool.name))
        figures = tool.statistics
        figures.running += 1
        started_s = self._session.clock()
        try:
            with scope:
                await anyio.lowlevel.checkpoint()  # one that was interrupted already does not begin
                self._session.emit(ToolStarted(call_id=call.call_id, name=tool.name))
                outcome = await tool.run(call.arguments, self._session, self._threads)
        finally:
            figures.running -= 1
            took_s = self._session.clock() - started_s
            told = ToolFinished(
                call_id=call.call_id,
                name=tool.name,
                outcome=outcome.kind,
                took_s=took_s,
                error=outcome.error,
            )
            self._session.emit(told)
        figures.total_s += took_s
        figures.slowest_s = max(figures.slowest_s, took_s)
        setattr(figures, outcome.kind, getattr(figures, outcome.kind) + 1)
        self._report(tool, call, outcome)
        return outcome.output

    def _report(self, tool: Tool, call: Call, outcome: Outcome) -> None:
        about: dict[str, Any] = {"tool": tool.name, "call_id": call.call_id}
        if outcome.error is not None:
            suppressed = self._repeats.due(tool.name, error=outcome.error)
            if suppressed is not None:
                self._log.error("a tool failed", **about, **describe(outcome.error), **suppressed)
            failed = ev.HandlerFailed(
                handler=f"tool {tool.name}",
                event_type="response.output_item.done",
                error=outcome.error,
            )
            self._session.emit(failed)
        elif outcome.kind in ("invalid", "timed_out"):
            self._tell("a tool call came to nothing", call, reason=outcome.kind)
            # it may quote the arguments, which are nobody's business by default
            self._log.debug("the model was told why", **about, output=outcome.output)

    def _tell(self, what: str, call: Call, **more: str) -> None:
        """Warn, unless the log has been told the same again and again."""
        suppressed = self._repeats.due(what)
        if suppressed is not None:
            about = {"tool": call.name[:80], "call_id": call.call_id, **more}
            self._log.warning(what, **about, **suppressed)

    # sending

    def _answer(self, call: Call, output: str) -> None:
        item = ev.FunctionCallOutputItem(call_id=call.call_id, output=output)
        self._send(ev.ConversationItemCreate(item=item))

    def _send(self, event: ev.ClientEvent) -> None:
        with suppress(SessionClosed):  # then there is nobody left to be told
            self._session.send_nowait(event)

    def _start(self, function: Callable[..., Any], *args: object) -> None:
        with suppress(SessionClosed):  # likewise
            self._session.start_soon(function, *args)

"""Tools for the model: decorated functions that are described, run and answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import anyio
from typing_extensions import Unpack

from realtime_bus import Session, UsageError
from realtime_bus import events as ev

from ._follow_up import Call
from ._session_tools import SessionTools
from ._tool import Tool, ToolOptions, ToolStatistics

_F = TypeVar("_F", bound=Callable[..., Any])


class Tools:
    """Functions that the model may call, in every session of a bus.

    ::

        tools = Tools()
        bus = Bus(plugins=[tools])


        @tools.tool
        async def set_timer(minutes: float, label: str = "timer") -> str:
            '''Start a kitchen timer.'''
            return f"{label}: {minutes:g} min"

    The server is told of them when a session begins, and again when one is added or removed.
    Calls of a response run at the same time. Each is answered once, as soon as it has an output;
    when the response has ended and all of them are answered, the model is asked to go on, once:
    not while somebody speaks, nor while a later response is active or has open calls; and if a
    response begins by itself that has seen all outputs, that is the one. If that response fails,
    or is refused, the model is asked again after a pause.

    A result that is a string goes to the model as it is, anything else as JSON (None is
    ``null``). A call that cannot be done is answered too, with a JSON object that says what was
    wrong: invalid arguments, no such tool, a timeout, what the tool raised (type and text; the
    traceback goes to the log, and `events.HandlerFailed` to the handlers), an interruption.

    Calls of responses out of band are left to whoever asked for the response: see `call`. MCP
    tools are run by the server; they are only announced here.

    Args:
        hosted: Tools that the server runs, such as `events.McpTool`; announced with the others.
            (Tools given to ``bus.connect`` or ``session.update`` would replace ours.)
        timeout_s: Seconds that a call may take, where its tool says nothing else.
        max_parallel: How many calls run at once in a session. 64 more may wait; what comes on
            top of that is answered with an error.
        follow_up: Whether to ask for a response when all calls of one are answered.

    Raises:
        UsageError: An option that cannot work.
    """

    def __init__(
        self,
        *,
        hosted: Sequence[ev.Tool] = (),
        timeout_s: float = 60.0,
        max_parallel: int = 8,
        follow_up: bool = True,
    ) -> None:
        ours = [tool.name for tool in hosted if isinstance(tool, ev.FunctionTool)]
        if ours:
            raise UsageError(
                f"hosted tools are run by the server, and {ours[0]!r} is a function; "
                "use @tools.tool"
            )
        if max_parallel < 1:
            raise UsageError(f"max_parallel={max_parallel} must be at least 1")
        self._hosted = tuple(hosted)
        self._timeout_s = timeout_s
        self._max_parallel = max_parallel
        self._follow_up = follow_up
        self._tools: dict[str, Tool] = {}
        self._attached: dict[int, SessionTools] = {}

    # tools

    @overload
    def tool(self, function: _F, /) -> _F: ...

    @overload
    def tool(self, /, **options: Unpack[ToolOptions]) -> Callable[[_F], _F]: ...

    def tool(self, function: Any = None, /, **options: Unpack[ToolOptions]) -> Any:
        """Let the model call a function; a decorator, with or without options.

        The JSON Schema comes from the annotations (whatever msgspec can decode, with
        ``Annotated[int, msgspec.Meta(ge=1)]`` for constraints), the descriptions from
        ``msgspec.Meta`` and the docstring: its first paragraph and its ``Args:`` section.
        A parameter annotated `Session` is given the session, one annotated with the class of
        ``session.state``, or ``Annotated[T, Inject]``, the application's own object of the call
        (``bus.connect(..., state=...)``). Neither is shown to the model.

        Sessions that are open are told of the tool at once; call it from the event loop then.

        Args:
            function: The tool, which is returned as it is. An async one runs in a task of the
                session; a plain one in a thread.
            **options: See `ToolOptions`.

        Raises:
            UsageError: The function cannot be a tool; the message says why.
        """
        if function is not None:
            return self._add(function, options)

        def decorate(decorated: _F) -> _F:
            self._add(decorated, options)
            return decorated

        return decorate

    def _add(self, function: Callable[..., Any], options: ToolOptions) -> Callable[..., Any]:
        tool = Tool(function, options, timeout_s=self._timeout_s)
        if tool.name in self._tools:
            raise UsageError(
                f"there is a tool {tool.name!r} already; give this one another name=..."
            )
        for attached in self._attached.values():
            tool.check_state(attached.state)
        self._tools[tool.name] = tool
        self._announce()
        return function

    def remove(self, name: str) -> None:
        """Take a tool away, from open sessions too; calls that run go on.

        Raises:
            UsageError: There is no such tool; lists those there are.
        """
        if name not in self._tools:
            known = ", ".join(self._tools) or "none"
            raise UsageError(f"there is no tool {name!r} to remove; there are: {known}")
        del self._tools[name]
        self._announce()

    def _announce(self) -> None:
        for attached in self._attached.values():
            attached.announce()

    @property
    def definitions(self) -> list[ev.Tool]:
        """What the server of a session without a state is told: our functions, the hosted tools."""
        return [*(tool.to_event(None) for tool in self._tools.values()), *self._hosted]

    def statistics(self) -> list[ToolStatistics]:
        """Return the figures of each tool, over all sessions."""
        return [tool.statistics for tool in self._tools.values()]

    # sessions

    def attach(self, session: Session) -> None:
        """Take part in a session. Called by the bus.

        Raises:
            UsageError: A tool wants a state that the session does not have.
        """
        for tool in self._tools.values():
            tool.check_state(session.state)
        attached = SessionTools(
            session,
            self._tools,
            self._hosted,
            limit=self._max_parallel,
            follow_up=self._follow_up,
        )
        self._attached[id(session)] = attached
        session.on_close(lambda: self._attached.pop(id(session), None))
        attached.subscribe()

    async def call(self, item: ev.FunctionCallItem, session: Session) -> ev.FunctionCallOutputItem:
        """Run a call by hand, and return what to answer; nothing is sent.

        For calls of responses out of band: their outputs cannot enter the conversation, but may
        be the input of another response.

        Args:
            item: The call, complete.
            session: An open session of a bus that has these tools.

        Raises:
            UsageError: The session is over, or does not have these tools.
        """
        attached = self._attached.get(id(session))
        if attached is None:
            raise UsageError(
                "this session is over, or does not have these tools; "
                "give them to Bus(plugins=[...]) or to connect(plugins=[...])"
            )
        call_id = item.call_id or ""
        call = Call(response_id="", call_id=call_id, name=item.name, arguments=item.arguments)
        output = await attached.output_of(call, anyio.CancelScope())
        return ev.FunctionCallOutputItem(call_id=call_id, output=output)

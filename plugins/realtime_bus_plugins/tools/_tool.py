"""One tool: a function, what the model is told of it, how it is run, and what the model hears.

A result that is a string goes to the model as it is, anything else as JSON: None is ``null``.
What went wrong is a JSON object with one member, ``error``, whose ``message`` says it in words.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Literal, TypeAlias, TypedDict

import anyio
import anyio.to_thread
import msgspec

from realtime_bus import Session, UsageError
from realtime_bus import events as ev
from realtime_bus_plugins._tool_events import ToolOutcome

from ._arguments import Arguments, ArgumentsError, read_parameters, target_of
from ._rounds import DeclineReason
from ._schema import read_docstring

OnInterrupt: TypeAlias = Literal["deliver", "cancel"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_MESSAGE = 1000  # characters of an exception's text: the model needs no more


class ToolOptions(TypedDict, total=False):
    """Keyword options of `Tools.tool`.

    Attributes:
        name: What the model calls it; the function's name if left out.
        description: What it is for; the docstring's first paragraph if left out.
        timeout_s: Seconds that a call may take; `math.inf` is no limit.
        on_interrupt: What becomes of a running call when its response is cancelled, by speech or
            by the client. ``"deliver"`` (the default) lets it finish and gives the model its
            output; ``"cancel"`` stops it and tells the model so. In both cases the model is not
            asked to go on.
        in_thread: Whether a plain function runs in a thread, as it does by default; False runs
            it in the event loop, and it must not block there. A thread cannot be stopped: after
            a timeout or a cancellation it runs on, unheard, and takes one of the session's
            `max_parallel` threads until it ends.
        follow_up: Whether the model should go on after it; it does, too, if another call of the
            same response wants it.
    """

    name: str
    description: str
    timeout_s: float
    on_interrupt: OnInterrupt
    in_thread: bool
    follow_up: bool


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a tool, with their defaults."""

    name: str = ""
    description: str | None = None
    timeout_s: float
    on_interrupt: OnInterrupt = "deliver"
    in_thread: bool | None = None
    follow_up: bool = True


class ToolStatistics(msgspec.Struct, kw_only=True):
    """What became of one tool's calls, over all sessions.

    Attributes:
        tool: Its name.
        running: Calls that are running now.
        succeeded: Calls that returned.
        failed: Calls that raised, or returned what cannot be encoded.
        invalid: Calls whose arguments could not be used.
        timed_out: Calls that took too long.
        interrupted: Calls that were stopped because their response was cancelled.
        not_run: Calls that were answered without being run.
        slowest_s: The longest that a call took, in seconds.
        total_s: How long all of them took, in seconds.
    """

    tool: str
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    invalid: int = 0
    timed_out: int = 0
    interrupted: int = 0
    not_run: int = 0
    slowest_s: float = 0.0
    total_s: float = 0.0


class Outcome(msgspec.Struct, frozen=True):
    """How a call ended.

    Attributes:
        kind: The figure of `ToolStatistics` that counts it.
        output: What the model is told.
        error: What the tool raised.
    """

    kind: ToolOutcome
    output: str
    error: Exception | None = None


class Tool:
    """A function that the model may call.

    Raises:
        UsageError: It cannot be one; the message says why.
    """

    def __init__(
        self, function: Callable[..., Any], options: ToolOptions, *, timeout_s: float
    ) -> None:
        if unknown := options.keys() - ToolOptions.__annotations__.keys():
            known = ", ".join(ToolOptions.__annotations__)
            raise UsageError(f"a tool has no option {min(unknown)!r}; it has {known}")
        if inspect.isclass(function) or not callable(function):
            raise UsageError(f"{function!r} cannot be a tool; give a function or a method")
        given: dict[str, Any] = {"timeout_s": timeout_s, **options}
        target = target_of(function)
        self.options = _Options(**given)
        self.name: str = self.options.name or getattr(target, "__name__", "")
        self.function = function
        self.is_async = inspect.iscoroutinefunction(target)
        # a plain wrapper (functools.wraps) of an async function belongs in the event loop, too
        wraps_async = inspect.iscoroutinefunction(inspect.unwrap(target))
        self._in_thread = bool(self.options.in_thread) or (
            self.options.in_thread is None and not self.is_async and not wraps_async
        )
        for complaint in _complaints(self, target):
            raise UsageError(f"tool {self.name!r}: {complaint}")
        docs = read_docstring(inspect.getdoc(target))
        self.description = self.options.description or docs.summary
        self._described = docs.names
        self._parameters = read_parameters(function, tool=self.name)
        self._arguments: dict[type, Arguments] = {}
        self.statistics = ToolStatistics(tool=self.name)

    def check_state(self, state: object) -> None:
        """See that a session with this state can call the tool.

        Raises:
            UsageError: A parameter would get nothing; says which and what to do.
        """
        for p in self._parameters:
            if p.source == "state" and p.required and not p.takes_state(state):
                marked = not isinstance(p.annotation, type)
                wanted = "the session's state" if marked else f"a {p.annotation.__name__}"
                found = "there is none" if state is None else f"it is a {type(state).__name__}"
                hint = "" if marked else ", or annotate it with a type that msgspec can describe"
                raise UsageError(
                    f"tool {self.name!r}: parameter {p.name!r} gets {wanted} from session.state, "
                    f"and {found}; give it to connect(state=...){hint}"
                )

    def arguments(self, state: object) -> Arguments:
        """Return what the model gives in a session with this state."""
        kind = type(state)  # the state's class alone decides who fills in what
        if kind not in self._arguments:
            given = [
                p for p in self._parameters if p.source == "model" and not p.takes_state(state)
            ]
            self._arguments[kind] = Arguments(given, self._described)
        return self._arguments[kind]

    def to_event(self, state: object) -> ev.FunctionTool:
        """Return the tool as the server of a session with this state is told of it."""
        schema = self.arguments(state).schema
        return ev.FunctionTool(name=self.name, description=self.description, parameters=schema)

    async def run(self, text: str, session: Session, threads: anyio.CapacityLimiter) -> Outcome:
        """Read the arguments, call the function, and see what comes of it.

        It raises nothing, except the cancellation of whoever calls it.

        Args:
            text: The arguments, as the model wrote them.
            session: The session, which may be injected, like its state.
            threads: How many threads there may be.
        """
        state = session.state
        try:
            given = self.arguments(state).read(text)
        except ArgumentsError as error:
            message = f"the arguments of {self.name} are not valid: {error}"
            output = _error("invalid_arguments", message, problems=error.problems)
            return Outcome("invalid", output)
        for p in self._parameters:
            if p.source == "session":
                given[p.name] = session
            elif p.takes_state(state):
                given[p.name] = state
        try:
            return await self._run_in_time(functools.partial(self.function, **given), threads)
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # anybody's code: the model is told, and it is reported
            if anyio.current_effective_deadline() == -math.inf:  # a scope around us is cancelled
                raise
            return _failed(error)

    async def _run_in_time(
        self, call: Callable[[], Any], threads: anyio.CapacityLimiter
    ) -> Outcome:
        with anyio.move_on_after(self.options.timeout_s):
            if self._in_thread:
                # abandoned: a thread cannot be stopped, but nobody has to wait for it;
                # in a list: trio takes an awaitable out of a thread for a mistake
                [result] = await anyio.to_thread.run_sync(
                    lambda: [call()], abandon_on_cancel=True, limiter=threads
                )
            else:
                result = call()
            if inspect.isawaitable(result):
                result = await result
            text = result if isinstance(result, str) else msgspec.json.encode(result).decode()
            text.encode()  # half a surrogate pair cannot be sent
            return Outcome("succeeded", text)
        message = f"{self.name} took longer than {self.options.timeout_s:g} s and was stopped"
        return Outcome("timed_out", _error("timeout", message))


def _complaints(tool: Tool, target: Callable[..., Any]) -> Iterator[str]:
    options = tool.options
    if not _NAME.fullmatch(tool.name):
        yield "a name is 1 to 64 letters, digits, _ and -; give it with name=..."
    if inspect.isasyncgenfunction(target) or inspect.isgeneratorfunction(target):
        yield "it is a generator; a tool returns its result"
    if tool.is_async and options.in_thread is not None:
        yield "in_thread applies to plain functions only; this one is async"
    if options.on_interrupt not in ("deliver", "cancel"):
        yield f"on_interrupt={options.on_interrupt!r} is not 'deliver' or 'cancel'"
    if not options.timeout_s > 0:
        yield f"timeout_s={options.timeout_s!r} must be positive; math.inf is no limit"


# what a call is answered with, where it gave no result

_DECLINED: dict[DeclineReason, str] = {
    "busy": "not run: too many calls are waiting; try again later",
    "cancelled": "not run: the response was interrupted before the call began",
    "cut_off": "not run: the response ended before the arguments were complete",
}


def declined(reason: DeclineReason) -> str:
    """Say that a call was not run at all, and why."""
    return _error(reason, _DECLINED[reason])


def unknown_tool(name: str, known: Iterable[str]) -> str:
    """Say that there is no such tool, and which there are."""
    names = ", ".join(known) or "none"
    return _error("unknown_tool", f"there is no tool {name!r}; known are: {names}")


def interrupted(name: str) -> str:
    """Say that a tool was stopped because its response was cancelled."""
    return _error("interrupted", f"{name} was stopped: the response was interrupted")


def _failed(error: BaseException) -> Outcome:
    """Say what a tool raised: type and text, no traceback."""
    if not isinstance(error, Exception):  # a cancellation, or a group of them
        cause, error = error, RuntimeError("it awaited something that was cancelled")
        error.__cause__ = cause
    text = type(error).__name__
    with suppress(Exception):  # an exception's own text may fail, too
        text = f"{text}: {error}".removesuffix(": ")
    return Outcome("failed", _error("tool_failed", text[:_MAX_MESSAGE]), error)


def _error(kind: str, message: str, **more: Any) -> str:
    plain = message.encode(errors="replace").decode()  # half a surrogate pair cannot be sent
    return msgspec.json.encode({"error": {"type": kind, "message": plain, **more}}).decode()

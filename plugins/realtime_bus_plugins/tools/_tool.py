"""One tool: a function, what the model is told of it, and how it is run."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypedDict

import anyio
import anyio.to_thread
import msgspec

from realtime_bus import RegistrationError
from realtime_bus import events as ev

from ._arguments import Arguments, ArgumentsError
from ._docstring import read_docstring
from ._outputs import failed, invalid, result_text, timed_out
from ._parameters import Injected, shape_of, target_of

__all__ = ["OnInterrupt", "Outcome", "Tool", "ToolOptions", "ToolStatistics"]

OnInterrupt: TypeAlias = Literal["deliver", "cancel"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


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

    kind: Literal["succeeded", "failed", "invalid", "timed_out", "interrupted"]
    output: str
    error: Exception | None = None


class Tool:
    """A function that the model may call.

    Raises:
        RegistrationError: It cannot be one; the message says why.
    """

    def __init__(
        self, function: Callable[..., Any], options: ToolOptions, *, state: object, timeout_s: float
    ) -> None:
        given: dict[str, Any] = {"timeout_s": timeout_s, **options}
        self.options = _options(given)
        self.name: str = self.options.name or getattr(target_of(function), "__name__", "")
        self.function = function
        self.is_async = inspect.iscoroutinefunction(target_of(function))
        self._check()
        docs = read_docstring(inspect.getdoc(target_of(function)))
        self.description = self.options.description or docs.summary
        shape = shape_of(function, name=self.name, state=state)
        self.injected: dict[str, Injected] = shape.injected
        self.arguments = Arguments(shape.parameters, docs.names, name=self.name)
        self.statistics = ToolStatistics(tool=self.name)

    def _check(self) -> None:
        for complaint in _complaints(self):
            raise RegistrationError(f"tool {self.name!r}: {complaint}")

    def to_event(self) -> ev.FunctionTool:
        """Return the tool as a server is told of it."""
        return ev.FunctionTool(
            name=self.name, description=self.description, parameters=self.arguments.schema
        )

    async def run(
        self, text: str, injected: dict[Injected, object], threads: anyio.CapacityLimiter
    ) -> Outcome:
        """Read the arguments, call the function, and see what comes of it; raises nothing.

        Args:
            text: The arguments, as the model wrote them.
            injected: What the application fills in.
            threads: How many threads there may be.
        """
        try:
            arguments = self.arguments.read(text)
        except ArgumentsError as error:
            return Outcome("invalid", invalid(self.name, error))
        filled = {name: injected[source] for name, source in self.injected.items()}
        call = functools.partial(self.function, **arguments, **filled)
        try:
            return await self._within_time(call, threads)
        except Exception as error:  # noqa: BLE001 - anybody's code: the model is told, and it is reported
            return Outcome("failed", failed(error), error)

    async def _within_time(
        self, call: Callable[[], Any], threads: anyio.CapacityLimiter
    ) -> Outcome:
        timeout_s = self.options.timeout_s
        with anyio.move_on_after(timeout_s):
            return Outcome("succeeded", result_text(await self._call(call, threads)))
        return Outcome("timed_out", timed_out(self.name, timeout_s))

    async def _call(self, call: Callable[[], Any], threads: anyio.CapacityLimiter) -> Any:
        if self.is_async:
            return await call()
        if self.options.in_thread is False:
            return call()
        # abandoned: a thread cannot be stopped, but nobody has to wait for it
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=threads)


def _options(given: dict[str, Any]) -> _Options:
    unknown = given.keys() - ToolOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(ToolOptions.__annotations__)
        raise RegistrationError(f"a tool has no option {min(unknown)!r}; it has {known}")
    return _Options(**given)


def _complaints(tool: Tool) -> list[str]:
    options, target, found = tool.options, target_of(tool.function), list[str]()
    if not _NAME.fullmatch(tool.name):
        found.append("a name is 1 to 64 letters, digits, _ and -; give it with name=...")
    if inspect.isasyncgenfunction(target) or inspect.isgeneratorfunction(target):
        found.append("it is a generator; a tool returns its result")
    if tool.is_async and options.in_thread is not None:
        found.append("in_thread applies to plain functions only; this one is async")
    if options.on_interrupt not in ("deliver", "cancel"):
        found.append(f"on_interrupt={options.on_interrupt!r} is not 'deliver' or 'cancel'")
    if not options.timeout_s > 0:
        found.append(f"timeout_s={options.timeout_s!r} must be positive; math.inf is no limit")
    return found

"""A call in memory: the agent under test, a server with a scripted model, and a person.

::

    async with place_call(bus, ["Hello.", tool_call("look_up", dish="pasta"), "Nine."]) as call:
        await call.person.says("How long does the pasta take?")
        assert await call.person.hears() == "Nine."

The rules
---------
1. The agent is the application's own bus, with its own handlers and plugins. What plays its audio
   is the bus's sink, if one of its plugins is one; else the call has a sink and an `Interruption`.
2. Everything happens in the time of the event loop, which a test makes virtual.
3. A call that went well has broken no rule of the protocol, was refused nothing by the server, has
   no handler that raised, and asked the model for no answer that is not in its script. The end of
   the block checks that, unless the block raised.
4. A call that hangs is ended after ``limit_s``, and says where the test waits.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
from anyio import get_cancelled_exc_class
from anyio.abc import TaskGroup

from realtime_bus.audio import AudioSink
from realtime_bus.bus import Bus
from realtime_bus.errors import UsageError
from realtime_bus.server import FaultPlan, Playback, Responder, ServerOptions
from realtime_bus.server.faults import AnyFault
from realtime_bus.session import Plugin, Session

from ._call import Call
from ._golden import GoldenFile
from ._line import Line
from ._model import Answer
from ._program import Program
from ._voices import Voices

_URL = "ws://in.memory/v1/realtime?model=scripted"


def place_call(  # noqa: PLR0913  # all by name; most tests give two
    bus: Bus,
    answers: Sequence[Answer] | Responder | Playback = (),
    *,
    voices: Voices = "instant",
    latency_s: float = 0.3,
    faults: Iterable[AnyFault] | FaultPlan = (),
    options: ServerOptions | None = None,
    sink: AudioSink | None = None,
    plugins: Iterable[Plugin] = (),
    tolerate: Collection[str] = (),
    limit_s: float = 600.0,
    golden: GoldenFile | None = None,
    update_golden: bool = False,
    main: Callable[[], Awaitable[object]] | None = None,
    watch: Callable[[Call], object] | None = None,
    **connect: Any,
) -> PlacedCall:
    """Call an agent: connect its bus to a server in memory, and put a person on the line.

    Args:
        bus: The agent.
        answers: What the model answers, in order; or another responder of the server; or a
            recording, of which the server says what it said then.
        voices: ``"instant"``: words hum, and loudness is speech. ``"real"``: both speak with
            eSpeak's voice, and silero listens; it needs the extra ``server``.
        latency_s: How long the model thinks before each answer.
        faults: What goes wrong; see `realtime_bus.server.faults`.
        options: The server's.
        sink: What plays the agent's audio, if it is not one of the bus's plugins.
        plugins: Attached to this session alone.
        tolerate: What may go wrong; see `Call.assert_fine`.
        limit_s: The longest that the call may take.
        golden: A recording of the same call, which is to come out as it did then; see
            `Call.assert_same_as`.
        update_golden: Write that recording, in place of reading it.
        main: The application's own program: it is run, and its first `Bus.connect` is the call.
        watch: Called with the call when it is connected.
        **connect: For `Bus.connect`: ``state``, ``reconnect``, the session's settings.

    Returns:
        A context manager: ``async with place_call(...) as call``. Its end raises `AssertionError`
        if something went wrong, or the call did not end in time.
    """
    line = Line(bus, answers, voices=voices, latency_s=latency_s, faults=faults, options=options)
    if golden is not None and not update_golden and not Path(golden).is_file():
        raise UsageError(f"there is no recording {golden}; pytest --update-golden makes it")
    context: AbstractAsyncContextManager[Session[Any]]
    if main is None:
        attached = line.plugins(sink, plugins, records=update_golden)
        context = bus.connect(_URL, dial=line.dial, plugins=attached, **connect)
    elif connect:
        raise UsageError(f"{', '.join(connect)}: the program says that itself, to bus.connect")
    else:
        take = partial(line.plugins, sink, records=update_golden)
        context = Program(bus, main, line, lambda theirs: take([*plugins, *theirs]))
    return PlacedCall(line, context, golden=golden, tolerate=tolerate, limit_s=limit_s, watch=watch)


class PlacedCall:
    """An async context manager that opens a call, ends it, and judges it; see `place_call`."""

    def __init__(
        self,
        line: Line,
        context: AbstractAsyncContextManager[Session[Any]],
        *,
        golden: GoldenFile | None,
        tolerate: Collection[str],
        limit_s: float,
        watch: Callable[[Call], object] | None,
    ) -> None:
        self._line = line
        self._context = context
        self._golden = golden
        self._tolerate = tolerate
        self._limit_s = limit_s
        self._watch = watch
        self._entered = False
        self._call: Call | None = None
        self._tasks: TaskGroup = anyio.create_task_group()
        self._limit = anyio.CancelScope()

    async def __aenter__(self) -> Call:
        __tracebackhide__ = True
        if self._entered:
            raise UsageError("this call has been placed; place another one with place_call()")
        self._entered = True
        await self._tasks.__aenter__()
        try:
            self._line.open(self._tasks)
            self._call = self._line.answered(await self._context.__aenter__())
        except BaseException as error:
            self._line.close()
            await self._hang_up(error)
            raise
        self._limit.deadline = anyio.current_time() + self._limit_s
        self._limit.__enter__()
        if self._watch is not None:
            self._watch(self._call)
        return self._call

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        __tracebackhide__ = True
        call = self._call
        assert call is not None  # noqa: S101  # for type checkers: it was entered
        failure: BaseException | None = None
        waits = _where(error) if isinstance(error, get_cancelled_exc_class()) else ""
        self._limit.__exit__(kind, error, trace)
        if self._limit.cancelled_caught:
            kind = error = trace = None
            failure = self._line.story.error(
                f"the call did not end within {self._limit_s:g} s{waits}"
            )
        try:
            if await self._context.__aexit__(kind, error, trace):
                error = None
            if error is None and failure is None:
                call.assert_fine(tolerate=self._tolerate)
                if self._golden is not None and not self._line.keep(self._golden):
                    call.assert_same_as(self._golden)
        except BaseException as raised:  # noqa: BLE001  # it would come out in a group
            failure = raised
        finally:
            self._line.close()
        swallowed = await self._hang_up(failure or error)
        if failure is not None and not isinstance(failure, get_cancelled_exc_class()):
            raise failure from failure.__cause__
        return swallowed and error is not None

    async def _hang_up(self, error: BaseException | None) -> bool:
        """End all tasks; the task group alone knows whether a cancellation was its own.

        What else was raised is kept from it: it would come out in a group.
        """
        self._tasks.cancel_scope.cancel()
        if isinstance(error, get_cancelled_exc_class()):
            return bool(await self._tasks.__aexit__(type(error), error, error.__traceback__))
        await self._tasks.__aexit__(None, None, None)
        return False


def _where(error: BaseException) -> str:
    """Say where a test waits, from what it was cancelled with."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"; it waits in line {frames[0].lineno}: {frames[0].line}" if frames else ""

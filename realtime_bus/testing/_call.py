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

import shutil
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import anyio
from anyio import get_cancelled_exc_class
from anyio.abc import TaskGroup, TaskStatus

from realtime_bus.audio import AudioSink
from realtime_bus.bus import Bus
from realtime_bus.errors import UsageError
from realtime_bus.server import (
    FaultPlan,
    RealtimeServer,
    Responder,
    ServerOptions,
    ServerSession,
    Transcriber,
    Voice,
)
from realtime_bus.server.faults import AnyFault, HalfOpen
from realtime_bus.session import Plugin, Session, SessionContext
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.protocol_check import ProtocolCheck
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import NullSink

from ._ear import Ear, Utterance
from ._golden import GoldenFile, Outcome, as_lines
from ._model import Answer, ScriptedModel
from ._person import Person
from ._story import Story, ToolUse, shown
from ._voices import DETECTORS, Voices

if TYPE_CHECKING:
    from realtime_bus import events as ev
    from realtime_bus.transport import MemoryTransport

_URL = "ws://in.memory/v1/realtime?model=scripted"
_PATIENCE_S = 20.0  # after which a keepalive would have found a connection to be half open
_SETTLE_TICK_S = 0.05


class CutOff:
    """An utterance that the person cut off.

    Attributes:
        utterance: Which.
        after_s: From the person's first sound to the silence of the assistant.
    """

    def __init__(self, utterance: Utterance, after_s: float) -> None:
        self.utterance = utterance
        self.after_s = after_s

    def __repr__(self) -> str:
        return f"<CutOff into {self.utterance.text!r} after_s={self.after_s:.3f}>"


class Call:
    """A call under test; see `place_call`.

    Attributes:
        session: The agent's session.
        person: Who talks to it.
        model: What answers, if it is scripted.
    """

    def __init__(
        self,
        session: Session[Any],
        person: Person,
        ear: Ear,
        story: Story,
        *,
        model: ScriptedModel | None,
        server: RealtimeServer,
    ) -> None:
        self.session: Session[Any] = session
        self.person: Person = person
        self.model: ScriptedModel | None = model
        self._ear = ear
        self._story = story
        self._server = server

    # --- what happened -----------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """How long the call has taken so far."""
        return self._story.now_s()

    @property
    def server(self) -> ServerSession:
        """The server's side of it: send any event, drop, stall, fail; `ServerSession.inject`.

        Raises:
            UsageError: There is no connection.
        """
        if not self._server.sessions:
            raise UsageError("the server has no session: there is no connection at the moment")
        return self._server.sessions[-1]

    @property
    def heard(self) -> list[str]:
        """What the person heard, utterance by utterance, cut where it was cut; in whole words."""
        return [self._ear.words_of(utterance) for utterance in self.utterances]

    @property
    def utterances(self) -> list[Utterance]:
        """The same, with times, lengths and all the words."""
        return self._ear.heard

    @property
    def tool_calls(self) -> list[ToolUse]:
        """The functions that the model called, in order."""
        return list(self._story.tool_uses)

    @property
    def sent(self) -> list[ev.ClientEvent]:
        """What the agent sent, in order; without the person's audio."""
        return list(self._story.sent)

    @property
    def barge_ins(self) -> list[CutOff]:
        """The utterances that the person cut off, and how long each went on meanwhile."""
        found: list[CutOff] = []
        for utterance in self.utterances:
            ended_s = utterance.ended_s
            if utterance.cut and ended_s is not None:
                spoke = [said.began_s for said in self.person.said if said.began_s <= ended_s]
                if spoke and self._was_speaking(ended_s):
                    found.append(CutOff(utterance, ended_s - spoke[-1]))
        return found

    def _was_speaking(self, at_s: float) -> bool:
        last = [said for said in self.person.said if said.began_s <= at_s][-1]
        return last.ended_s is None or last.ended_s + 1.0 >= at_s  # a short word is over by then

    @property
    def answer_times_s(self) -> list[float]:
        """From each last word of the person to the first sound of what the assistant said next."""
        found: list[float] = []
        said = self.person.said
        for each, following in zip(said, [*said[1:], None], strict=True):
            if each.ended_s is None:
                continue
            until_s = float("inf") if following is None else following.began_s
            heard = [u.began_s for u in self.utterances if u.began_s is not None]
            found += [at_s - each.ended_s for at_s in heard if each.ended_s <= at_s < until_s][:1]
        return found

    @property
    def story(self) -> str:
        """What happened, as a time line."""
        return self._story.render()

    # --- waiting -----------------------------------------------------------------------------

    async def settles(self, *, quiet_s: float = 1.0, within_s: float = 60.0) -> None:
        """Wait until nothing goes on any more.

        That is: the person is silent, nothing plays, no response is active, every function call is
        answered, for a while.

        Args:
            quiet_s: How long it must have been so.
            within_s: How long to wait for it.
        """
        began_s = since_s = self.now_s
        while self.now_s - since_s < quiet_s and self.session.close_info is None:
            await anyio.sleep(_SETTLE_TICK_S)
            if going_on := self._going_on():
                since_s = self.now_s
                if since_s - began_s > within_s:
                    self.fail(f"the call did not come to rest within {within_s:g} s: {going_on}")

    def _going_on(self) -> str:
        """Say what keeps the call from being at rest."""
        said = self.person.said
        if said and said[-1].ended_s is None:
            return "the person speaks"
        if self._ear.busy:
            return "the assistant speaks"
        if self.session.active_response_id is not None:
            return "a response is active"
        unanswered = [use for use in self.tool_calls if use.answered_s is None]
        return f"{unanswered[0]} is not answered" if unanswered else ""

    # --- judging -----------------------------------------------------------------------------

    def fail(self, message: str) -> NoReturn:
        """Fail the test, and show what happened in the call.

        Raises:
            AssertionError: Always.
        """
        __tracebackhide__ = True
        raise self._story.error(message)

    def assert_heard(self, *texts: str) -> None:
        """Check that the person heard these texts, in this order; there may be more between.

        Case and punctuation count for nothing.

        Raises:
            AssertionError: One was not heard, or not there.
        """
        __tracebackhide__ = True
        self._in_order([(_plain(each), each) for each in self.heard], texts, "was not heard")

    def assert_called(self, name: str, /, **arguments: Any) -> ToolUse:
        """Check that the model called a function with these arguments, and no other.

        Returns:
            The call; the last, if there are several.

        Raises:
            AssertionError: It did not.
        """
        __tracebackhide__ = True
        same = [use for use in self.tool_calls if (use.name, use.arguments) == (name, arguments)]
        if not same:
            called = ", ".join(map(repr, self.tool_calls)) or "nothing"
            self.fail(f"{name}({shown(arguments)}) was not called; called was: {called}")
        return same[-1]

    def assert_not_called(self, name: str) -> None:
        """Check that the model did not call a function.

        Raises:
            AssertionError: It did.
        """
        __tracebackhide__ = True
        if found := [use for use in self.tool_calls if use.name == name]:
            self.fail(f"{found[0]} was called")

    def assert_order(self, *happenings: str) -> None:
        """Check that these pieces of text are in lines of `story`, in this order.

        Such as ``"person “How long"``, ``"calls look_up"``, ``"assistant “Nine"``.

        Raises:
            AssertionError: One is missing, or not there.
        """
        __tracebackhide__ = True
        lines = [(_plain(line), line) for line in self.story.splitlines()]
        self._in_order(lines, happenings, "did not happen")

    def _in_order(
        self, found: list[tuple[str, str]], wanted: Iterable[str], complaint: str
    ) -> None:
        __tracebackhide__ = True
        at, before = 0, ""
        for each in wanted:
            hits = [i for i, (text, _) in enumerate(found[at:], at) if _plain(each) in text]
            if not hits:
                anywhere = any(_plain(each) in text for text, _ in found)
                order = f" after {before!r}, but before" if anywhere else ""
                self.fail(f"{each!r} {complaint}{order}")
            at, before = hits[0] + 1, each

    def assert_within(
        self,
        *,
        answer_s: float | None = None,
        silence_s: float | None = None,
        tool_s: float | None = None,
    ) -> None:
        """Check that the agent was fast enough, each time.

        Args:
            answer_s: From the person's last word to the assistant's first sound.
            silence_s: From the person's first sound over the assistant to its silence.
            tool_s: From a function call to its output.

        Raises:
            AssertionError: It took longer, or there was nothing to measure.
        """
        __tracebackhide__ = True
        tools = [
            use.answered_s - use.called_s for use in self.tool_calls if use.answered_s is not None
        ]
        for what, limit_s, times in (
            ("an answer", answer_s, self.answer_times_s),
            ("silence after the person had begun to speak", silence_s, self._silences_s()),
            ("a function's output", tool_s, tools),
        ):
            if limit_s is None:
                continue
            if not times:
                self.fail(f"there was no {what.removeprefix('an ').removeprefix('a ')} to measure")
            if max(times) > limit_s:
                self.fail(f"{what} took {max(times):.3f} s, more than {limit_s:g} s")

    def _silences_s(self) -> list[float]:
        return [barge_in.after_s for barge_in in self.barge_ins]

    def assert_same_as(
        self,
        golden: GoldenFile,
        *,
        within_ms: int = 50,
        ignore_outputs: Collection[str] = (),
    ) -> None:
        """Check that the same came of it as of a recorded call.

        That is: the same tool calls, the same words heard, each interruption at the same place.

        Args:
            golden: The recording.
            within_ms: How far apart interruptions may be.
            ignore_outputs: Functions whose output does not matter.

        Raises:
            AssertionError: Something else did; says what.
            RecordingError: It is no recording.
        """
        __tracebackhide__ = True
        now = Outcome.of_call(self._ear, self.tool_calls)
        then = Outcome.of_recording(golden)
        found = then.differences(now, within_ms=within_ms, ignore_outputs=ignore_outputs)
        if lines := as_lines(found):
            self.fail(f"the call did not come out as in {Path(golden).name}:\n{lines}")

    def assert_fine(self, *, tolerate: Collection[str] = ()) -> None:
        """Check that nothing went wrong; see the rules of `place_call`.

        Args:
            tolerate: What may: ids of rules, codes and types of the server's errors, names of
                handlers, ``"handler_failed"``, ``"unscripted"``.

        Raises:
            AssertionError: Something did.
        """
        __tracebackhide__ = True
        found = [what for names, what in self._story.problems if not names & set(tolerate)]
        if self.model is not None and self.model.unscripted and "unscripted" not in tolerate:
            asked, scripted = len(self.model.asked), len(self.model.asked) - self.model.unscripted
            found.append(f"the model was asked for {asked} answers, and its script has {scripted}")
        if found:
            self.fail("the call did not go well:\n- " + "\n- ".join(found))


def _plain(text: str) -> str:
    """Return a text without what does not count: case, punctuation, runs of spaces."""
    kept = "".join(c if c.isalnum() or c in "_.-" else " " for c in text.lower())
    return " ".join(word.strip(".-") for word in kept.split())


def place_call(  # noqa: PLR0913  # all by name; most tests give two
    bus: Bus,
    answers: Sequence[Answer] | Responder = (),
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
    watch: Callable[[Call], object] | None = None,
    **connect: Any,
) -> PlacedCall:
    """Call an agent: connect its bus to a server in memory, and put a person on the line.

    Args:
        bus: The agent.
        answers: What the model answers, in order; or another responder of the server.
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
        watch: Called with the call when it is connected.
        **connect: For `Bus.connect`: ``state``, ``reconnect``, the session's settings.

    Returns:
        A context manager: ``async with place_call(...) as call``. Its end raises `AssertionError`
        if something went wrong, or the call did not end in time.
    """
    line = _Line(bus, answers, voices=voices, latency_s=latency_s, faults=faults, options=options)
    if golden is not None and not update_golden and not Path(golden).is_file():
        raise UsageError(f"there is no recording {golden}; pytest --update-golden makes it")
    context = line.context(sink, list(plugins), connect, records=update_golden)
    return PlacedCall(line, context, golden=golden, tolerate=tolerate, limit_s=limit_s, watch=watch)


class PlacedCall:
    """An async context manager that opens a call, ends it, and judges it; see `place_call`."""

    def __init__(
        self,
        line: _Line,
        context: SessionContext[Any],
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


class _Line:
    """Server, connections and parts of one call."""

    def __init__(
        self,
        bus: Bus,
        answers: Sequence[Answer] | Responder,
        *,
        voices: Voices,
        latency_s: float,
        faults: Iterable[AnyFault] | FaultPlan,
        options: ServerOptions | None,
    ) -> None:
        self._bus = bus
        self._voices: Voices = voices
        self._dialled = 0
        self._folder: TemporaryDirectory[str] | None = None
        self._tasks: TaskGroup
        self.story: Story = Story(self._now_s)
        self._person: Person | None = None
        self._model: ScriptedModel | None = None
        responder: Any = answers
        if not isinstance(answers, Responder):
            responder = self._model = ScriptedModel(
                answers, voices=voices, latency_s=latency_s, transcribe=self.transcript
            )
        self._server = RealtimeServer(
            responder,
            options=options,
            detector_factory=DETECTORS[voices],
            transcriber=responder if isinstance(responder, Transcriber) else self,
            faults=faults if isinstance(faults, FaultPlan) else FaultPlan(tuple(faults)),
        )

    def transcript(self, turn_index: int, audio: bytes) -> str | None:
        """Write down what the person said."""
        return None if self._person is None else self._person.transcript(turn_index, audio)

    def context(
        self,
        sink: AudioSink | None,
        plugins: list[Plugin],
        connect: dict[str, Any],
        *,
        records: bool,
    ) -> SessionContext[Any]:
        """Return what opens the session, with a sink if it has none, and what watches it."""
        theirs = [*self._bus.plugins, *plugins]
        found = sink or next((each for each in theirs if isinstance(each, AudioSink)), None)
        ours: list[Any] = []
        if found is None:
            found = NullSink()
            ours = [found, Interruption(found)]
        self._sink = found
        if records:
            self._folder = TemporaryDirectory(prefix="golden-")
            folder = self._folder.name
            ours.append(Recorder(folder, sink=found, audio=False, max_file_bytes=None))
        plugins = [*plugins, *ours, ProtocolCheck(), self.story]
        return self._bus.connect(_URL, dial=self._dial, plugins=plugins, **connect)

    def open(self, tasks: TaskGroup) -> None:
        """Begin; what runs, runs in this task group."""
        self._tasks, self._began_s = tasks, anyio.current_time()

    def keep(self, golden: GoldenFile) -> bool:
        """Make a recording of the call the golden one, if it was recorded."""
        if self._folder is None:
            return False
        [recorded] = Path(self._folder.name).iterdir()
        Path(golden).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(recorded, golden)
        return True

    def close(self) -> None:
        """Leave no file behind."""
        if self._folder is not None:
            self._folder.cleanup()

    def _now_s(self) -> float:
        return anyio.current_time() - self._began_s

    def answered(self, session: Session[Any]) -> Call:
        """Put the person on the line."""
        ear = Ear(session, self._sink, clock=self._now_s, model=self._model)
        voice = Voice("en-us", rate_wpm=180, pitch=65)
        person = Person(session, ear, self.story, voices=self._voices, voice=voice)
        self._person = person
        self.story.sources += [person.notes, ear.notes]
        self._tasks.start_soon(person.run)
        self._tasks.start_soon(ear.run)
        return Call(session, person, ear, self.story, model=self._model, server=self._server)

    async def _dial(self, _url: str, **_options: Any) -> MemoryTransport:
        transport: MemoryTransport = await self._tasks.start(self._connection)
        return transport

    async def _connection(self, *, task_status: TaskStatus[MemoryTransport]) -> None:
        """Keep a connection, and cut it where a keepalive would."""
        self._dialled += 1
        number = self._dialled
        async with self._server.connect_memory() as transport:
            task_status.started(transport)
            while not self._is_dead(number):  # noqa: ASYNC110  # nobody tells
                await anyio.sleep(_PATIENCE_S)
            transport.sever(TimeoutError("no pong"))
            await anyio.sleep_forever()

    def _is_dead(self, number: int) -> bool:
        return any(
            isinstance(fired.fault, HalfOpen)
            and fired.fault.for_s is None
            and fired.connection == number
            for fired in self._server.faults_fired
        )

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
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
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
    faults,
)
from realtime_bus.session import Plugin, Session
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.protocol_check import ProtocolCheck
from realtime_bus_plugins.sinks import NullSink

from ._ear import Ear, Utterance
from ._model import Answer, ScriptedModel
from ._person import Person
from ._story import Note, Story, ToolUse, shown
from ._voices import DETECTORS, Voices, heard_words

if TYPE_CHECKING:
    from realtime_bus import events as ev
    from realtime_bus.transport import MemoryTransport

_URL = "ws://in.memory/v1/realtime?model=scripted"
_PATIENCE_S = 20.0  # after which a keepalive would have found a connection to be half open
_SETTLE_TICK_S = 0.05


class BargeIn:
    """An utterance that the person cut off.

    Attributes:
        utterance: Which.
        after_s: From the person's first sound to the silence of the assistant.
    """

    def __init__(self, utterance: Utterance, after_s: float) -> None:
        self.utterance = utterance
        self.after_s = after_s

    def __repr__(self) -> str:
        return f"<BargeIn into {self.utterance.text!r} after_s={self.after_s:.3f}>"


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
        sink: AudioSink,
        server: RealtimeServer,
        clock: Callable[[], float],
    ) -> None:
        self.session: Session[Any] = session
        self.person: Person = person
        self.model: ScriptedModel | None = model
        self._ear = ear
        self._story = story
        self._sink = sink
        self._server = server
        self._now_s = clock

    # --- what happened -----------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """How long the call has taken so far."""
        return self._now_s()

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
        return [self.words_of(utterance) for utterance in self.utterances]

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
    def barge_ins(self) -> list[BargeIn]:
        """The utterances that the person cut off, and how long each went on meanwhile."""
        found: list[BargeIn] = []
        for utterance in self.utterances:
            ended_s = utterance.ended_s
            if utterance.cut and ended_s is not None:
                spoke = [said.began_s for said in self.person.said if said.began_s <= ended_s]
                if spoke and self._was_speaking(ended_s):
                    found.append(BargeIn(utterance, ended_s - spoke[-1]))
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
        notes = [Note(said.began_s, "person", f"“{said.text}”") for said in self.person.said]
        for utterance in self.utterances:
            notes.append(Note(utterance.began_s or 0.0, "assistant", self._told(utterance)))
        return self._story.render(notes)

    def _told(self, utterance: Utterance) -> str:
        words = self.words_of(utterance)
        if utterance.ended_s is None:
            return f"“{utterance.text}” (not over yet)"
        if not utterance.cut:
            return f"“{words}”"
        rest = utterance.text.strip().removeprefix(words).strip()
        unheard = f"; not heard: “{rest}”" if rest else ""
        return f"“{words}” cut after {utterance.heard_ms} ms{unheard}"

    def words_of(self, utterance: Utterance) -> str:
        """Return what was heard of an utterance so far, in whole words."""
        if utterance.ended_s is not None and not utterance.cut:
            return utterance.text.strip()
        heard_ms: float = utterance.heard_ms
        if utterance.ended_s is None:
            parts = self._sink.positions()
            played = [part.played_ms for part in parts if part.item_id == utterance.item_id]
            heard_ms = sum(played)
        found = self.model.heard_of(utterance.text, heard_ms) if self.model is not None else None
        if found is None:
            found = heard_words([(utterance.text, utterance.received_ms or 1.0)], heard_ms)
        return found

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

    def error(self, message: str) -> AssertionError:
        """Return an error that shows what happened in the call."""
        return AssertionError(f"{message}\n\n{STORY_TITLE}\n{self.story}")

    def fail(self, message: str) -> NoReturn:
        """Fail the test, and show what happened in the call.

        Raises:
            AssertionError: Always.
        """
        __tracebackhide__ = True
        raise self.error(message)

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


STORY_TITLE = "What happened in the call:"


def _plain(text: str) -> str:
    """Return a text without what does not count: case, punctuation, runs of spaces."""
    kept = "".join(c if c.isalnum() or c in "_.-" else " " for c in text.lower())
    return " ".join(word.strip(".-") for word in kept.split())


@asynccontextmanager
async def place_call(  # noqa: PLR0913  # all by name; most tests give two
    bus: Bus,
    answers: Sequence[Answer] | Responder = (),
    *,
    voices: Voices = "instant",
    latency_s: float = 0.3,
    faults: Iterable[faults.AnyFault] | FaultPlan = (),  # noqa: A002  # as the server calls them
    options: ServerOptions | None = None,
    sink: AudioSink | None = None,
    plugins: Iterable[Plugin] = (),
    tolerate: Collection[str] = (),
    limit_s: float = 600.0,
    **connect: Any,
) -> AsyncGenerator[Call, None]:
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
        **connect: For `Bus.connect`: ``state``, ``reconnect``, the session's settings.

    Yields:
        The call, connected.

    Raises:
        AssertionError: Something went wrong, or the call did not end in time.
    """
    line = _Line(bus, answers, voices=voices, latency_s=latency_s, faults=faults, options=options)
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            async with line.connect(tasks, sink, plugins, connect) as call:
                waits = ""
                with anyio.move_on_after(limit_s) as limit:
                    try:
                        yield call
                    except get_cancelled_exc_class() as error:
                        waits = _where(error)
                        raise
                if limit.cancelled_caught:
                    call.fail(f"the call did not end within {limit_s:g} s{waits}")
            call.assert_fine(tolerate=tolerate)
        except get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001  # it would come out in a group
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _where(error: BaseException) -> str:
    """Say where a test waits, from what it was cancelled with."""
    here = __file__.rsplit("/", 1)[0]
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith(here) and "contextlib" not in f.filename]
    if not theirs:
        return ""
    return f"; the test waits in line {theirs[0].lineno}: {theirs[0].line}"


class _Line:
    """Server, connections and parts of one call."""

    def __init__(
        self,
        bus: Bus,
        answers: Sequence[Answer] | Responder,
        *,
        voices: Voices,
        latency_s: float,
        faults: Iterable[faults.AnyFault] | FaultPlan,
        options: ServerOptions | None,
    ) -> None:
        self._bus = bus
        self._voices: Voices = voices
        self._people: list[Person] = []
        self._dialled = 0
        self._model: ScriptedModel | None = None
        responder: Any = answers
        if not isinstance(answers, Responder):
            responder = self._model = ScriptedModel(
                answers, voices=voices, latency_s=latency_s, transcribe=self._transcribe
            )
        self._server = RealtimeServer(
            responder,
            options=options,
            detector_factory=DETECTORS[voices],
            transcriber=responder if isinstance(responder, Transcriber) else self,
            faults=faults if isinstance(faults, FaultPlan) else FaultPlan(tuple(faults)),
        )

    def _transcribe(self, turn_index: int, audio: bytes) -> str | None:
        return self._people[0].transcript(turn_index, audio) if self._people else None

    transcript = _transcribe

    @asynccontextmanager
    async def connect(
        self,
        tasks: TaskGroup,
        sink: AudioSink | None,
        plugins: Iterable[Plugin],
        connect: dict[str, Any],
    ) -> AsyncGenerator[Call, None]:
        """Open the session, and put the person on the line."""
        began_s = anyio.current_time()

        def now_s() -> float:
            return anyio.current_time() - began_s

        theirs = [*self._bus._registry.plugins, *plugins]  # noqa: SLF001  # of our own package
        sink = sink or next((each for each in theirs if isinstance(each, AudioSink)), None)
        ours: list[Any] = []
        if sink is None:
            sink = NullSink()
            ours = [sink, Interruption(sink)]
        story = Story(now_s)
        ours += [ProtocolCheck(), story]

        async def dial(_url: str, **_options: Any) -> MemoryTransport:
            transport: MemoryTransport = await tasks.start(self._connection)
            return transport

        context = self._bus.connect(_URL, dial=dial, plugins=[*plugins, *ours], **connect)
        async with context as session:
            ear = Ear(session, sink, now_s)
            calls: list[Call] = []
            person = Person(
                session,
                ear,
                voices=self._voices,
                voice=Voice("en-us", rate_wpm=180, pitch=65),
                clock=now_s,
                fail=lambda message: calls[0].error(message),
                note=story.note,
                words_of=lambda utterance: calls[0].words_of(utterance),
            )
            self._people.append(person)
            calls.append(
                Call(
                    session,
                    person,
                    ear,
                    story,
                    model=self._model,
                    sink=sink,
                    server=self._server,
                    clock=now_s,
                )
            )
            tasks.start_soon(person.run)
            tasks.start_soon(ear.run)
            yield calls[0]

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
            isinstance(fired.fault, faults.HalfOpen)
            and fired.fault.for_s is None
            and fired.connection == number
            for fired in self._server.faults_fired
        )

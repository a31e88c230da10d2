"""The line of a call: its server, its connections, who is on it and what watches it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from realtime_bus.audio import AudioSink
from realtime_bus.bus import Bus
from realtime_bus.errors import UsageError
from realtime_bus.server import (
    FaultPlan,
    Playback,
    RealtimeServer,
    Responder,
    ServerOptions,
    Transcriber,
    Voice,
)
from realtime_bus.server.faults import AnyFault, HalfOpen
from realtime_bus.session import Plugin, Session
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.protocol_check import ProtocolCheck
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import NullSink

from ._call import Call
from ._ear import Ear
from ._golden import GoldenFile
from ._model import Answer, ScriptedModel
from ._person import Person
from ._story import Note, Story
from ._voices import DETECTORS, Voices

if TYPE_CHECKING:
    from realtime_bus.transport import MemoryTransport

_PATIENCE_S = 20.0  # after which a keepalive would have found a connection to be half open


_DEVICES: Final = frozenset(
    f"realtime_bus_plugins.{name}"
    for name in ("devices.Microphone", "devices.Speaker", "echo_cancellation.EchoCancellation")
)


def _refuse_devices(plugins: Iterable[Plugin]) -> None:
    """Complain of a bus that listens to a room, or plays into one.

    Raises:
        UsageError: It does.
    """
    for plugin in plugins:
        kinds = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(plugin).__mro__}
        if kinds & _DEVICES:
            raise UsageError(
                f"{type(plugin).__name__} is a device, and a call under test has a person and a "
                "sink: leave devices to connect(plugins=[...]), or have a function make the bus"
            )


class Line:
    """Server, connections and parts of one call.

    Attributes:
        story: What happens.
        tasks: What everything runs in.
    """

    def __init__(
        self,
        bus: Bus,
        answers: Sequence[Answer] | Responder | Playback,
        *,
        voices: Voices,
        latency_s: float,
        faults: Iterable[AnyFault] | FaultPlan,
        options: ServerOptions | None,
    ) -> None:
        self._bus = bus
        self._voices: Voices = voices
        self._dialled_s: list[float] = []  # when, by the call's clock
        self._folder: TemporaryDirectory[str] | None = None
        self.tasks: TaskGroup
        self.story: Story = Story(self._now_s)
        self._person: Person | None = None
        self._model: ScriptedModel | None = None
        playback = answers if isinstance(answers, Playback) else None
        responder: Any = None if playback is not None else answers
        if not isinstance(answers, Responder | Playback):
            responder = self._model = ScriptedModel(
                answers, voices=voices, latency_s=latency_s, transcribe=self.transcript
            )
        self._server = RealtimeServer(
            responder,
            options=options,
            playback=playback,
            detector_factory=DETECTORS[voices],
            transcriber=responder if isinstance(responder, Transcriber) else self,
            faults=faults if isinstance(faults, FaultPlan) else FaultPlan(tuple(faults)),
        )

    def transcript(self, turn_index: int, audio: bytes) -> str | None:
        """Write down what the person said."""
        return None if self._person is None else self._person.transcript(turn_index, audio)

    def plugins(
        self, sink: AudioSink | None, theirs: Iterable[Plugin], *, records: bool
    ) -> list[Plugin]:
        """Return a session's plugins, with a sink if it has none, and what watches it."""
        given = list(theirs)
        _refuse_devices([*self._bus.plugins, *given])
        sinks = (each for each in (*self._bus.plugins, *given) if isinstance(each, AudioSink))
        found = sink or next(sinks, None)
        ours: list[Any] = []
        if found is None:
            found = NullSink()
            ours = [found, Interruption(found)]
        self._sink = found
        if records:
            self._folder = TemporaryDirectory(prefix="golden-")
            folder = self._folder.name
            ours.append(Recorder(folder, sink=found, audio=False, max_file_bytes=None))
        return [*given, *ours, ProtocolCheck(), self.story]

    def open(self, tasks: TaskGroup) -> None:
        """Begin; what runs, runs in this task group."""
        self.tasks, self._began_s = tasks, anyio.current_time()

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
        self.story.sources += [person.notes, ear.notes, self._notes]
        self.tasks.start_soon(person.run)
        self.tasks.start_soon(ear.run)
        return Call(session, person, ear, self.story, model=self._model, server=self._server)

    def _notes(self) -> Iterator[Note]:
        """Yield what explains that nothing comes: faults, and a script at its end."""
        for fired in self._server.faults_fired:
            what = f"{fired.kind} at {fired.event}" if fired.event else fired.kind
            yield Note(self._dialled_s[fired.connection - 1] + fired.at_s, "fault", what)
        for at_s in () if self._model is None else self._model.unscripted_s:
            what = "is asked once more than its script has answers"
            yield Note(at_s - self._began_s, "model", what)

    async def dial(self, _url: str, **_options: Any) -> MemoryTransport:
        """Open a connection; what `Bus.connect` takes for ``dial``."""
        transport: MemoryTransport = await self.tasks.start(self._connection)
        return transport

    async def _connection(self, *, task_status: TaskStatus[MemoryTransport]) -> None:
        """Keep a connection, and cut it where a keepalive would."""
        self._dialled_s.append(self._now_s())
        number = len(self._dialled_s)
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

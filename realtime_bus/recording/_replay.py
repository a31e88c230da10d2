"""A recorded session once more, through the handlers of today.

Rules:

1. The server's part is played by the recording (`ReplayTransport`), the application's by the bus
   that is given: its handlers and plugins run as they do in a call. Audio of the microphone and the
   settings of `Bus.connect` are left to the recording, and so is what the caller names; a ``main``
   does what the application's main program did.
2. What the bus sends, what the application emits and which handlers fail is compared with what the
   recording has (`Comparison`).
3. Nothing is opened: a bus that plays or records with a device is refused. A function may make the
   bus with a sink that hears what was heard then (`ReplaySink`).
4. What came from outside, as the caller names it, is emitted again at its time, and so is the news
   of reconnects: a replay has one connection, on which the frames of all of them come. Items that
   the next server has given other names bear those.
5. The replay ends with the recording, whatever the bus still has to do.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final, TypeAlias, cast

import msgspec

from realtime_bus import events as ev
from realtime_bus._virtual_time import Backend, run_virtual
from realtime_bus.audio import AudioSink
from realtime_bus.bus import Bus
from realtime_bus.errors import SessionClosed, UsageError
from realtime_bus.events._registry import own_events
from realtime_bus.session import Session

from ._comparison import Difference, stamp
from ._format import Line, Told
from ._plan import Selector
from ._reading import Recording
from ._replay_sink import ReplaySink
from ._replay_transport import ReplayTransport

BusMaker: TypeAlias = Callable[[ReplaySink], Bus]
Outside: TypeAlias = str | type[ev.BusEvent]

_NEWS: Final = frozenset({"bus.reconnecting", "bus.reconnected"})
_DEVICES: Final = frozenset(
    {
        "realtime_bus_plugins.browser.Browser",
        "realtime_bus_plugins.devices.Microphone",
        "realtime_bus_plugins.devices.Speaker",
        "realtime_bus_plugins.echo_cancellation.EchoCancellation",
        "realtime_bus_plugins.telephony.PhoneCall",
    }
)


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a replay. ``str()`` is what to show of it; msgspec encodes it as JSON.

    Attributes:
        recording: The recording's name.
        differences: What the bus did otherwise, in order of time; empty if it did the same.
        compared: How many acts of the recording have one of the replay beside them.
        left: How often the recording did something for the application, by name.
        sent: How many commands the bus sent, by name.
        frames: How many frames were delivered.
        recorded_s: How long the recording is, in seconds.
        took_s: How long it took to replay, in seconds.
        notes: What to know about it, in sentences.
    """

    recording: str
    differences: list[Difference]
    compared: int
    left: dict[str, int]
    sent: dict[str, int]
    frames: int
    recorded_s: float
    took_s: float
    notes: list[str]

    def __str__(self) -> str:
        """Return a few lines for people."""
        count = len(self.differences)
        found = "no difference" if not count else f"{count} difference{'s' * (count > 1)}"
        head = (
            f"{self.recording}: {stamp(self.recorded_s)} in {self.took_s:.2f} s, "
            f"{self.frames} frames, {self.compared} acts compared, {found}"
        )
        left = ", ".join(f"{name} ({number})" for name, number in sorted(self.left.items()))
        lines = [
            head,
            *(f"  {line}" for each in self.differences for line in f"{each}".split("\n")),
        ]
        lines += [f"left to the recording: {left}"] if left else []
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


async def replay(  # noqa: PLR0913  # each of its own; most calls give two
    recording: Recording | str | os.PathLike[str],
    bus: Bus | BusMaker,
    *,
    speed: float | None = None,
    compare: bool = True,
    main: Callable[[Session[Any]], Awaitable[object]] | None = None,
    settings: Mapping[str, Any] | None = None,
    state: Any = None,
    left: Sequence[Selector] = (),
    outside: Iterable[Outside] = (),
    ignore: Sequence[str] = (),
    late_s: float = 1.0,
    audio_within_ms: int = 50,
    patience_s: float = 5.0,
    on_line: Callable[[Line], object] | None = None,
) -> ReplayReport:
    """Run a recorded session again through a bus, and compare what it does with what it did.

    Args:
        recording: What to replay.
        bus: What to run; or a function that is given a sink that hears what was heard then, for
            plugins such as `Interruption`, and returns the bus.
        speed: How many times faster than then; None for as fast as can be. That is exact on a
            virtual clock, as `run_replay` has it; on a real one, handlers' sleeps are not waited
            for unless the recording needs what comes behind them.
        compare: False for other handlers on an old session: nothing is expected of them.
        main: What the application's main program does with its session.
        settings: What it gave to `Bus.connect`; sent and compared.
        state: The application's own object of the call.
        left: What is left to the recording besides: names of commands or of the application's
            events, patterns of them, or predicates of their fields.
        outside: Events that came from outside, by class or name: they are emitted again.
        ignore: Paths of fields that do not matter, such as ``item.output``; ``*`` stands for
            anything.
        late_s: How much later than then is late, in seconds.
        audio_within_ms: How far apart truncations may be.
        patience_s: How long an answer of the server's is held back because the bus has not asked
            for it yet, in seconds of the recording.
        on_line: Called with each line of the recording when its time has come.

    Returns:
        What came of it: ``assert not report.differences``.

    Raises:
        RecordingError: It is no recording.
        UsageError: The bus has a device, or an option cannot work.
    """
    began_s = perf_counter()
    names = {each if isinstance(each, str) else _wire_name(each) for each in outside}
    transport = ReplayTransport(
        recording,
        speed=speed,
        compare=compare,
        left=left,
        outside=sorted(names),
        ignore=ignore,
        late_s=late_s,
        audio_within_ms=audio_within_ms,
        patience_s=patience_s,
    )
    runs = bus if isinstance(bus, Bus) else bus(transport.sink)
    plugins = _plugins(runs)
    _refuse_devices(plugins)
    plan = transport.plan
    again = _Again(transport, names | _NEWS, on_line)
    open_session: Any = runs.session  # its overloads know no settings by name
    async with open_session(
        transport,
        plugins=[again],
        state=state,
        protocol=plan.protocol,
        wait_created=plan.has_created,
        open_timeout_s=math.inf,
        **(settings or {}),
    ) as session:
        if main is not None:
            try:
                await main(session)
            except SessionClosed:
                if session.close_info is None:  # another session's
                    raise
                again.notes.append("the recording ended before the main program did")
        await session.wait_closed()
    return _report(transport, [*again.notes, *_notes(transport, plugins)], perf_counter() - began_s)


def run_replay(
    recording: Recording | str | os.PathLike[str],
    bus: Bus | BusMaker,
    *,
    backend: Backend = "asyncio",
    **options: Any,
) -> ReplayReport:
    """Do the same as `replay`, in a loop of its own with a virtual clock: where none runs.

    Args:
        recording: What to replay.
        bus: What to run.
        backend: Which event loop.
        **options: Those of `replay`.
    """
    return run_virtual(partial(replay, recording, bus, **options), backend=backend)


class _Again:
    """The plugin that sees what the application does, and emits what came from outside."""

    def __init__(
        self,
        transport: ReplayTransport,
        names: set[str],
        on_line: Callable[[Line], object] | None,
    ) -> None:
        self.notes: list[str] = []
        self._transport = transport
        self._names = names
        self._on_line = on_line
        self._emitting: ev.BusEvent | None = None
        self._unread: set[str] = set()

    def attach(self, session: Session[Any]) -> None:
        """Watch a session."""
        session.on(ev.AppEvent, ev.HandlerFailed)(self._see)

        def due(line: Line) -> None:
            if isinstance(line, Told) and line.type in self._names:
                self._emit(line, session)
            if self._on_line is not None:
                self._on_line(line)

        self._transport.on_line = due

    def _see(self, event: ev.BusEvent) -> None:
        if event is not self._emitting:
            fields: Any = msgspec.to_builtins(event, enc_hook=repr)
            self._transport.did({**cast("dict[str, Any]", fields), "type": event.type})

    def _emit(self, line: Told, session: Session[Any]) -> None:
        for cls in own_events():
            if _wire_name(cls) == line.type:
                try:
                    self._emitting = msgspec.convert(line.event, cls, strict=False)
                except msgspec.ValidationError as error:
                    self._leave_out(line.type, str(error))
                    return
                session.emit(self._emitting)
                self._emitting = None
                return
        self._leave_out(line.type, "no class has this name; import the module that defines it")

    def _leave_out(self, name: str, why: str) -> None:
        if name not in self._unread:
            self._unread.add(name)
            self.notes.append(f"{name} came from outside, and is not emitted again: {why}")


def _report(transport: ReplayTransport, notes: list[str], took_s: float) -> ReplayReport:
    plan = transport.plan
    cut_off = plan.ended is None
    until_us = plan.last_us - (1_000_000 if cut_off else 0)
    differences: list[Difference] = []
    left = Counter(plan.left)
    if transport.compares:
        closed_us = transport.closed_us
        if closed_us is not None and closed_us < plan.last_us - 1_000_000:
            differences.append(
                Difference(kind="closed", t_s=closed_us / 1e6, type="the bus closed the session")
            )
            until_us = closed_us
        differences += transport.comparison.differences(until_us, cut_off=cut_off)
        left.update(act.type for act in plan.acts if not act.expected and act.mate is None)
    return ReplayReport(
        recording=transport.recording.header.recording_id or transport.recording.path.name,
        differences=differences,
        compared=transport.comparison.paired,
        left=dict(left),
        sent=dict(transport.sent),
        frames=transport.frames,
        recorded_s=plan.last_us / 1e6,
        took_s=took_s,
        notes=notes,
    )


def _notes(transport: ReplayTransport, plugins: Sequence[object]) -> list[str]:
    plan, notes = transport.plan, list[str]()
    if plan.ended is None:
        notes.append("the recording was cut off: nothing of its last second is compared")
    if not transport.recording.header.texts:
        notes.append(
            "texts were left out of the recording: what depends on them, such as the arguments "
            "of tools, cannot be as it was"
        )
    if plan.missing_lines:
        notes.append(f"{plan.missing_lines} lines are missing in the recording")
    if transport.flooded:
        notes.append("the session was ended: it sent command after command in no time")
    for plugin in plugins:
        if isinstance(plugin, AudioSink) and not isinstance(plugin, ReplaySink):
            notes.append(
                f"{type(plugin).__name__} heard what it was given now, not what was heard then: "
                "where interruptions differ, give a function that takes a sink and returns the bus"
            )
    return notes


def _plugins(bus: Bus) -> Sequence[object]:
    return bus._registry.plugins  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # nobody else asks


def _refuse_devices(plugins: Iterable[object]) -> None:
    """Complain of a bus that would open a device.

    Raises:
        UsageError: It has one.
    """
    for plugin in plugins:
        kinds = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(plugin).__mro__}
        if kinds & _DEVICES:
            raise UsageError(
                f"this bus has {type(plugin).__name__}(), which talks to the world outside; a "
                "replay does not. Give a function that makes the bus without it, with the sink "
                "that it is given: replay(recording, lambda sink: Bus(plugins=[sink, "
                "Interruption(sink), ...]))"
            )


def _wire_name(cls: type[ev.BusEvent]) -> str:
    return str(cls.__struct_config__.tag)

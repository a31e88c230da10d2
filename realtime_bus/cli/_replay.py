"""``realtime-bus replay``: a conversation runs by, or runs again through the handlers of today.

The rules:

1. Without handlers it is shown, at its own speed if nothing else is said. At maximal speed it is
   printed, line by line.
2. With handlers it runs as fast as can be, on a virtual clock, and what they do otherwise is
   printed; the exit code is 1 if there is anything. Progress goes to stderr, in a terminal alone.
3. Handlers are found as ``module:name``, from the folder at hand: a bus, or a function that
   returns one; it is given a sink if it takes a parameter.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import math
import os
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Literal

import msgspec
from rich.console import Console

from realtime_bus import Bus, Session, UsageError
from realtime_bus.recording import (
    Line,
    Recording,
    ReplayReport,
    ReplaySink,
    Sent,
    replay,
)
from realtime_bus_plugins.interruption import Interruption

from ._demo._record import Record
from ._demo._screen import Scene, spoken
from ._demo._view import LiveView, PlainView, Terminal, show

_QUIETEST_DBFS: Final = -60.0
_SPEAKING: Final = 0.25  # of the meter
_PROGRESS_S: Final = 0.2


class ReplayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``realtime-bus replay`` was asked for.

    Attributes:
        file: The recording.
        handlers: ``module:bus``, or None to look at it.
        main: ``module:function``, the application's main program, or None.
        speed: How many times faster than then; None for as fast as can be.
        compare: Whether differences are looked for.
        left: What is left to the recording.
        outside: Names of events that came from outside.
        ignore: Paths of fields that do not matter.
        json: Where to write the report, if anywhere.
        view: How a conversation is shown.
    """

    file: Path
    handlers: str | None = None
    main: str | None = None
    speed: float | None = None
    compare: bool = True
    left: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    json: Path | None = None
    view: Literal["auto", "live", "plain"] = "auto"


async def run_replay_command(options: ReplayOptions) -> bool:
    """Replay; return whether nothing was otherwise than then.

    Raises:
        RecordingError: It is no recording.
        UsageError: The handlers cannot be found, or cannot be replayed.
    """
    recording = Recording(options.file)
    if options.handlers is None:
        await _look(recording, options)
        return True
    bus = _named(options.handlers, "--handlers")
    main: Any = None if options.main is None else _named(options.main, "--main")
    progress = _Progress(Console(stderr=True), recording.path.name)
    try:
        report = await replay(
            recording,
            _maker(bus, options.handlers),
            main=main,
            speed=options.speed,
            compare=options.compare,
            left=options.left,
            outside=options.outside,
            ignore=options.ignore,
            on_line=progress.see,
        )
    finally:
        progress.end()
    _tell(report, options)
    return not report.differences


def _tell(report: ReplayReport, options: ReplayOptions) -> None:
    print(report)  # noqa: T201  # what the command is for
    if not options.compare:
        sent = ", ".join(f"{name} ({count})" for name, count in sorted(report.sent.items()))
        print(f"sent: {sent or 'nothing'}")  # noqa: T201  # the same
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode(report) + b"\n")


# --- handlers --------------------------------------------------------------------------------


def _named(name: str, option: str) -> Any:
    """Return what a name stands for.

    Raises:
        UsageError: There is no such thing.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise UsageError(f"{option} {name}: write module:name, such as agent:bus")
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109  # a string is wanted
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise UsageError(f"{option} {name}: there is no module {error.name} in {here}") from None
    try:
        for part in path.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise UsageError(f"{option} {name}: {module_name} has no {path}") from None
    return found


def _maker(bus: Any, name: str) -> Bus | Callable[[ReplaySink], Bus]:
    """Return a bus, or what makes one.

    Raises:
        UsageError: It is neither.
    """
    if isinstance(bus, Bus):
        return bus
    if not callable(bus):
        raise UsageError(f"--handlers {name}: {bus!r:.60} is neither a Bus nor makes one")
    takes_sink = bool(inspect.signature(bus).parameters)

    def make(sink: ReplaySink) -> Bus:
        made = bus(sink) if takes_sink else bus()
        if not isinstance(made, Bus):
            raise UsageError(f"--handlers {name} returned {made!r:.60}, which is no Bus")
        return made

    return make


class _Progress:
    """Shows how far a replay is, on a terminal."""

    def __init__(self, console: Console, name: str) -> None:
        self._status = console.status(f"replaying {name}") if console.is_terminal else None
        self._name = name
        self._shown_s = -math.inf
        if self._status is not None:
            self._status.start()

    def see(self, line: Line) -> None:
        """Take a line whose time has come."""
        if self._status is None or perf_counter() - self._shown_s < _PROGRESS_S:
            return
        self._shown_s = perf_counter()
        self._status.update(f"replaying {self._name}: {line.t_us / 1e6:.0f} s")

    def end(self) -> None:
        """Leave the terminal as it was."""
        if self._status is not None:
            self._status.stop()


# --- to look at it ---------------------------------------------------------------------------


async def _look(recording: Recording, options: ReplayOptions) -> None:
    """Show a conversation while it runs by."""
    console = Terminal()
    able = console.is_terminal and not console.is_dumb_terminal and options.speed is not None
    live = able if options.view == "auto" else options.view == "live"
    notes: list[str] = []
    show_it = _Shows(recording, LiveView(console) if live else PlainView(console), notes)
    report = await replay(
        recording,
        show_it.bus,
        speed=options.speed,
        compare=False,
        on_line=show_it.see,
    )
    if live:
        for said in show_it.record.said:
            console.print(spoken(said), soft_wrap=True)
    for note in [*notes, *(f"note: {each}" for each in report.notes)]:
        print(note, file=sys.stderr)  # noqa: T201  # what a command says


class _Shows:
    """The plugin that shows a session, and who speaks in it."""

    def __init__(self, recording: Recording, view: LiveView | PlainView, notes: list[str]) -> None:
        self._title = recording.path.name
        self._view = view
        self._notes = notes
        self._sink: ReplaySink | None = None
        self.level: float = 0.0
        self.words: str = ""
        self.note: str = ""
        self.t_s: float = 0.0

    @property
    def speaking(self) -> bool:
        """Whether there is a voice in what was sent."""
        return self.level > _SPEAKING

    def bus(self, sink: ReplaySink) -> Bus:
        """Return a bus that notes what happens."""
        self._sink = sink
        bus = Bus(plugins=[sink, Interruption(sink), self], log_errors=False)
        self.record: _Past = _Past(bus, self)
        return bus

    def attach(self, session: Session) -> None:
        """Show a session."""
        assert self._sink is not None  # noqa: S101  # the bus has both
        scene = Scene(self._title, self.record, self, self._sink, name="realtime-bus replay")
        session.start_soon(show, self._view, scene, self._notes)

    def see(self, line: Line) -> None:
        """Take a line whose time has come."""
        self.t_s = line.t_us / 1e6
        if isinstance(line, Sent) and b'input_audio_buffer.append"' in bytes(line.frame)[:120]:
            self.level = _level(bytes(line.frame))


class _Past(Record):
    """Notes what happens, at the time when it did."""

    def __init__(self, bus: Bus, clock: _Shows) -> None:
        self._clock = clock
        super().__init__(bus)

    def now_s(self) -> float:
        """Return seconds since the recording began."""
        return self._clock.t_s


def _level(frame: bytes) -> float:
    """Return how loud a piece of microphone audio is, from 0 to 1; 0 if it is no PCM16."""
    try:
        pcm = array("h", base64.b64decode(msgspec.json.decode(frame)["audio"]))
    except (ValueError, KeyError, TypeError):
        return 0.0
    power = sum(value * value for value in pcm[::8]) / max(len(pcm[::8]), 1)
    dbfs = 10 * math.log10(power / 32768**2 + 1e-12)
    return min(max(1 - dbfs / _QUIETEST_DBFS, 0.0), 1.0)

"""A recording is a transport: it delivers what the server said then, and compares what is sent.

Rules:

1. Each frame comes at its own time of the recording, or a number of times faster. At maximal speed
   on a virtual clock that takes no time at all, and every handler's sleep has its place in it; on
   a real clock each frame comes as soon as every task waits.
2. The answer to a command is not delivered before the command was sent: the recording waits for
   it, up to `patience_s`, and so does all that comes behind. Whoever is that late shifts what
   follows, as in life; the recording's clock stands still meanwhile. Where patience was in vain,
   there is less of it for the next command of that kind, until one of them is sent.
3. Frames carry the ids that the session makes up now in place of those of then.
4. Audio that was left out of the recording is silence of the same length.
5. The recording's end is the connection's. Before it, what is due is waited for, as in rule 2.
6. A session that sends `_FLOOD` commands without any time passing is ended.
"""

from __future__ import annotations

import base64
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

import anyio
import anyio.lowlevel
import msgspec
from typing_extensions import Unpack

from realtime_bus import events as ev
from realtime_bus.codec._frame import NotAnObject, parse_object, wire_name
from realtime_bus.errors import CloseInfo, ConnectError, TransportClosed, UsageError
from realtime_bus.events import ProtocolName
from realtime_bus.events._registry import own_events
from realtime_bus.recording._format import Line, Named, Played, Received, Sent, Told
from realtime_bus.recording._paper import written_down
from realtime_bus.recording._reading import Recording
from realtime_bus.recording._timeline._frames import told_list
from realtime_bus.session import Session
from realtime_bus.transport import Transport
from realtime_bus.transport._buffers import Signal

from ._act import Act
from ._clock import Clock, clock
from ._comparison import Comparison
from ._connections import ReplayedConnection
from ._plan import AUDIO, Plan, data_of
from ._report import ReplayOptions, ReplayReport, make_report
from ._sink import ReplaySink

_FLOOD: Final = 10_000
_NEWS: Final = frozenset({"bus.reconnecting", "bus.reconnected"})
_SETTINGS: Final = (b'{"type":"session.created"', b'{"type":"session.updated"')
_EMPTY_DELTA: Final = re.compile(rb'"delta"\s*:\s*""')


class ReplayTransport:
    """A transport that plays the server's side of a recording, and the plugin that compares.

    `replay` does all this; whoever wants to be in charge writes::

        transport = ReplayTransport("call.jsonl")
        async with bus.session(transport, plugins=[transport]) as session:
            await session.wait_closed()
        assert not transport.report().differences

    Without the plugin, only commands are compared.

    Args:
        recording: What to play.
        **options: `ReplayOptions`.

    Attributes:
        recording: The same.
        sink: What hears what was heard then.

    Raises:
        RecordingError: It is no recording.
        UsageError: An option cannot work.
    """

    def __init__(
        self, recording: Recording | str | os.PathLike[str], **options: Unpack[ReplayOptions]
    ) -> None:
        unknown = options.keys() - ReplayOptions.__annotations__.keys()
        if unknown:
            known = ", ".join(ReplayOptions.__annotations__)
            raise UsageError(f"a replay has no option {min(unknown)!r}; known are {known}")
        speed = options.get("speed")
        if speed is not None and not 0 < speed < math.inf:
            raise UsageError(f"speed={speed!r} is no speed; None is as fast as can be")
        if not isinstance(recording, Recording):
            recording = Recording(recording)
        self.recording: Recording = recording
        self._outside = {
            each if isinstance(each, str) else _wire_name(each)
            for each in options.get("outside", ())
        }
        self._plan = Plan(recording, left=options.get("left", ()), outside=self._outside)
        self._compare = options.get("compare", True)
        self._comparison = Comparison(
            self._plan.acts if self._compare else (),
            ignore=options.get("ignore", ()),
            late_us=round(options.get("late_s", 1.0) * 1e6),
            audio_within_ms=options.get("audio_within_ms", 50),
        )
        self.sink: ReplaySink = ReplaySink(self._plan.flushes, lambda: self._now_us)
        self._on_line = options.get("on_line", _nobody)
        self._patience_s = options.get("patience_s", 5.0)
        self._patience: dict[str, float] = {}  # by command, where it was in vain
        self._lines = self._seen(recording)
        self._dials = False  # whether each loss is lived through
        self._connection: ReplayedConnection | None = None
        self._config: dict[str, Any] = {}  # what the server said last is in force
        self._tapped: bytes | None = None  # the session's command that is sent right now
        self._emit: Callable[[ev.BusEvent], None] | None = None
        self._emitting: ev.BusEvent | None = None
        self._sent = Counter[str]()
        self._frames = 0
        self._closed_us: int | None = None  # when the session closed it
        self._emitted: set[str] = set()
        self._is_over = False  # whether the session has said so
        self._unread: dict[str, str] = {}  # events that could not be emitted, and why
        self._flooded = False
        self._failure: Exception | None = None
        self._began_s = perf_counter()
        self._speed = speed
        self._clock: Clock | None = None
        self._close: CloseInfo | None = None
        self._scope = anyio.CancelScope()
        self._changed = Signal()
        self._paused = False
        self._sent_us = 0  # when the last command was sent
        self._at_once = 0  # how many then

    @property
    def protocol(self) -> ProtocolName:
        """What is spoken in the recording."""
        return self._plan.protocol

    @property
    def has_created(self) -> bool:
        """Whether the recording has the session's beginning."""
        return self._plan.has_created

    @property
    def _now_us(self) -> int:
        return 0 if self._clock is None else self._clock.now_us

    async def run(self, deliver: Callable[[bytes], None], /) -> CloseInfo:
        """Deliver the recording's frames, each at its time.

        Raises:
            UsageError: It has run before.
        """
        if self._clock is not None:
            raise UsageError("a ReplayTransport runs once; make another one")
        return await self.go_on(deliver)

    async def go_on(self, deliver: Callable[[bytes], None], /) -> CloseInfo:
        """Deliver what comes next, up to the connection's end."""
        if self._close is not None:  # the session has left before
            return self._close
        if self._clock is None:
            self._clock = clock(self._speed)
        lost: CloseInfo | None = None
        with anyio.CancelScope() as self._scope:
            try:
                lost = await self._play(deliver, self._clock)
            except Exception as error:
                self._failure = error  # to whom it delivers, that is a broken connection
                raise
        if lost is not None:
            return lost
        if self._close is None:
            self._close = self._recorded_end()
        return self._close

    @property
    def _act_us(self) -> int:
        return 0 if self._clock is None else self._clock.act_us

    async def _play(self, deliver: Callable[[bytes], None], clock: Clock) -> CloseInfo | None:
        """Deliver until the end, or until the connection is lost: return how."""
        for line in self._lines:
            await self._until(line, clock)
            if isinstance(line, Received):
                self._deliver(line, deliver)
            elif isinstance(line, Played):
                self.sink.note(line)
            elif isinstance(line, Told) and (close := self._news(line)) is not None:
                return close
        await clock.until(self._plan.last_us)
        if self._compare:
            due = [each for each in self._plan.acts if each.expected and not each.is_event]
            await self._until_asked([each for each in due if each.mate is None], clock)
        return None

    async def _until(self, line: Line, clock: Clock) -> None:
        """Wait for a line's time, and for what it answers."""
        if isinstance(line, Received | Played | Told):
            await clock.until(line.t_us)
        if isinstance(line, Received):
            if self._compare:
                await self._until_asked(self._plan.answers.get(self._frames, ()), clock)
            while self._paused:
                await self._changed.wait()
        self._on_line(line)

    def _seen(self, recording: Recording) -> Iterator[Line]:
        """Yield what was not between a server and the library alone."""
        for line in recording:
            if isinstance(line, Named):
                self._comparison.rename(line.names)
            elif not (isinstance(line, Received | Sent) and line.aside):
                yield line

    def _deliver(self, line: Received, deliver: Callable[[bytes], None]) -> None:
        self._frames += 1
        frame = self._frame(line)
        if self._connection is not None and frame.startswith(_SETTINGS):
            with suppress(NotAnObject):
                session: Any = parse_object(frame).get("session")
                self._config = session if isinstance(session, dict) else {}
        deliver(frame)

    def _news(self, line: Told) -> CloseInfo | None:
        """Emit what came from outside; return how a connection was lost."""
        if line.type == "bus.reconnecting" and self._connection is not None:
            code = line.event.get("code")
            self._connection = None
            return CloseInfo(code=code if isinstance(code, int) else 1006)
        if line.type == "bus.reconnected":
            self._comparison.gave_back(map(str, told_list(line.event, "restored")))
        if line.type in self._outside or line.type in _NEWS:
            self._emit_again(line)
        return None

    def _frame(self, line: Received) -> bytes:
        frame = data_of(line)
        if line.audio_bytes:
            silence = base64.b64encode(bytes(line.audio_bytes))
            frame = _EMPTY_DELTA.sub(b'"delta":"' + silence + b'"', frame, count=1)
        if (wire_name(frame) or b"").endswith(b".delta"):  # it bears the server's ids alone
            return frame
        return self._comparison.renamed(frame)

    async def _until_asked(self, acts: Sequence[Act], clock: Clock) -> None:
        """Hold back an answer until it was asked for."""
        for act in acts:
            if act.mate is not None:
                continue
            patience_s = self._patience.get(act.type, self._patience_s)
            with clock.stand_still():
                with anyio.move_on_after(clock.real_s(patience_s)) as scope:
                    while True:
                        await clock.settle()  # the very same may be sent in this moment, too
                        if self._comparison.is_done(act):
                            break
                        await self._changed.wait()
                self._comparison.waited(clock.act_us - clock.now_us, clock.now_us)
            in_vain = scope.cancelled_caught
            self._patience[act.type] = patience_s / 2 if in_vain else self._patience_s

    def _recorded_end(self) -> CloseInfo:
        end = self._plan.ended
        if end is None:
            return CloseInfo(code=1006, reason="the recording was cut off here", clean=False)
        return CloseInfo(code=end.code, reason=end.reason, clean=end.clean)

    # --- what a session asks of a transport --------------------------------------------------

    def send(self, frame: bytes, /) -> None:
        """Compare a command with those of the recording.

        Raises:
            TransportClosed: The recording is over, or the session was ended for a flood.
        """
        if self._close is not None:
            raise TransportClosed("the recording is over", close=self._close)
        name = wire_name(frame) or b""
        self._sent[name.decode("utf-8", "replace")] += 1
        if self._act_us != self._sent_us:
            self._sent_us, self._at_once = self._act_us, 0
        self._at_once += 1
        if self._at_once > _FLOOD:
            self._flooded = True
            self._end(CloseInfo(code=1008, reason=f"{_FLOOD} commands in no time", clean=False))
        if self._compare and name not in AUDIO:
            self._comparison.sent(self._act_us, self._now_us, frame)
        self._changed.notify()

    async def drain(self) -> None:
        """Let others run: what was sent is taken at once."""
        await anyio.lowlevel.checkpoint()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """End the replay."""
        if self._close is None:
            self._closed_us = self._now_us
            self._end(CloseInfo(code=code, reason=reason, clean=True))

    def _end(self, close: CloseInfo) -> None:
        if self._close is None:
            self._close = close
            self._scope.cancel()

    def pause(self) -> None:
        """Hold what comes next."""
        self._paused = True

    def resume(self) -> None:
        """Deliver again."""
        self._paused = False
        self._changed.notify()

    @property
    def buffered_bytes(self) -> int:
        """Always 0."""
        return 0

    # --- several connections -----------------------------------------------------------------

    @property
    def reconnects(self) -> bool:
        """Whether a connection was lost in the recording."""
        return self._plan.reconnects

    async def dial(self, _url: str, /, **_options: object) -> Transport:
        """Open the next connection, for `Bus.connect`, which lives through its loss."""
        if not self._dials:
            self._dials = True
            self._connection = ReplayedConnection(self)
            return self._connection
        if self._clock is not None:
            for line in self._lines:
                await self._until(line, self._clock)
                if isinstance(line, Told) and line.type == "bus.reconnected":
                    session_id = line.event.get("session_id")
                    greeting = {**self._config, "id": session_id}
                    self._connection = ReplayedConnection(self, greeting)
                    return self._connection
                if isinstance(line, Told) and line.type in self._outside:
                    self._emit_again(line)
        raise ConnectError("the recording has no further connection")

    async def leave(self, connection: object, code: int, reason: str) -> None:
        """End the replay with its last connection."""
        if connection is self._connection:
            await self.aclose(code, reason)

    # --- what happens beside commands --------------------------------------------------------

    def attach(self, session: Session[Any]) -> None:
        """Compare what the application emits, and which handlers fail, too."""
        session.on(ev.BusEvent)(self._see)
        self._emit = session.emit
        if self._dials:
            session.tap(sent=self._see_sending)
            session.on(ev.Reconnected)(self._taken_over)

    def _see_sending(self, frame: bytes) -> None:
        self._tapped = frame  # it is handed over next

    def is_tapped(self, frame: bytes) -> bool:
        """Tell whether taps have seen a command."""
        return frame is self._tapped

    def _taken_over(self, _event: ev.Reconnected) -> None:
        if self._connection is not None:
            self._connection.take_over()

    def _see(self, event: ev.BusEvent) -> None:
        self._emitted.add(event.type)
        self._is_over = self._is_over or isinstance(event, ev.Closed)  # the recorder's end, too
        compared = self._compare and isinstance(event, ev.AppEvent | ev.HandlerFailed)
        if compared and not self._is_over and event is not self._emitting:
            act = {**written_down(event), "type": event.type}
            self._comparison.did(self._act_us, self._now_us, act, is_event=True)

    def _emit_again(self, line: Told) -> None:
        """Emit what came from outside."""
        cls = next((each for each in own_events() if _wire_name(each) == line.type), None)
        if cls is None:
            self._unread[line.type] = "no class has this name; import the module that defines it"
        elif self._emit is not None:
            try:
                self._emitting = msgspec.convert(line.event, cls, strict=False)
            except msgspec.ValidationError as error:
                self._unread[line.type] = str(error)
            else:
                self._emit(self._emitting)

    # --- what came of it ---------------------------------------------------------------------

    def report(self) -> ReplayReport:
        """Return what came of it; once the session has ended.

        Raises:
            OSError: The recording could not be read to its end.
        """
        if self._failure is not None:
            raise self._failure
        return make_report(
            self.recording,
            self._plan,
            self._comparison if self._compare else None,
            closed_us=self._closed_us,
            sent=self._sent,
            frames=self._frames,
            took_s=perf_counter() - self._began_s,
            notes=self._notes(),
        )

    def _notes(self) -> list[str]:
        notes = [
            f"{name} came from outside, and is not emitted again: {why}"
            for name, why in self._unread.items()
        ]
        silent = [
            f"{name} ({count})"
            for name, count in sorted(self._plan.told.items())
            if self._emit is not None and name not in self._emitted | self._unread.keys()
        ]
        if silent and self._compare:
            names = ", ".join(silent)
            notes.append(f"nobody emitted {names}; give what came from outside as outside=")
        if reordered := self._comparison.reordered():
            more = f", and {len(reordered) - 1} more" if reordered[1:] else ""
            notes.append(f"in another order than then: {reordered[0]}{more}")
        if self._plan.unmet:
            names = ", ".join(sorted(self._plan.unmet))
            notes.append(f"{names}: nothing in the recording is called so")
        if self._flooded:
            notes.append("the session was ended: it sent command after command in no time")
        return notes


def _wire_name(cls: type[ev.BusEvent]) -> str:
    return str(cls.__struct_config__.tag)


def _nobody(_line: Line) -> None:
    """Take a line that nobody wants."""

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
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import anyio
import anyio.lowlevel

from realtime_bus.codec._frame import wire_name
from realtime_bus.errors import CloseInfo, TransportClosed, UsageError
from realtime_bus.transport._buffers import Signal

from ._comparison import Act, Comparison
from ._format import Line, Played, Received, Sent, Told
from ._plan import AUDIO, Plan, Selector
from ._reading import Recording
from ._replay_clock import Clock, clock
from ._replay_sink import ReplaySink

_FLOOD: Final = 10_000
_EMPTY_DELTA: Final = b'"delta":""'


class ReplayTransport:
    """A transport that plays the server's side of a recording: ``bus.session(transport)``.

    `replay` does the rest: it runs the session to its end, and reports.

    Args:
        recording: What to play.
        speed: How many times faster than then; None for as fast as can be.
        compare: Whether what is sent is compared with what was sent; otherwise nothing is expected
            and nothing is waited for.
        left: What is left to the recording: names of commands and of the application's events,
            patterns of them, or predicates.
        outside: Names of events that came from outside.
        ignore: Paths of fields whose values do not matter, such as ``item.output``.
        late_s: How much later is late, in seconds.
        audio_within_ms: How far apart two truncations may be.
        patience_s: How long an answer is held back, in seconds of the recording.

    Attributes:
        plan: What is known of the recording.
        comparison: What was sent beside what was sent then.
        sink: What hears what was heard then.
        sent: How many commands were sent, by name; audio too.
        frames: How many frames were delivered.
        closed_us: When the session closed the connection itself; None if it did not.
        compares: Whether what is sent is compared.
        flooded: Whether the session was ended for sending too much.
        on_line: Called with each line of the recording when its time has come.

    Raises:
        UsageError: An option cannot work.
    """

    def __init__(
        self,
        recording: Recording | str | os.PathLike[str],
        *,
        speed: float | None = None,
        compare: bool = True,
        left: Sequence[Selector] = (),
        outside: Sequence[str] = (),
        ignore: Sequence[str] = (),
        late_s: float = 1.0,
        audio_within_ms: int = 50,
        patience_s: float = 5.0,
    ) -> None:
        if speed is not None and not 0 < speed < math.inf:
            raise UsageError(f"speed={speed!r} is no speed; None is as fast as can be")
        self.recording: Recording = (
            recording if isinstance(recording, Recording) else Recording(recording)
        )
        self.plan: Plan = Plan(self.recording, left=left, outside=outside)
        self.comparison: Comparison = Comparison(
            self.plan.acts if compare else (),
            ignore=ignore,
            late_us=round(late_s * 1e6),
            audio_within_ms=audio_within_ms,
        )
        self.sink: ReplaySink = ReplaySink(self.plan.flushes, lambda: self.now_us)
        self.sent: Counter[str] = Counter()
        self.frames: int = 0
        self.closed_us: int | None = None
        self.flooded: bool = False
        self.on_line: Callable[[Line], object] = _nobody
        self.compares: bool = compare
        self._speed = speed
        self._patience_s = patience_s
        self._patience: dict[str, float] = {}  # by command, where it was in vain
        self._clock: Clock | None = None
        self._close: CloseInfo | None = None
        self._scope = anyio.CancelScope()
        self._changed = Signal()
        self._paused = False
        self._since_frame = 0  # commands

    @property
    def now_us(self) -> int:
        """How far the recording is, in microseconds."""
        return 0 if self._clock is None else self._clock.now_us

    async def run(self, deliver: Callable[[bytes], None], /) -> CloseInfo:
        """Deliver the recording's frames, each at its time.

        Raises:
            UsageError: It has run before.
        """
        if self._clock is not None:
            raise UsageError("a ReplayTransport runs once; make another one")
        self._clock = clock(self._speed)
        with self._scope:
            await self._play(deliver, self._clock)
        if self._close is None:
            self._close = self._recorded_end()
        return self._close

    async def _play(self, deliver: Callable[[bytes], None], clock: Clock) -> None:
        for line in self.recording:
            if isinstance(line, Received | Sent) and line.aside:
                continue
            if isinstance(line, Received):
                await clock.until(line.t_us)
                if self.compares:
                    await self._until_asked(self.plan.answers.get(self.frames, ()), clock)
                while self._paused:
                    await self._changed.wait()
                self.frames += 1
                self._since_frame = 0
                deliver(self._frame(line))
            elif isinstance(line, Played):
                await clock.until(line.t_us)
                self.sink.note(line)
            elif isinstance(line, Told):
                await clock.until(line.t_us)
            self.on_line(line)
        await clock.until(self.plan.last_us)
        if self.compares:
            due = [each for each in self.plan.acts if each.expected and not each.is_event]
            await self._until_asked([each for each in due if each.mate is None], clock)

    def _frame(self, line: Received) -> bytes:
        if line.broken is not None:
            return base64.b64decode(line.broken)
        frame = bytes(line.frame)
        if line.audio_bytes:
            silence = base64.b64encode(bytes(line.audio_bytes))
            frame = frame.replace(_EMPTY_DELTA, b'"delta":"' + silence + b'"', 1)
        name = wire_name(frame)  # deltas bear the server's ids alone, and are most of it
        return (
            frame
            if name is not None and name.endswith(b".delta")
            else self.comparison.renamed(frame)
        )

    async def _until_asked(self, acts: Sequence[Act], clock: Clock) -> None:
        """Hold back an answer until it was asked for."""
        for act in acts:
            if act.mate is not None:
                continue
            patience_s = self._patience.get(act.type, self._patience_s)
            with clock.stand_still():
                with anyio.move_on_after(clock.real_s(patience_s)):
                    await self._until_done(act, clock)
                self.comparison.waited(clock.act_us - clock.now_us, clock.now_us)
            self._patience[act.type] = patience_s / 2 if act.mate is None else self._patience_s

    async def _until_done(self, act: Act, clock: Clock) -> None:
        while act.mate is None:
            await clock.settle()  # the very same may be sent in this moment, too
            if not self.comparison.is_done(act):
                await self._changed.wait()

    def _recorded_end(self) -> CloseInfo:
        end = self.plan.ended
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
        self.sent[name.decode("utf-8", "replace")] += 1
        self._since_frame += 1
        if self._since_frame > _FLOOD:
            self.flooded = True
            self._end(CloseInfo(code=1008, reason=f"{_FLOOD} commands in no time", clean=False))
        if name not in AUDIO:
            self.comparison.sent(self._act_us, self.now_us, frame)
        self._changed.notify()

    def did(self, event: dict[str, Any]) -> None:
        """Compare an event that the application emits, or a failure, with those of the recording."""
        if self._close is None:
            self.comparison.did(self._act_us, self.now_us, event, is_event=True)

    @property
    def _act_us(self) -> int:
        return 0 if self._clock is None else self._clock.act_us

    async def drain(self) -> None:
        """Let others run: what was sent is taken at once."""
        await anyio.lowlevel.checkpoint()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """End the replay."""
        if self._close is None:
            self.closed_us = self.now_us
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


def _nobody(_line: Line) -> None:
    """Take a line that nobody wants."""

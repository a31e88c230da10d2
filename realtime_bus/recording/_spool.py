"""Write recordings without holding up a session: lines are collected, and a thread writes them.

Rules:

1. What a session pays for a frame is to make its line (`_lines`), in memory that is used again and
   again.
2. One thread of the process writes for all sessions, `FLUSH_S` after one another at most: that is
   what a process that is killed loses. It takes what there is of a session by one call.
3. What waits is bounded, by bytes, for each session and for the process (`MAX_PROCESS_BYTES`).
   What finds no room is counted, and told where it is missing (`Left`).
4. What cannot be written waits on, up to those bounds. It is told once, and tried again every
   `RETRY_S`: a disk may have room again. A file that somebody has deleted is not.
5. `close` waits until all is written, but not for a disk that hangs.
6. A process that was forked off writes nothing of its parent's.

Bytes are accounted for in grants: a session that has used up one asks for the next, so that few
frames pay for the accounting. Only the loop's thread takes, only the writing thread gives back.
"""

from __future__ import annotations

import atexit
import os
from collections import deque
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from typing import Final

from msgspec.structs import replace

from realtime_bus.errors import RealtimeBusError
from realtime_bus.log import get_logger, text_of

from ._format import Header, Left, Line, Named
from ._lines import RECEIVED, RECEIVED_ASIDE, SENT, SENT_ASIDE, Lines, marked_aside
from ._writing import FileDeletedError, RecordingWriter

FLUSH_S: Final = 0.5
RETRY_S: Final = 5.0
CLOSE_S: Final = 0.5
"""How long `RecordingSpool.close` waits for the disk."""

MAX_SESSION_BYTES: Final = 16 * 1024 * 1024
MAX_PROCESS_BYTES: Final = 64 * 1024 * 1024

_GRANT_BYTES = 64 * 1024
_LINE_BYTES = 64  # what a frame's line has beside it, about
_SPARE_BYTES = 256 * 1024  # memory that is longer is not used again

_log = get_logger("realtime_bus.recording")


class RecordingSpool:
    """Record one session, without waiting. Made where the session's event loop runs.

    ::

        spool = RecordingSpool(path, header, clock=session.clock)
        session.tap(received=spool.received, sent=spool.sent)
        session.on_close(spool.close)

    Args:
        path: The file; it and its folder are made by the thread.
        header: Its first line.
        clock: Reads the time in seconds.
        max_file_bytes: Where the next file begins; None for a single file.
        max_bytes: How much may wait to be written.
        on_trouble: Called with what is wrong, in words, once nothing can be written: along with
            the next frame.

    Attributes:
        path: The first file.
        received: Takes a frame from the server.
        sent: Takes a frame to the server.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: Header,
        *,
        clock: Callable[[], float],
        max_file_bytes: int | None = None,
        max_bytes: int = MAX_SESSION_BYTES,
        on_trouble: Callable[[str], object] = lambda _why: None,
    ) -> None:
        self.path: Path = Path(path)
        self._header = header
        self._clock = clock
        self._zero_s = clock()
        self._max_file_bytes = max_file_bytes
        self._max_bytes = max_bytes
        self._on_trouble = on_trouble
        self._lines = Lines(audio=header.audio, texts=header.texts)
        # what both sides touch, with the lock
        self._lock = Lock()
        self._buffer = BytesIO()
        self._put: Callable[[tuple[bytes, ...]], None] = self._buffer.writelines
        self._credit = 0  # bytes that may still be taken of the last grant
        self._granted = 0
        # the loop's side
        self._room = _room
        self._refused = 0  # lines that found no room
        self._missing: Left | None = None  # of them, lately
        self._last: bytes | None = None  # frame that has a line
        self._look_s = float("inf")
        self._look: Callable[[float], float] = lambda _now_s: float("inf")
        self._news: str | None = None  # from the thread
        self.received: Callable[[bytes], None] = self._tap(RECEIVED)
        self.sent: Callable[[bytes], None] = self._tap(SENT)
        self._received_aside = self._tap(RECEIVED_ASIDE)
        self._sent_aside = self._tap(SENT_ASIDE)
        # the thread's side
        self._returned = 0
        self._used = 0  # of what was granted, once all is written that was taken
        self._writer: RecordingWriter | None = None
        self._trouble: str | None = None
        self._retry_s = 0.0
        self._lost = 0  # lines that could not be written to the end
        self._deleted = False
        self._closing = False
        self._working = Lock()
        self._done = Event()
        _thread.serve(self)

    # --- the loop's side ---------------------------------------------------------------------

    def _tap(self, head: bytes) -> Callable[[bytes], None]:
        clock, zero_s, of_frame = self._clock, self._zero_s, self._lines.of_frame

        def note(frame: bytes) -> None:
            now_s = clock()
            try:
                line = of_frame(head, int((now_s - zero_s) * 1e6), frame)
            except Exception as error:  # noqa: BLE001  # whatever it is, the others can be made
                self._unmade(error)
                return
            with self._lock:
                credit = self._credit - len(line[1]) - _LINE_BYTES
                if credit >= 0 or (credit := self._more(credit, now_s)) >= 0:
                    self._credit = credit
                    self._put(line)
                    self._last = frame
            if now_s >= self._look_s:
                self._attend(now_s)

        return note

    def _attend(self, now_s: float) -> None:
        news, self._news = self._news, None
        self._look_s = float("inf")  # whatever is raised
        self._look_s = self._look(now_s)
        if news is not None:
            self._on_trouble(news)

    def look(self, function: Callable[[float], float], *, after_s: float = 0.0) -> None:
        """Call a function along with a frame, once it is time to.

        Args:
            function: Called with the time; returns when it wants to be called again.
            after_s: When to call it first.
        """
        self._look, self._look_s = function, after_s

    @property
    def now_us(self) -> int:
        """Microseconds since the recording began."""
        return self.us(self._clock())

    def us(self, time_s: float) -> int:
        """Return a time of the clock in microseconds since the recording began."""
        return int((time_s - self._zero_s) * 1e6)

    def write(self, line: Line) -> None:
        """Take a line, with its time."""
        try:
            text = self._lines.of(line)
        except Exception as error:  # noqa: BLE001  # whatever it is, the others can be made
            self._unmade(error)
            return
        with self._lock:
            credit = self._credit - len(text)
            if credit >= 0 or (credit := self._more(credit, self._clock())) >= 0:
                self._credit = credit
                self._put((text,))

    def aside(self, frame: bytes, sent: bool) -> None:  # as `Session.tap` calls it
        """Take a frame that no handler sees; or note that of the last one that was received."""
        if not sent and frame is self._last:
            with self._lock:
                start, text = marked_aside(_lines_in(self._buffer))
                if start >= 0:  # else it has been written meanwhile
                    self._buffer.seek(start)
                    self._put((text,))
                    return
        (self._sent_aside if sent else self._received_aside)(frame)

    def named(self, names: dict[str, str]) -> None:
        """Take the names that handlers know items by, by the server's."""
        self.write(Named(t_us=self.now_us, names=names))

    @property
    def left_lines(self) -> int:
        """How many lines are missing."""
        return self._refused + self._lost

    def close(self, *last: Line) -> bool:
        """End the recording, and wait until it is written.

        Args:
            *last: Lines that are written in any case.

        Returns:
            Whether it is complete; False if the disk takes too long, or something is missing.
        """
        if not self._closing:
            with self._lock:
                self._tell_missing(self._clock())
                self._put(tuple(map(self._lines.of, last)))
                self._closing, self._credit, self._look_s = True, 0, float("inf")
            _thread.finish(self)
        return self._done.is_set() and not self.left_lines

    def _unmade(self, error: Exception) -> None:
        self._refused += 1
        _log.warning("a line of a recording cannot be made", why=text_of(error))

    def _more(self, credit: int, now_s: float) -> int:
        """Return what is left of a new grant; less than 0 if there is none. With the lock."""
        if self._closing:
            return -1
        wanted = max(_GRANT_BYTES, -credit)
        held = self._granted - self._returned
        if held + wanted <= self._max_bytes and self._room.take(wanted):
            self._granted += wanted
            self._tell_missing(now_s)
            return credit + wanted
        self._refused += 1
        length = self._credit - credit
        if self._missing is None:
            why = self._trouble or ""
            self._missing = Left(t_us=self.us(now_s), lines=1, bytes=length, why=why)
            if not why:
                self._tell("it came faster than it could be written")
        else:
            lines, length = self._missing.lines + 1, self._missing.bytes + length
            self._missing = replace(self._missing, lines=lines, bytes=length)
        return -1

    def _tell_missing(self, now_s: float) -> None:
        if self._missing is not None:
            self._put((self._lines.of(replace(self._missing, t_us=self.us(now_s))),))
            self._missing = None

    # --- the thread's side -------------------------------------------------------------------

    def flush(self) -> bool:
        """Write what waits; return whether that was all there will be."""
        with self._working:
            if self._done.is_set():
                return True
            closing = self._closing  # what comes before it is seen below
            is_due = self._trouble is None or closing or monotonic() >= self._retry_s
            if is_due and not self._deleted:
                try:
                    self._write()
                except (OSError, RealtimeBusError) as error:
                    self._fail(error)
            if closing:
                self._finish()
            return closing

    def wait(self, timeout_s: float) -> bool:
        """Wait until all is written; return whether it is."""
        return self._done.wait(timeout_s)

    def _write(self) -> None:
        """Write what could not be written before, then what is new.

        Raises:
            OSError: It cannot be written.
            MissingExtra: It cannot be compressed.
        """
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = RecordingWriter(
                self.path, self._header, max_file_bytes=self._max_file_bytes
            )
        elif self._trouble is not None:
            self._writer.put(b"")
            self._give_back(self._used)
        if self._buffer.tell():
            taken = self._take()
            self._writer.put(taken.getbuffer()[: taken.tell()])
            self._give_back(self._used)
            if taken.tell() <= _SPARE_BYTES:
                taken.seek(0)
                _spares.append(taken)
        if self._trouble is not None:
            self._trouble = None
            _log.info("the recording goes on", path=str(self.path))

    def _take(self) -> BytesIO:
        """Return all lines that there are by now."""
        try:
            spare = _spares.pop()
        except IndexError:
            spare = BytesIO()
        with self._lock:
            taken, self._buffer = self._buffer, spare
            self._put = self._buffer.writelines
            self._used = max(self._granted - self._credit, self._returned)
        return taken

    def _give_back(self, returned: int) -> None:
        self._room.give(returned - self._returned)
        self._returned = returned

    def _fail(self, error: Exception) -> None:
        told = self._trouble is not None
        self._trouble = text_of(error)
        self._retry_s = monotonic() + RETRY_S
        if isinstance(error, FileDeletedError):
            self._deleted = True
            self._drop()
        if not told:
            self._tell(self._trouble)

    def _drop(self) -> None:
        """Count what waits as lost; take nothing any more."""
        with self._lock:
            self._lost += _lines_in(self._buffer).count(b"\n")
            self._buffer = BytesIO()
            self._put = self._buffer.writelines
            self._credit = self._max_bytes = 0
        if self._writer is not None:
            self._lost += self._writer.unwritten_lines
            writer, self._writer = self._writer, None
            try:
                writer.close()
            except OSError as error:
                self._fail(error)
        self._give_back(self._granted)

    def _tell(self, why: str) -> None:
        """Tell that the file is not complete by now; from either side."""
        _log.warning("a recording is incomplete", path=str(self.path), why=why)
        self._news, self._look_s = why, float("-inf")

    def _finish(self) -> None:
        self._drop()
        if self.left_lines:
            _log.warning("a recording has gaps", path=str(self.path), left_lines=self.left_lines)
        else:
            _log.info("a recording is complete", path=str(self.path))
        self._done.set()

    def forget(self) -> None:
        """Write nothing, in the child of a fork: the files are the parent's."""
        self._closing, self._credit, self._look_s = True, 0, float("inf")
        self._lock, self._working, self._done = Lock(), Lock(), Event()
        self._done.set()


def _lines_in(buffer: BytesIO) -> bytes:
    return bytes(buffer.getbuffer()[: buffer.tell()])  # behind it stands what was there before


class _Room:
    """Bytes that all sessions of the process share."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes
        self._lock = Lock()

    def take(self, size_bytes: int) -> bool:
        with self._lock:
            if self._left < size_bytes:
                return False
            self._left -= size_bytes
            return True

    def give(self, size_bytes: int) -> None:
        with self._lock:
            self._left += size_bytes


class _WritingThread:
    """The thread that writes; it lives as long as there is something to write."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wake = Event()
        self._spools: dict[RecordingSpool, None] = {}
        self._urgent: deque[RecordingSpool] = deque()
        self._thread: Thread | None = None
        self._busy_since_s: float | None = None

    def serve(self, spool: RecordingSpool) -> None:
        """Write what a recording collects from now on.

        Raises:
            RuntimeError: The system has no thread left.
        """
        with self._lock:
            if self._thread is None:
                thread = Thread(target=self._run, name="realtime-bus-recording", daemon=True)
                thread.start()  # it begins with the lock
                self._thread = thread
            self._spools[spool] = None
            self._urgent.append(spool)
        self._wake.set()

    def hurry(self, *spools: RecordingSpool) -> None:
        """Write what waits of some recordings now."""
        self._urgent.extend(spools)
        self._wake.set()

    def finish(self, spool: RecordingSpool) -> None:
        """Have the rest of a recording written, and wait for that."""
        self.hurry(spool)
        since_s = self._busy_since_s
        hangs = since_s is not None and monotonic() - since_s > CLOSE_S
        spool.wait(0 if hangs else CLOSE_S)

    def flush_all(self) -> None:
        """Write what there is: the process ends."""
        for spool in self.spools:
            spool.flush()

    @property
    def spools(self) -> list[RecordingSpool]:
        """What is being written."""
        return list(self._spools)

    def _run(self) -> None:
        due_s = monotonic() + FLUSH_S
        while True:
            self._wake.wait(max(0.0, due_s - monotonic()))
            self._wake.clear()
            while self._urgent:
                self._flush(self._urgent.popleft())
            if monotonic() >= due_s:
                due_s = monotonic() + FLUSH_S
                for spool in self.spools:
                    self._flush(spool)
            with self._lock:
                if not self._spools:
                    self._thread = None
                    return

    def _flush(self, spool: RecordingSpool) -> None:
        self._busy_since_s = monotonic()
        if spool.flush():
            self._spools.pop(spool, None)
        self._busy_since_s = None


def _at_exit() -> None:
    """Write what there is: a daemon thread is not waited for."""
    _thread.flush_all()


def _forked() -> None:
    """Begin anew, in the child of a fork."""
    global _room, _thread  # locks may be held by a thread that is not there
    for spool in _thread.spools:
        spool.forget()
    _room, _thread = _Room(MAX_PROCESS_BYTES), _WritingThread()


_room = _Room(MAX_PROCESS_BYTES)
_spares: deque[BytesIO] = deque(maxlen=4)  # what one session has filled the next one uses
_thread = _WritingThread()
atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

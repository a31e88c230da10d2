"""One call's line, without I/O: the provider's messages in, events, audio and messages out.

The rules:

1. A call begins with its first ``start``. Before it nothing has a meaning, a second one neither.
2. What cannot be read or has no place is told as `LineProblem` and changes nothing. Words that are
   not known are ignored.
3. The caller's audio is passed on in the order of its numbers. What comes early waits for at most
   `_EARLY` messages, then what is missing is given up; what comes late or twice is dropped. Where
   numbers begin anew, they are followed after as many.
4. Our audio is cut into frames, whoever it comes from: what is left of one piece begins a frame of
   the next. The rest goes out when somebody says that it is the end (`finish`), or when the line
   has run dry.
5. Behind the audio stand marks, each with how far in which items it is: when it comes back, that
   was heard, and everything before it, marks that were lost included. Positions are exact to the
   millisecond, rounded down.
6. After `clear` no mark that was sent before it counts: lines send back the marks of what they have
   thrown away. What was not sent yet is not sent any more.
7. Where the provider has a buffer of a certain size, no more is sent than it holds.
8. A mark that is `MARK_TIMEOUT_S` overdue, on a line that is alive, was lost: it counts as come
   back, or the item would be thought to play for ever.

What waits to be sent is unbounded: what was received must be played, and a response's length bounds
it. Everything else has a bound here.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import pybase64

from realtime_bus import events as ev
from realtime_bus.audio import bytes_per_ms, ms_to_bytes

from ._events import CallInfo, CallStalled, DtmfReceived, LineProblem, ProblemKind
from ._formats import AUDIO, MARK, StreamFormat, Template, at, silence

MAX_MESSAGE_BYTES: Final = 65_536
"""Six seconds of µ-law: a larger message is not read."""

MARK_TIMEOUT_S: Final = 5.0
_ALIVE_S = 1.0
_EARLY = 3
_MAX_PARAMETERS = 64


class Position(NamedTuple):
    """How far a part of an item is, when a mark comes back."""

    item_id: str
    content_index: int
    ms: int


class Heard(NamedTuple):
    """A mark came back."""

    positions: list[Position]


class Stopped(NamedTuple):
    """The provider says that the call is over."""


Happening: TypeAlias = ev.BusEvent | bytes | Heard | Stopped
"""What comes of a message; bytes are the caller's audio."""


class _Outgoing(NamedTuple):
    """What waits to be sent: audio, a mark, or both in this order."""

    audio: bytes
    positions: list[Position] | None


class _Mark(NamedTuple):
    """A mark that has not come back."""

    positions: list[Position]
    sent_ms: float
    due_s: float


class Line:
    """A call's line.

    Args:
        stream_format: How the provider speaks.
        mark_ms: How much audio there is between two marks.
        stall_s: After how much silence of the line to say so.
        clock: Returns seconds; any zero point.

    Attributes:
        call: What the provider said of the call, None before it began.
        refused: Why the call cannot begin, or None.
    """

    def __init__(
        self,
        stream_format: StreamFormat,
        *,
        mark_ms: int = 20,
        stall_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.call: CallInfo | None = None
        self.refused: str | None = None
        self._format = stream_format
        self._mark_ms = mark_ms
        self._stall_s = stall_s
        self._clock = clock
        self._problems: Counter[ProblemKind] = Counter()
        # what comes
        self._came_s = clock()
        self._stalled = False
        self._next_chunk: int | None = None
        self._early: dict[int, bytes] = {}
        self._late = 0
        # what goes
        self._rest = bytearray()
        self._unmarked: list[Position] = []
        self._unmarked_bytes = 0
        self._outgoing: deque[_Outgoing | str] = deque()
        self._marks: dict[str, _Mark] = {}
        self._mark_number = 0
        self._sent_ms = self._played_ms = 0.0
        self._dry_s = 0.0
        self.input_bytes_per_ms = 8

    # --- what comes --------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> Iterator[Happening]:
        """Read a message of the provider, and yield what it comes to."""
        self._came_s, self._stalled = self._clock(), False
        if len(message) > MAX_MESSAGE_BYTES:
            yield self.problem("too_large", f"a message of {len(message)} bytes")
        elif isinstance(message, bytes) and self._format.payload is None:
            yield from self._audio(message, None)
        else:
            content = _decoded(message)
            if content is None:
                yield self.problem("malformed", f"no JSON object: {message[:80]!r}")
                return
            word = content.get("event")
            kind = self._format.kinds.get(word) if isinstance(word, str) else None
            if kind is not None:
                yield from _READERS[kind](self, content)

    def _start(self, content: dict[str, Any]) -> Iterator[Happening]:
        wire = self._format
        if self.call is not None:
            yield self.problem("unexpected", "a second start of the call")
            return
        encoding = at(content, wire.encoding)
        key = encoding if wire.rate is None else (encoding, _number(at(content, wire.rate)))
        audio_format = None
        if encoding is None:
            audio_format = next(iter(wire.encodings.values()))
        elif isinstance(encoding, str):
            audio_format = wire.encodings.get(key)
        if audio_format is None:
            known = ", ".join(str(each) for each in wire.encodings)
            self.refused = f"{wire.name} streams {key!r:.80}; known are {known}"
            yield self.problem("unexpected", self.refused)
            return
        self.call = CallInfo(
            provider=wire.name,
            stream_id=_text(at(content, wire.stream_id)),
            call_id=_text(at(content, wire.call_id)),
            parameters=self._parameters(content),
            input_format=audio_format,
            output_format=audio_format,
        )
        self.input_bytes_per_ms = self._per_ms = bytes_per_ms(audio_format)
        self._frame_bytes = ms_to_bytes(wire.frame_ms, audio_format)
        frames = max(1, self._mark_ms // wire.frame_ms)
        self._mark_bytes = frames * self._frame_bytes
        self._most_bytes = min(self._mark_bytes, ms_to_bytes(wire.most_ms, audio_format))
        stream_id = self.call.stream_id
        self._audio_text = wire.send_audio and Template(wire.send_audio, AUDIO, stream_id)
        self._mark_text = Template(wire.send_mark, MARK, stream_id)
        self._clear_text = Template(wire.send_clear, MARK, stream_id).fill("")

    def _parameters(self, content: dict[str, Any]) -> dict[str, str]:
        """Return the application's own parameters, however they are written."""
        wire = self._format
        found = at(content, wire.parameters)
        if wire.parameters is None:
            found = {k: v for k, v in content.items() if k not in {"event", wire.encoding[0]}}
        elif isinstance(found, str):
            pairs = (each.partition("=") for each in found.split(";") if each)
            found = {key.strip(): value.strip() for key, _, value in pairs}
        if not isinstance(found, dict):
            return {}
        return {k: _text(v) for k, v in list(found.items())[:_MAX_PARAMETERS]}

    def _media(self, content: dict[str, Any]) -> Iterator[Happening]:
        wire = self._format
        payload = at(content, wire.payload)
        if at(content, wire.track) not in {None, "inbound"}:
            return  # what we play ourselves, where both tracks are streamed
        try:
            audio = pybase64.b64decode(payload, validate=True)
        except (ValueError, TypeError):
            yield self.problem("malformed", f"media without base64: {payload!r:.80}")
            return
        yield from self._audio(audio, _number(at(content, wire.chunk)))

    def _audio(self, audio: bytes, chunk: int | None) -> Iterator[Happening]:
        if self.call is None:
            yield self.problem("unexpected", "audio before the call's start")
        elif chunk is None:
            yield audio
        elif self._next_chunk is None or chunk == self._next_chunk:
            self._late = 0
            yield audio
            yield from self._go_on_behind(chunk)
        elif chunk > self._next_chunk:
            self._early[chunk] = audio
            if len(self._early) > _EARLY:
                first = min(self._early)
                yield self.problem(
                    "out_of_order", f"audio {self._next_chunk} to {first - 1} is missing"
                )
                yield self._early.pop(first)
                yield from self._go_on_behind(first)
        else:
            self._late += 1
            yield self.problem(
                "out_of_order", f"audio {chunk} came late or twice, {self._next_chunk} is due"
            )
            if self._late > _EARLY:  # they count anew
                self._late = 0
                self._early.clear()
                yield audio
                self._next_chunk = chunk + 1

    def _go_on_behind(self, chunk: int) -> Iterator[bytes]:
        """Yield what came early and is due now."""
        self._next_chunk = chunk + 1
        while self._next_chunk in self._early:
            yield self._early.pop(self._next_chunk)
            self._next_chunk += 1

    def _mark(self, content: dict[str, Any]) -> Iterator[Happening]:
        name = at(content, self._format.mark)
        if isinstance(name, str) and name in self._marks:
            yield Heard(self._come_back(name))

    def _come_back(self, name: str) -> list[Position]:
        """Return what was heard by then: a line plays in order."""
        heard: list[Position] = []
        for each in list(self._marks):
            mark = self._marks.pop(each)
            heard += mark.positions
            self._played_ms = mark.sent_ms
            if each == name:
                break
        return heard

    def _dtmf(self, content: dict[str, Any]) -> Iterator[Happening]:
        digit = at(content, self._format.digit)
        if isinstance(digit, str | int) and len(_text(digit)) == 1:
            yield DtmfReceived(digit=_text(digit))
        else:
            yield self.problem("malformed", f"a key without a digit: {digit!r:.80}")

    def _stop(self, content: dict[str, Any]) -> Iterator[Happening]:  # noqa: ARG002 - a reader
        yield Stopped()

    def _error(self, content: dict[str, Any]) -> Iterator[Happening]:
        yield self.problem("provider", f"{at(content, self._format.complaint)!r:.200}")

    def problem(self, kind: ProblemKind, detail: str) -> LineProblem:
        """Count something that is wrong, and return what can be told of it."""
        self._problems[kind] += 1
        return LineProblem(kind=kind, detail=detail, count=self._problems[kind])

    # --- what goes ---------------------------------------------------------------------------

    def play(self, audio: bytes, item_id: str, content_index: int, end_ms: int) -> None:
        """Queue audio, encoded as the line wants it, that ends so far into its item."""
        self._rest += audio
        while len(self._rest) >= self._frame_bytes:
            frames = min(len(self._rest), self._most_bytes) // self._frame_bytes
            taken = self._take(frames * self._frame_bytes)
            behind_ms = -(-len(self._rest) // self._per_ms)
            self._unmarked.append(Position(item_id, content_index, end_ms - behind_ms))
            self._queue(taken)
        if self._rest:
            self._unmarked.append(Position(item_id, content_index, end_ms))

    def finish(self) -> None:
        """Send what is left of a frame, and the mark that is due behind it."""
        if self._rest:
            missing = self._frame_bytes - len(self._rest) if self._format.fills_up else 0
            assert self.call is not None  # noqa: S101  # nothing is played before it began
            audio = self._take(len(self._rest)) + silence(missing, self.call.output_format)
            self._queue(audio, at_once=True)
        elif self._unmarked:
            self._queue(b"", at_once=True)

    def clear(self) -> None:
        """Forget what waits and what was sent, and have the line do the same."""
        self._rest.clear()
        self._unmarked = []
        self._unmarked_bytes = 0
        self._outgoing.clear()
        self._marks.clear()
        self._played_ms = self._sent_ms
        self._dry_s = 0.0
        if self.call is not None:
            self._outgoing.append(self._clear_text)

    def next_message(self) -> str | bytes | None:
        """Return what is to be sent next, or None while nothing is or can be."""
        if not self._outgoing:
            return None
        first = self._outgoing[0]
        if isinstance(first, str):
            self._outgoing.popleft()
            return first
        if first.audio:
            return self._next_audio(first)
        self._outgoing.popleft()
        return self._next_mark(first.positions or [])

    def _next_audio(self, first: _Outgoing) -> str | bytes | None:
        length_ms = len(first.audio) / self._per_ms
        ahead_ms = self._sent_ms - self._played_ms
        limit_ms = self._format.buffer_ms
        if limit_ms is not None and ahead_ms > 0 and ahead_ms + length_ms > limit_ms:
            return None
        self._outgoing.popleft()
        if first.positions is not None:
            self._outgoing.appendleft(_Outgoing(b"", first.positions))
        self._sent_ms += length_ms
        self._dry_s = max(self._clock(), self._dry_s) + length_ms / 1000
        if self._audio_text:
            return self._audio_text.fill(pybase64.b64encode_as_string(first.audio))
        return first.audio

    def _next_mark(self, positions: list[Position]) -> str:
        self._mark_number += 1
        name = str(self._mark_number)
        self._marks[name] = _Mark(positions, self._sent_ms, self._dry_s)
        return self._mark_text.fill(name)

    def _take(self, length: int) -> bytes:
        taken = bytes(self._rest[:length])
        del self._rest[:length]
        return taken

    def _queue(self, audio: bytes, *, at_once: bool = False) -> None:
        """Queue a message of audio, with a mark behind it where one is due."""
        self._unmarked_bytes += len(audio)
        positions: list[Position] | None = None
        if at_once or self._unmarked_bytes >= self._mark_bytes:
            positions, self._unmarked, self._unmarked_bytes = self._unmarked, [], 0
        self._outgoing.append(_Outgoing(audio, positions))

    # --- time --------------------------------------------------------------------------------

    def tick(self) -> Iterator[Happening]:
        """Yield what time has brought about; call it some times a second."""
        now_s = self._clock()
        silent_s = now_s - self._came_s
        if silent_s >= self._stall_s and not self._stalled:
            self._stalled = True
            yield CallStalled(silent_s=silent_s)
        if not self._outgoing and now_s >= self._dry_s and (self._rest or self._unmarked):
            self.finish()
        overdue = [n for n, mark in self._marks.items() if now_s >= mark.due_s + MARK_TIMEOUT_S]
        if overdue and silent_s < _ALIVE_S:
            yield self.problem("mark_lost", f"{len(overdue)} marks did not come back")
            yield Heard(self._come_back(overdue[-1]))


_READERS: Final[dict[str, Callable[[Line, dict[str, Any]], Iterator[Happening]]]] = {
    "start": Line._start,  # noqa: SLF001 - the table of this file's own class
    "media": Line._media,  # noqa: SLF001 - the same
    "mark": Line._mark,  # noqa: SLF001 - the same
    "dtmf": Line._dtmf,  # noqa: SLF001 - the same
    "stop": Line._stop,  # noqa: SLF001 - the same
    "error": Line._error,  # noqa: SLF001 - the same
}


def _decoded(message: str | bytes) -> dict[str, Any] | None:
    try:
        content = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _number(value: object) -> int | None:
    """Return a number that is written as one or as text, as providers do both."""
    try:
        return int(value) if isinstance(value, str | int) else None
    except ValueError:
        return None


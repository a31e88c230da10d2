"""What the provider says: its messages in, events and the caller's audio out, without I/O.

The rules:

1. A call begins with its first ``start``. Before it nothing has a meaning, a second one neither.
2. What cannot be read or has no place is told as `LineProblem` and changes nothing. Words that are
   not known are ignored.
3. The caller's audio is passed on in the order of its numbers. What comes early waits for at most
   `_EARLY` messages, then what is missing is given up; what comes late or twice is dropped. Where
   numbers begin anew, they are followed after as many.

What we say is in ``_playout.py``.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec
import pybase64

from realtime_bus import events as ev
from realtime_bus.audio import sample_width

from ._events import CallInfo, CallStalled, DtmfReceived, LineProblem, ProblemKind
from ._formats import Kind, StreamFormat, at
from ._playout import Playout, Position

MAX_MESSAGE_BYTES: Final = 65_536
"""Six seconds of µ-law: a larger message is not read."""

_ALIVE_S = 1.0
_EARLY = 3
_MAX_PARAMETERS = 64


class Heard(NamedTuple):
    """A mark came back."""

    positions: list[Position]


class Stopped(NamedTuple):
    """The provider says that the call is over."""


Happening: TypeAlias = ev.BusEvent | bytes | Heard | Stopped
"""What comes of a message; bytes are the caller's audio."""


class Line:
    """A call's line.

    Args:
        stream_format: How the provider speaks.
        mark_ms: How much audio there is between two marks.
        stall_s: After how much silence of the line to say so.
        clock: Returns seconds; any zero point.

    Attributes:
        call: What the provider said of the call, None before it began.
        playout: What it plays, None before it began.
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
        self.playout: Playout | None = None
        self.refused: str | None = None
        self._format = stream_format
        self._mark_ms = mark_ms
        self._stall_s = stall_s
        self._clock = clock
        self._problems: Counter[ProblemKind] = Counter()
        self._came_s = clock()
        self._stalled = False
        self._next_chunk: int | None = None
        self._early: dict[int, bytes] = {}
        self._late = 0
        self._readers: dict[Kind, Callable[[dict[str, Any]], Iterator[Happening]]] = {
            "start": self._start,
            "media": self._media,
            "mark": self._mark,
            "dtmf": self._dtmf,
            "stop": self._stop,
            "error": self._error,
        }

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
                yield from self._readers[kind](content)

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
        self.playout = Playout(wire, self.call, mark_ms=self._mark_ms, clock=self._clock)

    def _parameters(self, content: dict[str, Any]) -> dict[str, str]:
        """Return the application's own parameters, however they are written."""
        wire = self._format
        found = at(content, wire.parameters)
        if wire.parameters is None:
            found = {k: v for k, v in content.items() if k not in {"event", wire.encoding[0]}}
        elif isinstance(found, str):
            pairs = (each.partition("=") for each in re.split("[;,]", found) if "=" in each)
            found = _decoded(found) or {key.strip(): value.strip() for key, _, value in pairs}
        if not isinstance(found, dict):
            return {}
        kept = islice(cast("dict[str, object]", found).items(), _MAX_PARAMETERS)
        return {key: _text(value) for key, value in kept}

    def _media(self, content: dict[str, Any]) -> Iterator[Happening]:
        wire = self._format
        payload = at(content, wire.payload)
        if (at(content, wire.track) or "inbound") != "inbound":
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
        elif len(audio) % sample_width(self.call.input_format):
            yield self.problem("malformed", f"{len(audio)} bytes are no whole samples")
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
        if self.playout is not None and isinstance(name, str):
            heard = self.playout.come_back(name)
            if heard is not None:
                yield Heard(heard)

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

    # --- time --------------------------------------------------------------------------------

    def tick(self) -> Iterator[Happening]:
        """Yield what time has brought about; call it some times a second."""
        silent_s = self._clock() - self._came_s
        if silent_s >= self._stall_s and not self._stalled:
            self._stalled = True
            yield CallStalled(silent_s=silent_s)
        if self.playout is None or silent_s >= _ALIVE_S:
            return
        if overdue := self.playout.overdue():
            yield self.problem("mark_lost", f"{len(overdue)} marks did not come back")
            yield Heard(self.playout.come_back(overdue[-1]) or [])


def _decoded(message: str | bytes) -> dict[str, Any] | None:
    try:
        content = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return cast("dict[str, Any]", content) if isinstance(content, dict) else None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


def _number(value: object) -> int | None:
    """Return a number that is written as one or as text, as providers do both."""
    try:
        return int(value) if isinstance(value, str | int) else None
    except ValueError:
        return None

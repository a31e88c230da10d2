"""The connections of a recording, frame by frame, as both sides of a conversation need them.

Rules:

1. A recording is one connection, or several: one was lost (``bus.reconnecting``), replaced before
   the server's limit (``bus.reconnected``), or there is a second ``session.created``.
2. What a later connection begins with comes before it has taken over: its lines are ``aside``.
   One of which the beginning was not recorded is not greeted (`RecordedConnection.greeted`).
   What is ``aside`` later is the library's own, such as an item that is replaced by what was heard
   of it, and its answers; or what a connection still brings that was replaced, and is left out.
3. So that an hour can be held, bytes are kept only of the side that is played; of the other side's
   deltas only the first of a stream, and of its microphone only how much it had brought.
4. Audio that was left out is silence of the same length.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

from realtime_bus.errors import CloseInfo
from realtime_bus.log import get_logger
from realtime_bus.recording._format import Ended, Left, Line, Received, Sent, Told

_log = get_logger("realtime_bus.recording")

Side: TypeAlias = Literal["client", "server"]

APPENDS: Final = frozenset({"input_audio_buffer.append", "session.input_audio_buffer.append"})
"""What brings the microphone's audio."""

_BY_CLIENT: Final = (1000, 1005)  # a server that closes has a reason
_ABOUT_ITEMS: Final = tuple(
    f"conversation.item.{what}" for what in ("added", "created", "done", "deleted")
)
_GREETINGS: Final = ("session.created", "transcription_session.created")
_MAX_LEVELS: Final = 100
_OF_A_STREAM: Final = ("type", "response_id", "item_id", "output_index", "content_index")
_PAYLOAD: Final = ("delta", "audio")
_SILENCE: Final = {"audio/pcmu": b"\xff", "audio/pcma": b"\xd5"}
_DIRECTIONS: Final[tuple[tuple[Side, str], ...]] = (("client", "input"), ("server", "output"))
_PCM_BYTES_PER_MS: Final = 48
_G711_BYTES_PER_MS: Final = 8


class Frame(msgspec.Struct, kw_only=True):
    """One frame of a connection.

    Attributes:
        index: Its place in the connection, both directions counted.
        t_us: Microseconds since the recording began.
        side: Who has sent it.
        type: The event's ``type``; empty if it has none.
        said: The event, but for what a delta brings; None for an append, and if it is no event.
        raw: Its bytes; empty on the side that is not played.
        heard_ms: How much the microphone had brought before it.
        silence: A byte of silence, where audio was left out.
        silent_bytes: How much of it.
        ends: Whether it is no frame, but the connection's end.
    """

    index: int
    t_us: int
    side: Side
    type: str = ""
    said: dict[str, Any] | None = None
    raw: bytes = b""
    heard_ms: float = 0.0
    silence: bytes = b""
    silent_bytes: int = 0
    ends: bool = False

    @property
    def is_delta(self) -> bool:
        """Whether it is a piece of a stream."""
        return self.type.endswith(".delta")

    def frame(self) -> bytes:
        """Return what goes over the wire, with silence in the place of audio that was left out."""
        if not self.silence:
            return self.raw
        event = msgspec.json.decode(self.raw)
        _fill(event, b64encode(self.silence * self.silent_bytes).decode())
        return msgspec.json.encode(event)


class RecordedConnection(msgspec.Struct, kw_only=True):
    """One connection of a recording.

    Attributes:
        frames: Its frames, in order; the last one is its end, by whom it was ended.
        close: How it ended; None if the recording was cut off.
        greeted: Whether it begins with the server's greeting.
    """

    frames: list[Frame]
    close: CloseInfo | None = None
    greeted: bool = True


class AudioClock:
    """Count the microphone's audio, in the format that the session has.

    A client that chooses one sends it from then on: what the server says of the time before it
    knew of that comes later, and changes nothing.

    Attributes:
        heard_ms: How much there was.
    """

    def __init__(self) -> None:
        self.heard_ms: float = 0.0
        self._bytes_per_ms: int = _PCM_BYTES_PER_MS
        self._silence = b"\0"
        self._is_chosen = False

    def see(self, event: dict[str, Any]) -> float:
        """Take an event of either side; return how many milliseconds of audio it brings."""
        kind = type_of(event)
        if kind in APPENDS:
            audio = event.get("audio")
            size = len(audio) * 3 // 4 - audio[-2:].count("=") if isinstance(audio, str) else 0
            return self.add(size)
        if kind in ("session.update", "session.created", "session.updated"):
            name = _audio_format(event, "input")
            is_choice = kind == "session.update"
            if name is not None and (is_choice or not self._is_chosen):
                self._is_chosen = is_choice
                is_g711 = name in _SILENCE
                self._bytes_per_ms = _G711_BYTES_PER_MS if is_g711 else _PCM_BYTES_PER_MS
                self._silence = _SILENCE.get(name, b"\0")
        return 0.0

    def silence(self, ms: int) -> bytes:
        """Return so much silence."""
        return self._silence * (ms * self._bytes_per_ms)

    def add(self, size_bytes: int) -> float:
        """Take so many bytes of audio; return their milliseconds."""
        ms = size_bytes / self._bytes_per_ms
        self.heard_ms += ms
        return ms


def read_connections(lines: Iterable[Line], plays: Side) -> list[RecordedConnection]:
    """Return a recording's connections; the bytes of one side only.

    Args:
        lines: The recording.
        plays: Whose bytes are kept.
    """
    return list(_Reader(plays).read(lines))


class _Reader:
    def __init__(self, plays: Side) -> None:
        self._plays: Side = plays
        self._connection = RecordedConnection(frames=[], greeted=False)
        self._begun: list[Received | Sent] = []  # the next one, which has not taken over yet
        self._is_lost = False  # whether there is none at the moment
        self._clock = AudioClock()
        self._streams: set[tuple[object, ...]] = set()
        self._greetings = 0
        self._silence: dict[Side, bytes] = {"client": b"\0", "server": b"\0"}

    def read(self, lines: Iterable[Line]) -> Iterator[RecordedConnection]:
        for line in lines:
            match line:
                case Received() | Sent() if line.aside:
                    yield from self._take_aside(line)
                case Received() | Sent():
                    yield from self._take(line)
                case Told(type="bus.reconnecting") if line.event.get("attempt") == 1:
                    told, self._is_lost = line.event, True
                    code = told["code"] if isinstance(told.get("code"), int) else 1006
                    reason = str(told.get("reason", ""))
                    close = CloseInfo(code=code, reason=reason, clean=code != 1006)
                    yield from self._next(close, line.t_us)
                case Told(type="bus.reconnected"):
                    if line.event.get("cause") == "rollover":
                        close = CloseInfo(code=1000, reason="", clean=True)
                        yield from self._next(close, line.t_us)
                    begun, self._begun, self._is_lost = self._begun, [], False
                    for each in begun:
                        yield from self._take(each)
                case Left():
                    why = line.why or "lines came faster than they could be written"
                    _log.warning("something is missing in the recording", why=why)
                case Ended():
                    close = CloseInfo(code=line.code, reason=line.reason, clean=line.clean)
                    self._end(close, line.t_us)
                case _:
                    pass
        yield self._connection

    def _take_aside(self, line: Received | Sent) -> Iterator[RecordedConnection]:
        greets = self._is(line, _GREETINGS)
        if greets:
            self._begun.clear()  # the one before came to nothing
        if greets or self._begun or self._is_lost:
            self._begun.append(line)
        elif isinstance(line, Sent) or self._is(line, _ABOUT_ITEMS):
            yield from self._take(line)

    def _end(self, close: CloseInfo, t_us: int) -> None:
        self._connection.close = close
        frames = self._connection.frames
        side: Side = "client" if close.code in _BY_CLIENT else "server"
        heard_ms = self._clock.heard_ms
        end = Frame(index=len(frames), t_us=t_us, side=side, heard_ms=heard_ms, ends=True)
        frames.append(end)

    def _next(self, close: CloseInfo, t_us: int) -> Iterator[RecordedConnection]:
        self._end(close, t_us)
        yield self._connection
        self._connection = RecordedConnection(frames=[], greeted=False)
        self._clock.heard_ms, self._greetings = 0.0, 0
        self._streams.clear()

    def _take(self, line: Received | Sent) -> Iterator[RecordedConnection]:
        side: Side = "client" if isinstance(line, Sent) else "server"
        raw = _data(line)
        event = event_of(raw)
        if side == "server" and event is not None and type_of(event) in _GREETINGS:
            if self._greetings:
                yield from self._next(CloseInfo(code=1006, reason="", clean=False), line.t_us)
            self._greetings += 1
            self._connection.greeted = True
        self._add(line, side, raw, event)

    def _add(
        self, line: Received | Sent, side: Side, raw: bytes, event: dict[str, Any] | None
    ) -> None:
        frames = self._connection.frames
        frame = Frame(index=len(frames), t_us=line.t_us, side=side, heard_ms=self._clock.heard_ms)
        if event is not None:
            frame.type = type_of(event)
            brought_ms = self._clock.see(event)
            if frame.type.startswith("session."):
                self._note_silence(event)
            if line.audio_bytes:
                frame.silence, frame.silent_bytes = self._silence[side], line.audio_bytes
                if frame.type in APPENDS and not brought_ms:
                    self._clock.add(line.audio_bytes)
            if frame.is_delta:
                event = {name: value for name, value in event.items() if name not in _PAYLOAD}
            if frame.type not in APPENDS:
                frame.said = event
        if side == self._plays:
            frame.raw = raw
        elif frame.type in APPENDS or self._goes_on(frame):
            return
        frames.append(frame)

    def _goes_on(self, frame: Frame) -> bool:
        """Tell whether it is a piece of a stream of which there is one already."""
        if not frame.is_delta:
            return False
        stream = stream_of(frame.said)
        if stream in self._streams:
            return True
        self._streams.add(stream)
        return False

    def _is(self, line: Received | Sent, kinds: Sequence[str]) -> bool:
        event = event_of(_data(line)) if isinstance(line, Received) else None
        return event is not None and type_of(event) in kinds

    def _note_silence(self, event: dict[str, Any]) -> None:
        for side, direction in _DIRECTIONS:
            name = _audio_format(event, direction)
            if name is not None:
                self._silence[side] = _SILENCE.get(name, b"\0")


def _data(line: Received | Sent) -> bytes:
    try:
        return line.data
    except ValueError:  # it was to be base64
        return b""


def event_of(raw: bytes) -> dict[str, Any] | None:
    """Return a frame as data; None if it is no JSON object, or is nested too deep for one."""
    try:
        event = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    levels_at_most = raw.count(b"{") + raw.count(b"[")
    flat = levels_at_most <= _MAX_LEVELS or _is_flat(event)
    return cast("dict[str, Any]", event) if flat else None


def stream_of(said: dict[str, Any] | None) -> tuple[object, ...]:
    """Return what the deltas of one stream have in common."""
    return tuple(repr(None if said is None else said.get(name)) for name in _OF_A_STREAM)


def type_of(event: dict[str, Any]) -> str:
    """Return an event's type; empty if it has none."""
    kind = event.get("type")
    return kind if isinstance(kind, str) else ""


def _is_flat(value: Any, levels: int = _MAX_LEVELS) -> bool:
    if isinstance(value, dict):
        inside: Iterable[Any] = cast("dict[str, Any]", value).values()
    elif isinstance(value, list):
        inside = cast("Sequence[Any]", value)
    else:
        return True
    return levels > 0 and all(_is_flat(each, levels - 1) for each in inside)


def _audio_format(event: dict[str, Any], direction: str) -> str | None:
    """Return the name of a direction's format, where an event of the session has one."""
    place: Any = event
    for step in ("session", "audio", direction, "format", "type"):
        if not isinstance(place, dict):
            return None
        place = cast("dict[str, Any]", place).get(step)
    return place if isinstance(place, str) else None


def _fill(event: Any, audio: str) -> None:
    """Put audio where it was left out."""
    if isinstance(event, list):
        for element in cast("Sequence[Any]", event):
            _fill(element, audio)
    elif isinstance(event, dict):
        members = cast("dict[str, Any]", event)
        kind = str(members.get("type", ""))
        for name, value in members.items():
            if value == "" and (name == "audio" or (name == "delta" and "audio" in kind)):
                members[name] = audio
            else:
                _fill(value, audio)

"""A phone call: Twilio Media Streams and its relatives, in any Starlette or FastAPI application.

::

    @app.websocket("/twilio")
    async def answer(websocket: WebSocket) -> None:
        await websocket.accept()
        async with PhoneCall(websocket) as call:
            plugins = [call, Interruption(call)]
            async with bus.connect("gpt-realtime-2.1", plugins=plugins, **call.settings) as session:
                session.respond(instructions="Greet the caller.")
                await session.wait_closed()

A call is source and sink of a session: what the caller says goes to the server, what the server
says goes to the line, in the line's own encoding. How a provider speaks is data, a `StreamFormat`;
what its messages come to is decided in ``_telephony/_line.py``, what it is sent in
``_telephony/_playout.py``; both open with their rules.
"""

from __future__ import annotations

from collections import deque
from contextlib import AbstractAsyncContextManager
from math import inf
from types import TracebackType
from typing import Final, Self

import anyio

from realtime_bus import Session, SessionClosed, SessionSettings, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import (
    AcknowledgedSink,
    AudioPiece,
    PlayedItem,
    SessionSlot,
    bytes_per_ms,
    feed_sink,
)
from realtime_bus.events import AudioFormat, AudioPCM

from ._playback import Recoding
from ._telephony import (
    PLIVO,
    TELNYX,
    TWILIO,
    VONAGE,
    CallEnded,
    CallInfo,
    CallStalled,
    CallStarted,
    Connection,
    DtmfReceived,
    Happening,
    Heard,
    Line,
    LineProblem,
    NoCall,
    Playout,
    ProblemKind,
    StreamFormat,
    WebSocketLike,
)

__all__ = [
    "PLIVO",
    "TELNYX",
    "TWILIO",
    "VONAGE",
    "CallEnded",
    "CallInfo",
    "CallStalled",
    "CallStarted",
    "DtmfReceived",
    "LineProblem",
    "NoCall",
    "PhoneCall",
    "ProblemKind",
    "StreamFormat",
    "WebSocketLike",
]

_PIECE_MS: Final = 100
_CHANGE_S: Final = 2.0
_KEPT_EVENTS: Final = 32
_WAY = "async with PhoneCall(websocket) as call: ... plugins=[call, Interruption(call)]"


class PhoneCall:
    """A phone call as source, sink and plugin; it lives as long as its ``async with`` block.

    The block begins when the provider has said whose call it is. It ends the call: the connection
    is closed, and the provider goes on as it was told to (Twilio with what follows ``<Connect>``),
    or hangs up. When the caller hangs up, the session is closed; a `SessionClosed` that the block
    raises for it is no error and ends here.

    One session at a time is attached; another may follow it in the same call.

    What was played is what the provider has acknowledged: an interruption is truncated at most
    ``mark_ms`` before what had been played when the latest mark was sent, and never behind it.

    Emits `CallStarted`, `CallEnded`, `DtmfReceived`, `CallStalled` and `LineProblem`.

    Args:
        websocket: The provider's connection, accepted.
        stream_format: How the provider speaks: `TWILIO`, `TELNYX`, `VONAGE`, `PLIVO`, or your own.
        mark_ms: How much audio there is between two marks; each is a message and comes back.
        input_limit_s: How much of the caller's audio may wait for the session; beyond it the
            oldest is dropped, for late speech is worth less than new speech.
        start_timeout_s: How long to wait for the call's start.
        stall_s: After how much silence of the line `CallStalled` is emitted.

    Attributes:
        dropped_bytes: How much of the caller's audio was dropped.
    """

    def __init__(
        self,
        websocket: WebSocketLike,
        stream_format: StreamFormat = TWILIO,
        *,
        mark_ms: int = 20,
        input_limit_s: float = 2.0,
        start_timeout_s: float = 10.0,
        stall_s: float = 5.0,
    ) -> None:
        self.dropped_bytes: int = 0
        self._input_limit_s = input_limit_s
        self._line = Line(stream_format, mark_ms=mark_ms, stall_s=stall_s, clock=anyio.current_time)
        self._connection = Connection(
            websocket,
            self._line,
            start_timeout_s=start_timeout_s,
            take=self._take,
            tick=self._tick,
        )
        self._sink = AcknowledgedSink(
            send=self._play, clear=self._clear, piece_ms=max(_PIECE_MS, mark_ms)
        )
        self._slot = SessionSlot(self, _WAY)
        self._context: AbstractAsyncContextManager[None] | None = None
        self._session: Session | None = None
        self._told: deque[ev.BusEvent] = deque(maxlen=_KEPT_EVENTS)  # before there was a session
        self._connected = False
        self._quiet = anyio.Event()
        self._input: deque[bytes] = deque()
        self._input_bytes = 0
        self._input_limit_bytes: float = inf  # until the encoding is known
        self._to_append = anyio.Event()
        self._settled = anyio.Event()  # no change of settings is under way
        self._settled.set()
        self._recoding = Recoding(AudioPCM(), AudioPCM())  # of what we play, if it must be
        self._unfinished: AudioPiece | None = None

    # --- the call ----------------------------------------------------------------------------

    @property
    def info(self) -> CallInfo:
        """What the provider said of the call.

        Raises:
            UsageError: The call has not begun.
        """
        if self._line.call is None:
            raise UsageError(f"the call has not begun; write {_WAY}")
        return self._line.call

    @property
    def _playout(self) -> Playout:
        if self._line.playout is None:
            raise UsageError(f"the call has not begun; write {_WAY}")
        return self._line.playout

    @property
    def settings(self) -> SessionSettings:
        """The audio formats that a session has to have for this line, for ``**call.settings``.

        G.711 and PCM16 at 24 kHz pass through untouched. A session that has others works, too;
        then what does not fit is converted.
        """
        return {
            "input_format": _session_format(self.info.input_format),
            "output_format": _session_format(self.info.output_format),
        }

    @property
    def ended(self) -> CallEnded | None:
        """How the caller's side ended the call, or None."""
        return self._connection.ended

    async def wait_ended(self) -> CallEnded:
        """Wait until the caller is gone, and return how."""
        await self._connection.over.wait()
        assert self.ended is not None  # noqa: S101  # set before the event is
        return self.ended

    async def wait_played(self) -> None:
        """Wait until all that was written was heard, or nobody is there to hear it.

        For a farewell: ``await call.wait_played()``, then leave the session and the call.
        """
        while self._sink.playing and self.ended is None:
            if self._quiet.is_set():  # several may wait for the same
                self._quiet = anyio.Event()
            await self._quiet.wait()

    async def __aenter__(self) -> Self:
        if self._context is not None:
            raise UsageError("a PhoneCall can be entered once; make one for each connection")
        self._context = self._connection.hold()
        await self._context.__aenter__()
        per_s = 1000 * bytes_per_ms(self.info.input_format)
        self._input_limit_bytes = self._input_limit_s * per_s
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._context is not None  # noqa: S101  # entered
        return await self._context.__aexit__(exc_type, exc, traceback)

    # --- what comes of the line --------------------------------------------------------------

    def _take(self, happening: Happening) -> None:
        match happening:
            case bytes():
                self._said(happening)
            case Heard(positions):
                for item_id, content_index, ms in positions:
                    self._sink.on_played(item_id, ms, content_index=content_index)
                self._connection.wake()  # there may be room for more
                if not self._sink.playing:
                    self._quiet.set()
            case CallEnded():
                self._quiet.set()
                self._tell(happening)
                if self._session is not None and self._connected:
                    self._session.start_soon(self._session.aclose)
            case ev.BusEvent():
                self._tell(happening)
            case _:
                pass

    def _tell(self, event: ev.BusEvent) -> None:
        """Emit an event in the session, or keep it until there is one."""
        if isinstance(event, LineProblem) and str(event.count).strip("0") != "1":
            return  # the 1st, 10th, 100th … is told
        if self._session is not None and self._connected:
            self._session.emit(event)
        else:
            self._told.append(event)

    def _tick(self) -> None:
        if self._playout.is_dry:
            self._finish()

    # --- the session -------------------------------------------------------------------------

    def attach(self, session: Session) -> None:
        """Take the call into a session, one at a time.

        Raises:
            UsageError: The call has not begun, or a session has it.
        """
        _ = self.info
        self._slot.take(session)
        self._session = session
        self._connected = False
        session.on_close(self._detach)
        feed_sink(session, self)
        session.on(ev.ResponseOutputAudioDone)(self._audio_done)
        session.intercept_outgoing(ev.SessionUpdate, self._format_changes)
        session.on(ev.SessionUpdated, ev.Error)(self._format_changed)
        session.on(ev.Connected)(self._begin)
        session.start_soon(self._append, session)

    def _detach(self) -> None:
        self._session = None
        self._connected = False

    def _begin(self, event: ev.Connected, session: Session) -> None:  # noqa: ARG002 - a handler
        self._connected = True
        session.emit(CallStarted(info=self.info))
        while self._told:
            session.emit(self._told.popleft())
        self._to_append.set()
        if self.ended is not None:
            session.start_soon(session.aclose)

    # --- what the caller says ----------------------------------------------------------------

    def _said(self, audio: bytes) -> None:
        """Queue the caller's audio for the session."""
        if not audio:
            return
        self._input.append(audio)
        self._input_bytes += len(audio)
        if self._input_bytes > self._input_limit_bytes:
            self._drop_oldest()
        self._to_append.set()

    def _drop_oldest(self) -> None:
        while self._input_bytes > self._input_limit_bytes and len(self._input) > 1:
            oldest = len(self._input.popleft())
            self._input_bytes -= oldest
            self.dropped_bytes += oldest
        if self._connected:  # before, nobody could take it
            self._tell(self._line.problem("dropped", "the session takes audio too slowly"))

    async def _append(self, session: Session) -> None:
        """Hand the caller's audio to the session, in the format that is in force."""
        recoding: Recoding | None = None
        while True:
            self._to_append = anyio.Event()
            if not self._settled.is_set():
                with anyio.move_on_after(_CHANGE_S):
                    await self._settled.wait()
                self._settled.set()
            if self._connected and self._input:
                audio = b"".join(self._input)
                self._input.clear()
                self._input_bytes = 0
                wanted = session.settings.input_format
                if recoding is None or recoding.target != wanted:
                    recoding = Recoding(self.info.input_format, wanted)
                try:
                    await session.append_audio(recoding.convert(audio))
                except SessionClosed:
                    return  # the session's end cancels this task, too; it may be seen here first
            else:
                await self._to_append.wait()

    def _format_changes(self, event: ev.SessionUpdate, session: Session) -> ev.SessionUpdate:  # noqa: ARG002 - an interceptor
        """Hold audio back: until the update is confirmed, nobody knows how it will be read."""
        self._settled = anyio.Event()
        return event

    def _format_changed(self, event: ev.SessionUpdated | ev.Error) -> None:  # noqa: ARG002 - a handler
        self._settled.set()

    # --- what the caller hears: an AudioSink -------------------------------------------------

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of what is written next."""
        self._sink.start(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Send audio of an item to the line, behind what it has."""
        self._sink.write(audio, item_id=item_id, content_index=content_index)

    def flush(self) -> list[PlayedItem]:
        """Have the line fall silent, and return what was playing or queued, as acknowledged."""
        return self._sink.flush()

    def positions(self) -> list[PlayedItem]:
        """Return the same as `flush` would, without stopping anything."""
        return self._sink.positions()

    @property
    def playing(self) -> bool:
        """Whether something was sent that the line has not played."""
        return self._sink.playing

    def _play(self, piece: AudioPiece) -> None:
        wire_format = self.info.output_format
        recoding = self._recoding
        if (recoding.source, recoding.target) != (piece.audio_format, wire_format):
            recoding = self._recoding = Recoding(piece.audio_format, wire_format)
        audio = recoding.convert(piece.audio)
        self._unfinished = piece
        end_ms = max(0, piece.end_ms - recoding.lag_ms)
        self._playout.play(audio, piece.item_id, piece.content_index, end_ms)
        self._connection.wake()

    def _finish(self) -> None:
        """Send what is still held back: whoever says so, nothing more comes for now."""
        piece, self._unfinished = self._unfinished, None
        if piece is not None:
            rest = self._recoding.flush()
            self._playout.play(rest, piece.item_id, piece.content_index, piece.end_ms)
            self._playout.finish()
            self._connection.wake()

    def _clear(self) -> None:
        self._unfinished = None
        self._recoding.flush()
        self._playout.clear()
        self._connection.wake()
        self._quiet.set()

    def _audio_done(self, event: ev.ResponseOutputAudioDone) -> None:  # noqa: ARG002 - a handler
        self._finish()


def _session_format(wire_format: AudioFormat) -> AudioFormat:
    """Return what a session has to speak: the same, or PCM16 at the only rate that it has."""
    return AudioPCM() if isinstance(wire_format, AudioPCM) else wire_format

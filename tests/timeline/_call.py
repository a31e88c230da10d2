"""A call in virtual time: an agent with a tool and a loudspeaker, and a tape of it in memory."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, PlayedItem
from realtime_bus.recording import Ended, Flushed, Header, Line, Played, Received, Sent, Told
from realtime_bus.server import (
    EnergyDetector,
    RealtimeServer,
    ResponderRequest,
    ServerOptions,
    Speech,
    Text,
    ToolCall,
)
from realtime_bus_plugins.interruption import PlaybackInterrupted, PlaybackStarted
from realtime_bus_plugins.tools import Tools

LOUD = (b"\x00\x30" + b"\x00\xd0") * 240  # 20 ms of a square wave, PCM16 at 24 kHz
SILENT = bytes(len(LOUD))
LOOK_S = 0.1


def voice(seconds: float) -> bytes:
    """Return audio whose samples say where they are: a ramp of 1000 samples, never 0."""
    ramp = struct.pack("<1000h", *range(1, 1001))
    return (ramp * round(24 * seconds))[: round(seconds * 48_000)]


class Cook:
    """Call a tool first, then talk for four seconds, then for one."""

    async def respond(self, request: ResponderRequest) -> AsyncIterator[Speech | ToolCall | Text]:
        """Answer by the number of the response."""
        if not request.wants_audio:
            yield Text("Four eggs.")
        elif request.response_index == 0:
            yield ToolCall("set_timer", '{"minutes":9}', call_id="call_1")
        else:
            for index in range(20 if request.response_index == 1 else 5):
                yield Speech(voice(0.2), f"word{index} ")

    def transcript(self, turn_index: int, audio: bytes) -> str | None:  # as asked
        """Return what the person might have said."""
        return f"turn {turn_index}"


def cook_server(pace: float = 4) -> RealtimeServer:
    """Return a server that hears loud and silent, and answers as the cook does."""
    return RealtimeServer(Cook(), options=ServerOptions(pace=pace), detector_factory=EnergyDetector)


def tools() -> Tools:
    """Return a tool that takes 300 ms."""
    found = Tools()

    @found.tool
    async def set_timer(minutes: float) -> str:
        """Start a kitchen timer."""
        await anyio.sleep(0.3)
        return f"{minutes:g} min"

    return found


class Tape:
    """Records a session into memory, on its own clock.

    Args:
        sink: What plays, to note what was heard.
        looks: Whether to look at its positions, ten times a second at most.

    Attributes:
        lines: The recording.
    """

    def __init__(self, sink: AudioSink | None = None, *, looks: bool = True) -> None:
        self.lines: list[Line] = []
        self._sink = sink
        self._looks = looks
        self._looked_s = 0.0
        self._began_s = 0.0
        self._session: Session | None = None

    def now_us(self) -> int:
        """Return the time since the beginning."""
        assert self._session is not None
        return round((self._session.clock() - self._began_s) * 1e6)

    def ms_of(self, clock_s: float) -> float:
        """Return a moment of the session's clock as one of the recording."""
        return (clock_s - self._began_s) * 1000

    def attach(self, session: Session) -> None:
        """Record a session."""
        self._session, self._began_s = session, session.clock()
        self.lines.append(Header(t_us=0, recording_id="tape", started_at="2026-01-01T00:00:00Z"))
        session.tap(
            received=lambda frame: self._note(Received, frame),
            sent=lambda frame: self._note(Sent, frame),
        )
        session.on("bus.*")(self._told)
        session.on_close(self._ended)

    def _note(self, kind: type[Received | Sent], frame: bytes) -> None:
        now_us = self.now_us()
        self.lines.append(kind(t_us=now_us, frame=msgspec.Raw(frame)))
        if now_us / 1e6 >= self._looked_s + LOOK_S:
            self._looked_s = now_us / 1e6
            self._look()

    def _look(self) -> None:
        if self._sink is not None and self._looks:
            self.lines.append(Played(t_us=self.now_us(), items=self._sink.positions()))

    def _told(self, event: Any) -> None:
        if self._sink is not None and isinstance(event, PlaybackInterrupted):
            items = [
                PlayedItem(
                    item_id=item.item_id,
                    content_index=item.content_index,
                    played_ms=item.played_ms,
                    written_ms=item.received_ms,
                )
                for item in event.items
            ]
            self.lines.append(Flushed(t_us=self.now_us(), items=items))
        fields = msgspec.to_builtins(event, enc_hook=repr)
        self.lines.append(Told(t_us=self.now_us(), type=fields.pop("type"), event=fields))
        if isinstance(event, PlaybackStarted):
            self._look()

    def _ended(self) -> None:
        assert self._session is not None
        close = self._session.close_info
        assert close is not None
        self.lines.append(Ended(t_us=self.now_us(), code=close.code, clean=close.clean))


class Person:
    """Sends 20 ms at a time, in real time, as a microphone does: when they have been said.

    Attributes:
        said: All that was sent.
        began_s: When it began to be said, on the session's clock.
    """

    def __init__(self, session: Session) -> None:
        self.said = bytearray()
        self.began_s = session.clock()
        self._session = session

    async def does(self, *parts: tuple[str, int]) -> None:
        """Speak and be silent for so many ms, in turn."""
        for what, ms in parts:
            for _ in range(ms // 20):
                await anyio.sleep(0.02)
                chunk = LOUD if what == "speaks" else SILENT
                self.said += chunk
                await self._session.send(ev.InputAudioBufferAppend(audio=chunk))


@asynccontextmanager
async def call(*plugins: Any, server: RealtimeServer | None = None) -> AsyncGenerator[Session]:
    """Hold a call without a socket."""
    bus = Bus(plugins=plugins, raise_handler_errors=True)
    async with (server or cook_server()).connect_memory() as transport, bus.session(transport) as s:
        await s.update(transcription=ev.Transcription(model="whisper-1"))
        yield s

"""An agent with a tool and a loudspeaker, and a person who talks to it; in virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.recording import Ended, Header, Line, Received, Sent, Told
from realtime_bus.server import (
    EnergyDetector,
    RealtimeServer,
    ResponderRequest,
    ServerOptions,
    Speech,
    ToolCall,
)
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.tools import Tools

LOUD = (b"\x00\x30" + b"\x00\xd0") * 12  # 1 ms of a 12 kHz square wave, PCM16 at 24 kHz
PERSON = [("silent", 300), ("speaks", 500), ("silent", 1460), ("speaks", 500), ("silent", 1500)]


class Cook:
    """Call a tool first; then talk for four seconds; then shortly."""

    async def respond(self, request: ResponderRequest) -> AsyncGenerator[Speech | ToolCall, None]:
        """Answer by the number of the response."""
        if request.response_index == 0:
            yield ToolCall("set_timer", '{"minutes":9}')
            return
        seconds = 4 if request.response_index == 1 else 1
        for index in range(seconds * 5):
            yield Speech(b"\x10\x00" * 4800, f"word{index} ")

    def transcript(self, turn_index: int, audio: bytes) -> str | None:
        """Return what nobody has said."""
        return f"turn {turn_index}"


class Agent:
    """What a session showed of it: tool calls, captions, truncations, errors.

    Args:
        tool_s: How long its tool takes.

    Attributes:
        told: What was noted, in order.
        sent: The types of what was sent, but for audio.
    """

    def __init__(self, *, tool_s: float = 0.0) -> None:
        self.told: list[str] = []
        self.sent: list[str] = []
        self._more = anyio.Event()
        tools, self.speaker = Tools(), NullSink()

        @tools.tool
        async def set_timer(minutes: float) -> str:
            """Start a kitchen timer."""
            await anyio.sleep(tool_s)
            self._tell(f"timer {minutes:g}")
            return "started"

        self.plugins: list[Any] = [self.speaker, Interruption(self.speaker), tools, self]

    def attach(self, session: Session) -> None:
        """Take notes."""

        @session.on(ev.ResponseDone)
        def done(event: ev.ResponseDone) -> None:
            self._tell(f"done {event.response.status}")

        @session.on(ev.ResponseOutputAudioTranscriptDone)
        def caption(event: ev.ResponseOutputAudioTranscriptDone) -> None:
            self._tell(event.transcript)

        @session.on(ev.ConversationItemTruncated)
        def truncated(event: ev.ConversationItemTruncated) -> None:
            self._tell(f"truncated {event.audio_end_ms}")

        @session.on(ev.Error)
        def failed(event: ev.Error) -> None:
            self._tell(f"error {event.error.code}")

        session.intercept_outgoing("*", self._note)

    def _tell(self, what: str) -> None:
        self.told.append(what)
        self._more.set()
        self._more = anyio.Event()

    async def heard(self, what: str, *, times: int = 1) -> None:
        """Wait until something was told so often."""
        with anyio.fail_after(60):
            while self.told.count(what) < times:
                await self._more.wait()

    def _note(self, event: Any, _session: object) -> Any:
        if event.type != "input_audio_buffer.append":
            self.sent.append(event.type)
        return event


async def speak(session: Session, person: list[tuple[str, int]] | None = None) -> None:
    """Be the microphone, 20 ms at a time."""
    for what, ms in PERSON if person is None else person:
        for _ in range(ms // 20):
            audio = (LOUD if what == "speaks" else bytes(48)) * 20
            await session.send(ev.InputAudioBufferAppend(audio=audio))
            await anyio.sleep(0.02)


def cook_server(**options: Any) -> RealtimeServer:
    """Return the server that is recorded."""
    return RealtimeServer(
        Cook(), options=ServerOptions(pace=1, **options), detector_factory=EnergyDetector
    )


@asynccontextmanager
async def live(
    server: RealtimeServer, agent: Agent, plugins: list[Any] | None = None
) -> AsyncGenerator[Session]:
    """Connect an agent with a server."""
    bus = Bus(plugins=[*agent.plugins, *(plugins or ())])
    async with server.connect_memory() as transport, bus.session(transport) as session:
        await session.update(transcription=ev.Transcription(model="whisper-1"))
        yield session


class Tape:
    """A recorder into memory, on the clock of the event loop.

    Attributes:
        lines: The recording.
    """

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def attach(self, session: Session) -> None:
        """Record a session."""
        began_s = anyio.current_time()
        began = datetime.now(UTC)
        self.lines.append(Header(t_us=0, recording_id="tape", started_at=began.isoformat()))

        def t_us() -> int:
            return round((anyio.current_time() - began_s) * 1e6)

        def note(kind: type[Received | Sent], frame: bytes) -> None:
            self.lines.append(kind(t_us=t_us(), frame=msgspec.Raw(frame)))

        @session.on("bus.*")
        def told(event: Any) -> None:
            fields = msgspec.to_builtins(event, enc_hook=repr)
            self.lines.append(Told(t_us=t_us(), type=fields.pop("type"), event=fields))

        def ended() -> None:
            close = session.close_info
            assert close is not None
            self.lines.append(
                Ended(t_us=t_us(), code=close.code, reason=close.reason, clean=close.clean)
            )

        session.tap(
            received=lambda frame: note(Received, frame), sent=lambda frame: note(Sent, frame)
        )
        session.on_close(ended)


async def recorded(**options: Any) -> tuple[list[Line], Agent]:
    """Hold a conversation, and return its recording, and what the agent noted."""
    agent, tape = Agent(), Tape()
    async with live(cook_server(**options), agent, [tape]) as session:
        await speak(session)
    return tape.lines, agent

"""A session whose other side is the test, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from realtime_bus import Bus, Session, decode_client
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_s


class Wire:
    """What the server says and hears; every call is done when it returns."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.transport = PushTransport(send=self.frames.append)

    def feed(self, *events: ev.ServerEvent) -> None:
        """Let the server send events."""
        for event in events:
            self.transport.feed(event.to_json())

    @property
    def sent(self) -> list[Any]:
        """What the client has sent."""
        return [decode_client(frame) for frame in self.frames]

    def begin(
        self,
        *,
        output: ev.AudioFormat | None = None,
        source: ev.AudioFormat | None = None,
        detection: Any = None,
    ) -> None:
        """Send session.created."""
        audio = ev.AudioConfig(
            input=ev.AudioInputConfig(format=source, turn_detection=detection or ev.ServerVad()),
            output=ev.AudioOutputConfig(format=output),
        )
        self.feed(ev.SessionCreated(session=ev.RealtimeSession(id="sess_1", audio=audio)))

    def respond(self, response_id: str = "r", item_id: str = "a") -> None:
        """Begin a response with one spoken item."""
        item = ev.MessageItem(id=item_id, role="assistant", content=[])
        response = ev.Response(id=response_id, conversation_id="conv", status="in_progress")
        self.feed(
            ev.ResponseCreated(response=response),
            ev.ResponseOutputItemAdded(response_id=response_id, output_index=0, item=item),
            ev.ConversationItemAdded(item=item),
        )

    def speak(self, audio: bytes, response_id: str = "r", item_id: str = "a") -> None:
        """Send audio, and what is said in it."""
        place: dict[str, Any] = {
            "response_id": response_id,
            "item_id": item_id,
            "output_index": 0,
            "content_index": 0,
        }
        self.feed(
            ev.ResponseOutputAudioTranscriptDelta(**place, delta="word "),
            ev.ResponseOutputAudioDelta(**place, delta=audio),
        )

    def finish(self, response_id: str = "r", item_id: str = "a") -> None:
        """End the response."""
        done = ev.ResponseOutputAudioDone(
            response_id=response_id, item_id=item_id, output_index=0, content_index=0
        )
        response = ev.Response(id=response_id, conversation_id="conv", status="completed")
        self.feed(done, ev.ResponseDone(response=response))

    def interrupt(self) -> None:
        """Let the person speak."""
        self.feed(ev.InputAudioBufferSpeechStarted(audio_start_ms=1000, item_id="user"))


@asynccontextmanager
async def session_on(
    *plugins: Any, output: ev.AudioFormat | None = None, detection: Any = None
) -> AsyncGenerator[tuple[Session, Wire]]:
    """Open a session with plugins, and show the wire's other end."""
    wire = Wire()
    wire.begin(output=output, detection=detection)
    bus = Bus(plugins=plugins, raise_handler_errors=True)
    async with bus.session(wire.transport) as session:
        yield session, wire

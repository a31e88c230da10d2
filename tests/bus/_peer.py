"""A session whose other side is the test, which decides what the server says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from realtime_bus import Bus, Session, decode_client
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport

Answer = Callable[[Any], "Iterable[ev.ServerEvent] | None"]


class Peer:
    """The server: what it says, and what it was told.

    Attributes:
        sent: What the client has sent, decoded.
        answer: Called with each of them; what it returns is said at once.
        closed: With which code the client has closed, and why.
    """

    def __init__(self, answer: Answer | None = None) -> None:
        self.sent: list[Any] = []
        self.answer = answer
        self.closed: tuple[int, str] | None = None
        self.transport = PushTransport(send=self._take, close=self._close)

    def _take(self, frame: bytes) -> None:
        event = decode_client(frame)
        self.sent.append(event)
        if self.answer is not None:
            self.say(*(self.answer(event) or ()))

    def _close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def say(self, *said: ev.ServerEvent | bytes) -> None:
        """Send events, or frames as they are; inline handlers have run when this returns."""
        for one in said:
            self.transport.feed(one if isinstance(one, bytes) else one.to_json())

    def hang_up(self, code: int = 1006, reason: str = "gone") -> None:
        """End the connection."""
        self.transport.end(code, reason)


@asynccontextmanager
async def joined(
    bus: Bus | None = None, answer: Answer | None = None, **fields: Any
) -> AsyncGenerator[tuple[Session, Peer]]:
    """Open a session on a peer that has said ``session.created``."""
    peer = Peer(answer)
    peer.say(ev.SessionCreated(session=ev.RealtimeSession(id="sess_1")))
    async with (bus or Bus()).session(peer.transport, **fields) as session:
        yield session, peer


def speech(at_ms: int = 0) -> ev.InputAudioBufferSpeechStarted:
    """Make an event that tests can tell from others by a number."""
    return ev.InputAudioBufferSpeechStarted(audio_start_ms=at_ms, item_id="item_u")


def word(text: str, response_id: str = "resp_1") -> ev.ResponseOutputTextDelta:
    """Make one word of a response."""
    return ev.ResponseOutputTextDelta(
        response_id=response_id, item_id="item_a", output_index=0, content_index=0, delta=text
    )


def sound(audio: bytes, response_id: str = "resp_1") -> ev.ResponseOutputAudioDelta:
    """Make some audio of a response."""
    return ev.ResponseOutputAudioDelta(
        response_id=response_id, item_id="item_a", output_index=0, content_index=0, delta=audio
    )


def refusal(
    event_id: str | None = None, *, code: str | None = "invalid_value", **more: Any
) -> ev.Error:
    """Make a server's error."""
    details: dict[str, Any] = {"type": "invalid_request_error", "message": "no", **more}
    return ev.Error(error=ev.ErrorDetails(code=code, event_id=event_id, **details))


async def quiet() -> None:
    """Wait until every task waits for something: all that was said has been handled."""
    for _ in range(2):  # the end of an eager handler's task wakes its mailbox a turn later
        await anyio.wait_all_tasks_blocked()

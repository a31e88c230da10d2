"""Whole sessions with the local server, over each way to connect."""

from __future__ import annotations

import math
from array import array
from typing import Any

import anyio
import pytest

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.server import (
    EnergyDetector,
    RealtimeServer,
    ScriptResponder,
    ScriptTurn,
    ServerOptions,
)
from realtime_bus.transport import Dial, PushTransport, Transport

pytestmark = pytest.mark.anyio

LOUD = array("h", (int(16_000 * math.sin(i * 0.06)) for i in range(24_000))).tobytes()


@pytest.fixture
def anyio_backend(dialling: tuple[str, Dial]) -> str:
    """Run each test on the backend of its way to connect."""
    return dialling[0]


def make_server(**options: Any) -> RealtimeServer:
    """Return a server that talks for a while and hears by loudness."""
    return RealtimeServer(
        ScriptResponder([ScriptTurn(assistant="One two three four five six seven. " * 8)]),
        options=ServerOptions(**options),
        detector_factory=EnergyDetector,
    )


async def test_speech_overtakes_audio_whose_handler_is_slow(dialling: tuple[str, Dial]) -> None:
    """The start of speech is handled at once, in the order of the wire, before queued audio."""
    bus = Bus(drain_timeout_s=0.01)
    order: list[str] = []
    handled: list[bytes] = []
    behind: list[int] = []
    talking, heard, ended = anyio.Event(), anyio.Event(), anyio.Event()

    @bus.on(ev.ResponseOutputAudioDelta)
    async def play(event: ev.ResponseOutputAudioDelta) -> None:
        await heard.wait()  # as slow as can be
        handled.append(event.delta)

    @bus.on(ev.ResponseOutputAudioDelta)
    def count(event: ev.ResponseOutputAudioDelta) -> None:
        order.append("audio")
        talking.set()

    @bus.on(ev.InputAudioBufferSpeechStarted)
    def speech(event: ev.InputAudioBufferSpeechStarted) -> None:
        order.append("speech")
        behind.append(len(handled))
        heard.set()

    @bus.on(ev.ResponseDone)
    def done(event: ev.ResponseDone) -> None:
        order.append(f"done {event.response.status}")
        ended.set()

    async with make_server(pace=1.0).serve() as bound:
        url = bound.url_for("m")
        async with bus.connect(url, dial=dialling[1]) as session:
            session.send_nowait(ev.ResponseCreate())
            with anyio.fail_after(60):
                await talking.wait()
                await session.append_audio(LOUD)
                await ended.wait()
    assert behind == [0]
    assert order[0] == "audio"
    assert order.index("speech") < order.index("done cancelled")


async def test_an_application_may_dial_by_itself() -> None:
    """What ``dial`` returns is the session's transport, and it gets the options and the key."""
    asked: dict[str, Any] = {}

    async def dial(url: str, /, **options: Any) -> Transport:
        asked.update(options, url=url)
        transport = PushTransport(send=lambda _frame: None)
        transport.feed(b'{"type":"session.created","event_id":"e","session":{"type":"realtime"}}')
        return transport

    url = "wss://example.invalid/v1/realtime?model=m"
    async with Bus().connect(url, api_key="sk-1234", dial=dial, max_frame_bytes=5):
        pass
    assert asked["url"] == url
    assert asked["headers"]["Authorization"] == "Bearer sk-1234"
    assert asked["max_frame_bytes"] == 5

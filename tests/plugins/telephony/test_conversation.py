"""A phone, an application, a bus, the local server with its ears and its voice: all of it real."""

from __future__ import annotations

import anyio
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.server import RealtimeServer, VoiceResponder
from realtime_bus_plugins._playback import ToSession
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted
from realtime_bus_plugins.telephony import PhoneCall
from tests.server._sounds import speech

from ._phone import dialled
from ._served import serving

pytestmark = pytest.mark.anyio


def mulaw(pcm: bytes) -> bytes:
    """Return PCM16 at 24 kHz as a phone would send it."""
    return ToSession(ev.AudioPCMU()).convert(pcm)


async def test_a_caller_talks_with_the_agent_and_over_it() -> None:
    """vertical"""
    server = RealtimeServer(VoiceResponder("I can tell you a lot about that. " * 5))
    bus = Bus(raise_handler_errors=True)
    interruptions: list[PlaybackInterrupted] = []
    bus.on(PlaybackInterrupted)(interruptions.append)
    bus.on(ev.ServerEvent)(lambda e: print(type(e).__name__))

    async def answer(websocket: WebSocket) -> None:
        await websocket.accept()
        async with PhoneCall(websocket) as call, server.connect_memory() as transport:
            plugins = [call, Interruption(call)]
            async with bus.session(transport, plugins=plugins, **call.settings) as session:
                await session.wait_closed()

    app = Starlette(routes=[WebSocketRoute("/twilio", answer)])
    async with serving(app) as url, dialled(f"{url}/twilio") as phone:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(phone.run)
            with anyio.fail_after(20):
                phone.say(mulaw(speech("How long does the pasta take?")))
                while len(phone.playout.heard) < 8 * 1000:
                    await anyio.sleep(0.02)
                phone.say(mulaw(speech("Stop, stop it now please.")))
                while not interruptions:
                    await anyio.sleep(0.02)
                await phone.send({"event": "stop"})
                await phone.closed.wait()
    print(interruptions, phone.playout.clears)

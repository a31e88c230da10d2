"""Phones on an ASGI server, a bus, the local server with its ears and its voice: all of it real."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.server import (
    EnergyDetector,
    RealtimeServer,
    ResponderRequest,
    ScriptResponder,
    ScriptTurn,
    Speech,
)
from realtime_bus_plugins._playback import ToSession
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted
from realtime_bus_plugins.telephony import (
    VONAGE,
    CallEnded,
    DtmfReceived,
    LineProblem,
    PhoneCall,
)
from tests.server._sounds import speech

from ._phone import Phone, dialled, dtmf, media, stopped
from ._served import serving

pytestmark = pytest.mark.anyio


def mulaw(text: str) -> bytes:
    """Return what a person says, as a phone sends it."""
    return ToSession(ev.AudioPCMU()).convert(speech(text))


def application(answer: Callable[[WebSocket], Awaitable[None]]) -> Starlette:
    """Return an application with one endpoint."""
    return Starlette(routes=[WebSocketRoute("/twilio", answer)])


async def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait for something to become true."""
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - a condition of somebody else's
            await anyio.sleep(0.005)


@pytest.mark.slow
async def test_a_caller_talks_with_the_agent_and_over_it() -> None:
    """Speech, a spoken answer, an interruption by speech, a key, a hang-up."""
    script = [ScriptTurn(user="How long?", assistant="It takes nine minutes, and then some. " * 5)]
    server = RealtimeServer(ScriptResponder(script))
    bus = Bus(raise_handler_errors=True)
    told: list[Any] = []
    bus.on(PlaybackInterrupted, DtmfReceived, CallEnded)(told.append)
    closed: list[Any] = []

    async def answer(websocket: WebSocket) -> None:
        await websocket.accept()
        async with PhoneCall(websocket) as call, server.connect_memory() as transport:
            plugins = [call, Interruption(call)]
            async with bus.session(
                transport, plugins=plugins, state=call.info.parameters, **call.settings
            ) as session:
                assert session.state == {"customer": "c1"}
                closed.append(await session.wait_closed())

    async with serving(application(answer)) as url, dialled(f"{url}/twilio") as phone:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: phone.run(customer="c1"))
            phone.say(mulaw("How long does it take?"))
            await until(lambda: len(phone.playout.heard) > 8 * 500)
            phone.say(mulaw("Stop, please stop it now."))
            await until(lambda: told)
            await until(lambda: len(phone.playout.clears) == 2)  # one for each time of speaking
            await phone.send(dtmf("9"))
            await phone.send(stopped())
            await phone.closed.wait()
    [interrupted, key, ended] = told
    [item] = interrupted.items
    heard_ms = phone.playout.clears[1] / 8
    assert item.action == "truncated"
    assert 0 < item.played_ms <= heard_ms < item.received_ms
    assert len(set(phone.playout.heard)) > 50, "a voice"
    assert (key, ended) == (DtmfReceived(digit="9"), CallEnded(reason="stopped"))
    assert closed[0].clean
    assert phone.socket.close_code == 1000


class Storyteller:
    """Talks for two seconds."""

    async def respond(self, request: ResponderRequest) -> AsyncGenerator[Speech, None]:
        """Answer, a little at a time: what is interrupted need not be made."""
        for _ in range(20):
            yield Speech(b"\x00\x10" * 24 * 100, "tick ")
            await anyio.sleep(0.01)


@pytest.mark.slow
async def test_interruptions_on_several_calls_at_once() -> None:
    """One bus, two phones, 24 interruptions: each truncation is what that caller had heard.

    Never beyond it; before it by a frame, and by the time that a mark and the clear were on their
    way: how long that is on a busy machine, nobody knows. `test_playing` has the bound.
    """
    calls, each = 2, 12
    server = RealtimeServer(Storyteller(), detector_factory=EnergyDetector)
    bus = Bus(raise_handler_errors=True)
    cuts: dict[str, list[int]] = {}

    async def talk(session: Session, call: PhoneCall, interruption: Interruption) -> list[int]:
        source = random.Random(len(cuts))  # noqa: S311 - no secret
        cut: list[int] = []
        for _ in range(each):
            session.respond()
            await until(lambda: any(part.played_ms for part in call.positions()))
            await anyio.sleep(source.uniform(0, 0.2))
            happened = interruption.interrupt(session)
            assert happened is not None
            cut.append(happened.items[0].played_ms)
        return cut

    async def answer(websocket: WebSocket) -> None:
        await websocket.accept()
        async with PhoneCall(websocket) as call, server.connect_memory() as transport:
            interruption = Interruption(call)
            async with bus.session(
                transport, plugins=[call, interruption], turn_detection=None, **call.settings
            ) as session:
                cuts[call.info.parameters["number"]] = await talk(session, call, interruption)
                await session.wait_closed()

    phones: dict[str, Phone] = {}

    async def dial(url: str, number: str) -> None:
        source = random.Random(number)  # noqa: S311 - no secret
        async with dialled(f"{url}/twilio", mark_delay_s=lambda: source.uniform(0, 0.005)) as phone:
            phones[number] = phone
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: phone.run(number=number))
                await until(lambda: len(phone.playout.clears) == each)
                await phone.send(stopped())

    async with serving(application(answer)) as url, anyio.create_task_group() as tasks:
        for number in range(calls):
            tasks.start_soon(dial, url, str(number))
    found = [
        (cut, heard / 8)
        for number, phone in phones.items()
        for cut, heard in zip(cuts[number], phone.playout.clears, strict=True)
    ]
    assert len(found) == calls * each
    early = [heard - cut for cut, heard in found]
    assert min(early) >= 0, "nobody is said to have heard what they have not"
    assert bus.sessions == ()


async def test_rubbish_over_a_socket_ends_no_call() -> None:
    """A message of a megabyte, no JSON, binary noise, a burst: the caller is still heard."""
    server = RealtimeServer(detector_factory=EnergyDetector)
    bus = Bus(raise_handler_errors=True)
    told: list[str] = []
    bus.on(LineProblem)(lambda event: told.append(event.kind))
    keys: list[str] = []
    bus.on(DtmfReceived)(lambda event: keys.append(event.digit))

    async def answer(websocket: WebSocket) -> None:
        await websocket.accept()
        async with PhoneCall(websocket) as call, server.connect_memory() as transport:
            async with bus.session(transport, plugins=[call], **call.settings) as session:
                await session.wait_closed()

    async with serving(application(answer)) as url, dialled(f"{url}/twilio") as phone:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(phone.run)
            await phone.send(media(bytes(1_000_000), 1))
            await phone.socket.send("{")
            await phone.socket.send(b"\xff" * 1000)
            for number in range(200):
                await phone.send(media(bytes(160), number))
            await phone.send(dtmf("7"))
            await until(lambda: keys == ["7"])
            await phone.socket.close()  # without a word
            await until(lambda: not bus.sessions)
            tasks.cancel_scope.cancel()
    assert told[:2] == ["too_large", "malformed"]


async def test_vonage_over_a_socket() -> None:
    """Binary messages of exactly 20 ms, both ways, at 24 kHz, with a notification behind each."""
    server = RealtimeServer(Storyteller(), detector_factory=EnergyDetector)
    heard: list[bytes] = []

    async def answer(websocket: WebSocket) -> None:
        await websocket.accept()
        async with PhoneCall(websocket, VONAGE) as call, server.connect_memory() as transport:
            async with Bus().session(transport, plugins=[call], **call.settings) as session:
                session.intercept_outgoing(ev.InputAudioBufferAppend, keep)
                await session.respond()
                await call.wait_played()
                await until(lambda: heard)

    def keep(event: ev.ClientEvent, session: Session) -> ev.ClientEvent:
        assert isinstance(event, ev.InputAudioBufferAppend)
        heard.append(event.audio)
        return event

    async with serving(application(answer)) as url, dialled(f"{url}/twilio") as phone:
        await phone.send({"event": "websocket:connected", "content-type": "audio/l16;rate=24000"})
        audio = await phone.socket.receive()
        assert isinstance(audio, bytes)
        assert len(audio) == 960
        marked = json.loads(await phone.socket.receive() or "")
        assert marked == {"action": "notify", "payload": {"mark": "1"}}
        await phone.socket.send(b"\x01\x00" * 480)
        await phone.send({"event": "websocket:notify", **marked})
        while (message := await phone.socket.receive()) is not None:
            if isinstance(message, str):
                await phone.send({"event": "websocket:notify", **json.loads(message)})
    assert b"".join(heard) == b"\x01\x00" * 480

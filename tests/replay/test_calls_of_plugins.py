"""Calls as a web page and a phone make them, recorded: replayed, exported, played by the server."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pybase64
import pytest

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.recording import Recording, Timeline, conversation_text, drive, export_wav, replay
from realtime_bus.server import (
    EnergyDetector,
    Playback,
    RealtimeServer,
    ScriptResponder,
    ScriptTool,
    ScriptTurn,
)
from realtime_bus.testing import virtual_time
from realtime_bus.transport import MemoryTransport
from realtime_bus_plugins._playback import ToSession
from realtime_bus_plugins.browser import Browser, BrowserCall, InterruptPressed
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.telephony import CallStarted, DtmfReceived, PhoneCall
from realtime_bus_plugins.tools import Tools
from tests.plugins._page import Tab, arrive, tabs
from tests.plugins.telephony._phone import Playout, connected, dtmf, mark, media, started, stopped
from tests.plugins.telephony.test_call import FakeWebSocket

pytestmark = pytest.mark.anyio

LOUD = (b"\x00\x30" * 24 + b"\x00\xd0" * 24) * 10  # 20 ms of a square wave, PCM16 at 24 kHz
SCRIPT = [
    ScriptTurn(user="How long?", tool=ScriptTool(name="look_up", arguments={"dish": "rice"})),
    ScriptTurn(assistant="It takes nine minutes, and then some. " * 8),
    ScriptTurn(assistant="Good bye. " * 10),
]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run in virtual time."""
    return virtual_time(request.param)


def make_agent(sink: Any, *more: Any) -> Bus:
    """Return an agent that answers keys and the page's button."""
    tools, interruption = Tools(), Interruption(sink)
    bus = Bus(plugins=[sink, interruption, tools, *more])

    @tools.tool
    async def look_up(dish: str) -> str:
        """Look up how long a dish takes."""
        await anyio.sleep(0.4)
        return f"{dish}: 9 minutes"

    @bus.on(InterruptPressed)
    def hush(_event: InterruptPressed, session: Session) -> None:
        interruption.interrupt(session)

    @bus.on(DtmfReceived)
    async def key(event: DtmfReceived, session: Session) -> None:
        await session.send_text(f"The caller has pressed {event.digit}.")

    return bus


def new_server() -> RealtimeServer:
    """Return a server that hears what is loud."""
    return RealtimeServer(ScriptResponder(SCRIPT), detector_factory=EnergyDetector)


Speak = Callable[[bool], None]


async def converse(speak: Speak, answered: Callable[[], bool], press: Callable[[], object]) -> None:
    """Ask, interrupt by voice, press, and be gone a second later."""
    for wait_s, talk_s in ((0.5, 1.0), (1.3, 0.8)):
        await anyio.sleep(wait_s)
        speak(True)
        await anyio.sleep(talk_s)
        speak(False)
        with anyio.fail_after(20):
            while not answered():  # noqa: ASYNC110  # virtual time: it costs nothing
                await anyio.sleep(0.05)
    await anyio.sleep(2)
    press()
    await anyio.sleep(1)


async def on_a_page(recorder_of: Callable[[Any], Recorder]) -> None:
    """Hold the call in a page, whose person presses Interrupt."""
    loud, position = False, 0

    async def answer(call: BrowserCall) -> None:
        async with new_server().connect_memory() as transport:
            bus = make_agent(call, recorder_of(call))
            async with bus.session(transport) as session:
                await session.wait_closed()

    def speak(now: bool) -> None:
        nonlocal loud
        loud = now

    async def page(tab: Tab) -> None:
        nonlocal position
        flushed = 0
        while not tab.done:
            tab.raw(bytes=LOUD if loud else bytes(960))
            flushes = [text for text in tab.texts if text["type"] == "flush"]
            if len(flushes) > flushed:
                flushed, before = len(flushes), flushes[-1]["before"]
                tab.say(type="flushed", before=before, position=min(position + 240, before))
                position = before
            elif tab.received > position:
                position = min(position + 480, tab.received)
                tab.say(type="played", position=position)
            await anyio.sleep(0.02)

    async with tabs() as tasks:
        tab = Tab(Browser(answer))
        await arrive(tasks, tab)
        await tab.until(lambda: tab.latest("started")["ready"])
        tasks.start_soon(page, tab)
        press = lambda: tab.say(type="interrupt")  # noqa: E731  # one line of the story
        await converse(speak, lambda: tab.received > position, press)
        tab.say(type="end")
        await tab.until(lambda: tab.done)


async def on_the_phone(recorder_of: Callable[[Any], Recorder]) -> None:
    """Hold the call on Twilio's line, whose caller presses a key."""
    socket, playout = FakeWebSocket(), Playout()
    voice, quiet = ToSession(ev.AudioPCMU()).convert(LOUD), b"\xff" * 160
    loud, chunk = False, 0

    def speak(now: bool) -> None:
        nonlocal loud
        loud = now

    async def line() -> None:
        nonlocal chunk
        while True:
            chunk += 1
            socket.say(media(voice if loud else quiet, chunk))
            said, socket.sent = socket.sent, []
            for message in map(json.loads, said):
                if message["event"] == "media":
                    playout.queue(pybase64.b64decode(message["media"]["payload"]))
                elif message["event"] == "mark":
                    playout.queue(message["mark"]["name"])
                else:
                    socket.say(*map(mark, playout.clear()))
            socket.say(*map(mark, playout.play(20)))
            await anyio.sleep(0.02)

    async def answer() -> None:
        async with PhoneCall(socket) as call, new_server().connect_memory() as transport:
            bus = make_agent(call, recorder_of(call))
            async with bus.session(transport, **call.settings) as session:
                await session.wait_closed()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(line)
        socket.say(connected(), started(customer="c1"))
        async with anyio.create_task_group() as call:
            call.start_soon(answer)
            press = lambda: socket.say(dtmf("9"))  # noqa: E731  # one line of the story
            await converse(speak, lambda: playout.buffered_bytes > 0, press)
            socket.say(stopped())
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("call", "outside"),
    [(on_a_page, [InterruptPressed]), (on_the_phone, [DtmfReceived, CallStarted])],
)
async def test_a_recorded_call_comes_out_as_it_did(
    call: Callable[[Callable[[Any], Recorder]], Awaitable[None]],
    outside: list[type[ev.BusEvent]],
    tmp_path: Path,
) -> None:
    """Tools, barge-in by voice, what the page or the phone told: replayed, exported, and driven."""
    await call(lambda sink: Recorder(tmp_path / "calls", sink=sink))
    [path] = (tmp_path / "calls").iterdir()
    report = await replay(path, make_agent, outside=outside)
    assert not report.differences, str(report)
    assert report.compared >= 5
    timeline = export_wav(Recording(path), tmp_path / "call.wav")
    assert (timeline.heard_from, timeline.ended is not None) == ("sink", True)
    assert timeline.turns[0].interrupted
    assert timeline == Timeline.of(Recording(path))
    text = conversation_text(timeline)
    assert "calls look_up" in text
    assert "[interrupted after" in text
    async with AsyncExitStack() as stack:
        playback = Playback(path)
        server = RealtimeServer(playback=playback)

        async def connect() -> MemoryTransport:
            return await stack.enter_async_context(server.connect_memory())

        [driven] = await drive(path, connect)
        assert (driven.complete, driven.deviations) == (True, ())
    [played] = playback.reports
    assert (played.complete, played.deviations) == (True, ())

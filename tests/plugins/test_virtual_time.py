"""What is decided by time goes by the event loop's, which may be virtual."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from realtime_bus import events as ev
from realtime_bus._virtual_time import virtual_time
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted, PlaybackStarted
from realtime_bus_plugins.sinks import NullSink, WavSink
from realtime_bus_plugins.tools import Tools
from realtime_bus_plugins.turn_metrics import TurnCompleted, TurnMetrics

from ._wire import session_on

pytestmark = pytest.mark.anyio

SECOND = bytes(48_000)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run in virtual time."""
    return virtual_time(request.param)


@pytest.mark.parametrize("kind", [NullSink, WavSink])
async def test_playback_takes_its_time_and_is_interrupted_where_it_was(
    kind: type[NullSink | WavSink],
) -> None:
    """An item is heard when those before it are over, and is cut at what was heard of it."""
    sink = kind()
    async with session_on(sink, Interruption(sink)) as (session, wire):
        began_s = session.clock()
        assert began_s == anyio.current_time()
        started: list[float] = []
        session.on(PlaybackStarted)(lambda _: started.append(session.clock() - began_s))
        wire.respond()
        wire.speak(SECOND * 60, item_id="a")
        wire.finish()
        wire.respond("s", "b")
        wire.speak(SECOND * 60, "s", "b")
        await anyio.sleep(90)
        interrupted = session.wait_for(PlaybackInterrupted)
        wire.interrupt()
        [cut] = (await interrupted).items
        assert cut.played_ms == 30_000
        assert started == [0.0, pytest.approx(60, abs=0.01)]
        assert sink.started_s == began_s
    if isinstance(sink, WavSink):
        assert len(sink.heard) == 90 * len(SECOND)
        assert sink.track.start_s == began_s


async def test_turns_are_measured_in_it() -> None:
    """Three seconds of thought are three seconds, and the turn is over when it was heard."""
    sink = NullSink()
    async with session_on(sink, Interruption(sink), TurnMetrics()) as (session, wire):
        completed = session.wait_for(TurnCompleted)
        wire.feed(ev.InputAudioBufferSpeechStopped(audio_end_ms=1000, item_id="u"))
        began_s = session.clock()
        await anyio.sleep(3)
        wire.respond()
        wire.speak(SECOND * 5)
        wire.finish()
        turn = await completed
        assert (turn.first_audio_s, turn.heard_s) == (3, 3)
        assert session.clock() - began_s == pytest.approx(8, abs=0.01)


async def test_tools_take_their_time() -> None:
    """What a tool's statistics say is how long it took by the same clock."""
    tools = Tools()

    @tools.tool
    async def think() -> str:
        """Think."""
        await anyio.sleep(42)
        return "done"

    async with session_on(tools) as (_session, wire):
        wire.respond()
        call = ev.FunctionCallItem(
            id="c", call_id="c", name="think", arguments="{}", status="completed"
        )
        wire.feed(ev.ResponseOutputItemDone(response_id="r", output_index=0, item=call))
        await anyio.sleep(50)
    [figures] = tools.statistics()
    assert figures.slowest_s == 42


async def test_a_sink_goes_on_in_its_next_session() -> None:
    """What it had played stands, whichever clock went between."""
    sink = WavSink()
    for seconds in (2, 4):
        async with session_on(sink) as (_session, wire):
            wire.respond()
            wire.speak(SECOND * 2)
            await anyio.sleep(1.5)
            [part] = sink.positions()
            assert part.played_ms == 1500
        assert not sink.playing
        assert len(sink.heard) >= 24_000 * seconds * 1.5

"""A call whose line broke twice, recorded once: whatever can be done with it says the same."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, Reconnect
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink
from realtime_bus.recording import Recording, Timeline, conversation_text, drive, export_wav, replay
from realtime_bus.server import Playback, RealtimeServer, ServerOptions
from realtime_bus.testing import assert_replays, tool_call, virtual_time
from realtime_bus.transport import MemoryTransport
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.tools import Tools
from realtime_bus_plugins.turn_metrics import TurnCompleted, TurnMetrics

pytestmark = pytest.mark.anyio

AT_ONCE = Reconnect(first_delay_s=0, max_delay_s=0)
ANSWERS = [
    "Good evening.",
    tool_call("look_up", dish="rice"),
    "First, warm one litre of stock in a small pot, and keep it hot while you cook.",
    "Bye.",
]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run in virtual time."""
    return virtual_time(request.param)


class Turns(list[TurnCompleted]):
    """Turn metrics, as a plugin that keeps them."""

    def attach(self, session: Any) -> None:
        """Take note of a session's turns."""
        TurnMetrics().attach(session)
        session.on(TurnCompleted)(self.append)


def make_agent(sink: AudioSink, *more: Any) -> Bus:
    """Return an agent that takes two seconds to look something up."""
    tools = Tools()

    @tools.tool
    async def look_up(dish: str) -> str:
        """Look up how long a dish takes."""
        await anyio.sleep(2)
        return f"{dish}: 18 minutes"

    return Bus(plugins=[*more, sink, Interruption(sink), tools])


async def converse(call: Any, *, drops: bool) -> None:
    """Ask, lose the line while a tool works, and while its answer plays; then interrupt."""
    await call.person.says("Hello?")
    await call.person.hears()
    for text in ("How long does rice take?", ""):  # "": the answer to that
        back = call.session.wait_for(ev.Reconnected, timeout_s=60)
        done = call.session.wait_for(ev.ResponseDone, timeout_s=60)
        if text:
            await call.person.says(text)
        await done
        await call.person.keeps_silent(1)
        if drops:
            call.server.drop()
        await back
    await call.person.says("Thank you!")
    await call.person.hears()
    await call.person.hears()


@pytest.fixture
async def recorded(place_call: Any, tmp_path: Path) -> tuple[Path, Turns]:
    """Return a recording, and the turns as they were measured."""
    sink, turns = NullSink(), Turns()
    agent = make_agent(sink, Recorder(tmp_path / "calls", sink=sink))
    how = {"options": ServerOptions(pace=20), "reconnect": AT_ONCE, "plugins": [turns]}
    async with place_call(agent, ANSWERS, **how) as call:
        await converse(call, drops=True)
    [path] = (tmp_path / "calls").iterdir()
    return path, turns


async def test_turns_outlive_their_connection(recorded: tuple[Path, Turns]) -> None:
    """Measured in the call, in a replay and on the time line: three, the second with its tool."""
    path, measured = recorded
    again = Turns()
    await replay(path, make_agent, plugins=[again])
    turns = Timeline.of(Recording(path)).turns
    assert [(turn.origin, len(turn.response_ids), turn.interrupted) for turn in turns] == [
        ("speech", 1, False),
        ("speech", 2, True),
        ("speech", 1, False),
    ]
    for counted in (measured, again):
        by_end = sorted(counted, key=lambda turn: turn.response_ids[0] != turns[0].response_ids[0])
        assert len(by_end) == 3
        for turn, then in zip(by_end, turns, strict=True):
            assert (turn.origin, turn.response_ids) == (then.origin, then.response_ids)
            assert (turn.item_id, turn.interrupted) == (then.item_id, then.interrupted)
            assert turn.first_audio_s is not None
            assert then.to_audio_ms == pytest.approx(turn.first_audio_s * 1000, abs=30)
    assert again[1].tool_round_trips == 1
    assert (again[1].heard_audio_s or 0) < again[1].generated_audio_s


async def nothing_differs(path: Path, call: Any) -> None:
    """Replay a recording, play its server's half to a call, and drive that with the client's."""
    report = await replay(path, make_agent)
    assert not report.differences, str(report)
    assert report.compared >= 3  # tools, their output, the request behind it
    await assert_replays(path, make_agent)
    playback = Playback(path)
    await call(playback)
    assert all(each.complete for each in playback.reports)
    assert [each.deviations for each in playback.reports] == [()] * len(playback.reports)
    async with AsyncExitStack() as stack:
        server = RealtimeServer(playback=Playback(path))

        async def connect() -> MemoryTransport:
            return await stack.enter_async_context(server.connect_memory())

        reports = await drive(path, connect)
    assert [each.deviations for each in reports] == [()] * len(playback.reports)


async def test_it_is_replayed_and_answers_a_live_client(
    recorded: tuple[Path, Turns], place_call: Any
) -> None:
    """Nothing differs: in a replay, as a golden call, as the server's half, as the client's."""
    path, _ = recorded

    async def live(playback: Playback) -> None:
        how = {"reconnect": AT_ONCE, "golden": path}
        async with place_call(make_agent(NullSink()), playback, **how) as call:
            await converse(call, drops=False)
        assert len(playback.reports) == 3

    await nothing_differs(path, live)


async def test_the_same_of_a_connection_that_was_replaced_before_its_limit(
    place_call: Any, tmp_path: Path
) -> None:
    """It is a call as any other, over two connections."""
    policy = Reconnect(session_limit_s=5.0, rollover_margin_s=0.0)

    async def talk(bus: Bus, answers: Any, **how: Any) -> None:
        async with place_call(bus, answers, reconnect=policy, **how) as call:
            await call.person.says("Hello?")
            await call.person.hears()
            await call.person.keeps_silent(4)
            await call.person.says("How long does rice take?")
            await call.person.interrupts("Thank you!", after_s=1.0)
            await call.person.hears()
            await call.person.hears()

    sink = NullSink()
    await talk(make_agent(sink, Recorder(tmp_path / "calls", sink=sink)), ANSWERS)
    [path] = (tmp_path / "calls").iterdir()
    assert [each.cause for each in Timeline.of(Recording(path)).connections] == [None, "rollover"]
    await nothing_differs(path, lambda each: talk(make_agent(NullSink()), each, golden=path))


async def test_it_is_exported(recorded: tuple[Path, Turns], tmp_path: Path) -> None:
    """The conversation as one, each thing once, and both voices to the end."""
    path, _ = recorded
    timeline = export_wav(Recording(path), tmp_path / "call.wav")
    assert len(timeline.connections) == 3
    told = [line.partition("] ")[2] for line in conversation_text(timeline).splitlines()]
    assert [line.split("[interrupted")[0] for line in told] == [
        "user: [audio]",
        "assistant: Good evening.",
        "user: [audio]",
        'assistant calls look_up({"dish":"rice"})',
        "function returns rice: 18 minutes",
        "assistant: First, warm one ",
        "user: [audio]",
        "assistant: Bye.",
    ]

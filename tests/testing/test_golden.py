"""A recording as what is expected of a call, and of an agent to which it happens again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, UsageError
from realtime_bus.audio import AudioSink
from realtime_bus.server import Playback
from realtime_bus.testing import assert_replays, tool_call
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.tools import Tools

LONG = "First, warm one litre of stock in a small pot, and keep it hot while you cook."
ANSWERS = [["One moment.", tool_call("look_up", dish="rice")], LONG, "Three hundred grams."]


def make_agent(
    sink: AudioSink | None = None, *, output: str = "18 min", takes_s: float = 0.4
) -> Bus:
    """Return an agent that knows how long rice takes."""
    tools = Tools()

    @tools.tool
    async def look_up(dish: str) -> str:
        """Look up how long a dish takes."""
        await anyio.sleep(takes_s)
        return output

    return Bus(plugins=[tools] if sink is None else [sink, Interruption(sink), tools])


async def converse(call: Any, *, after_s: float = 1.2) -> None:
    """Ask, listen, interrupt, and listen again."""
    await call.person.says("How do I cook a risotto?")
    await call.person.hears()
    await call.person.interrupts("Wait, how much rice?", after_s=after_s)
    await call.person.hears()
    await call.person.hears()


@pytest.fixture
async def recorded(place_call: Any, tmp_path: Path) -> Path:
    """Return a recording with its audio, as an application makes it."""
    sink = NullSink()
    recorder = Recorder(tmp_path / "calls", sink=sink)
    agent = make_agent(sink)
    async with place_call(agent, ANSWERS, plugins=[recorder]) as call:
        await converse(call)
    [path] = (tmp_path / "calls").iterdir()
    return path


async def test_a_call_that_comes_out_as_it_did(place_call: Any, tmp_path: Path) -> None:
    """The recording is made once, without audio, and then compared with."""
    golden = tmp_path / "golden" / "rice.jsonl"
    with pytest.raises(UsageError, match="pytest --update-golden makes it"):
        place_call(make_agent(), ANSWERS, golden=golden)
    async with place_call(make_agent(), ANSWERS, golden=golden, update_golden=True) as call:
        await converse(call)
    assert golden.stat().st_size < 300_000
    async with place_call(make_agent(), ANSWERS, golden=golden) as call:
        await converse(call)


@pytest.mark.virtual_time(backends=["asyncio"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"output": "20 min"}, "look_up(dish='rice') → 18 min\n    now: look_up"),
        ({"after_s": 1.4}, " ms\n    now: heard “First, warm one"),
        ({"answers": [*ANSWERS[:2], "None."]}, "“Three hundred grams.”\n    now: heard “None.”"),
        ({"answers": [["One moment."], *ANSWERS[1:]]}, "now: nothing is"),
    ],
)
async def test_a_call_that_does_not(
    change: dict[str, Any], says: str, place_call: Any, tmp_path: Path
) -> None:
    """It is told what is otherwise: a tool's output, an interruption, words."""
    golden = tmp_path / "rice.jsonl"
    async with place_call(make_agent(), ANSWERS, golden=golden, update_golden=True) as call:
        await converse(call)
    answers, after_s = change.get("answers", ANSWERS), change.get("after_s", 1.2)
    agent = make_agent(output=change.get("output", "18 min"))
    call = place_call(agent, answers, golden=golden, tolerate={"unscripted"})
    with pytest.raises(AssertionError, match="did not come out as in rice.jsonl") as caught:  # noqa: PT012, RUF043  # the whole call
        async with call as placed:
            await placed.person.says("How do I cook a risotto?")
            await placed.person.hears()
            if len(answers[0]) == 1:  # nothing follows by itself
                await placed.person.says("And then?")
            await placed.person.interrupts("Wait, how much rice?", after_s=after_s)
            await placed.person.hears()
            await placed.person.hears()
    assert says in str(caught.value)


async def test_an_interruption_may_be_a_little_off(place_call: Any, tmp_path: Path) -> None:
    """Fifty milliseconds, if nobody says otherwise."""
    golden = tmp_path / "rice.jsonl"
    async with place_call(make_agent(), ANSWERS, golden=golden, update_golden=True) as call:
        await converse(call)
    async with place_call(make_agent(), ANSWERS, golden=golden) as call:
        await converse(call, after_s=1.23)
    with pytest.raises(AssertionError, match="cut after"):
        call.assert_same_as(golden, within_ms=5)


@pytest.mark.parametrize("make", [make_agent, lambda _sink: make_agent()], ids=["sink", "none"])
async def test_what_happened_once_happens_again(
    make: Callable[[AudioSink], Bus], recorded: Path
) -> None:
    """The agent does to the recording what it did to the call."""
    await assert_replays(recorded, make)


async def test_an_agent_that_has_changed(recorded: Path) -> None:
    """What it does otherwise is told, with the time line of the replay."""
    with pytest.raises(AssertionError, match="does not come out as it did") as caught:
        await assert_replays(recorded, make_agent(output="20 min"))
    message = str(caught.value)
    assert "then: look_up(dish='rice') → 18 min\n    now: look_up(dish='rice') → 20 min" in message
    assert "What happened in the call:" in message
    await assert_replays(recorded, make_agent(output="20 min"), ignore_outputs={"look_up"})


@pytest.mark.virtual_time(backends=["trio"])
async def test_an_agent_that_lost_its_tool(recorded: Path) -> None:
    """The call is in the recording; what it is answered with is another thing."""
    with pytest.raises(AssertionError, match=r"look_up\(dish='rice'\) → 18 min"):
        await assert_replays(recorded, Bus(plugins=[Tools()]))


async def test_a_recorded_server_answers_a_person(recorded: Path, place_call: Any) -> None:
    """It says what it said then, in step with what is done now; tools run again."""
    async with place_call(make_agent(), Playback(recorded)) as call:
        await converse(call)
    call.assert_heard("One moment.", "First, warm one", "Three hundred grams.")
    call.assert_called("look_up", dish="rice")
    call.assert_same_as(recorded, within_ms=60)


async def test_a_call_that_ended_before_its_tool_did(place_call: Any, tmp_path: Path) -> None:
    """What could not be sent any more was not done, neither then nor now."""
    sink = NullSink()
    recorder = Recorder(tmp_path, sink=sink)
    agent = make_agent(sink, takes_s=5)
    async with place_call(agent, ANSWERS, plugins=[recorder]) as call:
        await call.person.says("How do I cook a risotto?")
        await call.person.hears()
        await call.person.keeps_silent(1)
    path = recorder.path_of(call.session)
    assert path is not None
    await assert_replays(path, lambda sink: make_agent(sink, takes_s=5))

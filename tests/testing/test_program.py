"""The application's own program in a call under test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, InvalidEvent, Session, UsageError
from realtime_bus import events as ev
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.sinks import NullSink

Main = Callable[[], Awaitable[None]]


@pytest.fixture
def bus() -> Bus:
    """Return an application's bus."""
    return Bus()


@pytest.fixture
def program(bus: Bus) -> Main:
    """Return a program as in the README: it connects, greets, and waits for the end."""

    async def main() -> None:
        sink = NullSink()
        plugins = [sink, Interruption(sink)]
        async with bus.connect(
            "gpt-realtime-2.1", plugins=plugins, instructions="Help the cook."
        ) as session:
            await session.respond(instructions="Greet the cook.")
            await session.wait_closed()

    return main


async def test_it_runs_as_it_is(bus: Bus, program: Main, place_call: Any) -> None:
    """Without a key or a network, with its own settings and plugins."""
    async with place_call(bus, ["Good evening.", "Nine minutes."], main=program) as call:
        assert await call.person.hears() == "Good evening."
        await call.person.says("How long does the pasta take?")
        assert await call.person.hears() == "Nine minutes."
    assert [request.instructions for request in call.model.asked] == [
        "Greet the cook.",
        "Help the cook.",
    ]
    assert "connect" not in vars(bus)
    call.assert_order("Good evening", "How long", "Nine minutes", "closed (1000)")


async def test_what_it_raises_comes_out(bus: Bus, place_call: Any) -> None:
    """And not what the person could not do because of it."""

    async def main() -> None:
        async with bus.connect("gpt-realtime-2.1") as session:
            await session.wait_for(ev.InputAudioBufferSpeechStarted)
            raise LookupError("oh")

    with pytest.raises(LookupError):  # noqa: PT012  # at the end of a whole call
        async with place_call(bus, main=main) as call:
            await call.person.says("Hello, is there anybody?")
            await call.person.hears()


async def test_what_it_raises_before_it_connects_comes_out(bus: Bus, place_call: Any) -> None:
    """As it is."""

    async def main() -> None:
        bus.connect("gpt-realtime-2.1", speed=1000.0)

    with pytest.raises(InvalidEvent):
        async with place_call(bus, main=main):
            pass


@pytest.mark.parametrize(
    ("waits_s", "says"), [(0.0, "ended before it had connected"), (1e6, "has not connected")]
)
async def test_a_program_that_does_not_connect(
    waits_s: float, says: str, bus: Bus, place_call: Any
) -> None:
    """It is told so."""

    async def main() -> None:
        await anyio.sleep(waits_s)

    with pytest.raises(AssertionError, match=says):
        async with place_call(bus, main=main):
            pass


async def test_a_program_that_connects_twice(bus: Bus, place_call: Any) -> None:
    """Its second call would get to nobody."""

    async def main() -> None:
        async with bus.connect("gpt-realtime-2.1"):
            pass
        bus.connect("gpt-realtime-2.1")

    with pytest.raises(UsageError, match="connects a second time"):
        async with place_call(bus, main=main):
            await anyio.sleep(1)


async def test_a_program_that_does_not_end(bus: Bus, place_call: Any) -> None:
    """When the person has hung up, there is nothing left to do."""

    async def main() -> None:
        async with bus.connect("gpt-realtime-2.1"):
            await anyio.sleep_forever()

    with pytest.raises(AssertionError, match="did not end within 60 s after the call had"):
        async with place_call(bus, main=main):
            pass


async def test_settings_are_the_programs_own(bus: Bus, program: Main, place_call: Any) -> None:
    """There would be two of them."""
    with pytest.raises(UsageError, match="voice: the program says that itself"):
        place_call(bus, main=program, voice="cedar")


async def test_the_person_hangs_up_first(bus: Bus, program: Main, place_call: Any) -> None:
    """The program ends by that."""
    seen: list[Session] = []
    bus.on(ev.Connected)(lambda _event, session: seen.append(session))
    async with place_call(bus, ["Good evening."], main=program) as call:
        await call.person.hears()
        await call.person.hangs_up()
        await anyio.sleep(1)
        assert bus.sessions == ()
    assert seen == [call.session]


async def test_a_call_of_a_program_that_is_cancelled(
    bus: Bus, program: Main, place_call: Any
) -> None:
    """Nothing of it is left."""
    with anyio.move_on_after(3) as scope:
        async with place_call(bus, ["Good evening."], main=program):
            await anyio.sleep(60)
    assert scope.cancelled_caught
    assert bus.sessions == ()

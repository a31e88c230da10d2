"""Many calls on one bus: what belongs to one of them, and how all of them end."""

from __future__ import annotations

import gc
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport

from ._peer import Peer, joined, quiet, speech

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


class Noting:
    """A plugin that notes its name when it is attached, and when its session ends."""

    def __init__(self, name: str, trace: list[str]) -> None:
        self.name, self.trace = name, trace

    def attach(self, session: Session) -> None:
        """Note it."""
        self.trace.append(self.name)
        session.on(Started)(lambda event: self.trace.append(f"{self.name} heard"))
        session.on_close(lambda: self.trace.append(f"{self.name} closed"))


# What belongs to one call


async def test_plugins_of_a_call_come_after_those_of_the_bus() -> None:
    """`plugins=` of a session are attached to it alone, behind the bus's, in the order given."""
    trace = list[str]()
    bus = Bus(plugins=[Noting("bus", trace)])
    own = [Noting("first", trace), Noting("second", trace)]
    async with joined(bus, plugins=own) as (_, peer):
        assert trace == ["bus", "first", "second"]
        peer.say(speech())
    assert trace[3:] == [
        f"{n} {d}" for d in ("heard", "closed") for n in ("bus", "first", "second")
    ]
    trace.clear()
    async with joined(bus) as (_, peer):
        peer.say(speech())
    assert trace == ["bus", "bus heard", "bus closed"]


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (5, "5 is not a plugin: it has no attach"),
        (Noting, "Noting is a class; give the bus an instance"),
        ("session", "is not a plugin"),
    ],
)
def test_what_is_no_plugin_is_refused_before_anything_is_opened(plugin: Any, message: str) -> None:
    """`connect` and `session` look at the plugins of a call when they are called."""
    with pytest.raises(UsageError, match=message):
        Bus().connect("gpt-realtime", api_key="k", plugins=[plugin])
    with pytest.raises(UsageError, match=message):
        Bus().session(PushTransport(send=len), plugins=[plugin])


async def test_a_call_has_a_state_of_its_own() -> None:
    """`state=` is at hand wherever the session is: in plugins, handlers and tasks."""
    bus, found = Bus(), list[Any]()

    class Looking:
        def attach(self, session: Session) -> None:
            found.append(session.state)

    @bus.on(Started)
    async def listen(event: Started, session: Session) -> None:
        found.append(session.state)

    async with (
        joined(bus, state="left", plugins=[Looking()]) as (left, one),
        joined(bus, state={"caller": 2}) as (right, two),
        joined(bus) as (third, _),
    ):
        assert (left.state, right.state, third.state) == ("left", {"caller": 2}, None)
        one.say(speech())
        await quiet()
        two.say(speech())
        await quiet()
        left.state = "changed"
        one.say(speech())
        await quiet()
    assert found == ["left", "left", {"caller": 2}, "changed"]


# All of them


async def test_a_bus_knows_its_open_sessions() -> None:
    """`sessions` are those that are open, oldest first; `statistics` counts them."""
    bus = Bus()
    assert bus.sessions == ()
    async with joined(bus) as (left, _), joined(bus) as (right, _):
        assert bus.sessions == (left, right)
        assert bus.statistics().sessions == 2
    assert bus.sessions == ()


async def test_a_failed_opening_leaves_no_session_behind() -> None:
    """A call that could not be opened is not among the open ones."""
    bus = Bus()

    class Picky:
        def attach(self, session: Session) -> None:
            raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        async with joined(bus, plugins=[Picky()]):
            pass
    assert bus.sessions == ()


async def test_an_event_for_every_call() -> None:
    """`Bus.emit` delivers to the handlers of each open session."""

    class Closing(ev.AppEvent):
        minutes: int

    bus, heard = Bus(), list[tuple[object, int]]()
    bus.on(Closing)(lambda event, session: heard.append((session.state, event.minutes)))
    async with joined(bus, state="a"), joined(bus, state="b"):
        bus.emit(Closing(minutes=5))
    bus.emit(Closing(minutes=0))
    assert heard == [("a", 5), ("b", 5)]


async def test_a_bus_closes_every_call() -> None:
    """`Bus.aclose` closes with code and reason, and returns when all have ended."""
    bus = Bus()
    await bus.aclose()
    async with joined(bus) as (left, one), joined(bus) as (right, two):
        await bus.aclose(4000, "maintenance")
        assert [str(each.close_info) for each in (left, right)] == ["4000 (maintenance)"] * 2
    assert one.closed == two.closed == (4000, "maintenance")


class Unhurried(PushTransport):
    """A transport whose other side answers the close when it is told to."""

    def __init__(self) -> None:
        super().__init__(send=len)
        self.closing = anyio.Event()
        self.answered = anyio.Event()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Wait for the other side, as a closing handshake does."""
        self.closing.set()
        await self.answered.wait()
        await super().aclose(code, reason)


async def test_one_that_does_not_answer_holds_up_none_of_the_others() -> None:
    """All are closed at once: the others have ended while one still waits for its peer."""
    bus, slow = Bus(), Unhurried()
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        deaf = await stack.enter_async_context(bus.session(slow, wait_created=False))
        others = [await stack.enter_async_context(joined(bus)) for _ in range(3)]
        tasks.start_soon(bus.aclose, 4000)
        await quiet()
        assert deaf.close_info is None
        assert [session.close_info is not None for session, _ in others] == [True] * 3
        slow.answered.set()
        assert (await deaf.wait_closed()).code == 4000


async def test_a_bus_is_left_with_all_of_its_calls() -> None:
    """`async with bus` ends what is still open, whichever task holds it, and loses no event."""
    heard, peers, slow = list[int](), list[Peer](), Unhurried()

    async def call(bus: Bus, number: int) -> None:
        async with joined(bus) as (session, peer):
            peers.append(peer)
            await session.wait_closed()

    async def silent_call(bus: Bus) -> None:
        async with bus.session(slow, wait_created=False) as session:
            await session.wait_closed()

    async with anyio.create_task_group() as tasks:
        async with Bus() as bus:

            @bus.on(Started)
            async def listen(event: Started) -> None:
                await anyio.lowlevel.checkpoint()
                heard.append(event.audio_start_ms)

            for number in range(3):
                tasks.start_soon(call, bus, number)
            tasks.start_soon(silent_call, bus)
            await quiet()
            for number, peer in enumerate(peers):
                peer.say(speech(number))
            tasks.start_soon(_answer_late, slow)
        assert [peer.closed for peer in peers] == [(1000, "")] * 3
        assert slow.answered.is_set()
    assert sorted(heard) == [0, 1, 2]
    assert bus.sessions == ()


async def _answer_late(slow: Unhurried) -> None:
    await slow.closing.wait()
    await quiet()
    slow.answered.set()


async def test_a_bus_can_be_closed_from_a_handler() -> None:
    """An async handler may end all calls, its own among them."""
    bus = Bus()

    @bus.on(Started)
    async def enough(event: Started) -> None:
        await bus.aclose(4001, "enough")

    async with joined(bus) as (left, one), joined(bus) as (right, _):
        one.say(speech())
        assert (await right.wait_closed()).code == 4001
        assert (await left.wait_closed()).code == 4001


async def test_a_handler_of_two_hundred_calls() -> None:
    """One handler serves all calls, each with the session that its event came of."""
    bus, heard = Bus(), list[int]()

    @bus.on(Started)
    async def listen(event: Started, session: Session) -> None:
        assert session.state == event.audio_start_ms
        heard.append(event.audio_start_ms)

    async with AsyncExitStack() as stack:
        calls = [await stack.enter_async_context(joined(bus, state=n)) for n in range(200)]
        for number, (_, peer) in enumerate(calls):
            peer.say(speech(number))
        await quiet()
        assert sorted(heard) == list(range(200))
        await bus.aclose()
        assert all(session.close_info is not None for session, _ in calls)
    assert bus.statistics().handlers[0].delivered == 200


async def test_calls_that_have_ended_leave_nothing_behind() -> None:
    """After many calls in a row there are no more objects than after a few."""
    bus = Bus()
    bus.on("*")(lambda event: None)

    @bus.on("*")
    async def listen(event: ev.Event, session: Session) -> None: ...

    async def call(number: int) -> None:
        async with joined(bus, state=number) as (session, peer):
            session.stream(Started)
            session.wait_for(Started)
            session.intercept("*", lambda event, session: event)
            session.respond()
            session.respond()
            peer.say(speech(number))

    async def objects_after(calls: int) -> int:
        for number in range(calls):
            await call(number)
        gc.collect()
        return len(gc.get_objects())

    await objects_after(10)
    before = await objects_after(10)
    assert await objects_after(200) - before < 100  # less than one for every other call

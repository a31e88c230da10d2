"""Events that an interceptor holds back, drops on their way out, or makes up."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from realtime_bus import Bus, RequestError, Session
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport

from ..bus._peer import joined, sound, speech, word  # noqa: TID252  # tests are no package with a name of its own

pytestmark = pytest.mark.anyio

_FRAME = (
    b'{"type":"input_audio_buffer.speech_started","event_id":"e","audio_start_ms":1,"item_id":"i"}'
)


async def test_an_event_that_was_held_goes_on_behind_its_holder() -> None:
    """An injected event is seen by the interceptors after the one that held it, and by handlers."""
    held: list[ev.Event] = []
    seen: list[str] = []

    def hold(event: ev.Event, session: Session) -> None:
        held.append(event)

    def after(event: ev.Event, session: Session) -> ev.Event:
        seen.append("after")
        return event

    transport = PushTransport(send=lambda frame: None)
    async with Bus().session(transport, wait_created=False) as session:
        session.intercept(ev.InputAudioBufferSpeechStarted, hold)
        session.intercept(ev.InputAudioBufferSpeechStarted, after)
        session.on(ev.InputAudioBufferSpeechStarted)(lambda event: seen.append("handler"))
        transport.feed(_FRAME)
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        session.inject(held[0], behind=hold)
        assert seen == ["after", "handler"]
        session.inject(held[0])
        assert seen == ["after", "handler"] * 2


@pytest.mark.breaks_rules("wait-for-session-created")
async def test_a_request_that_an_interceptor_ends_fails_at_once() -> None:
    """Awaiting a request that was never sent raises, instead of waiting for an answer."""
    transport = PushTransport(send=lambda frame: None)
    async with Bus().session(transport, wait_created=False) as session:
        session.intercept_outgoing("*", lambda event, session: None)
        with pytest.raises(RequestError, match="interceptor"):
            await session.clear_input()
        with pytest.raises(RequestError, match="interceptor"):
            await session.respond()


async def test_a_plugins_own_happening_can_be_handled() -> None:
    """A class that a plugin derives from BusEvent is registered for and emitted like ours."""

    class TeaIsReady(ev.BusEvent, frozen=True, kw_only=True, tag="tea.ready"):
        cups: int

    bus = Bus()
    cups: list[int] = []
    bus.on(TeaIsReady)(lambda event: cups.append(event.cups))
    transport = PushTransport(send=lambda frame: None)
    async with bus.session(transport, wait_created=False) as session:
        session.emit(TeaIsReady(cups=2))
    assert cups == [2]


Started = ev.InputAudioBufferSpeechStarted


class Holding:
    """Two interceptors in a row, of which each holds back or lets pass, and a handler.

    Attributes:
        held: What was held back.
        trace: Who saw what.
    """

    def __init__(self, session: Session, kind: type[ev.Event] = Started) -> None:
        self.held: list[Any] = []
        self.trace: list[str] = []
        self.second_holds = False
        session.intercept(kind, self.first)
        session.intercept(kind, self.second)
        session.on(kind)(lambda event: self.trace.append("handler"))

    def first(self, event: ev.Event, session: Session) -> None:
        """Hold everything."""
        self.trace.append("first")
        self.held.append(event)

    def second(self, event: ev.Event, session: Session) -> ev.Event | None:
        """Hold what it is told to."""
        self.trace.append("second")
        if not self.second_holds:
            return event
        self.held.append(event)
        return None


async def test_an_event_that_nobody_held_meets_everybody() -> None:
    """One of the application's own making passes all interceptors, as from the server."""
    async with joined() as (session, _):
        holding = Holding(session)
        session.inject(speech(1))
        assert holding.trace == ["first"]
        session.inject(holding.held[0])
        assert holding.trace == ["first", "second", "handler"]


async def test_an_event_made_in_place_of_one_that_was_held() -> None:
    """A changed copy is another event: `behind=` says where it goes on."""
    async with joined() as (session, peer):
        holding = Holding(session)
        peer.say(speech(1))
        copy = replace(holding.held[0], audio_start_ms=2)
        session.inject(copy, behind=holding.first)
        assert holding.trace == ["first", "second", "handler"]
        session.inject(copy)
        assert holding.trace[3:] == ["first"]


async def test_an_event_that_is_held_twice() -> None:
    """Whoever held it last is the one that it goes on behind."""
    async with joined() as (session, peer):
        holding = Holding(session)
        holding.second_holds = True
        peer.say(speech(1))
        session.inject(holding.held.pop())
        assert holding.trace == ["first", "second"]
        session.inject(holding.held.pop())
        assert holding.trace == ["first", "second", "handler"]


async def test_of_many_that_are_held_the_last_are_remembered() -> None:
    """The last 256 go on behind their holder; with `behind=` any number does, in any order."""
    async with joined() as (session, peer):
        holding = Holding(session)
        peer.say(*(speech(number) for number in range(300)))
        held, holding.held = holding.held, []
        holding.trace.clear()
        for event in held[-256:]:
            session.inject(event)
        assert holding.trace == ["second", "handler"] * 256
        holding.trace.clear()
        session.inject(held[0])
        assert holding.trace == ["first"]
        for event in held[:44]:
            session.inject(event, behind=holding.first)
        assert holding.trace[1:] == ["second", "handler"] * 44


async def test_audio_that_was_dropped_is_not_kept_alive() -> None:
    """An interceptor may drop hours of audio, and nothing of it stays; what it keeps goes on."""
    dropped: list[weakref.ref[ev.Event]] = []
    async with joined() as (session, peer):

        def drop(event: ev.Event, session: Session) -> None:
            dropped.append(weakref.ref(event))

        session.intercept(ev.ResponseOutputAudioDelta, drop)
        holding = Holding(session, ev.ResponseOutputAudioDelta)
        peer.say(*(sound(bytes([number]) * 480) for number in range(100)))
        gc.collect()
        assert len(dropped) == 100
        assert [ref for ref in dropped if ref() is not None] == []
        session.off(drop)
        peer.say(sound(b"\1\2"))
        session.inject(holding.held[0])
        assert holding.trace == ["first", "second", "handler"]
        assert holding.held[0].delta == b"\1\2"


async def test_an_interceptor_may_inject_another_event() -> None:
    """An event that is injected on the way of another overtakes it; `frame` is that of neither."""
    trace = list[Any]()
    async with joined() as (session, peer):

        def announce(event: ev.Event, session: Session) -> ev.Event:
            session.inject(word("before"))
            return event

        session.intercept(Started, announce)
        session.on("response.output_text.delta")(
            lambda event: trace.append((event.delta, session.frame))
        )
        session.on(Started)(lambda event: trace.append(session.frame))
        peer.say(speech(1))
    assert trace == [("before", b""), speech(1).to_json()]

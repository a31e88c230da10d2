"""What happens at a mailbox's bound."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from msgspec import UNSET

from realtime_bus import Bus, Session
from realtime_bus import events as ev

from ._peer import Peer, joined, quiet, speech

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


class Slow:
    """A handler that takes one event and holds on to it until it is told to go on."""

    def __init__(self, session: Session, **options: Any) -> None:
        self.heard: list[int] = []
        self.go = anyio.Event()
        session.on(Started, name="slow", **options)(self)

    async def __call__(self, event: Started) -> None:
        """Take an event and hold on to it."""
        self.heard.append(event.audio_start_ms)
        await self.go.wait()


async def fill(peer: Peer, count: int = 6) -> None:
    """Let one event be taken, and send others behind it."""
    peer.say(speech(0))
    await quiet()
    for number in range(1, count):
        peer.say(speech(number))


async def test_drop_oldest_keeps_the_newest() -> None:
    """By default a full mailbox loses its oldest event, counts it, and says so once."""
    async with joined() as (session, peer):
        reports = session.stream(ev.Overflow)
        slow = Slow(session, max_pending=2)
        await fill(peer)
        slow.go.set()
        await quiet()
        figures = session.statistics().handlers[0]
    assert slow.heard == [0, 4, 5]
    assert figures.dropped == 3
    (report,) = [event async for event in reports]
    assert (report.handler, report.policy, report.dropped) == ("slow", "drop_oldest", 1)
    assert report.event_type == "input_audio_buffer.speech_started"


async def test_drop_newest_keeps_the_oldest() -> None:
    """``drop_newest`` refuses what comes while the mailbox is full."""
    async with joined() as (session, peer):
        report = session.wait_for(ev.Overflow)
        slow = Slow(session, max_pending=2, overflow="drop_newest")
        await fill(peer)
        slow.go.set()
        await quiet()
        assert session.statistics().handlers[0].dropped == 3
        assert (await report).policy == "drop_newest"
    assert slow.heard == [0, 1, 2]


async def test_a_second_overflow_is_reported_again() -> None:
    """Once the mailbox has half emptied, the next overflow is a new one."""
    async with joined() as (session, peer):
        reports = session.stream(ev.Overflow)
        slow = Slow(session, max_pending=2)
        await fill(peer)
        slow.go.set()
        await quiet()
        slow.go = anyio.Event()
        await fill(peer)
        slow.go.set()
    assert [event.dropped async for event in reports] == [1, 4]


async def test_pause_stops_reading_and_loses_nothing() -> None:
    """``pause`` makes the transport wait until the handler has caught up."""
    async with joined() as (session, peer):
        slow = Slow(session, max_pending=2, overflow="pause")
        await fill(peer, 4)
        assert peer.transport.paused
        peer.say(*map(speech, range(4, 8)))
        assert session.statistics().frames_received == 5  # with session.created
        slow.go.set()
        await quiet()
        assert not peer.transport.paused
        assert session.statistics().handlers[0].dropped == 0
    assert slow.heard == list(range(8))


async def test_two_that_pause_are_both_waited_for() -> None:
    """Reading goes on when the last of those who asked for a pause lets go."""
    async with joined() as (session, peer):
        first = Slow(session, max_pending=1, overflow="pause")
        second = Slow(session, max_pending=1, overflow="pause")
        await fill(peer, 3)
        assert peer.transport.paused
        first.go.set()
        await quiet()
        assert peer.transport.paused
        second.go.set()
        await quiet()
        assert not peer.transport.paused
    assert first.heard == second.heard == [0, 1, 2]


async def test_leaving_a_paused_session_does_not_hang() -> None:
    """A session whose reading is paused can be left; what waits is counted as dropped."""
    bus = Bus(drain_timeout_s=0)

    @bus.on(Started, max_pending=1, overflow="pause")
    async def stuck(event: Started) -> None:
        await anyio.sleep_forever()

    async with joined(bus) as (session, peer):
        await fill(peer, 4)
        assert peer.transport.paused
    assert session.statistics().handlers[0].dropped == 3
    assert peer.closed == (1000, "")


async def test_a_handler_of_everything_survives_its_own_overflow() -> None:
    """The report of an overflow may itself go to the mailbox that is full, within its bound."""
    heard, go = list[str](), anyio.Event()
    async with joined() as (session, peer):

        @session.on("*", max_pending=3)
        async def everything(event: ev.Event) -> None:
            heard.append(event.type)
            await go.wait()

        await fill(peer, 9)
        assert session.statistics().handlers[0].pending == 4  # one is in its hands
        go.set()
    assert len(heard) <= 6


@pytest.mark.parametrize("way", ["request", "reply", "event", "stream"])
async def test_a_handler_that_pauses_reading_may_wait_for_an_answer(way: str) -> None:
    """While it waits for something that must be read, reading goes on; nothing is lost."""
    heard = list[int]()
    async with joined() as (session, peer):

        @session.on(Started, max_pending=1, overflow="pause")
        async def asks(event: Started) -> None:
            heard.append(event.audio_start_ms)
            if event.audio_start_ms:
                return
            if way == "request":
                await session.clear_input()
            elif way == "reply":
                await session.respond(while_speaking=True)
            elif way == "event":
                await session.wait_for(ev.InputAudioBufferCleared)
            else:
                await anext(session.stream(ev.InputAudioBufferCleared))

        with anyio.fail_after(2):
            await fill(peer, 5)
            assert not peer.transport.paused
            found = ev.Response(id="resp_1", metadata=UNSET)
            peer.say(ev.InputAudioBufferCleared())
            peer.say(ev.ResponseCreated(response=found), ev.ResponseDone(response=found))
            await quiet()
        assert session.statistics().handlers[0].dropped == 0
    assert heard == [0, 1, 2, 3, 4]


async def test_what_a_handler_has_started_is_not_the_handler() -> None:
    """A task of the session that waits lets nothing through for the handler that started it."""
    async with joined() as (session, peer):
        go = anyio.Event()

        @session.on(Started, max_pending=1, overflow="pause")
        async def starts(event: Started) -> None:
            session.start_soon(anext, session.stream(ev.InputAudioBufferCleared))
            await go.wait()

        await fill(peer, 3)
        assert peer.transport.paused
        go.set()
        await quiet()
        assert not peer.transport.paused


async def test_one_that_is_taken_out_lets_go() -> None:
    """A paused handler that is taken out holds up nobody any more."""
    async with joined() as (session, peer):
        slow = Slow(session, max_pending=1, overflow="pause")
        await fill(peer, 3)
        assert peer.transport.paused
        session.off(slow)
        assert not peer.transport.paused
        slow.go.set()

"""How handlers run: inline, from a mailbox, in parallel, only the latest."""

from __future__ import annotations

import threading

import anyio
import pytest

from realtime_bus import Bus, _virtual_time
from realtime_bus import events as ev

from ._peer import joined, quiet, speech

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


async def test_a_plain_function_runs_before_the_next_frame() -> None:
    """An inline handler has run when the transport's ``deliver`` returns."""
    heard = list[int]()
    async with joined() as (session, peer):
        session.on(Started)(lambda event: heard.append(event.audio_start_ms))
        peer.say(speech(1))
        assert heard == [1]


async def test_the_frame_at_hand_is_there_for_inline_handlers() -> None:
    """`Session.frame` is the event's frame, and `frame_time_s` when it came."""
    seen = list[bytes]()
    async with joined() as (session, peer):
        session.on(Started)(lambda event: seen.append(session.frame))
        before_s = session.frame_time_s
        peer.say(speech(1), speech(2))
        assert session.frame_time_s > before_s
    assert seen == [speech(1).to_json(), speech(2).to_json()]


async def test_an_async_handler_keeps_the_order() -> None:
    """A mailbox hands over events one at a time, in the order in which they came."""
    heard = list[int]()
    async with joined() as (session, peer):

        @session.on(Started)
        async def listen(event: Started) -> None:
            if event.audio_start_ms % 7 == 0:
                await anyio.lowlevel.checkpoint()
            heard.append(event.audio_start_ms)

        for number in range(200):
            peer.say(speech(number))
    assert heard == list(range(200))


async def test_a_slow_handler_delays_nobody() -> None:
    """While one handler is stuck, the reader and all other handlers go on."""
    go, inline, queued = anyio.Event(), list[int](), list[int]()
    async with joined() as (session, peer):

        @session.on(Started)
        async def stuck(event: Started) -> None:
            await go.wait()

        @session.on(Started)
        async def other(event: Started) -> None:
            queued.append(event.audio_start_ms)

        session.on(Started)(lambda event: inline.append(event.audio_start_ms))
        peer.say(*map(speech, range(3)))
        assert inline == [0, 1, 2]
        await quiet()
        assert queued == [0, 1, 2]
        go.set()


async def test_the_reader_gets_a_turn_among_handlers_that_never_wait() -> None:
    """A handler that awaits nothing gives way to others after a batch of events."""
    trace = list[str]()
    async with joined() as (session, peer):
        for name in ("a", "b"):

            async def listen(event: Started, name: str = name) -> None:
                trace.append(name)

            session.on(Started)(listen)
        peer.say(*map(speech, range(200)))
    first_b = trace.index("b")
    assert first_b <= 64
    assert trace.count("a") == trace.count("b") == 200


async def test_parallel_runs_up_to_its_limit_at_once() -> None:
    """``parallel`` starts as many as its limit allows, and not one more."""
    running, most = 0, 0
    go = anyio.Event()
    async with joined() as (session, peer):

        @session.on(Started, mode="parallel", limit=3)
        async def work(event: Started) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await go.wait()
            running -= 1

        peer.say(*map(speech, range(5)))
        await quiet()
        assert running == 3
        go.set()
    assert most == 3


async def test_parallel_is_parallel_again_after_a_rest() -> None:
    """A burst after an idle stretch is worked on by as many workers as one at the start."""
    running = 0
    go = anyio.Event()
    go.set()
    async with joined() as (session, peer):

        @session.on(Started, mode="parallel", limit=3)
        async def work(event: Started) -> None:
            nonlocal running
            running += 1
            await go.wait()
            running -= 1

        peer.say(speech())
        await quiet()
        go = anyio.Event()
        peer.say(speech(), speech(), speech())
        await quiet()
        assert running == 3
        go.set()


async def test_latest_skips_what_was_overtaken() -> None:
    """``latest`` handles the newest event when its handler is free again, and counts the rest."""
    heard, go = list[int](), anyio.Event()
    async with joined() as (session, peer):

        @session.on(Started, mode="latest")
        async def show(event: Started) -> None:
            heard.append(event.audio_start_ms)
            await go.wait()

        overflows = session.stream(ev.Overflow)
        peer.say(speech(1))
        await quiet()
        peer.say(speech(2), speech(3), speech(4))
        go.set()
        await quiet()
        figures = session.statistics().handlers[0]
        await overflows.aclose()
    assert heard == [1, 4]
    assert (figures.delivered, figures.dropped) == (2, 2)
    assert [event async for event in overflows] == []


async def test_a_plain_function_with_a_mailbox_runs_in_a_thread() -> None:
    """A plain function that may block is kept off the event loop by ``mode="queue"``."""
    threads = list[int]()
    async with joined() as (session, peer):

        @session.on(Started, mode="queue")
        def block(event: Started) -> None:
            threads.append(threading.get_ident())

        peer.say(speech(), speech())
    assert len(threads) == 2
    assert threading.get_ident() not in threads


async def test_a_handler_out_of_time_is_cancelled_and_reported() -> None:
    """``timeout_s`` ends a handler, counts it as failed, and the next event is handled."""
    bus, heard = Bus(), list[int]()

    @bus.on(Started, timeout_s=0.01, name="sleeper")
    async def sleeper(event: Started) -> None:
        if event.audio_start_ms == 1:
            await anyio.sleep_forever()
        heard.append(event.audio_start_ms)

    async with joined(bus) as (session, peer):
        failed = session.wait_for(ev.HandlerFailed)
        peer.say(speech(1), speech(2))
        failure = await failed
    assert isinstance(failure.error, TimeoutError)
    assert "sleeper took longer than its timeout_s=0.01 for input_audio" in str(failure.error)
    assert heard == [2]


async def test_a_thread_out_of_time_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain function that blocks beyond its ``timeout_s`` is reported without waiting for it."""
    monkeypatch.setattr(_virtual_time, "THREAD_PATIENCE_S", 0.1)  # of the clock, for the thread
    go = threading.Event()
    async with joined() as (session, peer):

        @session.on(Started, mode="queue", timeout_s=0.01)
        def block(event: Started) -> None:
            go.wait()

        failed = session.wait_for(ev.HandlerFailed)
        peer.say(speech())
        assert isinstance((await failed).error, TimeoutError)
        go.set()

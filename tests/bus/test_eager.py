"""Mode ``eager``: async handlers begin in the reader, and go on in a task when they wait.

Before Python 3.12 and on trio it is mode ``queue``, so what holds for both is tested there, too.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, Session
from realtime_bus import events as ev

from ._eager import (
    BrokenError,
    Started,
    Stopped,
    Waiter,
    begins_at_once,
    figures,
    first,
    in_callback,
    on_asyncio,
)
from ._peer import joined, quiet, speech

pytestmark = pytest.mark.anyio


# When it runs


@begins_at_once
@on_asyncio
async def test_it_has_run_when_the_call_that_brings_an_event_returns() -> None:
    """A free handler has run when a frame was fed, and when `Session.emit` returns."""
    heard = list[str]()
    async with joined() as (session, peer):

        @session.on(Started, ev.Connected, mode="eager")
        async def listen(event: Started | ev.Connected) -> None:
            heard.append(event.type)

        session.emit(ev.Connected())
        assert len(heard) == 1
        peer.say(speech())
        assert len(heard) == 2
        session.inject(speech())
        assert len(heard) == 3


@begins_at_once
@on_asyncio
async def test_it_runs_at_once_in_tasks_and_in_callbacks() -> None:
    """Whether a task or a callback of the loop brings the event makes no difference."""
    async with joined() as (session, peer):
        waiter = Waiter(session)

        def say(number: int) -> None:
            peer.say(speech(number))
            assert waiter.ended[-1] == number

        for number, from_task in enumerate([True, False, False, True, True, False, True]):
            if from_task:
                say(number)
            else:
                await in_callback(say, number)
    assert waiter.ended == list(range(7))


@begins_at_once
@on_asyncio
@pytest.mark.parametrize("from_task", [True, False])
async def test_it_may_wait_in_tasks_and_in_callbacks(from_task: bool) -> None:
    """What began in a callback of the loop is awaited like what began in a task."""
    async with joined() as (session, peer):
        waiter = Waiter(session, 0, 2)
        for number in range(4):
            if from_task:
                peer.say(speech(number))
            else:
                await in_callback(peer.say, speech(number))
        assert (waiter.begun, waiter.ended) == ([0], [])
        assert figures(session) == (0, 0, 0, 4)
        waiter.go.set()
        await quiet()
        assert figures(session) == (4, 0, 0, 0)
    assert waiter.ended == [0, 1, 2, 3]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio_it_has_a_mailbox() -> None:
    """On trio a free handler gets its events when its worker has its turn."""
    async with joined() as (session, peer):
        waiter = Waiter(session)
        await first(peer)
        peer.say(speech(1))
        assert waiter.begun == [0]
        await quiet()
        assert waiter.ended == [0, 1]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="how it is before Python 3.12")
@on_asyncio
async def test_before_python_3_12_it_has_a_mailbox() -> None:
    """Where tasks cannot start eagerly, events wait for the worker's turn."""
    async with joined() as (session, peer):
        waiter = Waiter(session)
        await first(peer)
        peer.say(speech(1))
        assert waiter.begun == [0]
        await quiet()
        assert waiter.ended == [0, 1]


async def test_it_keeps_the_order_on_both_backends() -> None:
    """Whether it waits or not, events are handled one at a time, in the order they came in."""
    heard, running = list[int](), 0
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            nonlocal running
            running += 1
            assert running == 1
            for _ in range(event.audio_start_ms % 3):
                await anyio.lowlevel.checkpoint()
            heard.append(event.audio_start_ms)
            running -= 1

        for number in range(300):
            peer.say(speech(number))
            if number % 7 == 0:
                await anyio.lowlevel.checkpoint()
    assert heard == list(range(300))


async def test_while_it_waits_events_queue_up_and_others_go_on() -> None:
    """A handler that waits holds up neither the reader nor others, and gets later events after."""
    plain, queued = list[int](), list[int]()
    async with joined() as (session, peer):
        waiter = Waiter(session, 1)
        other = Waiter(session)
        session.on(Started)(lambda event: plain.append(event.audio_start_ms))

        @session.on(Started)
        async def from_mailbox(event: Started) -> None:
            queued.append(event.audio_start_ms)

        await first(peer)
        peer.say(speech(1), speech(2), speech(3))
        assert plain == [0, 1, 2, 3]
        await quiet()
        assert queued == other.ended == [0, 1, 2, 3]
        assert (waiter.begun, waiter.ended) == ([0, 1], [0])
        waiter.go.set()
        await quiet()
        assert waiter.begun == waiter.ended == [0, 1, 2, 3]


@begins_at_once
@on_asyncio
async def test_it_runs_at_once_again_after_it_has_waited() -> None:
    """A handler that is free again begins in the reader again."""
    async with joined() as (session, peer):
        waiter = Waiter(session, 1)
        await first(peer)
        peer.say(speech(1))
        waiter.go.set()
        await quiet()
        peer.say(speech(2))
        assert waiter.ended == [0, 1, 2]


@begins_at_once
@on_asyncio
async def test_the_frame_at_hand_is_its_own_until_it_waits() -> None:
    """An event that begins in the reader has its frame in `Session.frame`."""
    seen = list[bytes]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            seen.append(session.frame)

        await first(peer)
        peer.say(speech(1), speech(2))
    assert seen == [speech(number).to_json() for number in range(3)]


# What handlers may do


async def test_it_may_take_the_session() -> None:
    """A handler of (event, session) gets both, wherever it begins."""
    heard = list[tuple[int, str | None]]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started, session: Session) -> None:
            heard.append((event.audio_start_ms, session.id))

        await first(peer)
        peer.say(speech(1))
    assert heard == [(0, "sess_1"), (1, "sess_1")]


async def test_it_may_have_a_predicate() -> None:
    """Events that its predicate refuses do not reach it; one that raises counts as failed."""
    async with joined() as (session, peer):
        waiter = Waiter(session, where=lambda event: 6 // (event.audio_start_ms - 2) > 1)
        for number in (3, 0, 2, 4, 5, 9):
            peer.say(speech(number))
            await quiet()
        assert figures(session) == (3, 1, 0, 0)
    assert waiter.ended == [3, 4, 5]


async def test_it_may_be_registered_for_one_event() -> None:
    """A ``once`` handler gets one event, though two come in a row, and may wait at it."""
    heard, go = list[int](), anyio.Event()
    async with joined() as (session, peer):

        @session.once(Started, mode="eager")
        async def first(event: Started) -> None:
            await go.wait()
            heard.append(event.audio_start_ms)

        peer.say(speech(1), speech(2))
        await quiet()
        peer.say(speech(3))
        go.set()
    assert heard == [1]


async def test_its_own_event_comes_after_the_one_at_hand() -> None:
    """An event of its own type that it causes is handled next, not inside the first."""
    trace = list[str]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            trace.append(f"{event.audio_start_ms} begins")
            if event.audio_start_ms in (1, 3):
                session.inject(speech(event.audio_start_ms + 1))
            if event.audio_start_ms == 3:
                await anyio.lowlevel.checkpoint()
            trace.append(f"{event.audio_start_ms} ends")

        await first(peer)
        peer.say(speech(1))
        await quiet()
        peer.say(speech(3))
    assert trace == [f"{number} {what}" for number in range(5) for what in ("begins", "ends")]


@begins_at_once
@on_asyncio
async def test_its_own_event_is_overtaken_by_none() -> None:
    """What comes in the same turn of the loop as an event that it caused is handled after that."""
    heard = list[int]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            heard.append(event.audio_start_ms)
            if event.audio_start_ms == 1:
                session.inject(speech(2))

        await first(peer)
        peer.say(speech(1), speech(3), speech(4))
    assert heard == list(range(5))


async def test_two_that_cause_each_others_events_do_not_recurse() -> None:
    """Handlers that emit to each other take turns, on a stack that does not grow."""
    trace = list[str]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def ping(event: Started) -> None:
            trace.append(f"ping {event.audio_start_ms}")
            if event.audio_start_ms:
                session.inject(Stopped(audio_end_ms=event.audio_start_ms, item_id="item_u"))

        @session.on(Stopped, mode="eager")
        async def pong(event: Stopped) -> None:
            trace.append(f"pong {event.audio_end_ms}")
            if 0 < event.audio_end_ms < 2000:
                session.inject(speech(event.audio_end_ms + 1))

        await first(peer)
        peer.say(Stopped(audio_end_ms=0, item_id="item_u"))
        await quiet()
        peer.say(speech(1))
    assert trace[2:] == [f"{name} {n}" for n in range(1, 2001) for name in ("ping", "pong")]


async def test_a_task_group_in_it_works() -> None:
    """A handler may open a task group before it has waited, and wait for its tasks."""
    heard = list[str]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            async def child(name: str) -> None:
                await anyio.lowlevel.checkpoint()
                heard.append(f"{name} {event.audio_start_ms}")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child, "one")
                tasks.start_soon(child, "two")
            heard.append(f"all {event.audio_start_ms}")

        await first(peer)
        peer.say(speech(1))
    assert [one for one in heard if one.startswith("all")] == ["all 0", "all 1"]
    assert sorted(heard[3:5]) == ["one 1", "two 1"]


@on_asyncio
async def test_a_child_that_fails_cancels_a_task_group_of_asyncio() -> None:
    """``asyncio.TaskGroup`` finds the task that it has to cancel."""
    heard = list[BaseException]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            async def child() -> None:
                raise BrokenError

            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(child())
                    await anyio.sleep_forever()
            except* BrokenError as group:
                heard.extend(group.exceptions)

        await first(peer)
        peer.say(speech(1))
    assert figures(session) == (2, 0, 0, 0)
    assert [type(error) for error in heard] == [BrokenError, BrokenError]


@on_asyncio
async def test_two_may_wait_for_the_same_future() -> None:
    """A future that several handlers and tasks await wakes them all."""
    heard = list[str]()
    async with joined() as (session, peer):
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def wait(event: Started) -> None:
            if event.audio_start_ms:
                heard.append(await answer)

        session.on(Started, mode="eager")(wait)
        session.on(Started, mode="eager")(wait)
        await first(peer)
        peer.say(speech(1))
        task = asyncio.create_task(wait(speech(1)))
        await quiet()
        answer.set_result("yes")
        await task
        await quiet()
        assert figures(session) == (2, 0, 0, 0)
    assert heard == ["yes", "yes", "yes"]


@on_asyncio
async def test_what_it_waits_for_may_come_before_its_task_has_its_turn() -> None:
    """A future that is done in the same turn of the loop is not waited for in vain."""
    heard = list[str]()
    async with joined() as (session, peer):
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        @session.on(Started, mode="eager")
        async def wait(event: Started) -> None:
            if event.audio_start_ms:
                heard.append(await answer)

        await first(peer)
        peer.say(speech(1))
        answer.set_result("yes")
    assert heard == ["yes"]


# Errors


@pytest.mark.parametrize("waits", [False, True])
async def test_a_failure_is_reported_and_stops_nobody(waits: bool) -> None:
    """One that raises, at once or after waiting, has failed; it and others get what follows."""
    heard = list[int]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager", name="breaks")
        async def breaks(event: Started) -> None:
            if event.audio_start_ms in (1, 2):
                if waits:
                    await anyio.lowlevel.checkpoint()
                raise BrokenError(event.audio_start_ms)
            heard.append(event.audio_start_ms)

        failures = list[ev.HandlerFailed]()
        session.on(ev.HandlerFailed)(failures.append)
        other = Waiter(session)
        await first(peer)
        peer.say(*map(speech, range(1, 4)))
        await quiet()
        assert figures(session) == (4, 2, 0, 0)
        peer.say(speech(4))
    assert [event.error.args for event in failures] == [(1,), (2,)]
    assert {(event.handler, event.event_type) for event in failures} == {
        ("breaks", "input_audio_buffer.speech_started")
    }
    assert heard == [0, 3, 4]
    assert other.ended == [0, 1, 2, 3, 4]


async def test_one_that_fails_at_the_report_of_its_failure_does_not_report_it_for_ever() -> None:
    """A handler of `HandlerFailed` that fails at it is called once for each failure."""
    heard = list[str]()
    async with joined() as (session, peer):

        @session.on(Started, ev.HandlerFailed, mode="eager")
        async def breaks(event: Started | ev.HandlerFailed) -> None:
            heard.append(event.type)
            raise BrokenError

        await first(peer)
        peer.say(speech(1))
    assert heard == ["input_audio_buffer.speech_started", "bus.handler_failed"] * 2


@pytest.mark.parametrize("waits", [False, True])
async def test_tests_can_have_failures_raised(waits: bool) -> None:
    """With ``raise_handler_errors`` the block is cancelled and the error comes out as it is."""
    bus = Bus(raise_handler_errors=True)

    @bus.on(Started, mode="eager")
    async def breaks(event: Started) -> None:
        if event.audio_start_ms:
            if waits:
                await anyio.lowlevel.checkpoint()
            raise BrokenError

    with pytest.raises(BrokenError):  # noqa: PT012  # what comes out of the whole block is the point
        async with joined(bus) as (_, peer):
            await first(peer)
            peer.say(speech(1))
            await anyio.sleep_forever()


@begins_at_once
@on_asyncio
async def test_the_cancellation_of_what_it_awaits_is_not_the_readers() -> None:
    """One that awaits a cancelled future has failed at its event; the reader and others go on."""
    heard = list[int]()
    async with joined() as (session, peer):
        cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cancelled.cancel()

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            if event.audio_start_ms == 1:
                await cancelled
            heard.append(event.audio_start_ms)

        other = Waiter(session)
        await first(peer)
        peer.say(speech(1), speech(2))
        assert figures(session) == (3, 1, 0, 0)
    assert heard == [0, 2]
    assert other.ended == [0, 1, 2]


# Figures


async def test_its_figures() -> None:
    """What has begun and waits is pending, what was finished delivered; its time is all of it."""
    bus, times = Bus(), list[float]()
    async with joined(bus) as (session, peer):
        go = anyio.Event()

        @bus.on(Started, mode="eager", name="waiter")
        async def wait(event: Started) -> None:
            begun_s = perf_counter()
            if event.audio_start_ms:
                await go.wait()
            times.append(perf_counter() - begun_s)

        await first(peer)
        peer.say(speech(1))
        assert figures(session) == (1, 0, 0, 1)  # begun or not
        peer.say(speech(2))
        assert figures(session) == (1, 0, 0, 2)
        await quiet()
        assert figures(session) == (1, 0, 0, 2)
        go.set()
        await quiet()
        assert figures(session) == (3, 0, 0, 0)
        (shown,) = session.statistics().handlers
        assert shown.slowest_s >= max(times)
        peer.say(speech(3))
        await quiet()
        assert bus.statistics().handlers[0].delivered == 4
    (total,) = bus.statistics().handlers
    assert (total.handler, total.delivered, total.pending) == ("waiter", 4, 0)
    assert (total.failed, total.dropped) == (0, 0)
    assert total.slowest_s >= max(times)


async def test_the_event_in_its_hands_is_pending() -> None:
    """While a handler runs, its figures count the event that it is at."""
    seen = list[tuple[int, ...]]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def look(event: Started) -> None:
            seen.append(figures(session))

        await first(peer)
        peer.say(speech(1))
        await quiet()
    assert seen == [(0, 0, 0, 1), (1, 0, 0, 1)]


# Options


async def test_a_timeout_strikes_after_it_has_waited() -> None:
    """``timeout_s`` ends a handler that began in the reader, and the next event is handled."""
    async with joined() as (session, peer):
        waiter = Waiter(session, 1, timeout_s=0.01)
        failed = session.wait_for(ev.HandlerFailed)
        await first(peer)
        peer.say(speech(1), speech(2))
        failure = await failed
        await quiet()
        assert figures(session) == (3, 1, 0, 0)
    assert isinstance(failure.error, TimeoutError)
    assert "waiter took longer than its timeout_s=0.01" in str(failure.error)
    assert waiter.cancelled == [1]
    assert waiter.ended == [0, 2]


@pytest.mark.parametrize(
    ("policy", "handled", "dropped"),
    [("drop_oldest", [0, 1, 4, 5], 2), ("drop_newest", [0, 1, 2, 3], 2)],
)
async def test_a_full_mailbox_loses_events_while_it_waits(
    policy: Any, handled: list[int], dropped: int
) -> None:
    """The bound is that of the events behind the one that it has begun."""
    async with joined() as (session, peer):
        waiter = Waiter(session, 1, max_pending=2, overflow=policy)
        report = session.wait_for(ev.Overflow)
        await first(peer)
        peer.say(speech(1))
        await quiet()
        peer.say(*map(speech, range(2, 6)))
        assert figures(session) == (1, 0, dropped, 3)
        assert ((await report).handler, (await report).policy) == ("waiter", policy)
        waiter.go.set()
        await quiet()
    assert waiter.ended == handled


async def test_pause_stops_reading_while_it_waits() -> None:
    """With ``pause`` nothing is lost: the transport waits until the handler has caught up."""
    async with joined() as (session, peer):
        waiter = Waiter(session, 1, max_pending=2, overflow="pause")
        await first(peer)
        peer.say(speech(1))
        await quiet()
        peer.say(*map(speech, range(2, 9)))
        assert peer.transport.paused
        assert figures(session) == (1, 0, 0, 4)
        waiter.go.set()
        await quiet()
        assert not peer.transport.paused
        assert figures(session) == (9, 0, 0, 0)
    assert waiter.ended == list(range(9))


# The end


@pytest.mark.parametrize("has_turn", [True, False])
async def test_leaving_the_session_cancels_one_that_waits(has_turn: bool) -> None:
    """When the time to drain is over, a handler is cancelled, and what it had is dropped."""
    bus = Bus(drain_timeout_s=0)
    waiter = Waiter(bus, 1)
    async with joined(bus) as (_, peer):
        await first(peer)
        peer.say(speech(1), speech(2))
        if has_turn:
            await quiet()
    (total,) = bus.statistics().handlers
    assert (total.delivered, total.dropped, total.pending) == (1, 2, 0)
    assert waiter.ended == [0]
    assert waiter.cancelled == waiter.begun[1:]


@begins_at_once
@on_asyncio
async def test_one_that_began_just_before_the_end_is_told_of_it() -> None:
    """A handler that began in the reader is cancelled, though the loop had no turn since."""
    bus = Bus(drain_timeout_s=0)
    waiter = Waiter(bus, 1)
    async with joined(bus) as (_, peer):
        await first(peer)
        peer.say(speech(1))
    assert waiter.cancelled == [1]


async def test_leaving_the_session_waits_for_one_that_ends() -> None:
    """A handler that comes to its end, and the events behind, are waited for."""
    bus = Bus()
    waiter = Waiter(bus, 1)
    async with joined(bus) as (session, peer):
        session.on_close(waiter.go.set)
        await first(peer)
        peer.say(speech(1), speech(2))
    assert waiter.ended == [0, 1, 2]
    (total,) = bus.statistics().handlers
    assert (total.delivered, total.dropped) == (3, 0)


async def test_it_hears_the_end() -> None:
    """`Closed` reaches it as it reaches others, and it may wait then."""
    heard = list[str]()
    async with joined() as (session, peer):

        @session.on(Started, ev.Closed, mode="eager")
        async def listen(event: Started | ev.Closed) -> None:
            await anyio.lowlevel.checkpoint()
            heard.append(event.type)

        await first(peer)
    assert heard == ["input_audio_buffer.speech_started", "bus.closed"]


@pytest.mark.parametrize("of_the_bus", [True, False])
async def test_one_that_is_taken_out_while_it_waits_gets_no_more(of_the_bus: bool) -> None:
    """After ``off`` it goes on with what it has and what waits, and gets nothing else."""
    bus = Bus()
    async with joined(bus) as (session, peer):
        waiter = Waiter(bus if of_the_bus else session, 1)
        await first(peer)
        peer.say(speech(1), speech(2))
        (bus if of_the_bus else session).off(waiter)
        peer.say(speech(3))
        await quiet()
        waiter.go.set()
        await quiet()
        peer.say(speech(4))
    assert waiter.ended == [0, 1, 2]


async def test_one_that_is_taken_out_while_it_is_free_gets_no_more() -> None:
    """After ``off`` a free handler gets nothing, not even the event that is being handed round."""
    async with joined() as (session, peer):

        @session.on(Started)
        def take_out(event: Started) -> None:
            if event.audio_start_ms == 2:
                session.off(waiter)

        waiter = Waiter(session)
        await first(peer)
        peer.say(speech(1))
        await quiet()
        peer.say(speech(2), speech(3))
    assert waiter.ended == [0, 1]


@pytest.mark.parametrize("waits", [False, True])
async def test_one_that_takes_itself_out_is_waited_for_and_counted(waits: bool) -> None:
    """A handler that calls ``off`` before it waits comes to its end, and so do its figures."""
    bus, ended = Bus(), list[int]()
    async with joined(bus) as (session, peer):

        @bus.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            if event.audio_start_ms:
                session.off(listen)
                if waits:
                    await quiet()
            ended.append(event.audio_start_ms)

        await first(peer)
        peer.say(speech(1))
    assert ended == [0, 1]
    (total,) = bus.statistics().handlers
    assert (total.delivered, total.dropped) == (2, 0)

"""Eager handlers: the tasks and contexts they run in, from the beginning."""

from __future__ import annotations

import asyncio
import inspect
import sys
from asyncio import current_task
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from realtime_bus import Bus
from realtime_bus import events as ev

from ._eager import (
    BrokenError,
    Started,
    Stopped,
    begins_at_once,
    figures,
    first,
    in_callback,
    on_asyncio,
)
from ._peer import joined, quiet, speech

pytestmark = pytest.mark.anyio


# Tasks


@begins_at_once
@on_asyncio
async def test_each_event_has_a_task_of_its_own() -> None:
    """Before and after waiting, the current task is the event's; later it is the caller's."""
    seen = list[list[Any]]()
    async with joined() as (session, peer):
        go = anyio.Event()

        @session.on(Started, mode="eager")
        async def look(event: Started) -> None:
            mine = [current_task(), anyio.get_current_task().id]
            seen.append(mine)
            if event.audio_start_ms == 2:
                await go.wait()
            assert [current_task(), anyio.get_current_task().id] == mine

        ours = current_task()
        peer.say(speech(0))
        assert current_task() is ours
        await in_callback(peer.say, speech(1))
        peer.say(speech(2), speech(3), speech(4))
        assert current_task() is ours
        go.set()
        await quiet()
        assert figures(session) == (5, 0, 0, 0)
    assert None not in (tasks := {task for task, _ in seen})
    assert ours not in tasks
    assert len(tasks) == 5
    assert all(number == id(task) for task, number in seen)


@begins_at_once
@on_asyncio
async def test_the_callers_task_is_the_current_one_again_after_an_error() -> None:
    """A handler that raises at once leaves the current task as it was, and is reported there."""
    seen = list[Any]()
    async with joined() as (session, peer):
        session.on(ev.HandlerFailed)(lambda event: seen.append(current_task()))

        @session.on(Started, mode="eager")
        async def breaks(event: Started) -> None:
            if event.audio_start_ms:
                raise BrokenError

        await first(peer)
        ours = current_task()
        peer.say(speech(1))
        assert current_task() is ours
        await in_callback(peer.say, speech(2))
        peer.say(speech(3))
    assert seen == [ours, None, ours]


@begins_at_once
@on_asyncio
async def test_one_that_begins_inside_another_has_its_own_task() -> None:
    """A handler whose event another one causes runs in a task of its own."""
    seen = dict[str, Any]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def outer(event: Started) -> None:
            seen["before"] = current_task()
            session.emit(ev.Connected())
            seen["after"] = current_task()

        @session.on(ev.Connected, mode="eager")
        async def inner(event: ev.Connected) -> None:
            seen["inside"] = current_task()

        await first(peer)
        seen.clear()
        peer.say(speech(1))
        assert len(seen) == 3
    assert seen["before"] is seen["after"]
    assert seen["inside"] not in (None, seen["before"])


async def test_a_context_variable_can_be_reset_after_waiting() -> None:
    """All of a handler runs in one context: what it sets stays its own, and its token is good."""
    variable, heard = ContextVar("variable", default="nobody's"), list[str]()
    async with joined() as (session, peer):
        waiting = anyio.Event()

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            token = variable.set("the handler's")
            if event.audio_start_ms == 1:
                await waiting.wait()
            heard.append(variable.get())
            variable.reset(token)
            heard.append(variable.get())

        await first(peer)
        variable.set("the caller's")
        peer.say(speech(1))
        assert variable.get() == "the caller's"
        await quiet()
        waiting.set()
        await quiet()
        peer.say(speech(2))
        assert variable.get() == "the caller's"
    assert heard == ["the handler's", "nobody's"] * 3


# Timeouts and cancel scopes


async def leave_after() -> str:
    """Be cancelled by a scope's deadline."""
    with anyio.move_on_after(0.001) as scope:
        await anyio.sleep_forever()
    return str(scope.cancelled_caught)


async def leave_at_once() -> str:
    """Be cancelled by a deadline that is over."""
    with anyio.move_on_after(0) as scope:
        await anyio.sleep_forever()
    return str(scope.cancelled_caught)


async def fail_after() -> str:
    """Fail at a deadline."""
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.001):
            await anyio.sleep_forever()
    return "True"


async def cancel_own_scope() -> str:
    """Cancel a scope before anything was waited for."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.sleep_forever()
    return str(scope.cancelled_caught)


async def cancel_task_group() -> str:
    """Cancel a task group before anything was waited for."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep_forever)
        tasks.cancel_scope.cancel()
        await anyio.sleep_forever()
    return str(tasks.cancel_scope.cancelled_caught)


async def shield() -> str:
    """Wait where a scope that was cancelled does not reach."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
    return str(not scope.cancelled_caught)


async def asyncio_timeout() -> str:
    """Fail at a deadline of asyncio."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await anyio.sleep_forever()
    return "True"


async def asyncio_timeout_at_once() -> str:
    """Fail at a deadline of asyncio that is over."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anyio.sleep_forever()
    return "True"


async def asyncio_cancel() -> str:
    """Cancel the task that one runs in, and take it back."""
    task = current_task()
    assert task is not None
    task.cancel("stop")
    with pytest.raises(asyncio.CancelledError, match="stop"):
        await anyio.sleep_forever()
    task.uncancel()
    return str(not task.cancelling())


SCOPES = [leave_after, leave_at_once, fail_after, cancel_own_scope, cancel_task_group, shield]
SCOPES_OF_ASYNCIO = [asyncio_timeout, asyncio_timeout_at_once, asyncio_cancel]


async def scope_in_a_handler(scope: Any) -> None:
    """Let a handler use a scope, wherever it begins."""
    heard = list[str]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            heard.append(await scope())
            await anyio.lowlevel.checkpoint()
            ended.set()

        for number in range(3):
            ended = anyio.Event()
            peer.say(speech(number))
            with anyio.fail_after(10):
                await ended.wait()
            await quiet()
        assert figures(session) == (3, 0, 0, 0)
    assert heard == ["True"] * 3


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_scope_may_be_entered_before_it_waits(scope: Any) -> None:
    """Deadlines and cancellations reach a handler that entered the scope in the reader."""
    await scope_in_a_handler(scope)


@on_asyncio
@pytest.mark.parametrize("scope", SCOPES_OF_ASYNCIO)
async def test_a_timeout_of_asyncio_may_be_entered_before_it_waits(scope: Any) -> None:
    """Timeouts and cancellations of asyncio reach it as well."""
    await scope_in_a_handler(scope)


async def test_somebody_else_may_cancel_its_scope_before_its_task_has_its_turn() -> None:
    """A scope that is cancelled right after the handler began in the reader ends its waiting."""
    heard, scopes = list[int](), list[anyio.CancelScope]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                if event.audio_start_ms == 1:
                    await anyio.sleep_forever()
            heard.append(event.audio_start_ms)

        await first(peer)
        peer.say(speech(1), speech(2))
        scopes[-1].cancel()
        await quiet()
        scopes[-1].cancel()  # on trio it has only begun by now
        await quiet()
        peer.say(speech(3))
        await quiet()
    assert heard == [0, 1, 2, 3]


@begins_at_once
@on_asyncio
async def test_its_task_may_be_cancelled() -> None:
    """A cancellation before the loop's next turn is the handler's; one that swallows it goes on."""
    heard, tasks = list[str](), list[Any]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            tasks.append(current_task())
            try:
                if event.audio_start_ms == 1:
                    await anyio.sleep_forever()
            except asyncio.CancelledError as error:
                heard.append(str(error))
            heard.append(str(event.audio_start_ms))

        peer.say(speech(0), speech(1), speech(2))
        tasks[-1].cancel("from outside")
        await quiet()
        peer.say(speech(3))
        assert heard == ["0", "from outside", "1", "2", "3"]
        assert figures(session) == (4, 0, 0, 0)


@begins_at_once
@on_asyncio
@pytest.mark.parametrize("waits", ["never", "before", "after"])
async def test_one_that_cancels_itself_has_failed_at_that_event(waits: str) -> None:
    """A handler that cancels its task stops neither its mailbox nor the session."""
    heard = list[int]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            if event.audio_start_ms in (1, 2):
                if waits == "before":
                    await anyio.lowlevel.checkpoint()
                task = current_task()
                assert task is not None
                task.cancel()
                if waits == "after":
                    await anyio.lowlevel.checkpoint()
            else:
                heard.append(event.audio_start_ms)

        failures = list[ev.HandlerFailed]()
        session.on(ev.HandlerFailed)(failures.append)
        peer.say(*map(speech, range(4)))
        await quiet()
        peer.say(speech(4))
        assert figures(session) == (5, 2, 0, 0)
    assert heard == [0, 3, 4]
    assert {str(failure.error) for failure in failures} == {
        "it was cancelled, or awaited something that was cancelled"
    }


@pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 13),
    reason="asyncio before 3.13 cancels a task at its next wait, although it was uncancelled",
)
@on_asyncio
@pytest.mark.parametrize("waits", ["never", "in the scope", "after the scope"])
async def test_a_scope_may_be_cancelled_from_inside_another_handler(waits: str) -> None:
    """A handler whose scope is cancelled by one that it set off is cancelled in that scope only."""
    heard, scopes = list[tuple[int, bool]](), list[anyio.CancelScope]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def outer(event: Started) -> None:
            if event.audio_start_ms == 0:
                return
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                session.emit(ev.Connected())
                if waits == "in the scope":
                    await anyio.sleep_forever()
            if waits == "after the scope":
                await anyio.lowlevel.checkpoint()
            heard.append((event.audio_start_ms, scope.cancelled_caught))

        @session.on(ev.Connected, mode="eager")
        async def inner(event: ev.Connected) -> None:
            if scopes:
                scopes[-1].cancel()

        session.emit(ev.Connected())
        for number in range(4):
            peer.say(speech(number))
            await quiet()
    assert figures(session) == (4, 0, 0, 0)
    assert heard == [(number, waits == "in the scope") for number in (1, 2, 3)]


# Its mailbox


@on_asyncio
async def test_what_comes_behind_a_full_batch_keeps_the_order() -> None:
    """While the worker gives way behind a batch, no event is begun beside those that follow."""
    trace = list[str]()
    async with joined() as (session, peer):
        go, loop = anyio.Event(), asyncio.get_running_loop()

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            trace.append(f"{event.audio_start_ms} begins")
            if event.audio_start_ms == 0:
                await go.wait()
            if event.audio_start_ms == 64:  # the last of a batch, with nothing behind it
                loop.call_soon(peer.say, *map(speech, range(65, 68)))
            if event.audio_start_ms >= 65:
                await anyio.lowlevel.checkpoint()
            trace.append(f"{event.audio_start_ms} ends")

        peer.say(*map(speech, range(65)))
        go.set()
        await quiet()
        assert figures(session) == (68, 0, 0, 0)
    assert trace == [f"{number} {what}" for number in range(68) for what in ("begins", "ends")]


@pytest.mark.parametrize("waits", [False, True])
async def test_one_that_waits_at_the_report_of_its_own_failure(waits: bool) -> None:
    """A report that its own failure causes is handled after it, and counted as another event."""
    heard = list[str]()
    async with joined() as (session, peer):
        go = anyio.Event()

        @session.on(Started, ev.HandlerFailed, mode="eager")
        async def listen(event: Started | ev.HandlerFailed) -> None:
            if isinstance(event, ev.HandlerFailed):
                await go.wait()
                heard.append(f"failed at {event.event_type}")
                return
            heard.append(str(event.audio_start_ms))
            if waits:
                await anyio.lowlevel.checkpoint()
            raise BrokenError

        peer.say(speech(1))
        await quiet()
        assert figures(session) == (1, 1, 0, 1)
        go.set()
        await quiet()
        assert figures(session) == (2, 1, 0, 0)
    assert heard == ["1", "failed at input_audio_buffer.speech_started"]


class OddError(BaseException):
    """What nobody should raise."""


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("error", [OddError(), BaseExceptionGroup("odd", [OddError()])])
async def test_whatever_it_raises_is_a_reported_failure(waits: bool, error: BaseException) -> None:
    """What is neither an Exception nor a cancellation ends no session."""
    heard = list[int]()
    async with joined() as (session, peer):

        @session.on(Started, mode="eager")
        async def listen(event: Started) -> None:
            if waits:
                await anyio.lowlevel.checkpoint()
            if event.audio_start_ms == 1:
                raise error
            heard.append(event.audio_start_ms)

        failed = session.wait_for(ev.HandlerFailed)
        peer.say(speech(1), speech(2))
        failure = (await failed).error
        await quiet()
        assert figures(session) == (2, 1, 0, 0)
    assert heard == [2]
    assert failure.__cause__ is error
    assert str(failure) == f"it raised {type(error).__name__}"


@begins_at_once
@on_asyncio
async def test_what_is_no_coroutine_is_a_failure() -> None:
    """One that only looks like an async function has failed, and is called again."""
    async with joined() as (session, peer):

        def listen(event: Started) -> Any:
            called.append(event.audio_start_ms)

        called = list[int]()
        mark = getattr(inspect, "markcoroutinefunction")  # noqa: B009  # unknown before 3.12
        mark(listen)
        session.on(Started, mode="eager")(listen)
        peer.say(speech(0), speech(1))
        await quiet()
        assert figures(session) == (2, 2, 0, 0)
    assert called == [0, 1]


# The end


async def test_it_may_clean_up_behind_a_shield_when_it_is_cancelled() -> None:
    """Its clean-up is waited for, and not cancelled in its turn."""
    bus, heard = Bus(drain_timeout_s=0), list[str]()
    go = anyio.Event()

    @bus.on(Started, mode="eager")
    async def listen(event: Started) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                heard.append("cancelled")
                await go.wait()
                await anyio.lowlevel.checkpoint()
            heard.append("cleaned up")

    async def release() -> None:
        while not heard:
            await anyio.lowlevel.checkpoint()
        await quiet()
        go.set()

    async with anyio.create_task_group() as tasks:
        async with joined(bus) as (_, peer):
            peer.say(speech(1), speech(2))
            await quiet()
            tasks.start_soon(release)
    assert heard == ["cancelled", "cleaned up"]
    (total,) = bus.statistics().handlers
    assert (total.delivered, total.failed, total.dropped, total.pending) == (0, 0, 2, 0)


async def test_one_that_fails_when_it_is_cancelled_is_reported() -> None:
    """An error of its clean-up is a failure, not a dropped event."""
    bus, failures = Bus(drain_timeout_s=0), list[str]()

    @bus.on(Started, mode="eager")
    async def listen(event: Started) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise BrokenError

    with capture_logs() as logs:
        async with joined(bus) as (_, peer):
            peer.say(speech(1))
            await quiet()
    failures += [line["error"] for line in logs if line["event"] == "a handler failed"]
    assert len(failures) == 1
    (total,) = bus.statistics().handlers
    assert (total.delivered, total.failed, total.dropped, total.pending) == (1, 1, 0, 0)


@pytest.mark.parametrize("worker", [False, True])
async def test_one_that_begins_while_the_session_is_being_cancelled_is_cancelled(
    worker: bool,
) -> None:
    """What begins between the cancellation and the end of the block is told of it."""
    bus, trace = Bus(raise_handler_errors=True, drain_timeout_s=0), list[str]()

    @bus.on(Started, mode="eager", name="waiter")
    async def wait(event: Started) -> None:
        if event.audio_start_ms == 0:
            await anyio.lowlevel.checkpoint()
            return
        trace.append("begun")
        try:
            await anyio.sleep_forever()
        finally:
            trace.append("ended")

    @bus.on(Stopped)
    def fails(event: Stopped) -> None:
        raise BrokenError

    with pytest.raises(BrokenError):  # noqa: PT012  # what comes out of the whole block is the point
        async with joined(bus) as (_, peer):
            if worker:
                await first(peer)
            peer.say(Stopped(audio_end_ms=0, item_id="item_u"))
            peer.say(speech(1), speech(2))
            await anyio.sleep_forever()
    assert trace in (["begun", "ended"], [])  # a plain mailbox may not have come to it
    total = bus.statistics().handlers[0]
    assert (total.delivered, total.dropped, total.pending) == (int(worker), 2, 0)


@on_asyncio
async def test_it_leaves_no_task_behind() -> None:
    """Whatever became of its handlers, all tasks of a session have ended with it."""
    before = asyncio.all_tasks()
    bus = Bus(drain_timeout_s=0)

    @bus.on("*", mode="eager")
    async def wait(event: ev.Event) -> None:
        await anyio.sleep_forever()

    async with joined(bus) as (session, peer):
        peer.say(speech(0))
        session.emit(ev.Connected())
        await quiet()
    session.emit(ev.Connected())
    assert asyncio.all_tasks() == before


@begins_at_once
def test_it_works_on_uvloop() -> None:
    """Tasks that start at once are not of the loop's making."""
    uvloop = pytest.importorskip("uvloop")
    heard = list[str]()

    async def run() -> None:
        async with joined() as (session, peer):

            @session.on(Started, mode="eager")
            async def listen(event: Started) -> None:
                heard.append(f"{event.audio_start_ms} begins")
                if event.audio_start_ms:
                    with anyio.move_on_after(0.001):
                        await anyio.sleep_forever()
                heard.append(f"{event.audio_start_ms} ends")

            for number in range(2):
                await in_callback(peer.say, speech(number))
            assert heard == ["0 begins", "0 ends", "1 begins"]

    anyio.run(run, backend_options={"loop_factory": uvloop.new_event_loop})
    assert heard[3:] == ["1 ends"]

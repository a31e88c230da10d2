"""A handler that raises is its own problem: reported, and nobody else's."""

# ruff: noqa: D103  # the samples say by their names what they are
# ruff: noqa: PT012  # what comes out of the whole block is the point

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from realtime_bus import Bus, Session
from realtime_bus import events as ev

from ._peer import joined, quiet, speech

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


class BrokenError(Exception):
    """What the handlers of this file raise."""


def raises(*_: Any) -> None:
    raise BrokenError


async def raises_later(*_: Any) -> None:
    await anyio.lowlevel.checkpoint()
    raise BrokenError


def on_sync(session: Session) -> None:
    session.on(Started)(raises)


def on_async(session: Session) -> None:
    session.on(Started)(raises_later)


def on_predicate(session: Session) -> None:
    session.on(Started, where=raises, name="raises")(lambda event: None)


def on_interceptor(session: Session) -> None:
    session.intercept(Started, raises)


def on_task(session: Session) -> None:
    session.start_soon(raises_later)


@pytest.mark.parametrize("cause", [on_sync, on_async, on_predicate, on_interceptor, on_task])
async def test_a_failure_is_reported_and_stops_nobody(cause: Any) -> None:
    """Whatever raises gives an event and a log line; other handlers and the session go on."""
    heard = list[int]()
    with capture_logs() as logs:
        async with joined() as (session, peer):
            failed = session.wait_for(ev.HandlerFailed)
            cause(session)
            session.on(Started)(lambda event: heard.append(event.audio_start_ms))
            peer.say(speech(1))
            failure = await failed
            peer.say(speech(2))
            await quiet()
            assert peer.closed is None
    assert heard == [1, 2]
    assert isinstance(failure.error, BrokenError)
    assert failure.handler.rpartition(".")[2].startswith("raises")
    assert failure.event_type in {"input_audio_buffer.speech_started", ""}
    (line, *_) = [line for line in logs if line["event"] == "a handler failed"]
    assert line["log_level"] == "error"
    assert "BrokenError" in line["error"]
    assert "test_failures.py" in line["traceback"]
    assert line["handler"] == failure.handler


def _cancelled() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("mode", ["eager", "queue", "parallel", "latest", "task"])
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after waiting"])
async def test_awaiting_what_was_cancelled_is_a_failure(mode: Any, *, waits: bool) -> None:
    """The cancellation of something that it awaits is reported, and does not end the session."""

    async def await_it(_event: object = None) -> None:
        if waits:
            await anyio.lowlevel.checkpoint()
        await _cancelled()

    heard = list[int]()
    async with joined() as (session, peer):
        failed = session.wait_for(ev.HandlerFailed)
        session.on(Started)(lambda event: heard.append(event.audio_start_ms))
        if mode == "task":
            session.start_soon(await_it)
        else:
            session.on(Started, mode=mode, name="listener")(await_it)
        peer.say(speech(1))
        failure = await failed
        peer.say(speech(2))
        await quiet()
        assert isinstance(failure.error.__cause__, asyncio.CancelledError)
        assert "awaited something that was cancelled" in str(failure.error)
        assert peer.closed is None
        if mode != "task":
            assert [one.failed for one in session.statistics().handlers][1] == 2
    assert heard == [1, 2]


async def test_a_failing_close_callback_stops_no_other() -> None:
    """Every ``on_close`` callback is called, and one that raises is reported."""
    called = list[str]()
    with capture_logs() as logs:
        async with joined() as (session, _):
            session.on_close(raises)
            session.on_close(lambda: called.append("second"))
    assert called == ["second"]
    assert [line["handler"] for line in logs] == ["tests.bus.test_failures.raises"]


@pytest.mark.parametrize("broken", [raises, raises_later])
async def test_a_failing_handler_of_failures_does_not_report_itself_for_ever(broken: Any) -> None:
    """A handler of `HandlerFailed` that fails is logged once per failure, and that is all."""
    bus = Bus()
    bus.on(ev.HandlerFailed)(broken)
    bus.on(Started)(raises)
    with capture_logs() as logs:
        async with joined(bus) as (_, peer):
            peer.say(speech())
            await quiet()
    assert [line["event_type"] for line in logs] == [
        "input_audio_buffer.speech_started",
        "bus.handler_failed",
    ]


async def test_an_interceptor_of_failures_that_fails_is_only_logged() -> None:
    """An interceptor that fails at a `HandlerFailed` does not cause another one."""
    failures = list[ev.Event]()
    with capture_logs() as logs:
        async with joined() as (session, peer):
            session.intercept(ev.HandlerFailed, raises)
            session.on(ev.HandlerFailed)(failures.append)
            session.on(Started)(raises)
            peer.say(speech())
    assert len(failures) == 1
    assert len(logs) == 2


@pytest.mark.parametrize("mode", ["inline", "queue"])
async def test_a_plain_function_that_returns_a_coroutine_is_reported(mode: Any) -> None:
    """Work that nobody would await is not lost in silence."""
    async with joined() as (session, peer):
        failed = session.wait_for(ev.HandlerFailed)
        session.on(Started, mode=mode, name="wrapper")(lambda event: raises_later(event, 1))
        peer.say(speech())
        assert "wrapper is a plain function that returned a coroutine" in str((await failed).error)


@pytest.mark.parametrize("cause", [on_sync, on_async, on_interceptor, on_task])
async def test_tests_can_have_failures_raised(cause: Any) -> None:
    """With ``raise_handler_errors`` the block is cancelled and the error comes out as it is."""
    bus = Bus(raise_handler_errors=True)
    with pytest.raises(BrokenError):
        async with joined(bus) as (session, peer):
            cause(session)
            peer.say(speech())
            await anyio.sleep_forever()
    assert bus.statistics().sessions == 0


async def test_a_failure_while_mailboxes_empty_is_raised_too() -> None:
    """With ``raise_handler_errors`` an error after the block's end is not lost."""
    with pytest.raises(BrokenError):
        async with joined(Bus(raise_handler_errors=True)) as (session, peer):
            session.on(Started)(raises_later)
            peer.say(speech())


async def test_a_failure_while_opening_is_raised_too() -> None:
    """With ``raise_handler_errors`` an error during the opening comes out of the opening."""
    bus = Bus(raise_handler_errors=True)
    bus.on(ev.SessionCreated)(raises)
    with pytest.raises(BrokenError):
        async with joined(bus):
            pytest.fail("the block must not begin")


async def test_only_the_first_failure_is_raised() -> None:
    """Later failures are logged; the one that came first is the one to look at."""
    with capture_logs() as logs, pytest.raises(BrokenError):
        async with joined(Bus(raise_handler_errors=True)) as (session, peer):
            session.on(Started)(raises)
            session.on(Started)(lambda event: 1 / 0)
            peer.say(speech())
            await anyio.sleep_forever()
    assert len(logs) == 2

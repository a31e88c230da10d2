"""Cancellation, asked for and not: what it ends, and what it must not end."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from benchmarks import cancel
from realtime_bus import Bus, CloseInfo, InvalidURL, Reconnect, SessionClosed, errors
from realtime_bus import events as ev
from realtime_bus.errors import RealtimeBusError
from realtime_bus.session import _arbiter
from realtime_bus.transport import PushTransport

from ..bus._peer import Peer, joined, quiet, speech  # noqa: TID252  # tests are no package with a name of its own
from ._replies import created, types

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


# --- what code of the application raises -----------------------------------------------------


def cancels(*_: Any) -> Any:
    """Raise a cancellation, as plain code does that asks for a cancelled future's result."""
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    "register",
    [
        lambda session: session.on(Started)(cancels),
        lambda session: session.on(Started, where=cancels)(lambda event: None),
        lambda session: session.intercept(Started, cancels),
    ],
    ids=["handler", "where", "interceptor"],
)
async def test_plain_code_that_raises_a_cancellation_has_failed(
    register: Callable[[Any], None],
) -> None:
    """It is reported, the connection stays, and the session can be left at once."""
    async with joined() as (session, peer):
        failed = session.stream(ev.HandlerFailed)
        register(session)
        peer.say(speech(1), speech(2))
        for _ in range(2):
            assert isinstance((await anext(failed)).error.__cause__, asyncio.CancelledError)
        assert session.close_info is None
    assert session.close_info == CloseInfo(code=1000)


async def test_a_deliver_that_raises_a_cancellation_ends_run() -> None:
    """`run` comes to an end and says so, though the cancellation was nobody's."""
    transport = PushTransport(send=lambda _: None)
    transport.feed(b"{}")
    with anyio.fail_after(2), pytest.raises(RuntimeError, match="deliver raised CancelledError"):
        await transport.run(cancels)


async def cancel_own_task() -> None:
    """Cancel the task that this runs in, and wait."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await anyio.sleep_forever()


async def raise_a_group() -> None:
    """Raise a group that holds nothing but cancellations."""
    raise BaseExceptionGroup("all were cancelled", [asyncio.CancelledError()])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("fails", [cancel_own_task, raise_a_group])
@pytest.mark.parametrize("mode", ["queue", "parallel", "eager", "task"])
async def test_who_cancels_itself_ends_no_session(mode: Any, fails: Any) -> None:
    """Unless the session is being left, that is a failure like others."""
    heard = list[int]()
    async with joined() as (session, peer):
        failed = session.wait_for(ev.HandlerFailed)

        async def handler(event: Started) -> None:
            heard.append(event.audio_start_ms)
            await fails()

        if mode == "task":
            session.start_soon(handler, speech(1))
        else:
            session.on(Started, mode=mode)(handler)
            peer.say(speech(1))
        await failed
        await quiet()
        assert session.close_info is None
        peer.say(speech(2))
        await quiet()
    assert heard == ([1] if mode == "task" else [1, 2])
    assert session.close_info == CloseInfo(code=1000)


# --- the owner is cancelled ------------------------------------------------------------------


class Slow(PushTransport):
    """A transport of somebody's own, whose closing takes some time and shields nothing."""

    closed = False

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close, after a while."""
        await anyio.sleep(0.01)
        self.closed = True
        await super().aclose(code, reason)


class Stuck(PushTransport):
    """A transport whose closing never ends."""

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Wait for ever."""
        await anyio.sleep_forever()


async def test_a_cancelled_owner_closes_every_transport() -> None:
    """Also one that does not shield its closing."""
    transport = Slow(send=lambda _: None)
    with anyio.CancelScope() as scope:
        async with Bus().session(transport, wait_created=False):
            scope.cancel()
            await anyio.sleep_forever()
    assert transport.closed


@pytest.mark.slow
async def test_a_cancelled_owner_is_not_kept() -> None:
    """A transport that cannot be closed keeps who was cancelled for a second, not more."""
    with anyio.fail_after(3):
        with anyio.CancelScope() as scope:
            async with Bus().session(Stuck(send=lambda _: None), wait_created=False):
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_is_cancelled_by_asyncio_does_not_drain() -> None:
    """``task.cancel()`` ends a session as a scope does: no mailbox is waited for."""
    transport = Slow(send=lambda _: None)
    begun = asyncio.Event()

    async def own() -> None:
        async with Bus(drain_timeout_s=60).session(transport, wait_created=False) as session:

            @session.on(Started)
            async def stuck(event: Started) -> None:
                begun.set()
                await anyio.sleep_forever()

            transport.feed(speech().to_json())
            await asyncio.sleep(60)

    task = asyncio.create_task(own())
    await begun.wait()
    task.cancel()
    with anyio.fail_after(2):
        await asyncio.wait([task])
    assert task.cancelled()
    assert transport.closed


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_by_asyncio_while_closing_is_not_lost() -> None:
    """An owner that is cancelled while its connection closes is cancelled."""
    transport = Stuck(send=lambda _: None)

    async def own() -> None:
        async with Bus().session(transport, wait_created=False):
            pass

    task = asyncio.create_task(own())
    await quiet()
    task.cancel()
    with anyio.fail_after(3):
        await asyncio.wait([task])
    assert task.cancelled()


async def test_cancelled_while_opening() -> None:
    """Whoever is cancelled before the server has spoken leaves no connection open."""
    transport = Slow(send=lambda _: None)
    with anyio.move_on_after(0.01):
        async with Bus().session(transport):
            pytest.fail("the block must not begin")
    assert transport.closed


@pytest.mark.breaks_rules("wait-for-session-created")
async def test_a_task_that_sends_while_the_block_ends_has_not_failed() -> None:
    """It finds the session closing: that is how such tasks end, and nothing to report."""
    peer = Peer()
    peer.say(ev.SessionCreated(session=ev.RealtimeSession(id="sess_1")))
    closing = anyio.Event()
    ended = list[Exception]()

    class Closing(PushTransport):
        async def aclose(self, code: int = 1000, reason: str = "") -> None:
            """Take some time, in which nothing can be sent any more."""
            closing.set()
            await anyio.lowlevel.checkpoint()
            await quiet()
            await super().aclose(code, reason)

        def send(self, frame: bytes) -> None:
            """Send, unless closing has begun."""
            if closing.is_set():
                raise errors.TransportClosed("the connection is closing", close=CloseInfo())

    async def sends() -> None:
        await closing.wait()
        try:
            await session.send(ev.InputAudioBufferClear())
        except SessionClosed as error:
            ended.append(error)
            raise

    with capture_logs() as logs:
        async with Bus().session(Closing(send=lambda _: None), wait_created=False) as session:
            session.start_soon(sends)
            await quiet()
    assert len(ended) == 1
    assert logs == []


# --- exceptions, clocks, addresses -----------------------------------------------------------


def every_error() -> list[RealtimeBusError]:
    """Make one of each."""
    details = ev.ErrorDetails(type="invalid_request_error", code="c", message="no", param="p")
    close = CloseInfo(code=1001, reason="enough")
    asked: dict[str, Any] = {"event_type": "session.update", "event_id": "rb_1"}
    return [
        errors.RealtimeBusError("x"),
        errors.UsageError("x"),
        errors.InvalidEvent("x", event_type="t", param="p", problems=["a"]),
        errors.EventTooLarge("x", event_type="t", param="p", size_bytes=2, limit_bytes=1),
        errors.ConnectError("x", url="wss://h"),
        errors.InvalidURL("x", url="wss://h"),
        errors.HostUnreachable("x", url="wss://h"),
        errors.UpgradeRefused("x", url="wss://h", status=500, body="b"),
        errors.AuthenticationError("x", url="wss://h", status=401, close_code=3000),
        errors.SessionClosed("x", close=close),
        errors.TransportClosed("x", close=close),
        errors.RequestError("x", **asked),
        errors.RequestRejected("x", error=details, **asked),
        errors.RequestTimeout("x", timeout_s=1.0, **asked),
        errors.ConnectionLost("x", close=close, **asked),
        errors.MissingExtra("numpy", extra="devices"),
    ]


def unpickled(error: Any) -> Any:
    """Send an exception through a pickle."""
    return pickle.loads(pickle.dumps(error))  # noqa: S301  # our own


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, unpickled])
def test_an_exception_can_be_copied_and_pickled(error: Any, again: Callable[[Any], Any]) -> None:
    """Class, text and attributes are the same."""
    made = again(error)
    assert type(made) is type(error)
    assert (str(made), made.args) == (str(error), error.args)
    assert vars(made) == vars(error)


def test_no_exception_is_forgotten_above() -> None:
    """`every_error` has one of each public class."""
    public = {getattr(errors, name) for name in errors.__all__} - {CloseInfo}
    assert {type(error) for error in every_error()} == public


@pytest.mark.parametrize("url", ["wss://[bad/", "wss://host:port/", "https://host/", "wss:///path"])
def test_an_address_that_cannot_be_read(url: str) -> None:
    """`connect` says so when it is called, and nothing else than `InvalidURL`."""
    with pytest.raises(InvalidURL):
        Bus().connect(url, api_key="k")


@pytest.mark.breaks_rules("one-active-response")
def test_the_guard_of_the_queue_does_not_spin() -> None:
    """On a clock that stops a rounding error short of what it was set to, time goes on."""
    trio = pytest.importorskip("trio")
    trio_testing = pytest.importorskip("trio.testing")

    async def main() -> None:
        async with joined() as (session, peer):
            for number in range(30):
                await trio.sleep(number / 3 + 0.1)
                peer.say(created(f"resp_{number}"))
                session.respond()  # never answered: the next one asks all the same
            await trio.sleep(_arbiter.STALE_S * 40)
            assert types(peer) == ["response.create"] * 30

    trio.run(main, clock=trio_testing.MockClock(autojump_threshold=0))


# --- the next connection ---------------------------------------------------------------------


async def test_left_as_the_next_connection_has_just_opened() -> None:
    """It is closed: a session that was left has no use for it, and nobody else knows it."""
    first, opening, opened = Peer(), anyio.Event(), list[Slow]()
    first.say(ev.SessionCreated(session=ev.RealtimeSession(id="sess_1")))

    async def dials(_url: str, **_options: Any) -> Any:
        if not opened:
            opened.append(Slow(send=lambda _: None))
            return first.transport
        await opening.wait()
        return opened[0]

    reconnect = Reconnect(first_delay_s=0.0)
    with capture_logs() as logs, anyio.CancelScope() as scope:
        async with Bus().connect("ws://127.0.0.1:9/?model=m", dial=dials, reconnect=reconnect):
            first.hang_up()
            await quiet()
            opening.set()  # what waits for it is on its way, and cannot be cancelled any more
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert opened[0].closed
    assert [line["event"] for line in logs] == ["the connection is lost"]


@pytest.mark.slow
@pytest.mark.parametrize("life", cancel.LIVES)
@pytest.mark.parametrize("way", cancel.WAYS)
def test_cancelled_at_any_step(way: str, life: str) -> None:
    """Nothing hangs or is left, and no cancellation is lost; the command takes every step."""
    first = 7 + list(cancel.LIVES).index(life)
    figures = cancel.run(way, life, first=first, every=90)
    assert figures.found == []
    assert figures.cancelled >= 2

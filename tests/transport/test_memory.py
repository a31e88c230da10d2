"""Transports without a network."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import anyio
import pytest

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.errors import TransportClosed, UsageError
from realtime_bus.routing import Mode
from realtime_bus.transport import PushTransport, memory_transport_pair

pytestmark = pytest.mark.anyio


async def test_a_frame_is_delivered_inside_send(running: Any) -> None:
    """When send returns, the other end has the frame."""
    left, right = memory_transport_pair()
    async with running(right) as run:
        with anyio.fail_after(60):
            while not right._frames.started:
                await anyio.lowlevel.checkpoint()
        left.send(b"1")
        left.send(b"2")
        assert run.box.frames == [b"1", b"2"]
        assert left.buffered_bytes == 0


async def test_frames_before_run_are_held(running: Any) -> None:
    """What was sent before the other end ran is delivered when it does."""
    left, right = memory_transport_pair()
    left.send(b"1")
    assert left.buffered_bytes == 1
    async with running(right) as run:
        assert await run.box.until(1) == [b"1"]


async def test_answering_each_other_keeps_order(running: Any) -> None:
    """Frames that are sent from within deliver queue up instead of recursing."""
    left, right = memory_transport_pair()
    async with running(left) as ours, running(right) as theirs:
        for count in range(1, 2001):
            ours.box.at[count] = lambda: left.send(b"ping")
            theirs.box.at[count] = lambda: right.send(b"pong")
        ours.box.at[2001] = theirs.box.at[2001] = int
        left.send(b"start")
        assert len(await ours.box.until(2000)) >= 2000
        assert theirs.box.frames[0] == b"start"


async def test_both_ends_learn_how_it_closed(running: Any) -> None:
    """Closing one end closes the other with the same code and reason."""
    left, right = memory_transport_pair()
    async with running(left) as ours, running(right) as theirs:
        await left.aclose(4000, "done")
        await left.aclose(1000)
        for run in (ours, theirs):
            info = await run.end()
            assert (info.code, info.reason, info.clean) == (4000, "done", True)
        for transport in (left, right):
            with pytest.raises(TransportClosed):
                transport.send(b"x")
            with pytest.raises(TransportClosed):
                await transport.drain()


async def test_a_severed_pair_sees_1006(running: Any) -> None:
    """Breaking the connection is unclean at both ends."""
    left, right = memory_transport_pair()
    async with running(left) as ours, running(right) as theirs:
        left.sever()
        for run in (ours, theirs):
            info = await run.end()
            assert (info.code, info.clean) == (1006, False)
            assert isinstance(info.error, ConnectionResetError)


async def test_pausing_holds_and_drain_waits(running: Any) -> None:
    """A paused end holds frames in order, and its peer's drain waits for it."""
    left, right = memory_transport_pair()
    async with running(right) as run, anyio.create_task_group() as tasks:
        right.pause()
        sent = [b"%d" % i + b"x" * 10_000 for i in range(10)]
        for frame in sent:
            left.send(frame)
        drained = anyio.Event()

        async def drain() -> None:
            await left.drain()
            drained.set()

        tasks.start_soon(drain)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert run.box.frames == []
        assert not drained.is_set()
        right.resume()
        assert await run.box.until(10) == sent
        with anyio.fail_after(60):
            await drained.wait()


async def test_the_end_waits_for_held_frames(running: Any) -> None:
    """An end that comes while paused is reported after what was held."""
    left, right = memory_transport_pair()
    async with running(right) as run:
        right.pause()
        left.send(b"1")
        await left.aclose()
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert run.info is None
        right.resume()
        assert (await run.end()).code == 1000
        assert run.box.frames == [b"1"]


async def test_frames_are_fed_by_hand(running: Any) -> None:
    """The application feeds what it received and gets what the session sends."""
    sent: list[bytes] = []
    closes: list[tuple[int, str]] = []
    transport = PushTransport(send=sent.append, close=lambda *how: closes.append(how))
    transport.feed("early")
    async with running(transport) as run:
        await run.box.until(1)
        transport.feed(b"late")
        transport.send(b"out")
        await transport.drain()
        assert transport.buffered_bytes == 0
        assert run.box.frames == [b"early", b"late"]
        transport.pause()
        assert transport.paused
        transport.resume()
        transport.end(1001, "going away")
        assert (await run.end()).reason == "going away"
        transport.feed(b"too late")
    assert sent == [b"out"]
    assert closes == []


async def test_the_session_closes_a_fed_transport(running: Any) -> None:
    """Closing tells the application once."""
    closes: list[tuple[int, str]] = []
    transport = PushTransport(send=print, close=lambda *how: closes.append(how))
    async with running(transport) as run:
        await transport.aclose(4000, "bye")
        assert (await run.end()).code == 4000
    assert closes == [(4000, "bye")]


@pytest.mark.parametrize("transport", [PushTransport(send=len), memory_transport_pair()[0]])
async def test_a_close_code_that_may_not_be_sent_is_refused(transport: PushTransport) -> None:
    """As over a socket, and nothing is closed."""
    with pytest.raises(UsageError, match="99 may not be sent"):
        await transport.aclose(99)
    transport.send(b"still open")


async def test_an_error_in_deliver_comes_out_of_run() -> None:
    """What deliver raises ends the connection and is raised by run, not by the sender."""
    left, right = memory_transport_pair()
    left.send(b"1")

    def deliver(_frame: bytes) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await right.run(deliver)


def test_a_session_may_be_fed_by_a_callback_under_plain_asyncio() -> None:
    """Plain, eager, queued and parallel handlers all get what comes where there is no task."""
    bus = Bus()
    heard: list[str] = []

    async def converse() -> None:
        done = asyncio.Event()

        def note(how: str) -> None:
            heard.append(how)
            if len(heard) == 4:
                done.set()

        @bus.on(ev.InputAudioBufferCleared)
        def plain(_event: ev.InputAudioBufferCleared) -> None:
            note("plain")

        async def handle(_event: ev.InputAudioBufferCleared, mode: str) -> None:
            assert anyio.current_time() > 0
            note(mode)

        modes: tuple[Mode, ...] = ("eager", "queue", "parallel")
        for mode in modes:
            bus.on(ev.InputAudioBufferCleared, mode=mode)(partial(handle, mode=mode))
        transport = PushTransport(send=len)
        async with bus.session(transport, wait_created=False):
            frame = b'{"type":"input_audio_buffer.cleared","event_id":"event_1"}'
            asyncio.get_running_loop().call_soon(transport.feed, frame)
            await asyncio.wait_for(done.wait(), 10)

    asyncio.run(converse())
    assert sorted(heard) == ["eager", "parallel", "plain", "queue"]

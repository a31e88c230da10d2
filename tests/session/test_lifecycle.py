"""How sessions begin and end."""

# ruff: noqa: PT012  # what comes out of the whole block is the point

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from realtime_bus import (
    Bus,
    CloseInfo,
    SessionClosed,
    UsageError,
)
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport, memory_transport_pair

from ..bus._peer import Peer, joined, quiet, speech  # noqa: TID252  # tests are no package with a name of its own

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


class MistakeError(Exception):
    """What a block raises."""


async def test_a_session_knows_who_it_is() -> None:
    """In the block the id and the settings are known, from ``session.created``."""
    async with joined() as (session, _):
        assert session.id == "sess_1"
        assert session.config == ev.RealtimeSession(id="sess_1")
        assert session.close_info is None


async def test_leaving_closes_the_connection() -> None:
    """The end of the block closes with 1000 and waits until the transport has ended."""
    async with joined() as (session, peer):
        pass
    assert peer.closed == (1000, "")
    assert await session.wait_closed() == CloseInfo(code=1000)


async def test_closing_by_hand_gives_code_and_reason() -> None:
    """`aclose` tells the other side why, and twice is once."""
    async with joined() as (session, peer):
        await session.aclose(4001, "enough")
        await session.aclose(4002, "again")
        assert session.close_info == CloseInfo(code=4001, reason="enough")
    assert peer.closed == (4001, "enough")


async def test_a_close_code_that_may_not_be_sent() -> None:
    """`Session.aclose` and `Bus.aclose` refuse it, and the session goes on."""
    bus = Bus()
    async with joined(bus) as (session, peer):
        for close in (session.aclose, bus.aclose):
            with pytest.raises(UsageError, match="close code 1005 may not be sent"):
                await close(1005)
        assert (session.close_info, peer.closed) == (None, None)


async def test_leaving_lets_mailboxes_empty() -> None:
    """What has come before the end is still handled, by handlers that have to wait too."""
    heard = list[int]()
    async with joined() as (session, peer):

        @session.on(Started)
        async def slow(event: Started) -> None:
            await anyio.lowlevel.checkpoint()
            heard.append(event.audio_start_ms)

        @session.on(Started, mode="parallel", limit=2)
        async def wide(event: Started) -> None:
            await quiet()

        peer.say(*map(speech, range(5)))
    assert heard == [0, 1, 2, 3, 4]


async def test_a_closed_handler_with_a_mailbox_runs() -> None:
    """An async handler of `Closed` is given its time."""
    bus, heard = Bus(), list[int]()

    @bus.on(ev.Closed)
    async def ended(event: ev.Closed) -> None:
        await anyio.lowlevel.checkpoint()
        heard.append(event.code)

    async with joined(bus):
        pass
    assert heard == [1000]


async def test_draining_has_an_end() -> None:
    """After ``drain_timeout_s`` what still waits is dropped, and counted."""
    async with joined(Bus(drain_timeout_s=0.01)) as (session, peer):

        @session.on(Started)
        async def stuck(event: Started) -> None:
            await anyio.sleep_forever()

        peer.say(*map(speech, range(3)))
    (figures,) = session.statistics().handlers
    assert (figures.delivered, figures.dropped, figures.pending) == (0, 3, 0)


async def test_what_the_block_raises_comes_out_as_it_was() -> None:
    """An exception of the block is not wrapped in a group."""
    with pytest.raises(MistakeError):
        async with joined() as (session, _):
            session.start_soon(anyio.sleep_forever)
            raise MistakeError


async def test_a_block_can_be_cancelled_from_outside() -> None:
    """A cancelled block closes the connection, ends its tasks, and the cancellation goes on."""
    ended = list[str]()

    async def task() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("task")

    bus = Bus()
    with anyio.CancelScope() as scope:
        async with joined(bus) as (session, peer):
            session.start_soon(task)
            await quiet()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert peer.closed == (1000, "")
    assert ended == ["task"]
    assert bus.statistics().sessions == 0
    assert session.close_info is not None


async def test_a_cancellation_during_the_end_goes_on_too() -> None:
    """A block that is done can still be cancelled while its mailboxes empty."""
    with anyio.CancelScope() as scope:
        async with joined() as (session, peer):

            @session.on(Started)
            async def stuck(event: Started) -> None:
                scope.cancel()
                await anyio.sleep_forever()

            peer.say(speech())
        pytest.fail("the cancellation was swallowed")
    assert scope.cancelled_caught
    assert session.statistics().handlers[0].dropped == 1


@pytest.mark.breaks_rules("wait-for-session-created")
async def test_a_session_is_open_once() -> None:
    """What `connect` and `session` return can be entered again when it was left, not before."""
    transport = PushTransport(send=len)
    opening = Bus().session(transport, wait_created=False)
    async with opening as session:
        with pytest.raises(UsageError, match="this session is open already"):
            await opening.__aenter__()
        assert session.close_info is None
    async with opening as again:
        assert again is not session


async def test_an_opening_can_be_cancelled() -> None:
    """Whoever waits for a server that says nothing can give up."""
    peer, bus = Peer(), Bus()
    with anyio.move_on_after(0.01) as scope:
        async with bus.session(peer.transport):
            pytest.fail("the block must not begin")
    assert scope.cancelled_caught
    assert peer.closed is not None
    assert bus.statistics().sessions == 0


@pytest.mark.breaks_rules("cancel-something")
async def test_the_connection_is_lost_in_the_middle() -> None:
    """Every request fails at once with the close's code and reason, and sending does too."""
    async with joined() as (session, peer):
        closed = session.wait_for(ev.Closed)

        async def lose() -> None:
            await quiet()
            peer.hang_up(1011, "keepalive timeout")

        session.start_soon(lose)
        with pytest.raises(SessionClosed) as caught:
            await session.clear_input()
        assert caught.value.close.code == 1011
        message = "the session closed with 1011 (keepalive timeout) before input_audio_buffer.clear"
        assert message in str(caught.value)
        assert (await closed).reason == "keepalive timeout"
        with pytest.raises(SessionClosed, match="cannot send: the session closed with 1011"):
            await session.send(ev.ResponseCancel())
        with pytest.raises(SessionClosed, match="cannot respond"):
            session.respond()
        with pytest.raises(SessionClosed):
            await session.wait_for(Started)
        with pytest.raises(SessionClosed, match=r"closed with 1011 \(keepalive timeout\)"):
            await anext(session.stream(Started))


async def test_a_severed_connection_is_unclean() -> None:
    """A connection that breaks without a close frame ends with 1006."""
    client, server = memory_transport_pair()
    async with Bus().session(client, wait_created=False) as session:
        server.sever()
        close = await session.wait_closed()
    assert (close.code, close.clean) == (1006, False)


async def test_happenings_of_the_end_come_in_order() -> None:
    """Requests fail first, then `Closed` is handled, then the ``on_close`` callbacks run."""
    trace = list[str]()
    bus = Bus()
    bus.on(ev.Closed)(lambda event: trace.append("closed"))
    async with joined(bus) as (session, peer):
        session.on_close(lambda: trace.append("called back"))
        peer.hang_up()
    assert trace == ["closed", "called back"]


class Fragile(PushTransport):
    """A transport of somebody's own, with faults."""

    def __init__(self, **faults: Exception) -> None:
        super().__init__(send=lambda frame: None)
        self.faults = faults

    async def run(self, deliver: Callable[[bytes], None], /) -> CloseInfo:
        """Deliver, or fail."""
        if "run" in self.faults:
            raise self.faults["run"]
        return await super().run(deliver)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close, or fail."""
        if "aclose" in self.faults:
            raise self.faults["aclose"]
        await super().aclose(code, reason)


@pytest.mark.parametrize("where", ["run", "aclose"])
async def test_a_transport_that_raises_ends_the_session(where: str) -> None:
    """What a transport raises is how the session ended, and no exception of the block."""
    fault = MistakeError("broken pipe")
    async with Bus().session(Fragile(**{where: fault}), wait_created=False) as session:
        await quiet()
    assert await session.wait_closed() == CloseInfo(
        code=1006, reason="broken pipe", clean=False, error=fault
    )

"""Every queue of a transport has a bound, in bytes and in number; here each one is measured."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from realtime_bus.errors import TransportClosed
from realtime_bus.transport import (
    Dial,
    PushTransport,
    _asyncio,
    _buffers,
    _memory,
    adapt,
    memory_transport_pair,
)
from realtime_bus.transport._connection import Connection
from realtime_bus.transport._handshake import (
    ConnectionOptions,
    client_connection,
    server_connection,
)

pytestmark = pytest.mark.anyio

BOUND = 100_000


@pytest.fixture
def anyio_backend(dialling: tuple[str, Dial]) -> str:
    """Run each test on the backend of its way to connect."""
    return dialling[0]


@pytest.fixture
def dial(dialling: tuple[str, Dial]) -> Dial:
    """Connect in each of the ways."""
    return dialling[1]


@pytest.fixture(autouse=True)
def _small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the bound of what is unsent one that a test reaches soon."""
    for module in (_asyncio, _buffers, _memory):
        monkeypatch.setattr(module, "MAX_UNSENT_BYTES", BOUND)


@contextmanager
def growth(most_bytes: int) -> Iterator[Callable[[], int]]:
    """Hold the memory that Python takes inside the block, at its peak, below a bound."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield lambda: tracemalloc.get_traced_memory()[1] - before
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < most_bytes


async def upgrade(stream: ByteStream) -> Connection:
    """Answer the handshake, and nothing else."""
    connection = server_connection()
    while connection.opening:
        connection.receive(await stream.receive())
    await stream.send(b"".join(connection.outgoing()))
    return connection


async def _silent(stream: ByteStream) -> None:
    await upgrade(stream)
    await anyio.sleep_forever()


def overfill(send: Callable[[bytes], None], message: bytes) -> int:
    """Send until that is refused; return how many messages it took."""
    sent = 0

    def send_all() -> None:
        nonlocal sent
        while sent < 2_000_000:
            send(message)
            sent += 1

    with pytest.raises(TransportClosed, match="does not read") as caught:
        send_all()
    assert (caught.value.close.code, caught.value.close.clean) == (1008, False)
    return sent


@pytest.fixture
def clog(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Give what fills the socket of a transport whose peer never reads, and bounds the rest."""

    async def fill(transport: Any) -> None:
        monkeypatch.setattr(_buffers, "MAX_UNSENT_BYTES", 64_000_000)
        transport.send(b"x" * 8_000_000)
        unsent = 0
        while transport.buffered_bytes != unsent:
            unsent = transport.buffered_bytes
            for _ in range(200):
                await anyio.lowlevel.checkpoint()
        monkeypatch.setattr(_buffers, "MAX_UNSENT_BYTES", unsent + BOUND)

    return fill


# What we send


@pytest.mark.parametrize("size", [2, 1_000])
async def test_messages_to_a_peer_that_never_reads(
    dial: Any, listen: Any, running: Any, clog: Any, size: int
) -> None:
    """Large or small, what is unsent takes little more than its bound, then sending is refused."""
    async with listen(_silent) as port:
        transport = await dial(f"ws://127.0.0.1:{port}", ping_interval_s=None)
        async with running(transport) as run:
            await clog(transport)
            with growth(3 * BOUND):
                overfill(transport.send, b"x" * size)
            await run.end()


async def test_messages_of_a_server_to_a_client_that_never_reads(
    dial: Any, serve: Any, running: Any, clog: Any
) -> None:
    """The server's side has the same bound."""
    async with serve(echo=False) as server, running(await dial(server.url)) as run:
        await server.connected.wait()
        await anyio.wait_all_tasks_blocked()
        run.transport.pause()
        theirs = server.transports[0]
        await clog(theirs)
        with growth(3 * BOUND):
            overfill(theirs.send, b"x")
        run.transport.resume()


async def test_what_waits_is_written_in_order_once_the_peer_reads(
    dial: Any, serve: Any, running: Any, clog: Any
) -> None:
    """What was held back while the socket took no more arrives whole, and the close behind it."""
    async with serve(echo=False) as server, running(await dial(server.url)) as run:
        await server.connected.wait()
        await anyio.wait_all_tasks_blocked()
        server.transports[0].pause()
        await clog(run.transport)
        numbers = [b"%d" % number for number in range(1_000)]
        for number in numbers:
            run.transport.send(number)
        server.transports[0].resume()
        await run.transport.drain()
        await run.transport.aclose(4000, "done")
        with anyio.fail_after(60):
            await server.closed.wait()
        assert server.received == [b"x" * 8_000_000, *numbers]
        assert (server.closes[0].code, server.closes[0].clean) == (4000, True)


@pytest.mark.parametrize("closing", [False, True])
async def test_a_drip_of_pings_from_a_peer_that_never_reads(
    dial: Any, listen: Any, running: Any, clog: Any, closing: bool
) -> None:
    """While nothing can be written, and while we close, one answer waits at most."""
    stuck, heard = anyio.Event(), anyio.Event()

    async def handle(stream: ByteStream) -> None:
        await upgrade(stream)
        await stuck.wait()
        for number in range(400):
            await stream.send(b"\x89\x7d" + b"%0125d" % number)
            await anyio.lowlevel.checkpoint()  # so that many are reads of their own
        await stream.send(b"\x81\x05pings")
        heard.set()
        await anyio.sleep_forever()

    async with listen(handle) as port:
        transport = await dial(f"ws://127.0.0.1:{port}", close_timeout_s=20)
        async with running(transport) as run:
            await clog(transport)
            if closing:
                transport._connection.close(1000, "")
                transport._flush()
            unsent = transport.buffered_bytes
            stuck.set()
            await run.box.until(1)
            assert transport.buffered_bytes - unsent < 200
            await transport.abort()


async def test_tiny_messages_to_an_adapted_connection_that_is_stuck(running: Any) -> None:
    """What waits for somebody else's connection has the same bound."""

    class Stuck:
        async def send(self, _text: str) -> None:
            await anyio.sleep_forever()

        async def receive(self) -> str:
            await anyio.sleep_forever()
            return ""

    async with running(adapt(Stuck())) as run:
        await anyio.wait_all_tasks_blocked()
        with growth(3 * BOUND):
            overfill(run.transport.send, b"x")
        await run.end()


# What we are sent


@pytest.mark.parametrize("frame", [b"\x81\x02{}", b"\x81\x7e\x27\x10" + b"x" * 10_000])
async def test_a_flood_while_nobody_reads(
    dial: Any, listen: Any, running: Any, frame: bytes
) -> None:
    """A paused transport holds what came in one read, and the peer is made to wait."""
    flooded = anyio.Event()

    async def handle(stream: ByteStream) -> None:
        await upgrade(stream)
        data = frame * (65_536 // len(frame))
        while True:
            with anyio.move_on_after(0.2) as scope:
                await stream.send(data)
            if scope.cancelled_caught:
                break
        flooded.set()
        await anyio.sleep_forever()

    async with listen(handle) as port:
        transport = await dial(f"ws://127.0.0.1:{port}", close_timeout_s=0.05)
        async with running(transport) as run:
            run.box.at[1] = transport.pause
            with anyio.fail_after(60):
                await flooded.wait()
            held = transport._frames
            assert held.held_bytes + _buffers.FRAME_BYTES * len(held) < 8_000_000


def opened(limit: int) -> Connection:
    """Return a client's connection after the handshake."""
    client = client_connection(
        parse_uri("ws://h/"), options=ConnectionOptions(max_frame_bytes=limit)
    )
    server = server_connection()
    server.receive(b"".join(client.outgoing()))
    client.receive(b"".join(server.outgoing()))
    return client


@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_a_message_that_never_ends(size: int) -> None:
    """Fragments are joined up to the limit of a message, then the connection fails."""
    limit = min(200_000, 2_000 * size)
    connection = opened(limit)
    more = Frame(Opcode.CONT, b"x" * size, fin=False).serialize(mask=False)
    with growth(4 * limit + 2 * len(more) + 50_000):
        connection.receive(Frame(Opcode.TEXT, b"x", fin=False).serialize(mask=False))
        for _ in range(2 + limit // size):
            connection.receive(more)
    assert connection.close_info().code == 1009


def test_a_frame_that_never_ends() -> None:
    """What is kept of an unfinished frame is less than the limit of a message and one read."""
    limit, read = 200_000, b"x" * 1_000
    connection = opened(limit)
    with growth(3 * limit):
        connection.receive(b"\x81\x7f" + (limit).to_bytes(8, "big"))
        for _ in range(limit // len(read) - 1):
            assert connection.receive(read) == []
    assert connection.is_open


@pytest.mark.parametrize("size", [1, 1_000])
@pytest.mark.parametrize("paused", [False, True])
async def test_frames_fed_to_a_session_that_does_not_read(
    running: Any, size: int, paused: bool
) -> None:
    """Fed by hand, before `run` or while paused, a session is given up at the bound."""
    closes: list[tuple[int, str]] = []
    transport = PushTransport(send=len, close=lambda *how: closes.append(how))
    fed = 0
    if paused:
        transport.pause()
    with growth(3 * BOUND):
        while not closes:
            transport.feed(b"x" * size)
            fed += 1
    assert closes == [(1008, "the session does not read")]
    assert BOUND - 2 * size <= fed * (size + _buffers.FRAME_BYTES) <= BOUND + 2 * (size + 64)
    transport.feed(b"too late")
    async with running(transport) as run:
        transport.resume()
        info = await run.end()  # behind what was held
        assert (info.code, info.clean) == (1008, False)
        assert run.box.frames == [b"x" * size] * fed


async def test_feeding_a_session_that_reads_goes_on_for_ever(running: Any) -> None:
    """What has been delivered does not count."""
    transport = PushTransport(send=len)
    async with running(transport) as run:
        await anyio.wait_all_tasks_blocked()
        for _ in range(20):
            transport.feed(b"x" * (BOUND // 3))
        assert len(run.box.frames) == 20
        transport.end()


async def test_messages_to_a_memory_transport_that_does_not_read(running: Any) -> None:
    """The one that sends is told, as over a socket, and both ends have ended."""
    left, right = memory_transport_pair()
    with growth(3 * BOUND):
        count = overfill(left.send, b"x")
    assert count <= BOUND // 65 + 2
    with pytest.raises(TransportClosed):
        right.send(b"x")
    async with running(right) as run:
        assert (await run.end()).code == 1008
        assert len(run.box.frames) == count + 1

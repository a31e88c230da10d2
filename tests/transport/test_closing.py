"""Leaving in a hurry: whatever is cancelled, no socket stays open, and the peer hears a goodbye."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute
from websockets.uri import parse_uri

from realtime_bus.transport import Dial, _transport, adapt
from realtime_bus.transport._handshake import client_connection, server_connection
from realtime_bus.transport._stream import StreamTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(dialling: tuple[str, Dial]) -> str:
    """Run each test on the backend of its way to connect."""
    return dialling[0]


@pytest.fixture
def dial(dialling: tuple[str, Dial]) -> Dial:
    """Connect in each of the ways."""
    return dialling[1]


@pytest.fixture
def sockets_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[socket.socket]]:
    """Give what returns the sockets made in this test that are connected to a port."""
    made: WeakSet[socket.socket] = WeakSet()
    make = socket.socket.__init__

    def noted(self: socket.socket, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        made.add(self)

    def connected(port: int) -> list[socket.socket]:
        found: list[socket.socket] = []
        for each in made:
            with suppress(OSError):  # closed, or not connected
                if each.getpeername()[1:2] == (port,):  # a pair of sockets has no port
                    found.append(each)
        return found

    monkeypatch.setattr(socket.socket, "__init__", noted)
    return connected


async def cancelled(transport: Any) -> None:
    """Run a transport in a block that is cancelled, and close it on the way out, like a session."""
    with anyio.CancelScope() as scope:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(transport.run, lambda _frame: None)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        finally:
            await transport.aclose(1001, "cancelled")


async def test_a_cancelled_owner_still_says_goodbye(dial: Any, serve: Any, sockets_to: Any) -> None:
    """The peer gets the close frame, and when the owner is out the socket is closed."""
    async with serve() as server:
        transport = await dial(server.url)
        await server.connected.wait()
        await cancelled(transport)
        assert sockets_to(server.port) == []
        with anyio.fail_after(60):
            await server.closed.wait()
        assert (server.closes[0].code, server.closes[0].clean) == (1001, True)


@pytest.mark.parametrize("reads", [True, False])
async def test_a_cancelled_owner_does_not_wait_for_a_peer_that_is_stuck(
    dial: Any, listen: Any, reads: bool, sockets_to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that never hangs up, or does not even read, is cut after a short time."""
    monkeypatch.setattr(_transport, "CANCELLED_CLOSE_TIMEOUT_S", 0.05)

    async def handle(stream: ByteStream) -> None:
        connection = server_connection()
        while connection.opening:
            connection.receive(await stream.receive())
        await stream.send(b"".join(connection.outgoing()))
        while reads:
            await stream.receive()
        await anyio.sleep_forever()

    async with listen(handle) as port:
        transport = await dial(f"ws://127.0.0.1:{port}", close_timeout_s=60)
        if not reads:
            transport.send(b"x" * 20_000_000)
        with anyio.fail_after(60):
            await cancelled(transport)
        assert sockets_to(port) == []


async def test_closing_that_is_cancelled_cuts_the_connection(
    dial: Any, listen: Any, sockets_to: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who cancels a close that takes long gets it at once: the time has been used up."""
    monkeypatch.setattr(_transport, "CANCELLED_CLOSE_TIMEOUT_S", 0.01)

    async def handle(stream: ByteStream) -> None:
        connection = server_connection()
        while connection.opening:
            connection.receive(await stream.receive())
        await stream.send(b"".join(connection.outgoing()))
        await anyio.sleep_forever()

    async with listen(handle) as port:
        transport = await dial(f"ws://127.0.0.1:{port}", close_timeout_s=60)
        with anyio.fail_after(60), anyio.move_on_after(0.05) as scope:
            await transport.aclose()
        assert scope.cancelled_caught
        assert sockets_to(port) == []


class Foreign:
    """A connection of the application's own."""

    def __init__(self) -> None:
        self.closes = 0
        self.sent: list[str] = []

    async def receive(self) -> str:
        """Wait for ever."""
        await anyio.sleep_forever()
        return ""

    async def send(self, text: str) -> None:
        """Take a while."""
        await anyio.lowlevel.checkpoint()
        self.sent.append(text)

    async def aclose(self) -> None:
        """Take a while, too."""
        await anyio.lowlevel.checkpoint()
        self.closes += 1


async def test_a_cancelled_owner_closes_an_adapted_connection() -> None:
    """The application's connection is closed although the owner was cancelled."""
    foreign = Foreign()
    await cancelled(adapt(foreign))
    assert foreign.closes == 1


@pytest.mark.parametrize("tls", [False, True])
async def test_connecting_that_is_cancelled_leaves_no_socket(
    dial: Any, listen: Any, tls: bool, sockets_to: Any, client_tls: ssl.SSLContext
) -> None:
    """Wherever connecting is cancelled, the socket is closed when the caller is out of it."""

    async def silent(stream: ByteStream) -> None:
        while True:
            try:
                await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    async with listen(silent) as port:
        url = f"ws{'s' * tls}://localhost:{port}"
        for steps in range(80):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(lambda: dial(url, ssl_context=client_tls if tls else None))
                    for _ in range(steps):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()
            assert sockets_to(port) == [], f"cancelled after {steps} steps"


async def test_running_behind_a_goodbye_that_was_cut_off_ends_at_once(listen: Any) -> None:
    """Who waits in `run` while a cancelled `aclose` leaves half a frame behind gets the end."""
    broken = anyio.Event()

    async def handle(stream: ByteStream) -> None:
        connection = server_connection()
        while connection.opening:
            connection.receive(await stream.receive())
        await stream.send(b"".join(connection.outgoing()))
        await broken.wait()
        await stream.send(b"\x89\x7e\0\x7e" + b"x" * 126)  # a ping that is too long
        await stream.send_eof()  # type: ignore[attr-defined]  # a socket
        await anyio.sleep_forever()

    async with listen(handle) as port:
        stream = await anyio.connect_tcp("127.0.0.1", port)
        client = client_connection(parse_uri(f"ws://127.0.0.1:{port}/"))
        transport = StreamTransport(stream, client, close_timeout_s=60)
        assert await transport.open()
        with anyio.move_on_after(0.05):
            await stream.send(b"x" * 20_000_000)  # nobody reads: our close frame will be stuck
        codes: list[int] = []

        async def run() -> None:
            codes.append((await transport.run(lambda _frame: None)).code)

        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as closing:
                    closing.start_soon(transport.aclose)
                    await anyio.wait_all_tasks_blocked()
                    tasks.start_soon(run)  # behind the reading that `aclose` does
                    broken.set()
                    await anyio.wait_all_tasks_blocked()
                    scope.cancel()
        assert len(codes) == 1


async def test_cancelled_at_any_step_no_socket_is_left(
    dial: Any, serve: Any, sockets_to: Any
) -> None:
    """Running, draining and closing may be cancelled wherever they are."""
    async with serve() as server:

        async def live() -> None:
            transport = await dial(server.url)
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(transport.run, lambda _frame: None)
                    transport.send(b"x" * 200_000)
                    await transport.drain()
                    transport.pause()
                    transport.send(b"y")
                    await transport.aclose(4000, "done")
            finally:
                await transport.aclose()

        for steps in range(0, 150, 3):
            with anyio.fail_after(60):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(live)
                    for _ in range(steps):
                        await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()
            assert sockets_to(server.port) == [], f"cancelled after {steps} steps"


@pytest.mark.parametrize("reset", [False, True])
async def test_tls_that_ends_without_a_goodbye(
    dial: Any, listen: Any, reset: bool, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """What came before a stream that breaks off without close_notify is delivered; it is 1006."""

    async def handle(stream: ByteStream) -> None:
        connection = server_connection()
        while connection.opening:
            connection.receive(await stream.receive())
        connection.send_text(b"last words")
        await stream.send(b"".join(connection.outgoing()))
        await stream.receive()  # they have been read
        raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's
        if reset:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await anyio.aclose_forcefully(stream.transport_stream)  # type: ignore[attr-defined]  # anyio types it as any stream

    heard: list[bytes] = []
    async with listen(handle, tls=server_tls) as port:
        transport = await dial(f"wss://localhost:{port}", ssl_context=client_tls)

        def deliver(frame: bytes) -> None:
            heard.append(frame)
            transport.send(b"read")

        with anyio.fail_after(60):
            info = await transport.run(deliver)
        await transport.aclose()
    assert heard == [b"last words"]
    assert (info.code, info.clean) == (1006, False)


async def test_a_handler_that_pauses_while_we_close_does_not_keep_run(
    dial: Any, listen: Any
) -> None:
    """What is held when the connection is gone, and nobody will resume, is dropped."""

    async def handle(stream: ByteStream) -> None:
        connection = server_connection()
        while connection.opening:
            connection.receive(await stream.receive())
        await stream.send(b"".join(connection.outgoing()))
        await stream.receive()  # our close frame, which is not answered
        await stream.send(b"\x81\x03one\x81\x03two")
        await anyio.sleep_forever()

    heard: list[bytes] = []
    async with listen(handle) as port:
        transport = await dial(f"ws://127.0.0.1:{port}", close_timeout_s=0.2)

        def deliver(frame: bytes) -> None:
            heard.append(frame)
            transport.pause()

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(transport.aclose)
                tasks.start_soon(transport.run, deliver)
    assert heard == [b"one"]

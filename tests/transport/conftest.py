"""Servers on loopback, made of the library's own server side or of raw bytes."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener

from realtime_bus.errors import CloseInfo, TransportClosed
from realtime_bus.transport import Dial, dial, dial_picows
from realtime_bus.transport._handshake import ConnectionOptions, HttpRefusal, server_connection
from realtime_bus.transport._stream import StreamTransport

Handler = Callable[[ByteStream], Awaitable[None]]
Listen = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture(
    params=[("asyncio", dial), ("asyncio", dial_picows), ("trio", dial)],
    ids=["asyncio", "picows", "trio"],
)
def dialling(request: pytest.FixtureRequest) -> tuple[str, Dial]:
    """Each backend with each way to connect that it has."""
    kind: tuple[str, Dial] = request.param
    return kind


class Server:
    """A WebSocket server that keeps what it saw; with ``echo`` it sends each message back."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"ws://127.0.0.1:{port}/v1/realtime?model=x"
        self.received: list[bytes] = []
        self.requests: list[Any] = []
        self.closes: list[CloseInfo] = []
        self.transports: list[StreamTransport] = []
        self.connected = anyio.Event()
        self.closed = anyio.Event()


@asynccontextmanager
async def _listen(handle: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port: int = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's, not Django's
    if tls is not None:
        listener = TLSListener(listener, tls, standard_compatible=False)

    async def handle_and_close(stream: ByteStream) -> None:
        try:
            await handle(stream)
        finally:
            await anyio.aclose_forcefully(stream)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle_and_close)
        yield port
        tasks.cancel_scope.cancel()


@pytest.fixture
def listen() -> Listen:
    """Give what serves raw byte streams, as in ``async with it(handler) as port``."""
    return _listen


@pytest.fixture
def serve() -> Callable[..., AbstractAsyncContextManager[Server]]:
    """Give what serves WebSockets, as in ``async with it() as server``."""

    @asynccontextmanager
    async def serving(
        *,
        echo: bool = True,
        refusal: HttpRefusal | None = None,
        greeting: tuple[bytes, ...] = (),
        options: ConnectionOptions | None = None,
        subprotocols: tuple[str, ...] = (),
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Server]:
        server: Server

        def check(request: Any) -> HttpRefusal | None:
            server.requests.append(request)
            return refusal

        async def handle(stream: ByteStream) -> None:
            connection = server_connection(
                process_request=check, options=options, subprotocols=subprotocols
            )
            transport = StreamTransport(stream, connection, close_timeout_s=1)
            server.transports.append(transport)
            if not await transport.open():
                await transport.aclose()
                return
            server.connected.set()
            for frame in greeting:
                transport.send(frame)

            def deliver(frame: bytes) -> None:
                server.received.append(frame)
                if echo:
                    with suppress(TransportClosed):  # its close may be behind its message
                        transport.send(frame)

            server.closes.append(await transport.run(deliver))
            server.closed.set()

        async with _listen(handle, tls=tls) as port:
            server = Server(port)
            if tls is not None:
                server.url = f"wss://localhost:{port}/v1/realtime?model=x"
            yield server

    return serving


class Box:
    """Collects frames; `until` waits for a number of them; ``at[n]`` is called at the n-th."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.at: dict[int, Callable[[], object]] = {}
        self._event = anyio.Event()

    def __call__(self, frame: bytes) -> None:
        """Take a frame."""
        self.frames.append(frame)
        self._event.set()
        self._event = anyio.Event()
        self.at.get(len(self.frames), int)()

    async def until(self, count: int) -> list[bytes]:
        """Wait for so many frames and return all."""
        with anyio.fail_after(60):
            while len(self.frames) < count:
                await self._event.wait()
        return self.frames


@pytest.fixture
def box() -> Callable[[], Box]:
    """Make boxes to deliver to."""
    return Box


class Running:
    """A transport whose `run` goes on in a task."""

    def __init__(self, transport: Any, box: Box) -> None:
        self.transport = transport
        self.box = box
        self.info: CloseInfo | None = None
        self.ended = anyio.Event()

    async def end(self) -> CloseInfo:
        """Wait for the end and tell how it was."""
        with anyio.fail_after(60):
            await self.ended.wait()
        assert self.info is not None
        return self.info

    async def _run(self) -> None:
        self.info = await self.transport.run(self.box)
        self.ended.set()


@pytest.fixture
def running() -> Callable[[Any], AbstractAsyncContextManager[Running]]:
    """Give what runs a transport into a box and closes it in the end."""

    @asynccontextmanager
    async def run_it(transport: Any) -> AsyncIterator[Running]:
        run = Running(transport, Box())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run._run)
            yield run
            await transport.aclose()
            await run.end()

    return run_it


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that only these tests trust."""
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """TLS for a server that is called localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """TLS for a client that trusts the tests' authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context

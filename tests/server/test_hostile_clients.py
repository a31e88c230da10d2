"""Whoever connects, and whatever comes: the server stays up, for everybody else."""

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from realtime_bus import events as ev
from realtime_bus.errors import AuthenticationError, ConnectError, UsageError
from realtime_bus.server import EnergyDetector, RealtimeServer, ServerOptions, Text, _guests
from realtime_bus.server._admission import Accepted, admit
from realtime_bus.transport._handshake import HttpRefusal, UpgradeRequest

from ._client import connected

pytestmark = pytest.mark.anyio

SECRET = "sk-never-to-be-seen"  # no key of anybody


class Yes:
    """A responder that agrees."""

    async def respond(self, request: Any) -> AsyncIterator[Text]:
        """Agree."""
        yield Text("Yes.")


def server(**options: Any) -> RealtimeServer:
    """Return a server that needs no network and no voice."""
    return RealtimeServer(Yes(), options=ServerOptions(**options), detector_factory=EnergyDetector)


def head(path: str | bytes, **headers: str) -> bytes:
    """Return an upgrade request."""
    lines = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Authorization": f"Bearer {SECRET}",
        **headers,
    }
    path = path.encode() if isinstance(path, str) else path
    said = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return b"GET " + path + b" HTTP/1.1\r\n" + said.encode() + b"\r\n"


async def answer(stream: Any, sent: bytes) -> bytes:
    """Send something and return all that comes until the server hangs up."""
    came = b""
    with anyio.fail_after(60), contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        if sent:
            await stream.send(sent)
        while True:
            came += await stream.receive()
    return came


async def works(url: str) -> None:
    """Hold a conversation of one response."""
    async with connected(url) as client:
        client.send(ev.ResponseCreate())
        assert (await client.get(ev.ResponseDone)).response.status == "completed"


# Heads


@pytest.mark.parametrize(
    "path",
    [
        "//[",
        "http://[/v1/realtime?model=m",
        b"/v1/realtime?model=\xff",
        b"/v1/realtime?call_id=\xff",
        "//[" + "x" * 8000,
    ],
    ids=["brackets", "absolute", "bytes in the model", "bytes in the call", "long"],
)
async def test_an_address_that_is_none_is_told_400(
    path: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection ends with it, and nothing of the request is in the log."""
    served = server()
    with caplog.at_level(logging.DEBUG):
        async with served.serve() as bound:
            stream = await anyio.connect_tcp(bound.host, bound.port)
            async with stream:
                said = await answer(stream, head(path))
            await works(bound.url_for("m"))
    assert said.startswith(b"HTTP/1.1 400 ")
    assert len(said) < 1000
    assert SECRET not in caplog.text
    assert sum(len(record.getMessage()) for record in caplog.records) < 2000
    figures = served.statistics()
    assert (figures.open, figures.refused, figures.failed) == (0, 1, 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\n",
        b"GET /v1/realtime HTTP/1.1\r\n" + b"x: y\r\n" * 500 + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /v1/realtime HTTP/1.1\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"POST /v1/realtime HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n",
        b"\r\n" * 10_000,
        b"\x00" * 10_000,
        b"GET /v1/realtime?model=m HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
    ids=["TLS", "headers", "line", "header", "body", "lines", "zeros", "no upgrade"],
)
async def test_a_bad_head_ends_its_connection(sent: bytes) -> None:
    """At once, not at the end of its patience; the server goes on."""
    served = server()
    async with served.serve() as bound:
        async with await anyio.connect_tcp(bound.host, bound.port) as stream:
            assert len(await answer(stream, sent)) < 1000
        await works(bound.url_for("m"))
    assert (served.statistics().refused, served.statistics().failed) == (1, 0)


async def test_a_head_may_come_byte_by_byte() -> None:
    """However it was cut on its way, it is one request."""
    async with server().serve() as bound:
        async with await anyio.connect_tcp(bound.host, bound.port) as stream:
            for at in range(len(request := head("/v1/realtime?model=m"))):
                await stream.send(request[at : at + 1])
            assert (await stream.receive()).startswith(b"HTTP/1.1 101 ")


# Web pages


def judged(host: str = "127.0.0.1:8765", bound: str = "127.0.0.1", **given: Any) -> str | int:
    """Return what becomes of a request: its model, or the status of the refusal."""
    options = ServerOptions(allowed_origins=given.pop("allowed", ()))
    headers = {"host": host} if host else {}
    request = UpgradeRequest(path="/v1/realtime?model=m", headers=headers | given)
    verdict = admit(request, options, host=bound)
    if isinstance(verdict, HttpRefusal):
        return verdict.status
    assert isinstance(verdict, Accepted)
    return verdict.model or ""


@pytest.mark.parametrize(
    ("origin", "host", "bound"),
    [
        ("https://evil.example", "127.0.0.1:8765", "127.0.0.1"),
        ("https://evil.example", "localhost:8765", "127.0.0.1"),
        ("http://evil.example:8765", "evil.example:8765", "0.0.0.0"),  # noqa: S104  # as a server is bound; nothing listens
        ("http://127.0.0.1.evil.example", "127.0.0.1", "127.0.0.1"),
        ("https://evil.example", "10.0.0.9:8765", "10.0.0.9"),
        ("null", "127.0.0.1", "127.0.0.1"),
        ("", "127.0.0.1", "127.0.0.1"),
        ("http://[", "127.0.0.1", "127.0.0.1"),
        ("chrome-extension://abcdef", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_a_page_of_another_site_is_refused(origin: str, host: str, bound: str) -> None:
    """Who visits a page does not want it to talk to what runs on the own machine."""
    assert judged(host, bound, origin=origin) == 403
    assert judged(host, bound, origin=origin, allowed=("*",)) == "m"


@pytest.mark.parametrize(
    ("origin", "host", "bound"),
    [
        ("http://localhost:3000", "127.0.0.1:8765", "127.0.0.1"),
        ("http://127.0.0.1:8765", "127.0.0.1:8765", "127.0.0.1"),
        ("http://[::1]:3000", "[::1]:8765", "::1"),
        ("http://app.localhost", "localhost:8765", "localhost"),
        ("http://10.0.0.9:5173", "10.0.0.9:8765", "0.0.0.0"),  # noqa: S104  # as a server is bound; nothing listens
        ("http://box.lan", "box.lan:8765", "box.lan"),
    ],
)
def test_a_page_of_this_machine_is_let_in(origin: str, host: str, bound: str) -> None:
    """So is one of the server's own host, by its address or as the server was bound."""
    assert judged(host, bound, origin=origin) == "m"


def test_an_allowed_page_is_let_in() -> None:
    """It, and a proxy in front of a server on loopback; nobody else."""
    allowed = ("https://app.example",)
    assert judged(origin="https://app.example", allowed=allowed) == "m"
    assert judged("app.example", origin="https://app.example", allowed=allowed) == "m"
    assert judged(origin="https://app.example.evil.example", allowed=allowed) == 403
    with pytest.raises(UsageError, match=r"allowed_origins has 'app\.example'"):
        ServerOptions(allowed_origins=("app.example",))
    with pytest.raises(UsageError, match="allowed_origins has 'h'"):
        ServerOptions(allowed_origins="https://app.example")  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "0.0.0.0:8765", "[", "\xff"])
def test_a_name_that_was_pointed_at_loopback_is_refused(host: str) -> None:
    """DNS rebinding: to the browser it is the page's own site."""
    assert judged(host) == 403
    assert judged(host, origin=f"http://{host}") == 403


@pytest.mark.parametrize("host", ["", "localhost", "127.9.9.9:1", "[::1]:8765", "LOCALHOST:8765"])
def test_loopback_may_be_asked_for_by_any_of_its_names(host: str) -> None:
    """A client that names no host is no browser."""
    assert judged(host) == "m"


async def test_a_page_is_told_what_to_do() -> None:
    """Over the socket, too; with a key or without."""
    async with server(api_key="k").serve() as bound:
        headers = {"Origin": "https://evil.example", "Authorization": "Bearer k"}
        with pytest.raises(AuthenticationError, match="allowed_origins") as caught:
            await connected(bound.url_for("m"), headers=headers).__aenter__()
    assert caught.value.status == 403


@pytest.mark.parametrize("key", ["", " \n"])
def test_an_empty_key_is_misuse(key: str) -> None:
    """It would admit everybody who sends none: a variable that is not set."""
    with pytest.raises(UsageError, match="api_key is empty: is the variable set"):
        ServerOptions(api_key=key)


# Crowds


async def test_who_says_nothing_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of them makes room, at once, for whoever comes."""
    monkeypatch.setattr(_guests, "MAX_STRANGERS", 10)
    served = server(max_connections=2)
    async with served.serve() as bound, contextlib.AsyncExitStack() as silent:
        streams = [
            await silent.enter_async_context(await anyio.connect_tcp(bound.host, bound.port))
            for _ in range(30)
        ]
        with anyio.fail_after(60):
            await works(bound.url_for("m"))
        assert await answer(streams[0], b"") == b""
        assert served.statistics().open <= 12


async def test_who_speaks_slowly_makes_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head without an end is no session."""
    monkeypatch.setattr(_guests, "MAX_STRANGERS", 3)
    async with server().serve() as bound, contextlib.AsyncExitStack() as slow:
        for _ in range(5):
            stream = await slow.enter_async_context(await anyio.connect_tcp(bound.host, bound.port))
            await stream.send(head("/v1/realtime?model=m")[:-2])
        await works(bound.url_for("m"))


async def test_a_refused_client_that_stays_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that was turned away and does not hang up."""
    monkeypatch.setattr(_guests, "MAX_STRANGERS", 3)
    async with (
        server(max_connections=1, api_key="k").serve() as bound,
        contextlib.AsyncExitStack() as slow,
    ):
        for path in ["/nowhere", "/v1/realtime?model=m"] * 3:
            stream = await slow.enter_async_context(await anyio.connect_tcp(bound.host, bound.port))
            await stream.send(head(path))
            await stream.receive()
        async with connected(bound.url_for("m"), headers={"Authorization": "Bearer k"}) as client:
            await client.get(ev.SessionCreated)


async def test_a_client_that_does_not_hang_up_is_cut_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server says goodbye, waits for its time, and goes."""
    monkeypatch.setattr(_guests, "GOODBYE_S", 0.2)
    async with anyio.create_task_group() as tasks:
        async with server().serve() as bound:
            client = await tasks.start(_read_nothing, bound.url_for("m"))
            begun_s = anyio.current_time()
        assert 0.15 < anyio.current_time() - begun_s < 30
        client.transport.resume()


async def _read_nothing(url: str, *, task_status: Any) -> None:
    async with connected(url) as client:
        await client.get(ev.SessionCreated)
        client.transport.pause()
        task_status.started(client)
        await client.closed()


@pytest.mark.parametrize("connections", [0, 1, 3, 6])
async def test_a_server_may_be_cancelled_at_any_moment(connections: int) -> None:
    """Whoever has a session is told 1001, no socket is left open, and nothing has failed."""
    served = server(pace=1)
    clients: list[Any] = []
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with served.serve() as bound, contextlib.AsyncExitStack() as silent:
                for _ in range(connections):
                    tasks.start_soon(_speak, bound.url_for("m"), clients)
                    stream = await anyio.connect_tcp(bound.host, bound.port)
                    await silent.enter_async_context(stream)
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        assert (served.statistics().open, served.statistics().failed) == (0, 0)
    assert all(client.close.code == 1001 for client in clients)


async def _speak(url: str, clients: list[Any]) -> None:
    with contextlib.suppress(ConnectError):
        async with connected(url) as client:
            await client.until(lambda: client.events or client.close)
            if client.events:
                clients.append(client)
            await client.closed()

"""Each way in which connecting can fail gives one clear exception, and none tells the key."""

from __future__ import annotations

import logging
import socket
import time
import traceback
from typing import Any

import pytest
from anyio.abc import ByteStream
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.uri import parse_uri

from realtime_bus._secrets import Secrets
from realtime_bus.errors import (
    AuthenticationError,
    ConnectError,
    HostUnreachable,
    InvalidURL,
    UpgradeRefused,
)
from realtime_bus.transport import Dial
from realtime_bus.transport._handshake import (
    HttpRefusal,
    client_connection,
    clock_ahead_s,
    refused,
    server_connection,
)
from realtime_bus.transport._url import is_loopback, parse_url, show_url

KEY = "sk-proj-0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {KEY}", "api-key": KEY}
SUBPROTOCOLS = ("realtime", f"openai-insecure-api-key.{KEY}")


@pytest.fixture
def anyio_backend(dialling: tuple[str, Dial]) -> str:
    """Run each test on the backend of its way to connect."""
    return dialling[0]


@pytest.fixture
def dial(dialling: tuple[str, Dial]) -> Dial:
    """Connect in each of the ways."""
    return dialling[1]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b'{"error":{"message":"Incorrect API key provided: %s.","code":"x"}}', "Incorrect"),
        (403, b'{"error":"no access"}', "no access"),
        (404, b'{"message":"no such model"}', "no such model"),
        (429, b'{"detail":"slow down"}', "slow down"),
        (500, b"<html>oops</html>", "oops"),
        (503, b"", "try again later"),
        (302, b"", "redirects are not followed"),
        (418, b'["teapot"]', "teapot"),
        (200, b"x" * 5000, "xxx"),
    ],
)
@pytest.mark.anyio
async def test_a_refused_upgrade(
    dial: Any, serve: Any, status: int, body: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal gives status and what the server said, shortened and without the key."""
    caplog.set_level(logging.DEBUG)
    kind = AuthenticationError if status in {401, 403} else UpgradeRefused
    body = body.replace(b"%s", KEY.encode())
    async with serve(refusal=HttpRefusal(status=status, body=body)) as server:
        with pytest.raises(kind) as caught:
            await dial(server.url, headers=HEADERS, subprotocols=SUBPROTOCOLS)
    error = caught.value
    assert error.status == status
    assert said in str(error)
    assert f"HTTP {status}" in str(error)
    assert len(error.body) <= 300
    assert error.url == f"ws://127.0.0.1:{server.port}/v1/realtime"
    assert server.requests[0].headers["api-key"] == KEY
    _assert_secret(error, caplog)


def _assert_secret(error: ConnectError, caplog: pytest.LogCaptureFixture) -> None:
    told = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
    assert KEY not in told
    assert KEY not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("websockets")]


@pytest.mark.anyio
async def test_the_key_is_in_no_log_and_no_repr(
    dial: Any, serve: Any, running: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A whole conversation at DEBUG leaves no trace of the key."""
    caplog.set_level(logging.DEBUG)
    async with serve(subprotocols=("realtime",)) as server:
        transport = await dial(server.url, headers=HEADERS, subprotocols=SUBPROTOCOLS)
        async with running(transport) as run:
            run.transport.send(b"hello")
            await run.box.until(1)
            assert KEY not in repr(transport) + str(vars(transport))
            await transport.aclose()
            assert KEY not in repr(await run.end())
    assert KEY not in caplog.text


def _answer(data: bytes) -> Any:
    async def handle(stream: ByteStream) -> None:
        await stream.receive()
        if data:
            await stream.send(data)

    return handle


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", UpgradeRefused, "not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", HostUnreachable, "hung up"),
        (b"", HostUnreachable, "hung up without an answer"),
        (b"HTTP/1.1 101 X\r\n\r\n", UpgradeRefused, "not with a WebSocket"),
        (
            (
                b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: nonsense\r\n\r\n"
            ),
            UpgradeRefused,
            "not with a WebSocket",
        ),
    ],
)
@pytest.mark.anyio
async def test_an_answer_that_is_no_websocket(
    dial: Any, listen: Any, data: bytes, kind: type[ConnectError], said: str
) -> None:
    """Something else than an HTTP answer, or a wrong one, is told apart."""
    async with listen(_answer(data)) as port:
        with pytest.raises(kind, match=said) as caught:
            await dial(f"ws://127.0.0.1:{port}/x", headers=HEADERS)
    assert getattr(caught.value, "status", 0) in {0, 101}


@pytest.mark.anyio
async def test_a_server_that_repeats_the_subprotocols_does_not_leak_the_key(
    dial: Any, listen: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What the server repeats of our request is cleaned."""
    from websockets.utils import accept_key

    async def handle(stream: ByteStream) -> None:
        request = (await stream.receive()).decode()
        lines = dict(line.split(": ", 1) for line in request.split("\r\n")[1:] if line)
        answer = (
            "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Accept: {accept_key(lines['Sec-WebSocket-Key'])}\r\n"
            f"Sec-WebSocket-Protocol: {lines['Sec-WebSocket-Protocol']}\r\n\r\n"
        )
        await stream.send(answer.encode())

    async with listen(handle) as port:
        with pytest.raises(UpgradeRefused, match="multiple values") as caught:
            await dial(f"ws://127.0.0.1:{port}/x", headers=HEADERS, subprotocols=SUBPROTOCOLS)
    _assert_secret(caught.value, caplog)


@pytest.mark.anyio
async def test_nobody_listens(dial: Any) -> None:
    """A port where nobody listens is named."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(HostUnreachable, match=f"nobody answers at 127.0.0.1:{port}"):
            await dial(f"ws://127.0.0.1:{port}/x?key=secret")


@pytest.mark.anyio
async def test_no_such_host(dial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has no address is named."""

    def unknown(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(HostUnreachable, match=r"there is no host 'no.such.host.invalid'"):
        await dial("wss://no.such.host.invalid/v1")


@pytest.mark.anyio
async def test_every_address_of_a_host_is_tried(
    dial: Any, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that answers at its second address is reached; if none answers, that is told."""
    hosts = ["127.0.0.2", "127.0.0.1"]

    def addresses(_host: object, port: int, *_args: object, **_options: object) -> list[Any]:
        inet, stream, tcp = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
        return [(inet, stream, tcp, "", (host, port)) for host in hosts]

    async with serve() as server:
        monkeypatch.setattr(socket, "getaddrinfo", addresses)
        url = f"ws://two.example:{server.port}/"
        transport = await dial(url)
        await transport.aclose()
        hosts[1] = "127.0.0.3"
        with pytest.raises(HostUnreachable, match=r"nobody answers at two.example"):
            await dial(url)


@pytest.mark.anyio
async def test_no_answer_in_time(dial: Any, listen: Any) -> None:
    """A server that accepts and stays silent is given up after the timeout."""
    import anyio

    async def handle(_stream: ByteStream) -> None:
        await anyio.sleep_forever()

    async with listen(handle) as port:
        with pytest.raises(HostUnreachable, match=r"no answer within 0\.05 s"):
            await dial(f"ws://127.0.0.1:{port}", open_timeout_s=0.05)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://api.openai.com/v1/realtime", "use wss://"),
        ("http://localhost:1", "use ws://"),
        ("gpt-realtime", "does not begin with wss://"),
        ("", "does not begin with wss://"),
        ("ftp://x/", "does not begin with wss://"),
        ("wss:///v1", "names no host"),
        ("wss://host:99999/", "check its host and port"),
        ("wss://host:abc/", "check its host and port"),
        ("wss://[::1/", "check its host and port"),
        ("wss://[bad/", "check its host and port"),
        ("wss://[bad]/", "check its host and port"),
        ("wss://me:secret@host/", "send them in a header"),
        ("wss://host/a#b", "leave it out"),
        ("wss://a..b/", "no valid host name"),
        ("wss://" + "a" * 70 + "/", "no valid host name"),
        ("wss://a b/", "no valid host name"),
    ],
)
@pytest.mark.anyio
async def test_a_url_that_is_none(dial: Any, url: str, said: str) -> None:
    """A wrong address says what to do, without credentials or query."""
    with pytest.raises(InvalidURL, match=said) as caught:
        await dial(url + ("?token=secret" if "#" not in url else ""))
    assert "secret" not in str(caught.value) + caught.value.url
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown", "resource"),
    [
        ("wss://API.openai.com/v1?model=x", "wss://api.openai.com/v1", "/v1?model=x"),
        ("ws://[::1]:8080", "ws://[::1]:8080/", "/"),
        ("wss://bücher.example/ä b?q=ü&r=%20", "wss://xn--bcher-kva.example/%C3%A4%20b", None),
        (" ws://h:80/ ", "ws://h/", "/"),
    ],
)
def test_a_url_is_read_and_shown(url: str, shown: str, resource: str | None) -> None:
    """Default ports vanish, names and paths become ASCII, and the query is not shown."""
    uri = parse_url(url)
    assert show_url(uri) == shown
    assert uri.resource_name == (resource or "/%C3%A4%20b?q=%C3%BC&r=%20")


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("127.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("0.0.0.0", False),  # noqa: S104 - nobody listens here
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_what_is_local(host: str, local: bool) -> None:
    """Only addresses of the loopback network and the name localhost are this machine."""
    assert is_loopback(host) is local


def test_a_refusal_is_cleaned_before_it_is_cut() -> None:
    """No part of the key is left where the server's text was shortened."""
    for before in range(280, 300):
        body = b"x" * before + KEY.encode() + b"y" * 100
        client = client_connection(parse_uri("ws://h/"), headers=HEADERS)
        server = server_connection(process_request=lambda _: HttpRefusal(status=400, body=body))  # noqa: B023 - called in this round
        server.receive(b"".join(client.outgoing()))
        client.receive(b"".join(server.outgoing()))
        error = refused(client, url="ws://h/", secrets=Secrets(HEADERS, ()))
        assert "sk-" not in str(error) + getattr(error, "body", "")


@pytest.mark.anyio
async def test_nagle_is_off(dial: Any, serve: Any, running: Any) -> None:
    """Small frames are not held back by TCP on either side."""
    from anyio.abc import SocketAttribute

    async with serve() as server, running(await dial(server.url)) as run:
        await server.connected.wait()
        ours, theirs = run.transport, server.transports[0]
        raw = SocketAttribute.raw_socket
        sockets = [theirs._stream.extra(raw)]  # noqa: S610 - anyio's, not Django's
        if hasattr(ours, "_stream"):
            sockets.append(ours._stream.extra(raw))  # noqa: S610 - the same
        else:
            sockets.append(ours._transport.get_extra_info("socket"))
        for each in sockets:
            assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.anyio
async def test_the_servers_clock_is_told(
    dial: Any, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours is an hour ahead: so the server's is an hour behind, whatever else is the case."""
    from realtime_bus.transport import _dial as dialling

    class Ahead:
        time = staticmethod(lambda: time.time() + 3600)

    monkeypatch.setattr(dialling, "time", Ahead)
    async with serve() as server:
        transport = await dial(server.url)
        await transport.aclose()
    assert transport.clock_ahead_s == pytest.approx(-3600, abs=60)


@pytest.mark.parametrize("told", [None, "", "yesterday", "Sat, 99 Nov 2026 21:00:00 GMT"])
def test_a_server_that_tells_no_time(told: str | None) -> None:
    """Nothing is known of its clock, and nothing raises."""
    headers = Headers() if told is None else Headers(Date=told)
    assert clock_ahead_s(Response(101, "", headers), 0.0) is None
    assert clock_ahead_s(None, 0.0) is None

"""A key is seen nowhere: not in a text, and not in the local variables of a traceback."""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest
import structlog
from anyio.abc import ByteStream
from structlog.testing import capture_logs

from realtime_bus import (
    AuthenticationError,
    Bus,
    ConnectError,
    RequestRejected,
    UsageError,
    decode_client,
)
from realtime_bus import events as ev
from realtime_bus._secrets import Secret, Secrets, redact
from realtime_bus.errors import SessionClosed
from realtime_bus.log import describe, get_logger
from realtime_bus.transport import Dial
from realtime_bus.transport._asyncio import AsyncioTransport
from realtime_bus.transport._handshake import HttpRefusal, server_connection
from realtime_bus.transport._stream import StreamTransport

KEY = "sk-proj-0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {KEY}", "api-key": KEY}
SUBPROTOCOLS = ("realtime", f"openai-insecure-api-key.{KEY}")
QUERY = f"?model=m&api-key={KEY}"
HERE = Path(__file__).name


@pytest.fixture
def anyio_backend(dialling: tuple[str, Dial]) -> str:
    """Run each test on the backend of its way to connect."""
    return dialling[0]


@pytest.fixture
def dial(dialling: tuple[str, Dial]) -> Dial:
    """Connect in each of the ways."""
    return dialling[1]


# What a log that shows local variables would show


def links(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that hang on it: causes, contexts, members of groups."""
    seen: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        one = rest.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            rest += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def frames(error: BaseException) -> Iterator[FrameType]:
    """Yield the frames of an exception's traceback, but for those of this file."""
    place = error.__traceback__
    while place is not None:
        if not place.tb_frame.f_code.co_filename.endswith(HERE):
            yield place.tb_frame
        place = place.tb_next


def shown(value: object, depth: int = 2) -> str:
    """Return what such a log shows of a value: its repr, and what is in attributes' mappings."""
    texts = [repr(value), str(value)]
    if depth and isinstance(value, dict | list | tuple | set):
        inside = [*value, *value.values()] if isinstance(value, dict) else list(value)
        texts += [shown(each, depth - 1) for each in inside]
    return " ".join(texts)


def assert_unseen(error: BaseException, *, frames_too: bool = True) -> None:
    """Look for the key in texts, attributes and local variables."""
    for one in links(error):
        assert KEY not in f"{one} {one!r} {vars(one)!r} {describe(one)}"
        for frame in frames(one) if frames_too else ():
            for name, value in frame.f_locals.items():
                place = f"{name} in {frame.f_code.co_qualname} of {type(one).__name__}"
                assert KEY not in shown(value), place


# Servers that fail in each way


async def _hold(stream: ByteStream) -> None:
    while True:
        try:
            await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return


def saying(data: bytes) -> Callable[[ByteStream], Any]:
    """Serve the same bytes to everybody, then hang up."""

    async def handle(stream: ByteStream) -> None:
        await stream.receive()
        if data:
            await stream.send(data)

    return handle


async def reset(stream: ByteStream) -> None:
    """Take the request, and reset the connection."""
    from anyio.abc import SocketAttribute

    await stream.receive()
    raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def closing(code: int, *messages: bytes) -> Callable[[ByteStream], Any]:
    """Serve a WebSocket that says something, and closes with a reason that has the key in it."""

    async def handle(stream: ByteStream) -> None:
        connection = server_connection()
        while connection.opening:
            connection.receive(await stream.receive())
        for message in messages:
            connection.send_text(message)
        connection.close(code, f"wrong key {KEY}")
        await stream.send(b"".join(connection.outgoing()))
        await stream.receive()  # the answer to our close

    return handle


def complaint(event_id: str | None = None) -> bytes:
    """Make an error event that repeats the key."""
    message = f"Incorrect API key provided: {KEY}."
    error = ev.ErrorDetails(
        type="invalid_request_error", code="x", message=message, param=KEY, event_id=event_id
    )
    return ev.Error(error=error).to_json()


FAILING: dict[str, Callable[[ByteStream], Any]] = {
    "hangs up": saying(b""),
    "resets": reset,
    "is silent": _hold,
    "speaks no HTTP": saying(b"SSH-2.0-OpenSSH_9.6\r\n" + KEY.encode()),
    "refuses": saying(b"HTTP/1.1 401 No\r\nContent-Length: 24\r\n\r\n" + KEY.encode()),
    "redirects": saying(b"HTTP/1.1 302 No\r\nLocation: /" + KEY.encode() + b"\r\n\r\n"),
    "accepts wrongly": saying(b"HTTP/1.1 101 X\r\nUpgrade: " + KEY.encode() + b"\r\n\r\n"),
}


@pytest.mark.parametrize("how", FAILING)
@pytest.mark.anyio
async def test_no_frame_of_a_failed_dial_shows_the_key(dial: Any, listen: Any, how: str) -> None:
    """Whatever the server does, no local variable of the traceback has the key."""
    async with listen(FAILING[how]) as port:
        with pytest.raises(ConnectError) as caught:
            await dial(
                f"ws://127.0.0.1:{port}/{QUERY}",
                headers=HEADERS,
                subprotocols=SUBPROTOCOLS,
                open_timeout_s=0.2,
            )
    assert_unseen(caught.value)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("wss://[bad/" + QUERY, {}),
        ("https://host/" + QUERY, {}),
        ("wss://a..b/" + QUERY, {}),
        ("ws://no-such-host.invalid/" + QUERY, {}),
        ("ws://h/" + QUERY, {"headers": {**HEADERS, "a b": KEY}}),
        ("ws://h/" + QUERY, {"headers": {"api-key": KEY + "\n"}}),
        ("ws://h/" + QUERY, {"headers": {**HEADERS, "x-key": 5}}),
        ("ws://h/" + QUERY, {"subprotocols": (f"{KEY} {KEY}",)}),
    ],
)
@pytest.mark.anyio
async def test_no_frame_of_a_wrong_call_shows_the_key(
    dial: Any, url: str, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong addresses, hosts and headers are told without a key in sight."""

    def unknown(*_args: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises((ConnectError, UsageError)) as caught:
        await dial(url, **{"headers": HEADERS, "subprotocols": SUBPROTOCOLS, **options})
    assert_unseen(caught.value)


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.anyio
async def test_no_frame_of_a_failed_tls_handshake_shows_the_key(
    dial: Any, listen: Any, serve: Any, client_tls: Any, server_tls: Any, trusted: bool
) -> None:
    """Neither an untrusted certificate nor a server without TLS brings the key to light."""
    if trusted:
        async with listen(saying(b"HTTP/1.1 400 no\r\n\r\n")) as port:
            url = f"wss://localhost:{port}/{QUERY}"
            with pytest.raises(ConnectError) as caught:
                await dial(url, headers=HEADERS, ssl_context=client_tls)
    else:
        async with serve(tls=server_tls) as server:
            with pytest.raises(ConnectError) as caught:
                await dial(server.url + QUERY, headers=HEADERS)
    assert_unseen(caught.value)


@pytest.mark.anyio
async def test_no_frame_of_a_cancelled_dial_shows_the_key(
    dial: Any, listen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled when the request is about to be written, the cancellation's frames are clean."""
    caught: list[BaseException] = []
    for kind in (AsyncioTransport, StreamTransport):
        opening: Any = kind.open

        async def cancel_and_open(self: Any, opening: Any = opening) -> bool:
            scope.cancel()
            return bool(await opening(self))

        monkeypatch.setattr(kind, "open", cancel_and_open)
    async with listen(_hold) as port:
        with anyio.CancelScope() as scope:
            try:
                url = f"ws://127.0.0.1:{port}/{QUERY}"
                await dial(url, headers=HEADERS, subprotocols=SUBPROTOCOLS)
            except BaseException as error:
                caught.append(error)
                raise
    assert scope.cancelled_caught
    assert_unseen(caught[0])


# The same through a bus


@asynccontextmanager
async def failing_connect(url: str, **options: Any) -> AsyncIterator[list[BaseException]]:
    """Connect a bus; yield what it raised."""
    caught: list[BaseException] = []
    try:
        async with Bus(log_errors=True).connect(url, api_key=KEY, **options):
            pytest.fail("the block must not begin")
    except Exception as error:  # noqa: BLE001 - it is looked at
        caught.append(error)
    yield caught


@pytest.mark.parametrize("how", [*FAILING, "closes with 3000", "complains", "says nothing"])
@pytest.mark.anyio
async def test_no_frame_of_a_failed_connect_shows_the_key(
    dial: Any, listen: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """From the bus down to the socket, neither locals nor texts nor logs have the key."""
    caplog.set_level(logging.DEBUG)
    serving = {
        **FAILING,
        "closes with 3000": closing(3000),
        "complains": closing(3000, complaint()),
        "says nothing": closing(1000),
    }[how]
    async with listen(serving) as port:
        url = f"ws://127.0.0.1:{port}/{QUERY}"
        options = {"headers": HEADERS, "open_timeout_s": 0.2, "dial": dial}
        async with failing_connect(url, **options) as caught:
            assert isinstance(caught[0], ConnectError)
            assert_unseen(caught[0])
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    ("url", "options", "kind"),
    [
        ("https://h/" + QUERY, {}, ConnectError),
        ("wss://[bad/" + QUERY, {}, ConnectError),
        ("ws://h/" + QUERY, {"intent": "nope"}, UsageError),
        ("ws://h/" + QUERY, {"voise": "marin"}, UsageError),
        ("ws://h/" + QUERY, {"plugins": [5]}, UsageError),
        ("ws://h/" + QUERY, {"max_output_tokens": 0}, Exception),
    ],
)
def test_no_frame_of_a_mistaken_connect_shows_the_key(
    url: str, options: Any, kind: type[Exception]
) -> None:
    """What the call itself raises has no frame with the key in it."""
    with pytest.raises(kind) as caught:
        Bus().connect(url, api_key=KEY, headers=HEADERS, **options)
    assert_unseen(caught.value)


@pytest.mark.anyio
async def test_no_frame_of_ours_around_a_dialer_of_the_applications_shows_the_key() -> None:
    """An own dialer gets readable headers, to send them; above it nothing shows them."""
    got: list[Any] = []

    async def own(url: str, **options: Any) -> Any:
        got.append(options["headers"]["Authorization"])
        raise OSError("no")

    async with failing_connect("ws://h/" + QUERY, headers=HEADERS, dial=own) as caught:
        assert isinstance(caught[0], OSError)
        assert_unseen(caught[0])
    assert got == [f"Bearer {KEY}"]


@pytest.mark.anyio
async def test_a_server_that_repeats_the_key(
    dial: Any, listen: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Error events and close reasons with the key in them are cleaned for logs and exceptions."""
    caplog.set_level(logging.DEBUG)
    heard: list[str] = []

    async def handle(stream: ByteStream) -> None:
        connection = server_connection()
        while connection.opening:
            connection.receive(await stream.receive())
        created = ev.SessionCreated(session=ev.RealtimeSession(id="sess_1"))
        connection.send_text(created.to_json())
        await stream.send(b"".join(connection.outgoing()))
        while not (messages := connection.receive(await stream.receive())):
            pass
        connection.send_text(complaint(decode_client(messages[0]).event_id))
        connection.close(1011, f"because of {KEY}")
        await stream.send(b"".join(connection.outgoing()))
        await stream.receive()  # the answer to our close

    async with listen(handle) as port:
        bus = Bus()
        bus.on(ev.Error)(lambda event: heard.append(event.error.message))
        url = f"ws://127.0.0.1:{port}/"
        async with bus.connect(url, api_key=KEY, dial=dial, reconnect=False) as session:
            stream = session.stream(ev.ResponseDone)
            with pytest.raises(RequestRejected, match=r"provided: \*\*\*\.") as rejected:
                await session.update(instructions="x")
            with pytest.raises(SessionClosed, match=r"because of \*\*\*") as closed:
                await anext(stream)
            assert session.last_error is not None
            assert KEY not in repr(session.last_error) + repr(rejected.value.error)
    assert_unseen(rejected.value)
    assert_unseen(closed.value)
    assert "Incorrect API key provided: ***." in caplog.text
    assert KEY not in caplog.text
    assert heard == [f"Incorrect API key provided: {KEY}."]  # what a server says is not changed


@pytest.mark.anyio
async def test_a_refusal_through_the_bus_is_clean(dial: Any, serve: Any) -> None:
    """Of a refusal's body nothing of the key is left."""
    body = b'{"error":{"message":"Incorrect API key provided: %s."}}' % KEY.encode()
    async with serve(refusal=HttpRefusal(status=401, body=body)) as server:
        async with failing_connect(server.url, dial=dial) as caught:
            assert isinstance(caught[0], AuthenticationError)
            assert caught[0].body == "Incorrect API key provided: ***."
            assert_unseen(caught[0])


# The register of secrets


def test_lines_and_tracebacks_are_cleaned_while_a_secret_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever logs a key, it is taken out, until nobody has it any more."""
    key = "sk-of-this-test"
    secret, twin = Secret(key), Secret(key)
    get_logger().warning("tells", about=[f"Bearer {key}"])
    assert "about=['Bearer ***']" in caplog.text
    with capture_logs() as lines:
        structlog.configure(processors=structlog.get_config()["processors"])
        get_logger().warning("tells", key=key, about=f"Bearer {key}")
    assert lines[0]["key"] == "***"
    assert lines[0]["about"] == "Bearer ***"
    assert "***" in describe(ValueError(key))["error"]
    del secret
    gc.collect()
    assert redact(f"<{key}>") == "<***>"
    del twin
    gc.collect()
    assert redact(f"<{key}>") == f"<{key}>"


def test_short_words_stay() -> None:
    """A key such as ``none`` would punch holes into every line."""
    secret = Secret("none")
    assert redact("none of them") == "none of them"
    assert secret.reveal() == "none"


def test_parts_of_longer_secrets_do_not_stay() -> None:
    """Where one secret is a part of another, the longer one goes first."""
    kept = Secret(KEY), Secret(KEY + "-extended")
    assert redact(f"{KEY}-extended {KEY}") == "*** ***"
    assert len(kept) == 2


def test_secrets_of_headers_subprotocols_and_query() -> None:
    """What sounds secret counts, with and without its scheme or name."""
    given = Secrets({"X-Trace": "visible", "Cookie": "abcd"}, SUBPROTOCOLS, "a=b&sig=wxyz")
    assert given.clean(f"visible abcd wxyz {SUBPROTOCOLS[1]} {KEY}") == "visible *** *** *** ***"

"""Connecting over a real socket: the key, refusals, settings, and the end."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import structlog
from anyio.abc import ByteStream, SocketAttribute

from realtime_bus import (
    AuthenticationError,
    Bus,
    ConnectError,
    HostUnreachable,
    InvalidURL,
    RequestRejected,
    SessionClosed,
    UpgradeRefused,
)
from realtime_bus import events as ev
from realtime_bus.server import (
    EnergyDetector,
    RealtimeServer,
    ScriptResponder,
    ScriptTurn,
    ServerOptions,
)

pytestmark = pytest.mark.anyio

KEY = "sk-a-key-that-nobody-may-see"


def make_server(**options: object) -> RealtimeServer:
    """Return a server that answers in text, fast, and hears by loudness."""
    return RealtimeServer(
        ScriptResponder([ScriptTurn(assistant="Good evening.", text_only=True)]),
        options=ServerOptions(**options),  # type: ignore[arg-type]  # the test knows the knobs
        detector_factory=EnergyDetector,
    )


@asynccontextmanager
async def answering(response: bytes) -> AsyncIterator[str]:
    """Yield the address of a server that answers any request with the same bytes."""

    async def answer(stream: ByteStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(response)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610  # not Django's
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        yield f"ws://127.0.0.1:{port}/v1/realtime"
        tasks.cancel_scope.cancel()


async def test_a_session_begins_with_what_the_server_says() -> None:
    """A session that is entered knows its id and the settings in force."""
    async with make_server().serve() as bound:
        async with Bus().connect(bound.url_for("gpt-realtime")) as session:
            assert session.id is not None
            assert session.id.startswith("sess_")
            assert session.config.model == "gpt-realtime"


async def test_settings_are_confirmed_before_the_block_begins() -> None:
    """Fields given to connect are in force, by the server's own echo, when the block begins."""
    async with make_server().serve() as bound:
        fields = {"instructions": "Be brief.", "voice": "cedar", "turn_detection": None}
        async with Bus().connect(bound.url_for("m"), **fields) as session:
            assert session.config.instructions == "Be brief."
            assert session.config.audio.output.voice == "cedar"
            assert session.config.audio.input.turn_detection is None


async def test_refused_settings_raise_from_connect() -> None:
    """A setting that the server refuses raises its error, and the session is closed."""
    bus = Bus(log_errors=False)
    async with make_server().serve() as bound:
        detection = ev.ServerVad(prefix_padding_ms=-1)
        with pytest.raises(RequestRejected) as caught:
            async with bus.connect(bound.url_for("m"), turn_detection=detection):
                pytest.fail("the block must not begin")
        assert caught.value.param is not None
        assert bus.statistics().sessions == 0


async def test_pcm_has_one_rate() -> None:
    """PCM of another rate than 24 kHz is refused, for a session and for a single response."""
    odd = ev.AudioPCM(rate=8000)
    output = ev.ResponseAudioOutputRequest(format=odd)
    params = ev.ResponseCreateParams(audio=ev.ResponseAudioRequest(output=output))
    async with make_server().connect_memory() as transport:
        async with Bus(log_errors=False).session(transport) as session:
            with pytest.raises(RequestRejected, match="24000") as caught:
                await session.update(input_format=odd)
            assert caught.value.param == "session.audio.input.format.rate"
            with pytest.raises(RequestRejected, match="24000") as caught:
                await session.update(output_format=odd)
            assert caught.value.param == "session.audio.output.format.rate"
            with pytest.raises(RequestRejected, match="24000") as caught:
                await session.respond(params)
            assert caught.value.param == "response.audio.output.format.rate"


async def test_a_reply_can_be_awaited_over_a_socket() -> None:
    """respond() returns the finished response with its usage."""
    async with make_server().serve() as bound:
        async with Bus().connect(bound.url_for("m"), output_modalities=["text"]) as session:
            response = await session.respond(instructions="Greet.")
    assert response.status == "completed"
    assert response.usage is not None


@pytest.mark.parametrize("how", ["close", "http"])
async def test_a_wrong_key_is_an_authentication_error(how: str) -> None:
    """A wrong key raises AuthenticationError, whether refused by HTTP 401 or by close 3000."""
    async with make_server(api_key="sk-right", bad_key=how).serve() as bound:
        with pytest.raises(AuthenticationError) as caught:
            async with Bus(log_errors=False).connect(bound.url_for("m"), api_key=KEY):
                pytest.fail("the block must not begin")
    assert KEY not in str(caught.value)
    assert caught.value.close_code == (3000 if how == "close" else None)


async def test_the_right_key_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is taken from the argument; the environment's is for OpenAI alone."""
    async with make_server(api_key=KEY).serve() as bound:
        async with Bus().connect(bound.url_for("m"), api_key=KEY) as session:
            assert session.id
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with pytest.raises(AuthenticationError):
            async with Bus(log_errors=False).connect(bound.url_for("m")):
                pytest.fail("the block must not begin")


async def test_no_key_for_openai_is_said_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a key, connecting to OpenAI fails at once and says what to do."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
        Bus().connect("gpt-realtime")


async def test_the_key_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither logs at debug level nor representations show the key."""
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        async with make_server(api_key=KEY).serve() as bound:
            context = Bus().connect(bound.url_for("m"), api_key=KEY)
            async with context as session:
                await session.update(instructions="x")
                shown = repr(context) + repr(session) + repr(vars(session)) + str(vars(context))
    assert KEY not in shown
    assert KEY not in caplog.text
    assert KEY not in repr(logs)


async def test_a_missing_model_is_a_connect_error_with_the_servers_words() -> None:
    """An upgrade that is accepted and then closed with 4000 raises with the error's message."""
    async with make_server().serve() as bound:
        with pytest.raises(ConnectError, match="4000") as caught:
            async with Bus(log_errors=False).connect(bound.url):
                pytest.fail("the block must not begin")
    assert "model" in str(caught.value)


async def test_a_path_that_is_not_there_is_an_upgrade_refused() -> None:
    """HTTP 404 raises UpgradeRefused with its status."""
    async with make_server().serve() as bound:
        with pytest.raises(UpgradeRefused) as caught:
            async with Bus().connect(bound.url.replace("/v1/realtime", "/v2")):
                pytest.fail("the block must not begin")
    assert caught.value.status == 404


async def test_a_server_that_is_no_websocket_is_an_upgrade_refused() -> None:
    """A web server's ordinary answer raises UpgradeRefused."""
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as url:
        with pytest.raises(UpgradeRefused):
            async with Bus().connect(url):
                pytest.fail("the block must not begin")


@pytest.mark.parametrize("url", ["https://127.0.0.1/v1/realtime", "wss://", "ws:///realtime"])
async def test_a_wrong_address_says_so(url: str) -> None:
    """An address that is no WebSocket address raises InvalidURL."""
    with pytest.raises(InvalidURL):
        async with Bus().connect(url, api_key="k"):
            pytest.fail("the block must not begin")


async def test_nobody_listening_is_host_unreachable() -> None:
    """A port where nobody listens raises HostUnreachable."""
    async with make_server().serve() as bound:
        url = bound.url_for("m")
    with pytest.raises(HostUnreachable):
        async with Bus().connect(url):
            pytest.fail("the block must not begin")


async def test_an_unknown_host_is_host_unreachable() -> None:
    """A name that cannot be resolved raises HostUnreachable."""
    with pytest.raises(HostUnreachable):
        async with Bus().connect("ws://no-such-host.invalid/v1/realtime", api_key="k"):
            pytest.fail("the block must not begin")


async def test_tls_to_a_server_without_tls_is_host_unreachable() -> None:
    """A wss:// address of a server that speaks no TLS raises HostUnreachable."""
    async with make_server().serve() as bound:
        url = bound.url_for("m").replace("ws://", "wss://")
        context = ssl.create_default_context()
        with pytest.raises(HostUnreachable):
            async with Bus().connect(url, api_key="k", ssl_context=context):
                pytest.fail("the block must not begin")


async def test_closing_tells_the_server_code_and_reason() -> None:
    """Aclose ends the session cleanly, with the code that was asked for."""
    async with make_server().serve() as bound, Bus().connect(bound.url_for("m")) as session:
        await session.aclose(3001, "lunch")
        close = await session.wait_closed()
        with pytest.raises(SessionClosed):
            await session.update(instructions="too late")
    assert close.clean
    assert close.code == 3001


async def test_the_server_going_away_closes_the_session() -> None:
    """When the server stops, closed() returns its code, and Closed is delivered."""
    bus = Bus()
    codes: list[int] = []
    bus.on(ev.Closed)(lambda event: codes.append(event.code))
    stop = anyio.Event()
    addresses: list[str] = []
    listening = anyio.Event()

    async def serve() -> None:
        async with make_server().serve() as bound:
            addresses.append(bound.url_for("m"))
            listening.set()
            await stop.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await listening.wait()
        async with bus.connect(addresses[0], reconnect=False) as session:
            stop.set()
            close = await session.wait_closed()
    assert close.code == 1001
    assert codes == [1001]


async def test_an_expired_session_says_so_before_it_closes() -> None:
    """A session at its maximum age gets session_expired, then close 1001."""
    errors: list[str | None] = []
    bus = Bus(log_errors=False)
    bus.on(ev.Error)(lambda event: errors.append(event.error.code))
    async with make_server(session_life_s=0.05).serve() as bound:
        async with bus.connect(bound.url_for("m"), reconnect=False) as session:
            close = await session.wait_closed()
    assert errors == ["session_expired"]
    assert close.code == 1001

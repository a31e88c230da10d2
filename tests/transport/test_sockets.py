"""Over real sockets on loopback, on both backends."""

from __future__ import annotations

import ssl
import threading
import time
from typing import Any

import anyio
import pytest
import websockets.sync.server
from anyio.abc import ByteStream
from websockets.uri import parse_uri
from websockets.utils import apply_mask

from realtime_bus.errors import CloseInfo, HostUnreachable, TransportClosed
from realtime_bus.transport import Dial
from realtime_bus.transport._handshake import ConnectionOptions, client_connection

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(dialling: tuple[str, Dial]) -> str:
    """Run each test on the backend of its way to connect."""
    return dialling[0]


@pytest.fixture
def dial(dialling: tuple[str, Dial]) -> Dial:
    """Connect in each of the ways."""
    return dialling[1]


async def test_messages_go_both_ways(dial: Any, serve: Any, running: Any) -> None:
    """What is sent arrives whole and in order, and so does what comes back."""
    async with serve() as server, running(await dial(server.url)) as run:
        sent = [b"%d" % i for i in range(300)]
        for frame in sent:
            run.transport.send(frame)
        assert await run.box.until(300) == sent
    assert server.received == sent


async def test_a_message_of_20_mb_passes(dial: Any, serve: Any, running: Any) -> None:
    """A message of 20 MB goes there and back."""
    frame = b"0123456789" * 2_000_000
    async with serve() as server, running(await dial(server.url)) as run:
        run.transport.send(frame)
        assert (await run.box.until(1)) == [frame]


async def test_a_greeting_in_the_handshakes_segment_is_held_until_run(
    dial: Any, listen: Any, running: Any
) -> None:
    """Frames that come in the same bytes as the upgrade are delivered when run starts."""
    from realtime_bus.transport._handshake import server_connection

    async def handle(stream: ByteStream) -> None:
        connection = server_connection()
        while connection.opening:
            connection.receive(await stream.receive())
        connection.send_text(b"one")
        connection.send_text(b"two")
        connection.close(3000, "invalid_request_error.invalid_api_key")
        await stream.send(b"".join(connection.outgoing()))
        while not connection.closed:
            try:
                connection.receive(await stream.receive())
            except anyio.EndOfStream:
                connection.receive_eof()
            for chunk in connection.outgoing():
                await stream.send(chunk)
            if connection.wants_eof:
                break
        await stream.aclose()

    async with listen(handle) as port, running(await dial(f"ws://127.0.0.1:{port}")) as run:
        info = await run.end()
        assert run.box.frames == [b"one", b"two"]
    assert (info.code, info.reason) == (3000, "invalid_request_error.invalid_api_key")
    assert info.clean


async def test_the_client_closes_with_code_and_reason(dial: Any, serve: Any, running: Any) -> None:
    """Both ends learn the code and reason that the client closed with."""
    async with serve() as server, running(await dial(server.url)) as run:
        await run.transport.aclose(4001, "done here")
        ours = await run.end()
        await server.closed.wait()
        for info in (ours, server.closes[0]):
            assert (info.code, info.reason, info.clean) == (4001, "done here", True)


async def test_the_server_closes_with_code_and_reason(dial: Any, serve: Any, running: Any) -> None:
    """Both ends learn the code and reason that the server closed with."""
    async with serve() as server, running(await dial(server.url)) as run:
        await server.connected.wait()
        await server.transports[0].aclose(1001, "60 minutes")
        ours = await run.end()
        await server.closed.wait()
        for info in (ours, server.closes[0]):
            assert (info.code, info.reason, info.clean) == (1001, "60 minutes", True)
        with pytest.raises(TransportClosed) as caught:
            run.transport.send(b"too late")
        assert caught.value.close.code == 1001
        with pytest.raises(TransportClosed):
            await run.transport.drain()


async def test_frames_before_a_close_are_delivered(dial: Any, serve: Any, running: Any) -> None:
    """What the server sent before it closed is delivered before run returns."""
    async with serve(echo=False, greeting=tuple(b"%d" % i for i in range(1000))) as server:
        transport = await dial(server.url)
        await server.connected.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.transports[0].aclose)
            async with running(transport) as run:
                assert (await run.end()).code == 1000
                assert len(run.box.frames) == 1000


async def test_an_abrupt_end_is_1006(dial: Any, listen: Any, running: Any) -> None:
    """A stream that ends without a close frame is code 1006, unclean, with the error."""
    from realtime_bus.transport._handshake import server_connection

    async def handle(stream: ByteStream) -> None:
        connection = server_connection()
        while connection.opening:
            connection.receive(await stream.receive())
        connection.send_text(b"last words")
        await stream.send(b"".join(connection.outgoing()))
        await stream.aclose()

    async with listen(handle) as port, running(await dial(f"ws://127.0.0.1:{port}")) as run:
        info = await run.end()
        assert run.box.frames == [b"last words"]
    assert (info.code, info.reason, info.clean) == (1006, "", False)
    assert info.error is not None


async def test_a_message_above_the_limit_closes_with_1009(
    dial: Any, serve: Any, running: Any
) -> None:
    """The receiver of a message above its limit closes with 1009, and the sender learns it."""
    limited = serve(options=ConnectionOptions(max_frame_bytes=1000))
    async with limited as server, running(await dial(server.url)) as run:
        run.transport.send(b"x" * 1000)
        await run.box.until(1)
        run.transport.send(b"x" * 1001)
        assert (await run.end()).code == 1009
        await server.closed.wait()
    assert server.closes[0].code == 1009
    assert not server.closes[0].clean
    assert server.received == [b"x" * 1000]


async def test_the_client_has_a_limit_too(dial: Any, serve: Any, running: Any) -> None:
    """A server's message above the client's limit ends the session with 1009."""
    large = serve(echo=False, greeting=(b"x" * 1001,))
    async with large as server, running(await dial(server.url, max_frame_bytes=1000)) as run:
        info = await run.end()
    assert (info.code, info.clean) == (1009, False)


async def test_pausing_keeps_order_and_loses_nothing(dial: Any, serve: Any, running: Any) -> None:
    """Frames that come while paused are delivered after resume, in order, with all the others."""
    async with serve() as server, running(await dial(server.url)) as run:
        transport, box = run.transport, run.box
        sent = [b"%d" % i for i in range(500)]
        box.at[100] = transport.pause
        for frame in sent:
            transport.send(frame)
        await box.until(100)
        with anyio.fail_after(60):
            while len(server.received) < 500:
                await anyio.lowlevel.checkpoint()
        assert len(box.frames) == 100
        transport.resume()
        assert await box.until(500) == sent


async def test_a_close_while_paused_is_seen_after_the_held_frames(
    dial: Any, serve: Any, running: Any
) -> None:
    """A paused transport still delivers everything before it reports the end."""
    async with serve(echo=False, greeting=(b"1", b"2", b"3")) as server:
        transport = await dial(server.url)
        transport.pause()
        async with anyio.create_task_group() as tasks, running(transport) as run:
            await server.connected.wait()
            tasks.start_soon(server.transports[0].aclose)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert run.info is None
            transport.resume()
            assert (await run.end()).code == 1000
            assert run.box.frames == [b"1", b"2", b"3"]


async def test_closing_while_paused_does_not_hang(dial: Any, serve: Any, running: Any) -> None:
    """The application can leave although it had stopped reading."""
    async with serve(greeting=(b"1",)) as server, running(await dial(server.url)) as run:
        await run.box.until(1)
        run.transport.pause()
        run.transport.send(b"2")
        await run.transport.aclose()
        assert (await run.end()).clean


async def test_closing_before_run_says_goodbye(dial: Any, serve: Any) -> None:
    """A transport that never ran still closes with a handshake."""
    async with serve() as server:
        transport = await dial(server.url)
        await transport.aclose(1000, "changed my mind")
        await server.closed.wait()
        assert server.closes[0].reason == "changed my mind"
        await transport.aclose()


async def test_a_cancelled_run_can_still_say_goodbye(dial: Any, serve: Any) -> None:
    """Cancelling run leaves the connection for aclose to end properly."""
    async with serve() as server:
        transport = await dial(server.url)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transport.run, print)
            await server.connected.wait()
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await transport.aclose(1001, "stopped")
        await server.closed.wait()
        assert (server.closes[0].code, server.closes[0].clean) == (1001, True)


async def test_a_peer_that_never_hangs_up_is_cut(dial: Any, listen: Any, running: Any) -> None:
    """After the close timeout the connection is cut, with 1006 because no answer came."""
    from realtime_bus.transport._handshake import server_connection

    async def handle(stream: ByteStream) -> None:
        connection = server_connection()
        while connection.opening:
            connection.receive(await stream.receive())
        await stream.send(b"".join(connection.outgoing()))
        await anyio.sleep_forever()

    async with listen(handle) as port:
        url = f"ws://127.0.0.1:{port}"
        async with running(await dial(url, close_timeout_s=0.01)) as run:
            await run.transport.aclose()
            info = await run.end()
    assert (info.code, info.clean) == (1006, False)


async def test_drain_waits_for_a_slow_reader(dial: Any, serve: Any, running: Any) -> None:
    """Drain returns at once when little is unsent, and otherwise once the peer reads again."""
    async with serve(echo=False) as server, running(await dial(server.url)) as run:
        await server.connected.wait()
        await run.transport.drain()
        server.transports[0].pause()
        frame = b"x" * 1_000_000
        for _ in range(20):
            run.transport.send(frame)
        drained = anyio.Event()

        async def drain() -> None:
            await run.transport.drain()
            drained.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain)
            for _ in range(200):
                await anyio.lowlevel.checkpoint()
            assert not drained.is_set()
            assert run.transport.buffered_bytes > 1_000_000
            server.transports[0].resume()
            with anyio.fail_after(60):
                await drained.wait()
        with anyio.fail_after(60):
            while len(server.received) < 20:
                await anyio.lowlevel.checkpoint()


async def test_a_peer_that_reads_nothing_is_given_up(
    dial: Any, serve: Any, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the bound of unsent bytes, send raises and the connection ends."""
    from realtime_bus.transport import _asyncio, _buffers

    for module in (_asyncio, _buffers):
        monkeypatch.setattr(module, "MAX_UNSENT_BYTES", 2_000_000)
    async with serve(echo=False) as server, running(await dial(server.url)) as run:
        await server.connected.wait()
        server.transports[0].pause()
        with pytest.raises(TransportClosed, match="does not read"):  # noqa: PT012 - one of many
            for _ in range(100):
                run.transport.send(b"x" * 1_000_000)
        info = await run.end()
        assert (info.code, info.clean) == (1008, False)
        server.transports[0].resume()


async def _upgrade(stream: ByteStream) -> None:
    """Answer the handshake, and nothing else."""
    from realtime_bus.transport._handshake import server_connection

    connection = server_connection()
    while connection.opening:
        connection.receive(await stream.receive())
    await stream.send(b"".join(connection.outgoing()))


async def test_silence_after_a_ping_ends_the_connection(
    dial: Any, listen: Any, running: Any
) -> None:
    """A server that answers no ping is given up with 1011, and its close is not waited for."""

    async def handle(stream: ByteStream) -> None:
        await _upgrade(stream)
        await anyio.sleep_forever()

    async with listen(handle) as port:
        transport = await dial(
            f"ws://127.0.0.1:{port}",
            ping_interval_s=0.01,
            ping_timeout_s=0.01,
            close_timeout_s=3600,
        )
        async with running(transport) as run:
            info = await run.end()
    assert (info.code, info.reason) == (1011, "keepalive ping timeout")
    assert isinstance(info.error, TimeoutError)


async def test_a_link_that_is_dead_over_tls_is_cut_at_once(
    dial: Any, listen: Any, running: Any, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Neither a closing handshake nor TLS' own goodbye is waited for, though writes are stuck."""

    async def handle(stream: ByteStream) -> None:
        await _upgrade(stream)
        await anyio.sleep_forever()

    async with listen(handle, tls=server_tls) as port:
        transport = await dial(
            f"wss://localhost:{port}",
            ssl_context=client_tls,
            ping_interval_s=0.01,
            ping_timeout_s=0.01,
            close_timeout_s=3600,
        )
        async with running(transport) as run:
            transport.send(b"x" * 20_000_000)
            info = await run.end()
    assert (info.code, info.reason) == (1011, "keepalive ping timeout")


async def test_a_loop_that_stood_still_is_no_sign_of_death(dial: Any, running: Any) -> None:
    """Pongs that wait in the socket while our own loop is blocked count as life."""

    def handle(connection: Any) -> None:
        for message in connection:
            connection.send(message)

    with websockets.sync.server.serve(handle, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
            transport = await dial(url, ping_interval_s=0.02, ping_timeout_s=0.5)
            keepalive = transport._connection._keepalive  # type: ignore[attr-defined]  # the test looks inside
            async with running(transport) as run:
                for count in range(1, 3):
                    while not keepalive._waiting or keepalive._heard:
                        await anyio.lowlevel.checkpoint()
                    time.sleep(0.9)  # noqa: ASYNC251 - the loop stands still, on purpose
                    run.transport.send(f"{count}".encode())
                    await run.box.until(count)
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("unsent_bytes", [0, 20_000_000])
async def test_cutting_ends_a_run(
    dial: Any, serve: Any, running: Any, paused: bool, unsent_bytes: int
) -> None:
    """When the connection is cut without a word, `run` returns, whatever it was waiting for."""
    async with serve() as server:
        for side in ("client", "server"):
            transport = await dial(server.url)
            with anyio.fail_after(60):
                while len(server.transports) < 1 + (side == "server"):
                    await anyio.lowlevel.checkpoint()
            async with running(transport) as run:
                other = run.transport if side == "client" else server.transports[-1]
                await anyio.wait_all_tasks_blocked()
                if paused:
                    other.pause()
                other.send(b"x" * unsent_bytes)
                await anyio.lowlevel.checkpoint()
                await other.abort()
                assert (await run.end()).code == 1006
            with anyio.fail_after(60):
                while len(server.closes) < len(server.transports):
                    await anyio.lowlevel.checkpoint()


async def test_pings_keep_a_quiet_connection_open(dial: Any, serve: Any, running: Any) -> None:
    """Pings that are answered leave the connection as it is."""
    async with serve() as server:
        transport = await dial(server.url, ping_interval_s=0.001, ping_timeout_s=10)
        async with running(transport) as run:
            keepalive = transport._connection._keepalive  # type: ignore[attr-defined]  # the test looks inside
            begin = anyio.current_time()
            with anyio.fail_after(60):
                while (keepalive.next_deadline() or 0) < begin + 0.02:
                    await anyio.lowlevel.checkpoint()
            run.transport.send(b"still here")
            assert await run.box.until(1) == [b"still here"]


async def test_a_message_that_takes_long_to_come_counts_as_life(
    dial: Any, listen: Any, running: Any
) -> None:
    """Each bit of an unfinished message is noticed after a ping, and none of it is lost."""

    async def handle(stream: ByteStream) -> None:
        await _upgrade(stream)
        await stream.send(b"\x81\x03")  # the beginning of a text message of three bytes
        for letter in b"abc":
            await stream.receive()  # a ping, which is not answered
            await stream.send(bytes((letter,)))
        await anyio.sleep_forever()

    async with listen(handle) as port:
        transport = await dial(
            f"ws://127.0.0.1:{port}",
            ping_interval_s=0.02,
            ping_timeout_s=10,
            close_timeout_s=0.01,
        )
        async with running(transport) as run:
            # no ping follows one after which nothing was heard: three show that two bits were
            assert await run.box.until(1) == [b"abc"]


async def test_an_error_in_deliver_comes_out_of_run(dial: Any, serve: Any) -> None:
    """What deliver raises cuts the connection and is raised by run."""

    def deliver(_frame: bytes) -> None:
        raise ZeroDivisionError

    async with serve(greeting=(b"1",)) as server:
        transport = await dial(server.url)
        with pytest.raises(ZeroDivisionError):
            await transport.run(deliver)
        await transport.aclose()


async def test_inline_code_may_use_anyio(dial: Any, serve: Any, running: Any) -> None:
    """Inside deliver, anyio knows which backend runs, though no task may be current."""
    async with serve(greeting=(b"1",)) as server:
        transport = await dial(server.url)
        times: list[float] = []
        async with anyio.create_task_group() as tasks:

            async def later() -> None:
                await transport.aclose()

            def deliver(_frame: bytes) -> None:
                times.append(anyio.current_time())
                anyio.Event().set()
                tasks.start_soon(later)

            await transport.run(deliver)
        assert len(times) == 1


async def test_tls_is_verified(
    dial: Any, serve: Any, running: Any, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """A certificate of a trusted authority is accepted; messages and close pass."""
    async with serve(tls=server_tls) as server:
        transport = await dial(server.url, ssl_context=client_tls)
        async with running(transport) as run:
            run.transport.send(b"x" * 3_000_000)
            assert await run.box.until(1) == [b"x" * 3_000_000]
            await transport.aclose(1000, "bye")
            assert (await run.end()).reason == "bye"


async def test_an_untrusted_certificate_is_refused(
    dial: Any, serve: Any, server_tls: ssl.SSLContext
) -> None:
    """A certificate that nobody known has signed makes the host unreachable."""
    async with serve(tls=server_tls) as server:
        with pytest.raises(HostUnreachable, match="certificate is not trusted") as caught:
            await dial(server.url)
    assert "model" not in str(caught.value)


async def test_a_certificate_for_another_host_is_refused(
    dial: Any, serve: Any, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """The name in the certificate has to be the host's."""
    async with serve(tls=server_tls) as server:
        with pytest.raises(HostUnreachable, match="certificate is not trusted"):
            await dial(server.url.replace("localhost", "127.0.0.1"), ssl_context=client_tls)


async def test_tls_to_a_plain_server_fails_clearly(dial: Any, serve: Any) -> None:
    """A server without TLS on a wss address is named as the reason."""
    async with serve() as server:
        with pytest.raises(HostUnreachable, match="TLS"):
            await dial(server.url.replace("ws://", "wss://"))


async def test_pings_of_a_peer_that_never_reads_cost_no_memory(
    dial: Any, listen: Any, running: Any
) -> None:
    """While nothing can be written, one pong waits: the answer to the last ping."""
    full, heard = anyio.Event(), bytearray()

    async def handle(stream: ByteStream) -> None:
        await _upgrade(stream)
        await full.wait()
        for number in range(1000):
            await stream.send(b"\x89\x7d" + b"%0125d" % number)
            for _ in range(3):  # so that each is a read of its own
                await anyio.lowlevel.checkpoint()
        await stream.send(b"\x81\x05pings")
        while len(heard) < 20_000_000 + 14 + 131:
            heard.extend(await stream.receive())
        await stream.send(b"\x81\x04read")
        await anyio.sleep_forever()

    async with listen(handle) as port:
        transport = await dial(f"ws://127.0.0.1:{port}", close_timeout_s=0.01)
        async with running(transport) as run:
            transport.send(b"x" * 20_000_000)
            await anyio.lowlevel.checkpoint()
            unsent = transport.buffered_bytes
            full.set()
            await run.box.until(1)
            assert transport.buffered_bytes < unsent + 10_000
            await run.box.until(2)
            assert transport.buffered_bytes == 0
    last = bytes(heard[-131:])
    assert last[:2] == b"\x8a\xfd"
    assert apply_mask(last[6:], last[2:6]) == b"%0125d" % 999


@pytest.mark.parametrize("unsent_bytes", [0, 20_000_000])
async def test_a_close_frame_gets_out_to_a_peer_that_half_closes_at_once(
    dial: Any, serve: Any, unsent_bytes: int
) -> None:
    """The answer to a close is written although the end of the stream came right behind it."""
    async with serve() as server, await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        client = client_connection(parse_uri(server.url))
        await stream.send(b"".join(client.outgoing()))
        while client.opening:
            client.receive(await stream.receive())
        await server.connected.wait()
        server.transports[0].send(b"x" * unsent_bytes)  # so that its close frame has to wait
        client.close(4000, "bye")
        await stream.send(b"".join(client.outgoing()))
        await stream.send_eof()
        with anyio.fail_after(60):
            while not client.closed:
                try:
                    client.receive(await stream.receive())
                except anyio.EndOfStream:
                    client.receive_eof()
    assert client.close_info() == CloseInfo(code=4000, reason="bye")

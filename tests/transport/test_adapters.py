"""Connections that the application already has."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest
from starlette.websockets import WebSocket

from realtime_bus.errors import CloseInfo, TransportClosed, UsageError
from realtime_bus.transport import _buffers, adapt


class Plain:
    """An object with awaitable send and receive; None ends it."""

    def __init__(self) -> None:
        self.give, self._take = anyio.create_memory_object_stream[Any](math.inf)
        self.sent: list[str] = []
        self.closed = False

    async def receive(self) -> Any:
        """Take what the test gave."""
        item = await self._take.receive()
        if isinstance(item, Exception):
            raise item
        return item

    async def send(self, text: str) -> None:
        """Keep what was sent."""
        await anyio.lowlevel.checkpoint()
        self.sent.append(text)

    async def aclose(self) -> None:
        """Note the close."""
        self.closed = True
        self.dispose()

    def dispose(self) -> None:
        """Close what the test gave through."""
        self.give.close()
        self._take.close()


class Recv:
    """The same by the names that `websockets` uses."""

    def __init__(self, plain: Plain) -> None:
        self.plain = plain
        self.how: tuple[int, str] | None = None
        self.recv, self.send = plain.receive, plain.send

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Note the close."""
        self.how = (code, reason)


class Closed(Exception):  # noqa: N818 - named like the libraries' own
    """What a library raises for a close: the frame is in `rcvd`, as in `websockets`."""

    def __init__(self, rcvd: Any) -> None:
        super().__init__("closed")
        self.rcvd = rcvd


@pytest.mark.anyio
async def test_an_object_with_send_and_receive(running: Any) -> None:
    """Text and bytes come in, text goes out in order, None is the end."""
    plain = Plain()
    async with running(adapt(plain)) as run:
        plain.give.send_nowait('{"a":1}')
        plain.give.send_nowait(b'{"b":2}')
        assert await run.box.until(2) == [b'{"a":1}', b'{"b":2}']
        run.transport.send(b"one")
        run.transport.send(b"two")
        await run.transport.aclose()
        assert await run.end() == CloseInfo(code=1000, reason="")
    assert plain.sent == ["one", "two"]
    assert plain.closed


@pytest.mark.anyio
async def test_none_is_the_end(running: Any) -> None:
    """A receive that returns None ends the session cleanly."""
    plain = Plain()
    async with running(adapt(plain)) as run:
        plain.give.send_nowait(None)
        assert (await run.end()).clean
        with pytest.raises(TransportClosed):
            run.transport.send(b"x")
        with pytest.raises(TransportClosed):
            await run.transport.drain()
    plain.dispose()


@pytest.mark.anyio
async def test_a_close_code_that_may_not_be_sent_is_refused(running: Any) -> None:
    """As over a socket, and nothing is closed."""
    recv = Recv(Plain())
    async with running(adapt(recv)) as run:
        with pytest.raises(UsageError, match="99 may not be sent"):
            await run.transport.aclose(99)
        assert recv.how is None
    recv.plain.dispose()


@pytest.mark.anyio
async def test_close_gets_code_and_reason_where_it_takes_them(running: Any) -> None:
    """A close function with room for code and reason is given both."""
    recv = Recv(Plain())
    async with running(adapt(recv)) as run:
        await run.transport.aclose(4000, "bye")
        await run.end()
    assert recv.how == (4000, "bye")
    recv.plain.dispose()


@pytest.mark.parametrize(
    ("error", "code", "clean"),
    [
        (Closed(CloseInfo(code=3000, reason="bad key")), 3000, True),
        (Closed(None), 1006, False),
        (anyio.EndOfStream(), 1000, True),
        (ConnectionResetError(), 1006, False),
    ],
)
@pytest.mark.anyio
async def test_how_it_ended_is_read_off_the_exception(
    running: Any, error: Exception, code: int, clean: bool
) -> None:
    """Every library's own exception becomes code, reason and clean."""
    plain = Plain()
    async with running(adapt(plain)) as run:
        plain.give.send_nowait(error)
        info = await run.end()
        assert (info.code, info.clean) == (code, clean)
    plain.dispose()


@pytest.mark.anyio
async def test_pausing_stops_receiving(running: Any) -> None:
    """While paused at most one message is taken; after resume all come in order."""
    plain = Plain()
    async with running(adapt(plain)) as run:
        run.box.at[1] = run.transport.pause
        for index in range(5):
            plain.give.send_nowait(str(index))
        await run.box.until(1)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert run.box.frames == [b"0"]
        assert plain.give.statistics().current_buffer_used == 4
        run.transport.resume()
        assert await run.box.until(5) == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.anyio
async def test_a_stuck_peer_is_given_up(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bound of the send queue the connection ends with 1008."""
    monkeypatch.setattr(_buffers, "MAX_UNSENT_BYTES", 1000)
    plain = Plain()

    async def stuck(_text: str) -> None:
        await anyio.sleep_forever()

    plain.send = stuck  # type: ignore[method-assign] - a peer that never takes anything
    async with running(adapt(plain)) as run:
        run.transport.send(b"x" * 1001)
        assert run.transport.buffered_bytes == 1001
        with pytest.raises(TransportClosed):
            run.transport.send(b"y")
        assert (await run.end()).code == 1008


@pytest.mark.anyio
async def test_a_failing_send_ends_it(running: Any) -> None:
    """What send raises is how the session ends."""
    plain = Plain()

    async def broken(_text: str) -> None:
        raise BrokenPipeError

    plain.send = broken  # type: ignore[method-assign] - a peer that is gone
    async with running(adapt(plain)) as run:
        run.transport.send(b"x")
        info = await run.end()
        assert isinstance(info.error, BrokenPipeError)


@pytest.mark.anyio
async def test_an_error_in_deliver_comes_out_of_run() -> None:
    """What deliver raises ends the connection and is raised by run."""
    plain = Plain()
    plain.give.send_nowait("1")

    def deliver(_frame: bytes) -> None:
        raise ZeroDivisionError

    transport = adapt(plain)
    with pytest.raises(ZeroDivisionError):
        await transport.run(deliver)
    await transport.aclose()


class Asgi:
    """The server's end of an ASGI WebSocket."""

    def __init__(self) -> None:
        self.give, self._take = anyio.create_memory_object_stream[Any](math.inf)
        self.sent: list[Any] = []
        scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
        self.websocket = WebSocket(scope, self._take.receive, self._send)
        self.give.send_nowait({"type": "websocket.connect"})

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def dispose(self) -> None:
        """Close what the test gave through."""
        self.give.close()
        self._take.close()


@pytest.mark.anyio
async def test_a_starlette_websocket(running: Any) -> None:
    """Text and binary messages come in, text goes out, and closing says code and reason."""
    asgi = Asgi()
    await asgi.websocket.accept()
    async with running(adapt(asgi.websocket)) as run:
        asgi.give.send_nowait({"type": "websocket.receive", "text": "a", "bytes": None})
        asgi.give.send_nowait({"type": "websocket.receive", "bytes": b"b"})
        assert await run.box.until(2) == [b"a", b"b"]
        run.transport.send(b"c")
        await run.transport.aclose(4000, "bye")
        await run.end()
    assert asgi.sent[1:] == [
        {"type": "websocket.send", "text": "c"},
        {"type": "websocket.close", "code": 4000, "reason": "bye"},
    ]
    asgi.dispose()


@pytest.mark.anyio
async def test_a_starlette_client_leaves(running: Any) -> None:
    """The client's close code and reason end the session."""
    asgi = Asgi()
    await asgi.websocket.accept()
    async with running(adapt(asgi.websocket)) as run:
        asgi.give.send_nowait({"type": "websocket.disconnect", "code": 1001, "reason": "gone"})
        info = await run.end()
        assert (info.code, info.reason, info.clean) == (1001, "gone", True)
    asgi.dispose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_an_openai_realtime_connection(serve: Any, running: Any, anyio_backend: str) -> None:
    """openai-python's connection, which is bound to asyncio, works through its public methods."""
    from openai import AsyncOpenAI

    async with serve() as server:
        client = AsyncOpenAI(
            api_key="sk-test", websocket_base_url=f"ws://127.0.0.1:{server.port}/v1"
        )
        async with client, client.realtime.connect(model="m") as connection:
            async with running(adapt(connection)) as run:
                run.transport.send(b'{"type":"x"}')
                assert await run.box.until(1) == [b'{"type":"x"}']
                await run.transport.aclose(4000, "bye")
                assert (await run.end()).code == 4000
            await server.closed.wait()
            assert (server.closes[0].code, server.closes[0].reason) == (4000, "bye")


@pytest.mark.parametrize("thing", [object(), 1, None, "ws://x"])
def test_what_fits_nothing_is_refused(thing: object) -> None:
    """Something without the methods is refused, naming its type and what it needs."""
    with pytest.raises(UsageError, match=rf"{type(thing).__name__} cannot be adapted"):
        adapt(thing)

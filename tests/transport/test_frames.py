"""Cutting frames by hand gives what parsing them all gives, whatever comes in whatever pieces."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.uri import parse_uri

from benchmarks import fuzz_websocket
from realtime_bus.errors import MissingExtra, UsageError
from realtime_bus.transport import Dial, _frames, dial, dial_picows
from realtime_bus.transport._connection import Connection
from realtime_bus.transport._handshake import (
    ConnectionOptions,
    client_connection,
    server_connection,
)

URI = parse_uri("ws://localhost/")
LIMIT = 70_000


def raw(opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Serialize a frame as a server would, allowed or not."""
    head = bytes(((fin << 7) | (rsv << 4) | opcode,))
    if len(data) < 126:
        return head + bytes((len(data),)) + data
    if len(data) < 65536:
        return head + b"\x7e" + len(data).to_bytes(2, "big") + data
    return head + b"\x7f" + len(data).to_bytes(8, "big") + data


BROKEN = {
    "an unknown opcode": raw(3, b"x"),
    "a reserved bit": raw(1, b"x", rsv=4),
    "a masked frame": Frame(Opcode.TEXT, b"x").serialize(mask=True),
    "a fragment of nothing": raw(0, b"x"),
    "a message inside of a message": raw(1, b"x", fin=False) + raw(1, b"y"),
    "a long ping": raw(9, b"x" * 126),
    "a fragmented ping": raw(9, b"x", fin=False),
    "too large": raw(1, b"x" * (LIMIT + 1)),
    "only the header of something too large": raw(2, b"x" * (LIMIT + 1))[:10],
    "too large in fragments": raw(1, b"x" * LIMIT, fin=False) + raw(0, b"y"),
    "a close code that is none": raw(8, b"\x03\xec"),
    "half a close code": raw(8, b"\x03"),
    "a close reason that is not UTF-8": raw(8, b"\x03\xe8\xff\xfe"),
    "a long close": raw(8, b"\x03\xe8" + b"x" * 124),
    "a fragmented close": raw(8, b"\x03\xe8", fin=False),
    "a close inside of a message": raw(1, b"x", fin=False) + raw(8, b"\x03\xe8"),
}
GOOD = [
    raw(1, b"small"),
    raw(1, b""),
    raw(2, b"binary"),
    raw(1, b"m" * 126),
    raw(1, b"l" * 65536),
    raw(9, b"ping"),
    raw(10, b"pong"),
    raw(1, b"a", fin=False) + raw(9) + raw(0, b"b", fin=False) + raw(0, b"c"),
    raw(1, b"x" * LIMIT),
]
ENDS = [b"", raw(8), raw(8, Close(1000, "bye").serialize()), *BROKEN.values(), raw(1, b"cut")[:-1]]


def opened(*, cutting: bool) -> Connection:
    """Return a client's connection after the handshake, with or without the short cut."""
    limits = ConnectionOptions(max_frame_bytes=LIMIT)
    client, server = client_connection(URI, options=limits), server_connection()
    server.receive(b"".join(client.outgoing()))
    client.receive(b"".join(server.outgoing()))
    assert client._cutting
    client._cutting = cutting
    return client


def told(connection: Connection, pieces: list[bytes], close_after: int | None) -> Any:
    """Feed a connection and return all that can be seen of it."""
    messages: list[bytes] = []
    answers: list[int] = []  # how many bytes: the masks differ
    for number, piece in enumerate(pieces):
        if number == close_after:
            connection.close(1000, "enough")
        messages += connection.receive(piece)
        answers.append(sum(map(len, connection.outgoing())))
    state = (connection.is_open, connection.closing)
    connection.receive_eof()
    info = connection.close_info()
    return messages, sum(answers), state, (info.code, info.reason, info.clean, str(info.error))


@given(
    frames=st.lists(st.sampled_from(GOOD), max_size=8),
    end=st.sampled_from(ENDS),
    after=st.sampled_from([b"", raw(1, b"after")]),
    cuts=st.lists(st.integers(0, 1 << 18), max_size=12),
    close_after=st.none() | st.integers(0, 3),
)
def test_the_short_cut_changes_nothing(
    frames: list[bytes], end: bytes, after: bytes, cuts: list[int], close_after: int | None
) -> None:
    """Messages, answers, state and close are the same as without it."""
    data = b"".join(frames) + end + after
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [data[a:b] for a, b in pairwise(places)]
    short = told(opened(cutting=True), pieces, close_after)
    assert short == told(opened(cutting=False), pieces, close_after)


def test_a_few_streams_of_the_fuzzer(capsys: pytest.CaptureFixture[str]) -> None:
    """Random streams in random chunks give what the library's own parser gives."""
    assert fuzz_websocket.main(["--streams", "150", "--seed", "ci"]) == 0
    assert "150 streams, seed ci: no difference" in capsys.readouterr().out


def test_the_fuzzer_finds_a_difference_and_tells_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A short cut that takes fragmented messages apart is found, and its round runs again."""
    monkeypatch.setattr(_frames, "_MESSAGES", frozenset({0x01, 0x81, 0x82}))
    assert fuzz_websocket.main(["--streams", "150"]) == 1
    seed = capsys.readouterr().out.split("--only ")[1].strip()
    assert fuzz_websocket.main(["--only", seed]) == 1
    monkeypatch.undo()
    assert fuzz_websocket.main(["--only", seed]) == 0


@given(st.integers(1, 200), st.integers(0, 200))
def test_the_handshake_may_be_cut_anywhere(first: int, second: int) -> None:
    """What follows the handshake is found wherever the reads were cut."""
    client, server = client_connection(URI), server_connection()
    server.receive(b"".join(client.outgoing()))
    data = b"".join(server.outgoing()) + raw(1, b"\r\n\r\none") + raw(9, b"p") + raw(1, b"two")
    pieces = (data[:first], data[first : first + second], data[first + second :])
    assert [m for piece in pieces for m in client.receive(piece)] == [b"\r\n\r\none", b"two"]
    assert client._cutting


def test_a_frame_that_arrives_in_small_pieces_costs_no_more_than_its_size() -> None:
    """An unfinished frame is kept once, and the read buffer may be used again."""
    connection = opened(cutting=True)
    data, buffer = memoryview(raw(1, b"z" * 60_000)), bytearray(1000)
    messages: list[bytes] = []
    for start in range(0, len(data), 1000):
        piece = data[start : start + 1000]
        buffer[: len(piece)] = piece
        messages += connection.receive(memoryview(buffer)[: len(piece)])
    assert messages == [b"z" * 60_000]


def _sending(data: bytes, *, asked: bool = False) -> Any:
    """Serve an upgrade with bytes right behind it, or when asked, whatever the client does."""

    async def handle(stream: ByteStream) -> None:
        server = server_connection()
        while server.opening:
            server.receive(await stream.receive())
        await stream.send(b"".join(server.outgoing()))
        if asked:
            await stream.receive()
        await stream.send(data)
        try:
            while True:
                await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return

    return handle


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("end", BROKEN.values(), ids=BROKEN)
@pytest.mark.anyio
async def test_picows_ends_as_the_default_does(
    listen: Any, running: Any, end: bytes, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    """Broken frames give the same messages and the same close, and nothing is logged."""
    ends: list[Any] = []
    for dialled in (dial, dial_picows):
        async with listen(_sending(b"".join(GOOD) + end + raw(1, b"after") * 30)) as port:
            transport = await dialled(
                f"ws://127.0.0.1:{port}", max_frame_bytes=LIMIT, close_timeout_s=0.05
            )
            async with running(transport) as run:
                info = await run.end()
        ends.append((run.box.frames, info.code, info.clean, info.error is not None))
    assert ends[0] == ends[1]
    assert not [record for record in caplog.records if "picows" in record.name]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_picows_is_not_fed_behind_a_broken_frame(
    listen: Any, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after a failure is discarded: picows gets no more than one turn's reading."""
    from realtime_bus.transport._picows import _Reader

    fed: list[int] = []
    feed = _Reader.buffer_updated

    def count(reader: Any, nbytes: int) -> None:
        fed.append(nbytes)
        feed(reader, nbytes)

    monkeypatch.setattr(_Reader, "buffer_updated", count)
    async with listen(_sending(raw(3, b"x") + raw(1, b"z" * 60_000) * 200)) as port:
        transport = await dial_picows(f"ws://127.0.0.1:{port}", close_timeout_s=0.2)
        async with running(transport) as run:
            info = await run.end()
    assert info.code == 1002
    assert 0 < sum(fed) < 3_000_000


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("end", ["a close code that is none", "half a close code", "a long ping"])
@pytest.mark.anyio
async def test_picows_delivers_nothing_behind_a_failure(
    listen: Any, running: Any, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One turn of the loop may fill picows' buffer several times; what comes after is discarded."""
    from realtime_bus.transport._picows import _Reader

    sizes: list[int] = []
    feed = _Reader.buffer_updated

    def note(reader: Any, nbytes: int) -> None:
        sizes.append(nbytes)
        feed(reader, nbytes)

    monkeypatch.setattr(_Reader, "buffer_updated", note)

    async def receive(data: bytes) -> list[bytes]:
        async with listen(_sending(data, asked=True)) as port:
            transport = await dial_picows(f"ws://127.0.0.1:{port}", close_timeout_s=0.05)
            async with running(transport) as run:
                transport.send(b"please")
                info = await run.end()
        assert info.code == 1002
        frames: list[bytes] = run.box.frames
        return frames

    await receive(raw(1, b"x" * 62) * 1000 + BROKEN[end])
    room = sizes[1] - len(BROKEN[end])  # sizes[0] is the answer to picows' own request
    before = [b"x" * 62] * (room // 64 - 1)
    before.append(b"y" * (room - 64 * len(before) - 2))
    data = b"".join(raw(1, message) for message in before) + BROKEN[end]
    assert await receive(data + raw(1, b"after") * 30) == before


@pytest.mark.parametrize("dialled", [dial, dial_picows])
def test_handlers_may_use_anyio_under_plain_asyncio(serve: Any, dialled: Dial) -> None:
    """Inline code knows its backend under asyncio.run too, after pausing and resuming."""
    libraries: list[float] = []

    async def converse() -> None:
        async with serve() as server:
            transport = await dialled(server.url)  # type: ignore[call-arg] - all have defaults
            done = asyncio.Event()

            def deliver(frame: bytes) -> None:
                libraries.append(anyio.current_time())
                if frame == b"1":
                    transport.pause()
                    transport.resume()
                    transport.send(b"2")
                else:
                    done.set()

            task = asyncio.create_task(transport.run(deliver))
            transport.send(b"1")
            await asyncio.wait_for(done.wait(), 10)
            await transport.aclose()
            await task

    asyncio.run(converse())
    assert len(libraries) == 2


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.anyio
async def test_picows_on_trio_says_so() -> None:
    """On trio, the error names what to use."""
    with pytest.raises(UsageError, match="asyncio only"):
        await dial_picows("ws://127.0.0.1:1")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_without_picows_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, the install command is told."""
    monkeypatch.setattr("realtime_bus.transport._dial.find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match=r"realtime-bus\[picows\]"):
        await dial_picows("ws://127.0.0.1:1")

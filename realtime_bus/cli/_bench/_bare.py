"""Floors: what the parts cost without any library around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Union, cast

import msgspec
import pybase64
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.uri import WebSocketURI, parse_uri

from realtime_bus import events as ev
from realtime_bus.events._registry import REALTIME

from ._handler import Backlog, Tally

__all__ = ["bare_decoder", "sans_io", "sans_io_slow", "sans_io_taker", "websockets_client"]


@cache
def bare_decoder(*, collected: bool = True) -> tuple[Callable[[bytes], Any], dict[type[Any], Any]]:
    """Return msgspec's decoder of 46 plain structs, and the plain struct of each event.

    Args:
        collected: Whether the garbage collector is to see all; else those that it sees of ours.
    """
    plain: dict[type[Any], Any] = {
        cls: _bare(cls, gc=collected or cls.__struct_config__.gc)
        for cls in REALTIME.server.values()
    }
    every: Any = Union[tuple(plain.values())]  # noqa: UP007  # its members are not known here
    return msgspec.json.Decoder(every).decode, plain


def _bare(cls: type[ev.Event], *, gc: bool) -> type:
    """Return the same struct as msgspec alone would have it."""
    fields: list[Any] = [
        (field.name, field.type) if field.required else (field.name, field.type, _default(field))
        for field in msgspec.structs.fields(cls)
    ]
    return msgspec.defstruct(
        cls.__name__, fields, tag_field="type", tag=_tag(cls), frozen=True, kw_only=True, gc=gc
    )


def _tag(cls: type[ev.Event]) -> str:
    return str(cls.__struct_config__.tag)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return msgspec.field(default_factory=cast("Callable[[], Any]", field.default_factory))


def sans_io_taker(tally: Tally) -> Callable[[bytes], None]:
    """Return what decodes a frame and calls its handler: a dict, and nothing else."""
    decode, plain = bare_decoder()

    def audio(event: Any) -> None:
        tally.audio(
            pybase64.b64decode(memoryview(event.delta)[1:-1], validate=True), event.event_id
        )

    handlers: dict[type, Callable[[Any], None]] = {
        plain[ev.ResponseOutputAudioTranscriptDelta]: lambda event: tally.text(event.event_id),
        plain[ev.ResponseOutputAudioDelta]: audio,
    }

    def take(frame: bytes) -> None:
        event: object = decode(frame)
        handler = handlers.get(type(event))
        if handler is not None:
            handler(event)

    return take


class _SansIO(asyncio.Protocol):
    """`websockets`' Sans-I/O protocol, and nothing else."""

    def __init__(self, uri: WebSocketURI, take: Callable[[bytes], None]) -> None:
        self.protocol = ClientProtocol(uri, max_size=None)
        self.take = take
        self.open = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.protocol.send_request(self.protocol.connect())
        self._write()

    def data_received(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Frame):
                self.take(bytes(event.data))
            else:
                self.open.set()
        self._write()

    def _write(self) -> None:
        for chunk in self.protocol.data_to_send():
            self.transport.write(chunk)


@asynccontextmanager
async def _connected(url: str, take: Callable[[bytes], None]) -> AsyncGenerator[None]:
    uri = parse_uri(url)
    protocol = _SansIO(uri, take)
    await asyncio.get_running_loop().create_connection(
        lambda: protocol, uri.host, uri.port, ssl=uri.secure or None
    )
    await protocol.open.wait()
    try:
        yield
    finally:
        protocol.transport.abort()


@asynccontextmanager
async def sans_io(url: str, tally: Tally) -> AsyncGenerator[None]:
    """Receive with Sans-I/O websockets, msgspec and a dict."""
    async with _connected(url, sans_io_taker(tally)):
        yield


@asynccontextmanager
async def sans_io_slow(url: str, backlog: Backlog) -> AsyncGenerator[None]:
    """The same, with a queue and a task for the audio."""
    decode, plain = bare_decoder()
    queue: asyncio.Queue[Any] = asyncio.Queue()
    audio, speech = plain[ev.ResponseOutputAudioDelta], plain[ev.InputAudioBufferSpeechStarted]

    async def play() -> None:
        while True:
            event = await queue.get()
            await backlog.audio(pybase64.b64decode(memoryview(event.delta)[1:-1], validate=True))

    def take(frame: bytes) -> None:
        event: Any = decode(frame)
        if type(event) is audio:
            queue.put_nowait(event)
        elif type(event) is speech:
            backlog.speech(event.event_id)

    task = asyncio.create_task(play())
    async with _connected(url, take):
        yield
    task.cancel()


@asynccontextmanager
async def websockets_client(url: str, tally: Tally) -> AsyncGenerator[None]:
    """Receive with the ordinary client of websockets, msgspec and a dict."""
    from websockets.asyncio.client import connect  # noqa: PLC0415  # only where it is run

    take = sans_io_taker(tally)

    async def read() -> None:
        while True:
            take(await connection.recv(decode=False))

    async with connect(url, max_size=None, compression=None) as connection:
        task = asyncio.create_task(read())
        yield
        task.cancel()

"""Ways to receive events over a socket: ours, floors, and openai-python.

A floor is what the parts cost without any library around them: msgspec's decoder of plain structs,
a dict of functions, `websockets` as it comes.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Any, Literal, Union, cast

import msgspec
import pybase64
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.uri import WebSocketURI, parse_uri

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.transport import Dial, dial_picows

from ._work import Backlog, Row, Tally

OURS, FLOOR, OPENAI = "realtime-bus", "floor: Sans-I/O + msgspec + dict", "openai-python"

SERVER_EVENTS: list[type[ev.Event]] = [
    cls
    for cls in vars(ev).values()
    if isinstance(cls, type) and issubclass(cls, ev.ServerEvent) and cls is not ev.ServerEvent
]
"""The 46 classes of the Realtime protocol."""


def counting_bus(tally: Tally) -> Bus:
    """Return a bus with plain handlers that count."""
    bus = Bus()

    @bus.on(ev.ResponseOutputAudioTranscriptDelta)
    def text(event: ev.ResponseOutputAudioTranscriptDelta) -> None:
        tally.text(event.event_id)

    @bus.on(ev.ResponseOutputAudioDelta)
    def audio(event: ev.ResponseOutputAudioDelta) -> None:
        tally.audio(event.delta, event.event_id)

    return bus


@asynccontextmanager
async def ours(url: str, tally: Tally, *, dial: Dial | None = None) -> AsyncGenerator[None]:
    """Receive with `Bus.connect` and plain handlers."""
    async with counting_bus(tally).connect(url, api_key="none", dial=dial):
        yield


@asynccontextmanager
async def ours_async(
    url: str, tally: Tally, *, mode: Literal["eager", "queue"]
) -> AsyncGenerator[None]:
    """Receive with `Bus.connect` and async handlers."""
    bus = Bus()

    @bus.on(ev.ResponseOutputAudioTranscriptDelta, mode=mode)
    async def text(event: ev.ResponseOutputAudioTranscriptDelta) -> None:
        tally.text(event.event_id)

    @bus.on(ev.ResponseOutputAudioDelta, mode=mode)
    async def audio(event: ev.ResponseOutputAudioDelta) -> None:
        tally.audio(event.delta, event.event_id)

    async with bus.connect(url, api_key="none"):
        yield


@asynccontextmanager
async def ours_slow(
    url: str, backlog: Backlog, *, dial: Dial | None = None
) -> AsyncGenerator[None]:
    """Receive with `Bus.connect` and async handlers that take their time."""
    bus = Bus(drain_timeout_s=0.01)

    @bus.on(ev.ResponseOutputAudioDelta)
    async def audio(event: ev.ResponseOutputAudioDelta) -> None:
        await backlog.audio(event.delta)

    @bus.on(ev.InputAudioBufferSpeechStarted)
    async def speech(event: ev.InputAudioBufferSpeechStarted) -> None:
        backlog.speech(event.event_id)

    async with bus.connect(url, api_key="none", dial=dial):
        yield


@cache
def bare_decoder(*, collected: bool = True) -> tuple[Callable[[bytes], Any], dict[type[Any], Any]]:
    """Return msgspec's decoder of 46 plain structs, and the plain struct of each event.

    Args:
        collected: Whether the garbage collector is to see all; else those that it sees of ours.
    """
    plain: dict[type[Any], Any] = {
        cls: _plain_struct(cls, gc=collected or cls.__struct_config__.gc) for cls in SERVER_EVENTS
    }
    every: Any = Union[tuple(plain.values())]  # noqa: UP007  # its members are not known here
    return msgspec.json.Decoder(every).decode, plain


def _plain_struct(cls: type[ev.Event], *, gc: bool) -> type:
    """Return the same struct as msgspec alone would have it."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(cls):
        if field.required:
            fields.append((field.name, field.type))
        elif field.default is not msgspec.NODEFAULT:
            fields.append((field.name, field.type, field.default))
        else:
            factory = cast("Callable[[], Any]", field.default_factory)
            fields.append((field.name, field.type, msgspec.field(default_factory=factory)))
    tag = str(cls.__struct_config__.tag)
    return msgspec.defstruct(
        cls.__name__, fields, tag_field="type", tag=tag, frozen=True, kw_only=True, gc=gc
    )


def tallying_taker(tally: Tally) -> Callable[[bytes], None]:
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


@asynccontextmanager
async def playing_taker(backlog: Backlog) -> AsyncGenerator[Callable[[bytes], None]]:
    """Yield what decodes a frame; a queue and a task play the audio."""
    decode, plain = bare_decoder()
    audio, speech = plain[ev.ResponseOutputAudioDelta], plain[ev.InputAudioBufferSpeechStarted]
    queue: asyncio.Queue[Any] = asyncio.Queue()

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
    yield take
    task.cancel()


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
async def _sans_io(url: str, take: Callable[[bytes], None]) -> AsyncGenerator[None]:
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
    async with _sans_io(url, tallying_taker(tally)):
        yield


@asynccontextmanager
async def sans_io_slow(url: str, backlog: Backlog) -> AsyncGenerator[None]:
    """The same, with a queue and a task for the audio."""
    async with playing_taker(backlog) as take, _sans_io(url, take):
        yield


@asynccontextmanager
async def websockets_client(url: str, tally: Tally) -> AsyncGenerator[None]:
    """Receive with the ordinary client of websockets, msgspec and a dict."""
    from websockets.asyncio.client import connect  # noqa: PLC0415  # only where it is run

    take = tallying_taker(tally)

    async def read() -> None:
        while True:
            take(await connection.recv(decode=False))

    async with connect(url, max_size=None, compression=None) as connection:
        task = asyncio.create_task(read())
        yield
        task.cancel()


@asynccontextmanager
async def _openai(url: str, **handlers: Callable[[Any], object]) -> AsyncGenerator[None]:
    from openai import AsyncOpenAI  # noqa: PLC0415  # a peer that need not be installed

    client = AsyncOpenAI(api_key="none", websocket_base_url=url.removesuffix("/realtime"))
    kinds = {
        "text": "response.output_audio_transcript.delta",
        "audio": "response.output_audio.delta",
        "speech": "input_audio_buffer.speech_started",
    }
    async with client.realtime.connect(model="none") as connection:
        for name, handler in handlers.items():
            connection.on(kinds[name], handler)
        task = asyncio.create_task(connection.dispatch_events())
        yield
        task.cancel()


@asynccontextmanager
async def openai(url: str, tally: Tally) -> AsyncGenerator[None]:
    """Receive with openai-python, its handlers and its loop."""

    def text(event: Any) -> None:
        tally.text(event.event_id)

    def audio(event: Any) -> None:
        tally.audio(base64.b64decode(event.delta), event.event_id)

    async with _openai(url, text=text, audio=audio):
        yield


@asynccontextmanager
async def openai_slow(url: str, backlog: Backlog) -> AsyncGenerator[None]:
    """Receive with openai-python; async handlers, which its loop awaits."""

    async def audio(event: Any) -> None:
        await backlog.audio(base64.b64decode(event.delta))

    async def speech(event: Any) -> None:
        backlog.speech(event.event_id)

    async with _openai(url, audio=audio, speech=speech):
        yield


def rows() -> list[Row]:
    """Return ours, the floors, and openai-python."""
    plain = "Bus.connect, plain handlers; audio by reading event.delta"
    mailboxes = "Bus.connect, audio by reading event.delta; async handlers"
    floor = "websockets' Sans-I/O layer under an asyncio.Protocol, 46 plain structs, pybase64"
    client = "websockets' asyncio client, recv(decode=False), 46 plain structs, pybase64"
    theirs = "realtime.connect, handlers by .on, dispatch_events; audio by base64.b64decode"
    eager = partial(ours_async, mode="eager")
    picows = partial(ours, dial=dial_picows), partial(ours_slow, dial=dial_picows)
    return [
        Row(OURS, plain, None, ours, ours_slow),
        Row(f"{OURS}, async handlers", mailboxes, None, partial(ours_async, mode="queue")),
        Row(f"{OURS}, eager", f"{mailboxes}, eager", None, eager),
        Row(f"{OURS}, picows", f"{plain}; dial=dial_picows", "picows", *picows),
        Row(f"{OURS}, trio", plain, "trio", ours, ours_slow, "trio"),
        Row(f"{OURS}, uvloop", plain, "uvloop", ours, ours_slow, "uvloop"),
        Row(FLOOR, floor, None, sans_io, sans_io_slow),
        Row("floor: websockets client + msgspec + dict", client, None, websockets_client),
        Row(OPENAI, theirs, "openai", openai, openai_slow),
    ]

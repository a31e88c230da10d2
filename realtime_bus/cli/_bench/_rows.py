"""Ways to receive events over a socket: ours, the floors, and openai-python."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.transport import Dial, dial_picows

from ._bare import sans_io, sans_io_slow, websockets_client
from ._handler import Backlog, Row, Tally

__all__ = ["FLOOR", "OPENAI", "OURS", "counting_bus", "rows"]

OURS, FLOOR, OPENAI = "realtime-bus", "floor: Sans-I/O + msgspec + dict", "openai-python"


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


def picows(url: str, tally: Tally) -> AbstractAsyncContextManager[None]:
    """Receive with `Bus.connect`, plain handlers, and picows as the transport."""
    return ours(url, tally, dial=dial_picows)


def picows_slow(url: str, backlog: Backlog) -> AbstractAsyncContextManager[None]:
    """Receive with `Bus.connect`, async handlers, and picows as the transport."""
    return ours_slow(url, backlog, dial=dial_picows)


def ours_async(url: str, tally: Tally) -> AbstractAsyncContextManager[None]:
    """Receive with `Bus.connect` and async handlers, from their mailboxes."""
    return _ours_async(url, tally, "queue")


def ours_inline(url: str, tally: Tally) -> AbstractAsyncContextManager[None]:
    """Receive with `Bus.connect` and async handlers that begin in the reader."""
    return _ours_async(url, tally, "inline")


@asynccontextmanager
async def _ours_async(
    url: str, tally: Tally, mode: Literal["inline", "queue"]
) -> AsyncGenerator[None]:
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
    """Receive with `Bus.connect` and async handlers."""
    bus = Bus(drain_timeout_s=0.01)

    @bus.on(ev.ResponseOutputAudioDelta)
    async def audio(event: ev.ResponseOutputAudioDelta) -> None:
        await backlog.audio(event.delta)

    @bus.on(ev.InputAudioBufferSpeechStarted)
    async def speech(event: ev.InputAudioBufferSpeechStarted) -> None:
        backlog.speech(event.event_id)

    async with bus.connect(url, api_key="none", dial=dial):
        yield


def _openai(url: str) -> Any:
    """Return openai-python's connection manager for a URL."""
    from openai import AsyncOpenAI  # noqa: PLC0415  # a peer that need not be installed

    base = url.removesuffix("/realtime")
    return AsyncOpenAI(api_key="none", websocket_base_url=base).realtime.connect(model="none")


@asynccontextmanager
async def openai(url: str, tally: Tally) -> AsyncGenerator[None]:
    """Receive with openai-python, its handlers and its loop."""

    def text(event: Any) -> None:
        tally.text(event.event_id)

    def audio(event: Any) -> None:
        tally.audio(base64.b64decode(event.delta), event.event_id)

    async with _openai(url) as connection:
        connection.on("response.output_audio_transcript.delta", text)
        connection.on("response.output_audio.delta", audio)
        task = asyncio.create_task(connection.dispatch_events())
        yield
        task.cancel()


@asynccontextmanager
async def openai_slow(url: str, backlog: Backlog) -> AsyncGenerator[None]:
    """Receive with openai-python; async handlers, which its loop awaits."""

    async def audio(event: Any) -> None:
        await backlog.audio(base64.b64decode(event.delta))

    async def speech(event: Any) -> None:
        backlog.speech(event.event_id)

    async with _openai(url) as connection:
        connection.on("response.output_audio.delta", audio)
        connection.on("input_audio_buffer.speech_started", speech)
        task = asyncio.create_task(connection.dispatch_events())
        yield
        task.cancel()


def rows() -> list[Row]:
    """Return ours, the floors, and openai-python."""
    plain = "Bus.connect, plain handlers; audio by reading event.delta"
    mailboxes = "Bus.connect, audio by reading event.delta; async handlers"
    floor = "websockets' Sans-I/O layer under an asyncio.Protocol, 46 plain structs, pybase64"
    client = "websockets' asyncio client, recv(decode=False), 46 plain structs, pybase64"
    theirs = "realtime.connect, handlers by .on, dispatch_events; audio by base64.b64decode"
    return [
        Row(OURS, plain, None, ours, ours_slow),
        Row(f"{OURS}, async handlers", mailboxes, None, ours_async),
        Row(f"{OURS}, inline async", f"{mailboxes}, inline", None, ours_inline),
        Row(f"{OURS}, picows", f"{plain}; dial=dial_picows", "picows", picows, picows_slow),
        Row(f"{OURS}, trio", plain, "trio", ours, ours_slow, "trio"),
        Row(f"{OURS}, uvloop", plain, "uvloop", ours, ours_slow, "uvloop"),
        Row(FLOOR, floor, None, sans_io, sans_io_slow),
        Row("floor: websockets client + msgspec + dict", client, None, websockets_client),
        Row(OPENAI, theirs, "openai", openai, openai_slow),
    ]

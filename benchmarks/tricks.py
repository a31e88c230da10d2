"""What the tricks of the hot path gain: the same work with each of them, and without.

Most are left out by frames that look a little different: a blank behind the first brace, which
costs a parser nothing, hides a frame's type from whatever looks at the beginning only. Those that
dispatch and encode have are in their own tables: the mailbox beside an anyio stream, inline async
handlers beside mailboxes, pybase64 beside msgspec's own encoding of bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
from websockets.uri import parse_uri

from realtime_bus import Bus, Decoder
from realtime_bus.cli.bench import (
    Figure,
    Section,
    audio_frames,
    bare_decoder,
    interleaved_async,
    small_frames,
)
from realtime_bus.transport import PushTransport
from realtime_bus.transport._handshake import client_connection, server_connection

WITH, WITHOUT = "with", "without"
_SMALL, _AUDIO = small_frames(2000), audio_frames(200)
_Take = Callable[[Any], object]


def tricks(*, rounds: int) -> Section:
    """Measure the time of a frame, trick by trick."""
    return Section(
        "tricks",
        "Tricks: the time of a frame with each, and how many times as long it takes without",
        ("µs", 1e6),
        asyncio.run(_measured(10 * rounds)),  # of a millisecond each
        {WITH: "as it is", WITHOUT: "the same work, that trick alone left out"},
        WITH,
        {},
    )


async def _measured(rounds: int) -> dict[str, dict[str, Figure]]:
    figures: dict[str, dict[str, Figure]] = {}
    async with AsyncExitStack() as stack:
        found = {
            "messages past the parser": _past_the_parser(),
            "unheard types by their head": await _unheard(stack),
            "audio cut out unparsed": _cut_out(),
            "audio decoded when read": _when_read(),
            "events the collector skips": _uncollected(),
            "decode as a closure": _closure(),
        }
        for name, (with_it, without) in found.items():
            work = {WITH: _round(*with_it), WITHOUT: _round(*without)}
            figures[name] = await interleaved_async(work, units=len(with_it[1]), rounds=rounds)
    return figures


def _round(take: _Take, frames: list[bytes]) -> Callable[[], Awaitable[object]]:
    async def run() -> None:
        for frame in frames:
            take(frame)

    return run


_Trick = tuple[tuple[_Take, list[bytes]], tuple[_Take, list[bytes]]]
"""What takes which frames: with the trick, and without."""


def _hidden(frames: list[bytes]) -> list[bytes]:
    return [b"{ " + frame[1:] for frame in frames]


def _warm(frames: list[bytes]) -> Decoder:
    """Return a decoder that has seen the first event of each type."""
    decoder = Decoder()
    for frame in frames[:50]:
        decoder.decode(frame)
    return decoder


def _past_the_parser() -> _Trick:
    def receive(*, cutting: bool) -> _Take:
        client, server = client_connection(parse_uri("ws://localhost/")), server_connection()
        server.receive(b"".join(client.outgoing()))
        client.receive(b"".join(server.outgoing()))
        client._cutting = cutting  # noqa: SLF001  # the trick
        return client.receive

    reads = [b"\x81\x7e" + len(frame).to_bytes(2, "big") + frame for frame in _SMALL]
    return (receive(cutting=True), reads), (receive(cutting=False), reads)


async def _unheard(stack: AsyncExitStack) -> _Trick:
    transport = PushTransport(send=len)
    await stack.enter_async_context(Bus().session(transport, wait_created=False))
    await anyio.wait_all_tasks_blocked()  # it reads: from now on, in the call that feeds it
    return (transport.feed, _SMALL), (transport.feed, _hidden(_SMALL))


def _cut_out() -> _Trick:
    decode = _warm(_AUDIO).decode
    return (decode, _AUDIO), (decode, _hidden(_AUDIO))


def _when_read() -> _Trick:
    decode: _Take = _warm(_AUDIO).decode

    def read(frame: bytes) -> bytes:
        event: Any = decode(frame)
        audio: bytes = event.delta
        return audio

    return (decode, _AUDIO), (read, _AUDIO)


def _uncollected() -> _Trick:
    return (bare_decoder(collected=False)[0], _SMALL), (bare_decoder()[0], _SMALL)


class _Method:
    """`Decoder.decode` as the method that it would otherwise be."""

    def __init__(self, decoder: Decoder) -> None:
        self._decode = decoder._decode  # noqa: SLF001  # the same parts
        self._finish = decoder._finish  # noqa: SLF001  # the same
        self._large_bytes = 2048

    def decode(self, frame: bytes) -> Any:
        if type(frame) is not bytes or len(frame) > self._large_bytes:
            raise NotImplementedError
        try:
            event: Any = self._decode(frame)
            finish = self._finish[type(event)]
            return event if finish is None else finish(event, frame)
        except (ValueError, RecursionError):
            raise NotImplementedError from None


def _closure() -> _Trick:
    decoder = _warm(_SMALL)
    return (decoder.decode, _SMALL), (_Method(decoder).decode, _SMALL)

"""What the tricks of the hot path gain: the same work with each of them, and without.

Those that dispatch and encode have are in their own tables: the mailbox beside an anyio stream,
inline async handlers beside mailboxes, pybase64 beside msgspec's own encoding of bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

from websockets.uri import parse_uri

from realtime_bus import Bus
from realtime_bus.cli._bench._bare import bare_decoder
from realtime_bus.cli._bench._figures import Figure, Section, interleaved_async
from realtime_bus.cli._bench._frames import audio_frames, small_frames
from realtime_bus.codec import Decoder
from realtime_bus.transport import PushTransport
from realtime_bus.transport._handshake import client_connection, server_connection

__all__ = ["section"]

WITH, WITHOUT = "with", "without"
_SMALL, _AUDIO = small_frames(2000), audio_frames(200)

_Take = Callable[[Any], object]
_Trick = tuple[_Take, _Take, list[bytes]]


def section(*, rounds: int, progress: Callable[[], object] = lambda: None) -> Section:
    """Measure the time of a frame, trick by trick."""
    figures = asyncio.run(_measure(rounds, progress))
    return Section(
        "tricks",
        "Tricks: the time of a frame with each, and how many times as long it takes without",
        ("µs", 1e6),
        figures,
        {WITH: "as it is", WITHOUT: "the same work, that trick alone left out"},
        WITH,
        {},
    )


async def _measure(rounds: int, progress: Callable[[], object]) -> dict[str, dict[str, Figure]]:
    figures: dict[str, dict[str, Figure]] = {}
    async with AsyncExitStack() as stack:
        tricks = {
            "audio cut out unparsed": _uncut(),
            "audio decoded when read": _read_at_once(),
            "events the collector skips": _collected(),
            "unheard types by their head": await _unheard(stack),
            "messages past the parser": _parsed(),
        }
        for name, (taken, without, frames) in tricks.items():
            work = {WITH: _round(taken, frames), WITHOUT: _round(without, frames)}
            figures[name] = await interleaved_async(work, units=len(frames), rounds=rounds)
            progress()
    return figures


def _round(take: _Take, frames: Iterable[Any]) -> Callable[[], Awaitable[object]]:
    async def run() -> None:
        for frame in frames:
            take(frame)

    return run


def _warm(frames: list[bytes]) -> Decoder:
    """Return a decoder that has seen the first event of each type."""
    decoder = Decoder()
    for frame in frames[:50]:
        decoder.decode(frame)
    return decoder


def _uncut() -> _Trick:
    whole = _warm(_AUDIO)
    whole._cut.clear()  # noqa: SLF001  # the trick
    return _warm(_AUDIO).decode, whole.decode, _AUDIO


def _read_at_once() -> _Trick:
    decode: _Take = _warm(_AUDIO).decode

    def read(frame: bytes) -> bytes:
        event: Any = decode(frame)
        audio: bytes = event.delta
        return audio

    return decode, read, _AUDIO


def _collected() -> _Trick:
    return bare_decoder(collected=False)[0], bare_decoder()[0], _SMALL


async def _unheard(stack: AsyncExitStack) -> _Trick:
    async def deliver() -> tuple[Any, _Take]:
        context = Bus().session(PushTransport(send=len), wait_created=False)
        session: Any = await stack.enter_async_context(context)
        return session, session.deliver

    _, by_head = await deliver()
    session, decoding = await deliver()
    session._router.unheard.clear()  # noqa: SLF001  # the trick
    return by_head, decoding, _SMALL


def _parsed() -> _Trick:
    def receive(*, cutting: bool) -> _Take:
        client, server = client_connection(parse_uri("ws://localhost/")), server_connection()
        server.receive(b"".join(client.outgoing()))
        client.receive(b"".join(server.outgoing()))
        client._cutting = cutting  # noqa: SLF001  # the trick
        return client.receive

    reads = [b"\x81\x7e" + len(frame).to_bytes(2, "big") + frame for frame in _SMALL]
    return receive(cutting=True), receive(cutting=False), reads

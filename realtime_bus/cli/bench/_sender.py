"""The sending side of the benchmarks over a socket, a process of its own.

It is no model of a server: it writes frames that were made beforehand as fast as, or exactly
when, it is told to, so that its own cost stays out of what is measured. It answers
``session.update``, for some libraries wait for that. Orders come as lines of JSON on stdin; each
is answered by a line on stdout when it is done. The end of stdin ends the process.
Called with a certificate's file, it serves TLS.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from itertools import cycle
from typing import Any, cast

from websockets.frames import Frame
from websockets.http11 import Request
from websockets.server import ServerProtocol

from ._work import (
    audio_frames,
    mixed_frames,
    opening_frames,
    session_frame,
    small_frames,
    speech_frame,
    stamped,
)

_IDS = b"AbCdEfGhIjKlMnOpQrStU"


class _Peer(asyncio.Protocol):
    """One client that is connected."""

    def __init__(self, peers: list[_Peer]) -> None:
        self._peers = peers
        self._protocol = ServerProtocol(
            max_size=None, select_subprotocol=lambda _, offered: next(iter(offered), None)
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        answers: list[bytes] = []
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._protocol.send_response(self._protocol.accept(event))
                self._peers.append(self)
                answers.append(session_frame("session.created"))
            elif isinstance(event, Frame) and b'"session.update"' in event.data:
                answers.append(session_frame("session.updated"))
        self.transport.writelines(self._protocol.data_to_send())
        for answer in answers:
            self.write(answer)
        if self._protocol.close_expected():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        if self in self._peers:
            self._peers.remove(self)

    def write(self, message: bytes) -> None:
        """Write one text message, as a server does: unmasked."""
        self.transport.write(_head(len(message)) + message)


def _head(length: int) -> bytes:
    if length < 126:
        return bytes((0x81, length))
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


def _mixed(small: int, audio: int) -> list[bytes]:
    return mixed_frames(small_frames(small), audio_frames(audio))


async def _burst(peers: list[_Peer], order: dict[str, Any]) -> None:
    """Write everything at once."""
    frames = [*opening_frames(), *_mixed(order["small"], order["audio"])]
    block = b"".join(_head(len(frame)) + frame for frame in frames)
    for peer in peers:
        peer.transport.write(block)


async def _pace(peers: list[_Peer], order: dict[str, Any]) -> None:
    """Write frames at a steady rate to each peer, the peers evenly apart."""
    frames = cycle(_mixed(*order.get("mix", (43, 17))))
    for peer in peers:
        for frame in opening_frames():
            peer.write(stamped(frame, time.perf_counter_ns()))
    await asyncio.sleep(0.5)  # the replies of so many sessions do not begin at one moment
    for due in _ticks(peers, order["rate_hz"], order["seconds"]):
        if due is None:
            await asyncio.sleep(0.0002)
        else:
            due.write(stamped(next(frames), time.perf_counter_ns()))


def _ticks(peers: list[_Peer], rate_hz: float, seconds: float) -> Iterator[_Peer | None]:
    """Yield the peer whose turn it is, or None while it is nobody's."""
    every_s = 1 / (rate_hz * len(peers))
    due_s = time.perf_counter()
    for peer, _ in zip(cycle([*peers]), range(int(seconds / every_s)), strict=False):
        while time.perf_counter() < due_s:
            yield None
        yield peer
        due_s += every_s


async def _backlog(peers: list[_Peer], order: dict[str, Any]) -> None:
    """Write audio, and speech at once behind it."""
    frames = [*opening_frames(), *audio_frames(order["audio"])]
    block = b"".join(_head(len(frame)) + frame for frame in frames)
    for peer in peers:
        peer.transport.write(block)
        peer.write(stamped(speech_frame(), time.perf_counter_ns()))


async def _cycles(peers: list[_Peer], order: dict[str, Any]) -> None:
    """Let a reply begin and be interrupted, many times over."""
    reply = [*opening_frames(), *audio_frames(order["audio"]), speech_frame()]
    for number in range(order["count"]):
        for peer in peers:
            for frame in reply:
                peer.write(frame.replace(_IDS, b"%021d" % number))
        await asyncio.sleep(0.002)


_ORDERS: dict[str, Callable[[list[_Peer], dict[str, Any]], Coroutine[Any, Any, None]]] = {
    "burst": _burst,
    "pace": _pace,
    "backlog": _backlog,
    "cycles": _cycles,
}


async def _serve(certificate: str | None) -> None:
    peers: list[_Peer] = []
    loop = asyncio.get_running_loop()
    tls = None
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    server = await loop.create_server(lambda: _Peer(peers), "127.0.0.1", 0, ssl=tls)
    _say({"port": server.sockets[0].getsockname()[1]})
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        await _ORDERS[order["do"]](peers, order)
        _say({"peers": len(peers)})
    server.close()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _main() -> None:
    asyncio.run(_serve(sys.argv[1] if len(sys.argv) > 1 else None))


if __name__ == "__main__":
    _main()

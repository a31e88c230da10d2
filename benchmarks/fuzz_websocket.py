"""Fuzz the short cut that whole messages take, against the `websockets` library's own parser.

Each round makes a random stream of a server, most of it allowed and some of it not, cuts it into
random chunks, and gives them to our connection and, beside it, to the library's protocol alone:
messages, pongs, close frames and the end have to be the same after each chunk, whatever comes.

    python -m benchmarks.fuzz_websocket --streams 100000 --seed 7

Rules:

1. A round depends on its own seed only. A difference prints it, and ``--only SEED`` runs it again.
2. Of several pings whose answer is unsent we answer the last (RFC 6455 5.5.3), the library all:
   the last pong of a chunk is compared. Of what comes behind a failure, nothing is.
3. The handshake is left out of what is mutated: it goes through the library alone.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Event
from websockets.server import ServerProtocol
from websockets.uri import parse_uri
from websockets.utils import apply_mask

from realtime_bus.transport._handshake import (
    ConnectionOptions,
    client_connection,
    server_connection,
)

_URI = parse_uri("ws://localhost/")
_LIMIT = 3_000
_SIZES = (0, 1, 2, 3, 60, 124, 125, 126, 127, 200, 1_000, _LIMIT - 1, _LIMIT, _LIMIT + 1, 66_000)
_FINE_CHUNKS = 40  # then a stream goes on in larger ones
_CLOSES = (
    b"",
    b"\3\350",
    b"\3\350bye",
    b"\3\351",
    b"\3\354",
    b"\3",
    b"\3\350\xff\xfe",
    b"\17\240x",
)

Seen = tuple[list[bytes], list[bytes], tuple[Any, ...]]
"""After a chunk: the messages it completed, what is answered, and the state."""


# Random streams


def _head(first: int, size: int, rng: random.Random) -> bytes:
    """Write a header, now and then with a longer length field than it needs."""
    longer = rng.random() < 0.02
    if size < 126 and not longer:
        return bytes((first, size))
    if size < 1 << 16 and not (longer and rng.random() < 0.5):
        return bytes((first, 126)) + size.to_bytes(2, "big")
    return bytes((first, 127)) + size.to_bytes(8, "big")


def _payload(rng: random.Random, size: int) -> bytes:
    return rng.randbytes(size) if rng.random() < 0.5 else b"x" * size


def _message(rng: random.Random) -> bytes:
    payload = _payload(rng, rng.choice(_SIZES[:12]))
    return _head(rng.choice((0x81, 0x82)), len(payload), rng) + payload


def _fragments(rng: random.Random) -> bytes:
    parts = [_payload(rng, rng.choice(_SIZES[:9])) for _ in range(rng.randint(1, 4))]
    data = b""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1 and rng.random() < 0.95
        opcode = 0 if number else rng.choice((1, 2))
        data += _head(last << 7 | opcode, len(part), rng) + part
        if rng.random() < 0.3:
            data += _ping(rng)
    return data


def _ping(rng: random.Random) -> bytes:
    payload = _payload(rng, rng.choice((0, 1, 60, 124, 125)))
    return _head(rng.choice((0x89, 0x8A)), len(payload), rng) + payload


def _any_frame(rng: random.Random) -> bytes:
    """Write a frame of any kind and size, most of them forbidden."""
    payload = _payload(rng, rng.choice(_SIZES))
    first = rng.getrandbits(8)
    if rng.random() < 0.2:  # masked, which a server must not do
        return bytes((first, 0x80 | min(len(payload), 125))) + rng.randbytes(4) + payload[:125]
    whole = _head(first, len(payload), rng) + payload
    return whole[: rng.randint(0, len(whole))] if rng.random() < 0.2 else whole


def _close(rng: random.Random) -> bytes:
    payload = rng.choice(_CLOSES)
    return _head(0x88, len(payload), rng) + payload


def _noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(1, 20))


_KINDS: Sequence[tuple[int, Callable[[random.Random], bytes]]] = (
    (60, _message),
    (15, _fragments),
    (10, _ping),
    (2, _any_frame),
    (2, _close),
    (1, _noise),
)


def _stream(rng: random.Random) -> bytes:
    weights, kinds = zip(*_KINDS, strict=True)
    parts = rng.choices(kinds, weights, k=rng.randint(1, 12))
    data = bytearray(b"".join(part(rng) for part in parts))
    if data and rng.random() < 0.15:  # one bit flips
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _chunks(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Cut a stream: at once, anyhow, or byte by byte at some place of it."""
    most, start, fine = rng.choice((1, 3, 20, 500, 5_000, len(data) + 1)), 0, _FINE_CHUNKS
    if data and most < 500 and rng.random() < 0.5:
        yield data[: (start := rng.randint(1, len(data)))]
    while start < len(data):
        end = start + rng.randint(1, most if fine else 5_000)
        yield data[start:end]
        start, fine = end, max(0, fine - 1)


# The two that are compared


def _controls(writes: Sequence[bytes]) -> list[bytes]:
    """Unmask what was written: the last pong, and everything that is none."""
    plain = [
        write[:1] + apply_mask(write[6:], write[2:6]) for write in writes if len(write[:6]) == 6
    ]
    pongs = [frame for frame in plain if frame[0] == 0x8A]
    return pongs[-1:] + [frame for frame in plain if frame[0] != 0x8A]


def _ours(chunks: Sequence[bytes]) -> Iterator[Seen]:
    """Yield what our connection, with the short cut, makes of each chunk, and of the end."""
    limits = ConnectionOptions(max_frame_bytes=_LIMIT)
    client, server = client_connection(_URI, options=limits), server_connection()
    server.receive(b"".join(client.outgoing()))
    client.receive(b"".join(server.outgoing()))
    for chunk in chunks:
        messages = client.receive(chunk)
        yield messages, _controls(client.outgoing()), (client.is_open, client.closing)
    client.receive_eof()
    info = client.close_info()
    state = (info.code, info.reason, info.clean, type(info.error).__name__)
    yield [], _controls(client.outgoing()), state


def _theirs(chunks: Sequence[bytes]) -> Iterator[Seen]:
    """Yield the same of the library's protocol; it joins no fragments."""
    client = ClientProtocol(_URI, max_size=_LIMIT)
    server = ServerProtocol()
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    for request in server.events_received():
        server.send_response(server.accept(request))  # type: ignore[arg-type]  # the only event
    client.receive_data(b"".join(server.data_to_send()))
    client.events_received()
    begun: list[bytes] = []
    for chunk in chunks:
        client.receive_data(chunk)
        messages = list(_joined(client.events_received(), begun))
        state = (client.state is OPEN, client.close_expected())
        yield messages, _controls(client.data_to_send()), state
    client.receive_eof()
    yield [], _controls(client.data_to_send()), _end(client)


def _joined(events: Sequence[Event], begun: list[bytes]) -> Iterator[bytes]:
    for frame in events:
        if isinstance(frame, Frame) and frame.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            begun.append(bytes(frame.data))
            if frame.fin:
                yield b"".join(begun)
                begun.clear()


def _end(client: ClientProtocol) -> tuple[Any, ...]:
    """Tell how the library says that it ended, in our words."""
    error, received, sent = client.parser_exc, client.close_rcvd, client.close_sent
    if error is not None and not isinstance(error, EOFError):
        told = received or sent
        code, reason = (1006, "") if told is None else (int(told.code), told.reason)
        return code, reason, False, type(error).__name__
    if received is None or sent is None:
        return 1006, "", False, type(error).__name__
    return int(received.code), received.reason, True, "NoneType"


def difference(seed: str) -> str | None:
    """Run one round; return what differs, or None."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    chunks = list(_chunks(_stream(rng), rng))
    for number, (ours, theirs) in enumerate(zip(_ours(chunks), _theirs(chunks), strict=True)):
        if ours != theirs:
            where = f"seed {seed}, chunk {number} of {len(chunks)}"
            return f"{where}: {ours!r:.300} is not {theirs!r:.300}"
    return None


def main(arguments: list[str] | None = None) -> int:
    """Fuzz, print, and return the exit code: 1 if there was a difference."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_websocket")
    parser.add_argument("--streams", type=int, default=20_000, help="how many; %(default)s")
    parser.add_argument("--seed", default="0", help="of the first; %(default)s")
    parser.add_argument("--only", metavar="SEED", help="run one round again")
    options = parser.parse_args(arguments)
    seeds = [options.only] if options.only else _seeds(options.seed, options.streams)
    begun, count = perf_counter(), 0
    for count, seed in enumerate(seeds, 1):  # noqa: B007 - told at the end
        if (found := difference(seed)) is not None:
            print(found, f"\nagain: python -m benchmarks.fuzz_websocket --only {seed}", sep="")
            return 1
    took_s = perf_counter() - begun
    print(f"{count} streams, seed {options.seed}: no difference in {took_s:.0f} s")
    return 0


def _seeds(first: str, count: int) -> Iterator[str]:
    return (f"{first}.{number}" for number in range(count))


if __name__ == "__main__":
    sys.exit(main())

"""What a session needs of a transport; the defaults and the rule of closing that all share."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

from anyio import CancelScope, current_time, get_cancelled_exc_class

from realtime_bus.errors import CloseInfo, UsageError

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""Largest message read, in bytes. The protocol states none for server events, so this is only a
guard against a peer that would fill our memory; a larger one closes the connection with 1009."""

OPEN_TIMEOUT_S: Final = 10.0
"""For name lookup, TCP, TLS and the upgrade together."""

CLOSE_TIMEOUT_S: Final = 5.0
"""How long we wait for the peer's side of the closing handshake."""

CANCELLED_CLOSE_TIMEOUT_S: Final = 1.0
"""The same, once whoever closes has been cancelled."""

PING_INTERVAL_S: Final = 5.0
"""A client's: with the timeout, a dead link is noticed 8 to 13 s after it has died."""

PING_TIMEOUT_S: Final = 8.0
"""A client's. TCP repeats what was lost after pauses that double, so that a gap of 4 s, as when a
telephone changes its cell, delays a pong by up to 8 s; a longer one has ended the talk anyway."""

SERVER_PING_INTERVAL_S: Final = 20.0
SERVER_PING_TIMEOUT_S: Final = 20.0
"""A server is patient: nobody waits for it, and its client may stand at a breakpoint."""


class Transport(Protocol):
    """Carry frames: one connection, from open to closed.

    Whoever makes a transport calls `run` once and, however that ends, `aclose`.
    """

    async def run(self, deliver: Callable[[bytes], None], /) -> CloseInfo:
        """Deliver each message until the connection has ended, and return how it did.

        ``deliver`` is called synchronously, in order, with nothing awaited between the socket and
        the call. It must not raise: what it raises cuts the connection and comes out here. A close,
        clean or not, is a return value and never an exception.
        """
        ...

    def send(self, frame: bytes, /) -> None:
        """Queue one text message and return at once.

        Raises:
            TransportClosed: The connection is closed or closing, or the peer stopped reading.
        """
        ...

    async def drain(self) -> None:
        """Wait until the write buffer is below its high-water mark.

        Raises:
            TransportClosed: The connection has ended.
        """
        ...

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close with a handshake and wait for its end, for a limited time; idempotent.

        Frames that come before the peer's close are still delivered, unless reading is paused.
        Nothing stays open, whoever cancels: it then says goodbye within `CANCELLED_CLOSE_TIMEOUT_S`
        of its beginning, shielded, or cuts the connection.
        """
        ...

    def pause(self) -> None:
        """Stop reading (back-pressure); what is parsed already is held."""
        ...

    def resume(self) -> None:
        """Read again; what was held is delivered first, in order, though not inside this call."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """How many bytes are unsent."""
        ...


class Dial(Protocol):
    """Open a connection: `dial`, `dial_picows`, or an application's own.

    What it raises comes out of ``bus.connect``.
    """

    async def __call__(
        self,
        url: str,
        /,
        *,
        headers: Mapping[str, str] | None,
        ssl_context: ssl.SSLContext | None,
        open_timeout_s: float,
        ping_interval_s: float | None,
        ping_timeout_s: float | None,
        max_frame_bytes: int | None,
    ) -> Transport:
        """Return the transport, connected."""
        ...


def check_close_code(code: int) -> None:
    """Refuse a close code that no peer may send (RFC 6455, 7.4).

    Raises:
        UsageError: The code may not be sent; says which may.
    """
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code < 5000):
        raise UsageError(
            f"close code {code} may not be sent; use 1000-1003, 1007-1014 or 3000-4999"
        )


async def close_or_cut(
    close: Callable[[], Awaitable[None]], cut: Callable[[], Awaitable[None]]
) -> None:
    """Close in good order; once cancelled, for a short time only; then cut what is left.

    Args:
        close: Sees the closing handshake through, within a time limit of its own. It is called
            again if it was cancelled.
        cut: Closes without a word, at once.
    """
    cancelled_deadline = current_time() + CANCELLED_CLOSE_TIMEOUT_S
    try:
        await close()
    except get_cancelled_exc_class():
        with CancelScope(shield=True, deadline=cancelled_deadline), suppress(Exception):
            await close()
        raise
    finally:
        with CancelScope(shield=True):
            await cut()

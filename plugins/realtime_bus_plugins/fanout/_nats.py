"""What nats-py is to the rest, and where it has to be helped.

It says only in part what its functions take and return, so its objects are `Any` here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio

from realtime_bus import MissingExtra, UsageError

Client = Any
JetStream = Any
KeyValue = Any


def load_nats() -> Any:
    """Return nats-py.

    Raises:
        MissingExtra: It is not installed.
        UsageError: This is trio.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(
            "fan-out over NATS needs asyncio, for nats-py is made for it: run the application with "
            "anyio.run(main) or asyncio.run(main()), not on trio"
        ) from None
    try:
        import nats  # noqa: PLC0415  # of the extra
    except ImportError:
        raise MissingExtra("nats-py", extra="nats") from None
    return nats


def broker_errors() -> tuple[type[Exception], ...]:
    """Return what nats-py raises while a broker is away."""
    from nats.errors import Error  # noqa: PLC0415  # of the extra

    return (Error, OSError, TimeoutError)


async def retrying(what: Callable[[], Awaitable[Any]], *, pause_s: float = 0.25) -> Any:
    """Do something that the broker is needed for, until it is there."""
    while True:
        try:
            return await what()
        except broker_errors():
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, 5.0)


async def close_client(client: Client) -> None:
    """Close a connection, whatever state it is in; what is unsent is given a moment."""
    with anyio.CancelScope(shield=True):
        if client.is_connected:
            with suppress(Exception):
                await client.flush(1)
        with suppress(Exception):
            await client.close()
        # where writing fails while it closes, nats-py leaves the socket open
        transport: Any = getattr(client, "_transport", None)
        if transport is not None:
            with suppress(Exception):
                transport.close()
        # … and its own task with an exception, of which asyncio would complain
        flusher: Any = getattr(client, "_flusher_task", None)
        if flusher is not None and flusher.done() and not flusher.cancelled():
            flusher.exception()

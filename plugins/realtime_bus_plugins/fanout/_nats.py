"""What nats-py is to the rest, and where it has to be helped.

It says only in part what its functions take and return, so its objects are `Any` here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import anyio
import anyio.lowlevel

from realtime_bus import MissingExtra, UsageError
from realtime_bus.log import Repeats, get_logger

Client = Any
JetStream = Any
KeyValue = Any

_PATIENCE_S: Final = 1.0  # a broker may be away for a moment
_T = TypeVar("_T")
_HEADER: Final = re.compile(r"(?!Nats-)[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.IGNORECASE)


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
    failures = Repeats()
    while True:
        try:
            return await what()
        except broker_errors() as error:
            if pause_s > _PATIENCE_S:
                suppressed = failures.due(type(error).__name__)
                if suppressed is not None:
                    told = {"error": repr(error), **suppressed}
                    get_logger().warning("the broker does not do it, and is asked again", **told)
            await anyio.sleep(pause_s)
            pause_s = min(pause_s * 2, 2.0)


async def heeding(what: Awaitable[_T]) -> _T:
    """Await what nats-py does, and be cancelled where it has swallowed that.

    It waits by `asyncio.wait_for`, which on Python 3.11 forgets a cancellation that comes together
    with the result. Cancel scopes of anyio say it again; ``Task.cancel`` and ``asyncio.timeout`` do
    not.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    result = await what
    await anyio.lowlevel.checkpoint()
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


def headers_of_others(headers: Mapping[Any, object]) -> dict[str, str]:
    """Return what can be sent of headers that are not ours; ``Nats-…`` is what a broker obeys."""
    return {
        str(name): str(value).encode("utf-8", "replace").decode()
        for name, value in headers.items()
        if _HEADER.fullmatch(str(name))
    }


def size_bytes(payload: bytes, headers: Mapping[str, str]) -> int:
    """Return what counts for a broker's ``max_payload``: a larger message ends the connection."""
    lines = sum(len(name) + len(value.encode()) + 4 for name, value in headers.items())
    return len(payload) + lines + 12


async def close_client(client: Client) -> None:
    """Close a connection, whatever state it is in; what is unsent is given a moment.

    A cancellation, also one by `Task.cancel`, waits for that: else the socket would stay open.
    """
    closing = asyncio.ensure_future(_close(client))
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


async def _close(client: Client) -> None:
    if client.is_connected:
        with suppress(Exception):
            await client.flush(1)
    # a `watch` that was cancelled leaves tasks behind
    for subscription in list(getattr(client, "_subs", {}).values()):
        state: Any = getattr(subscription, "_jsi", None)
        for name in ("_hbtask", "_fctask"):
            task: Any = getattr(state, name, None)
            if task is not None:
                task.cancel()
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

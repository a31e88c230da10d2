"""A client of the local server for the tests: it collects events and waits for conditions."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from realtime_bus import events as ev
from realtime_bus.codec import decode, encode
from realtime_bus.errors import CloseInfo
from realtime_bus.transport import Transport, dial

PATIENCE_S = 60


class Client:
    """One connection, and everything that came over it."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.events: list[Any] = []
        self.close: CloseInfo | None = None
        self._changed = anyio.Event()

    async def run(self) -> None:
        """Collect until the connection has ended."""
        self.close = await self.transport.run(self._deliver)
        self._note()

    def _deliver(self, frame: bytes) -> None:
        self.events.append(decode(frame))
        self._note()

    def _note(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def send(self, *events: ev.ClientEvent) -> None:
        """Send events."""
        for event in events:
            self.transport.send(encode(event))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something is true of what came."""
        with anyio.fail_after(PATIENCE_S):
            while not condition():
                await self._changed.wait()

    async def get(self, wanted: type, *, nth: int = 1) -> Any:
        """Wait for the nth event of a class."""
        await self.until(lambda: len(self.all(wanted)) >= nth)
        return self.all(wanted)[nth - 1]

    def all(self, wanted: type) -> list[Any]:
        """Return the events of a class so far."""
        return [event for event in self.events if isinstance(event, wanted)]

    async def closed(self) -> CloseInfo:
        """Wait for the end."""
        await self.until(lambda: self.close)
        assert self.close is not None
        return self.close


@asynccontextmanager
async def client_on(transport: Transport) -> AsyncIterator[Client]:
    """Be a client on a transport."""
    client = Client(transport)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        try:
            yield client
        finally:
            with anyio.CancelScope(shield=True):
                await transport.aclose()
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Client]:
    """Be a client over a socket."""
    async with client_on(await dial(url, **options)) as client:
        yield client

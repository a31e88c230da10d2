"""A wake-up that can be used again and again, free when nobody waits."""

from __future__ import annotations

import anyio

__all__ = ["Signal"]


class Signal:
    """Wake whoever waits now. Check your condition, then `wait`, with nothing awaited between."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def notify(self) -> None:
        """Wake all who wait."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Sleep until the next `notify`."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()

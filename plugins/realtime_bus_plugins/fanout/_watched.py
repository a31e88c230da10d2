"""A part of a bucket as it is now, kept up to date while the broker comes and goes.

What is there comes first, then each change. When the broker is back after it was away all of it is
read anew, and what has gone meanwhile is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

import anyio

from ._nats import KeyValue, broker_errors


class Seen(NamedTuple):
    """An entry of a bucket, as a watcher knows it."""

    value: bytes
    revision: int
    at_s: float


class Watched:
    """A part of a bucket, and what keeps it up to date.

    Attributes:
        known: The entries.
        complete: Set when all that is there has come.
    """

    def __init__(self, bucket: KeyValue, keys: str, changed: Callable[[], object]) -> None:
        self.known: dict[str, Seen] = {}
        self.complete: anyio.Event = anyio.Event()
        self._bucket = bucket
        self._keys = keys
        self._changed = changed
        self._again = anyio.Event()

    def note(self, there: bool) -> None:  # a listener's only argument
        if there:
            self._again.set()

    async def follow(self) -> None:
        """Watch, and watch anew whenever the broker is back."""
        while True:
            self._again = anyio.Event()
            try:
                watcher: Any = await self._bucket.watch(self._keys)
            except broker_errors():
                with anyio.move_on_after(0.5):
                    await self._again.wait()
                continue
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._read, watcher)
                    await self._again.wait()
                    tasks.cancel_scope.cancel()
            finally:
                with suppress(*broker_errors()):
                    await watcher.stop()

    async def _read(self, watcher: Any) -> None:
        there: set[str] | None = set()  # until all that is there has come
        while True:
            entry = await watcher._updates.get()  # noqa: SLF001  # `updates` waits for a time only
            if entry is None:
                for gone in self.known.keys() - (there or set()):
                    del self.known[gone]
                there = None
                self.complete.set()
            elif not hasattr(entry, "key"):
                return
            elif entry.operation in ("DEL", "PURGE"):
                self.known.pop(entry.key, None)
            else:
                self.known[entry.key] = Seen(entry.value or b"", entry.revision, monotonic())
                if there is not None:
                    there.add(entry.key)
            if there is None:
                self._changed()

"""How a session runs and ends: its tasks, reading, closing, draining.

Rules:

1. Everything that runs on behalf of the session lives in its one task group.
2. When the transport ends, requests and waiters fail at once, `events.Closed` is delivered,
   callbacks are called, and mailboxes go on until they are empty or the owner leaves.
3. A session ends once; the first reason counts.
4. Left by its owner, it delivers nothing any more. Cancelled, its owner is kept for `CUT_S` at
   most, until the connection is closed.
5. What runs on behalf of the session and finds it closed, or closing, has not failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio
from anyio.abc import TaskGroup

from realtime_bus.errors import CloseInfo, SessionClosed
from realtime_bus.routing import OnEnd, failure_of, handler_name, is_cancelled, reported, set_free
from realtime_bus.transport._asyncio import asyncio_in_callbacks, on_asyncio
from realtime_bus.transport._transport import check_close_code

from ._link import ABANDONED, Link, broken

CUT_S = 1.0
"""Seconds that an owner who was cancelled is kept, to close the connection."""


class Lifecycle:
    """Tasks and end of one session.

    Args:
        link: What is read and closed.
        report: Reports what raised: its name and the exception.
        on_closed: Called once, when the end is known and all who wait for it have been told.

    Attributes:
        close_info: How the session ended, or None while it is open.
        reading: Whether it was begun to read.
    """

    def __init__(
        self,
        link: Link,
        *,
        report: Callable[[str, BaseException], None],
        on_closed: Callable[[CloseInfo], None],
    ) -> None:
        self.close_info: CloseInfo | None = None
        self.reading: bool = False
        self._link = link
        self._report = report
        self._on_closed = on_closed
        self._tasks: TaskGroup | None = None
        self._in_backend: Callable[[], AbstractContextManager[None]] = nullcontext
        self._waiters: dict[OnEnd, None] = {}
        self._callbacks: list[Callable[[], Any]] = []
        self._closing = False  # whatever comes of it, sending is over
        self._emptied: anyio.Event | None = None  # set when a mailbox is empty, at the end
        self._ended = anyio.Event()

    # --- tasks -------------------------------------------------------------------------------

    def open(self, tasks: TaskGroup) -> None:
        """Take the task group that everything runs in."""
        self._tasks = tasks
        if on_asyncio():  # where frames, and with them work, may come from a loop's callback
            self._in_backend = asyncio_in_callbacks

    def read(self, deliver: Callable[[bytes], None]) -> None:
        """Start to read from the transport."""
        self.reading = True
        self.start_soon(self._read, deliver)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run an async function in the task group; one that raises is reported.

        `SessionClosed`, raised because the session is over, is how such a task ends.

        Raises:
            SessionClosed: The session is over.
        """
        if self._tasks is None:
            raise self.closed_error("start a task")
        with self._in_backend():
            self._tasks.start_soon(self._run, function, args)

    async def _run(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        set_free()
        try:
            await function(*args)
        except BaseException as error:
            failure = failure_of(error)
            if failure is None:
                raise
            ends = self._closing or self.close_info is not None
            if not (isinstance(failure, SessionClosed) and ends):
                self._report(handler_name(function), failure)

    def cancel(self) -> None:
        """End the session at once: a handler's error is to be raised."""
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    # --- who waits for the end ---------------------------------------------------------------

    def on_end(self, callback: OnEnd) -> None:
        """Tell a part of the library how the session ended; at once, if it has."""
        if self.close_info is not None:
            callback(self.close_info)
        else:
            self._waiters[callback] = None

    def not_on_end(self, callback: OnEnd) -> None:
        """Take back `on_end`; one that is gone already is no error."""
        self._waiters.pop(callback, None)

    def on_close(self, callback: Callable[[], Any]) -> None:
        """Call a plain function after `events.Closed`; at once, if the session has ended."""
        if self._ended.is_set():
            self._call_back(callback)
        else:
            self._callbacks.append(callback)

    def closed_error(self, what: str) -> SessionClosed:
        """Make the exception for something that a session cannot do after its end."""
        close = self.close_info or CloseInfo()
        return SessionClosed(f"cannot {what}: the session closed with {close}", close=close)

    # --- the end -----------------------------------------------------------------------------

    async def _read(self, deliver: Callable[[bytes], None]) -> None:
        close = ABANDONED
        try:
            close = await self._link.run(deliver)
        finally:
            self.has_closed(close)

    def has_closed(self, close: CloseInfo) -> None:
        """Note the end, and tell everybody."""
        if self.close_info is not None:
            return
        self.close_info = close
        for tell in list(self._waiters):
            tell(close)
        self._waiters.clear()
        try:
            self._on_closed(close)
            for callback in self._callbacks:
                self._call_back(callback)
        finally:
            self._ended.set()  # whatever happens: others wait for it

    def _call_back(self, callback: Callable[[], Any]) -> None:
        try:
            callback()
        except BaseException as error:  # noqa: BLE001  # a plugin's code: whatever it raises is reported
            self._report(handler_name(callback), reported(error))

    async def wait_closed(self) -> CloseInfo:
        """Wait until the session has ended, and return how."""
        await self._ended.wait()
        return self.close_info or CloseInfo()

    async def aclose(self, code: int, reason: str) -> None:
        """Close the connection, and wait until both sides have.

        Raises:
            UsageError: The code may not be sent.
        """
        check_close_code(code)
        if self.close_info is None:
            await self._close_transport(code, reason)
        await self._ended.wait()

    async def _close_transport(self, code: int, reason: str) -> None:
        self._closing = True
        try:
            await self._link.aclose(code, reason)
        except BaseException as error:
            if isinstance(error, anyio.get_cancelled_exc_class()) and is_cancelled():
                raise
            failure = failure_of(error)  # a transport of the user's own may raise anything
            if failure is None:
                raise
            self.has_closed(broken(failure))
        if not self.reading:  # a plugin would not be attached, so nobody waits for the end
            self.has_closed(CloseInfo(code=code, reason=reason))

    async def finish(self, is_busy: Callable[[], bool], drain_timeout_s: float) -> None:
        """End in good order: close, and let mailboxes empty for a while."""
        await self._close_transport(1000, "")
        await self._ended.wait()
        with anyio.move_on_after(drain_timeout_s):
            while is_busy():
                self._emptied = anyio.Event()
                await self._emptied.wait()

    async def cut(self) -> None:
        """End at once, for the owner was cancelled: only close the connection."""
        with anyio.move_on_after(CUT_S, shield=True):
            await self._close_transport(1000, "")

    def mailbox_empty(self) -> None:
        """Note that a mailbox has nothing left to do."""
        if self._emptied is not None:
            self._emptied.set()

    def abandon(self) -> None:
        """Stop at once."""
        self.has_closed(ABANDONED)
        self._tasks = None

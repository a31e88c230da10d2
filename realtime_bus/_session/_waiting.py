"""Waiting for events in the middle of a program: one, or a stream of them.

Both subscribe when they are made, not when they are awaited, so that nothing is missed between
asking a question and waiting for its answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self

import anyio
from typing_extensions import TypeVar

from realtime_bus._bus._selectors import resolve
from realtime_bus._bus._subscription import Subscription
from realtime_bus.errors import CloseInfo, SessionClosed
from realtime_bus.events import Event

if TYPE_CHECKING:
    from ._core import SessionCore

__all__ = ["EventStream", "WaitFor"]

E = TypeVar("E", bound=Event, default=Any)

_MAX_QUEUED = 10_000  # events a stream holds for a slow reader; the oldest go first


class _Listener:
    """An inline subscription that a program holds, and that ends with the session."""

    def __init__(
        self,
        session: SessionCore,
        selectors: tuple[object, ...],
        where: Callable[[Any], bool] | None,
    ) -> None:
        self._session = session
        self._changed = anyio.Event()
        self._closed: CloseInfo | None = None
        self._subscription = Subscription(
            self._take,
            resolve(selectors),
            where=where,
            options={"name": type(self).__name__},
            internal=True,
        )
        session.listen(self._subscription, self._end)

    def _take(self, event: Any) -> None:
        raise NotImplementedError

    def _end(self, close: CloseInfo) -> None:
        self._closed = close
        self._changed.set()

    def _stop(self) -> None:
        self._session.unlisten(self._subscription, self._end)


class WaitFor(_Listener, Generic[E]):
    """The first event that fits, awaited; made by `Session.wait_for`."""

    def __init__(
        self,
        session: SessionCore,
        selectors: tuple[object, ...],
        *,
        where: Callable[[Any], bool] | None,
        timeout_s: float | None,
    ) -> None:
        self._event: E | None = None
        self._timeout_s = timeout_s
        super().__init__(session, selectors, where)

    def _take(self, event: E) -> None:
        self._event = event
        self._stop()
        self._changed.set()

    def __await__(self) -> Generator[Any, Any, E]:
        return self._wait().__await__()

    async def _wait(self) -> E:
        try:
            with anyio.fail_after(self._timeout_s):
                await self._changed.wait()
        except TimeoutError:
            wanted = " or ".join(sorted(cls.__name__ for cls in self._subscription.classes))
            raise TimeoutError(f"no {wanted} within {self._timeout_s:g} s") from None
        finally:
            self._stop()
        if self._event is None:
            raise SessionClosed(
                "the session closed before the event came", close=self._closed or CloseInfo()
            )
        return self._event


class EventStream(_Listener, Generic[E]):
    """Events as they come, for ``async for``; made by `Session.stream`.

    Ends when the session does. Leave the ``async with`` block, or call `aclose`, to end it
    before. A reader that is 10 000 events behind loses the oldest; `dropped` counts them.
    """

    def __init__(
        self,
        session: SessionCore,
        selectors: tuple[object, ...],
        *,
        where: Callable[[Any], bool] | None,
    ) -> None:
        self._queue: deque[E] = deque()
        self.dropped = 0
        super().__init__(session, selectors, where)

    def _take(self, event: E) -> None:
        if len(self._queue) >= _MAX_QUEUED:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(event)
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        while not self._queue:
            if self._closed is not None:
                raise StopAsyncIteration
            if self._changed.is_set():
                self._changed = anyio.Event()
            await self._changed.wait()
        return self._queue.popleft()

    async def aclose(self) -> None:
        """Stop listening; what was not read is forgotten, and a waiting reader ends."""
        self.close()

    def close(self) -> None:
        """Do what `aclose` does, outside of a task."""
        self._stop()
        self._queue.clear()
        self._end(CloseInfo())

    def end(self) -> None:
        """Stop listening, but let the reader have what has come."""
        self._stop()
        self._end(CloseInfo())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

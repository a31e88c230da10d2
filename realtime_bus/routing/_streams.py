"""Waiting for events in the middle of a program: one, or a stream of them.

Rules:

1. Both listen from when they are made, not from when they are awaited, so that nothing is missed
   between asking a question and waiting for its answer.
2. Both end with the session. A stream first gives what has come; then it ends quietly only if
   the session ended in order, else it raises: what was cut off must not look finished.
3. One that nobody holds any more, such as a stream left by ``break``, stops listening.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, Self
from weakref import WeakMethod, finalize

import anyio
from typing_extensions import TypeVar

from realtime_bus.errors import CloseInfo, SessionClosed
from realtime_bus.events import Event, Overflow

from ._backlog import MAX_EVENTS, Backlog, is_light
from ._mailbox import reading_goes_on
from ._selectors import select
from ._subscription import Subscription

E = TypeVar("E", bound=Event, default=Any)
OnEnd = Callable[[CloseInfo], None]


class Listening(Protocol):
    """What listeners need of a session.

    Attributes:
        heavy_bytes: What the event at hand weighs; see `Host`.
    """

    heavy_bytes: int

    def listen(self, subscription: Subscription, on_end: OnEnd) -> None:
        """Add a listener, and tell it of the session's end."""
        ...

    def unlisten(self, subscription: Subscription, on_end: OnEnd) -> None:
        """Remove a listener; one that is gone already is no error."""
        ...

    def emit(self, event: Any, /) -> None:
        """Deliver an event of the bus's own."""
        ...


class _Listener:
    """An inline subscription that a program holds, and that ends with the session."""

    def __init__(
        self,
        session: Listening,
        selectors: tuple[object, ...],
        where: Callable[[Any], bool] | None,
    ) -> None:
        self._changed = anyio.Event()
        self._closed: CloseInfo | None = None
        on_end = _weakly(self._end)
        self._subscription = Subscription(
            _weakly(self._take),
            select(selectors),
            where=where,
            options={"name": type(self).__name__},
            internal=True,
        )
        self._stop = finalize(self, session.unlisten, self._subscription, on_end)
        self._stop.atexit = False
        session.listen(self._subscription, on_end)

    def _take(self, event: Any) -> None:
        raise NotImplementedError

    def _end(self, close: CloseInfo) -> None:
        self._closed = close
        self._changed.set()


def _weakly(method: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a method as a function that does not keep its object alive."""
    find = WeakMethod(method)

    def call(argument: Any) -> None:
        if (found := find()) is not None:
            found(argument)

    return call


class WaitFor(_Listener, Generic[E]):
    """The first event that fits, awaited; made by `Session.wait_for`."""

    def __init__(
        self,
        session: Listening,
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
            with anyio.fail_after(self._timeout_s), reading_goes_on():
                await self._changed.wait()
        except TimeoutError:
            selection = self._subscription.selection
            named = {cls.__name__ for cls in (*selection.classes, *selection.bases)}
            wanted = " or ".join(sorted(named | {*selection.patterns}))
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

    Ends when the session does; with `SessionClosed` if that did not end in order. Leave the
    ``async with`` block, or call `aclose`, to end it before. A reader that is 10 000 events or
    16 MiB of frames behind loses the oldest: `dropped` counts them, and `events.Overflow` is
    emitted once for each stretch.
    """

    def __init__(
        self,
        session: Listening,
        selectors: tuple[object, ...],
        *,
        where: Callable[[Any], bool] | None,
    ) -> None:
        self._session = session
        self._queue = Backlog[E](max_items=MAX_EVENTS)
        self._full = False
        super().__init__(session, selectors, where)

    @property
    def dropped(self) -> int:
        """How many events its reader has lost."""
        return self._queue.dropped

    def _take(self, event: E) -> None:
        heavy_bytes = self._session.heavy_bytes
        fits = self._queue.put(event, 0 if heavy_bytes and is_light(type(event)) else heavy_bytes)
        self._changed.set()
        if not (fits or self._full):
            self._full = True
            self._session.emit(
                Overflow(
                    handler=self._subscription.name,
                    event_type=event.type,
                    policy="drop_oldest",
                    dropped=self.dropped,
                    pending=len(self._queue),
                    pending_bytes=self._queue.pending_bytes,
                )
            )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        while not self._queue:
            if self._closed is not None:
                if self._closed.in_order:
                    raise StopAsyncIteration
                message = f"the session closed with {self._closed} in the middle of a stream"
                raise SessionClosed(message, close=self._closed)
            if self._changed.is_set():
                self._changed = anyio.Event()
            with reading_goes_on():
                await self._changed.wait()
        event = self._queue.take()
        self._full = self._full and len(self._queue) > 0
        return event

    async def aclose(self) -> None:
        """Stop listening; what was not read is forgotten, and a waiting reader ends."""
        self.close()

    def close(self) -> None:
        """Do what `aclose` does, outside of a task."""
        self._stop()
        self._queue.clear()
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

"""One registration: which handler wants which events, and how it wants to be run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from realtime_bus.errors import UsageError

from ._options import HandlerOptions, RunOptions
from ._selectors import Selection
from ._signature import HandlerShape, examine, handler_name, is_async


class HandlerStatistics(msgspec.Struct, kw_only=True):
    """What a handler has been through, in one session or in all of them.

    Attributes:
        handler: Its name.
        delivered: Events that it has finished, with or without success.
        pending: Events that wait for it or are in its hands.
        pending_bytes: What those that wait weigh, as far as it is counted.
        dropped: Events that it never saw, because its mailbox was full or its session ended.
        failed: Events at which it raised or ran out of time.
        slowest_s: The longest that one event took, in seconds.
        total_s: What all of them took, waiting included, in seconds.
    """

    handler: str
    delivered: int = 0
    pending: int = 0
    pending_bytes: int = 0
    dropped: int = 0
    failed: int = 0
    slowest_s: float = 0.0
    total_s: float = 0.0

    def add(self, other: HandlerStatistics) -> None:
        """Add the figures of the same handler in another session."""
        self.delivered += other.delivered
        self.pending += other.pending
        self.dropped += other.dropped
        self.failed += other.failed
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.total_s += other.total_s


class Subscription:
    """A handler and what it is registered for; the same object in every session.

    Attributes:
        handler: The function as it was given.
        selection: The events that it wants.
        where: Its predicate, or None.
        name: What to call it.
        is_async: Whether it must be awaited.
        wants_session: Whether it takes (event, session).
        options: How to run it.
        once: Whether it goes after its first event.
        internal: Whether it is the session's own, and no part of its statistics.
        spent: Whether that event has come.
        totals: Figures of the sessions that have ended.
    """

    __slots__ = (
        "handler",
        "internal",
        "is_async",
        "name",
        "once",
        "options",
        "selection",
        "spent",
        "totals",
        "wants_session",
        "where",
    )

    def __init__(
        self,
        handler: Callable[..., Any],
        selection: Selection,
        *,
        where: Callable[[Any], bool] | None,
        options: HandlerOptions,
        once: bool = False,
        internal: bool = False,
    ) -> None:
        shape = (
            HandlerShape(handler_name(handler), is_async=False, wants_session=False)
            if internal
            else examine(handler, selection)
        )
        if where is not None and not callable(where):
            raise UsageError(f"{shape.name}: where={where!r} must be a function of the event")
        if where is not None and is_async(where):
            raise UsageError(
                f"{shape.name}: where={handler_name(where)} is async, and nothing is awaited on an "
                "event's way; give a plain function"
            )
        self.handler: Callable[..., Any] = handler
        self.selection: Selection = selection
        self.where: Callable[[Any], bool] | None = where
        self.name: str = options.get("name", shape.name)
        self.is_async: bool = shape.is_async
        self.wants_session: bool = shape.wants_session
        self.options: RunOptions = RunOptions.build(
            options, is_async=shape.is_async, handler=shape.name
        )
        self.once: bool = once
        self.internal: bool = internal
        self.spent: bool = False
        self.totals: HandlerStatistics = HandlerStatistics(handler=self.name)

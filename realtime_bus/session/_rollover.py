"""The server's limit of a session's life: the next connection takes over before it is reached.

Rules:

1. Some time before the limit the next connection is opened and told all, while the old one still
   serves. It takes over at a quiet moment, between two frames; at the last moment when none comes.
2. A moment is quiet if nobody would notice: nothing is said, played, awaited or worked on.
3. A connection that is lost before is another's to replace: `Recovery`.
4. The limit is a moment on the server's clock, which it tells when it is connected to. Of one that
   does not, ours has to do, and may be wrong: then a life of less than a minute is not believed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from realtime_bus.routing import handler_name

from ._handover import Handover, Parts, Standby
from ._policy import Reconnect

_CHECK_S = 0.1  # between two looks whether the moment is quiet
_SHORT_S = 60.0
_NO_TIME_S = 1e11  # what is later than that is no time in seconds: the year 5138


class Rollover:
    """Replaces each connection of one session before its limit.

    Args:
        policy: When, and how long a quiet moment is waited for.
        parts: What takes note: the session's.
        handover: Knows what the next server must be told.
        stand_by: Opens the next connection; None, after a while, if that fails.
        take_over: Goes over to it; given whether by force.
        awaits_commit: Tells whether audio was sent that nobody but the application may end.
    """

    def __init__(
        self,
        policy: Reconnect,
        parts: Parts,
        handover: Handover,
        *,
        stand_by: Callable[[float], Awaitable[Standby | None]],
        take_over: Callable[[Standby, bool], None],
        awaits_commit: Callable[[], bool],
    ) -> None:
        self._policy = policy
        self._parts = parts
        self._handover = handover
        self._stand_by = stand_by
        self._take_over = take_over
        self._awaits_commit = awaits_commit
        self._limit_s: float | None = None  # when the server will end the session
        self._life_s = 0.0  # how long that is from its beginning
        self._replaced = anyio.Event()  # set when another connection has taken over

    def replaced(self) -> None:
        """Note that another connection has taken over."""
        self._replaced.set()
        self._replaced = anyio.Event()

    def note_limit(self, config: Any) -> None:
        """Note when the server will end the session, as it has just said."""
        expires_at = getattr(config, "expires_at", None)
        left_s = self._policy.session_limit_s
        if left_s is None and isinstance(expires_at, int) and 0 < expires_at < _NO_TIME_S:
            transport: Any = self._parts.pipeline.link.connection.transport
            ahead_s: float | None = getattr(transport, "clock_ahead_s", None)
            left_s = expires_at - time.time() - (ahead_s or 0.0)
            if left_s < (_SHORT_S if ahead_s is None else 0.0):
                left_s = None
        self._limit_s = None if left_s is None else anyio.current_time() + left_s
        self._life_s = max(0.0, left_s or 0.0)

    async def watch(self) -> None:
        """Replace each connection before its limit, at a quiet moment, as long as there is one."""
        with anyio.CancelScope() as scope:
            self._parts.pipeline.lifecycle.on_end(lambda _close: scope.cancel())
            while True:
                replaced, limit_s = self._replaced, self._limit_s
                before_s = min(self._policy.rollover_before_s or 0.0, self._life_s / 4)
                at_s = float("inf") if limit_s is None else limit_s - before_s
                with anyio.CancelScope(deadline=at_s):
                    await replaced.wait()
                if not replaced.is_set() and limit_s is not None:
                    margin_s = min(self._policy.rollover_margin_s, before_s / 4)
                    await self._roll_over(replaced, limit_s, limit_s - margin_s)
                    await replaced.wait()

    async def _roll_over(self, replaced: anyio.Event, limit_s: float, forced_s: float) -> None:
        """Replace the connection at a quiet moment; leave it to `recover` if it is lost before."""
        parts, delay_s = self._parts, self._policy.first_delay_s
        standby: Standby | None = None
        try:
            while not replaced.is_set() and anyio.current_time() < limit_s:
                forced = anyio.current_time() >= forced_s
                between = parts.disconnected or parts.pipeline.link.closing
                if between or not (forced or self._quiet):
                    await anyio.sleep(_CHECK_S)
                elif standby is None:
                    standby = await self._stand_by(delay_s)
                    delay_s = min(2 * delay_s, self._policy.max_delay_s)
                elif standby.connection.close is not None or standby.held.too_much:
                    await standby.connection.aclose()
                    standby = None
                elif not self._is_up_to_date(standby):
                    await anyio.sleep(_CHECK_S / 10)
                else:
                    self._take_over(standby, not self._quiet)
                    standby = None
                    return
        finally:
            if standby is not None:
                await standby.connection.aclose()

    def _is_up_to_date(self, standby: Standby) -> bool:
        """Tell whether a connection knows the conversation as it is; if not, tell it."""
        if standby.restoration.done:
            standby.restoration.update(self._handover.items())
        return standby.restoration.done

    @property
    def _quiet(self) -> bool:
        """Whether nobody would notice: nothing is said, played, awaited or worked on."""
        parts = self._parts
        return (
            parts.conversation.quiet
            and not len(parts.requests)
            and parts.responses.idle
            and not self._awaits_commit()
            and not self._busy
            and not (parts.history is not None and parts.history.has_open_calls)
        )

    @property
    def _busy(self) -> bool:
        """Whether somebody says so; one who raises is reported, and not asked again."""
        for is_busy in [*self._parts.busy]:
            try:
                if is_busy():
                    return True
            except Exception as error:  # noqa: BLE001  # an application's own
                self._parts.busy.remove(is_busy)
                self._parts.pipeline.report_failure(handler_name(is_busy), None, error)
        return False

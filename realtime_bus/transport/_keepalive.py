"""When to ping, and when to give up: a pure function of the clock.

Rules:

* A ping goes out ``interval_s`` after the connection opened, then ``interval_s`` after the last
  ping.
* The peer has ``timeout_s`` to show that it lives, else the connection has failed. Any bytes from
  it count, not only the pong: a pong may have to queue behind a large message on a slow line.
* While we do not read (back-pressure) we cannot hear the peer: the clock starts again on resuming.
* ``interval_s=None`` sends no pings; ``timeout_s=None`` never fails.
"""

from __future__ import annotations

from math import inf
from typing import Final, Literal

Action = Literal["ping", "fail"]

__all__ = ["Action", "Keepalive"]


class Keepalive:
    """Decide about pings; the caller owns clock and socket (seconds of any monotonic clock)."""

    __slots__ = ("_due", "_heard", "_interval_s", "_pinged_at", "_timeout_s", "_waiting")

    def __init__(self, *, interval_s: float | None, timeout_s: float | None) -> None:
        self._interval_s: Final = inf if interval_s is None else interval_s
        self._timeout_s: Final = inf if timeout_s is None else timeout_s
        self._due = inf
        self._pinged_at = 0.0
        self._waiting = False
        self._heard = False

    def start(self, now: float) -> None:
        """Count from now: the connection has opened, or reading has resumed."""
        self._pinged_at, self._waiting = now, False
        self._due = now + self._interval_s

    def heard(self) -> None:
        """Note that bytes came from the peer."""
        self._heard = True

    def next_deadline(self) -> float | None:
        """Tell when `tick` wants to be called next, or None for never."""
        return None if self._due == inf else self._due

    def tick(self, now: float) -> Action | None:
        """Say what is due at ``now``; early calls do no harm."""
        if now < self._due:
            return None
        if self._waiting and not self._heard and self._timeout_s < inf:
            self._due = self._pinged_at + self._timeout_s
            return "fail" if now >= self._due else None
        self._waiting, self._due = False, self._pinged_at + self._interval_s
        return self._ping(now) if now >= self._due else None

    def _ping(self, now: float) -> Action:
        self._pinged_at, self._waiting, self._heard = now, True, False
        # Look again at whichever comes first: the next ping may be due before the answer is.
        self._due = now + min(self._interval_s, self._timeout_s)
        return "ping"

"""How fast the assistant answers: one `TurnCompleted` for every turn.

::

    bus = Bus(plugins=[sink, Interruption(sink), TurnMetrics()])


    @bus.on(TurnCompleted)
    async def show(turn: TurnCompleted) -> None:
        print(turn.heard_s, turn.interrupted, turn.usage)

The rules are in ``_turns.py``; which events they are fed with, in ``_turn_watch.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from realtime_bus import Session

from ._turn_watch import TurnWatch
from ._turns import TurnCompleted, TurnOrigin

__all__ = ["TurnCompleted", "TurnMetrics", "TurnOrigin"]


class TurnMetrics:
    """Measure each turn of each session, and emit `TurnCompleted` when it is over.

    When an answer is heard, and whether it was cut off at the sink, is known from
    `Interruption` (put it before this plugin), or from the server's output buffer in calls.
    Without either, a turn is over when its audio would have been played.

    Args:
        clock: Returns seconds; any zero point. By default it is `Session.clock`.
    """

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock

    def attach(self, session: Session) -> None:
        """Watch a session. Called by the bus."""
        TurnWatch(session, self._clock, session.emit).subscribe()

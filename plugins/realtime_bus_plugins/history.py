"""The conversation as it stands: items in order, transcripts, what was heard, calls, cost.

::

    history = History()
    bus = Bus(plugins=[history, ...])
    async with bus.connect(...) as session:
        ...
        print(history.of(session).render())
        print(history.of(session).cost({"gpt-realtime": Prices(input_text=4, output_text=16)}))

The rules are in ``_history/_state.py`` and ``_history/_order.py``.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import msgspec

from realtime_bus import Session, UsageError
from realtime_bus import events as ev

from ._history import (
    Cost,
    FunctionCall,
    HistoryItem,
    HistoryPart,
    HistorySnapshot,
    HistoryState,
    Prices,
    SpeakerSegment,
    TokenCounts,
)

__all__ = [
    "Cost",
    "FunctionCall",
    "History",
    "HistoryItem",
    "HistoryPart",
    "HistorySnapshot",
    "HistoryState",
    "Prices",
    "SpeakerSegment",
    "TokenCounts",
]


class History:
    """Keep the state of each session's conversation.

    It needs no other plugin. With `Interruption` it also knows what was heard of an answer that
    was cut off, and how long that was; without, only what a truncation says. It does not listen
    to audio.

    A state belongs to its session, and can be read after the session's end for as long as
    somebody holds that session.
    """

    def __init__(self) -> None:
        self._states: WeakKeyDictionary[Session, HistoryState] = WeakKeyDictionary()

    def attach(self, session: Session) -> None:
        """Watch a session. Called by the bus."""
        self._states[session] = HistoryState()
        # an interceptor: so that any handler of an event finds the state as it is after it
        session.intercept(tuple(HistoryState.SEEN), self._see, narrowed=True)

    def _see(self, event: ev.Event, session: Session) -> ev.Event:
        self._states[session].see(event)
        return event

    def of(self, session: Session) -> HistoryState:
        """Return the state of a session's conversation; it goes on changing with it.

        Raises:
            UsageError: The session's bus does not have this plugin.
        """
        try:
            return self._states[session]
        except (KeyError, TypeError):
            raise UsageError(
                "this session has no history: the plugin was not there when it began; "
                "give it to Bus(plugins=[...]) or to connect(plugins=[...])"
            ) from None

    def snapshot(self, session: Session) -> bytes:
        """Return the state as JSON text (UTF-8).

        Raises:
            UsageError: The session's bus does not have this plugin.
        """
        return msgspec.json.encode(self.of(session).snapshot())

    def restore(self, session: Session, snapshot: bytes | str | HistorySnapshot) -> HistoryState:
        """Put a saved state in place of a session's own, and return it.

        It tells the server nothing: what the model is to know, too, must be sent.

        Raises:
            UsageError: The session's bus does not have this plugin.
            msgspec.DecodeError: The text is no snapshot.
        """
        self.of(session)  # refuses a session that is not ours
        if not isinstance(snapshot, HistorySnapshot):
            snapshot = msgspec.json.decode(snapshot, type=HistorySnapshot)
        state = self._states[session] = HistoryState.restore(snapshot)
        return state

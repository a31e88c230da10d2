"""The conversation as it stands: items in order, transcripts, what was heard, calls, cost.

::

    history = History()
    bus = Bus(plugins=[history, ...])
    async with bus.connect(...) as session:
        ...
        print(history.of(session).render())
        print(history.of(session).cost({"gpt-realtime": Prices(input_text=4, output_text=16)}))

The session keeps it: it is what a lost connection's successor is told. See `Session.keep_history`.
"""

from __future__ import annotations

import msgspec

from realtime_bus import Session, UsageError
from realtime_bus.history import (
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
    """Keep the state of each session's conversation, and read it.

    It needs no other plugin. With `Interruption` it also knows what was heard of an answer that
    was cut off, and how long that was; without, only what a truncation says. It does not listen
    to audio.
    """

    def attach(self, session: Session) -> None:
        """Watch a session. Called by the bus."""
        session.keep_history()

    def of(self, session: Session) -> HistoryState:
        """Return the state of a session's conversation; it goes on changing with it.

        Raises:
            UsageError: The session keeps none: it has neither this plugin nor can it reconnect.
        """
        state = getattr(session, "history", None)
        if not isinstance(state, HistoryState):
            raise UsageError(
                "this session has no history: the plugin was not there when it began; "
                "give it to Bus(plugins=[...]) or to connect(plugins=[...])"
            )
        return state

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
        state = self.of(session)
        if not isinstance(snapshot, HistorySnapshot):
            snapshot = msgspec.json.decode(snapshot, type=HistorySnapshot)
        state.load(snapshot)
        return state

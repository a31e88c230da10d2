"""What a client can know when it sends: a pure machine, fed with both directions.

The rules
---------
* What is sent counts at once, as one socket delivers in order: an item that was created may be
  followed, one that was deleted may not.
* An ``error`` that names an event takes back what that event would have done. One that names
  none takes back a ``response.create`` on its way, for it may be that one's; the rest stands.
* Where two sides may have crossed on the wire, the client is believed: only what it knew, or
  could have known, makes an event wrong.

Bounds: the last 4096 event ids, the last 256 events that may be taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from realtime_bus import events as ev

from ._buffer import BufferKnown
from ._conversation import ConversationKnown
from ._replies import RepliesKnown
from ._settings import SettingsKnown

__all__ = ["SEEN", "Known"]

Undo = Callable[[], None]
_V = TypeVar("_V")
_EVENT_IDS, _UNDOABLE = 4096, 256


class Known:
    """What is known of a session.

    Attributes:
        started: Whether the server has said anything yet.
        settings: What is in force, and what was asked for.
        buffer: The input audio buffer.
        items: The conversation.
        replies: The responses.
        event_ids: The ids that were used and not refused.
        output_buffer: Whether the server has one: the session is a call's.
    """

    def __init__(self) -> None:
        self.started = self.output_buffer = False
        self.settings = SettingsKnown()
        self.buffer = BufferKnown()
        self.items = ConversationKnown()
        self.replies = RepliesKnown()
        self.event_ids: dict[str, None] = {}
        self._undo: dict[str, list[Undo]] = {}

    def see(self, event: ev.ServerEvent) -> None:
        """Take note of one of the events in `SEEN`."""
        self.started = True
        self.output_buffer |= isinstance(event, _OUTPUT_BUFFER)
        if isinstance(event, ev.Error):
            self._refused(event.error)
        # responses first: whether an item is in the conversation depends on its response
        for part in (self.settings, self.buffer, self.replies):
            part.see(event)
        self.items.see(event, self.replies, self.settings)

    def sent(self, event: ev.ClientEvent) -> None:
        """Take note of an event that is being sent."""
        parts = (self.settings, self.replies, self.items)
        undo = [undo for part in parts if (undo := part.sent(event)) is not None]
        self.buffer.sent(event, self.settings)
        if event.event_id is not None:
            _keep(self.event_ids, event.event_id, None, _EVENT_IDS)
            _keep(self._undo, event.event_id, undo, _UNDOABLE)

    def _refused(self, error: Any) -> None:
        event_id = getattr(error, "event_id", None)
        if isinstance(event_id, str):
            self.event_ids.pop(event_id, None)
            for undo in self._undo.pop(event_id, []):
                undo()
        else:
            for event in self.replies.maybe_refused():
                self.event_ids.pop(event.event_id or "", None)


def _keep(kept: dict[str, _V], key: str, value: _V, most: int) -> None:
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]


_OUTPUT_BUFFER = (
    ev.OutputAudioBufferStarted,
    ev.OutputAudioBufferStopped,
    ev.OutputAudioBufferCleared,
)

SEEN: tuple[type[ev.ServerEvent], ...] = (
    *SettingsKnown.SEEN,
    *BufferKnown.SEEN,
    *RepliesKnown.SEEN,
    *ConversationKnown.SEEN,
    *_OUTPUT_BUFFER,
    ev.Error,
)
"""The events that the machine wants to see."""

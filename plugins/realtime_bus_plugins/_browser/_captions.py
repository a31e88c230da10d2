"""The words of both, as states for a page: what `_messages.Caption` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from realtime_bus import Session
from realtime_bus import events as ev

from ._messages import Caption

_REMEMBERED = 64


class Captions:
    """Follow a session, and tell every change of a caption.

    Args:
        tell: Takes a caption's key and state.
    """

    def __init__(self, tell: Callable[[str, Caption], object]) -> None:
        self._tell = tell
        self._known: dict[str, Caption] = {}

    def attach(self, session: Session) -> None:
        """Follow a session."""
        for selector, handler in self._HANDLERS.items():
            session.on(selector)(handler.__get__(self))

    def written(self, item_id: str, content_index: int, start: int, samples: int) -> None:
        """Take note of an item's audio."""
        known = self._of(item_id, content_index, "assistant")
        self._set(
            known,
            start=start if known.start is None else known.start,
            samples=known.samples + samples,
        )

    # --- the assistant -----------------------------------------------------------------------

    def _speaks(
        self, event: ev.ResponseOutputAudioTranscriptDelta | ev.ResponseOutputTextDelta
    ) -> None:
        known = self._of(event.item_id, event.content_index, "assistant")
        self._set(known, text=known.text + event.delta)

    def _has_spoken(self, event: ev.ResponseOutputAudioTranscriptDone) -> None:
        known = self._of(event.item_id, event.content_index, "assistant")
        self._set(known, text=event.transcript, done=True)

    def _has_written(self, event: ev.ResponseOutputTextDone) -> None:
        known = self._of(event.item_id, event.content_index, "assistant")
        self._set(known, text=event.text, done=True)

    def _truncated(self, event: ev.ConversationItemTruncated) -> None:
        self._cut(event.item_id, event.content_index, event.audio_end_ms)

    def _deleted(self, event: ev.ConversationItemDeleted) -> None:
        for known in [*self._known.values()]:
            if known.id.rpartition("/")[0] == event.item_id:
                self._set(known, heard_ms=0, done=True)

    def _cut(self, item_id: str, content_index: int, heard_ms: int) -> None:
        known = self._known.get(f"{item_id}/{content_index}")
        if known is not None:
            self._set(known, heard_ms=heard_ms, done=True)

    # --- the person --------------------------------------------------------------------------

    def _person_speaks(self, event: ev.InputAudioBufferSpeechStarted) -> None:
        self._set(self._of(event.item_id, 0, "person"))

    def _person_has_spoken(self, event: ev.InputAudioBufferCommitted, session: Session) -> None:
        key = f"{event.item_id}/0"
        if key in self._known and session.settings.transcription_model is None:
            self._set(self._known[key], done=True)  # nobody writes down what was said

    def _person_is_understood(self, event: ev.ConversationItemInputAudioTranscriptionDelta) -> None:
        known = self._of(event.item_id, event.content_index or 0, "person")
        self._set(known, text=known.text + (event.delta or ""))

    def _person_was_understood(
        self, event: ev.ConversationItemInputAudioTranscriptionCompleted
    ) -> None:
        known = self._of(event.item_id, event.content_index, "person")
        self._set(known, text=event.transcript.strip(), done=True)

    def _person_was_not_understood(
        self, event: ev.ConversationItemInputAudioTranscriptionFailed
    ) -> None:
        self._set(self._of(event.item_id, event.content_index, "person"), done=True)

    # --- both --------------------------------------------------------------------------------

    def _of(self, item_id: str, content_index: int, who: Any) -> Caption:
        key = f"{item_id}/{content_index}"
        return self._known.get(key) or Caption(id=key, who=who)

    def _set(self, known: Caption, **changed: Any) -> None:
        caption = self._known[known.id] = msgspec.structs.replace(known, **changed)
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._tell(known.id, caption)

    _HANDLERS: ClassVar[dict[type[ev.Event], Callable[..., None]]] = {
        ev.ResponseOutputAudioTranscriptDelta: _speaks,
        ev.ResponseOutputTextDelta: _speaks,
        ev.ResponseOutputAudioTranscriptDone: _has_spoken,
        ev.ResponseOutputTextDone: _has_written,
        ev.ConversationItemTruncated: _truncated,
        ev.ConversationItemDeleted: _deleted,
        ev.InputAudioBufferSpeechStarted: _person_speaks,
        ev.InputAudioBufferCommitted: _person_has_spoken,
        ev.ConversationItemInputAudioTranscriptionDelta: _person_is_understood,
        ev.ConversationItemInputAudioTranscriptionCompleted: _person_was_understood,
        ev.ConversationItemInputAudioTranscriptionFailed: _person_was_not_understood,
    }

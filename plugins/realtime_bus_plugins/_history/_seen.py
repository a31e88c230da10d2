"""What each event changes in the books.

The rules (Realtime protocol, items, transcription, barge-in, ordering)
------------------------------------------------------------------------
* ``conversation.item.*`` and ``input_audio_buffer.committed`` say which items there are and
  what each follows; see `Order`. Items of out-of-band responses are in none of them, so they
  stay out; what their responses cost is counted.
* Words may come before their item does: transcripts of an item that is not there yet wait for
  it, the last 64 of them. ``completed`` and ``done`` replace what the deltas have brought.
* What the sink says was heard (`PlaybackInterrupted`) is kept beside what was generated, and so
  is what a truncation left. A truncation takes the transcript out of the model's context, not
  out of the history. A deleted item is gone from both.
* Nothing here looks at audio: its lengths come with the interruption, when they matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

from msgspec.structs import replace

from realtime_bus import events as ev
from realtime_bus_plugins._playback import InterruptedItem, PlaybackInterrupted

from ._book import Book
from ._items import HistoryItem, HistoryPart, SpeakerSegment
from ._reading import read_item
from ._usage import count_response, count_transcription

__all__ = ["SEEN", "see"]

_Added: TypeAlias = ev.ConversationItemAdded | ev.ConversationItemCreated
_Delta: TypeAlias = (
    ev.ConversationItemInputAudioTranscriptionDelta
    | ev.ResponseOutputAudioTranscriptDelta
    | ev.ResponseOutputTextDelta
)


def see(book: Book, event: ev.Event, *, linked: bool) -> None:
    """Take note of one of the events in `SEEN`.

    Args:
        book: What changes.
        event: The event.
        linked: Whether it had a ``previous_item_id`` member, be it null, which means first. A
            server that leaves it out appends.
    """
    kind = type(event)
    if kind in _LINKING:
        _LINKING[kind](book, event, linked)
    else:
        _SEEING[kind](book, event)


def _session(book: Book, event: ev.SessionCreated | ev.SessionUpdated) -> None:
    session: Any = event.session
    source = getattr(getattr(session, "audio", None), "input", None)
    model = getattr(session, "model", None)
    transcriber = getattr(getattr(source, "transcription", None), "model", None)
    book.model = model if isinstance(model, str) else book.model
    book.transcriber = transcriber if isinstance(transcriber, str) else book.transcriber


# items


def _added(book: Book, event: _Added, linked: bool) -> None:
    fresh = read_item(event.item)
    if fresh is not None:
        book.place(fresh, event.previous_item_id or None, linked=linked)


def _done(book: Book, event: ev.ConversationItemDone, linked: bool) -> None:
    fresh = read_item(event.item)
    # the end of an item that was deleted while it was made does not bring it back
    if fresh is not None and not book.order.was_deleted(fresh.id):
        book.place(fresh, event.previous_item_id or None, linked=linked)


def _committed(book: Book, event: ev.InputAudioBufferCommitted, linked: bool) -> None:
    spoken = HistoryItem(id=event.item_id, role="user", parts=(HistoryPart(kind="audio"),))
    book.place(spoken, event.previous_item_id or None, linked=linked)


def _deleted(book: Book, event: ev.ConversationItemDeleted) -> None:
    book.delete(event.item_id)


# words


def _delta(book: Book, event: _Delta) -> None:
    kind = "text" if isinstance(event, ev.ResponseOutputTextDelta) else "audio"

    def more(part: HistoryPart) -> HistoryPart:
        if part.final:
            return part
        return replace(part, kind=kind, text=(part.text or "") + event.delta)

    book.change(event.item_id, event.content_index, more)


def _is_final(book: Book, event: Any, **fields: Any) -> None:
    def final(part: HistoryPart) -> HistoryPart:
        return replace(part, final=True, **fields)

    book.change(event.item_id, event.content_index, final)


def _transcribed(book: Book, event: ev.ConversationItemInputAudioTranscriptionCompleted) -> None:
    _is_final(book, event, text=event.transcript)
    if event.usage is not None:
        book.count(book.transcriber, count_transcription(event.usage))


def _failed(book: Book, event: ev.ConversationItemInputAudioTranscriptionFailed) -> None:
    why = getattr(event.error, "message", None) or getattr(event.error, "code", None)
    _is_final(book, event, text=None, failure=str(why or "no reason given"))


def _segment(book: Book, event: ev.ConversationItemInputAudioTranscriptionSegment) -> None:
    segment = SpeakerSegment(
        speaker=event.speaker, text=event.text, start_s=event.start, end_s=event.end
    )

    def more(part: HistoryPart) -> HistoryPart:
        return replace(part, segments=(*part.segments, segment))

    book.change(event.item_id, event.content_index, more)


def _said(book: Book, event: ev.ResponseOutputAudioTranscriptDone) -> None:
    _is_final(book, event, text=event.transcript)


def _written(book: Book, event: ev.ResponseOutputTextDone) -> None:
    _is_final(book, event, text=event.text, kind="text")


def _arguments(book: Book, event: ev.ResponseFunctionCallArgumentsDone) -> None:
    item = book.items.get(event.item_id)
    if item is not None:
        book.items[event.item_id] = replace(item, arguments=event.arguments)


# responses


def _response_done(book: Book, event: ev.ResponseDone) -> None:
    response: Any = event.response  # read leniently: any part of it may be raw data
    usage, output = getattr(response, "usage", None), getattr(response, "output", None)
    if usage is not None:
        book.count(book.model, count_response(usage))
    for item in cast("list[object]", output) if isinstance(output, list) else []:
        if (fresh := read_item(item)) is not None:
            book.finish(fresh)


# what was heard


def _truncated(book: Book, event: ev.ConversationItemTruncated) -> None:
    def cut(part: HistoryPart) -> HistoryPart:
        heard_ms = event.audio_end_ms if part.heard_ms is None else part.heard_ms
        return replace(part, heard_ms=heard_ms, in_context=False)

    book.change(event.item_id, event.content_index, cut)


def _interrupted(book: Book, event: PlaybackInterrupted) -> None:
    for item in event.items:
        if item.item_id in book.items and (item.discarded_ms or item.action != "left"):
            _heard(book, item)


def _heard(book: Book, item: InterruptedItem) -> None:
    def cut(part: HistoryPart) -> HistoryPart:
        return replace(part, heard_ms=item.played_ms, generated_ms=item.received_ms)

    book.change(item.item_id, item.content_index, cut)


_LINKING: dict[type[ev.Event], Callable[[Book, Any, bool], None]] = {
    ev.ConversationItemAdded: _added,
    ev.ConversationItemCreated: _added,
    ev.ConversationItemDone: _done,
    ev.InputAudioBufferCommitted: _committed,
}
_SEEING: dict[type[ev.Event], Callable[[Book, Any], None]] = {
    ev.SessionCreated: _session,
    ev.SessionUpdated: _session,
    ev.ConversationItemDeleted: _deleted,
    ev.ConversationItemTruncated: _truncated,
    ev.ConversationItemInputAudioTranscriptionDelta: _delta,
    ev.ConversationItemInputAudioTranscriptionCompleted: _transcribed,
    ev.ConversationItemInputAudioTranscriptionFailed: _failed,
    ev.ConversationItemInputAudioTranscriptionSegment: _segment,
    ev.ResponseOutputAudioTranscriptDelta: _delta,
    ev.ResponseOutputAudioTranscriptDone: _said,
    ev.ResponseOutputTextDelta: _delta,
    ev.ResponseOutputTextDone: _written,
    ev.ResponseFunctionCallArgumentsDone: _arguments,
    ev.ResponseDone: _response_done,
    PlaybackInterrupted: _interrupted,
}

SEEN = (*_LINKING, *_SEEING)
"""The events that change a history."""

"""The conversation's state: a pure machine, fed with a session's events.

The rules (Realtime protocol, items, transcription, barge-in, ordering)
------------------------------------------------------------------------
* ``conversation.item.*`` and ``input_audio_buffer.committed`` say which items there are and
  what each follows; see `Order`. A link that is null means first; a server that leaves it out
  appends. Items of out-of-band responses are in none of them, so they stay out; what their
  responses cost is counted.
* Words may come before their item does: transcripts of an item that is not there yet wait for
  it, the last 64 of them. ``completed`` and ``done`` replace what the deltas have brought.
* What the sink says was heard is kept beside what was generated, and so is what a truncation
  left. A truncation takes the transcript out of the model's context, not out of the history. A
  deleted item is gone from both.
* Nothing here looks at audio: its lengths come with the interruption, when they matter.
* Words are put together when somebody reads: noting a delta must cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias, cast

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from realtime_bus import events as ev

from ._items import (
    FunctionCall,
    HistoryItem,
    HistoryPart,
    PartKind,
    SpeakerSegment,
    View,
    change_part,
    merge_items,
    read_item,
    render_items,
)
from ._order import Order
from ._usage import Cost, Prices, TokenCounts, cost_of, count_response, count_transcription

_MAX_EARLY = 64

_Added: TypeAlias = ev.ConversationItemAdded | ev.ConversationItemCreated
_Link: TypeAlias = str | msgspec.UnsetType | None
_Delta: TypeAlias = (
    ev.ConversationItemInputAudioTranscriptionDelta
    | ev.ResponseOutputAudioTranscriptDelta
    | ev.ResponseOutputTextDelta
)


class HistorySnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation's state as plain data.

    Attributes:
        version: Of this format.
        items: In conversation order.
        usage: Tokens by model.
        links: What each item followed, deleted ones included: for what comes later.
        model: The model that answers.
        transcriber: The model that transcribes.
    """

    version: Literal[1] = 1
    items: list[HistoryItem]
    usage: dict[str, TokenCounts]
    links: list[tuple[str, str]]
    model: str = ""
    transcriber: str = ""


class HistoryState:
    """One conversation: iterate it for its items, in order."""

    def __init__(self) -> None:
        self._order = Order()
        self._items: dict[str, HistoryItem] = {}
        self._early: dict[str, HistoryItem] = {}
        self._growing: dict[tuple[str, int], list[_Delta]] = {}  # deltas of parts, by item
        self._lost_behind: dict[str | None, str] = {}  # see `restored`
        self._usage: dict[str, TokenCounts] = {}
        self._model = self._transcriber = ""

    def see(self, event: ev.Event) -> None:
        """Take note of an event; those that are not in `SEEN` change nothing."""
        if type(event) in self.SEEN:
            self.SEEN[type(event)](self, event)

    def heard(
        self, item_id: str, *, content_index: int = 0, heard_ms: int, generated_ms: int
    ) -> None:
        """Note how much of an item's audio was heard, as its sink says; all of it is no cut."""

        def note(part: HistoryPart) -> HistoryPart:
            cut_ms = heard_ms if heard_ms < generated_ms else part.heard_ms
            return replace(part, heard_ms=cut_ms, generated_ms=generated_ms)

        if item_id in self._items:
            self._change(item_id, content_index, note)

    def restored(self, item_ids: Collection[str]) -> None:
        """Note which items another connection has: it knows nothing of those that it lost.

        What comes behind one of them, comes behind the lost ones that follow it.
        """
        self._lost_behind.clear()
        before: str | None = None
        for item_id in self._order:
            if item_id in item_ids:
                before = item_id
            else:
                self._lost_behind[before] = item_id

    def __iter__(self) -> Iterator[HistoryItem]:
        self._grow()
        return iter([self._items[item_id] for item_id in self._order])

    def __len__(self) -> int:
        return len(self._items)

    def get(self, item_id: str) -> HistoryItem | None:
        """Return an item of the conversation, or None."""
        self._grow()
        return self._items.get(item_id)

    def calls(self) -> list[FunctionCall]:
        """Return all function calls, in order, with their outputs."""
        outputs = {i.call_id: i for i in self if i.type == "function_call_output"}
        found: list[FunctionCall] = []
        for item in self:
            if item.type == "function_call":
                output = outputs.get(item.call_id)
                call = FunctionCall(
                    call_id=item.call_id or "",
                    name=item.name or "",
                    arguments=item.arguments or "",
                    item_id=item.id,
                    output=None if output is None else output.output or "",
                    output_item_id=None if output is None else output.id,
                )
                found.append(call)
        return found

    @property
    def has_open_calls(self) -> bool:
        """Whether a function call has no output yet."""
        return any(call.output is None for call in self.calls())

    @property
    def usage(self) -> dict[str, TokenCounts]:
        """Tokens by model; transcription models are among them, ``""`` is an unknown one."""
        return dict(self._usage)

    def cost(self, prices: Mapping[str, Prices]) -> Cost:
        """Return what it has cost so far, by prices for each model."""
        return cost_of(self._usage, prices)

    def render(self, *, view: View = "heard") -> str:
        """Return the conversation as text, a line for each item.

        Args:
            view: The assistant's words as far as they were heard (an estimate, where it was
                interrupted), or all that it generated.
        """
        return render_items(self, view)

    def snapshot(self) -> HistorySnapshot:
        """Return all of it as plain data."""
        return HistorySnapshot(
            items=list(self),
            usage=self.usage,
            links=self._order.links(),
            model=self._model,
            transcriber=self._transcriber,
        )

    def load(self, snapshot: HistorySnapshot) -> None:
        """Become what a snapshot was made of."""
        self._early.clear()
        self._growing.clear()
        self._lost_behind.clear()
        self._items = {item.id: item for item in snapshot.items}
        self._order = Order.restore(snapshot.links, alive=self._items)
        self._usage = dict(snapshot.usage)
        self._model, self._transcriber = snapshot.model, snapshot.transcriber

    # items

    def _added(self, event: _Added) -> None:
        fresh = read_item(event.item)
        if fresh is not None:
            self._place(fresh, event.previous_item_id)

    def _done(self, event: ev.ConversationItemDone) -> None:
        fresh = read_item(event.item)
        # the end of an item that was deleted while it was made does not bring it back
        if fresh is not None and not self._order.was_deleted(fresh.id):
            self._place(fresh, event.previous_item_id)

    def _committed(self, event: ev.InputAudioBufferCommitted) -> None:
        spoken = HistoryItem(id=event.item_id, role="user", parts=(HistoryPart(kind="audio"),))
        self._place(spoken, event.previous_item_id)

    def _place(self, fresh: HistoryItem, after: _Link) -> None:
        """Take an item into the conversation, or another reading of one that is there."""
        self._grow()
        known = self._items.get(fresh.id) or self._early.pop(fresh.id, None)
        self._items[fresh.id] = fresh if known is None else merge_items(known, fresh)
        if after is not UNSET:
            self._order.place(fresh.id, self._lost_behind.get(after, after))
        elif fresh.id not in self._order:
            self._order.append(fresh.id)

    def _deleted(self, event: ev.ConversationItemDeleted) -> None:
        self._grow()
        self._order.delete(event.item_id)
        self._items.pop(event.item_id, None)
        self._early.pop(event.item_id, None)

    # words

    def _change(
        self, item_id: str, index: int, change: Callable[[HistoryPart], HistoryPart]
    ) -> None:
        """Change a part of an item, of one that is still to come if need be."""
        self._grow()
        item = self._items.get(item_id)
        if item is not None:
            self._items[item_id] = change_part(item, index, change)
        elif not self._order.was_deleted(item_id):
            early = self._early.pop(item_id, None) or HistoryItem(id=item_id)
            self._early[item_id] = change_part(early, index, change)
            if len(self._early) > _MAX_EARLY:
                del self._early[next(iter(self._early))]

    def _set(self, event: Any, **fields: Any) -> None:
        """Set fields of the part that an event is about."""
        self._change(event.item_id, event.content_index, lambda part: replace(part, **fields))

    def _delta(self, event: _Delta) -> None:
        self._growing.setdefault((event.item_id, event.content_index), []).append(event)

    def _grow(self) -> None:
        """Put the words together that have come since somebody read."""
        growing, self._growing = self._growing, {}
        for (item_id, index), deltas in growing.items():
            kind: PartKind = (
                "text" if isinstance(deltas[0], ev.ResponseOutputTextDelta) else "audio"
            )
            words = "".join(delta.delta for delta in deltas)
            self._change(item_id, index, partial(_more, kind=kind, words=words))

    def _transcribed(self, event: ev.ConversationItemInputAudioTranscriptionCompleted) -> None:
        self._set(event, final=True, text=event.transcript)
        if event.usage is not None:
            self._count(self._transcriber, count_transcription(event.usage))

    def _failed(self, event: ev.ConversationItemInputAudioTranscriptionFailed) -> None:
        why = getattr(event.error, "message", None) or getattr(event.error, "code", None)
        self._set(event, final=True, text=None, failure=str(why or "no reason given"))

    def _segment(self, event: ev.ConversationItemInputAudioTranscriptionSegment) -> None:
        segment = SpeakerSegment(
            speaker=event.speaker, text=event.text, start_s=event.start, end_s=event.end
        )
        self._change(
            event.item_id,
            event.content_index,
            lambda part: replace(part, segments=(*part.segments, segment)),
        )

    def _said(self, event: ev.ResponseOutputAudioTranscriptDone) -> None:
        self._set(event, final=True, text=event.transcript)

    def _written(self, event: ev.ResponseOutputTextDone) -> None:
        self._set(event, final=True, text=event.text, kind="text")

    def _arguments(self, event: ev.ResponseFunctionCallArgumentsDone) -> None:
        item = self._items.get(event.item_id)
        if item is not None:
            self._items[event.item_id] = replace(item, arguments=event.arguments)

    # what was heard

    def _truncated(self, event: ev.ConversationItemTruncated) -> None:
        def cut(part: HistoryPart) -> HistoryPart:
            heard_ms = event.audio_end_ms if part.heard_ms is None else part.heard_ms
            return replace(part, heard_ms=heard_ms, in_context=False)

        self._change(event.item_id, event.content_index, cut)

    # models and what they use

    def _session(self, event: ev.SessionCreated | ev.SessionUpdated) -> None:
        session: Any = event.session  # read leniently: any part of it may be raw data
        listens = getattr(getattr(session, "audio", None), "input", None)
        transcribes = getattr(listens, "transcription", None)
        for model, name in ((session, "_model"), (transcribes, "_transcriber")):
            found = getattr(model, "model", None)
            if isinstance(found, str):
                setattr(self, name, found)

    def _response_done(self, event: ev.ResponseDone) -> None:
        self._grow()
        response: Any = event.response  # read leniently: any part of it may be raw data
        usage, output = getattr(response, "usage", None), getattr(response, "output", None)
        if usage is not None:
            self._count(self._model, count_response(usage))
        for item in cast("list[object]", output) if isinstance(output, list) else []:
            fresh = read_item(item)
            if fresh is not None:
                # words of an item that has not come into the conversation by now: out of band
                self._early.pop(fresh.id, None)
                if fresh.id in self._items:
                    self._items[fresh.id] = merge_items(self._items[fresh.id], fresh)

    def _written_item(self, event: ev.ResponseOutputItemDone) -> None:
        self._grow()  # a call is complete here, before its item in the conversation says so
        fresh = read_item(event.item)
        if fresh is not None and fresh.id in self._items:
            self._items[fresh.id] = merge_items(self._items[fresh.id], fresh)

    def _count(self, model: str, counts: TokenCounts) -> None:
        self._usage[model] = self._usage.get(model, TokenCounts()) + counts

    SEEN: ClassVar[dict[type[ev.Event], Callable[[HistoryState, Any], None]]] = {
        ev.SessionCreated: _session,
        ev.SessionUpdated: _session,
        ev.ConversationItemAdded: _added,
        ev.ConversationItemCreated: _added,
        ev.ConversationItemDone: _done,
        ev.ConversationItemDeleted: _deleted,
        ev.ConversationItemTruncated: _truncated,
        ev.InputAudioBufferCommitted: _committed,
        ev.ConversationItemInputAudioTranscriptionDelta: _delta,
        ev.ConversationItemInputAudioTranscriptionCompleted: _transcribed,
        ev.ConversationItemInputAudioTranscriptionFailed: _failed,
        ev.ConversationItemInputAudioTranscriptionSegment: _segment,
        ev.ResponseOutputAudioTranscriptDelta: _delta,
        ev.ResponseOutputAudioTranscriptDone: _said,
        ev.ResponseOutputTextDelta: _delta,
        ev.ResponseOutputTextDone: _written,
        ev.ResponseFunctionCallArgumentsDone: _arguments,
        ev.ResponseOutputItemDone: _written_item,
        ev.ResponseDone: _response_done,
    }
    """What each event changes."""


def _more(part: HistoryPart, *, kind: PartKind, words: str) -> HistoryPart:
    """Return a part with more words, unless all of them are there."""
    return part if part.final else replace(part, kind=kind, text=(part.text or "") + words)

"""What to tell the server when the person talks over the assistant: a pure state machine.

The rules (Realtime protocol, barge-in and cancel by client):

1. An interruption starts a new generation: every response that is known by then, from whatever
   event told of it first, is silenced. Audio and audio transcripts of it that come later are late:
   they are dropped. That covers out-of-band responses, too: whoever interrupts wants silence.
   Their text, and whatever comes later, is untouched. Late is also what comes of a response behind
   its ``response.done`` as cancelled, whoever cancelled it: it is no part of its item.
2. Speaking means playing, not generating. What is cut off is what the sink says was playing or
   queued, whether its response is still active or long done; and besides it, an item whose
   audio was heard to the last byte that was delivered, but whose end has not come: the server has
   more. What an application's interceptor dropped was received and not delivered: nobody heard it.
3. An item is cut at min(played, received), in whole milliseconds, rounded down, by the format of
   its response. Cut at more than 0 ms: truncate. Cut at 0 ms: a truncation would be refused, so
   the item is deleted, unless something else of it was heard. Heard to its end: nothing.
   A late delta of an item of which nothing was heard, and which was not cut yet (its audio had
   not begun when the interruption came), deletes it: the model must not believe it said that.
4. Nothing is sent that the server would refuse. Truncation needs an item of the default
   conversation, or of one of its responses; deletion an item that the server has confirmed.
   Items that are gone, that were truncated before, of out-of-band responses, or that we never
   heard of (an application's own sounds) are left alone. What is of the conversation and what is
   active, the session's one view of the conversation knows.
5. An item that is still being generated may be deleted: the server stops generating when it says
   ``speech_started``, and where it does not, our cancel goes first. So the order is cancel,
   truncate, delete.
6. ``response.cancel`` carries the id, and goes only to the active response of the default
   conversation, once, and only where the server does not cancel by itself. Out-of-band responses
   run on in silence: their results may be waited for, and no server cancels them for speech.
7. Doing it again changes nothing until something new is generated or heard: an item is cut once
   and a response cancelled once.

Memory is bounded: the last 128 items with audio are known, and 64 parts of each. Audio without an
item's id is dropped when it is late, and else nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from realtime_bus import ConversationState
from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem, bytes_to_ms

from ._playback import InterruptedItem
from ._recent import Recent

_MAX_ITEMS, _MAX_PARTS = 128, 64
_Action: TypeAlias = Literal["truncated", "deleted", "left"]
_ItemCut: TypeAlias = tuple[InterruptedItem, int]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of arriving audio.

    Attributes:
        late: It belongs to an older generation: drop it.
        send: What to send.
    """

    late: bool = False
    send: list[ev.ClientEvent] = []


_IN_TIME = Verdict()


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """What an interruption comes to.

    Attributes:
        items: What became of each item.
        send: What to send, in order.
    """

    items: list[InterruptedItem]
    send: list[ev.ClientEvent]


class _Audio:
    """What is known of an item's audio, by content part where there may be several."""

    def __init__(self, response_id: str, audio_format: ev.AudioFormat) -> None:
        self.response_id = response_id
        self.audio_format = audio_format
        self.received: dict[int, int] = {}  # bytes that the server has sent
        self.delivered: dict[int, int] = {}  # bytes that handlers got, the sink among them
        self.ended: set[int] = set()
        self.cut = False  # nothing more is to be sent about the item

    def ms(self, length_bytes: int) -> int:
        return bytes_to_ms(length_bytes, self.audio_format)


class BargeIn:
    """Follow a session's audio, and decide what an interruption means.

    Args:
        conversation: The session's view of its conversation.
        margin_ms: Truncate at least so far before the end of what was received, for servers
            that count an item's audio shorter than they sent it.

    Attributes:
        generation: How often somebody has interrupted.
    """

    def __init__(self, conversation: ConversationState, *, margin_ms: int = 0) -> None:
        self.generation = 0
        self._conversation = conversation
        self._margin_ms = margin_ms
        self._items = Recent[str, _Audio](_MAX_ITEMS)
        self._silenced: set[str] = set()
        self._cancelled_id: str | None = None

    # --- audio, as it comes ------------------------------------------------------------------

    def is_late(self, response_id: str) -> bool:
        """Tell whether a response belongs to an older generation, or has ended as cancelled."""
        known = self._conversation.responses.get(response_id)
        cancelled = known is not None and known.status == "cancelled"
        return cancelled or response_id in self._silenced

    def received(self, event: ev.ResponseOutputAudioDelta) -> Verdict:
        """Judge arriving audio."""
        item = self._item(event)
        if self.is_late(event.response_id):
            return Verdict(late=True, send=self._delete_unheard(event.item_id, item))
        _add(item.received, event)
        return _IN_TIME

    def delivered(self, event: ev.ResponseOutputAudioDelta) -> bool:
        """Note that audio has reached the handlers; tell whether it is the first of its item."""
        item = self._item(event)
        first = not item.delivered and bool(event.item_id)
        _add(item.delivered, event)
        return first

    def ended(self, event: ev.ResponseOutputAudioDone) -> None:
        """Note that a part's audio is complete."""
        item = self._items.get(event.item_id)
        if item is not None and len(item.ended) < _MAX_PARTS:
            item.ended.add(event.content_index)

    def _item(self, event: ev.ResponseOutputAudioDelta) -> _Audio:
        item = self._items.get(event.item_id)
        if item is None:
            audio_format = self._conversation.audio_format_of(event.response_id)
            item = _Audio(event.response_id, audio_format)
            if event.item_id:
                self._items[event.item_id] = item
        return item

    def _delete_unheard(self, item_id: str, item: _Audio) -> list[ev.ClientEvent]:
        """Return the deletion of an item whose audio came too late to be heard at all."""
        if item.received or self._is_closed(item_id, item):
            return []
        if not self._conversation.has_item(item_id):
            return []
        item.cut = True
        return [ev.ConversationItemDelete(item_id=item_id)]

    # --- an interruption ---------------------------------------------------------------------

    def silence(self) -> None:
        """Start a new generation; the first step of an interruption."""
        self.generation += 1
        self._silenced = {*self._conversation.responses}
        self._silenced.update(item.response_id for item in self._items.values())
        self._silenced.discard("")  # what does not say whose it is

    def cut(self, played: Iterable[PlayedItem] | None, *, server_cancels: bool) -> Cut:
        """Decide about everything of the old generation; the second step.

        Args:
            played: What the sink returned when it was flushed; None if it could not say, and then
                nothing is known of what was heard, and no item is touched.
            server_cancels: Whether the server cancels its active response by itself.
        """
        cancels = self._end_active()
        cuts: list[_ItemCut] = []
        if played is not None:
            reported = [*played]
            parts = [*self._heard_to_the_last_byte(reported), *reported]
            cuts = [self._cut_part(part, reported) for part in parts]
            for part in parts:  # no item is cut twice
                if part.item_id in self._items:
                    self._items[part.item_id].cut = True
        send = [*([] if server_cancels else cancels), *_truncations(cuts), *_deletions(cuts)]
        return Cut(items=[item for item, _ in cuts], send=send)

    def _end_active(self) -> list[ev.ClientEvent]:
        """Return the cancel of the conversation's active response, only once."""
        active_id = self._conversation.active_response_id
        if active_id is None or active_id == self._cancelled_id:
            return []
        self._cancelled_id = active_id
        return [ev.ResponseCancel(response_id=active_id)]

    def _heard_to_the_last_byte(self, reported: list[PlayedItem]) -> Iterable[PlayedItem]:
        """Yield the parts that the sink has played up, but whose end never came."""
        known = {(part.item_id, part.content_index) for part in reported}
        for item_id, item in self._items.items():
            for index, length in item.delivered.items():
                if (item_id, index) in known or self._has_ended(item, index):
                    continue
                if not self._is_closed(item_id, item):
                    ms = item.ms(length)
                    yield PlayedItem(
                        item_id=item_id, content_index=index, played_ms=ms, written_ms=ms
                    )

    def _cut_part(self, part: PlayedItem, reported: list[PlayedItem]) -> _ItemCut:
        """Return what becomes of a part, and at which ms it would be truncated."""
        item = self._items.get(part.item_id)
        received_ms = self.received_ms(part)
        heard_ms = min(part.played_ms, received_ms)
        end_ms = self.end_ms(part)
        cut = InterruptedItem(
            item_id=part.item_id,
            content_index=part.content_index,
            played_ms=heard_ms,
            received_ms=received_ms,
            discarded_ms=received_ms - heard_ms,
            action="left" if item is None else self._action(part, item, end_ms, reported),
        )
        return cut, end_ms

    def end_ms(self, part: PlayedItem) -> int:
        """Return where a part is to be truncated, by what was heard of it; rule 3."""
        return min(part.played_ms, self.received_ms(part) - self._margin_ms)

    def received_ms(self, part: PlayedItem) -> int:
        """Return how much the server has sent of a part; what the sink got, if that is unknown."""
        item = self._items.get(part.item_id)
        if item is None or part.content_index not in item.received:
            return part.written_ms
        return item.ms(item.received[part.content_index])

    def _action(
        self, part: PlayedItem, item: _Audio, end_ms: int, reported: list[PlayedItem]
    ) -> _Action:
        """Say what the server is told of a part."""
        confirmed = self._conversation.has_item(part.item_id)
        ours = confirmed or self._conversation.has_response(item.response_id)
        if not ours or self._is_closed(part.item_id, item):
            return "left"
        if self._has_ended(item, part.content_index) and part.played_ms >= part.written_ms:
            return "left"
        if end_ms > 0:
            return "truncated"
        heard = part.played_ms > 0 or _heard_elsewhere(part, item, reported)
        return "deleted" if confirmed and not heard else "left"

    def _has_ended(self, item: _Audio, content_index: int) -> bool:
        response = self._conversation.responses.get(item.response_id)
        return content_index in item.ended or (response is not None and response.over)

    def _is_closed(self, item_id: str, item: _Audio) -> bool:
        """Tell whether an item was cut or is gone, by us or by somebody else."""
        known = self._conversation.items.get(item_id)
        return item.cut or (known is not None and (known.deleted or known.truncated))


def _add(lengths: dict[int, int], event: ev.ResponseOutputAudioDelta) -> None:
    if event.content_index in lengths or len(lengths) < _MAX_PARTS:
        lengths[event.content_index] = lengths.get(event.content_index, 0) + len(event.delta)


def _heard_elsewhere(part: PlayedItem, item: _Audio, reported: list[PlayedItem]) -> bool:
    """Tell whether something else of a part's item was heard."""
    others = {p.content_index: p for p in reported if p.item_id == part.item_id}
    return any(
        index not in others or others[index].played_ms > 0
        for index in item.delivered
        if index != part.content_index
    )


def _truncations(cuts: list[_ItemCut]) -> list[ev.ClientEvent]:
    return [
        ev.ConversationItemTruncate(
            item_id=item.item_id,
            content_index=max(0, item.content_index),  # a server may say -1, but takes none
            audio_end_ms=end_ms,
        )
        for item, end_ms in cuts
        if item.action == "truncated"
    ]


def _deletions(cuts: list[_ItemCut]) -> list[ev.ClientEvent]:
    doomed = dict.fromkeys(item.item_id for item, _ in cuts if item.action == "deleted")
    return [ev.ConversationItemDelete(item_id=item_id) for item_id in doomed]

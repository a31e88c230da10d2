"""What to tell the server when the person talks over the assistant: a pure state machine.

The rules (Realtime protocol, barge-in and cancel by client):

1. Every response belongs to the generation in which it was first seen: in ``response.created``,
   or in its first audio where a server leaves that out. An interruption starts a new generation.
   Audio and audio transcripts of a response of an older generation are late: they are dropped.
   That covers out-of-band responses, too: whoever interrupts wants silence. Their text, and
   whatever comes later, is untouched.
2. Speaking means playing, not generating. What is cut off is what the sink says was playing or
   queued, whether its response is still active or long done; and besides it, an item whose
   audio was heard to the last byte we have, but whose end has not come: the server has more.
3. An item is cut at min(played, received), in whole milliseconds, rounded down.
   Cut at more than 0 ms: truncate. Cut at 0 ms: a truncation would be refused, so the item is
   deleted, unless something else of it was heard. Heard to its end: nothing.
   A late delta of an item of which nothing was heard, and which was not cut yet (its audio had
   not begun when the interruption came), deletes it: the model must not believe it said that.
4. Nothing is sent that the server would refuse. Truncation needs an item of the default
   conversation: one that a ``conversation.item`` event told of, or one of a response that has a
   ``conversation_id``. Deletion needs the former. Items that are gone, that were truncated
   before, of out-of-band responses, or that we never heard of (an application's own sounds) are
   left alone.
5. An item that is still being generated may be deleted: the server stops generating when it says
   ``speech_started``, and where it does not, our cancel goes first. So the order is cancel,
   truncate, delete.
6. ``response.cancel`` carries the id, and goes only to active responses of the default
   conversation, once, and only where the server does not cancel by itself. Out-of-band responses
   run on in silence: their results may be waited for, and no server cancels them for speech.
7. Doing it again changes nothing until something new is generated or heard: an item is cut once
   and a response cancelled once.

Memory is bounded: the last 128 items and the last 128 responses are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem, bytes_to_ms
from realtime_bus_plugins._playback import InterruptedItem

from ._ledger import ItemState, Ledger

__all__ = ["SEEN", "BargeIn", "Cut", "Verdict"]

SEEN = tuple(Ledger.SEEN)
"""The events that the machine wants to see, beside audio and interruptions."""

_Action: TypeAlias = Literal["truncated", "deleted", "left"]
_ItemCut: TypeAlias = tuple[InterruptedItem, int]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of arriving audio.

    Attributes:
        late: It belongs to an older generation: drop it.
        first: It is the first audio of its item.
        send: What to send because of it.
    """

    late: bool = False
    first: bool = False
    send: tuple[ev.ClientEvent, ...] = ()


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """What an interruption leads to.

    Attributes:
        items: What was cut off, in the order of playback.
        send: What to send, in order.
    """

    items: list[InterruptedItem]
    send: list[ev.ClientEvent]


class BargeIn:
    """Follow a session's events, and decide what an interruption means.

    Args:
        margin_ms: Truncate at least so far before the end of what was received, for servers
            that count an item's audio shorter than they sent it.
    """

    def __init__(self, *, margin_ms: int = 0) -> None:
        self.audio_format: ev.AudioFormat | None = None
        self.ledger = Ledger()
        self._margin_ms = margin_ms

    def see(self, event: ev.ServerEvent) -> None:
        """Take note of one of the events in `SEEN`."""
        self.ledger.see(event)

    def is_late(self, response_id: str) -> bool:
        """Tell whether a response belongs to an older generation."""
        response = self.ledger.responses.get(response_id)
        return response is not None and response.generation < self.ledger.generation

    def audio(self, event: ev.ResponseOutputAudioDelta) -> Verdict:
        """Judge arriving audio."""
        self.ledger.response(event.response_id)
        item = self.ledger.generated(event.item_id, event.response_id)
        if self.is_late(event.response_id):
            return Verdict(late=True, send=tuple(self._unheard(event.item_id, item)))
        first = not item.received_bytes
        received = item.received_bytes.get(event.content_index, 0)
        item.received_bytes[event.content_index] = received + len(event.delta)
        return Verdict(first=first)

    def interrupt(self, played: Iterable[PlayedItem], *, server_cancels: bool) -> Cut:
        """Start a new generation, and decide about everything of the old one.

        Args:
            played: What the sink returned when it was flushed.
            server_cancels: Whether the server cancels its active response by itself.
        """
        self.ledger.generation += 1
        cancels = self._end_active()
        reported = list(played)
        parts = [*self._heard_to_the_last_byte(reported), *reported]
        cuts = [self._cut(part, reported) for part in parts]
        self._close(parts)
        send = [*([] if server_cancels else cancels), *_truncations(cuts), *_deletions(cuts)]
        return Cut(items=[item for item, _ in cuts], send=send)

    # what was heard, and what is to be done about it

    def _end_active(self) -> list[ev.ClientEvent]:
        """Return the cancels of all active responses of the conversation, each only once."""
        active = [
            (response_id, response)
            for response_id, response in self.ledger.responses.items()
            if response.in_conversation and not response.over
        ]
        for _, response in active:
            response.over = True
        return [ev.ResponseCancel(response_id=response_id) for response_id, _ in active]

    def _heard_to_the_last_byte(self, reported: list[PlayedItem]) -> Iterable[PlayedItem]:
        """Yield the parts that the sink has played up, but whose end never came."""
        known = {(part.item_id, part.content_index) for part in reported}
        for item_id, item in self.ledger.items.items():
            for index, length in item.received_bytes.items():
                if (item_id, index) in known or index in item.ended or item.closed:
                    continue
                ms = self._to_ms(length)
                yield PlayedItem(item_id=item_id, content_index=index, played_ms=ms, written_ms=ms)

    def _cut(self, part: PlayedItem, reported: list[PlayedItem]) -> _ItemCut:
        """Return what becomes of a part, and at which ms it would be truncated."""
        item = self.ledger.items.get(part.item_id)
        length = None if item is None else item.received_bytes.get(part.content_index)
        received_ms = part.written_ms if length is None else self._to_ms(length)
        heard_ms = min(part.played_ms, received_ms)
        end_ms = min(heard_ms, received_ms - self._margin_ms)
        cut = InterruptedItem(
            item_id=part.item_id,
            content_index=part.content_index,
            played_ms=heard_ms,
            received_ms=received_ms,
            discarded_ms=received_ms - heard_ms,
            action=self._action(part, item, end_ms, reported),
        )
        return cut, end_ms

    def _action(
        self, part: PlayedItem, item: ItemState | None, end_ms: int, reported: list[PlayedItem]
    ) -> _Action:
        """Say what the server is told of a part."""
        if item is None or item.closed or not self._truncatable(item):
            return "left"
        if part.content_index in item.ended and part.played_ms >= part.written_ms:
            return "left"
        if end_ms > 0:
            return "truncated"
        heard = part.played_ms > 0 or _heard_elsewhere(part, item, reported)
        return "deleted" if item.in_conversation and not heard else "left"

    def _truncatable(self, item: ItemState) -> bool:
        response = self.ledger.responses.get(item.response_id or "")
        return item.in_conversation or (response is not None and response.in_conversation)

    def _close(self, parts: list[PlayedItem]) -> None:
        """See to it that no item is cut twice."""
        for part in parts:
            if part.item_id in self.ledger.items:
                self.ledger.items[part.item_id].closed = True

    def _unheard(self, item_id: str, item: ItemState) -> list[ev.ClientEvent]:
        """Return the deletion of an item whose audio came too late to be heard at all."""
        if item.closed or not item.in_conversation or item.received_bytes:
            return []
        item.closed = True
        return [ev.ConversationItemDelete(item_id=item_id)]

    def _to_ms(self, length_bytes: int) -> int:
        return bytes_to_ms(length_bytes, self.audio_format)


def _heard_elsewhere(part: PlayedItem, item: ItemState, reported: list[PlayedItem]) -> bool:
    """Tell whether something else of a part's item was heard."""
    others = {p.content_index: p for p in reported if p.item_id == part.item_id}
    return any(
        index not in others or others[index].played_ms > 0
        for index in item.received_bytes
        if index != part.content_index
    )


def _truncations(cuts: list[_ItemCut]) -> list[ev.ClientEvent]:
    return [
        ev.ConversationItemTruncate(
            item_id=item.item_id, content_index=item.content_index, audio_end_ms=end_ms
        )
        for item, end_ms in cuts
        if item.action == "truncated"
    ]


def _deletions(cuts: list[_ItemCut]) -> list[ev.ClientEvent]:
    doomed = dict.fromkeys(item.item_id for item, _ in cuts if item.action == "deleted")
    return [ev.ConversationItemDelete(item_id=item_id) for item_id in doomed]

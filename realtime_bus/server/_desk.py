"""Where one response writes its items, and the events that begin and end each of them."""

from __future__ import annotations

from realtime_bus import events as ev

from ._conversation import Conversation
from ._entries import Entry
from ._options import ServerOptions
from ._outbox import Outbox

__all__ = ["Desk", "ItemWriter"]


class Desk:
    """What the items of one response share.

    Attributes:
        out: Where events go.
        options: The server's knobs.
        response_id: The response.
        conversation: Where items go; None out of band.
        audio_format: What audio is encoded in.
        output: The items so far, as ``response.done`` will show them.
    """

    def __init__(
        self,
        out: Outbox,
        options: ServerOptions,
        *,
        response_id: str,
        conversation: Conversation | None,
        audio_format: ev.AudioFormat | None,
    ) -> None:
        self.out = out
        self.options = options
        self.response_id = response_id
        self.conversation = conversation
        self.audio_format = audio_format
        self.output: list[ev.Item] = []

    def fresh_item_id(self) -> str:
        """Return an id for a new item."""
        if self.conversation is None:
            return self.out.new_id("item")
        return self.conversation.fresh_id(self.out.new_id)


class ItemWriter:
    """One output item: how it begins and how it ends."""

    def __init__(self, desk: Desk, item: ev.Item, item_id: str) -> None:
        self._desk = desk
        self._out = desk.out
        self.item_id = item_id
        self.entry = Entry(item, item_id, by_model=True)
        self._index = len(desk.output)
        desk.output.append(item)
        self._begin(item)

    def _begin(self, item: ev.Item) -> None:
        rid, index = self._desk.response_id, self._index
        self._out.send(ev.ResponseOutputItemAdded(response_id=rid, output_index=index, item=item))
        if self._desk.conversation is not None:
            self._desk.conversation.add(self.entry)
            before = self.entry.previous_item_id
            self._out.send(ev.ConversationItemAdded(item=item, previous_item_id=before))

    def _finish(self, item: ev.Item, *, conversation_first: bool) -> None:
        self._desk.output[self._index] = item
        self.entry.show(item)
        order = self._desk.options.item_done
        first = conversation_first if order == "recorded" else order == "conversation"
        steps = [self._done_in_conversation, self._done_in_response]
        for step in steps if first else reversed(steps):
            step(item)

    def _done_in_response(self, item: ev.Item) -> None:
        rid, index = self._desk.response_id, self._index
        self._out.send(ev.ResponseOutputItemDone(response_id=rid, output_index=index, item=item))

    def _done_in_conversation(self, item: ev.Item) -> None:
        conversation = self._desk.conversation
        if conversation is not None and self.item_id in conversation:
            before = self.entry.previous_item_id
            self._out.send(ev.ConversationItemDone(item=item, previous_item_id=before))

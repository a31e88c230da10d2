"""A conversation's books: which items there are, in which order, and what was used."""

from __future__ import annotations

from collections.abc import Callable

from ._items import HistoryItem, HistoryPart
from ._order import Order
from ._reading import merge, with_part
from ._usage import TokenCounts

__all__ = ["Book"]

_EARLY = 64


class Book:
    """What a history knows; changed by events, see `_seen`.

    Attributes:
        order: The items' order.
        items: Those in the conversation, by id.
        usage: Tokens by model.
        model: The model that answers.
        transcriber: The model that transcribes.
    """

    def __init__(self) -> None:
        self.order = Order()
        self.items: dict[str, HistoryItem] = {}
        self.usage: dict[str, TokenCounts] = {}
        self.model = self.transcriber = ""
        self._early: dict[str, HistoryItem] = {}

    def place(self, fresh: HistoryItem, after: str | None, *, linked: bool) -> None:
        """Take an item into the conversation, or another reading of one that is there."""
        known = self.items.get(fresh.id) or self._early.pop(fresh.id, None)
        self.items[fresh.id] = fresh if known is None else merge(known, fresh)
        if linked:
            self.order.place(fresh.id, after)
        elif fresh.id not in self.order:
            self.order.append(fresh.id)

    def delete(self, item_id: str) -> None:
        """Take an item out."""
        self.order.delete(item_id)
        self.items.pop(item_id, None)
        self._early.pop(item_id, None)

    def finish(self, fresh: HistoryItem) -> None:
        """Take the final reading of a response's item.

        One that has not come into the conversation by then is out of band: it is forgotten.
        """
        self._early.pop(fresh.id, None)
        if fresh.id in self.items:
            self.items[fresh.id] = merge(self.items[fresh.id], fresh)

    def change(
        self, item_id: str, index: int, change: Callable[[HistoryPart], HistoryPart]
    ) -> None:
        """Change a part of an item, of one that is still to come if need be."""
        item = self.items.get(item_id)
        if item is not None:
            self.items[item_id] = with_part(item, index, change)
        elif not self.order.was_deleted(item_id):
            early = self._early.pop(item_id, None) or HistoryItem(id=item_id)
            self._early[item_id] = with_part(early, index, change)
            if len(self._early) > _EARLY:
                del self._early[next(iter(self._early))]

    def count(self, model: str, counts: TokenCounts) -> None:
        """Add to what a model has used."""
        self.usage[model] = self.usage.get(model, TokenCounts()) + counts

"""The conversation's state: a pure machine, fed with a session's events.

What each event changes is in `_seen`, the order of items in `_order`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from realtime_bus import events as ev

from ._book import Book
from ._items import FunctionCall, HistoryItem
from ._order import Order
from ._render import View, render
from ._seen import see
from ._usage import Cost, Prices, TokenCounts, cost_of

__all__ = ["HistorySnapshot", "HistoryState"]


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
        self._book = Book()

    def see(self, event: ev.Event, *, linked: bool = True) -> None:
        """Take note of one of the events in `SEEN`.

        Args:
            event: The event.
            linked: Whether it had a ``previous_item_id`` member, be it null.
        """
        see(self._book, event, linked=linked)

    def __iter__(self) -> Iterator[HistoryItem]:
        return iter([self._book.items[item_id] for item_id in self._book.order])

    def __len__(self) -> int:
        return len(self._book.items)

    def get(self, item_id: str) -> HistoryItem | None:
        """Return an item of the conversation, or None."""
        return self._book.items.get(item_id)

    def calls(self) -> list[FunctionCall]:
        """Return all function calls, in order, with their outputs."""
        items = list(self)
        outputs = {i.call_id: i for i in items if i.type == "function_call_output"}
        return [_call(i, outputs.get(i.call_id)) for i in items if i.type == "function_call"]

    @property
    def usage(self) -> dict[str, TokenCounts]:
        """Tokens by model; transcription models are among them, ``""`` is an unknown one."""
        return dict(self._book.usage)

    def cost(self, prices: Mapping[str, Prices]) -> Cost:
        """Return what it has cost so far, by prices for each model."""
        return cost_of(self._book.usage, prices)

    def render(self, *, view: View = "heard") -> str:
        """Return the conversation as text, a line for each item.

        Args:
            view: The assistant's words as far as they were heard (an estimate, where it was
                interrupted), or all that it generated.
        """
        return render(self, view)

    def snapshot(self) -> HistorySnapshot:
        """Return all of it as plain data."""
        return HistorySnapshot(
            items=list(self),
            usage=self.usage,
            links=self._book.order.links(),
            model=self._book.model,
            transcriber=self._book.transcriber,
        )

    @classmethod
    def restore(cls, snapshot: HistorySnapshot) -> HistoryState:
        """Return the state that a snapshot was made of."""
        state = cls()
        book = state._book
        book.items = {item.id: item for item in snapshot.items}
        book.order = Order.restore(snapshot.links, alive=book.items)
        book.usage = dict(snapshot.usage)
        book.model, book.transcriber = snapshot.model, snapshot.transcriber
        return state


def _call(item: HistoryItem, output: HistoryItem | None) -> FunctionCall:
    return FunctionCall(
        call_id=item.call_id or "",
        name=item.name or "",
        arguments=item.arguments or "",
        item_id=item.id,
        output=None if output is None else output.output or "",
        output_item_id=None if output is None else output.id,
    )

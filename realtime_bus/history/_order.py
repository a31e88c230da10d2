"""The order of a conversation's items, from what each of them followed when it was added.

The rules
---------
* An item stands directly behind its predecessor, before whatever followed that one until then:
  so the items are a tree, in which the newest child comes first, and the conversation is that
  tree read from the top. No link means: first.
* An item whose predecessor is not known waits behind everything else, with all that follows it,
  until the predecessor comes.
* A deleted item keeps its place, unseen: what still links to it finds it there. One that is
  added again moves to its new place; what followed it stays where it was.
* The first link counts. One that would make a circle counts as none, and the item is appended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

ROOT = "root"
"""What stands before the first item; the protocol reserves the name."""


class Order:
    """Ids in conversation order."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}
        self._behind: dict[str, list[str]] = {}  # oldest first
        self._gone: set[str] = set()
        self._tail = ROOT  # on the way from the top to the last item, the oldest child each time
        self._read: tuple[str, ...] | None = ()

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._before and item_id not in self._gone

    def __len__(self) -> int:
        return len(self._before) - len(self._gone)

    def __iter__(self) -> Iterator[str]:
        if self._read is None:
            self._read = tuple(i for i in self._walk() if i not in self._gone)
        return iter(self._read)

    def was_deleted(self, item_id: str) -> bool:
        """Tell whether an item was here and is no more."""
        return item_id in self._gone

    def place(self, item_id: str, after: str | None) -> None:
        """Put an item behind another one, or first if that is None.

        An item that is here already stays where it is.
        """
        if item_id in self or item_id == ROOT:
            return
        if item_id in self._gone:
            self._take_out(item_id)
        before = after or ROOT
        self._link(item_id, self._last() if self._circular(item_id, before) else before)

    def append(self, item_id: str) -> None:
        """Put an item last: for servers that do not say what it follows."""
        self.place(item_id, self._last())

    def delete(self, item_id: str) -> None:
        """Make an item unseen."""
        if item_id in self:
            self._gone.add(item_id)
            self._read = None

    def links(self) -> list[tuple[str, str]]:
        """Return every item, deleted ones too, with what it followed: `restore` takes it."""
        return [(child, before) for before, behind in self._behind.items() for child in behind]

    @classmethod
    def restore(cls, links: Iterable[tuple[str, str]], *, alive: Iterable[str]) -> Order:
        """Return the order that `links` came from.

        Args:
            links: From `links`.
            alive: The ids that were not deleted.
        """
        order = cls()
        for item_id, before in links:
            order.place(item_id, before)
        order._gone = order._before.keys() - set(alive)
        order._read = None
        return order

    # the tree

    def _link(self, item_id: str, before: str) -> None:
        self._before[item_id] = before
        self._behind.setdefault(before, []).append(item_id)
        self._read = None

    def _take_out(self, item_id: str) -> None:
        """Forget a deleted item; what follows it takes its place."""
        before = self._before.pop(item_id)
        siblings, children = self._behind[before], self._behind.pop(item_id, [])
        index = siblings.index(item_id)
        siblings[index : index + 1] = children
        if not siblings:
            del self._behind[before]
        self._before.update(dict.fromkeys(children, before))
        self._tail = ROOT
        self._gone.discard(item_id)

    def _circular(self, item_id: str, before: str) -> bool:
        if item_id not in self._behind:  # nothing follows it, so it can follow anything else
            return item_id == before
        step: str | None = before
        while step is not None and step != item_id:
            step = self._before.get(step)
        return step == item_id

    def _last(self) -> str:
        """Return the last item: the newest children come first, so it is the oldest one's oldest.

        New children are never the oldest, so it goes on from where it was found before.
        """
        while behind := self._behind.get(self._tail):
            self._tail = behind[0]
        return self._tail

    def _walk(self) -> Iterator[str]:
        yield from self._below(ROOT)
        for before in self._behind:
            if before != ROOT and before not in self._before:
                yield from self._below(before)

    def _below(self, top: str) -> Iterator[str]:
        stack = list(self._behind.get(top, ()))
        while stack:
            item_id = stack.pop()
            yield item_id
            stack.extend(self._behind.get(item_id, ()))

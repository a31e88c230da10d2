"""What state machines remember: so much, and no more, whatever a server makes up.

A file of its own, for every plugin's machine keys something by ids that the other side chooses.
"""

from __future__ import annotations

from typing import TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class Recent(dict[_K, _V]):
    """A dict that forgets its oldest key when a new one is too many.

    Only ``recent[key] = value`` keeps to the bound.

    Args:
        limit: How many keys are remembered.

    Attributes:
        forgotten: How many were not.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.forgotten = 0
        self._limit = limit

    def __setitem__(self, key: _K, value: _V) -> None:
        if len(self) >= self._limit and key not in self:
            del self[next(iter(self))]
            self.forgotten += 1
        super().__setitem__(key, value)

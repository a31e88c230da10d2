"""The second stage of an injector: events overtake each other, where the protocol lets them.

The rules
---------
* Nothing overtakes ``session.created``.
* ``rate_limits.updated`` has no fixed place.
* The transcription of an item has none after the item was committed: it keeps its order with
  itself and with all events that name its item, and with nothing else.
* A response out of band runs beside the conversation: its events keep their order with each other,
  and ``response.created`` with all answers to requests. (It is known by ``response.created``, so
  that a response of which none came counts as one of the conversation.)
* Of one item: its audio and its transcript come side by side, delta by delta, and their ``done``
  in either order; so do the ``added`` of conversation and response, and their ``done``.
* Everything else keeps its order. A frame that cannot be read, and an event of an unknown type,
  keep their place.

Source: Realtime protocol, ordering.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

import msgspec

from realtime_bus.events import REALTIME

_TRANSCRIPTION = "conversation.item.input_audio_transcription."
_SIDE_BY_SIDE: frozenset[frozenset[str]] = frozenset(
    frozenset(pair)
    for pair in (
        ("response.output_audio.delta", "response.output_audio_transcript.delta"),
        ("response.output_audio.done", "response.output_audio_transcript.done"),
        ("conversation.item.added", "response.output_item.added"),
        ("conversation.item.done", "response.output_item.done"),
    )
)


class _Named(msgspec.Struct):
    id: str | None = None
    conversation_id: str | None = None
    status: str | None = None


class Told(msgspec.Struct):
    """What an event is about, as far as order goes.

    Attributes:
        type: Its wire name.
        response_id: Of an event of a response.
        item_id: Of an event of an item.
        item: The item, where the event shows it.
        response: The response, where the event shows it.
    """

    type: str
    response_id: str | None = None
    item_id: str | None = None
    item: _Named | None = None
    response: _Named | None = None

    @property
    def about_response(self) -> str | None:
        """The id of its response."""
        return self.response.id if self.response is not None else self.response_id

    @property
    def about_item(self) -> str | None:
        """The id of its item."""
        return self.item.id if self.item is not None else self.item_id


_TOLD = msgspec.json.Decoder(Told)


def told(frame: bytes) -> Told | None:
    """Return what an event is about; None if that cannot be read."""
    try:
        return _TOLD.decode(frame)
    except (ValueError, RecursionError):
        return None


def may_overtake(later: Told | None, earlier: Told | None, beside: AbstractSet[str]) -> bool:
    """Tell whether an event that is sent later may come first.

    Args:
        later: The one.
        earlier: The other.
        beside: The ids of the responses out of band.
    """
    if earlier is None or later is None or not {earlier.type, later.type} <= set(REALTIME.server):
        return False
    if earlier.type == "session.created":
        return False
    if "rate_limits.updated" in (earlier.type, later.type):
        return earlier.type != later.type
    if _TRANSCRIPTION in (earlier.type[: len(_TRANSCRIPTION)], later.type[: len(_TRANSCRIPTION)]):
        return earlier.about_item != later.about_item
    if frozenset((earlier.type, later.type)) in _SIDE_BY_SIDE:
        return earlier.about_item == later.about_item
    ids = {earlier.about_response, later.about_response}
    created = "response.created" in (earlier.type, later.type)
    return len(ids) == 2 and not created and not beside.isdisjoint(ids)


class _Held(msgspec.Struct):
    """A frame that lets others overtake it."""

    frame: bytes
    about: Told | None
    on_overtaken: Callable[[], object]
    until_s: float
    room: int


class Overtaking:
    """Frames in, frames out in an order that the protocol allows, too."""

    def __init__(self) -> None:
        self._held: list[_Held] = []
        self._beside: set[str] = set()

    def take(self, frame: bytes) -> list[bytes]:
        """Take a frame, and return what goes on: it, before or behind those that waited."""
        about = self._read(frame)
        passed = self._stop_for(about)
        passed.append(frame)
        for held in list(self._held):
            held.on_overtaken()
            held.room -= 1
            if not held.room:
                self._held.remove(held)
                passed.append(held.frame)
        return passed

    def hold(
        self, frame: bytes, *, events: int, until_s: float, on_overtaken: Callable[[], object]
    ) -> list[bytes]:
        """Have a frame wait; return what it must not overtake itself.

        Args:
            frame: Which.
            events: How many may overtake it.
            until_s: When it goes on in any case.
            on_overtaken: Called for each that does.
        """
        about = self._read(frame)
        passed = self._stop_for(about)
        self._held.append(_Held(frame, about, on_overtaken, until_s, events))
        return passed

    def due(self, now_s: float) -> list[bytes]:
        """Return what has waited long enough."""
        due = [held for held in self._held if held.until_s <= now_s]
        self._held = [held for held in self._held if held.until_s > now_s]
        return [held.frame for held in due]

    def next_deadline(self) -> float | None:
        """Return when something will have waited long enough."""
        return min((held.until_s for held in self._held), default=None)

    @property
    def held_bytes(self) -> int:
        """How much waits."""
        return sum(len(held.frame) for held in self._held)

    def _read(self, frame: bytes) -> Told | None:
        about = told(frame)
        if about is None or about.type != "response.created" or about.response is None:
            return about
        if about.response.id is not None and about.response.conversation_id is None:
            self._beside.add(about.response.id)
        return about

    def _stop_for(self, about: Told | None) -> list[bytes]:
        """Let those go on that must come before this one."""
        stopped = [held for held in self._held if not may_overtake(about, held.about, self._beside)]
        self._held = [held for held in self._held if held not in stopped]
        return [held.frame for held in stopped]

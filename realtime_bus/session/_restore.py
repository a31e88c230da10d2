"""What a new connection is told, so that a conversation goes on there. Pure: no clock, no tasks.

Rules (Realtime protocol, 1.5: there is no resume; a new connection is an empty conversation):

1. The settings come first: all that the server has confirmed, merged.
2. Then the items, in order, under the ids that they had. The first one shows whether the server
   takes our ids; one that says nothing for a while is believed to. Where it gives others,
   `ItemNames` translates both ways from then on, so that an application keeps those it knows.
3. What was said is told as text: of a user's audio its transcript, of an answer that was cut off
   what was heard of it. Audio itself cannot be given back, nor a call that was not written to its
   end, nor what an MCP server did: they are lost, and told.
4. An answer to a command of the restoration is seen by nobody else. All else waits until the
   connection has taken over.
5. What the conversation has won or lost meanwhile is made up for by `update`.
6. Items go as fast as the line takes them: while it has no room, the next ones wait for an answer
   to those before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import msgspec

from realtime_bus import events as ev
from realtime_bus.errors import RequestRejected
from realtime_bus.events import translation
from realtime_bus.history import HistoryItem, HistoryPart

from ._requests import SEEN as ANSWERS
from ._requests import Pending, Requests, error_details

_CREATED = (ev.SessionCreated, translation.SessionCreated)
_UPDATED = (ev.SessionUpdated, translation.SessionUpdated)
_ITEMS = (ev.ConversationItemAdded, ev.ConversationItemCreated, ev.ConversationItemDone)
_NO_TRANSCRIPT = "audio without a transcript cannot be given back"


def as_item(item: HistoryItem) -> ev.Item | str:
    """Return an item as a client may create it, or why that cannot be."""
    make = _MAKERS.get(item.type)
    return f"a client cannot create an item of type {item.type}" if make is None else make(item)


def _message(item: HistoryItem) -> ev.Item | str:
    spoken = [part for part in item.parts if part.kind == "audio"]
    if item.role == "assistant":
        words = " ".join(filter(None, map(_heard, item.parts)))
        if not words:
            unheard = bool(item.text)
            return "nothing of it was heard" if unheard else "nothing of it was received"
        return ev.MessageItem(role="assistant", content=[ev.OutputText(text=words)])
    texts = [part.text for part in item.parts if part.text]
    if not texts:
        return _NO_TRANSCRIPT if spoken else "it has no text"
    role: Any = item.role or "user"
    content: list[ev.ContentPart] = [ev.InputText(text=text) for text in texts]
    return ev.MessageItem(role=role, content=content)


def _heard(part: HistoryPart) -> str | None:
    """Return what was heard; all that was received, if it was cut and nobody knows its length."""
    unknown = part.heard_ms and part.generated_ms is None
    return part.text if unknown else part.estimated_heard_text


def _call(item: HistoryItem) -> ev.Item | str:
    if item.status in ("in_progress", "incomplete"):
        return "the call was not written to its end"
    return ev.FunctionCallItem(
        call_id=item.call_id, name=item.name or "", arguments=item.arguments or ""
    )


def _output(item: HistoryItem) -> ev.Item | str:
    return ev.FunctionCallOutputItem(call_id=item.call_id or "", output=item.output or "")


_MAKERS: dict[str, Callable[[HistoryItem], ev.Item | str]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _output,
}


def missing_parts(item: HistoryItem) -> list[ev.Lost]:
    """Return what of an item that can be restored cannot."""

    def why(part: HistoryPart) -> str | None:
        if part.kind == "image":
            return "an image is not kept"
        return _NO_TRANSCRIPT if part.kind == "audio" and not part.text else None

    reasons = filter(None, map(why, item.parts))
    return [ev.Lost(what="item", id=item.id, why=reason) for reason in reasons]


class ItemNames:
    """Ids where a server has others than those that the application knows; of items, mostly."""

    def __init__(self) -> None:
        self._there: dict[str, str] = {}  # by our id
        self._here: dict[str, str] = {}  # by the server's

    def __bool__(self) -> bool:
        return bool(self._there)

    @property
    def known(self) -> dict[str, str]:
        """Our ids, by the server's."""
        return dict(self._here)

    def add(self, here: str, there: str) -> None:
        """Note what the server calls an item."""
        self._there[here] = there
        self._here[there] = here

    def there(self, item_id: str) -> str:
        """Return what the server calls an item."""
        return self._there.get(item_id, item_id)

    def outward(self, event: Any) -> Any:
        """Return a command in the server's ids."""
        return _renamed(event, self._there)

    def inward(self, event: Any) -> Any:
        """Return an event in our ids."""
        return _renamed(event, self._here)


def _renamed(event: Any, names: dict[str, str]) -> Any:
    """Replace ids wherever an event names items, or a response."""
    changes: dict[str, Any] = {}
    for field in ("item_id", "previous_item_id", "response_id"):
        found = getattr(event, field, None)
        if isinstance(found, str) and found in names:
            changes[field] = names[found]
    item = getattr(event, "item", None)
    if item is not None and (named := _named(item, names)) is not item:
        changes["item"] = named
    if isinstance(event, ev.ResponseCreate) and event.response is not None:
        given = event.response.input
        if isinstance(given, list):
            renamed = [_named(each, names) for each in given]
            changes["response"] = msgspec.structs.replace(event.response, input=renamed)
    elif isinstance(response := getattr(event, "response", None), ev.Response):
        made: list[Any] | msgspec.UnsetType | None = response.output
        if isinstance(made, list):  # it may be in whatever state
            made = [_named(each, names) for each in made]
        changes["response"] = msgspec.structs.replace(_named(response, names), output=made)
    return msgspec.structs.replace(event, **changes) if changes else event


def _named(item: Any, names: dict[str, str]) -> Any:
    """Return an item or response, as read in whatever state, under its other id if it has one."""
    item_id = getattr(item, "id", None)
    if isinstance(item, msgspec.Struct) and isinstance(item_id, str) and item_id in names:
        return msgspec.structs.replace(item, id=names[item_id])
    return item


class Restoration:
    """Tells one connection all that it needs, and what became of it.

    Args:
        settings: The settings request to begin with, or None.
        items: The conversation.
        send: Sends a command on that connection.
        has_room: Tells whether little enough is unsent there.
        next_event_id: Makes ids for commands.

    Attributes:
        created: What the server said first, once it has.
        updated: The settings that it has confirmed last.
        error: What it complained about last.
        names: What it calls the items.
        restored: Ids of the items that it has, in the order of their confirmation.
        lost: What it could not be given.
        given: What it was sent of each item, by our id; also where it was refused.
        unfinished: The server's ids of items whose ``conversation.item.done`` may still come.
    """

    def __init__(
        self,
        settings: Any,
        items: Iterable[HistoryItem],
        *,
        send: Callable[[ev.ClientEvent], None],
        has_room: Callable[[], bool],
        next_event_id: Callable[[], str],
    ) -> None:
        self.created: Any = None
        self.updated: Any = None
        self.error: ev.ErrorDetails | None = None
        self.names: ItemNames = ItemNames()
        self.restored: list[str] = []
        self.lost: list[ev.Lost] = []
        self.given: dict[str, ev.Item] = {}
        self.unfinished: set[str] = set()
        self._settings = settings
        self._items = list(items)
        self._send = send
        self._has_room = has_room
        self._next_event_id = next_event_id
        self._requests = Requests()
        self._open: dict[Pending, str] = {}  # unanswered, by what they are about
        self._waiting: list[tuple[str, Any, str | None]] = []  # to be sent behind the first one
        self._takes_ids: bool | None = None  # whether the server takes our ids; None: unknown

    @property
    def done(self) -> bool:
        """Whether everything was sent and answered."""
        return self.created is not None and not self._open and not self._waiting

    def see(self, event: Any) -> bool:
        """Look at what the connection's server says; return whether it concerns nobody else."""
        if isinstance(event, _CREATED):
            if self.created is None:  # said again, it begins nothing
                self.created = event
                self._begin()
            return True
        if isinstance(event, ev.Error):
            self.error = error_details(event)
        before = len(self._open)
        if isinstance(event, ANSWERS):
            self._requests.observe(event)
        if isinstance(event, _UPDATED):
            self.updated = event
            return True
        item_id = getattr(getattr(event, "item", None), "id", None)
        known = isinstance(item_id, str) and item_id in self.unfinished
        if isinstance(event, ev.ConversationItemDone) and known:
            self.unfinished.discard(item_id)
        return (known and isinstance(event, _ITEMS)) or len(self._open) != before

    def update(self, items: Iterable[HistoryItem]) -> None:
        """Make up for what has changed in the conversation since its items were given."""
        now = list(items)
        self._create(now, links=True)
        kept = {item.id for item in now}
        for item_id in [each for each in self.restored if each not in kept]:
            self.restored.remove(item_id)
            command = ev.ConversationItemDelete(
                event_id=self._next_event_id(), item_id=self.names.there(item_id)
            )
            self._ask(command, item_id, lambda _pending: None)

    def hurry(self) -> None:
        """Wait no more for the first item to show whether ids are taken: it may never do."""
        if self._takes_ids is None and self._waiting:
            self._takes_ids = True
            self._send_items()

    def give_up(self) -> None:
        """Wait for no more answers: what is unanswered counts as lost."""
        open_, waiting = self._open, self._waiting
        self._open, self._waiting = {}, []
        unanswered = [*open_.values(), *(item_id for item_id, _, _ in waiting)]
        for pending in open_:
            self._requests.abandon(pending)
        for item_id in unanswered:
            what: Any = "item" if item_id else "settings"
            self.lost.append(ev.Lost(what=what, id=item_id, why="the server did not confirm it"))

    def _begin(self) -> None:
        if self._settings is not None:
            is_translation = isinstance(self._settings, translation.TranslationSessionRequest)
            update: Any = translation.SessionUpdate if is_translation else ev.SessionUpdate
            command = update(event_id=self._next_event_id(), session=self._settings)
            self._ask(command, "", self._settings_answered)
        self._create(self._items)

    def _create(self, items: Iterable[HistoryItem], *, links: bool = False) -> None:
        """Create the items that the server has not; with links, each where it belongs."""
        before, restored = "root", set(self.restored)
        for item in items:
            if item.id not in self.given:
                self.lost = [lost for lost in self.lost if lost.id != item.id]
                made = as_item(item)
                if isinstance(made, str):
                    self.lost.append(ev.Lost(what="item", id=item.id, why=made))
                    continue
                self.lost += missing_parts(item)
                self.given[item.id] = made
                self._waiting.append((item.id, made, before if links else None))
            elif item.id not in restored:
                continue  # it was refused: nothing can stand behind it
            before = item.id
        self._send_items()

    def _send_items(self) -> None:
        """Send what waits and has room; the first one alone, to see whether ids are taken."""
        while self._waiting:
            at_once = self._takes_ids is not None and self._has_room()
            if any(self._open.values()) and not at_once:
                return
            item_id, item, before = self._waiting.pop(0)
            own_id = None if self._takes_ids is False else item_id
            command = ev.ConversationItemCreate(
                event_id=self._next_event_id(),
                item=msgspec.structs.replace(item, id=own_id),
                previous_item_id=None if before is None else self.names.there(before),
            )
            self._ask(command, item_id, partial(self._item_answered, item_id, item, before))

    def _ask(
        self, command: ev.ClientEvent, about: str, answered: Callable[[Pending], None]
    ) -> None:
        pending = Pending(command)

        def settled() -> None:
            del self._open[pending]
            answered(pending)

        pending.on_settled = settled
        self._open[pending] = about
        self._requests.expect(pending)
        self._requests.sent(command, command)
        self._send(command)

    def _settings_answered(self, pending: Pending) -> None:
        if pending.error is not None:
            self.lost.append(ev.Lost(what="settings", why=str(pending.error)))

    def _item_answered(
        self, item_id: str, item: ev.Item, before: str | None, pending: Pending
    ) -> None:
        error, answer = pending.error, cast("Any", pending.answer)
        if answer is not None:
            there = answer.item.id if isinstance(answer.item.id, str) else item_id
            self._takes_ids = there == item_id
            if there != item_id:
                self.names.add(item_id, there)
            self.restored.append(item_id)
            self.unfinished.add(there)
        elif self._takes_ids is None and _refuses_id(error):
            self._takes_ids = False
            self._waiting.insert(0, (item_id, item, before))
        else:
            self.lost.append(ev.Lost(what="item", id=item_id, why=str(error)))
        self._send_items()


def _refuses_id(error: Exception | None) -> bool:
    return isinstance(error, RequestRejected) and str(error.param or "").endswith("id")

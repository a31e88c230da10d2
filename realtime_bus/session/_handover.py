"""How a session goes over to another connection, and what is translated for it from then on.

Rules:

1. What was under way is sent again: settings, new and deleted items, and what waited in the gap. A
   cancel is not: there is nothing left to cancel.
2. Where the server gives items other ids than ours, handlers see ours and the server its own.
3. A truncation of an item that the server was given back as text replaces that text by what was
   heard of it: there is no audio to cut. It is confirmed in the place of the server.
4. What the server makes itself may have an id that something else had on an earlier connection: it
   gets one of its own here, as long as nobody but the server has named it.
5. A connection that was replaced may still bring transcripts, and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from realtime_bus import events as ev
from realtime_bus.codec import decode, narrow
from realtime_bus.errors import CloseInfo, ConnectionLost, TransportClosed
from realtime_bus.events import WireProtocol
from realtime_bus.history import HistoryState
from realtime_bus.routing import Drifted

from ._conversation import ConversationState
from ._link import Connection
from ._pipeline import Pipeline
from ._requests import Requests, lost_with
from ._responses import Responses
from ._restore import ItemNames, Restoration, as_item
from ._settings import ActiveSettings

MAX_HELD_BYTES = 16 * 1024 * 1024
"""Of what a server says before it has taken over."""

_ITEMS = (ev.ConversationItemAdded, ev.ConversationItemCreated, ev.ConversationItemDone)
_MADE: dict[type, Callable[[Any], Any]] = {
    ev.ResponseCreated: lambda event: event.response,
    ev.ResponseDone: lambda event: event.response,
    ev.ResponseOutputItemAdded: lambda event: event.item,
    ev.ConversationItemAdded: lambda event: event.item,
    ev.ConversationItemCreated: lambda event: event.item,
    ev.ConversationItemDone: lambda event: event.item,
}
_SPOKEN = (ev.InputAudioBufferSpeechStarted, ev.InputAudioBufferCommitted)
_LATE = (
    ev.ConversationItemInputAudioTranscriptionDelta,
    ev.ConversationItemInputAudioTranscriptionCompleted,
    ev.ConversationItemInputAudioTranscriptionFailed,
    ev.ConversationItemInputAudioTranscriptionSegment,
)


class Parts(NamedTuple):
    """What of a session takes part when its connection is replaced.

    Attributes:
        pipeline: Frames in, commands out.
        conversation: What is active, and who speaks.
        requests: Who waits for which answer.
        responses: Those under way.
        history: What was said, or None if that is not kept.
        busy: Tell whether somebody is, such as a loudspeaker.
        config: Returns what the server says is in force.
        settings: Returns the same through typed accessors.
        accept: Takes a connection's ``session.created`` and ``session.updated``.
        next_event_id: Makes ids for commands.
        next_item_id: Makes ids for items.
    """

    pipeline: Pipeline
    conversation: ConversationState
    requests: Requests
    responses: Responses
    history: HistoryState | None
    busy: list[Callable[[], bool]]
    config: Callable[[], Any]
    settings: Callable[[], ActiveSettings]
    accept: Callable[[Any], None]
    next_event_id: Callable[[], str]
    next_item_id: Callable[[], str]

    @property
    def disconnected(self) -> bool:
        """Whether the session has no connection at the moment."""
        return self.pipeline.link.gap is not None and self.pipeline.lifecycle.close_info is None


class Held:
    """Frames of a connection that has not taken over yet."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.size_bytes: int = 0

    def put(self, frame: bytes) -> None:
        """Keep a frame for later."""
        self.frames.append(frame)
        self.size_bytes += len(frame)

    @property
    def too_much(self) -> bool:
        """Whether the server says more than anybody keeps."""
        return self.size_bytes > MAX_HELD_BYTES


class Standby(NamedTuple):
    """A connection that could take over."""

    connection: Connection
    restoration: Restoration
    held: Held
    url: str


class Handover:
    """Puts one connection in the place of another, and translates for it from then on.

    Args:
        parts: What takes note: the session's.
        protocol: What is spoken.
        restores: Whether the server forgets: in a call's sideband the conversation lives on.
    """

    def __init__(self, parts: Parts, protocol: WireProtocol, *, restores: bool) -> None:
        self._parts = parts
        self._protocol = protocol
        self._restores = restores
        self._link = parts.pipeline.link
        self._names = ItemNames()
        self._given: dict[str, Any] = {}  # what the server was given back of each item, as text
        self._hidden: dict[str, tuple[type, ...]] = {}  # what handlers do not see, by its id there
        self._taken: set[str] = set()  # ids of what the server does not know
        parts.pipeline.outgoing.on_sent((ev.ConversationItemCreate,), self._named_by_us)

    def items(self) -> list[Any]:
        """Return what the next server must know of the conversation."""
        history = self._parts.history
        return [] if history is None or not self._restores else list(history)

    def exchange(self, standby: Standby) -> Connection:
        """Put a connection in the place of the current one, and return that one."""
        parts, restoration = self._parts, standby.restoration
        standby.connection.deliver = standby.held.put  # until the takeover is over
        before = self._link.replace(standby.connection)
        before.deliver = partial(self._late, self._names)
        parts.pipeline.start_soon(before.aclose)
        self._names = restoration.names
        self._hidden = dict.fromkeys(restoration.unfinished, (ev.ConversationItemDone,))
        self._given = {item_id: restoration.given[item_id] for item_id in restoration.restored}
        known = {*parts.conversation.responses, *parts.conversation.items}
        self._taken = known - set(map(self._names.there, self._given)) if self._restores else set()
        parts.pipeline.outgoing.names = self._names or None
        self._link.named(self._names.known)
        if self._restores:
            parts.conversation.restored(self._given)
            parts.requests.restored(self._given)
            if parts.history is not None:
                parts.history.restored(self._given)
        for event in (restoration.created, restoration.updated):
            if event is not None:
                parts.accept(event)
        parts.pipeline.outgoing.intercept_last(ev.ConversationItemTruncate, self._truncate)
        parts.pipeline.route_through(self._inward)
        return before

    def send_on(self, again: Sequence[Any], waiting: Sequence[Any], close: CloseInfo) -> list[Any]:
        """Send what the last connection left; return the truncations of what was given back."""
        for item_id in [*self._given]:
            self._bring_up_to_date(item_id)
        cuts: list[Any] = []
        for event in (*again, *waiting):
            self._named_by_us(event, event)
            if isinstance(event, ev.ConversationItemTruncate) and event.item_id in self._given:
                cuts.append(event)
            elif isinstance(event, ev.ResponseCancel):  # there is nothing left to cancel
                self._parts.requests.fail(event, lost_with(event, close))
            elif not isinstance(event, ev.ResponseCreate):
                try:
                    self._parts.pipeline.outgoing.send_again(event)
                except ConnectionLost as error:  # this one is lost already, and too much waits
                    self._parts.requests.fail(event, error)
                except TransportClosed:
                    break  # the session is about to end, and to tell whoever waits
        return cuts

    @property
    def can_answer(self) -> bool:
        """Whether the server knows what somebody said last."""
        spoken = [item.id for item in self.items() if item.role == "user"]
        return bool(spoken) and spoken[-1] in self._given

    # --- what has changed for whoever knows the last connection ------------------------------

    def _inward(self, route: Callable[[Any], None]) -> Callable[[Any], None] | None:
        """Return what stands before routing; None if nothing needs to."""
        names, hidden, taken = self._names, self._hidden, self._taken
        if not (names or hidden or taken):
            return None

        def through(event: Any) -> None:
            narrowed: Any = event.narrowed if isinstance(event, Drifted) else event
            if hidden and self._is_hidden(narrowed):
                self._link.aside(self._parts.pipeline.frame, False)
                if not hidden:
                    self._parts.pipeline.route_through(self._inward)
                return
            if taken:
                self._tell_apart(narrowed)
            if not names:
                route(event)
            elif isinstance(event, Drifted):
                route(Drifted(*map(names.inward, event)))
            else:
                route(names.inward(event))

        return through

    def _tell_apart(self, event: Any) -> None:
        """Give what the server begins an id of its own, if something else has had that (rule 4)."""
        made = _MADE.get(event.__class__)
        if made is not None:
            found = getattr(made(event), "id", None)
        else:
            found = event.item_id if isinstance(event, _SPOKEN) else None
        if isinstance(found, str) and found in self._taken:
            self._taken.discard(found)
            # not as our items are called: it may be the answer to the creation of one
            self._names.add(f"{found}_{self._parts.next_event_id()}", found)
            self._parts.pipeline.outgoing.names = self._names
            self._link.named(self._names.known)

    def _named_by_us(self, event: Any, _sent: object) -> None:
        """Note that an item of ours is to have its id again."""
        if isinstance(event, ev.ConversationItemCreate):
            self._taken.discard(event.item.id or "")

    def _is_hidden(self, event: Any) -> bool:
        """Tell whether an event only says what became of an item that was given back."""
        deleted = isinstance(event, ev.ConversationItemDeleted)
        named: Any = event if deleted else getattr(event, "item", None)
        item_id: Any = getattr(named, "item_id" if deleted else "id", None)
        kinds = self._hidden.get(item_id) if isinstance(item_id, str) else None
        if kinds is None or not isinstance(event, kinds):
            return False
        if isinstance(event, kinds[-1]):
            del self._hidden[item_id]
        return True

    def _late(self, names: ItemNames, frame: bytes) -> None:
        """Take what a connection still brings that was replaced: transcripts alone."""
        self._link.aside(frame, False)
        event = narrow(decode(frame, protocol=self._protocol.name))
        if isinstance(event, _LATE):
            self._parts.pipeline.emit(names.inward(event))

    def _truncate(self, event: ev.ConversationItemTruncate, _session: object) -> Any:
        """Cut an item that was given back as text, by giving back less of it (rule 3)."""
        if event.item_id not in self._given or self._parts.disconnected:
            return event
        self._parts.requests.sent(event, event)
        self.cut(event)
        return None

    def cut(self, event: ev.ConversationItemTruncate) -> None:
        """Confirm a truncation in the place of the server."""
        cut = ev.ConversationItemTruncated(
            item_id=event.item_id,
            content_index=event.content_index,
            audio_end_ms=event.audio_end_ms,
        )
        self._parts.pipeline.emit(cut)
        self._bring_up_to_date(event.item_id)

    def _bring_up_to_date(self, item_id: str) -> None:
        """Replace an item that was given back, if it has changed since: it was cut off."""
        history, parts = self._parts.history, self._parts
        item = None if history is None else history.get(item_id)
        made: Any = None if item is None else as_item(item)
        if history is None or item is None or made == self._given[item_id]:
            return
        del self._given[item_id]
        delete = ev.ConversationItemDelete(event_id=parts.next_event_id(), item_id=item_id)
        if isinstance(made, str):  # nothing of it was heard: it is gone, for handlers too
            self._tell(delete)
            return
        before, there = self._names.there(item_id), parts.next_item_id()
        self._hidden[before] = (*self._hidden.get(before, ()), ev.ConversationItemDeleted)
        self._hidden[there] = _ITEMS
        parts.pipeline.route_through(self._inward)
        self._tell(
            ev.ConversationItemCreate(
                event_id=parts.next_event_id(),
                item=msgspec.structs.replace(made, id=there),
                previous_item_id=item_id,  # behind the one that it replaces: that is surely there
            )
        )
        self._tell(delete)
        self._given[item_id] = made
        self._names.add(item_id, there)
        parts.pipeline.outgoing.names = self._names
        self._link.named(self._names.known)
        parts.pipeline.route_through(self._inward)

    def _tell(self, command: ev.ClientEvent) -> None:
        """Send a command of nobody's; if the connection is lost, the next one is told anyway."""
        frame = self._parts.pipeline.outgoing.encode(command)
        self._link.aside(frame, True)
        try:
            self._link.connection.transport.send(frame)
        except TransportClosed:
            return

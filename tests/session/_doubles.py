"""Servers with a memory as short as their connection, and sessions that outlive them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from realtime_bus import Bus, Reconnect, Session
from realtime_bus import events as ev
from realtime_bus.transport import Transport

from ..bus._peer import Peer, quiet  # noqa: TID252  # tests are no package with a name of its own

AT_ONCE = Reconnect(first_delay_s=0.0, max_delay_s=0.0)
URL = "ws://127.0.0.1:9/v1/realtime?model=m"


class Double(Peer):
    """A server with a memory as short as its connection; it confirms what it is asked for."""

    def __init__(self, number: int, *, ids: Callable[[str], str] = str, **session: Any) -> None:
        super().__init__(self._confirm)
        self._ids = ids
        self.items: list[Any] = []
        self.settings: Any = None
        self.silent = False
        created = ev.RealtimeSession(id=f"sess_{number}", **session)
        self.say(ev.SessionCreated(session=created))

    def _confirm(self, event: Any) -> list[ev.ServerEvent]:
        if self.silent:
            return []
        if isinstance(event, ev.SessionUpdate):
            self.settings = event.session
            return [ev.SessionUpdated(session=ev.RealtimeSession(id="s"))]
        if isinstance(event, ev.ConversationItemCreate):
            return self.add(event.item, event.previous_item_id)
        if isinstance(event, ev.ConversationItemDelete):
            self.items = [item for item in self.items if item.id != event.item_id]
            return [ev.ConversationItemDeleted(item_id=event.item_id)]
        return []

    def add(self, item: Any, after: str | None = None) -> list[ev.ServerEvent]:
        """Take an item into the conversation, and say so."""
        ids = [each.id for each in self.items]
        position = len(ids) if after is None else 0 if after == "root" else ids.index(after) + 1
        before = ids[position - 1] if position else None
        there = self._ids(item.id or f"item_srv_{len(ids)}")
        kept: Any = type(item)(
            **{**{name: getattr(item, name) for name in item.__struct_fields__}, "id": there}
        )
        self.items.insert(position, kept)
        return [
            ev.ConversationItemAdded(item=kept, previous_item_id=before),
            ev.ConversationItemDone(item=kept, previous_item_id=before),
        ]

    def texts(self) -> list[str]:
        """Return what it knows of the conversation, a word or two for each item."""
        return [text_of(item) for item in self.items]

    def sent_types(self) -> list[str]:
        """Return the wire names of what it was sent."""
        return [event.type for event in self.sent]


def text_of(item: Any) -> str:
    if isinstance(item, ev.MessageItem):
        return " ".join(getattr(part, "text", "?") for part in item.content)
    return str(getattr(item, "output", None) or getattr(item, "name", None))


class Lines:
    """Answers calls: with one double after the other, or with exceptions."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.dialled: list[str] = []

    async def dial(self, url: str, **_options: Any) -> Transport:
        """Return the next double's transport, or raise."""
        self.dialled.append(url.split("//", 1)[1].split("/", 1)[0])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer.transport


@asynccontextmanager
async def calling(
    *answers: Any, bus: Bus | None = None, reconnect: Any = AT_ONCE, **settings: Any
) -> AsyncGenerator[tuple[Session, list[Any]]]:
    """Open a session on the first double; the others wait for their turn. Yields what is told."""
    told: list[Any] = []
    bus = bus or Bus()
    bus.on(ev.Reconnecting, ev.Reconnected, ev.ReconnectFailed)(told.append)
    lines = Lines(*answers)
    async with bus.connect(URL, dial=lines.dial, reconnect=reconnect, **settings) as session:
        yield session, told


async def reconnected(session: Session, first: Peer, code: int = 1006) -> ev.Reconnected:
    """Break the connection, and wait until another one has taken over."""
    found = session.wait_for(ev.Reconnected, timeout_s=5)
    first.hang_up(code)
    return await found


class Held(Lines):
    """Answers only when it is told to."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(*answers)
        self.open = anyio.Event()

    async def dial(self, url: str, **options: Any) -> Transport:
        """Wait, but for the first call."""
        if self.dialled:
            await self.open.wait()
        return await super().dial(url, **options)


@asynccontextmanager
async def gap(
    one: Double, two: Double, **policy: Any
) -> AsyncGenerator[tuple[Session, anyio.Event]]:
    """Open a session and break its connection; yields what lets it have the next one."""
    lines = Held(one, two)
    reconnect = Reconnect(first_delay_s=0.0, max_delay_s=0.0, **policy)
    async with Bus().connect(URL, dial=lines.dial, reconnect=reconnect) as session:
        await session.send_text("before")
        one.hang_up()
        await quiet()
        assert session.reconnecting
        yield session, lines.open

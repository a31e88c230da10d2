"""The connections of a replay, where the recording has several: each one's loss is lived through.

Rules:

1. A connection ends where the recording lost it, as it was lost. The session does what it does
   about that: replies fail, what is under way is asked for again.
2. The next one opens when the recording had the next one. It greets, and confirms what the session
   gives back to it. When it has taken over, the recording goes on over it.
3. What the library itself says to a server, past all taps, is not compared: it is not in the
   recording, or ``aside``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import anyio.lowlevel
import msgspec

from realtime_bus.codec._frame import parse_object
from realtime_bus.errors import CloseInfo
from realtime_bus.transport._buffers import Signal


class Feed(Protocol):
    """What a connection needs of its replay."""

    async def go_on(self, deliver: Callable[[bytes], None], /) -> CloseInfo:
        """Deliver what the recording has, until this connection's end."""
        ...

    def send(self, frame: bytes, /) -> None:
        """Take a command."""
        ...

    def is_tapped(self, frame: bytes, /) -> bool:
        """Tell whether taps have seen a command."""
        ...

    async def leave(self, connection: object, code: int, reason: str, /) -> None:
        """End the replay, if this is its connection at the moment."""
        ...

    def pause(self) -> None:
        """Hold what comes next."""
        ...

    def resume(self) -> None:
        """Deliver again."""
        ...


class ReplayedConnection:
    """One of the connections of a replay.

    Args:
        feed: The replay.
        greeting: The session that its server begins with, if it is not the first one.
    """

    def __init__(self, feed: Feed, greeting: dict[str, Any] | None = None) -> None:
        self._feed = feed
        self._greeting = greeting
        self._answers: deque[dict[str, Any]] = deque()
        self._changed = Signal()
        self._has_taken_over = greeting is None

    async def run(self, deliver: Callable[[bytes], None], /) -> CloseInfo:
        """Deliver the server's part of this connection."""
        if self._greeting is not None:
            self._answers.appendleft({"type": "session.created", "session": self._greeting})
        while self._answers or not self._has_taken_over:
            while self._answers:
                answer = {"event_id": "event_replayed", **self._answers.popleft()}
                deliver(msgspec.json.encode(answer))
            if not self._has_taken_over:
                await self._changed.wait()
        return await self._feed.go_on(deliver)

    def take_over(self) -> None:
        """Go on with the recording: the session has told this server all."""
        self._has_taken_over = True
        self._changed.notify()

    def send(self, frame: bytes, /) -> None:
        """Take a command, or confirm what is given back.

        Raises:
            TransportClosed: The replay is over.
        """
        if self._feed.is_tapped(frame):
            self._feed.send(frame)
        elif not self._has_taken_over:
            command = parse_object(frame)
            answer = _ANSWERS.get(str(command.get("type")))
            if answer is not None:
                self._answers.extend(answer(command, self._greeting or {}))
                self._changed.notify()

    async def drain(self) -> None:
        """Let others run: what was sent is taken at once."""
        await anyio.lowlevel.checkpoint()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """End the replay, unless another connection has taken over."""
        await self._feed.leave(self, code, reason)

    def pause(self) -> None:
        """Hold what comes next."""
        self._feed.pause()

    def resume(self) -> None:
        """Deliver again."""
        self._feed.resume()

    @property
    def buffered_bytes(self) -> int:
        """Always 0."""
        return 0


def _created(command: dict[str, Any], _session: dict[str, Any]) -> list[dict[str, Any]]:
    said = {"item": command.get("item"), "previous_item_id": command.get("previous_item_id")}
    return [{"type": f"conversation.item.{name}", **said} for name in ("added", "done")]


def _updated(_command: dict[str, Any], session: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "session.updated", "session": session}]


def _deleted(command: dict[str, Any], _session: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "conversation.item.deleted", "item_id": command.get("item_id")}]


_ANSWERS: dict[str, Callable[[dict[str, Any], dict[str, Any]], list[dict[str, Any]]]] = {
    "conversation.item.create": _created,
    "conversation.item.delete": _deleted,
    "session.update": _updated,
}

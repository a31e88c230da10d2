"""The way of a session's commands out.

Rules:

1. A command meets its interceptors, is checked and encoded, and then handed to the connection.
2. Whatever is answered in order is noted in that order, whoever sent it; what could not be sent is
   forgotten again.
3. It leaves with the ids that its server knows items by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from realtime_bus import events as ev
from realtime_bus.codec import encode
from realtime_bus.errors import UsageError
from realtime_bus.routing import OUTGOING, Interceptor, Router, check_interceptor, select

from ._lifecycle import Lifecycle
from ._link import Link
from ._restore import ItemNames

_Note = Callable[[Any, Any], None]  # of a command as it was given, and as it leaves
_Forget = Callable[[Any], None]


class Outgoing:
    """Commands out.

    Attributes:
        names: What the server calls items that it was given back; None if it took our ids.
        frames_sent: How many commands have left.
        bytes_sent: Their length, together.
    """

    def __init__(self, link: Link, lifecycle: Lifecycle, router: Router) -> None:
        self.names: ItemNames | None = None
        self.frames_sent: int = 0
        self.bytes_sent: int = 0
        self._link, self._lifecycle, self._router = link, lifecycle, router
        self._interceptors: dict[type[ev.Event], tuple[Interceptor, ...]] = {}
        self._restore: dict[type[ev.Event], Callable[[Any, Any], ev.ClientEvent]] = {}
        self._notes: dict[type[ev.Event], tuple[tuple[_Note, _Forget], ...]] = {}

    def send_nowait(self, event: ev.ClientEvent) -> bool:
        """Check a command, encode it and hand it to the connection, without waiting.

        Returns:
            Whether it was sent: False if an interceptor ended it.

        Raises:
            InvalidEvent: The server would refuse it; nothing was sent.
            UsageError: It is no client event.
            SessionClosed: The session has ended.
        """
        sent: Any = event
        for interceptor in self._interceptors.get(type(event), ()):
            sent = interceptor(sent, self._router.session)
            if sent is None:
                return False
        if not isinstance(sent, ev.ClientEvent):
            raise UsageError(f"{sent!r:.80} is not an event that a client sends")
        if sent is not event and type(sent) in self._restore:
            sent = self._restore[type(sent)](event, sent)
        frame = self.encode(sent)
        if self._lifecycle.close_info is not None:
            raise self._lifecycle.closed_error("send")
        notes = self._notes.get(type(sent), ())  # pyright: ignore[reportUnknownArgumentType]  # any class
        for note, _ in notes:
            note(event, sent)  # before it is sent: the answer may come at once
        try:
            self._link.send(frame, sent)
        except BaseException:
            for _, forget in notes:
                forget(sent)
            raise
        self.frames_sent += 1
        self.bytes_sent += len(frame)
        return True

    async def send(self, event: ev.ClientEvent) -> bool:
        """Send a command, and wait while too much is still unsent; see `send_nowait`."""
        sent = self.send_nowait(event)
        await self.drain()
        return sent

    async def drain(self) -> None:
        """Wait while too much is still unsent."""
        await self._link.drain()

    def encode(self, event: ev.ClientEvent) -> bytes:
        """Return a command as its server wants it.

        Raises:
            InvalidEvent: The server would refuse it.
        """
        return encode(event if self.names is None else self.names.outward(event))

    def send_again(self, event: ev.ClientEvent) -> None:
        """Send a command that was noted already, over another connection."""
        self._link.send(self.encode(event), event)

    def on_sent(
        self,
        classes: Iterable[type[ev.ClientEvent]],
        note: _Note,
        forget: _Forget = lambda _event: None,
    ) -> None:
        """Let a part of the session know what is sent, in order, and what could not be sent."""
        for cls in classes:
            self._notes[cls] = (*self._notes.get(cls, ()), (note, forget))

    def restore(
        self, cls: type[ev.ClientEvent], restored: Callable[[Any, Any], ev.ClientEvent]
    ) -> None:
        """Let a part of the session put back what it needs and an interceptor has left out."""
        self._restore[cls] = restored

    def intercept(self, selector: object, interceptor: Interceptor) -> None:
        """Let a function see commands before they are sent.

        Raises:
            UsageError: The selector stands for nothing, or the function cannot intercept.
        """
        check_interceptor(interceptor)
        for cls in select([selector], OUTGOING).classes:
            self._interceptors[cls] = (*self._interceptors.get(cls, ()), interceptor)

    def intercept_last(self, cls: type[ev.ClientEvent], interceptor: Interceptor) -> None:
        """Let a part of the session see commands behind all interceptors that are there now."""
        others = tuple(each for each in self._interceptors.get(cls, ()) if each != interceptor)
        self._interceptors[cls] = (*others, interceptor)

    def off(self, function: object) -> bool:
        """Take out an interceptor, and say whether it was there."""
        found = False
        for cls, chain in self._interceptors.items():
            found |= function in chain
            self._interceptors[cls] = tuple(each for each in chain if each != function)
        return found

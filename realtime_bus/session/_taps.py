"""What plugins see of a session's frames, and what they run their way in.

Rules:

1. Plugins stand around frames from the first one on, or not at all.
2. One that raises is reported and sees the next frame; this one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVarTuple, Unpack

from realtime_bus.errors import UsageError
from realtime_bus.events import Event
from realtime_bus.routing import Router, handler_name

from ._lifecycle import Lifecycle
from ._link import Link

_Seen = TypeVarTuple("_Seen")


class Taps:
    """Around the way of frames.

    Args:
        deliver: Takes a frame whose turn it is.
        report: Takes what raised, by the name of its function.

    Attributes:
        deliver: Takes a frame from the connection.
        around: Enters what the session's tasks begin in.
    """

    def __init__(
        self,
        deliver: Callable[[bytes], None],
        link: Link,
        lifecycle: Lifecycle,
        router: Router,
        report: Callable[[str, Event | None, BaseException], None],
    ) -> None:
        self.deliver: Callable[[bytes], None] = deliver
        self.around: Callable[[], AbstractContextManager[object]] = nullcontext
        self._link, self._lifecycle, self._router = link, lifecycle, router
        self._report = report

    def tap(
        self,
        received: Callable[[bytes], object] | None,
        sent: Callable[[bytes], object] | None,
        aside: Callable[[bytes, bool], object] | None,
        named: Callable[[dict[str, str]], object] | None,
    ) -> None:
        """Let a plugin see frames as they are.

        Raises:
            UsageError: Frames have come already.
        """
        self._check_unread("a session is tapped from its first frame on: call tap() in attach()")
        link = self._link
        if received is not None:
            self.deliver = self._before(received, self.deliver)
        if sent is not None:
            link.sending = self._before(sent, link.sending)
        if aside is not None:
            link.aside = self._before(aside, link.aside)
        if named is not None:
            link.named = self._before(named, link.named)

    def run_within(self, manager: Callable[[], AbstractContextManager[object]]) -> None:
        """Enter a context manager around each frame's way, and where handlers' tasks begin.

        Raises:
            UsageError: Frames have come already.
        """
        self._check_unread("run_within() holds from the first frame on: call it in attach()")
        deliver, around = self.deliver, self.around

        def deliver_within(frame: bytes) -> None:
            try:
                with manager():
                    deliver(frame)
            except Exception as error:  # noqa: BLE001  # the manager's: a plugin's code
                self._report(handler_name(manager), None, error)

        @contextmanager
        def both() -> Generator[None]:
            with around(), manager():
                yield

        self.deliver, self.around = deliver_within, both
        self._router.run_within(manager)

    def _check_unread(self, message: str) -> None:
        if self._lifecycle.reading:
            raise UsageError(message)

    def _before(
        self, look: Callable[[Unpack[_Seen]], object], go_on: Callable[[Unpack[_Seen]], None]
    ) -> Callable[[Unpack[_Seen]], None]:
        def tapped(*seen: *_Seen) -> None:
            try:
                look(*seen)
            except Exception as error:  # noqa: BLE001  # whatever a plugin raises, the frame goes on
                self._report(handler_name(look), None, error)
            go_on(*seen)

        return tapped

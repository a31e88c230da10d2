"""A session that its owner has left."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel
import pytest

from realtime_bus import Bus, CloseInfo
from realtime_bus import events as ev

from ..bus._peer import speech  # noqa: TID252  # tests are no package with a name of its own

pytestmark = pytest.mark.anyio


class Stubborn:
    """A transport that goes on delivering when it should not."""

    def __init__(self) -> None:
        self.deliver: Callable[[bytes], None]
        self._closed = anyio.Event()

    async def run(self, deliver: Callable[[bytes], None]) -> CloseInfo:
        """Run until it is closed."""
        self.deliver = deliver
        await self._closed.wait()
        return CloseInfo()

    def send(self, frame: bytes) -> None:
        """Send nothing."""

    async def drain(self) -> None:
        """Wait for nothing."""

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Let `run` end."""
        self._closed.set()

    def pause(self) -> None:
        """Do not stop."""

    def resume(self) -> None:
        """Have not stopped."""


class Note(ev.AppEvent):
    """Something of the application's."""


async def test_nothing_meets_handlers_in_a_session_that_was_left() -> None:
    """An event that is emitted in it afterwards is heard by nobody, as often as it was before."""
    heard = list[str]()
    async with Bus().session(Stubborn(), wait_created=False) as session:
        session.on(Note)(lambda event: heard.append(event.type))
        session.emit(Note())
    session.emit(Note())
    session.inject(speech())
    assert heard == ["app.note"]


@pytest.mark.parametrize("late", ["frame", "many frames in one read"])
async def test_no_inline_handler_runs_behind_closed_for_a_cancelled_owner(late: str) -> None:
    """Who is cancelled hears of the end, and of nothing that comes while the connection closes."""
    heard, peer = list[str](), Slowly()

    async def own() -> None:
        bus = Bus()
        bus.on("*")(lambda event: heard.append(event.type))
        async with bus.session(peer, wait_created=False):
            await anyio.wait_all_tasks_blocked()
            peer.deliver(speech().to_json())
            scope.cancel()
            await anyio.sleep_forever()

    with anyio.fail_after(5):
        with anyio.CancelScope() as scope:
            await own()
        for _ in range(1 if late == "frame" else 114):
            peer.deliver(speech().to_json())
    assert heard.count("bus.closed") == 1
    assert heard[-1] == "bus.closed"
    assert peer.after_close > 0


class Slowly(Stubborn):
    """A transport whose closing takes a round trip, in which the peer goes on speaking."""

    after_close = 0

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close, while 114 more frames come."""
        for _ in range(114):
            self.deliver(speech().to_json())
            self.after_close += 1
            await anyio.lowlevel.checkpoint()
        await super().aclose(code, reason)


async def test_nothing_is_delivered_behind_the_end() -> None:
    """What a transport delivers to a session that was left reaches no handler."""
    heard = list[str]()
    bus, transport = Bus(), Stubborn()
    bus.on("*")(lambda event: heard.append(event.type))
    async with bus.session(transport, wait_created=False):
        await anyio.wait_all_tasks_blocked()
        transport.deliver(speech().to_json())
    transport.deliver(speech().to_json())
    assert heard == ["bus.connected", "input_audio_buffer.speech_started", "bus.closed"]

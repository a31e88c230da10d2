"""A session that its owner has left."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from realtime_bus import Bus, CloseInfo

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

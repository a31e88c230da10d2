"""The client's half of a recorded session drives a server."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from realtime_bus._virtual_time import virtual_time
from realtime_bus.recording import Line, PlaybackReport, drive
from realtime_bus.server import Playback, RealtimeServer
from realtime_bus.transport import MemoryTransport

from ._agent import cook_server, recorded

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run in virtual time."""
    return virtual_time(request.param)


async def driven(
    lines: list[Line], server: RealtimeServer, **options: Any
) -> list[PlaybackReport]:
    """Drive a server without a socket."""
    async with AsyncExitStack() as stack:

        async def connect() -> MemoryTransport:
            return await stack.enter_async_context(server.connect_memory())

        return await drive(lines, connect, **options)


async def test_the_same_server_answers_the_same() -> None:
    """A conversation with a tool call and a barge-in, again against the server that had it."""
    lines, _ = await recorded()
    (report,) = await driven(lines, cook_server())
    assert report.complete
    # where a cut answer's captions end depends on which of two things comes first in a moment
    assert {each.path.rpartition(".")[2] for each in report.deviations} <= {"transcript"}


async def test_a_recording_drives_its_own_other_half() -> None:
    """Both halves of a recording over a transport: nothing differs on either side."""
    lines, _ = await recorded()
    playback = Playback(lines)
    (report,) = await driven(lines, RealtimeServer(playback=playback))
    assert report.deviations == (), str(report)
    assert playback.reports[0].deviations == ()
    assert report.complete
    assert playback.reports[0].complete

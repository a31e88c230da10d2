"""The server's half of a recorded session answers a live client."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from realtime_bus.server import Playback, RealtimeServer

from ._agent import Agent, live, recorded, speak

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run in virtual time, which only trio has."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


async def test_the_same_agent_lives_through_the_same_conversation() -> None:
    """Tool call, answer, barge-in at the same place: nothing differs from the recording."""
    recording, then = await recorded()
    assert then.told == [
        "done completed",
        "timer 9",
        "word0 word1 word2 word3 word4 word5 word6 word7 ",
        "done cancelled",
        "truncated 1300",
        "word0 word1 word2 word3 word4 ",
        "done completed",
    ]
    now, playback = Agent(), Playback(recording)
    async with live(RealtimeServer(playback=playback), now) as session:
        await speak(session)
    (report,) = playback.reports
    assert str(report) == f"connection 0: {report.frames} of {report.frames} frames"
    assert now.told == then.told
    assert now.sent == then.sent

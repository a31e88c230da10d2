"""The server's half of a recorded session answers a live client."""

from __future__ import annotations

from typing import Any

import pytest

from realtime_bus import Bus, RequestRejected
from realtime_bus import events as ev
from realtime_bus._virtual_time import virtual_time
from realtime_bus.errors import CloseInfo
from realtime_bus.server import Playback, RealtimeServer

from ._agent import Agent, live, recorded, speak

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run in virtual time."""
    return virtual_time(request.param)


async def test_the_same_agent_lives_through_the_same_conversation() -> None:
    """Tool call, answer, barge-in at the same place: nothing differs from the recording."""
    recording, then = await recorded()
    assert then.told == [
        "done completed",
        "timer 9",
        "word0 word1 word2 word3 word4 word5 word6 ",
        "done cancelled",
        "truncated 1280",
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


async def test_an_agent_that_answers_more_slowly_is_waited_for() -> None:
    """The tool takes three seconds longer than then: everything comes three seconds later."""
    recording, then = await recorded()
    now, playback = Agent(tool_s=3.0), Playback(recording)
    async with live(RealtimeServer(playback=playback), now) as session:
        await speak(session)
        await now.heard("done completed", times=2)
    assert "parted" not in str(playback.reports[0])
    assert playback.reports[0].complete
    assert [told for told in now.told if told.startswith(("timer", "done"))] == [
        told for told in then.told if told.startswith(("timer", "done"))
    ]


async def test_an_agent_without_the_tool_has_parted_and_is_told_where() -> None:
    """The recorded agent answered the call; this one never does: error, close 4000, a report."""
    recording, _ = await recorded()
    playback = Playback(recording, patience_s=2.0)
    ends: list[CloseInfo] = []
    errors: list[ev.Error] = []
    bus = Bus()
    async with (
        RealtimeServer(playback=playback).connect_memory() as transport,
        bus.session(transport) as session,
    ):
        session.on(ev.Error)(errors.append)
        await session.update(transcription=ev.Transcription(model="whisper-1"))
        session.start_soon(speak, session)
        ends.append(await session.wait_closed())
    (report,) = playback.reports
    assert ends[0].code == 4000
    assert report.parted
    assert "parted: response.created (recorded at 1." in str(report)
    assert "response.create has not come" in str(report)
    assert "missing: conversation.item.create" in str(report)
    assert errors[-1].error.code == "recording_parted"


async def test_a_response_that_was_not_recorded_is_refused_and_nothing_else_suffers() -> None:
    """What an agent asks for besides is told; settings and items are answered."""
    recording, then = await recorded()
    now, playback = Agent(), Playback(recording)
    async with live(RealtimeServer(playback=playback), now) as session:
        await session.update(instructions="Be brief.")
        item = ev.MessageItem(role="system", content=[ev.InputText(text="Be kind.")])
        added = await session.create_item(item)
        await session.delete_item(added.item.id or "")
        await speak(session)
        reply = session.respond(conversation="none", timeout_s=5)
        with pytest.raises(RequestRejected, match="not recorded"):
            await reply
    assert session.config is not None
    assert now.told[: len(then.told)] == then.told
    (report,) = playback.reports
    assert report.complete
    assert [(each.kind, each.type) for each in report.deviations] == [
        ("unexpected", "session.update"),
        ("unexpected", "conversation.item.create"),
        ("unexpected", "conversation.item.delete"),
        ("unexpected", "response.create"),
    ]

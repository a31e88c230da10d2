"""Plugins in a session that outlives its connection, against the local server."""

from __future__ import annotations

import anyio
import pytest

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.server import RealtimeServer, ScriptResponder, ScriptTool, ScriptTurn
from realtime_bus_plugins.history import History
from realtime_bus_plugins.tools import Tools
from realtime_bus_plugins.turn_metrics import TurnCompleted, TurnMetrics

pytestmark = pytest.mark.anyio


async def test_a_call_at_work_is_answered_into_the_next_connection() -> None:
    """The model goes on there: the call is restored, its output follows, then one response."""
    tools, history = Tools(), History()
    working, go_on = anyio.Event(), anyio.Event()

    @tools.tool
    async def look() -> str:
        """Look for it."""
        working.set()
        await go_on.wait()
        return "found"

    script = [
        ScriptTurn(assistant="Let me see.", tools=[ScriptTool(name="look")], text_only=True),
        ScriptTurn(assistant="Here it is.", text_only=True),
    ]
    server = RealtimeServer(ScriptResponder(script))
    bus = Bus(plugins=[tools, history], raise_handler_errors=True)
    errors: list[ev.Error] = []
    bus.on(ev.Error)(errors.append)
    async with server.serve() as bound, bus.connect(bound.url_for("m")) as session:
        await session.respond(timeout_s=60)
        await working.wait()
        found = session.wait_for(ev.Reconnected, timeout_s=60)
        server.sessions[0].drop()
        event = await found
        assert event.lost == []
        said = session.stream(ev.ResponseDone)
        go_on.set()
        async for done in said:
            if not any(isinstance(item, ev.FunctionCallItem) for item in done.response.output):
                break
        calls = history.of(session).calls()
        assert [call.output for call in calls] == ["found", "found"]
        [last] = [item for item in history.of(session) if item.text == "Here it is."]
        assert last.role == "assistant"
        assert [getattr(tool, "name", None) for tool in session.config.tools] == ["look"]
    assert errors == []


async def test_a_turn_whose_answer_was_cut_is_told() -> None:
    """What had come of it is all that comes; it is told once, at the end."""
    turns: list[TurnCompleted] = []
    bus = Bus(plugins=[TurnMetrics()], raise_handler_errors=True)
    bus.on(TurnCompleted)(turns.append)
    server = RealtimeServer(ScriptResponder([ScriptTurn(assistant="word " * 400)]))
    async with server.serve() as bound, bus.connect(bound.url_for("m")) as session:
        await session.send_text("hello")
        first = session.wait_for(ev.ResponseOutputAudioTranscriptDelta, timeout_s=60)
        session.respond()
        await first
        found = session.wait_for(ev.Reconnected, timeout_s=60)
        server.sessions[0].drop()
        event = await found
        assert "response" in [lost.what for lost in event.lost]
        assert session.history is not None
        assert [item.role for item in session.history] == ["user", "assistant"]
    assert len(turns) == 1

"""Tools against the local server, which refuses what the protocol does not allow."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.server import RealtimeServer, ScriptResponder, ScriptTool, ScriptTurn
from realtime_bus_plugins.tools import Tools

pytestmark = pytest.mark.anyio


async def test_two_calls_and_a_bad_one_are_a_round_of_the_conversation() -> None:
    """Parallel calls, a wrong argument and an unknown tool: all answered, then one response."""
    tools, errors = Tools(), list[ev.Error]()

    @tools.tool
    async def set_timer(minutes: float, label: str = "timer") -> str:
        """Start a kitchen timer."""
        return f"{label}: {minutes:g} min"

    calls = [
        ScriptTool(name="set_timer", arguments={"minutes": 9, "label": "pasta"}, call_id="a"),
        ScriptTool(name="set_timer", arguments={"minutes": "long"}, call_id="b"),
        ScriptTool(name="open_door", call_id="c"),
    ]
    script = [
        ScriptTurn(assistant="Let me see.", tools=calls, text_only=True),
        ScriptTurn(assistant="Nine minutes.", text_only=True),
        ScriptTurn(assistant="Once too often.", text_only=True),
    ]
    added: list[ev.FunctionCallOutputItem] = []
    bus = Bus(plugins=[tools], raise_handler_errors=True)
    server = RealtimeServer(ScriptResponder(script))
    async with server.connect_memory() as transport, bus.session(transport) as session:
        session.on(ev.Error)(errors.append)

        @session.on(ev.ConversationItemAdded)
        def see(event: ev.ConversationItemAdded) -> None:
            if isinstance(event.item, ev.FunctionCallOutputItem):
                added.append(event.item)

        first = await session.respond(timeout_s=60)
        answer = await _next_done(session)
        [offered] = (session.config.tools if session.config else None) or []
    assert getattr(offered, "name", None) == "set_timer"
    assert [item.type for item in first.output] == ["message", *["function_call"] * 3]
    assert _text(answer) == "Nine minutes."
    outputs = {item.call_id: item.output for item in added}
    assert sorted(outputs) == ["a", "b", "c"]
    assert outputs["a"] == "pasta: 9 min"
    assert "Expected `float`, got `str`" in outputs["b"]
    assert "unknown_tool" in outputs["c"]
    assert errors == []


async def test_a_cancelled_call_is_closed_and_the_conversation_goes_on() -> None:
    """The client cancels while the tool runs: it is answered, and the next response works."""
    tools, errors, started = Tools(), list[ev.Error](), anyio.Event()

    @tools.tool(on_interrupt="cancel")
    async def think() -> None:
        """Think."""
        started.set()
        await anyio.sleep_forever()

    script = [
        ScriptTurn(tools=[ScriptTool(name="think", call_id="a")], assistant="Hm. " * 40),
        ScriptTurn(assistant="Fine.", text_only=True),
    ]
    bus = Bus(plugins=[tools])
    server = RealtimeServer(_CallFirst(ScriptResponder(script)))
    async with server.connect_memory() as transport, bus.session(transport) as session:
        session.on(ev.Error)(errors.append)
        reply = session.respond()
        with anyio.fail_after(60):
            await started.wait()
            await reply.cancel()
            response = await reply
            again = await session.respond(timeout_s=60)
    assert response.status == "cancelled"
    assert _text(again) == "Fine."
    assert errors == []
    assert tools.statistics()[0].interrupted == 1


class _CallFirst:
    """A responder that calls its tools before it speaks, so that speech can be cut off."""

    def __init__(self, inner: ScriptResponder) -> None:
        self._inner = inner

    async def respond(self, request: Any) -> Any:
        """Give the last output first."""
        outputs = [output async for output in self._inner.respond(request)]
        for output in [*outputs[-1:], *outputs[:-1]]:
            yield output


def _text(response: ev.Response) -> str:
    parts = [part for item in response.output for part in getattr(item, "content", [])]
    return "".join(getattr(part, "transcript", None) or getattr(part, "text", "") for part in parts)


async def _next_done(session: Any) -> ev.Response:
    event = await session.wait_for(ev.ResponseDone, timeout_s=60)
    response: ev.Response = event.response
    return response

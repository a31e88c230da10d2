"""Plugins on servers that name no conversation, and beside settings that the call asks for."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from realtime_bus import Bus, RequestRejected, Session
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.tools import Tools

from ._wire import Clock, session_on
from .tools._model import call

pytestmark = pytest.mark.anyio


def echo_tools() -> Tools:
    """Make tools of which there is one."""
    tools = Tools()

    @tools.tool
    async def echo() -> str:
        """Answer."""
        return "answer"

    return tools


class Server:
    """Confirms each update in the order of asking, or refuses those with instructions."""

    def __init__(self, *, refuses: bool) -> None:
        self.refuses = refuses
        self.settings = ev.RealtimeSession(id="sess_1")
        self.transport = PushTransport(send=self.take)
        self.transport.feed(ev.SessionCreated(session=self.settings).to_json())

    def take(self, frame: bytes) -> None:
        """Answer an update; nothing that is said names what it answers."""
        asked = msgspec.json.decode(frame)["session"]
        if self.refuses and "instructions" in asked:
            details = ev.ErrorDetails(
                type="invalid_request_error", message="no", param="session.instructions"
            )
            self.transport.feed(ev.Error(error=details).to_json())
            return
        known = {name: asked[name] for name in ("instructions",) if name in asked}
        self.settings = msgspec.structs.replace(self.settings, **known)
        self.transport.feed(ev.SessionUpdated(session=self.settings).to_json())


async def test_settings_of_the_call_are_in_force_beside_tools() -> None:
    """The update of the plugin is answered first; the block begins with the second answer."""
    server = Server(refuses=False)
    async with Bus(plugins=[echo_tools()]).session(
        server.transport, instructions="be brief"
    ) as session:
        assert session.config.instructions == "be brief"


async def test_settings_that_are_refused_are_told_beside_tools() -> None:
    """The confirmation of the plugin's update is none of the refused one's."""
    server = Server(refuses=True)
    with pytest.raises(RequestRejected, match=r"session\.update"):
        async with Bus(plugins=[echo_tools()]).session(server.transport, instructions="x"):
            pytest.fail("the block must not begin")


def nameless(cls: Any, response_id: str, **more: Any) -> Any:
    """Make the begin or end of a response that names no conversation and echoes nothing."""
    absent: dict[str, Any] = {"conversation_id": msgspec.UNSET, "metadata": msgspec.UNSET}
    return cls(response=ev.Response(id=response_id, **absent, **more))


async def answered(session: Session, asked: Any) -> None:
    """Wait until the model was asked to go on."""
    with anyio.fail_after(60):
        while not any(isinstance(event, ev.ResponseCreate) for event in asked()):
            await anyio.lowlevel.checkpoint()
    assert session.conversation.active_response is None


async def test_tools_without_conversation_ids() -> None:
    """A call of a response that names no conversation is run, answered and followed up."""
    async with session_on(echo_tools()) as (session, wire):
        found = call("c", "echo")
        wire.feed(nameless(ev.ResponseCreated, "r"))
        wire.feed(ev.ResponseOutputItemDone(response_id="r", output_index=0, item=found))
        wire.feed(nameless(ev.ResponseDone, "r", status="completed", output=[found]))
        await answered(session, lambda: wire.sent)
        items = [event.item for event in wire.sent if isinstance(event, ev.ConversationItemCreate)]
        assert [(item.call_id, item.output) for item in items] == [("c", "answer")]


async def test_barge_in_without_conversation_ids() -> None:
    """What plays of a response that names no conversation is cut where it was heard."""
    clock = Clock()
    sink = NullSink(clock=clock)
    async with session_on(sink, Interruption(sink)) as (_, wire):
        item = ev.MessageItem(id="a", role="assistant", content=[])
        wire.feed(nameless(ev.ResponseCreated, "r"))
        wire.feed(ev.ResponseOutputItemAdded(response_id="r", output_index=0, item=item))
        wire.feed(ev.ConversationItemCreated(item=item))
        wire.speak(bytes(48 * 1000))
        clock.now_s += 0.4
        wire.interrupt()
        [cut] = [event for event in wire.sent if isinstance(event, ev.ConversationItemTruncate)]
        assert (cut.item_id, cut.audio_end_ms) == ("a", 400)
        assert not sink.playing

"""A server that calls tools, played by the test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec

from realtime_bus import Bus, Session, decode_client
from realtime_bus import events as ev
from realtime_bus.transport import memory_transport_pair


def call(
    call_id: str, name: str, arguments: str = "{}", *, status: Any = "completed"
) -> ev.FunctionCallItem:
    """Return a call as a model makes it."""
    return ev.FunctionCallItem(
        id=f"item_{call_id}", call_id=call_id, name=name, arguments=arguments, status=status
    )


class Model:
    """The other end of a session; what it says has been heard when the call returns."""

    def __init__(self) -> None:
        self.client, self._server = memory_transport_pair()
        self.heard: list[Any] = []
        self._changed = anyio.Event()

    async def listen(self) -> None:
        """Take what the client sends."""
        await self._server.run(self._take)

    def _take(self, frame: bytes) -> None:
        self.heard.append(decode_client(frame))
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was heard makes a condition true."""
        with anyio.fail_after(60):
            while not condition():
                await self._changed.wait()

    # what the client has said

    @property
    def outputs(self) -> list[tuple[str, str]]:
        """What calls were answered with, in order."""
        items = [e.item for e in self.heard if isinstance(e, ev.ConversationItemCreate)]
        return [(i.call_id, i.output) for i in items if isinstance(i, ev.FunctionCallOutputItem)]

    def output(self, call_id: str) -> str:
        """Return what a call was answered with; it must have been answered once."""
        [text] = [text for answered, text in self.outputs if answered == call_id]
        return text

    def error(self, call_id: str) -> dict[str, Any]:
        """Return the error that a call was answered with."""
        plain: dict[str, Any] = msgspec.json.decode(self.output(call_id))["error"]
        return plain

    @property
    def creates(self) -> int:
        """How many responses were asked for."""
        return sum(isinstance(event, ev.ResponseCreate) for event in self.heard)

    @property
    def tool_lists(self) -> list[list[str]]:
        """The tools' names (or labels) of every session.update."""
        updates = [event for event in self.heard if isinstance(event, ev.SessionUpdate)]
        return [[_label(tool) for tool in update.session.tools] for update in updates]

    def order(self) -> list[str]:
        """Return outputs (by call) and creates, in the order in which they were sent."""
        outputs = (ev.ConversationItemCreate, ev.ResponseCreate)
        sent = [event for event in self.heard if isinstance(event, outputs)]
        return [getattr(getattr(event, "item", None), "call_id", "create") for event in sent]

    # what it says

    def say(self, *events: ev.ServerEvent) -> None:
        """Send events."""
        for event in events:
            self._server.send(event.to_json())

    def begin(self, session: Any = None) -> None:
        """Open the session."""
        self.say(ev.SessionCreated(session=session or ev.RealtimeSession(id="sess")))

    def created(self, response_id: str = "r", *, conversation_id: str | None = "conv") -> None:
        """Start a response."""
        response = ev.Response(
            id=response_id, conversation_id=conversation_id, status="in_progress", metadata=None
        )
        self.say(ev.ResponseCreated(response=response))

    def answer_create(self, response_id: str, status: Any = "completed") -> None:
        """Make the response that was asked for last."""
        create = [event for event in self.heard if isinstance(event, ev.ResponseCreate)][-1]
        mine: Any = {"id": response_id, "conversation_id": "conv"}
        mine["metadata"] = create.response and create.response.metadata
        self.say(
            ev.ResponseCreated(response=ev.Response(**mine)),
            ev.ResponseDone(response=ev.Response(**mine, status=status)),
        )

    def refuse_create(self, code: str) -> None:
        """Refuse the last request for a response."""
        create = [event for event in self.heard if isinstance(event, ev.ResponseCreate)][-1]
        error = ev.ErrorDetails(
            type="invalid_request_error", code=code, message="No.", event_id=create.event_id
        )
        self.say(ev.Error(error=error))

    def item_done(self, *items: ev.Item, response_id: str = "r") -> None:
        """End items of a response."""
        for item in items:
            self.say(ev.ResponseOutputItemDone(response_id=response_id, item=item))

    def done(
        self,
        *items: ev.Item,
        response_id: str = "r",
        status: Any = "completed",
        conversation_id: str | None = "conv",
    ) -> None:
        """End a response."""
        response = ev.Response(
            id=response_id,
            conversation_id=conversation_id,
            status=status,
            output=list(items),
            metadata=None,
        )
        self.say(ev.ResponseDone(response=response))

    def respond(self, *items: ev.Item, response_id: str = "r", status: Any = "completed") -> None:
        """Make a whole response of items."""
        self.created(response_id)
        self.item_done(*items, response_id=response_id)
        self.done(*items, response_id=response_id, status=status)


def _label(tool: Any) -> str:
    return str(getattr(tool, "name", None) or tool.server_label)


@asynccontextmanager
async def model_with(
    *plugins: Any, opened: Any = None, state: Any = None
) -> AsyncGenerator[tuple[Session, Model], None]:
    """Open a session with plugins, and give the model it talks to."""
    model = Model()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(model.listen)
        model.begin(opened)
        async with Bus(plugins=plugins).session(model.client, state=state) as session:
            yield session, model
        tasks.cancel_scope.cancel()

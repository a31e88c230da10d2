"""An arbiter on a clock of its own, and a server's words in short."""

from __future__ import annotations

from typing import Any

import msgspec

from realtime_bus import events as ev
from realtime_bus.session._arbiter import Arbiter, ResponseRequest, mark_request
from realtime_bus.session._conversation import ConversationState
from realtime_bus.session._requests import rejection

RACE = "conversation_already_has_active_response"


def response(response_id: str | None, *, metadata: Any = None, band: bool = True) -> ev.Response:
    """Make a response of the default conversation, or one out of band."""
    conversation = "conv_1" if band else None
    return ev.Response(id=response_id, conversation_id=conversation, metadata=metadata)


class Desk:
    """An arbiter, what it has sent, and what became of the requests.

    Attributes:
        now_s: The time.
        sent: Names of requests in the order of sending.
        cancelled: Ids of the responses that it asked to cancel.
        settled: Names of requests in the order of their end.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self.sent: list[str] = []
        self.cancelled: list[str | None] = []
        self.settled: list[str] = []
        self.tasks: dict[str, ResponseRequest] = {}
        self.refuse: Exception | None = None
        self.conversation = ConversationState(
            lambda found: self.arbiter.asked_out_of_band(found)  # noqa: PLW0108  # not there yet
        )
        self.arbiter = Arbiter(self._send, self.cancelled.append, self.conversation)

    def _send(self, event: ev.ResponseCreate) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.sent.append(str(event.event_id))

    def ask(self, name: str, *, while_speaking: bool = False, **params: Any) -> ResponseRequest:
        """Submit a request under a name, which is its ``event_id``."""
        wanted = mark_request(ev.ResponseCreateParams(**params), name)
        create = ev.ResponseCreate(event_id=name, response=wanted)
        task = ResponseRequest(create, while_speaking=while_speaking)
        task.on_settled = lambda: self.settled.append(name)
        self.tasks[name] = task
        self.arbiter.submit(task, self.now_s)
        return task

    def created(
        self, response_id: str | None, name: str | None = None, *, echoes: bool = True, **more: Any
    ) -> None:
        """Let the server say ``response.created``, for a request or of its own."""
        metadata = self.tasks[name].metadata if name is not None else None
        metadata = metadata if echoes else msgspec.UNSET
        found = response(response_id, metadata=metadata, **more)
        self.hear_created(found)

    def done(
        self, response_id: str | None, name: str | None = None, *, echoes: bool = True
    ) -> None:
        """Let the server say ``response.done``."""
        metadata = self.tasks[name].metadata if name is not None else None
        metadata = metadata if echoes else msgspec.UNSET
        found = response(response_id, metadata=metadata)
        self.hear_done(found)

    def hear_created(self, found: ev.Response) -> None:
        """Pass ``response.created`` on, as a session does."""
        self.conversation.see(ev.ResponseCreated(response=found))
        self.arbiter.created(found, self.now_s)

    def hear_done(self, found: ev.Response) -> None:
        """Pass ``response.done`` on, as a session does."""
        self.conversation.see(ev.ResponseDone(response=found))
        self.arbiter.done(found, self.now_s)

    def hear_speech(self, kind: type[Any]) -> None:
        """Pass on that somebody speaks, or has spoken."""
        at = {"audio_start_ms": 0, "audio_end_ms": 0}
        told = {name: at[name] for name in at if name in kind.__struct_fields__}
        self.conversation.see(kind(item_id="item_u", **told))
        self.arbiter.turn_changed(self.now_s)

    def error(
        self, event_id: str | None, *, code: str | None = RACE, message: str = "no", **more: Any
    ) -> None:
        """Let the server refuse something, as a session passes it on."""
        kind = "invalid_request_error"
        error = ev.ErrorDetails(type=kind, message=message, code=code, event_id=event_id, **more)
        task = self.arbiter.refused(error, self.now_s)
        if task is not None:
            task.settle(error=rejection(task.event, error))

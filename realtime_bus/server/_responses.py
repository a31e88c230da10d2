"""All responses of a session: who may start one, and who ends it.

The rules
---------
* One response at a time in the default conversation; a second is refused, and names the first.
* With ``conversation`` ``"none"`` a response is out of band: any number of them (up to the
  server's limit) run beside, with no trace in the conversation, and speech cancels none.
* Without an id, ``response.cancel`` means the default conversation's.
* A response's own settings hold for that response only. Another voice than the session's is
  refused once there was audio.
* ``input`` replaces the context; references in it must name items of the conversation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import UnsetType

from realtime_bus import events as ev

from ._client_items import client_entry
from ._config import SessionConfig
from ._conversation import Conversation
from ._desk import Desk
from ._entries import Entry
from ._options import ServerOptions
from ._outbox import CancelResponder, Outbox, StartResponder
from ._pcm import to_pcm24
from ._refusals import Refusal, bad_value, conversation_busy, nothing_to_cancel
from ._reply import Reply
from ._reply_settings import ReplySettings, given, reply_settings
from ._responder import Output, ResponderRequest
from ._usage import Meter

__all__ = ["Responses"]


class Responses:
    """The responses of one session.

    Args:
        out: Where events and commands go.
        config: The session's settings.
        conversation: The default conversation.
        options: The server's knobs.

    Attributes:
        on_ended: Called with each response of the default conversation that has ended.
    """

    def __init__(
        self,
        out: Outbox,
        config: SessionConfig,
        conversation: Conversation,
        options: ServerOptions,
    ) -> None:
        self._out = out
        self._config = config
        self._conversation = conversation
        self._options = options
        self._running: dict[str, Reply] = {}
        self._active: Reply | None = None
        self._started = 0
        self.on_ended: Callable[[Reply], None] = _nobody

    @property
    def active_id(self) -> str | None:
        """The response that runs in the default conversation."""
        return self._active.response_id if self._active else None

    # Starting

    def create(self, params: ev.ResponseCreateParams | None = None) -> None:
        """Start a response.

        Raises:
            Refusal: One is active already, or a setting cannot be.
        """
        params = params or ev.ResponseCreateParams()
        in_conversation = params.conversation != "none"
        self._check_free(in_conversation=in_conversation)
        conversation_id = self._conversation.conversation_id if in_conversation else None
        settings = reply_settings(params, self._config, conversation_id=conversation_id)
        context = self._context(params)
        instructions = given(params.instructions, self._config.realtime.instructions or "")
        response_id = self._out.new_id("resp")
        request = self._request(params, settings, context, instructions)
        reply = Reply(self._desk(response_id, settings), settings, Meter(context, instructions))
        self._running[response_id] = reply
        if in_conversation:
            self._active, self._started = reply, self._started + 1
        self._out.order(StartResponder(response_id, request))

    def _check_free(self, *, in_conversation: bool) -> None:
        if in_conversation and self._active is not None:
            raise conversation_busy(self._active.response_id)
        if len(self._running) >= self._options.max_responses:
            message = f"{len(self._running)} responses are running, which is the most."
            raise Refusal("rate_limit_exceeded", message)

    def _context(self, params: ev.ResponseCreateParams) -> list[Entry]:
        if isinstance(params.input, UnsetType):
            return list(self._conversation)
        return [self._resolve(item, index) for index, item in enumerate(params.input)]

    def _resolve(self, item: ev.ResponseInput, index: int) -> Entry:
        path = f"response.input[{index}]"
        if not isinstance(item, ev.ItemReference):
            return client_entry(
                item,
                self._conversation,
                new_id=self._out.new_id,
                audio_format=self._config.input_format,
                path=path,
            )
        entry = self._conversation.find(item.id)
        if entry is None:
            raise bad_value(f"{path}.id", f"The item with id '{item.id}' does not exist.")
        return entry

    def _desk(self, response_id: str, settings: ReplySettings) -> Desk:
        return Desk(
            self._out,
            self._options,
            response_id=response_id,
            conversation=self._conversation if settings.conversation_id else None,
            audio_format=settings.audio_format,
        )

    def _request(
        self,
        params: ev.ResponseCreateParams,
        settings: ReplySettings,
        context: list[Entry],
        instructions: str,
    ) -> ResponderRequest:
        voice = settings.voice
        return ResponderRequest(
            items=[entry.item for entry in context],
            instructions=instructions,
            modalities=("audio",) if settings.spoken else ("text",),
            tools=tuple(given(params.tools, self._config.realtime.tools or [])),
            last_user_audio=_last_user_audio(context),
            voice=voice.id if isinstance(voice, ev.CustomVoice) else voice or "",
            metadata=settings.metadata,
            response_index=self._started,
            session_id=self._config.session_id,
        )

    # Ending

    def cancel(self, response_id: str | None = None) -> None:
        """End a response because the client wants so.

        Raises:
            Refusal: It is not running.
        """
        reply = self._active if response_id is None else self._running.get(response_id)
        if reply is None:
            raise nothing_to_cancel(response_id)
        self._cut(reply, "client_cancelled")

    def interrupt(self) -> None:
        """End the default conversation's response, if there is one, because somebody speaks."""
        if self._active is not None:
            self._cut(self._active, "turn_detected")

    def _cut(self, reply: Reply, reason: Literal["turn_detected", "client_cancelled"]) -> None:
        reply.cancel(reason)
        self._forget(reply)

    def _forget(self, reply: Reply) -> None:
        """Let go of a response that has ended; its responder may still be running."""
        del self._running[reply.response_id]
        if not reply.complete:
            self._out.order(CancelResponder(reply.response_id))
        if self._active is reply:
            self._active = None
            self.on_ended(reply)

    # The responders' side; whoever was cancelled is not listened to

    def feed(self, response_id: str, output: Output) -> None:
        """Take what a responder has made."""
        if (reply := self._running.get(response_id)) is not None:
            reply.feed(output)

    def finish(self, response_id: str) -> None:
        """Take note that a responder has made everything."""
        if (reply := self._running.get(response_id)) is not None:
            reply.finish()

    def fail(self, response_id: str, message: str) -> None:
        """Take note that a responder could not go on."""
        if (reply := self._running.get(response_id)) is not None:
            reply.fail(message)
            self._forget(reply)

    def wants_more(self, response_id: str) -> bool:
        """Tell whether a responder may go on; also true for one that is to be stopped."""
        reply = self._running.get(response_id)
        return reply is None or reply.wants_more

    # Time

    def next_deadline(self) -> float | None:
        """Return when the next audio is due."""
        deadlines = (reply.next_deadline() for reply in self._running.values())
        return min((at for at in deadlines if at is not None), default=None)

    def advance(self) -> None:
        """Send what is due."""
        for reply in list(self._running.values()):
            reply.advance()
            self._config.spoken = self._config.spoken or reply.audio_ms > 0
            if reply.done:
                self._forget(reply)


def _last_user_audio(context: list[Entry]) -> bytes:
    """Return the last thing that the user has said, as a responder is given it."""
    for entry in reversed(context):
        if entry.sounds and not entry.by_model:
            sound = next(iter(entry.sounds.values()))
            return to_pcm24(bytes(sound.audio), sound.audio_format)
    return b""


def _nobody(_reply: Reply) -> None:
    """Be told of an ended response, and do nothing."""

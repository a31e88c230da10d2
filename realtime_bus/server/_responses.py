"""All responses of a session: who may start one, and who ends it.

The rules
---------
* One response at a time in the default conversation; a second is refused, and names the first.
* With ``conversation`` ``"none"`` a response is out of band: any number of them (up to the
  server's limit) run beside, with no trace in the conversation, and speech cancels none.
* Without an id, ``response.cancel`` means the default conversation's.
* What running responses are given beside the conversation (the last turn's audio, input of their
  own) is at most ``max_buffer_bytes`` together; one more is refused.
* A response's own settings hold for that response only. Another voice than the session's is
  refused once there was audio.
* ``input`` replaces the context; references in it must name items of the conversation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from realtime_bus import events as ev

from ._audio import pcm_bytes_per_byte
from ._config import RATE_HZ, SessionConfig, check_rate, voice_is_fixed
from ._conversation import DefaultConversation
from ._items import StoredItem, client_item
from ._options import ServerOptions
from ._output_items import ResponseContext
from ._responders import Output, ResponderRequest
from ._response import RunningResponse
from ._usage import Meter
from ._wire import (
    MAX_SETTINGS_BYTES,
    CancelResponder,
    EncodedAudio,
    EventWriter,
    InvalidRequest,
    StartResponder,
    invalid_value,
)

_T = TypeVar("_T")

_BYTES_OF_AN_ITEM = 64
"""What it costs to look at one, counted as bytes that are read."""


class ResponseTable:
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
        out: EventWriter,
        config: SessionConfig,
        conversation: DefaultConversation,
        options: ServerOptions,
    ) -> None:
        self._out = out
        self._config = config
        self._conversation = conversation
        self._options = options
        self._running: dict[str, RunningResponse] = {}
        self._given_bytes: dict[str, int] = {}  # beside the conversation, to each that runs
        self._active: RunningResponse | None = None
        self._started = 0
        self.on_ended: Callable[[RunningResponse], None] = lambda _response: None

    @property
    def active_id(self) -> str | None:
        """The response that runs in the default conversation."""
        return self._active.response_id if self._active else None

    # Starting

    def create(self, params: ev.ResponseCreateParams | None = None) -> None:
        """Start a response.

        Raises:
            InvalidRequest: One is active already, or a setting cannot be.
        """
        params = params or ev.ResponseCreateParams()
        in_conversation = params.conversation != "none"
        if in_conversation and self._active is not None:
            raise InvalidRequest(
                "conversation_already_has_active_response",
                "Conversation already has an active response in progress: "
                f"{self._active.response_id}. "
                "Wait until the response is finished before creating a new one.",
            )
        if len(self._running) >= self._options.max_responses:
            message = f"{len(self._running)} responses are running, which is the most."
            raise InvalidRequest("rate_limit_exceeded", message)
        _check_settings(params)
        context = self._context(params)
        items = list(self._conversation)
        if not isinstance(params.input, UnsetType):
            items = [self._resolve(item, index) for index, item in enumerate(params.input)]
        heard = _last_user_audio(items, self._options.max_buffer_bytes)
        given_bytes = heard.pcm_bytes + sum(
            stored.payload_bytes + stored.kept_bytes
            for stored in (() if isinstance(params.input, UnsetType) else items)
            if self._conversation.find(stored.item_id) is not stored
        )
        if given_bytes + sum(self._given_bytes.values()) > self._options.max_buffer_bytes:
            message = "What the running responses are given is too much already; let one finish."
            raise InvalidRequest("rate_limit_exceeded", message)
        self._out.spent_bytes += heard.pcm_bytes + _BYTES_OF_AN_ITEM * len(items)
        decoded = pcm_bytes_per_byte(heard.audio_format) == 1
        session = self._config.realtime
        instructions = _given(params.instructions, session.instructions or "")
        voice = context.voice
        request = ResponderRequest(
            items=[stored.item for stored in items],
            instructions=instructions,
            modalities=("audio",) if context.spoken else ("text",),
            tools=tuple(_given(params.tools, session.tools or [])),
            last_user_audio=heard.pcm() if decoded else b"",
            voice=voice.id if isinstance(voice, ev.CustomVoice) else voice or "",
            metadata=context.metadata,
            response_index=self._started,
            session_id=self._config.session_id,
            out_of_band=not in_conversation,
        )
        response = RunningResponse(context, Meter(items, instructions))
        self._running[context.response_id] = response
        self._given_bytes[context.response_id] = given_bytes
        if in_conversation:
            self._active, self._started = response, self._started + 1
        encoded = None if decoded else heard
        self._out.order(StartResponder(context.response_id, request, encoded))

    def _context(self, params: ev.ResponseCreateParams) -> ResponseContext:
        """Put a request and the session's settings together."""
        session = self._config.realtime
        output = session.audio.output if session.audio else None
        audio = UNSET if isinstance(params.audio, UnsetType) else params.audio.output
        wanted = _given(audio, ev.ResponseAudioOutputRequest())
        check_rate("response.audio.output.format.rate", getattr(wanted.format, "rate", RATE_HZ))
        session_voice = output.voice if output else None
        voice = _given(wanted.voice, session_voice)
        if self._config.spoken and voice != session_voice:
            raise voice_is_fixed("response.audio.output.voice")
        return ResponseContext(
            out=self._out,
            options=self._options,
            response_id=self._out.new_id("resp"),
            conversation=None if params.conversation == "none" else self._conversation,
            spoken=_given(params.output_modalities, session.output_modalities or []) == ["audio"],
            audio_format=_given(wanted.format, output.format if output else None),
            voice=voice,
            max_output_tokens=_given(params.max_output_tokens, session.max_output_tokens),
            metadata=_given(params.metadata, None),
        )

    def _resolve(self, item: ev.ResponseInput, index: int) -> StoredItem:
        path = f"response.input[{index}]"
        if isinstance(item, ev.ItemReference):
            stored = self._conversation.find(item.id)
            if stored is None:
                message = f"The item with id '{item.id}' does not exist."
                raise invalid_value(f"{path}.id", message)
            return stored
        return client_item(
            item,
            self._conversation,
            new_id=self._out.new_id,
            audio_format=self._config.input_format,
            path=path,
        )

    # Ending

    def cancel(self, response_id: str | None = None) -> None:
        """End a response because the client wants so.

        Raises:
            InvalidRequest: It is not running.
        """
        response = self._active if response_id is None else self._running.get(response_id)
        if response is None:
            which = "no active response found"
            if response_id is not None:
                which = f"{response_id} is not active"
            raise InvalidRequest("response_cancel_not_active", f"Cancellation failed: {which}.")
        self._cut(response, "client_cancelled")

    def interrupt(self) -> None:
        """End the default conversation's response, if there is one, because somebody speaks."""
        if self._active is not None:
            self._cut(self._active, "turn_detected")

    def _cut(
        self, response: RunningResponse, reason: Literal["turn_detected", "client_cancelled"]
    ) -> None:
        response.cancel(reason)
        self._forget(response)

    def _forget(self, response: RunningResponse) -> None:
        """Let go of a response that has ended; its responder may still be running."""
        del self._running[response.response_id], self._given_bytes[response.response_id]
        if not response.complete:
            self._out.order(CancelResponder(response.response_id))
        if self._active is response:
            self._active = None
            self.on_ended(response)

    # The responders' side; whoever was cancelled is not listened to

    def feed(self, response_id: str, output: Output) -> None:
        """Take what a responder has made."""
        if (response := self._running.get(response_id)) is not None:
            response.feed(output)

    def finish(self, response_id: str) -> None:
        """Take note that a responder has made everything."""
        if (response := self._running.get(response_id)) is not None:
            response.finish()

    def fail(self, response_id: str, message: str) -> None:
        """Take note that a responder could not go on."""
        if (response := self._running.get(response_id)) is not None:
            response.fail(message)
            self._forget(response)

    def wants_more(self, response_id: str) -> bool:
        """Tell whether a responder may go on; also true for one that is to be stopped."""
        response = self._running.get(response_id)
        return response is None or response.wants_more

    # Time

    def next_deadline(self) -> float | None:
        """Return when the next audio is due."""
        deadlines = (response.next_deadline() for response in self._running.values())
        return min((at for at in deadlines if at is not None), default=None)

    def advance(self) -> None:
        """Send what is due."""
        for response in list(self._running.values()):
            response.advance()
            self._config.spoken = self._config.spoken or response.audio_ms > 0
            if response.done:
                self._forget(response)


def _given(value: _T | UnsetType, default: _T) -> _T:
    """Return what a request gives, or the default."""
    return default if isinstance(value, UnsetType) else value


def _last_user_audio(items: list[StoredItem], max_bytes: int) -> EncodedAudio:
    """Return the last thing that the user has said; of very long audio, the end."""
    for stored in reversed(items):
        if stored.audio and not stored.by_model:
            part = next(iter(stored.audio.values()))
            kept = max_bytes // pcm_bytes_per_byte(part.audio_format) & ~1
            return EncodedAudio(bytes(part.audio[-kept:]), part.audio_format)
    return EncodedAudio(b"")


def _check_settings(params: ev.ResponseCreateParams) -> None:
    """Refuse settings that are too large; the input is no setting.

    Raises:
        InvalidRequest: They are.
    """
    if len(msgspec.json.encode(replace(params, input=UNSET))) > MAX_SETTINGS_BYTES:
        message = f"A response's settings take at most {MAX_SETTINGS_BYTES} bytes as JSON."
        raise InvalidRequest("event_too_large", message, param="response")

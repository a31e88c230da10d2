"""One session of the local server, without socket, task or clock.

The rules
---------
* Client frames go in by `receive` and are handled in order, some of them at each `tick`; no
  frame is handled before all audio of the frames before it was heard. What the responders make
  goes in by `responder_made` and its relatives. Events and commands come out of `drain`.
* After each of these calls: carry out what `drain` returns, and call `tick` again no later than
  at `next_deadline`. Times are seconds on any clock that does not run backwards.
* The first event is ``session.created``.
* Whatever a client sends gets an answer at most, never an exception: what cannot be read or
  done is an ``error`` event with the id of the client's event, and changes nothing.
* At the end of its life the session says ``session_expired`` and closes with 1001. After a
  close nothing is handled or said any more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from copy import copy
from typing import Any

from realtime_bus import events as ev
from realtime_bus.events._registry import REALTIME, WireProtocol

from ._config import SessionConfig, SessionKind
from ._conversation import DefaultConversation
from ._input import HEARD_AT_ONCE_MS, InputBuffer
from ._items import client_item
from ._options import ServerOptions
from ._responders import Output
from ._responses import ResponseTable
from ._turns import Transcriptions, UserTurns
from ._vad import SileroDetector, SpeechDetector
from ._wire import (
    ClientFrame,
    Close,
    EventWriter,
    InvalidRequest,
    Outgoing,
    invalid_value,
    random_id,
    read_frame,
)

WORK_PER_TICK = 16
"""What one tick does before others get their turn: a short frame is 1, a stretch of audio all."""

BYTES_PER_STEP = 16 * 1024
"""As many bytes that are read, or repeated, are 1 too."""

FRAME_BYTES = 128
"""What a frame takes beside its bytes, while it waits."""


class SessionProtocol(ABC):
    """What sessions of all kinds share: frames in, events and commands out, and an end.

    Args:
        options: The server's knobs.
        now_s: The clock's time now.
        new_id: Makes ids of a kind.

    Attributes:
        speaks: The protocol on the wire.
        session_id: The session's id, as in ``session.created``.
        closed: Whether it has ordered the connection to be closed.
        held: Set by the shell while the client does not read: nothing is handled or spoken.
    """

    speaks: WireProtocol = REALTIME

    def __init__(
        self, options: ServerOptions, *, now_s: float, new_id: Callable[[str], str]
    ) -> None:
        self.session_id: str = new_id("sess")
        self.closed: bool = False
        self.held = False
        self._options = options
        self._expires_s = now_s + options.session_life_s
        self._frames: deque[tuple[bytes, object]] = deque()
        self._frame_bytes = 0
        self._out = EventWriter(new_id)
        self._out.now_s = now_s

    # In

    def receive(self, frame: bytes, sender: object = None) -> None:
        """Take a frame from a client; `tick` handles it.

        Args:
            frame: One WebSocket message.
            sender: Who gets the error, if it is at fault; None for all.
        """
        if not self.closed:
            self._frames.append((frame, sender))
            self._frame_bytes += FRAME_BYTES + len(frame)

    @property
    def unhandled_bytes(self) -> int:
        """How much was received and not handled: stop reading when it grows."""
        return self._frame_bytes

    # not every kind has responses: these do nothing where nothing was asked for

    def responder_made(self, response_id: str, output: Output) -> None:  # noqa: B027  # most need not
        """Take a piece of an answer."""

    def responder_finished(self, response_id: str) -> None:  # noqa: B027  # most need not
        """Take note that an answer is complete."""

    def responder_failed(self, response_id: str, message: str) -> None:  # noqa: B027  # most need not
        """Take note that there will be no more of an answer; the client is told `message`."""

    def responder_may_go_on(self, response_id: str) -> bool:  # noqa: ARG002  # overridden
        """Tell whether there is room for more of an answer; ask again after each tick."""
        return True

    @abstractmethod
    def transcribed(self, item_id: str, transcript: str | None) -> None:
        """Take the words of a user turn; None if it could not be written down."""

    # Out

    @abstractmethod
    def greet(self, client: object = None) -> None:
        """Say ``session.created``, to a client that joins too."""

    def send(self, event: ev.ServerEvent | bytes) -> None:
        """Say what somebody else has made up; an event without an id gets one."""
        if isinstance(event, bytes):
            self._out.order(event)
        else:
            self._out.send(copy(event))

    def drain(self) -> list[Outgoing]:
        """Return what is to be sent and done, in order, and forget it."""
        return self._out.drain()

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do; in the past if it has now."""
        if self.closed:
            return None
        if self.held:
            return self._expires_s
        if self._frames or self._behind:
            return float("-inf")
        return min([self._expires_s, *self._deadlines()])

    def tick(self, now_s: float) -> None:
        """Handle what has come in and do what is due."""
        self._out.now_s = now_s
        if now_s >= self._expires_s and not self.closed:
            minutes = self._options.session_life_s / 60
            message = f"Your session hit the maximum duration of {minutes:g} minutes."
            self._out.send(InvalidRequest("session_expired", message).to_event(None))
            self._close(Close(1001, message))
        if not self.held and not self.closed:
            self._work()
            self._advance()

    def _work(self) -> None:
        left, self._out.spent_bytes = WORK_PER_TICK, 0
        while left > self._out.spent_bytes // BYTES_PER_STEP:
            if self._behind:
                left -= WORK_PER_TICK * self._hear() // HEARD_AT_ONCE_MS
            elif self._frames and not self.closed:
                frame, sender = self._frames.popleft()
                self._frame_bytes -= FRAME_BYTES + len(frame)
                self._out.spent_bytes += len(frame)
                self._handle(frame, sender)
            else:
                return
            left -= 1

    def _handle(self, frame: bytes, sender: object) -> None:
        read = read_frame(frame, self.speaks, lenient=self._options.lenient_fields)
        try:
            if isinstance(read.event, InvalidRequest):
                raise read.event
            self._carry_out(read.event, read)
        except InvalidRequest as refusal:
            self._out.send(refusal.to_event(read.event_id), to=sender)
            if self._options.close_on_error:
                self._close(Close(1008, f"invalid_request_error.{refusal.code}"))

    def _close(self, close: Close) -> None:
        self.closed = True
        self._frames.clear()
        self._frame_bytes = 0
        self._out.order(close)

    # What each kind does

    @abstractmethod
    def _carry_out(self, event: ev.ClientEvent, frame: ClientFrame) -> None:
        """Do what a client event asks for: all of it, or raise `InvalidRequest` and do nothing."""

    @property
    @abstractmethod
    def _behind(self) -> bool:
        """Whether audio waits to be heard."""

    @abstractmethod
    def _hear(self) -> int:
        """Hear the next stretch of it; return how many milliseconds that was."""

    @abstractmethod
    def _advance(self) -> None:
        """Do what is due."""

    def _deadlines(self) -> list[float]:
        """Return when something will be due."""
        return []


class RealtimeProtocol(SessionProtocol):
    """A conversation, or a session that only transcribes.

    Args:
        options: The server's knobs.
        kind: Which of the two.
        model: From the URL.
        make_detector: Makes what tells speech from silence.
        now_s: The clock's time now.
        epoch_s: The same moment in Unix seconds.
        new_id: Makes ids of a kind.
    """

    def __init__(
        self,
        options: ServerOptions,
        *,
        kind: SessionKind = "realtime",
        model: str | None = None,
        make_detector: Callable[[], SpeechDetector] = SileroDetector,
        now_s: float = 0.0,
        epoch_s: float = 0.0,
        new_id: Callable[[str], str] = random_id,
    ) -> None:
        super().__init__(options, now_s=now_s, new_id=new_id)
        out = self._out
        self._config = config = SessionConfig(
            kind=kind,
            session_id=self.session_id,
            model=model,
            voice=options.voice,
            expires_at=int(epoch_s + options.session_life_s),
        )
        self._conversation = conversation = DefaultConversation(
            out,
            max_items=options.max_items,
            max_bytes=options.max_kept_bytes,
            margin_ms=options.truncation_margin_ms,
        )
        self._buffer = InputBuffer(
            make_detector,
            audio_format=config.input_format,
            detection=config.turn_detection,
            max_bytes=options.max_buffer_bytes,
        )
        self._responses = ResponseTable(out, config, conversation, options)
        self._transcriptions = Transcriptions(out, conversation, options)
        self._turns = UserTurns(
            out,
            config,
            buffer=self._buffer,
            conversation=conversation,
            responses=self._responses,
            transcriptions=self._transcriptions,
        )
        self._actions: dict[type, Callable[[Any], None]] = {
            ev.InputAudioBufferAppend: lambda event: self._buffer.append(event.audio),
            ev.InputAudioBufferCommit: lambda _: self._turns.commit(),
            ev.InputAudioBufferClear: lambda _: self._turns.clear(),
            ev.ConversationItemCreate: self._create_item,
            ev.ConversationItemRetrieve: self._retrieve_item,
            ev.ConversationItemTruncate: self._truncate_item,
            ev.ConversationItemDelete: self._delete_item,
            ev.ResponseCreate: lambda event: self._responses.create(event.response),
            ev.ResponseCancel: lambda event: self._responses.cancel(event.response_id),
            ev.OutputAudioBufferClear: self._clear_output,
        }
        self.greet()
        if options.announce_conversation:
            named = ev.Conversation(id=conversation.conversation_id, object="realtime.conversation")
            out.send(ev.ConversationCreated(conversation=named))

    def responder_made(self, response_id: str, output: Output) -> None:
        """Take a piece of an answer."""
        self._responses.feed(response_id, output)

    def responder_finished(self, response_id: str) -> None:
        """Take note that an answer is complete."""
        self._responses.finish(response_id)

    def responder_failed(self, response_id: str, message: str) -> None:
        """Take note that there will be no more of an answer; the client is told `message`."""
        self._responses.fail(response_id, message)

    def responder_may_go_on(self, response_id: str) -> bool:
        """Tell whether there is room for more of an answer; ask again after each tick."""
        return self._responses.wants_more(response_id)

    def transcribed(self, item_id: str, transcript: str | None) -> None:
        """Take the words of a user turn; None if it could not be written down."""
        self._transcriptions.take(item_id, transcript)

    def greet(self, client: object = None) -> None:
        """Say ``session.created``, to a client that joins too."""
        self._out.send(ev.SessionCreated(session=self._config.echo), to=client)

    @property
    def _behind(self) -> bool:
        return self._buffer.behind

    def _hear(self) -> int:
        before_ms = self._buffer.audio_ms
        for happened in self._buffer.hear():
            self._turns.heard(happened)
        return self._buffer.audio_ms - before_ms

    def _advance(self) -> None:
        self._responses.advance()
        self._transcriptions.advance()
        self._turns.advance()

    def _deadlines(self) -> list[float]:
        parts = (self._responses, self._transcriptions, self._turns)
        return [at for part in parts if (at := part.next_deadline()) is not None]

    # What client events do: all of it, or `InvalidRequest` is raised and nothing was done

    def _carry_out(self, event: ev.ClientEvent, frame: ClientFrame) -> None:
        if isinstance(event, ev.SessionUpdate):
            self._config.update(event.to_dict()["session"], frame.plain["session"])
            self._turns.settings_changed()
            self._out.spent_bytes += self._config.size_bytes
            self._out.send(ev.SessionUpdated(session=self._config.echo))
        else:
            self._actions[type(event)](event)

    def _create_item(self, event: ev.ConversationItemCreate) -> None:
        stored = client_item(
            event.item,
            self._conversation,
            new_id=self._out.new_id,
            audio_format=self._config.input_format,
        )
        self._conversation.check_room(stored)
        self._conversation.add(stored, after=event.previous_item_id)
        self._conversation.done(stored, stored.item)

    def _retrieve_item(self, event: ev.ConversationItemRetrieve) -> None:
        item = self._conversation.retrieve(event.item_id)
        if (stored := self._conversation.find(event.item_id)) is not None:
            self._out.spent_bytes += stored.weight_bytes + stored.audio_bytes
        self._out.send(ev.ConversationItemRetrieved(item=item))

    def _truncate_item(self, event: ev.ConversationItemTruncate) -> None:
        item_id, index, end_ms = event.item_id, event.content_index, event.audio_end_ms
        self._conversation.truncate(item_id, index, end_ms)
        self._out.send(
            ev.ConversationItemTruncated(item_id=item_id, content_index=index, audio_end_ms=end_ms)
        )

    def _delete_item(self, event: ev.ConversationItemDelete) -> None:
        self._conversation.delete(event.item_id)
        self._out.send(ev.ConversationItemDeleted(item_id=event.item_id))

    def _clear_output(self, _event: ev.OutputAudioBufferClear) -> None:
        message = "Only WebRTC and SIP sessions have an output audio buffer at the server."
        raise invalid_value("type", message)

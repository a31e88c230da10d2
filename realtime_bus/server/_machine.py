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

from collections import deque
from collections.abc import Callable

from realtime_bus import events as ev

from ._config import SessionConfig
from ._conversation import Conversation
from ._defaults import SessionKind
from ._input import InputBuffer
from ._options import ServerOptions
from ._outbox import Close, Happening, Outbox, random_id
from ._reading import read_event
from ._refusals import Refusal
from ._responder import Output
from ._responses import Responses
from ._transcription import Transcriptions
from ._turns import Turns
from ._vad import SileroDetector, SpeechDetector
from ._verbs import Verbs

__all__ = ["Machine"]

STEPS_PER_TICK = 16
"""Frames, or stretches of audio, that one tick handles before others get their turn."""


class Machine:
    """One session.

    Args:
        options: The server's knobs.
        kind: Conversation, or transcription only.
        model: From the URL.
        make_detector: Makes what tells speech from silence.
        now_s: The clock's time now.
        epoch_s: The same moment in Unix seconds.
        new_id: Makes ids of a kind.

    Attributes:
        closed: Whether it has ordered the connection to be closed.
        held: Set by the shell while the client does not read: nothing is handled or spoken.
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
        self.closed = False
        self.held = False
        self._options = options
        self._expires_s = now_s + options.session_life_s
        self._frames: deque[bytes] = deque()
        self._frame_bytes = 0
        self._out = out = Outbox(new_id)
        out.now_s = now_s
        self._config = config = SessionConfig(
            kind=kind,
            session_id=new_id("sess"),
            model=model,
            voice=options.voice,
            expires_at=int(epoch_s + options.session_life_s),
        )
        self._conversation = conversation = Conversation(
            new_id("conv"),
            max_items=options.max_items,
            max_audio_bytes=options.max_kept_audio_bytes,
            margin_ms=options.truncation_margin_ms,
        )
        self._buffer = InputBuffer(
            make_detector,
            audio_format=config.input_format,
            detection=config.turn_detection,
            max_bytes=options.max_buffer_bytes,
        )
        self._responses = Responses(out, config, conversation, options)
        self._transcriptions = Transcriptions(out, conversation, options)
        self._turns = Turns(
            out,
            config,
            buffer=self._buffer,
            conversation=conversation,
            responses=self._responses,
            transcriptions=self._transcriptions,
        )
        self._verbs = Verbs(
            out,
            config,
            buffer=self._buffer,
            conversation=conversation,
            responses=self._responses,
            turns=self._turns,
        )
        self._greet()

    def _greet(self) -> None:
        self._out.send(ev.SessionCreated(session=self._config.echo))
        if self._options.announce_conversation:
            named = ev.Conversation(
                id=self._conversation.conversation_id, object="realtime.conversation"
            )
            self._out.send(ev.ConversationCreated(conversation=named))

    @property
    def session_id(self) -> str:
        """The session's id, as in ``session.created``."""
        return self._config.session_id

    # In

    def receive(self, frame: bytes) -> None:
        """Take a frame from the client; `tick` handles it."""
        if not self.closed:
            self._frames.append(frame)
            self._frame_bytes += len(frame)

    @property
    def unhandled_bytes(self) -> int:
        """How much was received and not handled: stop reading when it grows."""
        return self._frame_bytes

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

    # Out

    def drain(self) -> list[Happening]:
        """Return what is to be sent and done, in order, and forget it."""
        return self._out.drain()

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do; in the past if it has now."""
        if self.closed:
            return None
        if self.held:
            return self._expires_s
        if self._frames or self._buffer.behind:
            return float("-inf")
        rooms = (self._responses, self._transcriptions, self._turns)
        deadlines = [at for room in rooms if (at := room.next_deadline()) is not None]
        return min(self._expires_s, *deadlines) if deadlines else self._expires_s

    def tick(self, now_s: float) -> None:
        """Handle what has come in and do what is due."""
        self._out.now_s = now_s
        if now_s >= self._expires_s and not self.closed:
            self._expire()
        if not self.held and not self.closed:
            self._work()
            self._responses.advance()
            self._transcriptions.advance()
            self._turns.advance()

    def _expire(self) -> None:
        minutes = self._options.session_life_s / 60
        message = f"Your session hit the maximum duration of {minutes:g} minutes."
        self._out.send(Refusal("session_expired", message).to_event(None))
        self._close(Close(1001, message))

    def _close(self, close: Close) -> None:
        self.closed = True
        self._frames.clear()
        self._frame_bytes = 0
        self._out.order(close)

    # Work

    def _work(self) -> None:
        for _ in range(STEPS_PER_TICK):
            if self._buffer.behind:
                for happened in self._buffer.hear():
                    self._turns.heard(happened)
            elif self._frames and not self.closed:
                frame = self._frames.popleft()
                self._frame_bytes -= len(frame)
                self._handle(frame)
            else:
                return

    def _handle(self, frame: bytes) -> None:
        read = read_event(frame, lenient=self._options.lenient_fields)
        try:
            self._verbs.carry_out(read.event_or_refusal())
        except Refusal as refusal:
            self._refuse(refusal, read.event_id)

    def _refuse(self, refusal: Refusal, event_id: str | None) -> None:
        self._out.send(refusal.to_event(event_id))
        if self._options.close_on_error:
            self._close(Close(1008, f"invalid_request_error.{refusal.code}"))

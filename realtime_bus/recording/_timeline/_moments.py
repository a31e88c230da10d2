"""What happened, as data: each kind of thing that a `Timeline` has.

Moments (``..._ms`` fields that say "when") are milliseconds since the recording began; positions
in audio are milliseconds since that audio's own beginning.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

from realtime_bus.history import HistoryItem, TokenCounts

HeardFrom: TypeAlias = Literal["sink", "truncations", "arrival"]
"""How it is known what was heard; see `Timeline`."""

TurnOrigin: TypeAlias = Literal["speech", "commit", "text", "request", "idle"]
"""What a turn began with; see `Turn`."""

ProblemKind: TypeAlias = Literal[
    "error",
    "drift",
    "handler_failed",
    "overflow",
    "invalid_frame",
    "unknown_event",
    "left_out",
    "disconnected",
]
"""What went wrong; see `Problem`."""


class Piece(Struct, frozen=True, kw_only=True, gc=False):
    """A stretch of some audio, and when it was to be heard.

    Attributes:
        at_ms: When.
        from_ms: Where in the audio it begins.
        length_ms: How long it is.
    """

    at_ms: float
    from_ms: float
    length_ms: float

    @property
    def end_ms(self) -> float:
        """When it is over."""
        return self.at_ms + self.length_ms

    @property
    def to_ms(self) -> float:
        """Where in the audio it ends."""
        return self.from_ms + self.length_ms


class BufferMark(Struct, frozen=True, kw_only=True):
    """The person's audio was made an item, or thrown away.

    Attributes:
        at_ms: When the server said so; of a clear that it did not confirm, when it was sent.
        kind: Which of both.
        position_ms: How much audio had been sent by then.
        item_id: The item that it became.
    """

    at_ms: float
    kind: Literal["committed", "cleared"]
    position_ms: float
    item_id: str | None = None


class PersonAudio(Struct, frozen=True, kw_only=True):
    """What the person's side sent, all of it as one stream.

    Attributes:
        pieces: Where the stream lies in time, in order, never overlapping: the rules are in
            ``_placing.py``.
        length_ms: How long it is.
        chunks: How many frames it came in.
        rate_hz: Its highest sample rate; 0 if there is no audio.
        marks: Where it was committed or cleared.
        peaks: The loudest sample of each 10 ms of the stream, 0 to 255; empty if not asked for,
            0 where the audio was left out of the recording.
    """

    pieces: list[Piece] = []
    length_ms: float = 0.0
    chunks: int = 0
    rate_hz: int = 0
    marks: list[BufferMark] = []
    peaks: bytes = b""


class AssistantAudio(Struct, frozen=True, kw_only=True):
    """The audio of one content part that the assistant has generated.

    Attributes:
        item_id: The item.
        content_index: Which part of it.
        response_id: The response that generated it.
        deltas: As it was generated: each delta at its arrival.
        heard: As it was heard, in order, never overlapping.
        generated_ms: How long it is.
        heard_ms: How much of it was heard, from its beginning.
        silenced_ms: When it was cut off, if it was not heard to its end.
        rate_hz: Its highest sample rate.
        peaks: The loudest sample of each 10 ms of it, 0 to 255; empty if not asked for.
    """

    item_id: str
    content_index: int
    response_id: str
    deltas: list[Piece]
    heard: list[Piece]
    generated_ms: float
    heard_ms: float
    silenced_ms: float | None = None
    rate_hz: int = 24_000
    peaks: bytes = b""

    @property
    def discarded_ms(self) -> float:
        """How much of it was never heard."""
        return self.generated_ms - self.heard_ms


class Speech(Struct, frozen=True, kw_only=True):
    """The server's turn detection heard somebody.

    Attributes:
        item_id: The item that the speech was to become.
        started_ms: When ``speech_started`` came.
        stopped_ms: When ``speech_stopped`` came; None if it never did.
        audio_start_ms: Where it began, as the server counts the audio of its connection.
        audio_end_ms: Where it ended, the silence that ended it included.
        from_ms: When the person said the first of it, padding included.
        to_ms: When its end was sent, the silence that ended it included; None without an end.
        voice_end_ms: When the person fell silent, where the settings say how long a silence
            ended the turn; None where nobody can tell.
    """

    item_id: str
    started_ms: float
    stopped_ms: float | None
    audio_start_ms: int
    audio_end_ms: int | None
    from_ms: float
    to_ms: float | None
    voice_end_ms: float | None


class ResponseSpan(Struct, frozen=True, kw_only=True):
    """A response, from its beginning to its end.

    Attributes:
        id: Its id.
        created_ms: When ``response.created`` came; of one that ended at once, its end.
        done_ms: When ``response.done`` came; None if it never did.
        status: How it ended.
        reason: Why, where the server said: ``turn_detected`` …, or the error's code.
        in_conversation: Whether it is of the default conversation; False if it is out of band.
        item_ids: What it generated, in order.
        first_audio_ms: When its first audio came.
        first_heard_ms: When that was heard.
        first_text_ms: When its first written text came, not transcripts.
        usage: What it cost, in tokens; None if the server did not say.
        model: The session's model.
    """

    id: str
    created_ms: float
    done_ms: float | None
    status: str | None
    reason: str | None
    in_conversation: bool
    item_ids: list[str]
    first_audio_ms: float | None
    first_heard_ms: float | None
    first_text_ms: float | None
    usage: TokenCounts | None
    model: str


class ToolCall(Struct, frozen=True, kw_only=True):
    """A function call, and what came of it.

    Attributes:
        call_id: The call.
        name: The function.
        arguments: Model text that should be JSON.
        item_id: The item with the call.
        response_id: The response that made it.
        called_ms: When the arguments were complete.
        output: What was sent back; None if nothing was.
        output_ms: When.
    """

    call_id: str
    name: str
    arguments: str
    item_id: str
    response_id: str
    called_ms: float
    output: str | None
    output_ms: float | None

    @property
    def took_ms(self) -> float | None:
        """How long it took."""
        return None if self.output_ms is None else self.output_ms - self.called_ms


class CutItem(Struct, frozen=True, kw_only=True):
    """What became of one item when the assistant was silenced.

    Attributes:
        item_id: The item.
        content_index: Which part of it.
        heard_ms: How much of it had been heard.
        generated_ms: How much of it had come by then.
    """

    item_id: str
    content_index: int
    heard_ms: float
    generated_ms: float


class BargeIn(Struct, frozen=True, kw_only=True):
    """The assistant was silenced before its end.

    Attributes:
        silent_ms: When there was silence.
        speech_ms: When the ``speech_started`` came that did it; None if it was something else.
        latency_ms: From there to silence: as it was measured, else by the recording's clock.
        items: What became of what was playing or queued, in order.
    """

    silent_ms: float
    speech_ms: float | None
    latency_ms: float | None
    items: list[CutItem]


class Turn(Struct, frozen=True, kw_only=True):
    """The end of a person's input, and all that answers it.

    Attributes:
        origin: What the turn began with: ``speech``, the arrival of ``speech_stopped``;
            ``commit``, the sending of ``input_audio_buffer.commit``; ``text``, the sending of a
            message; ``request``, the sending of a ``response.create`` that nobody's input came
            before; ``idle``, the arrival of ``timeout_triggered``.
        at_ms: When that was.
        voice_end_ms: When the person fell silent, where that is known; before ``at_ms``.
        item_id: The person's item, if it is known.
        response_ids: What answered; more than one after tool calls.
        first_audio_ms: When the first audio came.
        first_heard_ms: When it was heard.
        first_text_ms: When the first written text came.
        interrupted: Whether somebody spoke over the answer.
    """

    origin: TurnOrigin
    at_ms: float
    voice_end_ms: float | None
    item_id: str | None
    response_ids: list[str]
    first_audio_ms: float | None
    first_heard_ms: float | None
    first_text_ms: float | None
    interrupted: bool

    @property
    def to_audio_ms(self) -> float | None:
        """From its beginning to the first audio."""
        return None if self.first_audio_ms is None else self.first_audio_ms - self.at_ms

    @property
    def to_heard_ms(self) -> float | None:
        """From its beginning to the first audio's being heard."""
        return None if self.first_heard_ms is None else self.first_heard_ms - self.at_ms


class Said(Struct, frozen=True, kw_only=True):
    """One item of the conversation, and when it was heard or came.

    Attributes:
        item: All that is known of it; `HistoryItem.estimated_heard_text` is what was heard.
        at_ms: When it began: of speech, when it was said or heard; else when it came.
        end_ms: When it was over.
    """

    item: HistoryItem
    at_ms: float
    end_ms: float

    @property
    def text(self) -> str:
        """All that is written or said in it; generated, not heard."""
        return self.item.text

    @property
    def heard_text(self) -> str:
        """The same, cut to what was heard: an estimate."""
        return self.item.estimated_heard_text

    @property
    def heard_ms(self) -> int | None:
        """Where it was cut off; None if it was not."""
        return next((p.heard_ms for p in self.item.parts if p.heard_ms is not None), None)


class Problem(Struct, frozen=True, kw_only=True):
    """Something that went wrong.

    Attributes:
        at_ms: When.
        kind: What.
        text: The same in words.
        details: All that is known of it.
    """

    at_ms: float
    kind: ProblemKind
    text: str
    details: dict[str, Any] = {}


class ConnectionSpan(Struct, frozen=True, kw_only=True):
    """One connection of the session.

    Attributes:
        from_ms: When it took over.
        to_ms: When it was lost, replaced or closed; None if the recording ends before.
        session_id: The server's id of the session.
        cause: What the one before it ended with; None for the first one.
        restored: Ids of the items that it was given back.
        lost: What it was not, in words.
    """

    from_ms: float
    to_ms: float | None
    session_id: str | None
    cause: Literal["lost", "rollover"] | None
    restored: list[str]
    lost: list[str]

"""Answers from a recording: a responder for any client, at any time.

Where `Playback` sends the recorded frames themselves, here the server's own protocol speaks: its
ids, its detector, its rules. What it says was recorded: words, sound, tool calls, how it ended.

The rules
---------
* Which answer it is: the one that followed the same output of the same call, or the same text;
  else the next one that was not given in this session. Out of band: the one with the same
  metadata, else the next one. When all were given, the last one that said something is said again.
* It comes as it came, piece by piece, `pace` times faster; the server's own pace is a limit.
* One that was interrupted ends where it was cut, as complete: what would have followed was never
  made. One that failed, or was incomplete, is so again, for the same reason.
* The words of the person are those of the turn by its number.
"""

from __future__ import annotations

import math
import os
from base64 import b64decode
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, cast

import anyio
import msgspec

from realtime_bus import events as ev
from realtime_bus.errors import UsageError
from realtime_bus.recording import Line, Recording
from realtime_bus.recording._halves._causes import at, needs_of
from realtime_bus.recording._halves._connections import Frame, read_connections

from ._audio import to_pcm24
from ._responders import (
    Output,
    ResponderRequest,
    Speech,
    Text,
    ToolCall,
    Unfinished,
    last_user_text,
)

_MAX_SESSIONS: Final = 1000
_FORMATS: Final[dict[str, ev.AudioFormat]] = {
    "audio/pcmu": ev.AudioPCMU(),
    "audio/pcma": ev.AudioPCMA(),
}
_MARKS: Final = "realtime_bus_"
_REASONS: Final = ("max_output_tokens", "content_filter")


class _Piece(msgspec.Struct, frozen=True):
    """A piece of an answer.

    Attributes:
        after_s: When it came, since the response began.
        text: Its words.
        frame: The audio delta that holds its sound.
        call: The call that it is.
    """

    after_s: float
    text: str = ""
    frame: Frame | None = None
    call: ToolCall | None = None


class _Answer(msgspec.Struct):
    """A recorded response.

    Attributes:
        pieces: What it said, in order.
        after: What it followed: ``("call", id)`` or ``("text", text)``.
        metadata: Of the request, or of the response.
        aside: Whether it was out of band.
        audio_format: What its sound is encoded in.
        end: Why it is not complete.
    """

    pieces: list[_Piece]
    after: tuple[str, str] | None
    metadata: dict[str, str]
    aside: bool
    audio_format: ev.AudioFormat | None = None
    end: Unfinished | None = None

    @property
    def speaks(self) -> bool:
        return any(piece.call is None for piece in self.pieces)


class RecordedResponder:
    """Answer as it was answered in a recording: a responder and a transcriber.

    Args:
        recording: The recording, or its file, or its lines.
        pace: How many times faster than recorded; infinity without waiting.

    Raises:
        RecordingError: The file is no recording.
        UsageError: There is no response in it, or the pace is not above 0.
    """

    def __init__(
        self, recording: Recording | str | os.PathLike[str] | Iterable[Line], *, pace: float = 1.0
    ) -> None:
        if not pace > 0:
            raise UsageError(f"pace must be above 0, not {pace}")
        lines = Recording(recording) if isinstance(recording, str | os.PathLike) else recording
        reader = _Reader()
        for connection in read_connections(lines, "server"):
            reader.read(connection.frames)
        if not reader.answers:
            raise UsageError("there is no response in this recording: nothing to answer with")
        self._answers = reader.answers
        self._words = reader.words
        self._pace = pace
        self._given: OrderedDict[str, set[int]] = OrderedDict()  # by session

    async def respond(self, request: ResponderRequest) -> AsyncGenerator[Output, None]:
        """Give the answer that is due, at the pace of the recording."""
        answer = self._choose(request)
        began_s = anyio.current_time()
        for piece in answer.pieces:
            if not math.isinf(self._pace):
                await anyio.sleep_until(began_s + piece.after_s / self._pace)
            if piece.call is not None:
                yield piece.call
            elif piece.frame is not None and request.wants_audio:
                yield Speech(_sound(piece.frame, answer.audio_format))
            elif piece.text:
                yield Text(piece.text)
        if answer.end is not None:
            yield answer.end

    def transcript(self, turn_index: int, audio: bytes) -> str | None:  # noqa: ARG002  # by number
        """Return what the person said in this turn then, or None where nobody wrote it down."""
        return self._words[turn_index] if turn_index < len(self._words) else None

    def _choose(self, request: ResponderRequest) -> _Answer:
        given = self._given.setdefault(request.session_id, set())
        self._given.move_to_end(request.session_id)
        if len(self._given) > _MAX_SESSIONS:
            self._given.popitem(last=False)
        after, metadata = _last_said(request.items), _own(request.metadata or {})
        wishes: list[Callable[[_Answer], bool]] = [
            lambda answer: _own(answer.metadata) == metadata,
            lambda _answer: True,
        ]
        if not request.out_of_band:
            wishes[0] = lambda answer: after is not None and answer.after == after
        for wish in wishes:
            for index, answer in enumerate(self._answers):
                fits = answer.aside == request.out_of_band and wish(answer)
                if fits and index not in given:
                    given.add(index)
                    return answer
        spoken = (a for a in reversed(self._answers) if a.speaks and a.aside == request.out_of_band)
        return next(spoken, _Answer([], None, {}, aside=False))


class _Reader:
    """Collect answers and words from the frames of a connection.

    Attributes:
        answers: The responses, in order.
        words: What was said in each turn.
    """

    def __init__(self) -> None:
        self.answers: list[_Answer] = []
        self.words: list[str | None] = []
        self._open: dict[str, tuple[_Answer, int]] = {}
        self._calls: dict[str, tuple[str, str]] = {}
        self._turns: dict[str, int] = {}
        self._said: tuple[str, str] | None = None
        self._reading: dict[str, Callable[[Frame, dict[str, Any], Any], None]] = {
            "conversation.item.input_audio_transcription.completed": self._word,
            "input_audio_buffer.committed": self._turn,
            "response.created": self._begin,
            "response.done": self._end,
            "response.output_item.done": self._call,
            **dict.fromkeys((*_SOUNDS, *_TEXTS), self._piece),
        }

    def read(self, frames: list[Frame]) -> None:
        """Take a connection's frames."""
        needs = needs_of(frames, "server")
        for frame in frames:
            if frame.said is None:
                continue
            if frame.side == "client":
                if frame.type == "conversation.item.create":
                    self._said = _said_by(frame.said.get("item"))
                continue
            read = self._reading.get(frame.type)
            if read is not None:
                cause = needs[frame.index].answers if frame.index in needs else None
                asked = None if cause is None else frames[cause].said
                read(frame, frame.said, asked)

    def _begin(self, frame: Frame, said: dict[str, Any], asked: dict[str, Any] | None) -> None:
        response_id = at(said, "response", "id")
        marks = at(asked, "response", "metadata") or at(said, "response", "metadata")
        metadata = cast("dict[str, str]", marks) if isinstance(marks, dict) else {}
        aside = at(asked, "response", "conversation") == "none"
        kind = at(said, "response", "audio", "output", "format", "type")
        answer = _Answer(
            [],
            None if aside else self._said,
            metadata,
            aside=aside,
            audio_format=_FORMATS.get(kind),
        )
        if not aside:
            self._said = None
        self.answers.append(answer)
        if isinstance(response_id, str):
            self._open[response_id] = answer, frame.t_us

    def _piece(self, frame: Frame, said: dict[str, Any], _asked: object) -> None:
        found = self._open.get(str(said.get("response_id")))
        if found is None:
            return
        answer, began_us = found
        after_s = (frame.t_us - began_us) / 1e6
        if frame.type in _SOUNDS:
            answer.pieces.append(_Piece(after_s, frame=frame))
        else:
            text = msgspec.json.decode(frame.frame()).get("delta")
            answer.pieces.append(_Piece(after_s, text if isinstance(text, str) else ""))

    def _call(self, frame: Frame, said: dict[str, Any], _asked: object) -> None:
        found = self._open.get(str(said.get("response_id")))
        item = said.get("item")
        if found is not None and at(item, "type") == "function_call":
            name, arguments = str(at(item, "name") or ""), str(at(item, "arguments") or "{}")
            call_id = at(item, "call_id")
            call = ToolCall(name, arguments, call_id if isinstance(call_id, str) else None)
            found[0].pieces.append(_Piece((frame.t_us - found[1]) / 1e6, call=call))

    def _end(self, _frame: Frame, said: dict[str, Any], _asked: object) -> None:
        found = self._open.pop(str(at(said, "response", "id")), None)
        details, status = at(said, "response", "status_details"), at(said, "response", "status")
        if found is None or status not in ("failed", "incomplete"):
            return
        reason, error = at(details, "reason"), at(details, "error")
        found[0].end = Unfinished(
            status=status,
            reason=reason if reason in _REASONS else None,
            code=at(error, "code"),
            message=at(error, "message"),
            type=str(at(error, "type") or "server_error"),
        )

    def _turn(self, _frame: Frame, said: dict[str, Any], _asked: object) -> None:
        self._turns[str(said.get("item_id"))] = len(self.words)
        self.words.append(None)
        self._said = None

    def _word(self, _frame: Frame, said: dict[str, Any], _asked: object) -> None:
        turn, words = self._turns.get(str(said.get("item_id"))), said.get("transcript")
        if turn is not None and isinstance(words, str):
            self.words[turn] = words


_SOUNDS: Final = ("response.output_audio.delta", "response.audio.delta")
_TEXTS: Final = (
    "response.audio_transcript.delta",
    "response.output_audio_transcript.delta",
    "response.output_text.delta",
    "response.text.delta",
)


def _sound(frame: Frame, audio_format: ev.AudioFormat | None) -> bytes:
    delta = msgspec.json.decode(frame.frame()).get("delta")
    try:
        return to_pcm24(b64decode(str(delta)), audio_format)
    except ValueError:
        return b""


def _said_by(item: Any) -> tuple[str, str] | None:
    """Return by what an item is known, once somebody else brings it."""
    if at(item, "type") == "function_call_output":
        return "call", str(at(item, "call_id"))
    parts = at(item, "content")
    if at(item, "role") != "user" or not isinstance(parts, list):
        return None
    texts: Iterator[Any] = (at(part, "text") for part in cast("Sequence[Any]", parts))
    text = " ".join(text for text in texts if isinstance(text, str))
    return ("text", text) if text else None


def _last_said(items: list[ev.Item]) -> tuple[str, str] | None:
    """Return the same of the conversation's last item."""
    last = items[-1] if items else None
    if isinstance(last, ev.FunctionCallOutputItem):
        return "call", last.call_id
    text = last_user_text([last]) if isinstance(last, ev.MessageItem) else ""
    return ("text", text) if text else None


def _own(metadata: dict[str, str]) -> dict[str, str]:
    """Return what the application has marked a response with, without what this library adds."""
    return {name: metadata[name] for name in metadata if not name.startswith(_MARKS)}

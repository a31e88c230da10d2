"""What the line is sent: frames and marks, and what is known to have been heard.

The rules:

1. Our audio is cut into frames, whoever it comes from: what is left of one piece begins a frame of
   the next. The rest goes out when somebody says that it is the end (`finish`): the end of an
   item's audio, or a line that has run dry (`is_dry`).
2. Behind the audio stand marks, each with how far in which items it is: when it comes back, that
   was heard, and everything before it, marks that were lost included. Positions are in whole
   milliseconds, rounded down.
3. After `clear` no mark that was sent before it counts: lines send back the marks of what they have
   thrown away. What was not sent yet is not sent any more.
4. Where the provider has a buffer of a certain size, no more is sent than it holds.
5. A mark that is `MARK_TIMEOUT_S` overdue, on a line that is alive, was lost: it counts as come
   back, or the item would be thought to play for ever.

What waits to be sent is unbounded: what was received must be played, and a response's length bounds
it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import pybase64

from realtime_bus.audio import bytes_per_ms, ms_to_bytes

from ._events import CallInfo
from ._formats import AUDIO, MARK, StreamFormat, Template, silence

MARK_TIMEOUT_S: Final = 5.0


class Position(NamedTuple):
    """How far a part of an item is, when a mark comes back."""

    item_id: str
    content_index: int
    ms: int


class _Outgoing(NamedTuple):
    """What waits to be sent: audio, a mark, or both in this order."""

    audio: bytes
    positions: list[Position] | None


class _Mark(NamedTuple):
    """A mark that has not come back."""

    positions: list[Position]
    sent_ms: float
    due_s: float


class Playout:
    """What a call's line plays.

    Args:
        stream_format: How the provider speaks.
        call: What it said of the call.
        mark_ms: How much audio there is between two marks.
        clock: Returns seconds; any zero point.
    """

    def __init__(
        self,
        stream_format: StreamFormat,
        call: CallInfo,
        *,
        mark_ms: int,
        clock: Callable[[], float],
    ) -> None:
        self._call = call
        self._clock = clock
        self._fills_up = stream_format.fills_up
        self._buffer_ms = stream_format.buffer_ms
        self._per_ms = bytes_per_ms(call.output_format)
        self._frame_bytes = ms_to_bytes(stream_format.frame_ms, call.output_format)
        self._mark_bytes = self._frame_bytes * max(1, mark_ms // stream_format.frame_ms)
        most_bytes = ms_to_bytes(stream_format.most_ms, call.output_format)
        self._most_frames = min(self._mark_bytes, most_bytes) // self._frame_bytes
        template = stream_format.send_audio
        self._audio_text = (
            Template(template, AUDIO, call.stream_id) if template is not None else None
        )
        self._mark_text = Template(stream_format.send_mark, MARK, call.stream_id)
        self._clear_text = Template(stream_format.send_clear, MARK, call.stream_id).fill("")
        self._rest = bytearray()  # less than a frame
        self._unmarked: list[Position] = []
        self._unmarked_bytes = 0
        self._waiting: deque[_Outgoing | str] = deque()
        self._marks: dict[str, _Mark] = {}
        self._mark_number = 0
        self._sent_ms = self._played_ms = 0.0
        self._dry_s = 0.0

    def play(self, audio: bytes, item_id: str, content_index: int, end_ms: int) -> None:
        """Queue audio, encoded as the line wants it, that ends so far into its item."""
        self._rest += audio
        while len(self._rest) >= self._frame_bytes:
            frames = min(len(self._rest) // self._frame_bytes, self._most_frames)
            taken = self._take(frames * self._frame_bytes)
            behind_ms = -(-len(self._rest) // self._per_ms)
            self._unmarked.append(Position(item_id, content_index, end_ms - behind_ms))
            self._queue(taken)
        if self._rest:
            self._unmarked.append(Position(item_id, content_index, end_ms))

    def finish(self) -> None:
        """Send what is left of a frame, and the mark that is due behind it."""
        if self._rest:
            missing = self._frame_bytes - len(self._rest) if self._fills_up else 0
            audio = self._take(len(self._rest)) + silence(missing, self._call.output_format)
            self._queue(audio, at_once=True)
        elif self._unmarked:
            self._queue(b"", at_once=True)

    def clear(self) -> None:
        """Forget what waits and what was sent, and have the line do the same."""
        self._rest.clear()
        self._unmarked = []
        self._unmarked_bytes = 0
        self._waiting.clear()
        self._marks.clear()
        self._played_ms = self._sent_ms
        self._dry_s = 0.0
        self._waiting.append(self._clear_text)

    def next_message(self) -> str | bytes | None:
        """Return what is to be sent next, or None while nothing is or can be."""
        if not self._waiting:
            return None
        first = self._waiting[0]
        if isinstance(first, str):
            self._waiting.popleft()
            return first
        if first.audio:
            return self._next_audio(first)
        self._waiting.popleft()
        return self._next_mark(first.positions or [])

    def come_back(self, name: str) -> list[Position] | None:
        """Return what was heard by a mark, or None if it is of no account (any more)."""
        if name not in self._marks:
            return None
        heard: list[Position] = []
        for each in list(self._marks):
            mark = self._marks.pop(each)
            heard += mark.positions
            self._played_ms = mark.sent_ms
            if each == name:
                break
        return heard

    @property
    def is_dry(self) -> bool:
        """Whether all that was sent must have been played, by the clock."""
        return not self._waiting and self._clock() >= self._dry_s

    def overdue(self) -> list[str]:
        """Return the marks that should have come back long ago, oldest first."""
        before_s = self._clock() - MARK_TIMEOUT_S
        return [name for name, mark in self._marks.items() if mark.due_s <= before_s]

    def _next_audio(self, first: _Outgoing) -> str | bytes | None:
        length_ms = len(first.audio) / self._per_ms
        ahead_ms = self._sent_ms - self._played_ms
        limit_ms = self._buffer_ms
        if limit_ms is not None and ahead_ms > 0 and ahead_ms + length_ms > limit_ms:
            return None
        self._waiting.popleft()
        if first.positions is not None:
            self._waiting.appendleft(_Outgoing(b"", first.positions))
        self._sent_ms += length_ms
        self._dry_s = max(self._clock(), self._dry_s) + length_ms / 1000
        if self._audio_text is not None:
            return self._audio_text.fill(pybase64.b64encode_as_string(first.audio))
        return first.audio

    def _next_mark(self, positions: list[Position]) -> str:
        self._mark_number += 1
        name = str(self._mark_number)
        self._marks[name] = _Mark(positions, self._sent_ms, self._dry_s)
        return self._mark_text.fill(name)

    def _take(self, length: int) -> bytes:
        taken = bytes(self._rest[:length])
        del self._rest[:length]
        return taken

    def _queue(self, audio: bytes, *, at_once: bool = False) -> None:
        """Queue a message of audio, with a mark behind it where one is due."""
        self._unmarked_bytes += len(audio)
        positions: list[Position] | None = None
        if at_once or self._unmarked_bytes >= self._mark_bytes:
            positions, self._unmarked, self._unmarked_bytes = self._unmarked, [], 0
        self._waiting.append(_Outgoing(audio, positions))

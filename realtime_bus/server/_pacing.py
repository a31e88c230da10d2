"""What a responder has made and the client has not been sent yet, and when it is due.

The rules
---------
* Items go out one after the other, in the order in which they were made.
* Text is due at once; a piece of transcript when the audio before it was sent, or
  ``transcript_ahead_ms`` earlier.
* The first audio is due at once, the next when what was sent before has played `pace` times
  faster than real time. A responder that was late is not made up for, nor is a client that
  did not read; a timer that was is, up to 50 ms.
* Deltas differ in length, and are whole samples unless ``odd_splits`` is on.
"""

from __future__ import annotations

from collections import deque
from itertools import cycle

from realtime_bus import events as ev
from realtime_bus.audio import ms_to_bytes, sample_width

from ._audio import OutputConverter
from ._options import ServerOptions

DELTA_MS = (50, 100, 200, 150, 250, 200)
"""Lengths of deltas, in turn: the first is short, so that the reply is heard early."""

MADE_UP_S = 0.05


class DeltaTiming:
    """When the next audio delta is due, and how long it is.

    Args:
        options: The server's knobs.

    Attributes:
        due_s: When the next delta is due.
        length_ms: How long it is to be.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self.due_s = float("-inf")
        self._lengths_ms = cycle(DELTA_MS)
        self._sent_ms = 0
        self.length_ms = next(self._lengths_ms)

    def sent(self, sent_ms: int, now_s: float) -> None:
        """Take note of a delta that was sent."""
        options = self._options
        wait_s = sent_ms / 1000 / options.pace
        before_ms, self._sent_ms = self._sent_ms, self._sent_ms + sent_ms
        every_ms = options.stall_every_ms
        if every_ms and self._sent_ms // every_ms > before_ms // every_ms:
            wait_s += options.stall_s
        first = self.due_s == float("-inf")
        self.due_s = (now_s if first else max(self.due_s, now_s - MADE_UP_S)) + wait_s
        self.length_ms = next(self._lengths_ms)


class PendingMessage:
    """A message as the responder makes it: its audio, and its text along the audio.

    Args:
        options: The server's knobs.
        spoken: Whether audio is wanted; otherwise only the text is.
        audio_format: What the audio is to be encoded in.

    Attributes:
        closed: Whether nothing will be added any more.
    """

    def __init__(
        self, options: ServerOptions, *, spoken: bool, audio_format: ev.AudioFormat | None
    ) -> None:
        self.spoken = spoken
        self.closed = False
        self._format = audio_format
        self._converter = OutputConverter(audio_format)
        self._odd = 1 if options.odd_splits and sample_width(audio_format) > 1 else 0
        self._ahead = ms_to_bytes(options.transcript_ahead_ms, audio_format)
        self._audio = bytearray()
        self._texts: deque[tuple[int, str]] = deque()
        self._made = self._taken = 0

    def add(self, text: str, pcm: bytes = b"") -> None:
        """Add words and the sound of them."""
        if text:
            self._texts.append((self._made if self.spoken else 0, text))
        if pcm and self.spoken:
            self._add_audio(self._converter.feed(pcm[: len(pcm) & ~1]))

    def _add_audio(self, audio: bytes) -> None:
        self._audio += audio
        self._made += len(audio)

    def close(self) -> None:
        """Nothing will be added any more."""
        if self.spoken and not self.closed:
            self._add_audio(self._converter.flush())
        self.closed = True

    @property
    def backlog_bytes(self) -> int:
        """How much audio waits."""
        return len(self._audio)

    @property
    def backlog_texts(self) -> int:
        """How many pieces of text wait."""
        return len(self._texts)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._audio and not self._texts

    def take_text(self) -> str | None:
        """Return the next text that is due, or None."""
        if self._texts and self._texts[0][0] <= self._taken + self._ahead:
            return self._texts.popleft()[1]
        return None

    def take_audio(self, length_ms: int) -> bytes:
        """Return at most so much audio; empty if none waits."""
        length = ms_to_bytes(length_ms, self._format)
        length += self._odd if length < len(self._audio) else 0
        audio = bytes(self._audio[:length])
        del self._audio[: len(audio)]
        self._taken += len(audio)
        return audio

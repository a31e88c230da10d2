"""A sink for lines that play out of sight, and only acknowledge what they have played.

The rules:

1. Audio is cut into pieces, so that the account is never further behind than one of them. Each
   piece says where in its item it ends, which is what its acknowledgement has to say.
2. What was acknowledged was heard; nothing else was. A line plays in order: an acknowledgement
   holds for everything sent before the piece it names, too, in case that one of them was lost.
3. A line that does not acknowledge 20 000 pieces is taken to have lost the oldest: nobody heard
   them.
4. An acknowledgement of what was flushed, or was never sent, changes nothing: lines acknowledge
   what they have thrown away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from realtime_bus.events import AudioFormat, AudioPCM

from ._formats import bytes_to_ms, ms_to_bytes, sample_width
from ._sink import AudioSession, PlayedItem, SessionSlot, feed_sink

_REMEMBERED_PARTS, _MAX_SENT = 64, 20_000
_WAY = "bus.connect(..., plugins=[sink := AcknowledgedSink(...), Interruption(sink)])"


class AudioPiece(msgspec.Struct, frozen=True, kw_only=True):
    """Audio for a line to play.

    Attributes:
        audio: Whole samples.
        audio_format: How they are encoded.
        item_id: The item that they belong to.
        content_index: Which content part of it.
        end_ms: Where in the part they end: acknowledge it with ``on_played(item_id, end_ms)``.
    """

    audio: bytes
    audio_format: AudioFormat
    item_id: str
    content_index: int
    end_ms: int


class _Part(NamedTuple):
    item_id: str
    content_index: int


class _Account:
    """What was sent of a part, and what was acknowledged."""

    def __init__(self) -> None:
        self.audio_format: AudioFormat | None = None
        self.earlier_ms = 0  # in formats that it had before
        self.length = 0
        self.rest = b""
        self.played_ms = 0

    def end_ms(self, more_bytes: int = 0) -> int:
        return self.earlier_ms + bytes_to_ms(self.length + more_bytes, self.audio_format)

    def use(self, audio_format: AudioFormat) -> None:
        if audio_format != self.audio_format:
            self.earlier_ms, self.length, self.rest = self.end_ms(), 0, b""
            self.audio_format = audio_format


class AcknowledgedSink:
    """A sink and plugin on a line that tells how far it has played, such as a telephone's.

    ::

        def play(piece: AudioPiece) -> None:  # Twilio: media, and a mark behind it
            send_media(piece.audio)
            send_mark(f"{piece.item_id} {piece.end_ms}")


        sink = AcknowledgedSink(send=play, clear=send_clear)


        def on_mark(name: str) -> None:
            item_id, end_ms = name.split()
            sink.on_played(item_id, int(end_ms))

    Args:
        send: Hands a piece of audio to the line, behind what it has; must not wait.
        clear: Makes the line fall silent and forget what it has; must not wait.
        piece_ms: How long a piece is at most: an interruption is truncated that much too early at
            worst.
    """

    def __init__(
        self,
        *,
        send: Callable[[AudioPiece], object],
        clear: Callable[[], object],
        piece_ms: int = 100,
    ) -> None:
        self._send = send
        self._clear = clear
        self._piece_ms = piece_ms
        self._format: AudioFormat = AudioPCM()
        self._sent: deque[tuple[_Part, int]] = deque()  # and where each piece ends; oldest first
        self._accounts: dict[_Part, _Account] = {}
        self._slot = SessionSlot(self, _WAY)

    def attach(self, session: AudioSession) -> None:
        """Play a session's output audio.

        Raises:
            UsageError: It is attached to a session already.
        """
        self._slot.take(session)
        feed_sink(session, self)
        session.on_close(self.flush)

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of what is written next."""
        self._format = audio_format

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Send audio of an item, in pieces."""
        part = _Part(item_id, content_index)
        account = self._account(part)
        account.use(self._format)
        audio = account.rest + audio
        whole = len(audio) - len(audio) % sample_width(self._format)
        account.rest = audio[whole:]
        step = ms_to_bytes(self._piece_ms, self._format)
        for start in range(0, whole, step):
            piece = audio[start : min(start + step, whole)]
            end_ms = account.end_ms(len(piece))
            self._send(
                AudioPiece(
                    audio=piece,
                    audio_format=self._format,
                    item_id=item_id,
                    content_index=content_index,
                    end_ms=end_ms,
                )
            )
            account.length += len(piece)  # now: what could not be sent is not awaited
            self._sent.append((part, end_ms))
            if len(self._sent) > _MAX_SENT:
                self._sent.popleft()

    def on_played(self, item_id: str, ms: int, *, content_index: int = 0) -> None:
        """Take an acknowledgement: so many milliseconds of an item have been heard in all.

        Call it in the thread of the session. One that says less than an earlier one, or that
        comes too late, changes nothing.
        """
        part = _Part(item_id, content_index)
        account = self._accounts.get(part)
        if account is None or ms <= account.played_ms:
            return
        for _ in range(self._heard_pieces(part, ms)):
            over, end_ms = self._sent.popleft()
            self._accounts[over].played_ms = end_ms
        if self._sent and self._sent[0][0] == part:  # a part of a piece
            account.played_ms = max(account.played_ms, min(ms, self._sent[0][1]))

    def _heard_pieces(self, part: _Part, ms: int) -> int:
        """Return how many of the pieces that were sent are over when a part is so far.

        In one part each piece ends later than the one before: nothing behind the first that is
        not over need be looked at, or a long queue would be walked through for every mark.
        """
        heard = 0
        for number, (sent, end_ms) in enumerate(self._sent, 1):
            if sent == part:
                if end_ms > ms:
                    break
                heard = number
        return heard

    def flush(self) -> list[PlayedItem]:
        """Fall silent now, and return every item that was playing or queued, in order."""
        played = self.positions()
        self._clear()  # first: if it raises, the line plays on, and the account with it
        self._sent.clear()
        self._accounts.clear()
        return played

    def positions(self) -> list[PlayedItem]:
        """Return the same as `flush` would, without stopping anything."""
        parts = dict.fromkeys(part for part, _ in self._sent)
        return [
            PlayedItem(
                item_id=part.item_id,
                content_index=part.content_index,
                played_ms=self._accounts[part].played_ms,
                written_ms=self._accounts[part].end_ms(),
            )
            for part in parts
        ]

    @property
    def playing(self) -> bool:
        """Whether something was sent that has not been acknowledged."""
        return bool(self._sent)

    def _account(self, part: _Part) -> _Account:
        if part not in self._accounts:
            unsent = {sent for sent, _ in self._sent}
            heard = [known for known in self._accounts if known not in unsent]
            for oldest in heard[: -_REMEMBERED_PARTS + 1]:
                del self._accounts[oldest]
            self._accounts[part] = _Account()
        return self._accounts[part]

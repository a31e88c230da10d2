"""Both voices of a recording as a stereo WAV on the true time line.

Rules:

1. Sample 0 is the recording's beginning; left is the person, right the assistant. The rate is the
   highest that the session had.
2. ``heard``: each millisecond of the assistant where it was heard, and nothing of what was not.
   ``generated``: the same, and behind it what was cut off, as it would have been heard if nobody
   had spoken; where that lasts into a later answer, both are heard at once.
3. The recording is read twice, first for its `Timeline`; the file is written in place, half a
   second at a time. So memory does not grow with the audio.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

from realtime_bus import events as ev
from realtime_bus.audio import Resampler, bytes_per_ms, sample_width
from realtime_bus.errors import UsageError
from realtime_bus.events import translation as tr
from realtime_bus.recording._format import Line, Received, Sent
from realtime_bus.recording._reading import RecordingError

from ._frames import Formats, Frames, part_of, rate_hz
from ._hearing import PartKey
from ._model import Timeline
from ._moments import AssistantAudio, Piece
from ._peaks import as_pcm

WavContent: TypeAlias = Literal["heard", "generated"]
"""Which of the assistant's audio; see `export_wav`."""

_LEFT, _RIGHT = 0, 1
_HEADER_BYTES = 44
_MOST_OPEN = 16  # parts whose audio comes at the same time
_MAX_BYTES = 2**32 - 1 - _HEADER_BYTES  # a WAV counts in 32 bits
_AUDIO = (
    ev.ResponseOutputAudioDelta,
    tr.SessionOutputAudioDelta,
    ev.InputAudioBufferAppend,
    tr.SessionInputAudioBufferAppend,
)


def export_wav(
    recording: Iterable[Line], path: str | os.PathLike[str], *, what: WavContent = "heard"
) -> Timeline:
    """Write both voices into a stereo WAV file: left the person, right the assistant.

    Audio that was left out of the recording is silence in the file.

    Args:
        recording: A `Recording`, or its lines; read twice.
        path: Where to.
        what: Of the assistant, what was ``heard``, or all that was ``generated``.

    Returns:
        What happened, by the same time line.

    Raises:
        RecordingError: It is longer than a WAV can be: 12 hours at 24 kHz.
        UsageError: There is nothing else than these two; or the path is that of a device or pipe.
        MissingExtra: Sample rates must be changed, and what does it is not installed.
        OSError: The file cannot be written.
    """
    if what not in ("heard", "generated"):
        raise UsageError(f"what={what!r} is neither 'heard' nor 'generated'")
    timeline = Timeline.of(recording)
    parts = timeline.assistant
    rate = max([timeline.person.rate_hz, *(part.rate_hz for part in parts)]) or 24_000
    pieces = generated(parts) if what == "generated" else {_key(p): p.heard for p in parts}
    every = [*timeline.person.pieces, *(piece for own in pieces.values() for piece in own)]
    end_ms = max([timeline.end_ms, *(piece.end_ms for piece in every)])
    frames = round(end_ms * rate / 1000)
    if frames * 4 > _MAX_BYTES:
        hours = end_ms / 3_600_000
        raise RecordingError(f"{hours:.1f} hours are more than a WAV file can hold")
    target = Path(path)
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is no file: a WAV file is written in place")
    try:
        with target.open("w+b", buffering=0) as file:
            file.write(_wav_header(frames, rate))
            file.truncate(_HEADER_BYTES + 4 * frames)
            _Mix(file, rate, timeline.person.pieces, pieces).fill(recording)
    except BaseException:
        with suppress(OSError):
            target.unlink()  # half a WAV says nothing of what is missing
        raise
    return timeline


def generated(parts: Iterable[AssistantAudio]) -> dict[PartKey, list[Piece]]:
    """Return where all that was generated would have been heard, if nobody had spoken."""
    ends: dict[object, float] = {}  # of what was cut off at the same time
    placed: dict[PartKey, list[Piece]] = {}
    for part in parts:
        pieces = [*part.heard]
        cut = part.response_id if part.silenced_ms is None else part.silenced_ms
        end_ms = pieces[-1].end_ms if pieces else ends.get(cut, 0.0)
        for delta in part.deltas:
            begin = max(delta.from_ms, part.heard_ms)
            if begin < delta.to_ms:
                at_ms = max(end_ms, delta.at_ms)
                length = delta.to_ms - begin
                pieces.append(Piece(at_ms=at_ms, from_ms=begin, length_ms=length))
                end_ms = ends[cut] = at_ms + length
        placed[_key(part)] = pieces
    return placed


def _key(part: AssistantAudio) -> PartKey:
    return PartKey(part.item_id, part.content_index)


def _wav_header(frames: int, rate: int) -> bytes:
    """Return the header of a PCM16 stereo file (RIFF, WAVE format 1)."""
    size = 4 * frames
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, rate, 4 * rate, 4, 16)
    return struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + chunk + _data(size)


def _data(size: int) -> bytes:
    return struct.pack("<4sI", b"data", size)


class _Channel:
    """One side of the file: adds audio to what is there, half a second at a time."""

    def __init__(self, file: BinaryIO, channel: int, rate: int) -> None:
        self._file = file
        self._channel = channel
        self._most_bytes = rate  # half a second
        self._pending = bytearray()
        self._start = 0  # of what is pending, in samples

    def put(self, start: int, pcm: bytes) -> None:
        """Add samples at a place."""
        if start != self._start + len(self._pending) // 2 or len(self._pending) > self._most_bytes:
            self.flush()
            self._start = start
        self._pending += pcm

    def flush(self) -> None:
        """Write what is pending."""
        pcm, self._pending = bytes(self._pending), bytearray()
        if not pcm:
            return
        at = _HEADER_BYTES + 4 * self._start
        self._file.seek(at)
        there = bytearray(self._file.read(2 * len(pcm)))
        room = len(there) // 4 * 2  # nothing lies beyond the end but a rounded sample
        pcm = pcm[:room]
        low, high = 2 * self._channel, 2 * self._channel + 1
        before = bytearray(len(pcm))
        before[0::2], before[1::2] = there[low::4][: room // 2], there[high::4][: room // 2]
        if before.count(0) < len(before):
            pcm = _sum(pcm, bytes(before))
        there[low::4], there[high::4] = pcm[0::2], pcm[1::2]
        self._file.seek(at)
        _write(self._file, there)


def _write(file: BinaryIO, block: bytearray) -> None:
    """Write all of a block: an unbuffered file may take less."""
    view = memoryview(block)
    while view:
        view = view[file.write(view) or 0 :]


def _sum(one: bytes, other: bytes) -> bytes:
    """Return two sounds at once."""
    left, right = array("h", one), array("h", other)
    if sys.byteorder == "big":
        left.byteswap()
        right.byteswap()
    both = (max(-32768, min(32767, a + b)) for a, b in zip(left, right, strict=True))
    mixed = array("h", both)
    if sys.byteorder == "big":
        mixed.byteswap()
    return mixed.tobytes()


class _Stream:
    """One stream of audio, at the file's rate, on its way to where its pieces lie."""

    def __init__(self, channel: _Channel, rate: int, pieces: Iterable[Piece]) -> None:
        self._channel = channel
        self._rate = rate
        self._pieces = [
            (self._samples(p.from_ms), self._samples(p.to_ms), self._samples(p.at_ms))
            for p in pieces
        ]
        self._at = 0  # the piece that comes next
        self._position = 0  # in the stream, in samples
        self._length_ms = 0.0
        self._format: ev.AudioFormat | None = None
        self._resampler: Resampler | None = None
        self._half = b""

    def _samples(self, ms: float) -> int:
        return round(ms * self._rate / 1000)

    def add(self, audio: bytes, audio_format: ev.AudioFormat, left_out_bytes: int | None) -> None:
        """Take more of the stream; of audio that was left out, only its length is known."""
        if audio_format != self._format or not audio:
            self.finish()
            self._format = audio_format
            self._resampler = Resampler(rate_hz(audio_format), self._rate)
        length = len(audio) or left_out_bytes or 0
        self._length_ms += length / bytes_per_ms(audio_format)
        if not audio or self._resampler is None:
            self._position = self._samples(self._length_ms)
            return
        audio = self._half + audio
        whole = len(audio) // sample_width(audio_format) * sample_width(audio_format)
        self._half = audio[whole:]
        self._place(self._resampler.feed(as_pcm(audio[:whole], audio_format)))

    def finish(self) -> None:
        """Place what the resampler still has."""
        if self._resampler is not None:
            self._place(self._resampler.flush())
        self._format = self._resampler = None
        self._half = b""
        self._position = max(self._position, self._samples(self._length_ms))

    def _place(self, pcm: bytes) -> None:
        begin, end = self._position, self._position + len(pcm) // 2
        self._position = end
        while self._at < len(self._pieces) and self._pieces[self._at][0] < end:
            first, last, start = self._pieces[self._at]
            low, high = max(begin, first), min(end, last)
            if low < high:
                self._channel.put(start + low - first, pcm[2 * (low - begin) : 2 * (high - begin)])
            if last > end:
                return
            self._at += 1


class _Mix:
    """Puts the audio of a recording where it belongs."""

    def __init__(
        self, file: BinaryIO, rate: int, person: list[Piece], parts: dict[PartKey, list[Piece]]
    ) -> None:
        self._rate = rate
        self._left, self._right = _Channel(file, _LEFT, rate), _Channel(file, _RIGHT, rate)
        self._person = _Stream(self._left, rate, person)
        self._pieces = parts
        self._streams: dict[PartKey, _Stream] = {}
        self._open: deque[_Stream] = deque()  # that may still hold audio back

    def fill(self, recording: Iterable[Line]) -> None:
        """Read it all."""
        formats, read = Formats(), Frames().event
        for line in recording:
            if not isinstance(line, Received | Sent) or line.broken is not None:
                continue
            event = read(line)
            if isinstance(event, _AUDIO):
                self._audio(event, formats, line.audio_bytes)
            else:
                formats.see(event)
        for stream in (self._person, *self._streams.values()):
            stream.finish()
        self._left.flush()
        self._right.flush()

    def _audio(self, event: object, formats: Formats, left_out_bytes: int | None) -> None:
        if isinstance(event, ev.InputAudioBufferAppend | tr.SessionInputAudioBufferAppend):
            self._person.add(event.audio, formats.input, left_out_bytes)
        elif isinstance(event, ev.ResponseOutputAudioDelta | tr.SessionOutputAudioDelta):
            key = part_of(event)
            stream = self._streams.get(key)
            if stream is None:
                pieces = self._pieces.get(key, [])
                stream = self._streams[key] = _Stream(self._right, self._rate, pieces)
                self._open.append(stream)
                if len(self._open) > _MOST_OPEN:
                    self._open.popleft().finish()
            stream.add(event.delta, formats.of(event), left_out_bytes)

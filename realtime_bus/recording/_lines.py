"""Make the lines of a recording, where their frames come by.

Rules:

1. A line is made in the tap: the frame is in the processor's cache there, and is not needed
   afterwards. Made half a second later, by a thread, it costs six times that.
2. Frames that need no search (`_redaction`) are only searched for line breaks: a server must not
   be able to write lines of its own.
3. A line is three pieces, so that a frame is copied once: to where it waits for the disk.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from typing import Final, TypeAlias

import msgspec

from ._format import Line, Told
from ._redaction import APPEND, Redaction, decoded_bytes

RECEIVED: Final = b'{"kind":"in","t_us":%d,"frame":'
SENT: Final = b'{"kind":"out","t_us":%d,"frame":'
RECEIVED_ASIDE: Final = b'{"kind":"in","t_us":%d,"aside":true,"frame":'
SENT_ASIDE: Final = b'{"kind":"out","t_us":%d,"aside":true,"frame":'
FOOT: Final = b"}\n"
_SENT_WITHOUT_AUDIO: Final = (
    b'{"kind":"out","t_us":%d,"audio_bytes":%d,"frame":' + APPEND + b'"}}\n'
)
_RECEIVED_AT: Final = b'\n{"kind":"in","t_us":'
_TIME: Final = re.compile(rb'"t_us":(-?\d+)')  # a clock of somebody's own may go back

Pieces: TypeAlias = tuple[bytes, bytes, bytes]

_encode = msgspec.json.Encoder(enc_hook=repr).encode


class Lines:
    """Makes lines of one recording.

    Args:
        audio: Whether audio is kept.
        texts: Whether texts are kept.
    """

    def __init__(self, *, audio: bool, texts: bool) -> None:
        self._redaction = Redaction(audio=audio, texts=texts)
        self._keeps_all, self._keeps_audio = audio and texts, audio
        self._is_plain = self._redaction.is_plain

    def of_frame(self, head: bytes, t_us: int, frame: bytes) -> Pieces:
        """Return a frame's line, given one of the heads above."""
        if self._keeps_all and (
            (head is SENT and frame.startswith(APPEND))  # our own, and most of all
            or self._is_plain(frame)
        ):
            return head % t_us, frame, FOOT
        if (
            not self._keeps_audio
            and head is SENT
            and frame.startswith(APPEND)
            and frame.endswith(b'"}')
            and frame.find(b'"', len(APPEND)) == len(frame) - 2  # there is nothing else
        ):
            audio_bytes = decoded_bytes(frame, len(APPEND), len(frame) - 2)
            return _SENT_WITHOUT_AUDIO % (t_us, audio_bytes), b"", b""
        cut = self._redaction.cut(frame)
        begin = (head % t_us).removesuffix(b',"frame":')
        if cut.audio_bytes is not None:
            begin += b',"audio_bytes":%d' % cut.audio_bytes
        if cut.is_json:
            return begin + b',"frame":', cut.frame, FOOT
        return begin + b',"broken":"', b2a_base64(cut.frame, newline=False), b'"}\n'

    def of(self, line: Line) -> bytes:
        """Return another line."""
        if isinstance(line, Told):
            line = self._redaction.told(line)
        return _encode(line) + b"\n"


def marked_aside(lines: bytes) -> tuple[int, bytes]:
    """Note that no handler saw the last frame that was received.

    Returns:
        Where in what was given its line begins, and what stands from there on, with the note;
        -1 if there is none.
    """
    start = (b"\n" + lines).rfind(_RECEIVED_AT)
    if start < 0:
        return -1, b""
    return start, _TIME.sub(rb'"t_us":\1,"aside":true', lines[start:], count=1)


def time_us(lines: bytes) -> int:
    """Return when the first of some lines was, in microseconds since the recording began."""
    found = _TIME.search(lines, 0, 64)
    return int(found[1]) if found else 0

"""Write a recording: lines to files, in the calling thread.

Rules:

1. What was given is with the operating system when a call returns: a process that is killed then
   loses nothing.
2. What could be written in part only is cut off again; where it is compressed, the next file
   begins.
3. A file that becomes too large is followed by the next one, with a header of its own.
4. Frames that need no search (`_redaction`) are only searched for line breaks, together: a server
   must not be able to write lines of its own.
"""

from __future__ import annotations

import errno
import os
from binascii import b2a_base64
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ._format import Header, Line, Told, part_of
from ._redaction import APPEND, PLAIN, PLAIN_AT, SMALL_BYTES, Redaction, key_marks
from ._zstd import zstd

RECEIVED: Final = b'{"kind":"in","t_us":%d,"frame":'
SENT: Final = b'{"kind":"out","t_us":%d,"frame":'
RECEIVED_ASIDE: Final = b'{"kind":"in","t_us":%d,"aside":true,"frame":'
SENT_ASIDE: Final = b'{"kind":"out","t_us":%d,"aside":true,"frame":'
_HEADS: Final = {
    ("in", False): RECEIVED,
    ("in", True): RECEIVED_ASIDE,
    ("out", False): SENT,
    ("out", True): SENT_ASIDE,
}
_FOOT: Final = b"}\n"
_LINE_BREAK: Final = 10  # as a number it is found sooner
_LEVEL = 1  # of zstd: base64 hardly becomes smaller at the next ones, which take much longer

Entry: TypeAlias = tuple[float, bytes | None, Any]
"""When in seconds, one of the heads above, and the frame; or None, and a line with its time."""

_encode = msgspec.json.Encoder(enc_hook=repr).encode


class FileDeletedError(FileNotFoundError):
    """Somebody has deleted the file that is written: it is not wanted any more."""


class RecordingWriter:
    """Write the lines of one recording to a file.

    Args:
        path: The file; it is replaced. One that ends in ``.zst`` is compressed.
        header: Its first line. What it says of audio and texts is what is kept.
        max_file_bytes: Where the next file begins; None for a single file.
        zero_s: What the clock of `put` showed when the recording began.

    Attributes:
        path: The first file.
        paths: All of them.
        size_bytes: The length of the last one.

    Raises:
        OSError: The file cannot be made.
        MissingExtra: It is to be compressed, and what does so is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: Header,
        *,
        max_file_bytes: int | None = None,
        zero_s: float = 0.0,
    ) -> None:
        self.path: Path = Path(path)
        self.paths: list[Path] = []
        self.size_bytes: int = 0
        self._redaction = Redaction(audio=header.audio, texts=header.texts)
        self._keeps_all = header.audio and header.texts
        self._max_file_bytes = max_file_bytes
        self._zero_s = zero_s
        self._zstd: Any = zstd() if self.path.suffix == ".zst" else None
        self._compressor: Any = None
        self._fd = -1
        self._head_bytes = 0
        self._spoilt = False  # whether the file cannot be gone on with
        self._closed = False
        self._open(header)

    def frame(
        self, t_us: int, kind: Literal["in", "out"], frame: bytes, *, aside: bool = False
    ) -> None:
        """Write a frame.

        Raises:
            OSError: It cannot be written.
        """
        self._append(t_us, self._searched(t_us, _HEADS[kind, aside], frame))

    def write(self, line: Line) -> None:
        """Write a line.

        Raises:
            OSError: It cannot be written.
        """
        self._append(line.t_us, self._line(line))

    def put(self, entries: list[Entry]) -> None:
        """Write several at once.

        Raises:
            OSError: They cannot be written; none was.
        """
        if entries:
            self._append(self.time_us(entries[0]), self._lines(entries))

    def close(self) -> None:
        """Close the file; may be called again.

        Raises:
            OSError: The end of a compressed file cannot be written.
        """
        self._closed = True
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                if self._compressor is not None:
                    _write(fd, self._compressor.flush())
            finally:
                os.close(fd)

    # --- lines -------------------------------------------------------------------------------

    def _lines(self, entries: Iterable[Entry]) -> bytes:
        zero_s, keeps_all, marks = self._zero_s, self._keeps_all, key_marks()
        parts: list[bytes] = []
        for time_s, head, body in entries:
            if head is None:
                parts.append(self._line(body))
                continue
            t_us = int((time_s - zero_s) * 1e6)
            if keeps_all and head is SENT and body.startswith(APPEND):  # our own, and most of all
                parts += (head % t_us, body, _FOOT)
                continue
            plain = keeps_all and body[PLAIN_AT] in PLAIN and _LINE_BREAK not in body
            if plain and len(body) < SMALL_BYTES:
                for mark in marks:
                    if mark in body:
                        plain = False
            if plain:
                parts += (head % t_us, body, _FOOT)
            else:
                parts.append(self._searched(t_us, head, body))
        return b"".join(parts)

    def _line(self, line: Line) -> bytes:
        if isinstance(line, Told):
            line = self._redaction.told(line)
        return _encode(line) + b"\n"

    def _searched(self, t_us: int, head: bytes, frame: bytes) -> bytes:
        cut = self._redaction.cut(frame)
        begin = (head % t_us).removesuffix(b',"frame":')
        if cut.audio_bytes is not None:
            begin += b',"audio_bytes":%d' % cut.audio_bytes
        if cut.is_json:
            return b'%b,"frame":%b}\n' % (begin, cut.frame)
        return b'%b,"broken":"%b"}\n' % (begin, b2a_base64(cut.frame, newline=False))

    def time_us(self, entry: Entry) -> int:
        """Return when an entry was, in microseconds since the recording began."""
        time_s, head, body = entry
        return int(body.t_us) if head is None else int((time_s - self._zero_s) * 1e6)

    # --- files -------------------------------------------------------------------------------

    def _append(self, t_us: int, text: bytes) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the recording is closed", str(self.path))
        limit = self._max_file_bytes
        too_large = limit is not None and self.size_bytes + len(text) > limit
        if self._spoilt or (too_large and self.size_bytes > self._head_bytes):
            self._go_on(t_us)
        self._put(text)

    def _go_on(self, t_us: int) -> None:
        """Go on in the next file."""
        self._spoilt = True  # until there is one
        with suppress(OSError):
            self.close()
        self._closed = False
        header = msgspec.structs.replace(self._header, t_us=t_us, part=len(self.paths))
        self._open(header)

    def _open(self, header: Header) -> None:
        path = part_of(self.path, header.part)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._fd = os.open(path, flags, 0o600)  # what people say is nobody else's
        self._header, self._spoilt, self.size_bytes = header, False, 0
        self.paths.append(path)
        if self._zstd is not None:
            self._compressor = self._zstd.ZstdCompressor(level=_LEVEL)
        try:
            self._put(_encode(header) + b"\n")
        except OSError:
            self.paths.pop()
            fd, self._fd = self._fd, -1
            os.close(fd)
            self._spoilt = True
            raise
        self._head_bytes = self.size_bytes

    def _put(self, text: bytes) -> None:
        if self._compressor is not None:
            # flushed to a block's end, so that all is readable however the process ends
            text = self._compressor.compress(text, self._compressor.FLUSH_BLOCK)
        if os.fstat(self._fd).st_nlink == 0:
            raise FileDeletedError(errno.ENOENT, "the file was deleted", str(self.paths[-1]))
        try:
            _write(self._fd, text)
        except OSError:
            self._spoilt = self._compressor is not None
            with suppress(OSError):
                os.ftruncate(self._fd, self.size_bytes)
            raise
        self.size_bytes += len(text)


def _write(fd: int, text: bytes) -> None:
    left = memoryview(text)
    while left:
        left = left[os.write(fd, left) :]

"""Write a recording: lines to files, in the calling thread.

Rules:

1. What was given is with the operating system when a call returns: a process that is killed then
   loses nothing.
2. What cannot be written is kept, and goes on where it stopped with the next call: a disk that
   was full for a while costs nothing.
3. A file that becomes too large is followed by the next one, with a header of its own. No line
   stands in two files.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final, Literal

from msgspec.structs import replace

from ._format import Header, Line, part_of
from ._lines import RECEIVED, RECEIVED_ASIDE, SENT, SENT_ASIDE, Lines, time_us
from ._zstd import zstd

_HEADS: Final = {
    ("in", False): RECEIVED,
    ("in", True): RECEIVED_ASIDE,
    ("out", False): SENT,
    ("out", True): SENT_ASIDE,
}
LOOK_S: Final = 5.0
"""How often it is looked whether somebody has deleted the file."""

_LEVEL = 1  # of zstd: base64 hardly becomes smaller at the next ones, which take much longer
_NOTHING: Final = memoryview(b"")


class FileDeletedError(FileNotFoundError):
    """Somebody has deleted the file that is written: it is not wanted any more."""


class RecordingWriter:
    """Write the lines of one recording to a file.

    Args:
        path: The file; it is replaced. One that ends in ``.zst`` is compressed.
        header: Its first line. What it says of audio and texts is what is kept.
        max_file_bytes: Where the next file begins; None for a single file.

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
    ) -> None:
        self.path: Path = Path(path)
        self.paths: list[Path] = []
        self.size_bytes: int = 0
        self._lines = Lines(audio=header.audio, texts=header.texts)
        self._header = header
        self._max_file_bytes = max_file_bytes
        self._zstd: Any = zstd() if self.path.suffix == ".zst" else None
        self._compressor: Any = None
        self._fd = -1
        self._closed = False
        self._look_s = 0.0
        self._waiting = _NOTHING  # lines
        self._piece = _NOTHING  # those of them that go to the file now
        self._rest = _NOTHING  # of the piece, as it stands in the file: what is not there yet
        self._has_lines = False  # whether the file has more than its header
        self._open(header)
        try:
            self._write_rest()
        except OSError:
            os.close(self._fd)
            raise

    def frame(
        self, t_us: int, kind: Literal["in", "out"], frame: bytes, *, aside: bool = False
    ) -> None:
        """Write a frame.

        Raises:
            OSError: It cannot be written yet; it is kept.
        """
        self.put(b"".join(self._lines.of_frame(_HEADS[kind, aside], t_us, frame)))

    def write(self, line: Line) -> None:
        """Write a line.

        Raises:
            OSError: It cannot be written yet; it is kept.
        """
        self.put(self._lines.of(line))

    def put(self, lines: bytes | memoryview) -> None:
        """Write lines as they are; without any, what could not be written yet.

        They are not to change until they are written.

        Raises:
            OSError: They cannot be written yet; they are kept.
        """
        if self._closed:
            raise OSError(errno.EBADF, "the recording is closed", str(self.path))
        if self._waiting:
            self._waiting = memoryview(b"".join((self._waiting, lines)))
        else:
            self._waiting = memoryview(lines)
        while True:
            self._write_rest()
            if not self._waiting:
                return
            self._next_piece()

    @property
    def unwritten_lines(self) -> int:
        """How many lines are kept, of what could not be written."""
        rest = self._piece if self._compressor is not None and self._rest else self._rest
        return bytes(rest).count(b"\n") + bytes(self._waiting).count(b"\n")

    def close(self) -> None:
        """Close the file; may be called again.

        Raises:
            OSError: The end of a compressed file cannot be written.
        """
        self._closed = True
        self._end_file()

    # --- pieces and files --------------------------------------------------------------------

    def _next_piece(self) -> None:
        """Take as many lines as the file has room for; or begin the next file."""
        length, limit = len(self._waiting), self._max_file_bytes
        if self._fd < 0 or (limit is not None and self.size_bytes + length > limit):
            text = bytes(self._waiting)
            room = max(0, (limit or length) - self.size_bytes)
            length = text.rfind(b"\n", 0, room) + 1
            if self._fd < 0 or (not length and self._has_lines):
                with suppress(OSError):  # the end of a compressed one may be missing
                    self._end_file()
                self._open(replace(self._header, t_us=time_us(text), part=len(self.paths)))
                return
            length = length or text.find(b"\n") + 1  # a line that is too long for any file
        rest = self._waiting[length:]
        self._piece, self._waiting = self._waiting[:length], rest or _NOTHING
        self._rest, self._has_lines = self._piece, True
        if self._compressor is not None:
            # flushed to a block's end, so that all is readable however the process ends
            compress, flush = self._compressor.compress, self._compressor.FLUSH_BLOCK
            self._rest = memoryview(compress(self._piece, flush))

    def _open(self, header: Header) -> None:
        path = part_of(self.path, header.part)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._fd = os.open(path, flags, 0o600)  # what people say is nobody else's
        self._header, self._has_lines, self.size_bytes = header, False, 0
        self._look_s = monotonic() + LOOK_S
        self.paths.append(path)
        self._piece = self._rest = memoryview(self._lines.of(header))
        if self._zstd is not None:
            self._compressor = self._zstd.ZstdCompressor(level=_LEVEL)
            compress, flush = self._compressor.compress, self._compressor.FLUSH_BLOCK
            self._rest = memoryview(compress(self._piece, flush))

    def _end_file(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                if self._compressor is not None and not self._rest:
                    end = memoryview(self._compressor.flush())
                    while end:
                        end = end[os.write(fd, end) :]
            finally:
                os.close(fd)

    def _write_rest(self) -> None:
        if not self._rest:
            return
        now_s = monotonic()
        if now_s >= self._look_s:
            if os.fstat(self._fd).st_nlink == 0:
                raise FileDeletedError(errno.ENOENT, "the file was deleted", str(self.paths[-1]))
            self._look_s = now_s + LOOK_S
        while self._rest:
            length = os.write(self._fd, self._rest)
            self._rest = self._rest[length:]
            self.size_bytes += length
        self._piece = self._rest = _NOTHING

"""Read a recording.

Rules:

1. Nothing is kept: each iteration reads the files anew, line by line, however long they are.
2. All parts of a recording are read as one, in order. The headers of further ones are left out.
3. What is damaged or missing harms nothing else, and is told where it is missing, as `Left`: a line
   that is none, a part that is gone. What a later version may have added is skipped.
4. A last line that is cut off is no damage: so ends the file of a process that was killed.
5. A frame that is no JSON makes its line none; it is given as ``broken``.
"""

from __future__ import annotations

import os
import re
from binascii import b2a_base64
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Final

import msgspec

from realtime_bus.errors import RealtimeBusError

from ._format import FORMAT_VERSION, Header, Left, Line, Received, Sent, part_of
from ._zstd import zstd

_FRAME: Final = re.compile(
    rb'\{"kind":"(in|out)","t_us":(\d{1,14})((?:,"(?:aside|audio_bytes)":\w+)*+),"frame":(.*)\}\s*',
    re.DOTALL,
)
_KNOWN: Final = frozenset(
    {"recording", "in", "out", "names", "bus", "play", "flush", "left_out", "end"}
)
_HEADER_BYTES: Final = 1024 * 1024  # that a first line may have: what is longer is no recording
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_PIECE_BYTES: Final = 4096
_INFLATED_BYTES: Final = 1024 * 1024

_decode: Callable[[bytes], Line] = msgspec.json.Decoder[Line](Line).decode


class _Kind(msgspec.Struct):
    kind: str
    t_us: int


_decode_kind = msgspec.json.Decoder(_Kind).decode


class RecordingError(RealtimeBusError):
    """A file is no recording, or one that this version cannot read."""


class Recording:
    """A session on disk.

    Iterating reads it from its files, line by line, from the beginning each time: an hour with
    audio is half a gigabyte.

    Args:
        path: Its first file; or another one, to begin there.

    Attributes:
        path: The same.
        header: Its first line.

    Raises:
        RecordingError: It is no recording, or of a later version.
        OSError: It cannot be read.
        MissingExtra: It is compressed, and what reads that is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self.header: Header = _header(self.path)

    @property
    def paths(self) -> list[Path]:
        """The files that there are of it, in order."""
        return [path for _, path in self._parts()]

    def __iter__(self) -> Iterator[Line]:
        """Yield its lines in order; of all files, without the headers of further ones.

        Raises:
            OSError: A file cannot be read.
        """
        yield self.header
        t_us, expected = self.header.t_us, self.header.part
        for part, path in self._parts():
            if part > expected:
                why = f"{part_of(self._first, expected).name} is missing"
                yield Left(t_us=t_us, why=why)
            expected = part + 1
            for text in _texts(path):
                line = _read(text, t_us)
                if line is not None:
                    t_us = line.t_us
                    yield line

    @property
    def _first(self) -> Path:
        stem, dot, ending = self.path.name.partition(".jsonl")
        return self.path.with_name(f"{stem.removesuffix(f'.{self.header.part}')}{dot}{ending}")

    def _parts(self) -> list[tuple[int, Path]]:
        """Return the files, from this one on, that belong to the same recording."""
        stem, _, ending = self._first.name.partition(".jsonl")
        name = re.compile(rf"{re.escape(stem)}\.(\d+)\.jsonl{re.escape(ending)}")
        found = [(self.header.part, self.path)]
        for path in self.path.parent.iterdir():
            match = name.fullmatch(path.name)
            part = int(match[1]) if match else 0
            if part > self.header.part and self._continues(path):
                found.append((part, path))
        return sorted(found)

    def _continues(self, path: Path) -> bool:
        try:
            return _header(path).recording_id == self.header.recording_id
        except (OSError, RecordingError):
            return False


def _header(path: Path) -> Header:
    """Return the first line of a file.

    Raises:
        RecordingError: It is none of a recording.
        OSError: The file cannot be read.
    """
    text = next(_texts(path, skip=0), b"")
    try:
        header = _decode(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, Header):
        raise RecordingError(f"{path} is no recording: it does not begin with a header")
    if header.version > FORMAT_VERSION:
        raise RecordingError(
            f"{path} is of version {header.version} of the format, which a later realtime-bus "
            f"writes; this one reads version {FORMAT_VERSION}"
        )
    return header


def _texts(path: Path, *, skip: int = 1) -> Iterator[bytes]:
    """Yield the lines of a file as text, up to where it is cut off."""
    limit = _HEADER_BYTES if skip == 0 else -1
    with path.open("rb") as file:
        compressed = file.read(4) == _ZSTD_MAGIC
        file.seek(0)
        if compressed:
            texts = _split(_inflated(file), limit)
        else:
            texts = iter(partial(file.readline, limit), b"")
        for _ in range(skip):
            next(texts, None)
        for text in texts:
            if text.endswith(b"\n") or skip == 0:
                yield text


def _inflated(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what a compressed file holds, up to where it is cut off or damaged."""
    module = zstd()
    inflate = module.ZstdDecompressor()
    try:
        # in small pieces: what one has brought is lost if the next one is damaged
        while not inflate.eof and (piece := file.read(_PIECE_BYTES)):
            yield inflate.decompress(piece, _INFLATED_BYTES)
            while not inflate.needs_input and not inflate.eof:
                yield inflate.decompress(b"", _INFLATED_BYTES)
    except module.ZstdError as error:
        yield f"\nthe file is damaged: {error}\n".encode()


def _split(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """Yield lines; one that is longer than the limit, if there is one, in its place."""
    parts: list[bytes] = []
    length = 0
    for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for end in ended:
            yield b"".join((*parts, end, b"\n"))
            parts.clear()
            length = 0
        parts.append(rest)
        length += len(rest)
        if 0 <= limit < length:
            break
    if length:
        yield b"".join(parts)


def _read(text: bytes, t_us: int) -> Line | None:
    """Return a line; None for one that this version does not know."""
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        if frame := _FRAME.fullmatch(text):
            kind, told_us, fields, inner = frame.groups()
            return (Received if kind == b"in" else Sent)(
                t_us=int(told_us),
                broken=b2a_base64(inner, newline=False).decode(),
                aside=b'"aside":true' in fields,
            )
    try:
        kind = _decode_kind(text).kind
    except (ValueError, RecursionError):
        pass
    else:
        if kind not in _KNOWN:
            return None
    return Left(t_us=t_us, lines=1, bytes=len(text), why="a line is damaged")

"""Read a recording."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from realtime_bus.errors import RealtimeBusError

from ._format import Header, Line


class RecordingError(RealtimeBusError):
    """A file is no recording, or one that this version cannot read."""


class Recording:
    """A session on disk.

    Iterating reads it from its file, line by line, from the beginning each time: an hour with
    audio is half a gigabyte.

    Args:
        path: Its file, or the first of its files.

    Attributes:
        path: The same.
        header: Its first line.

    Raises:
        RecordingError: It is no recording.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        first = next(iter(self), None)
        if not isinstance(first, Header):
            raise RecordingError(f"{self.path} is no recording: it does not begin with a header")
        self.header: Header = first

    def __iter__(self) -> Iterator[Line]:
        """Yield its lines in order; of all files, without the headers of further ones."""
        decoder = msgspec.json.Decoder(Line)
        with self.path.open("rb") as file:
            for line in file:
                try:
                    yield decoder.decode(line)
                except msgspec.MsgspecError:
                    continue

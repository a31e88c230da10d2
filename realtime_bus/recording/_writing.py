"""Write a recording, line by line."""

from __future__ import annotations

from pathlib import Path

import msgspec

from realtime_bus._secrets import redact

from ._format import Header, Line

_encode = msgspec.json.Encoder().encode


class RecordingWriter:
    """Write the lines of one recording to a file.

    Args:
        path: The file.
        header: Its first line.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._file = path.open("wb")
        self.write(header)

    def frame(self, t_us: int, kind: str, frame: bytes) -> None:
        """Write a frame."""
        text = redact(frame.decode("utf-8", "replace")).replace("\n", " ").replace("\r", " ")
        self._file.write(f'{{"kind":"{kind}","t_us":{t_us},"frame":{text}}}\n'.encode())

    def write(self, line: Line) -> None:
        """Write a line."""
        self._file.write(_encode(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

"""A whole session on disk: every frame both ways, what was heard, and what the bus told.

The format is open: JSON lines, one object each, described by the structs of `Line`.
"""

from ._format import (
    FORMAT_VERSION,
    Ended,
    Flushed,
    Header,
    Left,
    Line,
    Played,
    Received,
    Sent,
    Told,
)
from ._reading import Recording, RecordingError
from ._writing import RecordingWriter

__all__ = [
    "FORMAT_VERSION",
    "Ended",
    "Flushed",
    "Header",
    "Left",
    "Line",
    "Played",
    "Received",
    "Recording",
    "RecordingError",
    "RecordingWriter",
    "Sent",
    "Told",
]

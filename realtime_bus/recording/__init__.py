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
from ._comparison import Change, Difference, DifferenceKind
from ._plan import Selector
from ._reading import Recording, RecordingError
from ._replay import ReplayReport, replay, run_replay
from ._replay_sink import ReplaySink
from ._replay_transport import ReplayTransport
from ._writing import RecordingWriter

__all__ = [
    "FORMAT_VERSION",
    "Change",
    "Difference",
    "DifferenceKind",
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
    "ReplayReport",
    "ReplaySink",
    "ReplayTransport",
    "Selector",
    "Sent",
    "Told",
    "replay",
    "run_replay",
]

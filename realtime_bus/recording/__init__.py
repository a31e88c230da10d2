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
    Named,
    Played,
    Received,
    Sent,
    Told,
)
from ._halves._deviations import Deviation, PlaybackReport
from ._halves._drive import drive
from ._paper import written_down
from ._reading import Recording, RecordingError
from ._replay._again import replay, run_replay
from ._replay._difference import Change, Difference, DifferenceKind
from ._replay._plan import ActSelector
from ._replay._report import ReplayOptions, ReplayReport
from ._replay._sink import ReplaySink
from ._replay._transport import ReplayTransport
from ._spool import RecordingSpool
from ._timeline._conversation import (
    Conversation,
    ConversationEntry,
    conversation,
    conversation_text,
)
from ._timeline._export import export_wav
from ._timeline._model import Timeline
from ._timeline._moments import (
    AssistantAudio,
    BargeIn,
    BufferMark,
    ConnectionSpan,
    CutItem,
    HeardFrom,
    PersonAudio,
    Piece,
    Problem,
    ProblemKind,
    ResponseSpan,
    Said,
    Speech,
    ToolCall,
    Turn,
    TurnOrigin,
)
from ._timeline._peaks import PEAK_MS
from ._writing import RecordingWriter
from ._zstd import check_compression

__all__ = [
    "FORMAT_VERSION",
    "PEAK_MS",
    "ActSelector",
    "AssistantAudio",
    "BargeIn",
    "BufferMark",
    "Change",
    "ConnectionSpan",
    "Conversation",
    "ConversationEntry",
    "CutItem",
    "Deviation",
    "Difference",
    "DifferenceKind",
    "Ended",
    "Flushed",
    "Header",
    "HeardFrom",
    "Left",
    "Line",
    "Named",
    "PersonAudio",
    "Piece",
    "PlaybackReport",
    "Played",
    "Problem",
    "ProblemKind",
    "Received",
    "Recording",
    "RecordingError",
    "RecordingSpool",
    "RecordingWriter",
    "ReplayOptions",
    "ReplayReport",
    "ReplaySink",
    "ReplayTransport",
    "ResponseSpan",
    "Said",
    "Sent",
    "Speech",
    "Timeline",
    "Told",
    "ToolCall",
    "Turn",
    "TurnOrigin",
    "check_compression",
    "conversation",
    "conversation_text",
    "drive",
    "export_wav",
    "replay",
    "run_replay",
    "written_down",
]

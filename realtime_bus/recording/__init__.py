"""A whole session on disk: every frame both ways, what was heard, and what the bus told.

The format is open: JSON lines, one object each, described by the structs of `Line`.
"""

from ._conversation import Conversation, ConversationEntry, conversation, conversation_text
from ._deviations import Deviation, PlaybackReport
from ._difference import Change, Difference, DifferenceKind
from ._drive import drive
from ._export import export_wav
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
from ._moments import (
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
from ._paper import written_down
from ._peaks import PEAK_MS
from ._plan import ActSelector
from ._reading import Recording, RecordingError
from ._replay import replay, run_replay
from ._replay_sink import ReplaySink
from ._replay_transport import ReplayTransport
from ._report import ReplayOptions, ReplayReport
from ._spool import RecordingSpool
from ._timeline import Timeline
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

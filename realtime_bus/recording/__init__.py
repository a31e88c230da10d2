"""A whole session on disk: every frame both ways, what was heard, and what the bus told.

The format is open: JSON lines, one object each, described by the structs of `Line`.
"""

from ._conversation import Conversation, ConversationEntry, conversation, conversation_text
from ._export import export_wav
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
from ._peaks import PEAK_MS
from ._reading import Recording, RecordingError
from ._timeline import Timeline
from ._writing import RecordingWriter

__all__ = [
    "FORMAT_VERSION",
    "PEAK_MS",
    "AssistantAudio",
    "BargeIn",
    "BufferMark",
    "ConnectionSpan",
    "Conversation",
    "ConversationEntry",
    "CutItem",
    "Ended",
    "Flushed",
    "Header",
    "HeardFrom",
    "Left",
    "Line",
    "PersonAudio",
    "Piece",
    "Played",
    "Problem",
    "ProblemKind",
    "Received",
    "Recording",
    "RecordingError",
    "RecordingWriter",
    "ResponseSpan",
    "Said",
    "Sent",
    "Speech",
    "Timeline",
    "Told",
    "ToolCall",
    "Turn",
    "TurnOrigin",
    "conversation",
    "conversation_text",
    "export_wav",
]

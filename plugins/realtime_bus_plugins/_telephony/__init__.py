"""A phone call's line without I/O, its connection, the providers' formats, and what is told."""

from ._connection import Connection, NoCall, WebSocketLike
from ._events import (
    CallEnded,
    CallInfo,
    CallStalled,
    CallStarted,
    DtmfReceived,
    LineProblem,
    ProblemKind,
)
from ._formats import PLIVO, TELNYX, TWILIO, VONAGE, StreamFormat
from ._line import Happening, Heard, Line, Stopped
from ._playout import Playout

__all__ = [
    "PLIVO",
    "TELNYX",
    "TWILIO",
    "VONAGE",
    "CallEnded",
    "CallInfo",
    "CallStalled",
    "CallStarted",
    "Connection",
    "DtmfReceived",
    "Happening",
    "Heard",
    "Line",
    "LineProblem",
    "NoCall",
    "Playout",
    "ProblemKind",
    "Stopped",
    "StreamFormat",
    "WebSocketLike",
]

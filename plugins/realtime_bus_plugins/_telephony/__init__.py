"""A phone call's line without I/O, the providers' wire formats, and what is told of a call."""

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
    "DtmfReceived",
    "Happening",
    "Heard",
    "Line",
    "LineProblem",
    "Playout",
    "ProblemKind",
    "Stopped",
    "StreamFormat",
]

"""What is told of a call: its start and end, keys pressed, and what is wrong with its line."""

from __future__ import annotations

from typing import Literal

import msgspec

from realtime_bus import events as ev


class CallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider said of a call when its stream began.

    Attributes:
        provider: The name of the stream's format.
        stream_id: The provider's id of the stream; empty where there is none.
        call_id: The provider's id of the call, as its REST API takes it; empty where the stream
            does not say it.
        parameters: What the application gave the stream to take along.
        input_format: How the caller's audio is encoded.
        output_format: How the line wants ours.
    """

    provider: str
    stream_id: str
    call_id: str
    parameters: dict[str, str]
    input_format: ev.AudioFormat
    output_format: ev.AudioFormat


class CallStarted(ev.BusEvent, frozen=True, kw_only=True, tag="telephony.call_started"):
    """A session has the caller on the line.

    Attributes:
        info: What the provider said of the call.
    """

    info: CallInfo


class CallEnded(ev.BusEvent, frozen=True, kw_only=True, tag="telephony.call_ended"):
    """The caller is gone; the session closes.

    Attributes:
        reason: The provider said ``stop``, or the connection was closed.
        code: The connection's close code, if that is what ended the call.
    """

    reason: Literal["stopped", "disconnected"]
    code: int | None = None


class DtmfReceived(ev.BusEvent, frozen=True, kw_only=True, tag="telephony.dtmf"):
    """The caller has pressed a key.

    Attributes:
        digit: ``0`` to ``9``, ``*``, ``#``, ``A`` to ``D``, as the provider wrote it.
    """

    digit: str


class CallStalled(ev.BusEvent, frozen=True, kw_only=True, tag="telephony.call_stalled"):
    """Nothing has come from the line for a while; told once until something comes.

    Attributes:
        silent_s: For how long.
    """

    silent_s: float


ProblemKind = Literal[
    "malformed", "too_large", "unexpected", "out_of_order", "mark_lost", "dropped", "provider"
]
"""In which way a line misbehaves: a message that cannot be read or is above the limit, one that
has no place at this time, audio in the wrong order or missing, audio that was played and not
acknowledged, the caller's audio that had to wait too long, what the provider complains about."""


class LineProblem(ev.BusEvent, frozen=True, kw_only=True, tag="telephony.line_problem"):
    """Something is wrong with the line; the call goes on.

    Of each kind the 1st, 10th, 100th … is told.

    Attributes:
        kind: In which way.
        detail: The same in words.
        count: How many of the kind there were in this call.
    """

    kind: ProblemKind
    detail: str
    count: int

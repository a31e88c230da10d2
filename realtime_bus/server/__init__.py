"""A local server that speaks the Realtime protocol, with a real detector and a real voice.

::

    async with RealtimeServer().serve() as bound:
        print(bound.url)  # ws://127.0.0.1:…/v1/realtime

What answers is a `Responder`: an async generator of `Text`, `Speech` and `ToolCall`. What goes
wrong is a `FaultPlan` of `faults`.
"""

from . import faults
from ._options import ServerOptions
from ._playback import Playback
from ._recorded import RecordedResponder
from ._responders import (
    EchoResponder,
    Output,
    Responder,
    ResponderRequest,
    Speech,
    Text,
    ToolCall,
    Transcriber,
    Unfinished,
    VoiceResponder,
)
from ._script import (
    RESPONDERS,
    ScriptError,
    ScriptResponder,
    ScriptTool,
    ScriptTurn,
    responder_named,
)
from ._server import BoundServer, RealtimeServer, ServerStatistics, serve_forever
from ._session import ServerSession
from ._tls import SelfSigned, self_signed
from ._vad import EnergyDetector, SileroDetector, SpeechDetector
from ._voice import Spoken, Voice
from .faults import FaultFired, FaultPlan, FaultPlanError

__all__ = [
    "RESPONDERS",
    "BoundServer",
    "EchoResponder",
    "EnergyDetector",
    "FaultFired",
    "FaultPlan",
    "FaultPlanError",
    "Output",
    "Playback",
    "RealtimeServer",
    "RecordedResponder",
    "Responder",
    "ResponderRequest",
    "ScriptError",
    "ScriptResponder",
    "ScriptTool",
    "ScriptTurn",
    "SelfSigned",
    "ServerOptions",
    "ServerSession",
    "ServerStatistics",
    "SileroDetector",
    "Speech",
    "SpeechDetector",
    "Spoken",
    "Text",
    "ToolCall",
    "Transcriber",
    "Unfinished",
    "Voice",
    "VoiceResponder",
    "faults",
    "responder_named",
    "self_signed",
    "serve_forever",
]

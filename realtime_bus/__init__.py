"""The event bus for realtime voice agents.

Frames of the OpenAI Realtime protocol become typed events, which are routed to decorated
handlers; plugins interrupt playback, sequence responses, run tools, record and log.
"""

import typing

from . import audio, events, history
from .bus import Bus, BusStatistics
from .codec import Decoder, decode, decode_client, encode, narrow
from .errors import (
    AuthenticationError,
    CloseInfo,
    ConnectError,
    ConnectionLost,
    EventTooLarge,
    HostUnreachable,
    InvalidEvent,
    InvalidURL,
    MissingExtra,
    RealtimeBusError,
    RequestError,
    RequestRejected,
    RequestTimeout,
    SessionClosed,
    TransportClosed,
    UpgradeRefused,
    UsageError,
)
from .routing import (
    EventStream,
    HandlerGroup,
    HandlerOptions,
    HandlerStatistics,
    Interceptor,
    Pattern,
    intercept,
    intercept_outgoing,
    on,
    once,
    pattern,
)
from .session import (
    ActiveSettings,
    ConversationState,
    ItemState,
    Plugin,
    Reconnect,
    Reply,
    ResponseState,
    Session,
    SessionContext,
    SessionSettings,
    SessionStatistics,
    TranscriptionSettings,
    TranslationSettings,
)

__all__ = [
    "ActiveSettings",
    "AuthenticationError",
    "Bus",
    "BusStatistics",
    "CloseInfo",
    "ConnectError",
    "ConnectionLost",
    "ConversationState",
    "Decoder",
    "EventStream",
    "EventTooLarge",
    "HandlerGroup",
    "HandlerOptions",
    "HandlerStatistics",
    "HostUnreachable",
    "Interceptor",
    "InvalidEvent",
    "InvalidURL",
    "ItemState",
    "MissingExtra",
    "Pattern",
    "Plugin",
    "RealtimeBusError",
    "Reconnect",
    "Reply",
    "RequestError",
    "RequestRejected",
    "RequestTimeout",
    "ResponseState",
    "Session",
    "SessionClosed",
    "SessionContext",
    "SessionSettings",
    "SessionStatistics",
    "TranscriptionSettings",
    "TranslationSettings",
    "TransportClosed",
    "UpgradeRefused",
    "UsageError",
    "audio",
    "decode",
    "decode_client",
    "encode",
    "events",
    "history",
    "intercept",
    "intercept_outgoing",
    "narrow",
    "on",
    "once",
    "pattern",
]

__version__: str

if not typing.TYPE_CHECKING:  # if type checkers saw it, every mistyped name would be fine with them

    def __getattr__(name: str) -> str:
        """Read the version when it is asked for: reading it takes 2 ms."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version  # noqa: PLC0415  # the same

        return version("realtime-bus")

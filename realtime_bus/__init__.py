"""The event bus for realtime voice agents.

Frames of the OpenAI Realtime protocol become typed events, which are routed to decorated
handlers; plugins interrupt playback, sequence responses, run tools, record and log.
"""

import typing

from . import audio, events
from ._bus._bus import Bus, BusStatistics
from ._bus._options import HandlerOptions
from ._bus._plugin import Plugin, load_plugin
from ._bus._selectors import Pattern, pattern
from ._bus._subscription import HandlerStatistics
from .errors import (
    AuthenticationError,
    CloseInfo,
    ConnectError,
    EventTooLarge,
    HostUnreachable,
    InvalidEvent,
    InvalidURL,
    MissingExtra,
    RealtimeBusError,
    RegistrationError,
    UsageError,
    RequestError,
    RequestRejected,
    RequestTimeout,
    SessionClosed,
    TransportClosed,
    UpgradeRefused,
)
from ._session._core import SessionStatistics
from ._session._fields import SessionFields
from ._session._reply import Reply
from ._session._session import Session
from ._session._waiting import EventStream
from .session._conversation import Conversation, ItemState, ResponseState
from .session._settings import ActiveSettings
from .codec import (
    Decoder,
    decode,
    decode_client,
    decode_translation,
    decode_translation_client,
    encode,
)

__all__ = [
    "ActiveSettings",
    "Conversation",
    "ItemState",
    "ResponseState",
    "AuthenticationError",
    "Bus",
    "BusStatistics",
    "CloseInfo",
    "ConnectError",
    "Decoder",
    "EventStream",
    "EventTooLarge",
    "HandlerOptions",
    "HandlerStatistics",
    "HostUnreachable",
    "InvalidEvent",
    "InvalidURL",
    "MissingExtra",
    "Pattern",
    "Plugin",
    "RealtimeBusError",
    "RegistrationError",
    "UsageError",
    "Reply",
    "RequestError",
    "RequestRejected",
    "RequestTimeout",
    "Session",
    "SessionClosed",
    "SessionFields",
    "SessionStatistics",
    "TransportClosed",
    "UpgradeRefused",
    "audio",
    "decode",
    "decode_client",
    "decode_translation",
    "decode_translation_client",
    "encode",
    "events",
    "load_plugin",
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

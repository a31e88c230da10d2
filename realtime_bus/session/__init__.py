"""One live conversation.

settings ← conversation ← requests, arbiter ← responses; link ← lifecycle ← pipeline; restore ←
recovery (the next connection); all ← session (the facade) ← plugin ← context (begin and end).
"""

from ._context import SessionContext
from ._conversation import ConversationState, ItemState, ResponseState
from ._plugin import Plugin, check_plugins
from ._policy import Reconnect
from ._recovery import Opener
from ._responses import Reply
from ._session import Session, SessionStatistics
from ._settings import (
    ActiveSettings,
    SessionKind,
    SessionSettings,
    TranscriptionSettings,
    TranslationSettings,
)

__all__ = [
    "ActiveSettings",
    "ConversationState",
    "ItemState",
    "Opener",
    "Plugin",
    "Reconnect",
    "Reply",
    "ResponseState",
    "Session",
    "SessionContext",
    "SessionKind",
    "SessionSettings",
    "SessionStatistics",
    "TranscriptionSettings",
    "TranslationSettings",
    "check_plugins",
]

"""One live conversation.

settings ← conversation ← requests, arbiter ← responses; lifecycle ← pipeline; all ← session (the
facade) ← plugin ← context (begin and end).
"""

from ._context import SessionContext
from ._conversation import Conversation, ItemState, ResponseState
from ._plugin import Plugin, check_plugins
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
    "Conversation",
    "ItemState",
    "Plugin",
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

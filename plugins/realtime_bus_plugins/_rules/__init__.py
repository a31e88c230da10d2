"""The rules that a client must keep, as a table, and what they are checked against. No I/O."""

from ._known import SEEN, Known
from ._on_audio import AUDIO_RULES
from ._on_items import ITEM_RULES
from ._on_responses import RESPONSE_RULES
from ._on_session import SESSION_RULES
from ._on_truncation import TRUNCATION_RULES
from ._rule import Broken, Rule, broken_rules

__all__ = ["RULES", "SEEN", "Broken", "Known", "Rule", "broken_rules"]

RULES: tuple[Rule, ...] = (
    *SESSION_RULES,
    *AUDIO_RULES,
    *ITEM_RULES,
    *TRUNCATION_RULES,
    *RESPONSE_RULES,
)
"""Every rule, in the order in which they are checked."""

"""The rules that a client must keep, as a table, and what they are checked against. No I/O."""

from ._observed import Observed
from ._on_conversation import CONVERSATION_RULES
from ._on_session import SESSION_RULES
from ._rule import BrokenRule, Rule, broken_rules

__all__ = ["RULES", "BrokenRule", "Observed", "Rule", "broken_rules"]

RULES: tuple[Rule, ...] = (*SESSION_RULES, *CONVERSATION_RULES)
"""Every rule, in the order in which they are checked."""

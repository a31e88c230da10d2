"""What is said in the demo."""

from __future__ import annotations

import msgspec

__all__ = ["FULL", "SHORT", "Lines"]


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation of two turns, the second of which interrupts the first answer.

    Attributes:
        question: What the person asks first.
        answer: What the assistant says to that: too long to be heard out.
        interruption: What the person says into it.
        reply: What the assistant says to that; heard to its end.
        interrupt_after_s: How much of the answer is heard before the person speaks up.
    """

    question: str
    answer: str
    interruption: str
    reply: str
    interrupt_after_s: float


FULL = Lines(
    question="Hello! How do I cook a risotto for four people?",
    answer=(
        "With pleasure. First, warm one litre of stock in a small pot, and keep it hot. "
        "Then soften a chopped onion in butter, slowly, without any colour. "
        "Add the rice, and stir until every grain is shiny and hot. "
        "Pour in a glass of white wine, and let it boil away. "
        "Now add the stock, one ladle at a time, and keep stirring."
    ),
    interruption="Wait, sorry. How much rice do I need?",
    reply="Three hundred and twenty grams. That is eighty grams for each of you.",
    interrupt_after_s=3.0,
)

SHORT = Lines(
    question="Hello! How do I cook a risotto?",
    answer=(
        "With pleasure. First, warm one litre of stock in a small pot, and keep it hot. "
        "Then soften a chopped onion in butter, slowly, without any colour."
    ),
    interruption="Wait. How much rice?",
    reply="Three hundred grams.",
    interrupt_after_s=1.2,
)

"""What was said, item by item: its order, its words, what was heard, what it cost. No I/O."""

from ._items import FunctionCall, HistoryItem, HistoryPart, SpeakerSegment
from ._order import Order
from ._state import HistorySnapshot, HistoryState
from ._usage import Cost, Prices, TokenCounts, cost_of, count_response, count_transcription

__all__ = [
    "Cost",
    "FunctionCall",
    "HistoryItem",
    "HistoryPart",
    "HistorySnapshot",
    "HistoryState",
    "Order",
    "Prices",
    "SpeakerSegment",
    "TokenCounts",
    "cost_of",
    "count_response",
    "count_transcription",
]

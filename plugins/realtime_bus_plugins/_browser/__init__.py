"""The parts of a conversation with a web page.

`_messages` what is said between page and server, `_downlink` what goes down and what of it was
heard, `_captions` the words of both, `_page` the connections, `_guard` who is let in, `static` the
page itself.
"""

from ._captions import Captions
from ._downlink import Downlink
from ._guard import HEADERS, Guard
from ._messages import (
    BadMessage,
    Ended,
    Flushed,
    FromPage,
    Hello,
    Played,
    PressedEnd,
    PressedInterrupt,
    Started,
    Turn,
)
from ._page import Page, close, greeted

__all__ = [
    "HEADERS",
    "BadMessage",
    "Captions",
    "Downlink",
    "Ended",
    "Flushed",
    "FromPage",
    "Guard",
    "Hello",
    "Page",
    "Played",
    "PressedEnd",
    "PressedInterrupt",
    "Started",
    "Turn",
    "close",
    "greeted",
]

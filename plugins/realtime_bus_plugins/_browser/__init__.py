"""The parts of a conversation with a web page.

`_messages` what is said between page and server, `_downlink` what goes down and what of it was
heard, `_page` the connections, `_captions` the words of both, `_call` all of it as one plugin,
`_guard` who is let in, `static` the page itself.
"""

from ._call import BrowserCall, InterruptPressed, PageLost, PageResumed
from ._guard import HEADERS, LOOPBACK, Guard
from ._messages import Ended, Hello
from ._page import Page, close, greeted

__all__ = [
    "HEADERS",
    "LOOPBACK",
    "BrowserCall",
    "Ended",
    "Guard",
    "Hello",
    "InterruptPressed",
    "Page",
    "PageLost",
    "PageResumed",
    "close",
    "greeted",
]

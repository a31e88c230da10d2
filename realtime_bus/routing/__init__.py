"""Registration, routing and running of handlers. Knows no session.

selectors → signature, options → subscription → runners, mailbox → router → registry → handlers;
streams and groups are registrations of other kinds. Where events are acknowledged, mailboxes tell
when they have settled (`_settled`).
"""

from ._backlog import LIGHT_BYTES, Backlog, weight_bytes
from ._groups import (
    Declaration,
    HandlerGroup,
    declarations,
    intercept,
    intercept_outgoing,
    on,
    once,
)
from ._handlers import Handlers
from ._mailbox import reading_goes_on, set_free
from ._options import HandlerOptions, Mode, OverflowPolicy
from ._registry import BusOptions, Registry, registering
from ._router import Drifted, Interceptor, Router
from ._runners import failure_of, is_cancelled, reported
from ._selectors import OUTGOING, Pattern, Selection, pattern, select
from ._settled import Delivery, Redelivery, SettledMailbox, current_delivery
from ._signature import check_interceptor, handler_name
from ._streams import EventStream, Listening, OnEnd, WaitFor
from ._subscription import HandlerStatistics, Subscription
from ._typed import CommonPattern, OnFor, OnMethod, StreamFor, WaitForFor

__all__ = [
    "LIGHT_BYTES",
    "OUTGOING",
    "Backlog",
    "BusOptions",
    "CommonPattern",
    "Declaration",
    "Delivery",
    "Drifted",
    "EventStream",
    "HandlerGroup",
    "HandlerOptions",
    "HandlerStatistics",
    "Handlers",
    "Interceptor",
    "Listening",
    "Mode",
    "OnEnd",
    "OnFor",
    "OnMethod",
    "OverflowPolicy",
    "Pattern",
    "Redelivery",
    "Registry",
    "Router",
    "Selection",
    "SettledMailbox",
    "StreamFor",
    "Subscription",
    "WaitFor",
    "WaitForFor",
    "check_interceptor",
    "current_delivery",
    "declarations",
    "failure_of",
    "handler_name",
    "intercept",
    "intercept_outgoing",
    "is_cancelled",
    "on",
    "once",
    "pattern",
    "reading_goes_on",
    "registering",
    "reported",
    "select",
    "set_free",
    "weight_bytes",
]

"""What the plugin `telemetry` is made of; it needs OpenTelemetry's API.

`_names` is what is told, as data. `_session` turns a session's events into it, with `_answers` for
turns and responses and `_calls` for tools, by way of `_told`: by `_spans` and `_instruments`.
`_content` writes texts as the conventions have them.
"""

from ._instruments import instruments_of
from ._names import CONTENT, EVENTS, METRICS, SCHEMA_URL, SCOPE, SPANS
from ._session import SessionTelemetry
from ._told import Options

__all__ = [
    "CONTENT",
    "EVENTS",
    "METRICS",
    "SCHEMA_URL",
    "SCOPE",
    "SPANS",
    "Options",
    "SessionTelemetry",
    "instruments_of",
]

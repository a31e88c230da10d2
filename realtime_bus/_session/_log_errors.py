"""The server's ``error`` events, in the log by default."""

from __future__ import annotations

from typing import Any

import structlog

__all__ = ["FATAL_CODES", "log_error"]

_log: structlog.stdlib.BoundLogger = structlog.get_logger("realtime_bus")

FATAL_CODES = frozenset(
    {"session_expired", "insufficient_quota", "billing_hard_limit_reached", "account_deactivated"}
)
"""Errors after which a session is of no more use (Realtime protocol, "errors")."""

_EXPECTED_CODES = frozenset({"response_cancel_not_active"})


def log_error(error: Any) -> None:
    """Write one line about a server's error.

    An error that a normal race brings is for debugging; a fatal one is an error; all others
    are warnings, because the session goes on.
    """
    write = _log.warning
    if error.code in _EXPECTED_CODES:
        write = _log.debug
    elif error.code in FATAL_CODES or error.type in FATAL_CODES:
        write = _log.error
    write(
        "the server reports an error",
        code=error.code,
        message=error.message,
        param=error.param,
        event_id=error.event_id,
        error_type=error.type,
    )

"""The library's log: structlog's key-value lines, on the standard library's logger `realtime_bus`.

Rules:

1. ``logging.getLogger("realtime_bus")`` decides the level, as for any library: silent below
   warning unless configured, never on stdout.
2. Where the application has configured structlog, lines go its way, structured.
3. Tracebacks are text without local variables: those may hold a caller's secrets.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any

import structlog

__all__ = ["Logger", "describe", "get_logger"]

_MAX_FRAMES = 12


class Logger:
    """Writes lines of an event's name and values.

    Args:
        name: Of the standard library's logger.
        **values: Part of every line.
    """

    __slots__ = ("_logger", "_values")

    def __init__(self, name: str, **values: object) -> None:
        self._logger = logging.getLogger(name)
        self._values = values

    def bind(self, **values: object) -> Logger:
        """Return a logger with more values in every line."""
        return Logger(self._logger.name, **{**self._values, **values})

    def debug(self, event: str, **values: object) -> None:
        """Write a line for whoever looks closely."""
        self._write(logging.DEBUG, event, values)

    def info(self, event: str, **values: object) -> None:
        """Write a line about normal operation."""
        self._write(logging.INFO, event, values)

    def warning(self, event: str, **values: object) -> None:
        """Write a line about something unexpected that the session outlives."""
        self._write(logging.WARNING, event, values)

    def error(self, event: str, **values: object) -> None:
        """Write a line about something that failed."""
        self._write(logging.ERROR, event, values)

    def log(self, level: int, event: str, **values: object) -> None:
        """Write a line at a level of the standard library."""
        self._write(level, event, values)

    def _write(self, level: int, event: str, values: dict[str, object]) -> None:
        if not self._logger.isEnabledFor(level):
            return
        every = {**self._values, **values}
        if structlog.is_configured():
            configured: Any = structlog.get_logger(self._logger.name)
            getattr(configured, logging.getLevelName(level).lower())(event, **every)
        else:
            text = _render(None, "", {"event": event, **every})
            self._logger.log(level, "%s", text, stacklevel=3)


_render = structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True)


def get_logger(name: str = "realtime_bus") -> Logger:
    """Return a logger of the library, or of a part of it, such as ``realtime_bus.tools``."""
    return Logger(name)


def describe(error: BaseException) -> dict[str, str]:
    """Return what a line says of an exception: type and text, and where it came from.

    The traceback has no local variables and at most twelve frames, so that it is cheap to make.
    """
    found = traceback.TracebackException.from_exception(error, limit=-_MAX_FRAMES)
    text = "".join(found.format_exception_only()).strip()  # as it prints: its text may fail
    return {"error": text, "traceback": "".join(found.format())}

"""The library's log: structlog's key-value lines, on the standard library's logger `realtime_bus`.

Rules:

1. ``logging.getLogger("realtime_bus")`` decides the level, as for any library: silent below
   warning unless configured, never on stdout.
2. Where the application has configured structlog, lines go its way, structured.
3. Tracebacks are text without local variables: those may hold a caller's secrets. Keys that are in
   use are taken out of every line, whoever has told them.
4. A line that cannot be written harms nobody: logging never raises.
5. What happens again and again is written once, then counted, and told every few seconds
   (`Repeats`): a handler that fails at sixty events a second does not fill a disk.
"""

from __future__ import annotations

import linecache
import logging
import textwrap
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, cast

import structlog

from realtime_bus._secrets import redact

__all__ = ["Logger", "Repeats", "describe", "get_logger", "place_of", "text_of"]

_MAX_FRAMES = 12
_MAX_LINKS = 4
_MAX_CHARACTERS = 20_000
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


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
        every = {
            name: redact(value) if isinstance(value, str) else value
            for name, value in {**self._values, **values}.items()
        }
        try:
            if structlog.is_configured():
                configured: Any = structlog.get_logger(self._logger.name)
                getattr(configured, logging.getLevelName(level).lower())(event, **every)
                return
            text = redact(_render(None, "", {"event": event, **every}))
        except Exception as error:  # noqa: BLE001  # a processor's or a value's: the line is told without
            text = f"{event} [this line could not be rendered: {type(error).__name__}]"
        with suppress(Exception):  # a logging handler's
            self._logger.log(level, "%s", text, stacklevel=3)


_render = structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True)


def get_logger(name: str = "realtime_bus") -> Logger:
    """Return a logger of the library, or of a part of it, such as ``realtime_bus.tools``."""
    return Logger(name)


REPEATED_EVERY_S = 5.0
"""Seconds between two lines of the same kind."""

_MAX_KINDS = 256  # of lines; those that come later are one kind
_OTHERS = ("others",)


class Repeats:
    """Decides which lines are written, of those that say the same again and again.

    ::

        suppressed = repeats.due(handler)
        if suppressed is not None:
            log.error("a handler failed", handler=handler, **suppressed)

    Args:
        burst: How many lines of a kind are written before they are counted only, and every
            `REPEATED_EVERY_S` from then on.
    """

    def __init__(self, *, burst: int = 1) -> None:
        self._burst = burst
        self._kinds: dict[tuple[str, ...], _Kind] = {}

    def due(self, *about: str, error: BaseException | None = None) -> dict[str, int] | None:
        """Count a line, and tell whether to write it.

        Args:
            *about: What lines of its kind have in common.
            error: What it tells of; another class or place makes another kind.

        Returns:
            What it says of those of its kind that were not written since the last one that was:
            ``suppressed``, if there are any. None if this one is not to be written, either.
        """
        now_s = monotonic()
        kind = about if error is None else (*about, type(error).__name__, place_of(error))
        if kind not in self._kinds and len(self._kinds) >= _MAX_KINDS:
            kind = _OTHERS
        found = self._kinds.get(kind)
        if found is None:
            found = self._kinds[kind] = _Kind(now_s)
        if now_s >= found.since_s + REPEATED_EVERY_S:
            found.since_s, found.written = now_s, 0
        if found.written >= self._burst:
            found.suppressed += 1
            return None
        found.written += 1
        suppressed, found.suppressed = found.suppressed, 0
        return {"suppressed": suppressed} if suppressed else {}

    def rest(self) -> Iterator[tuple[tuple[str, ...], int]]:
        """Yield the kinds of which lines were not written, and how many; for the end."""
        for kind, found in self._kinds.items():
            if found.suppressed:
                yield kind, found.suppressed
                found.suppressed = 0


class _Kind:
    """Lines of one kind: how many were written since when, and how many were not."""

    __slots__ = ("since_s", "suppressed", "written")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.suppressed = 0
        self.written = 0


def place_of(error: BaseException) -> str:
    """Return where an exception was raised, such as ``"shop/calls.py:12"``; empty if nowhere."""
    last = deque(_places(error.__traceback__), maxlen=1)
    return f"{last[0].tb_frame.f_code.co_filename}:{last[0].tb_lineno}" if last else ""


def describe(error: BaseException) -> dict[str, str]:
    """Return what a line says of an exception: type and text, and where it came from.

    The traceback has no local variables, at most twelve frames of each exception and four of its
    causes or members, so that it is cheap to make: the standard library looks at all of them.
    """
    lines = redact("".join(_trace(error, _MAX_LINKS)))
    return {"error": _told(error), "traceback": lines[-_MAX_CHARACTERS:]}


def _trace(error: BaseException, links: int) -> Iterator[str]:
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    if cause is not None and links:
        yield from _trace(cause, links - 1)
        yield _CAUSE if cause is error.__cause__ else _CONTEXT
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        for place in deque(_places(error.__traceback__), maxlen=_MAX_FRAMES):
            code, number = place.tb_frame.f_code, place.tb_lineno
            yield f'  File "{code.co_filename}", line {number}, in {code.co_name}\n'
            if line := linecache.getline(
                code.co_filename, number, place.tb_frame.f_globals
            ).strip():
                yield f"    {line}\n"
    yield "\n".join([_told(error), *getattr(error, "__notes__", ()), ""])
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        for member in group.exceptions[:links]:
            yield textwrap.indent("".join(_trace(member, links - 1)), "  | ")


def _places(place: TracebackType | None) -> Iterator[TracebackType]:
    while place is not None:
        yield place
        place = place.tb_next


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {text_of(error)[-_MAX_CHARACTERS:]}"


def text_of(error: BaseException) -> str:
    """Return what an exception says, without keys; one of an application's own may fail at that."""
    try:
        return redact(str(error))
    except Exception:  # noqa: BLE001  # see above
        return "<its text could not be made>"

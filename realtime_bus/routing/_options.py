"""How a handler wants to be run."""

from __future__ import annotations

from typing import Literal, TypedDict

import msgspec

from realtime_bus.errors import UsageError

from ._backlog import MAX_BYTES, MAX_EVENTS

Mode = Literal["inline", "queue", "eager", "parallel", "latest"]
OverflowPolicy = Literal["drop_oldest", "drop_newest", "pause"]


class HandlerOptions(TypedDict, total=False):
    """Keyword options of ``on`` and ``once``.

    Attributes:
        mode: ``inline`` runs in the reader, before the next frame (plain functions only, and
            their default). ``queue`` gives the handler a mailbox: in order, one at a time (the
            default of async functions; a plain function then runs in a worker thread).
            ``eager`` is a mailbox whose async handler begins in the reader if it is free, and
            goes on in a task when it waits (asyncio on Python 3.12 or newer; elsewhere it is
            ``queue``). ``parallel`` runs up to `limit` at once. ``latest`` skips what was
            overtaken by a newer event while the handler ran.
        limit: How many events at once in mode ``parallel``; 8 if left out.
        max_pending: How many events may wait in the mailbox; 10 000 if left out.
        max_pending_bytes: How much they may weigh, by their frames, of which those up to 2 KiB
            weigh nothing; 16 MiB if left out. One that is larger than that waits alone.
        overflow: What happens beyond either: ``drop_oldest`` (the default) and
            ``drop_newest`` lose an event, count it and emit `events.Overflow`; ``pause``
            stops reading from the socket until the handler has caught up.
        timeout_s: Seconds that one event may take; a slower handler is cancelled and
            reported as failed.
        name: What the handler is called in logs and statistics; its module and qualified name if
            left out.
        narrowed: Whether all fields of its events are of their types, also where a server's are
            not; see `realtime_bus.narrow`. Otherwise it gets what did not fit as raw data.
    """

    mode: Mode
    limit: int
    max_pending: int
    max_pending_bytes: int
    overflow: OverflowPolicy
    timeout_s: float
    name: str
    narrowed: bool


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Validated options of one handler."""

    mode: Mode
    limit: int = 1
    max_pending: int = MAX_EVENTS
    max_pending_bytes: int = MAX_BYTES
    overflow: OverflowPolicy = "drop_oldest"
    timeout_s: float | None = None
    narrowed: bool = False

    @classmethod
    def build(cls, options: HandlerOptions, *, is_async: bool, handler: str) -> RunOptions:
        """Fill in the defaults and refuse what cannot work.

        Raises:
            UsageError: The option at fault, and what to write instead.
        """
        for complaint in _complaints(options, is_async=is_async):
            raise UsageError(f"{handler}: {complaint}")
        mode = options.get("mode", "queue" if is_async else "inline")
        limit = options.get("limit", 8) if mode == "parallel" else 1
        latest = mode == "latest"
        return cls(
            mode=mode,
            limit=limit,
            max_pending=1 if latest else options.get("max_pending", MAX_EVENTS),
            max_pending_bytes=options.get("max_pending_bytes", MAX_BYTES),
            overflow=options.get("overflow", "drop_oldest"),
            timeout_s=options.get("timeout_s"),
            narrowed=options.get("narrowed", False),
        )


FOR_EVERY_MODE = frozenset({"mode", "name", "narrowed"})
"""Options that have nothing to do with a mailbox."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "mode": ("inline", "queue", "eager", "parallel", "latest"),
    "overflow": ("drop_oldest", "drop_newest", "pause"),
}


_POSITIVE = {
    "limit": "integer",
    "max_pending": "integer",
    "max_pending_bytes": "integer",
    "timeout_s": "number",
}


def check_options(options: HandlerOptions) -> None:
    """Refuse options that no handler has, and values that none could work with.

    Raises:
        UsageError: The option at fault.
    """
    for complaint in _wrong_options(options):
        raise UsageError(complaint)


def _complaints(options: HandlerOptions, *, is_async: bool) -> list[str]:
    return _wrong_options(options) + _mode_complaints(options, is_async=is_async)


def _wrong_options(options: HandlerOptions) -> list[str]:
    given = dict(options)
    found = [
        f"{key}={given[key]!r} is not known; choose one of {', '.join(known)}"
        for key, known in _CHOICES.items()
        if key in given and given[key] not in known
    ]
    unknown = given.keys() - HandlerOptions.__annotations__.keys()
    found += [f"there is no option {key!r}" for key in sorted(unknown)]
    found += [
        f"{key}={given[key]!r} must be a positive {kind}"
        for key, kind in _POSITIVE.items()
        if key in given and not _is_positive(given[key], whole=kind == "integer")
    ]
    return found


def _is_positive(value: object, *, whole: bool) -> bool:
    types = int if whole else (int, float)
    return isinstance(value, types) and not isinstance(value, bool) and value > 0


def _mode_complaints(options: HandlerOptions, *, is_async: bool) -> list[str]:
    mode = options.get("mode", "queue" if is_async else "inline")
    found: list[str] = []
    if mode == "inline" and is_async:
        found.append("an async function cannot run inline; mode='eager' comes closest")
    if mode == "eager" and not is_async:
        found.append("mode='eager' is for async functions; a plain one runs inline by default")
    if mode == "inline" and (options.keys() - FOR_EVERY_MODE):
        found.append("an inline function has no mailbox: only mode, name and narrowed apply to it")
    if "limit" in options and mode != "parallel":
        found.append("limit applies to mode='parallel' only")
    if mode == "latest" and (options.keys() & {"max_pending", "max_pending_bytes", "overflow"}):
        found.append("mode='latest' keeps one event; max_pending and overflow do not apply")
    return found

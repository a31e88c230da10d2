"""Whether the demo's conversation went as it should: each expectation, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from realtime_bus import events as ev

from ._record import Record

MAX_LATENCY_MS = 20.0
"""From the frame of ``speech_started`` to silence at the sink: what a device plays at a time.

It takes a tenth of a millisecond; the rest is for a machine whose processors are busy elsewhere.
"""


class Check(msgspec.Struct, frozen=True):
    """One expectation."""

    what: str
    passed: bool
    found: str


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The conversation in numbers.

    Attributes:
        events: How many events came.
        latency_ms: Frame of ``speech_started`` received to sink silent, or None.
        received_ms: Audio that the server sent and we took in.
        heard_ms: Audio that a person would have heard.
        discarded_ms: Audio that the flush threw away.
        cut_ms: Where the interrupted item was cut.
        confirmed_ms: Where the server says that it cut it.
    """

    events: int
    latency_ms: float | None
    received_ms: int
    heard_ms: int
    discarded_ms: int
    cut_ms: int | None
    confirmed_ms: int | None


def figures(record: Record) -> Figures:
    """Add up what was noted."""
    received_ms = sum(record.received_bytes.values()) // 48
    items = [item for event in record.interruptions for item in event.items]
    discarded_ms = sum(item.discarded_ms for item in items)
    unheard_ms = sum(item.written_ms - item.played_ms for item in record.unheard)
    cut = _cut_item(record)
    confirmed = _confirmation(record, cut)
    return Figures(
        events=sum(record.counts.values()),
        latency_ms=_latency_ms(record),
        received_ms=received_ms,
        heard_ms=received_ms - discarded_ms - unheard_ms,
        discarded_ms=discarded_ms,
        cut_ms=cut.played_ms if cut else None,
        confirmed_ms=confirmed.audio_end_ms if confirmed else None,
    )


def _latency_ms(record: Record) -> float | None:
    return max((event.latency_s * 1000 for event in record.interruptions), default=None)


def _cut_item(record: Record) -> Any:
    items = [item for event in record.interruptions for item in event.items]
    return next((item for item in items if item.action == "truncated"), None)


def _confirmation(record: Record, cut: Any) -> ev.ConversationItemTruncated | None:
    if cut is None:
        return None
    return next((event for event in record.truncated if event.item_id == cut.item_id), None)


def judge(record: Record) -> list[Check]:
    """Hold what was noted against what should have happened."""
    return list(_checks(record, figures(record)))


def _checks(record: Record, found: Figures) -> Iterator[Check]:
    yield Check(
        "the person's two turns were detected", record.turns == 2, counted(record.turns, "turn")
    )
    yield Check(
        "speech interrupted playback once",
        len(record.interruptions) == 1,
        counted(len(record.interruptions), "interruption"),
    )
    latency = "never" if found.latency_ms is None else f"{found.latency_ms:.2f} ms"
    fast = found.latency_ms is not None and found.latency_ms < MAX_LATENCY_MS
    yield Check(f"the sink was silent within {MAX_LATENCY_MS:g} ms", fast, latency)
    yield Check(
        "the answer was cut in the middle",
        found.cut_ms is not None and found.cut_ms > 0 and found.discarded_ms > 0,
        f"cut at {found.cut_ms} ms, {found.discarded_ms} ms discarded",
    )
    yield Check(
        "the server confirmed the cut at what was heard",
        found.cut_ms is not None and found.confirmed_ms == found.cut_ms,
        f"confirmed at {found.confirmed_ms} ms",
    )
    yield _last_reply(record)
    yield Check("the server reported no error", not record.errors, _messages(record.errors))
    yield Check("no handler failed", not record.failures, _failures(record.failures))


def counted(number: int, what: str) -> str:
    """Say how many."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _last_reply(record: Record) -> Check:
    """Ask the sink, not only the server: a response is done long before it has been heard."""
    cut = {item.item_id for event in record.interruptions for item in event.items}
    status = record.responses[-1].status if record.responses else None
    heard = bool(record.started) and record.started[-1] not in cut and not record.unheard
    found = f"{status}, {'all of it played' if heard else 'not all of it played'}"
    passed = heard and status == "completed" and len(record.responses) > 1
    return Check("the last answer was heard to its end", passed, found)


def _failures(failures: list[ev.HandlerFailed]) -> str:
    return "; ".join(f"{each.handler}: {each.error!r}" for each in failures) or "none"


def _messages(errors: list[ev.ErrorDetails]) -> str:
    return "; ".join(error.message for error in errors) or "none"

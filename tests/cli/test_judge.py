"""The demo's verdict: every expectation can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem
from realtime_bus.cli._demo._judge import figures, judge
from realtime_bus.cli._demo._record import Record
from realtime_bus_plugins.interruption import InterruptedItem, PlaybackInterrupted

_CUT = InterruptedItem(
    item_id="one", played_ms=1000, received_ms=3000, discarded_ms=2000, action="truncated"
)


def good() -> Record:
    """Return the record of a conversation that went as it should."""
    record = Record(Bus())
    record.turns = 2
    record.started = ["one", "two"]
    record.received_bytes.update({"one": 3000 * 48, "two": 500 * 48})
    record.interruptions = [PlaybackInterrupted(items=[_CUT], latency_s=0.0001)]
    truncated = ev.ConversationItemTruncated(item_id="one", content_index=0, audio_end_ms=1000)
    record.truncated = [truncated]
    record.responses = [ev.Response(status="cancelled"), ev.Response(status="completed")]
    return record


def failed(record: Record) -> list[str]:
    """Return what was expected in vain."""
    return [check.what for check in judge(record) if not check.passed]


def test_a_good_conversation_passes() -> None:
    """All expectations are met, and the figures add up."""
    assert failed(good()) == []
    found = figures(good())
    assert (found.received_ms, found.heard_ms, found.discarded_ms) == (3500, 1500, 2000)


def _set(name: str, value: object) -> Callable[[Record], None]:
    return lambda record: setattr(record, name, value)


_SLOW = PlaybackInterrupted(items=[_CUT], latency_s=0.021)
_LATE = ev.ConversationItemTruncated(item_id="one", content_index=0, audio_end_ms=1001)
_LEFT = PlayedItem(item_id="two", played_ms=400, written_ms=500)
_ERROR = ev.ErrorDetails(type="server_error", message="oh")
_FAILURE = ev.HandlerFailed(handler="h", event_type="t", error=ValueError())


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_set("turns", 1), "the person's two turns were detected"),
        (_set("interruptions", []), "speech interrupted playback once"),
        (_set("interruptions", [_SLOW]), "the sink was silent within 20 ms"),
        (_set("truncated", [_LATE]), "the server confirmed the cut at what was heard"),
        (_set("truncated", []), "the server confirmed the cut at what was heard"),
        (
            _set("responses", [ev.Response(status="cancelled")]),
            "the last answer was heard to its end",
        ),
        (_set("unheard", [_LEFT]), "the last answer was heard to its end"),
        (_set("started", ["one"]), "the last answer was heard to its end"),
        (_set("errors", [_ERROR]), "the server reported no error"),
        (_set("failures", [_FAILURE]), "no handler failed"),
    ],
)
def test_each_expectation_can_fail(spoil: Callable[[Record], None], expected: str) -> None:
    """What is spoilt in a good conversation is what the verdict names."""
    record = good()
    spoil(record)
    assert expected in failed(record)


def test_what_still_plays_was_not_heard() -> None:
    """Audio that the sink had not played when the conversation ended is not counted as heard."""
    record = good()
    record.unheard = [_LEFT]
    assert figures(record).heard_ms == 1400

"""The bus's own happenings, and the server's errors in the log."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from realtime_bus import Bus
from realtime_bus import events as ev

from ._peer import joined, refusal, word

pytestmark = pytest.mark.anyio


async def happenings(*frames: bytes) -> list[Any]:
    """Return what the bus says of a session that gets these frames."""
    bus, heard = Bus(), list[Any]()
    bus.on(ev.BusEvent)(heard.append)
    async with joined(bus) as (_, peer):
        peer.say(*frames)
    return heard


async def test_a_session_begins_and_ends_with_a_happening() -> None:
    """`Connected` names the session, `Closed` says how it ended."""
    connected, closed = await happenings()
    assert connected == ev.Connected(url="", session_id="sess_1")
    assert closed == ev.Closed(code=1000, reason="", clean=True)


async def test_an_unknown_event_keeps_its_frame() -> None:
    """A type that is not known is an event, and its frame can be had."""
    frame = b'{"type":"response.telepathy.delta","delta":"?"}'
    _, drift, unknown, _ = await happenings(frame)
    assert unknown == ev.UnknownEvent(event_type="response.telepathy.delta", frame=frame)
    assert (drift.kind, drift.event_type) == ("unknown_variant", "response.telepathy.delta")


async def test_what_is_no_event_is_an_invalid_frame() -> None:
    """A frame that is not JSON, no object or without a type becomes an `InvalidFrame`."""
    heard = await happenings(b"nonsense", b"[1]", b'{"kind":"x"}', b"")
    invalid = [event for event in heard if isinstance(event, ev.InvalidFrame)]
    assert [event.frame for event in invalid] == [b"nonsense", b"[1]", b'{"kind":"x"}', b""]
    assert all(event.reason for event in invalid)


async def test_a_happening_cannot_come_from_the_wire() -> None:
    """A server cannot pass its frames off as the bus's own events."""
    heard = await happenings(b'{"type":"bus.closed","code":1}')
    assert [event.type for event in heard[1:]] == ["bus.drift", "bus.unknown_event", "bus.closed"]
    assert heard[-1].code == 1000


async def test_a_kind_of_drift_is_reported_once() -> None:
    """A field that does not fit is reported once in a session, as an event and a log line."""
    bus, drifts = Bus(), list[ev.Drift]()
    bus.on(ev.Drift)(drifts.append)
    bus.on("response.output_text.delta")(lambda event: None)
    frame = word("a").to_json().replace(b'"a"', b"5")
    with capture_logs() as logs:
        async with joined(bus) as (session, peer):
            peer.say(frame, frame, frame)
            assert set(session.statistics().drift.values()) == {3}
    (drift,) = drifts
    assert (drift.path, drift.kind) == ("delta", "wrong_type")
    (line,) = logs
    assert line["log_level"] == "warning"
    assert line["path"] == "delta"


LEVELS: list[tuple[dict[str, Any], str]] = [
    ({"code": "invalid_value", "param": "session.voice"}, "warning"),
    ({"code": "response_cancel_not_active"}, "debug"),
    ({"code": "session_expired"}, "error"),
    ({"code": None, "type": "insufficient_quota"}, "error"),
    ({"code": None, "type": "server_error"}, "warning"),
]


@pytest.mark.parametrize(("details", "level"), LEVELS)
async def test_errors_are_logged_by_default(details: dict[str, Any], level: str) -> None:
    """An ``error`` event is one log line: debug for a normal race, error for what is fatal."""
    with capture_logs() as logs:
        async with joined() as (session, peer):
            peer.say(refusal("rb_0", **details))
            assert session.last_error is not None
            assert peer.closed is None
    (line,) = logs
    assert line["log_level"] == level
    assert (line["code"], line["event_id"]) == (details["code"], "rb_0")
    assert line["message"] == "no"


async def test_logging_of_errors_can_be_left_out() -> None:
    """With ``log_errors=False`` errors are events only."""
    heard = list[ev.Event]()
    bus = Bus(log_errors=False)
    bus.on("error")(heard.append)
    with capture_logs() as logs:
        async with joined(bus) as (_, peer):
            peer.say(refusal())
    assert len(heard) == 1
    assert logs == []


async def test_an_error_of_another_shape_is_an_error_too() -> None:
    """A server whose error is no object is understood as far as possible."""
    with capture_logs() as logs:
        async with joined() as (session, peer):
            failures = session.stream(ev.HandlerFailed)
            peer.say(b'{"type":"error","error":"boo"}')
            assert session.last_error == ev.ErrorDetails(type="", message="boo")
            await failures.aclose()
    assert [event async for event in failures] == []
    assert logs[-1]["message"] == "boo"


async def test_a_mangled_answer_breaks_nothing() -> None:
    """Events that the session itself looks at may lack anything."""
    async with joined() as (session, peer):
        failures = session.stream(ev.HandlerFailed)
        for name in ("response.created", "response.done", "session.updated", "session.created"):
            peer.say(b'{"type":"%b"}' % name.encode())
        for name in ("added", "created", "retrieved", "deleted", "truncated"):
            peer.say(b'{"type":"conversation.item.%b"}' % name.encode())
        peer.say(b'{"type":"response.created","response":{"metadata":[]}}', b'{"type":"error"}')
    assert [event async for event in failures] == []

"""A log that is not filled by what happens again and again: written once, then counted and told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from realtime_bus import events as ev
from realtime_bus import log

from ._peer import joined, quiet, refusal, speech

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Put a clock under the log."""
    clock = Clock()
    monkeypatch.setattr(log, "monotonic", clock)
    return clock


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """Return what is written."""
    with capture_logs() as lines:
        yield lines
    structlog.reset_defaults()


def of(lines: list[Any], event: str) -> list[Any]:
    """Return the lines of one kind."""
    return [line for line in lines if line["event"] == event]


async def test_a_handler_that_always_fails_writes_one_traceback(
    clock: Clock, lines: list[Any]
) -> None:
    """The first failure is written in full, then one every few seconds; each is an event."""
    failures = list[ev.HandlerFailed]()

    def fail(event: Started) -> None:
        raise ValueError(event.audio_start_ms)

    async with joined() as (session, peer):
        session.on(Started)(fail)
        session.on(ev.HandlerFailed)(failures.append)
        for number in range(600):
            clock.now_s = 100 + number / 60
            peer.say(speech(number))
        assert len(failures) == 600
        first, second = of(lines, "a handler failed")
    assert first["error"] == "ValueError: 0"
    assert "raise ValueError" in first["traceback"]
    assert "suppressed" not in first
    assert second["suppressed"] == 299
    last = of(lines, "a handler failed")[-1]
    assert (last["suppressed"], last["error"]) == (299, "ValueError")
    assert last["handler"] == first["handler"]


async def test_another_error_is_written_at_once(clock: Clock, lines: list[Any]) -> None:
    """Handlers, kinds of error and places are told apart."""

    def fail(event: Started) -> None:
        if event.audio_start_ms == 1:
            raise KeyError
        if event.audio_start_ms == 2:
            raise ValueError
        raise ValueError

    def other(event: Started) -> None:
        raise ValueError

    async with joined() as (session, peer):
        session.on(Started)(fail)
        session.on(Started)(other)
        peer.say(*map(speech, (1, 2, 3, 1, 2, 3)))
        assert len(of(lines, "a handler failed")) == 4


async def test_the_kinds_of_failure_are_bounded(clock: Clock, lines: list[Any]) -> None:
    """A thousand handlers that fail are not a thousand lines."""
    async with joined() as (session, _):
        for number in range(1000):
            session._pipeline.report_failure(f"handler {number}", None, ValueError())
        assert len(of(lines, "a handler failed")) == 257


async def test_errors_of_the_server_do_not_flood_the_log(clock: Clock, lines: list[Any]) -> None:
    """A few of each code are written, then one every few seconds with the number left out."""
    async with joined() as (_, peer):
        for number in range(100):
            peer.say(refusal(code="invalid_value", param=str(number)))
        peer.say(refusal(code="another"))
        clock.now_s += 5
        peer.say(refusal(code="invalid_value"))
        written = of(lines, "the server reports an error")
    assert [line["code"] for line in written] == ["invalid_value"] * 5 + [
        "another",
        "invalid_value",
    ]
    assert written[-1]["suppressed"] == 95


async def test_drift_does_not_flood_the_log(clock: Clock, lines: list[Any]) -> None:
    """A server that makes up a thousand types costs twenty lines; each is an event."""
    drifts = list[ev.Drift]()
    async with joined() as (session, peer):
        session.on(ev.Drift)(drifts.append)
        session.on(ev.UnknownEvent)(lambda _: None)
        for number in range(900):
            peer.say(b'{"type":"made.up.%d"}' % number)
    written = of(lines, "the server sent something unexpected")
    assert len(drifts) == 900
    assert len(written) == 21
    assert written[-1]["suppressed"] == 880


async def test_a_malformed_frame_is_cheap_although_a_handler_fails_at_it() -> None:
    """24 bytes that break a handler cost no more than some other frames do; not tens of ms."""
    logging.getLogger("realtime_bus").setLevel(logging.WARNING)

    def status(event: ev.ResponseDone) -> None:
        large = dict.fromkeys(range(1000), "x" * 1000)  # a local that would be long to print
        event.response.output[len(large)].anything  # noqa: B018  # fails

    def costs_s(feed: Any, times: int) -> float:
        best = float("inf")
        for _ in range(times):
            started_s = perf_counter()
            feed()
            best = min(best, perf_counter() - started_s)
        return best

    async with joined() as (session, peer):
        await quiet()
        sound = ev.ResponseDone(response=ev.Response(id="resp_1", status="completed")).to_json()
        whole_s = costs_s(lambda: peer.say(sound), 50)
        session.on(ev.ResponseDone)(status)
        broken = b'{"type":"response.done"}'
        assert len(broken) == 24
        first_s = costs_s(lambda: peer.say(broken), 1)
        later_s = costs_s(lambda: peer.say(broken), 50)
    assert later_s < 30 * whole_s
    assert first_s < 1000 * whole_s

"""One log line an event."""

from __future__ import annotations

import io
import json
import logging
from typing import Any, Literal

import pytest
import structlog

from realtime_bus import UsageError
from realtime_bus import events as ev
from realtime_bus_plugins.event_log import EventLog
from realtime_bus_plugins.interruption import InterruptedItem, PlaybackInterrupted

from ._wire import session_on

pytestmark = pytest.mark.anyio

PLACE: dict[str, Any] = {
    "response_id": "r",
    "item_id": "a",
    "output_index": 0,
    "content_index": 0,
}


class Lines:
    """A log that can be read."""

    def __init__(self, level: Literal["debug", "info"] = "debug", *, texts: bool = False) -> None:
        self.file = io.StringIO()
        self.plugin = EventLog(render="json", level=level, file=self.file, texts=texts)

    @property
    def all(self) -> list[dict[str, Any]]:
        """Return every line."""
        return [json.loads(line) for line in self.file.getvalue().splitlines()]

    def of(self, name: str) -> dict[str, Any]:
        """Return the one line of an event."""
        [line] = [line for line in self.all if line["event"] == name]
        return line


async def test_a_line_holds_ids_and_sizes() -> None:
    """An incoming audio delta is logged with its ids, its frame's length and its audio's."""
    lines = Lines()
    async with session_on(lines.plugin) as (session, wire):
        wire.feed(ev.ResponseOutputAudioDelta(**PLACE, event_id="e", delta=bytes(4801)))
        length = len(session.frame)
    line = lines.of("response.output_audio.delta")
    line.pop("timestamp")
    assert line == {
        **PLACE,
        "event": "response.output_audio.delta",
        "level": "debug",
        "way": "in",
        "session": "sess_1",
        "event_id": "e",
        "frame_bytes": length,
        "audio_bytes": 4801,
        "audio_ms": 100,
    }


@pytest.mark.parametrize("length", [0, 1, 2, 3, 100])
async def test_audio_is_measured_without_being_decoded(length: int) -> None:
    """The length comes from the base64 text, whatever its padding."""
    lines = Lines()
    async with session_on(lines.plugin) as (_, wire):
        wire.feed(ev.ResponseOutputAudioDelta(**PLACE, delta=bytes(length)))
    assert lines.of("response.output_audio.delta")["audio_bytes"] == length


@pytest.mark.breaks_rules("cancel-active-response")
async def test_what_we_send_is_logged_too() -> None:
    """An outgoing append has its audio's length, and no audio."""
    lines = Lines()
    async with session_on(lines.plugin) as (session, _):
        await session.append_audio(b"\x5a" * 960)
        session.send_nowait(ev.ResponseCancel(response_id="r", event_id="mine"))
    append = lines.of("input_audio_buffer.append")
    assert (append["way"], append["audio_bytes"], append["audio_ms"]) == ("out", 960, 20)
    assert "audio" not in append
    assert lines.of("response.cancel")["event_id"] == "mine"


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (ev.Error(error=ev.ErrorDetails(type="invalid_request_error", message="")), "warning"),
        (
            ev.Error(error=ev.ErrorDetails(type="x", code="session_expired", message="")),
            "error",
        ),
        (
            ev.Error(
                error=ev.ErrorDetails(type="x", code="response_cancel_not_active", message="")
            ),
            "debug",
        ),
        (ev.ResponseDone(response=ev.Response(id="r", status="completed")), "info"),
        (ev.ResponseDone(response=ev.Response(id="r", status="failed")), "warning"),
        (ev.ResponseOutputTextDelta(**PLACE, delta="x"), "debug"),
        (ev.InputAudioBufferSpeechStarted(audio_start_ms=1, item_id="u"), "info"),
    ],
)
async def test_levels_follow_the_kind(event: ev.ServerEvent, level: str) -> None:
    """Deltas are debug, errors warning or error, everything else info."""
    lines = Lines()
    async with session_on(lines.plugin) as (_, wire):
        wire.feed(event)
    assert lines.of(event.type)["level"] == level


@pytest.mark.breaks_rules("*")
async def test_what_is_not_shown_is_not_even_decoded() -> None:
    """At level info nobody listens to deltas, so their frames are only counted."""
    lines = Lines("info")
    async with session_on(lines.plugin) as (session, wire):
        before = session.statistics().frames_skipped
        wire.feed(ev.ResponseOutputAudioDelta(**PLACE, delta=bytes(480)))
        await session.append_audio(bytes(960))
        assert session.statistics().frames_skipped == before + 1
    names = [line["event"] for line in lines.all]
    assert "response.output_audio.delta" not in names
    assert "input_audio_buffer.append" not in names
    assert "session.created" in names


async def test_texts_are_shown_only_when_asked_for_and_shortened() -> None:
    """A transcript is content: it is off by default, and never shown whole."""
    quiet, open_ = Lines(), Lines(texts=True)
    transcript = "long " * 100
    async with session_on(quiet.plugin, open_.plugin) as (_, wire):
        wire.feed(ev.ResponseOutputAudioTranscriptDone(**PLACE, transcript=transcript))
    assert "transcript" not in quiet.of("response.output_audio_transcript.done")
    shown = open_.of("response.output_audio_transcript.done")["transcript"]
    assert len(shown) == 80
    assert shown.endswith("…")


async def test_secrets_never_appear() -> None:
    """Keys in a server's message or in tools are not logged, even with texts."""
    lines = Lines(texts=True)
    tool = ev.McpTool(server_label="s", server_url="https://x", authorization="sk-tool-123456")
    async with session_on(lines.plugin) as (session, wire):
        details = ev.ErrorDetails(type="x", message="Incorrect API key: sk-proj-abc123def456.")
        wire.feed(ev.Error(error=details))
        session.send_nowait(ev.SessionUpdate(session=ev.RealtimeSessionRequest(tools=[tool])))
    assert lines.of("error")["message"].startswith("Incorrect API key: [secret]")
    assert lines.of("session.update")["way"] == "out"
    assert "123" not in lines.of("error")["message"]
    assert "sk-" not in lines.file.getvalue()


async def test_a_finished_response_says_how_it_ended() -> None:
    """Status, reason, tokens and the number of items are on the line."""
    lines = Lines()
    response = ev.Response(
        id="r",
        status="cancelled",
        status_details=ev.StatusDetails(type="cancelled", reason="turn_detected"),
        usage=ev.Usage(total_tokens=30, input_tokens=10, output_tokens=20),
        output=[],
    )
    async with session_on(lines.plugin) as (_, wire):
        wire.feed(ev.ResponseDone(response=response))
    line = lines.of("response.done")
    wanted = ("response_status", "status_reason", "total_tokens", "items")
    assert [line[name] for name in wanted] == ["cancelled", "turn_detected", 30, 0]


async def test_the_buss_own_happenings_are_logged() -> None:
    """An interruption tells what became of which item; an unknown event its name and length."""
    lines = Lines()
    item = InterruptedItem(
        item_id="a", played_ms=10, received_ms=30, discarded_ms=20, action="truncated"
    )
    async with session_on(lines.plugin) as (session, wire):
        session.emit(PlaybackInterrupted(items=[item], latency_s=0.001))
        session.emit(ev.HandlerFailed(handler="h", event_type="t", error=ValueError("broken")))
        wire.transport.feed(b'{"type":"brand.new"}')
    line = lines.of("bus.playback_interrupted")
    assert (line["way"], line["items"], line["actions"]) == ("bus", ["a"], ["truncated"])
    assert lines.of("bus.handler_failed")["error"] == "ValueError('broken')"
    unknown = lines.of("bus.unknown_event")
    assert (unknown["event_type"], unknown["frame_bytes"]) == ("brand.new", 20)


async def test_a_console_line_is_for_people() -> None:
    """The console rendering is a line of text with the event's name."""
    file = io.StringIO()
    async with session_on(EventLog(file=file)) as (_, wire):
        wire.feed(ev.InputAudioBufferSpeechStarted(audio_start_ms=7, item_id="u"))
    [line] = [line for line in file.getvalue().splitlines() if "speech_started" in line]
    assert "audio_start_ms=7" in line


async def test_a_logger_of_ones_own_is_used() -> None:
    """Whoever has configured structlog gets the lines there, at its own level."""
    captured = structlog.testing.LogCapture()
    logger = structlog.wrap_logger(
        None,
        processors=[captured],
        wrapper_class=structlog.make_filtering_bound_logger(30),
    ).bind(app="kitchen")
    async with session_on(EventLog(logger)) as (_, wire):
        wire.feed(ev.Error(error=ev.ErrorDetails(type="x", code="c", message="m")))
    [line] = captured.entries
    assert (line["app"], line["error_code"], line["log_level"]) == ("kitchen", "c", "warning")


SECRETS = [
    "sk-proj-abc123def456",
    "Bearer abc123def456",
    "Authorization: Basic abc123def456",
    "api-key=abc123def456&x=1",
    '{"password": "abc123def456 and more"}',
    "client_secret: 'abc123def456'",
    "eyJhbGciOi.abc123def456.sig",
]


@pytest.mark.parametrize("secret", SECRETS)
async def test_what_looks_like_a_secret_is_blotted_out(secret: str) -> None:
    """In what servers and handlers complain about, and in texts."""
    lines = Lines(texts=True)
    async with session_on(lines.plugin) as (session, wire):
        wire.feed(ev.Error(error=ev.ErrorDetails(type="x", message=f"No: {secret}")))
        wire.feed(ev.ResponseFunctionCallArgumentsDone(**DONE, arguments=f"to {secret}"))
        session.emit(ev.HandlerFailed(handler="h", event_type="t", error=ValueError(secret)))
    assert "[secret]" in lines.of("error")["message"]
    assert "[secret]" in lines.of("response.function_call_arguments.done")["arguments"]
    assert "[secret]" in lines.of("bus.handler_failed")["error"]
    assert "abc123def456" not in lines.file.getvalue()


DONE: dict[str, Any] = {
    "response_id": "r",
    "item_id": "a",
    "output_index": 0,
    "call_id": "c",
    "name": "f",
}


async def test_an_address_is_shown_without_what_may_be_a_key() -> None:
    """Of the query only what names the model; no user, no fragment."""
    lines = Lines()
    url = "wss://me:word@host/v1/realtime?model=m&key=abc&api-key=def#x"
    async with session_on(lines.plugin) as (session, _):
        session.emit(ev.Connected(url=url))
    shown = {line.get("url") for line in lines.all if line["event"] == "bus.connected"}
    assert shown == {None, "wss://host/v1/realtime?model=m"}


class OrderPlaced(ev.AppEvent):
    """An event of the application's own."""

    order_id: str
    guest: str
    dishes: int
    level: int = 1
    lines: tuple[str, ...] = ()


async def test_events_of_the_application_are_logged() -> None:
    """Numbers and ids by default; texts only when asked for."""
    quiet, open_ = Lines("info"), Lines(texts=True)
    async with session_on(quiet.plugin, open_.plugin) as (session, _):
        session.emit(OrderPlaced(order_id="o1", guest="Al", dishes=2, lines=("soup",)))
    line = quiet.of("app.order_placed")
    line.pop("timestamp")
    assert line == {
        "event": "app.order_placed",
        "level": "info",
        "way": "app",
        "session": "sess_1",
        "order_id": "o1",
        "dishes": 2,
        "level_": 1,
    }
    assert open_.of("app.order_placed")["guest"] == "Al"


async def test_audio_is_measured_in_its_responses_format() -> None:
    """A response may have a format of its own."""
    lines = Lines()
    own = ev.ResponseAudio(output=ev.ResponseAudioOutput(format=ev.AudioPCMU()))
    async with session_on(lines.plugin) as (_, wire):
        wire.feed(ev.ResponseCreated(response=ev.Response(id="r", audio=own)))
        wire.feed(ev.ResponseOutputAudioDelta(**PLACE, delta=bytes(800)))
    assert lines.of("response.output_audio.delta")["audio_ms"] == 100


def test_a_logger_that_does_not_filter_is_refused() -> None:
    """The standard library's has another interface."""
    with pytest.raises(UsageError, match="make_filtering_bound_logger"):
        EventLog(logging.getLogger("x"))  # type: ignore[arg-type]  # the mistake under test


def test_an_unknown_level_is_refused() -> None:
    """The error says which there are."""
    with pytest.raises(UsageError, match="'debug', 'info', 'warning', 'error'"):
        EventLog(level="x")  # type: ignore[arg-type]  # the mistake under test


def test_an_unknown_rendering_is_refused() -> None:
    """The error says what can be had."""
    with pytest.raises(UsageError, match="'json' or 'console'"):
        EventLog(render="xml")  # type: ignore[arg-type]  # the mistake under test

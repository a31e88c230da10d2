"""The library's log as an application that embeds it sees it (each in a process of its own where
configuration matters: structlog's and the standard library's are global).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from time import process_time
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from realtime_bus import events as ev
from realtime_bus.log import describe

from .bus._peer import joined, quiet, refusal, speech

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted
SECRET = "correct-horse-battery"  # what must not be printed

PROGRAM = """
import logging, sys
import anyio
{configure}
from realtime_bus import Bus, events as ev
from realtime_bus.transport import PushTransport

bus = Bus()

def fail(event, session):
    password = "correct-horse-" + "battery"
    def inner(secret):
        raise ValueError("refused")
    inner(password)

async def fail_later(event, session):
    password = "correct-horse-" + "battery"
    await anyio.sleep(0)
    raise ValueError("refused later")

bus.on(ev.InputAudioBufferSpeechStarted)(fail)
bus.on(ev.InputAudioBufferSpeechStarted)(fail_later)

async def main():
    transport = PushTransport(send=len)
    transport.feed(ev.SessionCreated(session=ev.RealtimeSession(id="sess_log")).to_json())
    async with bus.session(transport) as session:
        transport.feed(b'{{"type":"input_audio_buffer.speech_started","x":1,"item_id":"i","audio_start_ms":0}}')
        await anyio.wait_all_tasks_blocked()

anyio.run(main)
"""

CONFIGURATIONS = {
    "nothing": "",
    "basic": "logging.basicConfig(level=logging.DEBUG)",
    "ours": ("logging.basicConfig(); logging.getLogger('realtime_bus').setLevel(logging.DEBUG)"),
    "structlog": "import structlog; structlog.configure(logger_factory="
    "structlog.PrintLoggerFactory(sys.stderr))",
    "structlog to the standard library": (
        "import structlog; logging.basicConfig(level=logging.DEBUG); structlog.configure("
        "logger_factory=structlog.stdlib.LoggerFactory(), processors=["
        "structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])"
    ),
    "structlog with rich tracebacks": (
        "import structlog; structlog.configure(processors=[structlog.processors.dict_tracebacks, "
        "structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.RichTracebackFormatter("
        "show_locals=True))], logger_factory=structlog.PrintLoggerFactory(sys.stderr))"
    ),
    "switched off": "logging.getLogger('realtime_bus').setLevel(logging.CRITICAL + 1)",
}


@cache
def run(configure: str) -> tuple[str, str]:
    """Run a program whose handlers fail; return what it wrote to stdout and to stderr."""
    done = subprocess.run(  # our own interpreter, a text of ours
        [sys.executable, "-c", PROGRAM.format(configure=configure)],
        capture_output=True,
        text=True,
        check=True,
        timeout=250,
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_in_no_configuration_are_secrets_or_stdout_touched(name: str) -> None:
    """A handler's local variables are never written, and stdout is the application's own."""
    stdout, stderr = run(CONFIGURATIONS[name])
    assert stdout == ""
    assert SECRET not in stderr
    assert ("refused later" in stderr) == (name != "switched off")
    assert "password = " not in stderr.replace('password = "correct-horse-" + "battery"', "")


def test_unconfigured_it_is_silent_below_warning() -> None:
    """Without any configuration failures are written, and nothing about normal operation."""
    _, stderr = run("")
    lines = [line for line in stderr.splitlines() if line.startswith("event=")]
    assert len(lines) == 2
    assert all("a handler failed" in line and "session_id='sess_log'" in line for line in lines)


def test_the_level_is_set_as_for_any_library() -> None:
    """``logging.getLogger("realtime_bus")`` decides: DEBUG shows drift, ERROR does not."""
    drift = "the server sent something unexpected"
    assert drift in run(CONFIGURATIONS["ours"])[1]
    quieter = CONFIGURATIONS["ours"].replace("DEBUG", "ERROR")
    assert drift not in run(quieter)[1]
    assert "a handler failed" in run(quieter)[1]


async def test_every_line_tells_its_session(caplog: pytest.LogCaptureFixture) -> None:
    """From ``session.created`` on, each line of a session has its id, whatever it is about."""

    def fail(event: ev.Event) -> None:
        raise ValueError

    async def fail_later() -> None:
        raise ValueError

    async with joined() as (session, peer):
        await quiet()
        caplog.clear()
        session.on(Started)(fail)
        session.on_close(lambda: fail(speech()))
        session.start_soon(fail_later)
        peer.say(speech(), refusal(), b"no event", b'{"type":"error","error":5}')
        await quiet()
    assert len(caplog.records) >= 6
    assert {record.name for record in caplog.records} == {"realtime_bus"}
    assert all("session_id='sess_1'" in record.getMessage() for record in caplog.records)


@pytest.fixture
def configured() -> Iterator[list[Any]]:
    """Configure structlog as an application does."""
    with capture_logs() as lines:
        yield lines
    structlog.reset_defaults()


async def test_where_structlog_is_configured_lines_are_structured(
    configured: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Values stay values, in the application's own pipeline; nothing is written twice."""

    def fail(event: Started) -> None:
        raise ValueError("no")

    async with joined() as (session, peer):
        session.on(Started)(fail)
        peer.say(speech())
    [line] = [line for line in configured if line["event"] == "a handler failed"]
    assert line["log_level"] == "error"
    assert line["session_id"] == "sess_1"
    assert line["event_type"] == "input_audio_buffer.speech_started"
    assert line["error"].endswith("ValueError: no")
    assert "fail" in line["traceback"]
    assert "exc_info" not in line
    assert caplog.records == []


def _raised(depth: int, causes: int) -> Exception:
    """Return an exception that came up from deep down, with a chain of causes."""

    def fall(left: int) -> None:
        large = dict.fromkeys(range(100), "x" * 1000)  # a local that is long to print
        if left == 0:
            raise ValueError(len(large))
        fall(left - 1)

    def chain(left: int) -> None:
        try:
            fall(depth)
        except ValueError:
            if left == 0:
                raise
            chain(left - 1)

    with pytest.raises(ValueError, match="100") as caught:
        chain(causes)
    return caught.value


@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer makes each line cost more")
def test_a_failure_is_cheap_to_render() -> None:
    """It takes no more for a deep stack and a long chain than for a shallow one."""

    def cost_s(error: Exception) -> float:
        describe(error)  # source lines are read once
        times = list[float]()
        for _ in range(20):
            started_s = process_time()
            describe(error)
            times.append(process_time() - started_s)
        return min(times)

    shallow, deep, chained = (
        cost_s(_raised(12, 4)),
        cost_s(_raised(300, 4)),
        cost_s(_raised(12, 40)),
    )
    assert deep < 3 * shallow
    assert chained < 3 * shallow
    assert shallow < 0.002 * max(1.0, _slowness())


def _slowness() -> float:
    """Return how much slower this machine is at present than a usual one."""
    times = list[float]()
    for _ in range(5):
        started_s = process_time()
        sum(range(100_000))
        times.append(process_time() - started_s)
    return min(times) / 0.002


def test_what_a_failure_looks_like() -> None:
    """Type and text; its last frames, causes, notes and members, without local variables."""
    password = SECRET
    try:
        try:
            raise KeyError("first")  # noqa: TRY301  # to have a cause
        except KeyError as cause:
            error = ExceptionGroup("several", [ValueError("one"), OSError(len(password))])
            error.add_note("a note")
            raise error from cause
    except ExceptionGroup as group:
        found = describe(group)
    assert found["error"] == "ExceptionGroup: several (2 sub-exceptions)"
    expected = [
        "KeyError: 'first'",
        "direct cause of the following",
        "raise error from cause",
        "a note",
        "  | ValueError: one",
        "  | OSError: 21",
    ]
    at = [found["traceback"].index(text) for text in expected]
    assert at == sorted(at)
    assert SECRET not in found["traceback"]

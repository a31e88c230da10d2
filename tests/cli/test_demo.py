"""The command as a person runs it: the demo, and what is told of a command line that is wrong."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

import realtime_bus
from realtime_bus import UpgradeRefused
from realtime_bus.cli import _app as app
from realtime_bus.cli._demo import DemoOptions, run_demo
from realtime_bus.cli._demo._summary import Summary
from realtime_bus.cli._demo._view import Terminal
from realtime_bus.server import (
    EnergyDetector,
    FaultPlan,
    RealtimeServer,
    VoiceResponder,
    faults,
)
from realtime_bus.transport import dial

from .test_judge import good


def run(*arguments: str, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "realtime_bus", *arguments],
        capture_output=True,
        encoding=encoding,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        timeout=250,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "encoding", "yes"), [("asyncio", "cp1252", "+"), ("trio", "ascii", "+")]
)
def test_the_demo_goes_as_it_should(tmp_path: Path, backend: str, encoding: str, yes: str) -> None:
    """It passes all its own checks, and writes both sides as heard, and a page, in any encoding."""
    wav = tmp_path / "demo.wav"
    arguments = ("--short", "--view", "plain", "--wav", str(wav), "--backend", backend)
    done = run("demo", *arguments, encoding=encoding)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it went as it should" in done.stdout
    assert f"{yes} | no handler failed" in done.stdout.replace("│", "|")
    assert "bus.playback_interrupted" in done.stdout
    assert "demo.html" in done.stdout
    assert b"Content-Security-Policy" in wav.with_suffix(".html").read_bytes()
    with wave.open(str(wav)) as file:
        assert file.getnchannels() == 2
        assert file.getframerate() == 24_000
        assert file.getnframes() > 3 * 24_000


class HangsUp(EnergyDetector):
    """Ends the call after so many chunks of what the person says: between two of their words."""

    chunks = 20

    def __init__(self, server: Callable[[], RealtimeServer]) -> None:
        super().__init__()
        self._server = server

    def probability(self, chunk: bytes) -> float:
        """Listen, and have had enough."""
        self.chunks -= 1
        if not self.chunks:
            self._server().sessions[0].close(4000, "gone")
        return super().probability(chunk)


@pytest.mark.anyio
async def test_a_conversation_that_breaks_off_has_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was said and what was noted until then is shown, although nothing can be written."""
    wav = tmp_path / "demo.wav"
    wav.mkdir()  # a folder by now: it was none when the command line was read
    server = RealtimeServer(VoiceResponder(), detector_factory=lambda: HangsUp(lambda: server))
    async with server.serve() as bound:
        options = DemoOptions(short=True, view="plain", url=bound.url_for("any"), wav=wav)
        assert not await run_demo(options)
    shown = " ".join(capsys.readouterr().out.split())
    assert "in numbers" in shown
    assert "it did not go as it should" in shown
    # however a narrow terminal breaks the path
    assert "demo.wavwasnotwritten:Isadirectory" in shown.replace(" ", "")
    assert "The conversation broke off: the session was closed with 4000 gone" in shown


@pytest.mark.anyio
async def test_a_conversation_that_is_ended_from_outside_has_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who presses Ctrl-C sees what happened until then, and may listen to it."""
    wav = tmp_path / "demo.wav"
    options = DemoOptions(short=True, view="plain", wav=wav)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_demo, options)
        while "speech_started" not in capsys.readouterr().out:  # noqa: ASYNC110  # it goes to the screen
            await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()
    assert "broke off: somebody ended it" in capsys.readouterr().out
    assert wav.stat().st_size > 48_000


def test_a_summary_that_stdout_does_not_take_goes_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever reads stdout may have gone, or its disk be full; the verdict is the same."""

    class Full(io.StringIO):
        def write(self, text: str, /) -> int:
            raise OSError(28, "No space left on device")

    summary = Summary(good(), wav=tmp_path / "demo.wav")
    summary.broken_off = None
    assert summary.tell(Terminal(file=Full()))
    told = capsys.readouterr().err
    assert "it went as it should" in told
    assert "could not be printed: [Errno 28]" in told


def test_a_reader_that_leaves_gets_no_traceback() -> None:
    """As in `realtime-bus serve --help | head -1`, not even when Python ends."""
    arguments = [sys.executable, "-W", "error", "-m", "realtime_bus", "serve", "--help"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        arguments, stdout=write, stderr=subprocess.PIPE, text=True, timeout=250, check=False
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_the_demo_fails_clearly_where_nobody_listens() -> None:
    """A provider that cannot be reached is one line on stderr and a non-zero exit code."""
    done = run("demo", "--short", "--url", "ws://127.0.0.1:9/v1/realtime?model=m", "--api-key", "k")
    assert done.returncode == 1
    assert "realtime-bus:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ([], None),
        (["--api-key", "given"], "given"),
        (["--api-key-from", "OTHER_KEY"], "of another"),
    ],
)
def test_the_environments_key_goes_to_another_host_only_if_told(
    arguments: list[str], key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo passes on a key that it was given; ``OPENAI_API_KEY`` is for OpenAI alone."""
    got: list[DemoOptions] = []

    async def note(options: DemoOptions) -> bool:
        got.append(options)
        return True

    monkeypatch.setattr("realtime_bus.cli._demo.run_demo", note)
    monkeypatch.setenv("OPENAI_API_KEY", "of the environment")
    monkeypatch.setenv("OTHER_KEY", "of another")
    assert app.run(["demo", "--url", "wss://elsewhere.example/x", *arguments]) == 0
    assert got[0].api_key == key


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["demo", "--wav", "no/such/folder/x.wav"], "'--wav': there is no folder"),
        (["demo", "--wav", "."], "'--wav': . is a folder"),
        (["demo", "--wav", "x" * 300], "'--wav': xxx"),
        (["demo", "--view", "live"], "'--view': the live view needs a terminal"),
        (["demo", "--url", "http://x"], "http://x is no WebSocket address"),
        (["demo", "--backend", "curio"], "'--backend': 'curio' is neither asyncio nor trio"),
        (["bench", "--json", "no/such/folder/x.json"], "'--json': there is no folder"),
        (["demo", "--api-key-from", "NO_SUCH_KEY"], "the variable NO_SUCH_KEY is not set"),
        (["bench", "--json", "x" * 300], "'--json': xxx"),
        (["serve", "--script", "no/script.toml"], "'--script': no/script.toml cannot be read"),
        (["serve", "--script", __file__], "is no script"),
        (["serve", "--certfile", "no/cert.pem"], "'--certfile': no/cert.pem cannot be read"),
        (["serve", "--certfile", __file__], "no certificate and key in"),
        (["serve", "--keyfile", __file__], "a key needs a certificate"),
        (["serve", "--self-signed", __file__], "'--self-signed': "),
        (["serve", "--port", "99999"], "'--port': "),
        (["serve", "--pace", "0"], "'--pace': 0 is not above 0"),
        (["serve", "--pace", "nan"], "'--pace': nan is not above 0"),
        (["serve", "--faults", "nowhere.toml"], "'--faults': nowhere.toml is no fault plan"),
        (["sing"], "No such command 'sing'"),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_told_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, on stderr, with exit code 2."""
    assert app.run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("realtime-bus: ")
    assert shown.err.count("\n") == 1
    assert told in shown.err


def test_serve_has_faults_on_order(tmp_path: Path) -> None:
    """It shows the plan, a client sees what was ordered, and the log says what has happened."""
    plan = tmp_path / "plan.json"
    plan.write_text('{"seed": 7, "faults": [{"kind": "refuse", "status": 503}]}')
    command = [sys.executable, "-m", "realtime_bus", "serve", "--port", "0", "--faults", str(plan)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as served:
        assert served.stdout is not None
        assert served.stderr is not None
        try:
            told, _, shown = served.stdout.readline().partition("7: ")
            assert told == "faults, by seed "
            plan.write_text(shown)
            assert FaultPlan.from_file(plan) == FaultPlan((faults.Refuse(status=503),), seed=7)
            url = served.stdout.readline().split()[2]
            with pytest.raises(UpgradeRefused, match="503"):
                anyio.run(dial, url)
            logged = served.stderr.readline()
            assert all(word in logged for word in ("fault fired", "refuse", "seed=7"))
        finally:
            served.kill()


def test_the_version_is_told() -> None:
    """By the command, and by the package, which reads it when it is asked."""
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"realtime-bus {realtime_bus.__version__}\n")
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = realtime_bus.no_such_name  # type: ignore[attr-defined]  # that is the point


def test_help_lists_the_commands() -> None:
    """--help names what there is."""
    done = run("--help")
    assert done.returncode == 0
    assert "demo" in done.stdout
    assert "serve" in done.stdout

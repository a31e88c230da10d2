"""The demo as a person runs it."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "realtime_bus.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_demo_goes_as_it_should(tmp_path: Path, backend: str) -> None:
    """The short demo passes all its own checks, and writes both sides as heard."""
    wav = tmp_path / "demo.wav"
    done = run("demo", "--short", "--view", "plain", "--wav", str(wav), "--backend", backend)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it went as it should" in done.stdout
    assert "bus.playback_interrupted" in done.stdout
    with wave.open(str(wav)) as file:
        assert file.getnchannels() == 2
        assert file.getframerate() == 24_000
        assert file.getnframes() > 3 * 24_000


def test_the_demo_fails_clearly_where_nobody_listens() -> None:
    """A provider that cannot be reached is one line on stderr and a non-zero exit code."""
    done = run("demo", "--short", "--url", "ws://127.0.0.1:9/v1/realtime?model=m", "--api-key", "k")
    assert done.returncode == 1
    assert "realtime-bus:" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_lists_the_commands() -> None:
    """--help names what there is."""
    done = run("--help")
    assert done.returncode == 0
    assert "demo" in done.stdout
    assert "serve" in done.stdout

"""``realtime-bus talk``: with devices of the test's own, in a room that a thread plays."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from types import ModuleType
from typing import Any

import anyio
import pytest

from benchmarks import echo
from realtime_bus import UsageError
from realtime_bus.cli import _app as app
from realtime_bus.cli import _keys, _talk
from realtime_bus.cli._talk import TalkOptions, run_talk


class Terminal:
    """A terminal whose keys the test presses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pressed: list[str] = []
        monkeypatch.setattr(_talk, "pressed_keys", self.keys)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)

    async def keys(self) -> AsyncGenerator[str, None]:
        """Yield what was pressed."""
        while True:
            while self._pressed:
                yield self._pressed.pop(0)
            await anyio.sleep(0.005)

    def press(self, key: str) -> None:
        """Press a key."""
        self._pressed.append(key)


class Screen:
    """What is shown, read in order."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._unread = ""

    async def shows(self, wanted: str) -> None:
        """Wait until something is shown, after what was waited for before."""
        with anyio.fail_after(60):
            while wanted not in self._unread:
                await anyio.sleep(0.02)
                self._unread += self._capsys.readouterr().out
        self._unread = self._unread.partition(wanted)[2]


@pytest.mark.anyio
async def test_one_can_talk_interrupt_and_leave(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The assistant greets, is interrupted by a key, hears a question, and answers it."""
    terminal, screen, room = Terminal(monkeypatch), Screen(capsys), echo.Room()
    question = echo.spoken("Hello!")
    async with echo.rooms(room, speed=2.0), anyio.create_task_group() as tasks:
        options = TalkOptions(view="plain", echo="headphones", microphone=0, speaker=0)
        tasks.start_soon(run_talk, options)
        await screen.shows("bus.playback_started")
        terminal.press(" ")
        await screen.shows("bus.playback_interrupted")
        room.say(question)
        await screen.shows("input_audio_buffer.speech_stopped")
        await screen.shows("bus.playback_started")
        terminal.press("m")
        terminal.press("q")
        await screen.shows("1 turn, 1 interruption, silent at the sink in")


@pytest.mark.anyio
async def test_push_to_talk_sends_what_is_said_between_two_presses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No detector decides: the space bar does."""
    terminal, screen, room = Terminal(monkeypatch), Screen(capsys), echo.Room()
    async with echo.rooms(room, speed=2.0), anyio.create_task_group() as tasks:
        options = TalkOptions(view="plain", echo="push-to-talk", microphone=0, speaker=0)
        tasks.start_soon(run_talk, options)
        await screen.shows("bus.playback_started")
        terminal.press(" ")
        await screen.shows("bus.playback_interrupted")
        spoken_ms = room.now_ms + 300
        while room.now_ms < spoken_ms:  # noqa: ASYNC110  # the room's clock tells nobody
            await anyio.sleep(0.01)
        terminal.press(" ")
        await screen.shows("input_audio_buffer.committed")
        await screen.shows("bus.playback_started")
        terminal.press("q")
        await screen.shows("1 turn, 1 interruption")


@pytest.mark.anyio
async def test_push_to_talk_needs_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stdin is a pipe, nobody can press one."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(UsageError, match="push-to-talk needs a terminal"):
        await run_talk(TalkOptions(echo="push-to-talk"))


def nothing_to_hear_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have PortAudio, and no device."""
    module: Any = ModuleType("sounddevice")
    module.PortAudioError = RuntimeError

    def query_devices(*_: object) -> str:
        if _:
            raise RuntimeError("Error querying device -1")
        return ""

    module.query_devices = query_devices
    monkeypatch.setitem(sys.modules, "sounddevice", module)


def test_without_a_device_one_line_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, with exit code 1."""
    nothing_to_hear_with(monkeypatch)
    assert app.run(["talk", "--view", "plain"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("realtime-bus: the default microphone cannot be opened: there is none; ")
    assert "python -m sounddevice" in told
    assert told.count("\n") == 1
    assert app.run(["talk", "--devices"]) == 0
    assert capsys.readouterr().out == "there is no sound device\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--aec", "--half-duplex"], "exclude each other"),
        (["--push-to-talk", "--echo", "cancel"], "exclude each other"),
        (["--api-key-from", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE is not set"),
        (["--echo", "loud"], "'--echo'"),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_told_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, with exit code 2."""
    assert app.run(["talk", *arguments]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform == "win32", reason="there is no pty")
async def test_keys_come_one_by_one_without_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the terminal is afterwards what it was."""
    import termios

    ours, theirs = os.openpty()
    before = termios.tcgetattr(theirs)
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        keys = _keys.pressed_keys()
        os.write(ours, b"m ")
        assert [await anext(keys), await anext(keys)] == ["m", " "]
        await keys.aclose()
        assert termios.tcgetattr(theirs) == before
    os.close(ours)

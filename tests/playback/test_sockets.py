"""Recordings over a real socket: to somebody else's client, and from the command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from realtime_bus.cli import _app as app
from realtime_bus.recording import Line, drive
from realtime_bus.server import Playback, RealtimeServer

from ._tape import tape
from .test_answering import asked, said

BYE = {"session": {"type": "realtime", "instructions": "Be brief."}}
TALK = tape(
    "s session.created",
    ("c session.update", {"event_id": "e_1", **BYE}),
    ("s session.updated", BYE),
    *asked("One?"),
    ("s conversation.item.added", {"item": {"id": "item_u", "type": "message", "role": "user"}}),
    *said(1, "First."),
    ("c conversation.item.delete", {"event_id": "e_9", "item_id": "item_x"}),
    ("s error", {"error": {"type": "invalid_request_error", "message": "No.", "event_id": "e_9"}}),
)


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # it knows no trio
async def test_openai_python_lives_through_a_recording() -> None:
    """It gets the recorded answer, and its own event id with the recorded error."""
    openai = pytest.importorskip("openai", reason="needs the group interop")
    playback = Playback(TALK, pace=float("inf"))
    async with RealtimeServer(playback=playback).serve() as bound:
        base = bound.url.removesuffix("/realtime")
        client = openai.AsyncOpenAI(api_key="none", websocket_base_url=base)
        async with client, client.realtime.connect(model="any") as connection:
            await connection.session.update(session={"type": "realtime", "instructions": "Sing."})
            content = [{"type": "input_text", "text": "One?"}]
            item = {"type": "message", "role": "user", "content": content}
            await connection.conversation.item.create(item=item)
            await connection.response.create()
            seen: dict[str, Any] = {}
            with anyio.fail_after(60):
                async for told in connection:
                    seen[told.type] = told
                    if told.type == "response.done":
                        await connection.conversation.item.delete(item_id="x", event_id="mine")
                    if told.type == "error":
                        break
    assert seen["session.updated"].session.instructions == "Sing."
    assert seen["response.output_text.delta"].delta == "First."
    assert seen["error"].error.event_id == "mine"
    changed = [f"{each.kind} {each.path}" for each in playback.reports[0].deviations]
    assert changed == ["changed session.instructions"]


@pytest.mark.anyio
async def test_a_server_is_driven_over_a_socket() -> None:
    """The client's half of a recording against the server's, with a wire between them."""
    playback = Playback(TALK, pace=float("inf"))
    async with RealtimeServer(playback=playback).serve() as bound:
        with anyio.fail_after(60):
            (report,) = await drive(TALK, bound.url_for("any"), pace=float("inf"))
    assert str(report) == "connection 0: 4 of 4 frames"
    assert str(playback.reports[0]) == "connection 0: 7 of 7 frames"


def written(lines: list[Line], path: Path) -> Path:
    """Write a recording to a file."""
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


@contextmanager
def serving(*options: str) -> Generator[str]:
    """Run ``realtime-bus serve`` as a process; give where it listens."""
    command = [sys.executable, "-W", "error", "-m", "realtime_bus", "serve", "--port", "0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[2]
            process.terminate()
            assert process.wait(60) == 0
            assert process.stdout.read() == "connection 0: 7 of 7 frames\n"
        finally:
            process.kill()


@pytest.mark.slow
def test_the_commands_play_both_halves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``serve --exact`` answers ``drive``: both report that nothing differs."""
    path = str(written(TALK, tmp_path / "talk.jsonl"))
    with serving("--recording", path, "--exact", "--pace", "100") as url:
        assert app.run(["drive", path, "--url", url, "--pace", "100"]) == 0
    assert capsys.readouterr().out == "connection 0: 4 of 4 frames\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--exact"], "--exact is for --recording"),
        (["serve", "--recording", "{call}", "--script", "{call}"], "exclude each other"),
        (["serve", "--recording", "{}"], "is no recording"),
        (["serve", "--recording", "{}", "--exact"], "is no recording"),
        (["drive", "{}"], "is no recording"),
    ],
)
def test_what_is_wrong_is_told_before_anything_begins(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with the exit code of misuse."""
    path, call = tmp_path / "notes.txt", tmp_path / "call.jsonl"
    path.write_text("no recording\n")
    call.write_text('{"kind":"recording","t_us":0}\n')
    assert app.run([each.format(path, call=call) for each in arguments]) == 2
    assert told in capsys.readouterr().err

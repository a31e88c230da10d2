"""``realtime-bus replay``: a conversation is shown, or run again through handlers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from realtime_bus.cli._app import run
from realtime_bus.recording import Ended, Header, RecordingWriter, ReplayReport

AGENT = """
from realtime_bus import Bus, events as ev

def make_bus(sink=None):
    made = Bus()

    @made.on(ev.ResponseDone)
    async def go_on(event, session):
        await session.send(ev.OutputAudioBufferClear())

    return made

bus, number = Bus(), 5

def takes_sink(sink):
    assert sink.positions() == []
    return make_bus()

def gives_nothing():
    return None

async def talk(session):
    await session.send_text("Hello.")
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a recording, beside a module with handlers."""
    path = tmp_path / "call.jsonl"
    writer = RecordingWriter(path, Header(t_us=0, recording_id="call"))
    for t_us, way, frame in (
        (0, "in", {"type": "session.created", "session": {"type": "realtime", "id": "s"}}),
        (1_000_000, "in", {"type": "response.created", "response": {"id": "r"}}),
        (
            1_200_000,
            "in",
            {
                "type": "response.output_audio_transcript.delta",
                "response_id": "r",
                "item_id": "i",
                "delta": "Good morning.",
            },
        ),
        (2_000_000, "in", {"type": "response.done", "response": {"id": "r"}}),
        (2_000_100, "out", {"type": "output_audio_buffer.clear"}),
    ):
        writer.frame(t_us, "in" if way == "in" else "out", msgspec.json.encode(frame))
    writer.write(Ended(t_us=3_000_000, code=1000, clean=True))
    writer.close()
    name = f"agent_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(AGENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("what", ["make_bus", "takes_sink"])
def test_handlers_of_now_are_compared(
    call: str, what: str, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same is exit code 0, and one line."""
    arguments = ["replay", "call.jsonl", "--handlers", f"{call}:{what}", "--backend", backend]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("call: 0:03.000 in ")
    assert "1 acts compared, no difference" in out


def test_a_difference_is_exit_code_1(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is shown with its time, and written as JSON."""
    arguments = ["replay", "call.jsonl", "--handlers", f"{call}:bus"]
    assert run([*arguments, "--json", "report.json"]) == 1
    assert "0:02.000  missing    output_audio_buffer.clear" in capsys.readouterr().out
    report = msgspec.json.decode(Path("report.json").read_bytes(), type=ReplayReport)
    assert [each.kind for each in report.differences] == ["missing"]
    assert run([*arguments, "--left", "output_audio_buffer.*"]) == 0
    assert run([*arguments, "--no-compare"]) == 0
    assert "sent: nothing" in capsys.readouterr().out
    assert run([*arguments, "--main", f"{call}:talk"]) == 1
    assert "extra      conversation.item.create" in capsys.readouterr().out


@pytest.mark.parametrize("speed", ["max", "200"])
def test_without_handlers_it_is_shown(
    call: str, speed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line by line where there is no terminal, with the times of then."""
    assert call
    assert run(["replay", "call.jsonl", "--speed", speed]) == 0
    out = capsys.readouterr().out
    assert "response.output_audio_transcript.delta  'Good morning.'" in out
    assert any(line.split()[:2] == ["2.00", "response.done"] for line in out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.jsonl"], 2, "cannot be read"),
        (["{agent}.py"], 2, "is no recording"),
        (["call.jsonl", "--speed", "0"], 2, "0 is no speed"),
        (["call.jsonl", "--speed", "fast"], 2, "neither a number nor max"),
        (["call.jsonl", "--main", "a:b"], 2, "--main goes with --handlers"),
        (["call.jsonl", "--handlers", "{agent}"], 2, "write module:name"),
        (["call.jsonl", "--handlers", "nowhere:bus"], 2, "there is no module nowhere"),
        (["call.jsonl", "--handlers", "{agent}:nothing"], 2, "has no nothing"),
        (["call.jsonl", "--handlers", "{agent}:number"], 2, "5 is neither a Bus nor makes one"),
        (["call.jsonl", "--handlers", "{agent}:gives_nothing"], 2, "returned None"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    call: str,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of the command line with exit code 2, of the recording with 1."""
    assert run(["replay", *(each.format(agent=call) for each in arguments)]) == code
    assert message in capsys.readouterr().err.replace("\n", " ")

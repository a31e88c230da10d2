"""``realtime-bus export``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import msgspec
import pytest

from realtime_bus.cli._app import run
from realtime_bus.recording import Ended, Header, Received

ITEM = b"""{"type":"conversation.item.added","event_id":"e","previous_item_id":null,"item":
{"id":"u","type":"message","role":"user","content":[{"type":"input_text","text":"Hello."}]}}"""


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Return a recording of two seconds."""
    path = tmp_path / "call.jsonl"
    item = Received(t_us=1_500_000, frame=msgspec.Raw(ITEM.replace(b"\n", b" ")))
    lines = [Header(t_us=0, recording_id="one"), item, Ended(t_us=2_000_000, code=1000)]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


def test_the_conversation_is_printed(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As text, or as JSON."""
    assert run(["export", str(recording)]) == 0
    assert capsys.readouterr().out == "[00:01.500] user: Hello.\n"
    assert run(["export", str(recording), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["text"] for entry in found["entries"]] == ["Hello."]


def test_a_wav_is_written(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And nothing printed, unless it is asked for."""
    wav = recording.with_suffix(".wav")
    assert run(["export", str(recording), "--wav", str(wav), "--what", "generated"]) == 0
    assert capsys.readouterr().out == ""
    with wave.open(str(wav)) as file:
        assert file.getnframes() == 48_000
    assert run(["export", str(recording), "--wav", str(wav), "--text"]) == 0
    assert capsys.readouterr().out == "[00:01.500] user: Hello.\n"


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["{call}", "--json", "--text"], 2, "exclude each other"),
        (["{call}", "--wav", "{call}"], 2, "is the recording"),
        (["{folder}/none.jsonl"], 2, "cannot be read"),
        (["{call}", "--wav", "{folder}/no/call.wav"], 2, "there is no folder"),
        (["{call}", "--what", "said"], 2, "said"),
        (["{wrong}"], 2, "is no recording"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    options: list[str],
    code: int,
    says: str,
    recording: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before anything is written; the recording stays as it was."""
    before = recording.read_bytes()
    wrong = recording.with_name("wrong")
    wrong.write_text("{}")
    names = {"call": recording, "folder": recording.parent, "wrong": wrong}
    assert run(["export", *(option.format(**names) for option in options)]) == code
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
    assert recording.read_bytes() == before


def test_what_is_missing_is_told(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part that is gone, a damaged line, a time of no clock, an end cut off: on stderr."""
    header = Header(t_us=1_900_000, recording_id="one", part=2)
    nowhen = b'{"kind":"end","t_us":99999999999999999}'
    lines = [msgspec.json.encode(header), b"no line", nowhen, b""]
    recording.with_name("call.2.jsonl").write_bytes(b"\n".join(lines))
    assert run(["export", str(recording)]) == 0
    assert run(["replay", str(recording), "--speed", "max"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("[00:01.500] user: Hello.\n")
    told = "note: something is missing in the recording: "
    once = [f"{told}call.1.jsonl is missing", f"{told}a line is damaged"]
    assert shown.err.splitlines() == once * 2

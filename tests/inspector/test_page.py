"""The page, without a browser: it stands alone, and nothing that was recorded is markup."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html.parser
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from realtime_bus.audio import PlayedItem
from realtime_bus.cli import _app as app
from realtime_bus.inspector import inspection_page
from realtime_bus.recording import (
    Header,
    Left,
    Line,
    Named,
    Played,
    Recording,
    RecordingWriter,
    Sent,
    Told,
)

from ._lines import ANSWER, HOSTILE, QUESTION, conversation, received, sent, text

_LEFT_OUT = msgspec.Raw(b'{"type":"input_audio_buffer.append","audio":""}')


class Parsed(html.parser.HTMLParser):
    """What a browser makes of a page: its elements, and what is in those that hold raw text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self._inside: str | None = None
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        fields = dict(attrs)
        self.elements.append((tag, fields))
        if tag in {"script", "style", "title"}:
            self._inside = fields.get("id") or tag
            self.raw[self._inside] = ""

    def handle_endtag(self, tag: str) -> None:
        """Leave raw text."""
        if tag in {"script", "style", "title"}:
            self._inside = None

    def handle_data(self, data: str) -> None:
        """Note raw text."""
        if self._inside is not None:
            self.raw[self._inside] += data

    @property
    def data(self) -> dict[str, Any]:
        """What is drawn at once."""
        found: dict[str, Any] = json.loads(self.raw["data"])
        return found

    @property
    def frames(self) -> list[str]:
        """The JSON of each event."""
        return gzip.decompress(base64.b64decode(self.raw["frames"])).decode().split("\n")


def test_the_page_needs_nothing_beside_itself() -> None:
    """It names no address, loads nothing, and its policy lets it do nothing but run itself."""
    page = inspection_page(conversation())
    parsed = Parsed(page)
    assert not re.search(rb"https?://|//cdn|@import|url\(", page)
    assert {"src", "href", "style", "srcset"}.isdisjoint(
        name for _, fields in parsed.elements for name in fields
    )
    policy = next(
        fields["content"] or ""
        for tag, fields in parsed.elements
        if tag == "meta" and fields.get("http-equiv") == "Content-Security-Policy"
    )
    digests = {
        name: base64.b64encode(hashlib.sha256(parsed.raw[name].encode()).digest()).decode()
        for name in ("script", "style")
    }
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{digests['script']}'; "
        f"style-src 'sha256-{digests['style']}'"
    )


def test_every_event_is_there_with_its_time_and_its_json() -> None:
    """In the order of the recording; audio in it has become a note."""
    lines = conversation()
    parsed = Parsed(inspection_page(lines))
    data, frames = parsed.data, parsed.frames
    assert len(frames) == len(data["kinds"]) == len(data["times"]) == len(lines) - 1
    times = [sum(data["times"][: n + 1]) for n in range(len(frames))]
    assert times == [line.t_us for line in lines[1:]]
    appended = data["types"].index("input_audio_buffer.append")
    first = frames[data["kinds"].index(appended)]
    assert json.loads(first)["audio"] == "(1280 characters of base64)"
    assert set(data["origins"]) == {"i", "o", "b", "s", "r"}
    assert "invalid frame" in data["types"]


def test_what_happened_is_there() -> None:
    """Voices, turns and their latencies, the cut, the call, what went wrong."""
    data = Parsed(inspection_page(conversation())).data
    first, second = data["turns"]
    assert first["quiet_us"] == 1_000_000
    assert first["asked_us"] == 1_600_000
    assert first["first_us"] == 1_700_000
    assert first["text"] == QUESTION
    assert first["silence_us"] == 400
    assert data["types"][data["kinds"][second["event"]]] == "input_audio_buffer.speech_stopped"
    [cut] = data["cuts"]
    assert (cut["from_us"], cut["silent_us"]) == (2_700_000, 2_700_400)
    assert [piece["kind"] for piece in data["tracks"]["generated"]] == ["heard", "discarded"]
    [heard] = data["tracks"]["heard"]
    assert heard["end_us"] - heard["start_us"] == pytest.approx(1_000_000, abs=1000)
    [call] = data["tools"]
    assert (call["name"], call["output"], call["end_us"]) == ("set_timer", "3 min", 3_900_000)
    kinds = [problem["kind"] for problem in data["problems"]]
    assert kinds == ["error", "drift", "invalid_frame"]
    assert all(problem["event"] is not None for problem in data["problems"])
    person, assistant, _, called = data["transcript"]
    assert called["heard"] == 'set_timer({"minutes": 3}) → 3 min'
    assert person["heard"] == QUESTION
    assert assistant["heard"] + assistant["unheard"] == ANSWER
    assert assistant["heard"] == "First, warm one litre"
    assert assistant["cut_us"] == 1_000_000
    shown = {figure["name"]: figure for figure in data["figures"]}
    assert shown["heard"]["of_us"] == 3_000_000
    assert shown["errors"]["value"] == 2


def test_a_lost_connection_is_a_gap() -> None:
    """From when it was lost until another one took over."""
    lines = conversation()
    lost, back = ({"reason": "gone", "attempt": 1}, {"cause": "lost", "session_id": "sess_2"})
    lines[-1:-1] = [
        Told(t_us=5_820_000, type="bus.reconnecting", event=lost),
        Told(t_us=5_880_000, type="bus.reconnected", event=back),
    ]
    [gap] = Parsed(inspection_page(lines)).data["gaps"]
    assert (gap["start_us"], gap["end_us"], gap["cause"]) == (5_820_000, 5_880_000, "lost")
    assert gap["event"] is not None


def test_a_session_that_was_lost_for_good_is_an_error() -> None:
    """The bus told that it was closed, and not cleanly."""
    lines = conversation()
    closed = {"code": 1006, "reason": "gone", "clean": False}
    lines[-1:-1] = [Told(t_us=5_880_000, type="bus.closed", event=closed)]
    data = Parsed(inspection_page(lines)).data
    assert data["problems"][-1]["kind"] == "disconnected"
    assert data["problems"][-1]["text"] == "1006: gone"
    assert data["types"][data["kinds"][data["problems"][-1]["event"]]] == "bus.closed"


def test_an_output_stands_with_its_call_alone() -> None:
    """In the transcript, which would say it twice; and one that tells of an error is red."""
    lines = conversation()
    output = {"type": "function_call_output", "id": "o1", "call_id": "c1", "output": '{"error":1}'}
    at = next(n for n, line in enumerate(lines) if line.t_us > 3_900_000) - 1
    lines[at] = sent(3900, "conversation.item.create", item=output)
    lines.insert(at + 1, received(3901, "conversation.item.added", item=output))
    data = Parsed(inspection_page(lines)).data
    assert [each["who"] for each in data["transcript"]].count("tool") == 1
    assert data["tools"][0]["failed"]


def test_nothing_that_was_recorded_is_markup() -> None:
    """Not in the transcript, in names, in types, in labels: the elements are those of any page."""
    lines = conversation(question=HOSTILE, answer=HOSTILE, name=HOSTILE)
    labels = {"title": HOSTILE}
    lines[0] = Header(t_us=0, recording_id=HOSTILE, started_at=HOSTILE, url=HOSTILE, labels=labels)
    lines.insert(-1, received(5000, HOSTILE, item_id=HOSTILE))
    hostile, usual = Parsed(inspection_page(lines)), Parsed(inspection_page(conversation()))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in usual.elements]
    assert hostile.raw["script"] == usual.raw["script"]
    assert not re.search("[<>&\u2028\u2029]", hostile.raw["data"])
    assert hostile.data["transcript"][0]["heard"] == HOSTILE
    assert hostile.data["about"]["title"] == HOSTILE
    assert HOSTILE[:200] in hostile.data["types"]
    assert json.loads(hostile.frames[-2])["item_id"] == HOSTILE


@pytest.mark.parametrize(
    "line",
    [
        sent(100, "x" * 1_000_000, audio=5),
        sent(100, "input_audio_buffer.append", audio="no base64!" * 20),
        received(
            100, "response.output_audio.delta", delta=text(b"odd"), item_id=[], response_id=[]
        ),
        received(100, "response.output_audio.delta", delta=text(b"odd"), content_index={}),
        received(100, "response.done", response="nothing"),
        received(100, "conversation.item.added", item={"id": 7, "type": ["x"]}),
        received(100, "response.output_text.delta", delta="y" * 1_000_000),
        Sent(t_us=100_000, broken="!"),
        Left(t_us=100_000, lines=3, bytes=4),
        Named(t_us=100_000, names={"a": "b"}),
        Left(t_us=1 << 61, lines=1 << 62, bytes=-1),
        Told(t_us=2_700_600, type="bus.playback_interrupted", event=dict.fromkeys("ab", 1e308)),
        Told(t_us=5, type="bus.playback_interrupted", event={"items": [3], "latency_s": 1e308}),
        Played(t_us=5, items=[PlayedItem(item_id="a1", played_ms=1 << 60, written_ms=-1)]),
        Sent(t_us=100, frame=_LEFT_OUT, audio_bytes=1 << 60),
        Sent(t_us=100, frame=msgspec.Raw(b"[" * 100_000 + b"]" * 100_000)),
        Sent(t_us=100, frame=msgspec.Raw(b'{"type":"x","y":1e999}')),
        Sent(t_us=-5),
    ],
    ids=lambda line: str(line)[:40].replace(" ", ""),
)
def test_nonsense_in_a_recording_is_shown_as_it_is(line: Line) -> None:
    """Whatever a frame holds, there is a page, and the event is in it."""
    lines = conversation()
    lines.insert(3, line)
    parsed = Parsed(inspection_page(lines))
    assert len(parsed.frames) == len(parsed.data["kinds"]) == len(lines) - 1
    assert all(step >= 0 for step in parsed.data["times"])


def test_a_recording_of_nothing_has_a_page() -> None:
    """A session that was cut off at once, or a file with nothing but its header."""
    data = Parsed(inspection_page([Header(t_us=0)])).data
    assert data["turns"] == data["transcript"] == data["kinds"] == []
    assert data["end_us"] == 0


def test_without_audio_the_voices_are_drawn_only() -> None:
    """The page is smaller, and says so."""
    with_audio, without = (
        inspection_page(conversation()),
        inspection_page(conversation(), audio=False),
    )
    parsed = Parsed(without)
    assert all(clip["bins"] and not clip["chunks"] for clip in parsed.data["clips"])
    # 4 s of tones at 8 kB a second, in base64; what is silent takes nothing
    assert 40_000 < len(with_audio) - len(without) < 55_000


def write(path: Path) -> Path:
    """Write a recording."""
    header, *lines = conversation()
    assert isinstance(header, Header)
    writer = RecordingWriter(path, header)
    for line in lines:
        writer.write(line)
    writer.close()
    return path


def test_inspect_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the recording, or where it is told to; with or without audio."""
    recording = write(tmp_path / "call.jsonl")
    assert app.run(["inspect", str(recording)]) == 0
    assert (tmp_path / "call.html").read_bytes() == inspection_page(Recording(recording))
    elsewhere = tmp_path / "page.html"
    assert app.run(["inspect", str(recording), "-o", str(elsewhere), "--no-audio"]) == 0
    assert elsewhere.stat().st_size < (tmp_path / "call.html").stat().st_size
    assert f"{elsewhere} (0.1 MB)" in capsys.readouterr().out


def test_inspect_opens_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the browser; where there is none, it says so."""
    opened: list[str] = []
    recording = write(tmp_path / "call.jsonl")
    monkeypatch.setattr("webbrowser.open", lambda url: not opened.append(url))
    assert app.run(["inspect", str(recording), "--open"]) == 0
    assert opened == [(tmp_path / "call.html").as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda _url: False)
    assert app.run(["inspect", str(recording), "--open"]) == 1


def test_a_wrong_command_line_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No recording, a place that is none, or the recording itself."""
    recording = write(tmp_path / "call.jsonl")
    before = recording.read_bytes()
    (tmp_path / "notes.txt").write_text("hello")
    for arguments, told in (
        ([str(tmp_path / "none.jsonl")], "cannot be read"),
        ([str(tmp_path)], "cannot be read"),
        ([str(tmp_path / "notes.txt")], "is no recording"),
        ([str(recording), "-o", str(tmp_path)], "is a folder"),
        ([str(recording), "-o", str(recording)], "is the recording itself"),
    ):
        assert app.run(["inspect", *arguments]) == 2
        shown = capsys.readouterr().err
        assert told in shown
        assert shown.count("\n") == 1
    assert recording.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"call.jsonl", "notes.txt"}

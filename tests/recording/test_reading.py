"""Recordings that are damaged, foreign, incomplete, or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_bus.audio import PlayedItem
from realtime_bus.recording import (
    Ended,
    Flushed,
    Header,
    Left,
    Line,
    Named,
    Played,
    Received,
    Recording,
    RecordingError,
    RecordingWriter,
    Sent,
    Told,
)

ITEMS = [PlayedItem(item_id="a", played_ms=1, written_ms=2)]
FRAME = b'{"type":"input_audio_buffer.cleared"}'
LINES: list[Line] = [
    Told(t_us=1, type="bus.connected", event={"url": "ws://x", "n": [1, None]}),
    Played(t_us=2, items=ITEMS),
    Flushed(t_us=3, items=ITEMS, settled=True),
    Named(t_us=4, names={"there": "here"}),
    Left(t_us=5, lines=3, bytes=4, why="the disk was full"),
    Ended(t_us=6, code=1000, reason="bye", clean=True),
]


def written(path: Path, *lines: Line | bytes, **options: Any) -> Path:
    """Write a recording: lines, and bytes as frames."""
    writer = RecordingWriter(path, Header(t_us=0, recording_id="r"), **options)
    for number, line in enumerate(lines):
        if isinstance(line, bytes):
            writer.frame(number, "in", line)
        else:
            writer.write(line)
    writer.close()
    return path


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.zst"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    """Every kind of line, compressed or not."""
    recording = Recording(written(tmp_path / name, *LINES))
    assert list(recording) == [recording.header, *LINES]
    assert list(recording) == [recording.header, *LINES]  # and again


def test_lines_of_a_later_version_are_skipped(tmp_path: Path) -> None:
    """Kinds that are unknown, and fields of known ones: that is no damage."""
    path = written(tmp_path / "x.jsonl")
    with path.open("ab") as file:
        file.write(b'{"kind":"smell","t_us":1,"of":"roses"}\n')
        file.write(b'{"kind":"end","t_us":2,"code":1000,"clean":true,"mood":"good"}\n')
    assert list(Recording(path))[1:] == [Ended(t_us=2, code=1000, clean=True)]


@pytest.mark.parametrize(
    "damage",
    [
        b'{"kind":"end","t_us":2,"co\n',
        b'{"kind":"end","t_us":"two"}\n',
        b"\x00\xff\xfe\n",
        b"\n",
        b"[]\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_damaged_line_is_told_and_skipped(tmp_path: Path, damage: bytes) -> None:
    """What stands before and behind it is read."""
    path = written(tmp_path / "x.jsonl", LINES[0])
    with path.open("ab") as file:
        file.write(damage)
        file.write(msgspec.json.encode(LINES[-1]) + b"\n")
    first, left, last = list(Recording(path))[1:]
    assert (first, last) == (LINES[0], LINES[-1])
    assert left == Left(t_us=1, lines=1, bytes=len(damage), why="a line is damaged")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"no JSON",
        b"{",
        b'{"type":"brand.new","x":\x00}',
        b'{"type":"response.output_audio.delta","delta":"\x00"}',
        b'{"type":"response.output_audio.delta","delta":"',
        b'{"type":"response.output_text.delta","delta":"\xff\xfe"',
        b'{"type":"response.output_audio.delta","delta":"A"}\n{"kind":"end","t_us":1}\n',
        b'"}\n{"kind":"end","t_us":1}\n',
        b'{"type":"response.output_text.delta","delta":NaN}',
        b"[" * 100_000,
        b"\r\n\r\n",
    ],
)
def test_whatever_a_server_sends_comes_back_as_it_came(tmp_path: Path, frame: bytes) -> None:
    """It harms no other line, and writes none of its own."""
    lines = list(Recording(written(tmp_path / "x.jsonl", FRAME, frame, FRAME)))[1:]
    assert all(isinstance(line, Received) for line in lines)
    found = [line.data for line in lines if isinstance(line, Received)]
    assert found == [FRAME, frame, FRAME]


@given(st.binary(max_size=60), st.sampled_from([b"", b'{"type":"response.output_audio.delta"']))
def test_any_bytes_come_back(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, beginning: bytes
) -> None:
    """As they came; in JSON, line breaks have become spaces, and space behind it is gone.

    Written at once and one by one.
    """
    frame = beginning + noise
    path = tmp_path_factory.getbasetemp() / "noise.jsonl"
    writer = RecordingWriter(path, Header(t_us=0))
    writer.frame(1, "out", frame)
    writer.frame(2, "in", frame)
    writer.close()
    lines = list(Recording(path))[1:]
    assert [line.t_us for line in lines] == [1, 2]
    for line in lines:
        assert isinstance(line, Received | Sent)
        on_one_line = frame.replace(b"\n", b" ").replace(b"\r", b" ")
        assert line.data in (frame, on_one_line, on_one_line.strip(b" \t"))


def test_frames_keep_their_bytes(tmp_path: Path) -> None:
    """Blanks, the order of fields, escapes, all that a server may do."""
    frame = b' { "b" : 1.0e5,\t"a":"\\u00e4\xc3\xa4\\/" } '
    [line] = list(Recording(written(tmp_path / "x.jsonl", frame)))[1:]
    assert isinstance(line, Received)
    assert bytes(line.frame) == line.data.strip()
    assert line.data.strip() == frame.strip()


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"RIFF" + bytes(5000)),
        lambda path: path.write_bytes(b"{}\n"),
        lambda path: path.write_bytes(b'{"kind":"end","t_us":0}\n'),
        lambda path: path.write_bytes(b"x" * 3_000_000),
        lambda path: path.write_bytes(b"\x28\xb5\x2f\xfd garbage"),
    ],
)
def test_what_is_no_recording_is_said_to_be_none(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    """The error names the file; a huge one is not read."""
    make(path := tmp_path / "x.jsonl")
    with pytest.raises(RecordingError, match=r"x\.jsonl is no recording"):
        Recording(path)


def test_a_recording_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """The error says who can read it."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"kind":"recording","t_us":0,"version":2}\n')
    with pytest.raises(RecordingError, match="version 2 of the format, which a later realtime-bus"):
        Recording(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The system's own error."""
    with pytest.raises(FileNotFoundError):
        Recording(tmp_path / "x.jsonl")


def parts(folder: Path) -> Path:
    """Write a recording of several files."""
    return written(folder / "x.jsonl", *[FRAME] * 10, max_file_bytes=200)


def test_all_parts_are_read_as_one(tmp_path: Path) -> None:
    """From whichever file on; others' files in the folder do not matter."""
    path = parts(tmp_path)
    written(tmp_path / "x.y.jsonl", FRAME)
    written(tmp_path / "xx.1.jsonl", FRAME)
    (tmp_path / "x.9.jsonl").write_bytes(b"none of it")
    RecordingWriter(tmp_path / "x.8.jsonl", Header(t_us=0, recording_id="other", part=0)).close()
    recording = Recording(path)
    assert len(recording.paths) > 3
    frames = [line for line in recording if isinstance(line, Received)]
    assert [line.t_us for line in frames] == list(range(10))
    assert not [line for line in recording if isinstance(line, Left)]
    second = Recording(recording.paths[1])
    assert second.paths == recording.paths[1:]
    assert second.header.part == 1
    assert next(line.t_us for line in second if isinstance(line, Received)) > 0


def test_a_part_that_is_gone_is_told(tmp_path: Path) -> None:
    """Where it is missing; the others are read."""
    recording = Recording(parts(tmp_path))
    recording.paths[1].unlink()
    found = list(recording)
    [place] = [at for at, line in enumerate(found) if isinstance(line, Left)]
    left, before = found[place], found[place - 1]
    assert isinstance(left, Left)
    assert left.why == "x.1.jsonl is missing"
    assert left.t_us == before.t_us
    assert isinstance(found[place + 1], Received)


def test_a_compressed_file_that_is_damaged(tmp_path: Path) -> None:
    """What stands before the damage is read; the rest is told as missing."""
    path = written(tmp_path / "x.jsonl.zst", *[FRAME] * 5000)
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 400] = bytes(400)
    path.write_bytes(whole)
    lines = list(Recording(path))
    assert isinstance(lines[0], Header)
    assert 1000 < len(lines) < 5000
    assert isinstance(lines[-1], Left)


def test_a_bomb_is_not_taken_in_at_once(tmp_path: Path) -> None:
    """A gigabyte of nothing, compressed to some kilobytes, is no recording."""
    import tracemalloc

    from backports import zstd

    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstd.compress(bytes(300_000_000)))
    tracemalloc.start()
    with pytest.raises(RecordingError):
        Recording(path)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()

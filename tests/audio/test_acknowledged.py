"""A sink on a line that only acknowledges."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from realtime_bus.audio import AcknowledgedSink, AudioPiece, AudioSink
from realtime_bus.events import AudioPCM, AudioPCMU


class Line:
    """What a line was told."""

    def __init__(self, *, piece_ms: int = 100) -> None:
        self.pieces: list[AudioPiece] = []
        self.cleared = 0
        self.sink = AcknowledgedSink(send=self.pieces.append, clear=self._clear, piece_ms=piece_ms)
        self.sink.start(AudioPCMU())

    def _clear(self) -> None:
        self.cleared += 1

    def write(self, item_id: str, duration_ms: int, content_index: int = 0) -> None:
        """Write G.711."""
        self.sink.write(bytes(8 * duration_ms), item_id=item_id, content_index=content_index)

    @property
    def positions(self) -> list[tuple[str, int, int]]:
        """What the sink says of each part."""
        return [(part.item_id, part.played_ms, part.written_ms) for part in self.sink.positions()]


def test_it_is_a_sink() -> None:
    """It has what `Interruption` asks for."""
    assert isinstance(Line().sink, AudioSink)


def test_audio_is_sent_in_pieces_that_say_where_they_end() -> None:
    """A long delta makes several pieces, each with the mark that its end is acknowledged by."""
    line = Line()
    line.write("a", 250)
    line.write("a", 30)
    assert [(p.item_id, p.end_ms, len(p.audio)) for p in line.pieces] == [
        ("a", 100, 800),
        ("a", 200, 800),
        ("a", 250, 400),
        ("a", 280, 240),
    ]
    assert {type(p.audio_format) for p in line.pieces} == {AudioPCMU}


def test_what_was_acknowledged_was_heard() -> None:
    """An acknowledgement moves the position, the last one ends the item."""
    line = Line()
    line.write("a", 200)
    assert line.positions == [("a", 0, 200)]
    line.sink.on_played("a", 100)
    assert line.positions == [("a", 100, 200)]
    line.sink.on_played("a", 150)
    assert line.positions == [("a", 150, 200)]
    line.sink.on_played("a", 120)
    assert line.positions == [("a", 150, 200)], "an older acknowledgement changes nothing"
    assert line.sink.playing
    line.sink.on_played("a", 200)
    assert line.positions == []
    assert not line.sink.playing


def test_an_acknowledgement_holds_for_what_was_sent_before() -> None:
    """A line plays in order: what stood before has been heard, even if nobody said so."""
    line = Line()
    line.write("a", 200)
    line.write("b", 200)
    line.sink.on_played("b", 100)
    assert line.positions == [("b", 100, 200)]


def test_acknowledgements_do_not_walk_through_what_is_queued() -> None:
    """Each of many marks takes a step or two, however much still waits to be played."""
    line = Line(piece_ms=20)
    line.write("a", 60_000)
    looked_at = 0

    class Counted(deque[Any]):
        def __iter__(self) -> Iterator[Any]:
            nonlocal looked_at
            for each in super().__iter__():
                looked_at += 1
                yield each

    line.sink._sent = Counted(line.sink._sent)
    for ms in range(20, 20_001, 20):
        line.sink.on_played("a", ms)
        line.sink.on_played("a", ms)  # twice
    assert line.positions[0][1] == 20_000
    assert looked_at < 2 * 1000 + len(line.sink._sent) + 1


def test_items_that_take_turns_and_parts_have_their_own_marks() -> None:
    """The same number of milliseconds means another place in another part."""
    line = Line()
    line.write("a", 100)
    line.write("b", 100, content_index=1)
    line.write("a", 100)
    line.sink.on_played("a", 100)
    assert line.positions == [("b", 0, 100), ("a", 100, 200)]
    line.sink.on_played("b", 100)
    assert line.positions == [("b", 0, 100), ("a", 100, 200)], "of another part"
    line.sink.on_played("b", 100, content_index=1)
    assert line.positions == [("a", 100, 200)]


def test_a_flush_clears_the_line_and_late_marks_are_ignored() -> None:
    """Lines acknowledge what they have thrown away; that was not heard."""
    line = Line()
    line.write("a", 200)
    line.write("b", 100)
    line.sink.on_played("a", 100)
    found = [(part.item_id, part.played_ms, part.written_ms) for part in line.sink.flush()]
    assert found == [("a", 100, 200), ("b", 0, 100)]
    assert line.cleared == 1
    line.sink.on_played("a", 200)
    line.sink.on_played("never", 100)
    assert line.positions == []
    line.write("c", 100)
    line.sink.on_played("b", 100)
    assert line.positions == [("c", 0, 100)]


def test_after_an_underrun_marks_go_on_where_the_item_was() -> None:
    """The network stalled in the midst of an item."""
    line = Line()
    line.write("a", 100)
    line.sink.on_played("a", 100)
    assert not line.sink.playing
    line.write("a", 100)
    assert line.pieces[-1].end_ms == 200
    assert line.positions == [("a", 100, 200)]


def test_a_line_gets_whole_samples() -> None:
    """PCM16 that is cut inside a sample is sent when the sample is whole, item by item."""
    line = Line()
    line.sink.start(AudioPCM())
    line.sink.write(b"\1\2\3", item_id="a")
    line.sink.write(b"\5\6\7", item_id="b")
    line.sink.write(b"\4", item_id="a")
    line.sink.write(b"\x08", item_id="b")
    assert [p.audio for p in line.pieces] == [b"\1\2", b"\5\6", b"\3\4", b"\7\x08"]


def test_a_line_that_cannot_be_cleared_loses_no_account() -> None:
    """What was heard is still known, for whoever asks after the failure."""

    def broken() -> None:
        raise OSError("the line is gone")

    sink = AcknowledgedSink(send=lambda piece: None, clear=broken)
    sink.write(bytes(4800), item_id="a")
    with pytest.raises(OSError, match="the line is gone"):
        sink.flush()
    assert [part.written_ms for part in sink.positions()] == [100]


def test_what_could_not_be_sent_is_not_awaited() -> None:
    """The line refuses audio: nothing of it counts as playing."""
    refused: list[AudioPiece] = []

    def send(piece: AudioPiece) -> None:
        if piece.end_ms > 100:
            refused.append(piece)
            raise OSError("the line is gone")

    sink = AcknowledgedSink(send=send, clear=lambda: None)
    with pytest.raises(OSError, match="the line is gone"):
        sink.write(bytes(48 * 300), item_id="a")
    [part] = sink.positions()
    assert (part.played_ms, part.written_ms, len(refused)) == (0, 100, 1)
    sink.on_played("a", 100)
    assert not sink.playing


def test_accounts_of_heard_items_are_bounded() -> None:
    """A long call does not add up, and a queued item is never forgotten."""
    line = Line()
    for number in range(200):
        line.write(f"heard{number}", 10)
        line.sink.on_played(f"heard{number}", 10)
    for number in range(100):
        line.write(f"queued{number}", 10)
    assert len(line.positions) == 100
    assert len(line.sink._accounts) <= 164

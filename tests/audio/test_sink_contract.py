"""The contract of sinks, and its conformance test: sinks of ours keep it, broken ones are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from realtime_bus.audio import (
    AcknowledgedSink,
    AudioPiece,
    AudioSink,
    PlayedItem,
    bytes_to_ms,
    check_sink,
)
from realtime_bus.events import AudioFormat, AudioPCM, AudioPCMA, AudioPCMU
from realtime_bus_plugins.sinks import NullSink, WavSink

FORMATS = (AudioPCM(), AudioPCMU(), AudioPCMA(), AudioPCM(rate=16_000))


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_s = 1234.5

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


@pytest.mark.parametrize("kind", [NullSink, WavSink])
def test_sinks_on_a_clock_keep_the_contract(kind: type[NullSink | WavSink]) -> None:
    """Both sinks play any format, and any change between formats, to the millisecond."""
    clock = Clock()
    check_sink(lambda: kind(clock=clock), advance=clock.advance, formats=FORMATS)


class Line:
    """A telephone: it plays what it is sent at its own pace, and acknowledges piece by piece."""

    def __init__(self) -> None:
        self.sink = AcknowledgedSink(send=self.send, clear=self.clear, piece_ms=20)
        self.pieces: list[AudioPiece] = []
        self.played_s = 0.0

    def send(self, piece: AudioPiece) -> None:
        """Take audio."""
        self.pieces.append(piece)

    def clear(self) -> None:
        """Fall silent."""
        self.pieces.clear()
        self.played_s = 0.0

    def advance(self, seconds: float) -> None:
        """Play for a while, and acknowledge what has been played."""
        self.played_s += seconds
        while self.pieces:
            piece = self.pieces[0]
            length_s = bytes_to_ms(len(piece.audio), piece.audio_format) / 1000
            if length_s > self.played_s + 1e-9:
                return
            self.played_s -= length_s
            self.pieces.pop(0)
            self.sink.on_played(piece.item_id, piece.end_ms, content_index=piece.content_index)
        self.played_s = 0.0


def test_a_line_that_acknowledges_keeps_the_contract() -> None:
    """Marks are enough: the account is right to within a piece."""
    lines: list[Line] = []

    def make_sink() -> AcknowledgedSink:
        lines.append(Line())
        return lines[-1].sink

    check_sink(
        make_sink,
        advance=lambda seconds: lines[-1].advance(seconds),  # noqa: PLW0108  # of the last one
        formats=(AudioPCM(), AudioPCMU()),
        tolerance_ms=20,
    )


class Framed:
    """A device that takes frames of 20 ms, on a sink that is right but for what a test breaks."""

    def __init__(self, clock: Clock) -> None:
        self.inner = NullSink(clock=clock)
        self.clock = clock

    def start(self, audio_format: AudioFormat) -> None:
        """Pass on."""
        self.inner.start(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Pass on."""
        self.inner.write(audio, item_id=item_id, content_index=content_index)

    def flush(self) -> list[PlayedItem]:
        """Pass on."""
        return self.inner.flush()

    def positions(self) -> list[PlayedItem]:
        """Pass on."""
        return self.inner.positions()

    @property
    def playing(self) -> bool:
        """Pass on."""
        return self.inner.playing


def changed(part: PlayedItem, **fields: Any) -> PlayedItem:
    """Return a report with other values."""
    old = {name: getattr(part, name) for name in part.__struct_fields__}
    return PlayedItem(**{**old, **fields})


class CountsWhatItWasHanded(Framed):
    """Takes what it was given for what was heard."""

    def positions(self) -> list[PlayedItem]:
        """Report everything as played."""
        return [changed(part, played_ms=part.written_ms) for part in super().positions()]


class CountsTheClock(Framed):
    """Counts from an item's first write, underruns included."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.begun: dict[str, float] = {}

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Note when."""
        self.begun.setdefault(item_id, self.clock())
        super().write(audio, item_id=item_id, content_index=content_index)

    def positions(self) -> list[PlayedItem]:
        """Report the time since the beginning."""
        return [
            changed(
                part,
                played_ms=min(
                    part.written_ms, int((self.clock() - self.begun[part.item_id]) * 1000 + 1e-3)
                )
                if part.played_ms
                else 0,
            )
            for part in super().positions()
        ]


class HoldsTheTail(Framed):
    """Counts everything, but plays whole frames only."""

    def positions(self) -> list[PlayedItem]:
        """Let the last frame wait."""
        found = super().positions()
        return found or [PlayedItem(item_id="a", played_ms=100, written_ms=107)]


class DropsTheTail(Framed):
    """Plays whole frames only, and counts nothing else."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.rest = b""

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Keep what makes no frame."""
        audio = self.rest + audio
        whole = len(audio) - len(audio) % 960
        self.rest = audio[whole:]
        super().write(audio[:whole], item_id=item_id, content_index=content_index)


class ForgetsNothing(Framed):
    """Stops at a flush, but reports the same again."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.last: list[PlayedItem] = []

    def flush(self) -> list[PlayedItem]:
        """Report what was reported."""
        self.last = super().flush() or self.last
        return self.last


class PlaysOn(Framed):
    """A flush reports, and silences nothing."""

    def flush(self) -> list[PlayedItem]:
        """Return positions."""
        return self.positions()


class Reversed(Framed):
    """Reports the newest item first."""

    def positions(self) -> list[PlayedItem]:
        """Turn them round."""
        return super().positions()[::-1]

    def flush(self) -> list[PlayedItem]:
        """Turn them round."""
        return super().flush()[::-1]


class ForgetsTheIndex(Framed):
    """Reports every part as the first one."""

    def positions(self) -> list[PlayedItem]:
        """Drop the index."""
        return [changed(part, content_index=0) for part in super().positions()]


class OneHalf(Framed):
    """Keeps one half sample for all items."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.half = b""

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Join whatever comes to whatever is left."""
        audio = self.half + audio
        whole = len(audio) // 2 * 2
        self.half = audio[whole:]
        super().write(audio[:whole], item_id=item_id, content_index=content_index)


class RestartsInFormat(Framed):
    """Forgets what is queued whenever it is told a format."""

    def start(self, audio_format: AudioFormat) -> None:
        """Begin anew."""
        self.inner.flush()
        super().start(audio_format)


class NeverSilent(Framed):
    """Says that it plays, always."""

    @property
    def playing(self) -> bool:
        """Say yes."""
        return True


class OneFormat(Framed):
    """Takes every format for PCM16."""

    def start(self, audio_format: AudioFormat) -> None:
        """Ignore it."""


class Raises(Framed):
    """Cannot be flushed."""

    def flush(self) -> list[PlayedItem]:
        """Fail."""
        raise OSError("the device is gone")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (CountsWhatItWasHanded, "audio is reported as soon as it is written"),
        (CountsTheClock, "after an underrun an item goes on where it had stopped"),
        (DropsTheTail, "what was written counts in full, frame or no frame"),
        (HoldsTheTail, "what was written plays to its end although nothing follows"),
        (ForgetsNothing, "what was flushed is forgotten"),
        (PlaysOn, "after a flush nothing plays"),
        (Reversed, "queued items are reported in order"),
        (ForgetsTheIndex, "parts are reported with their content_index"),
        (OneHalf, "a sample may come in two halves, item by item"),
        (RestartsInFormat, "starting again in the same format changes nothing"),
        (NeverSilent, "a new sink is silent: playing is True"),
        (OneFormat, "a change of format holds for what is written next"),
        (Raises, "while a flush was tried, the sink raised OSError('the device is gone')"),
    ],
)
def test_a_broken_sink_is_told_which_rule_it_breaks(
    kind: Callable[[Clock], AudioSink], sentence: str
) -> None:
    """Each broken rule has a sentence, with what was expected and what was seen."""
    clock = Clock()
    with pytest.raises(AssertionError) as caught:
        check_sink(lambda: kind(clock), advance=clock.advance, formats=(AudioPCM(), AudioPCMU()))
    assert str(caught.value).startswith("the sink breaks the contract of AudioSink:\n- ")
    assert sentence in str(caught.value)


def test_a_tolerance_forgives_lateness_and_never_haste() -> None:
    """A sink that is told in blocks may report less than was played, but not more."""

    class Early(Framed):
        def positions(self) -> list[PlayedItem]:
            return [
                changed(part, played_ms=part.played_ms and part.played_ms + 10)
                for part in super().positions()
            ]

    clock = Clock()
    with pytest.raises(AssertionError, match="played_ms counts what was heard"):
        check_sink(lambda: Early(clock), advance=clock.advance, tolerance_ms=50)


def test_what_is_no_sink_is_told_so() -> None:
    """An object that lacks a method is named once."""
    with pytest.raises(AssertionError, match="lacks a method or property of AudioSink"):
        check_sink(object, advance=lambda seconds: None)  # type: ignore[arg-type]  # on purpose

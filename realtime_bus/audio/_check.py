"""A conformance test for sinks: the contract of `AudioSink`, tried rule by rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from realtime_bus.events import AudioFormat, AudioPCM

from ._formats import ms_to_bytes, sample_width
from ._sink import AudioSink, PlayedItem

_Rule = Callable[["_Trial"], None]


def check_sink(
    make_sink: Callable[[], AudioSink],
    *,
    advance: Callable[[float], object],
    formats: Sequence[AudioFormat] = (AudioPCM(),),
    tolerance_ms: int = 0,
) -> None:
    """Hold a sink of your own to the contract of `AudioSink`. Nothing here sleeps.

    ::

        def test_my_sink() -> None:
            clock = VirtualClock()
            check_sink(lambda: MySink(clock=clock), advance=clock.advance)

    Args:
        make_sink: Makes a sink that has played nothing; called for every rule.
        advance: Lets so many seconds of playing pass for the sink that was made last: moves its
            clock, takes audio as its device would, or acknowledges as its line would.
        formats: What it can play; with more than one, changes between them are tried, too.
        tolerance_ms: How much later than it really was audio may be reported as played,
            for a sink that plays or is told in blocks; at most 50. Never is it reported earlier.

    Raises:
        AssertionError: Rules are broken; a sentence for each says what was expected and seen.
    """
    broken: list[str] = []
    for number, audio_format in enumerate(formats):
        rules = [*_RULES, *([_a_change_of_format] if len(formats) > 1 else [])]
        for rule in rules:
            trial = _Trial(make_sink(), advance, audio_format, tolerance_ms)
            trial.next_format = formats[(number + 1) % len(formats)]
            _try(rule, trial, broken)
    if broken:
        raise AssertionError("the sink breaks the contract of AudioSink:\n" + "\n".join(broken))


class _Broken(Exception):  # noqa: N818 - never seen outside
    """A rule does not hold."""


class _Trial:
    """One rule tried on a new sink."""

    def __init__(
        self,
        sink: AudioSink,
        advance: Callable[[float], object],
        audio_format: AudioFormat,
        tolerance_ms: int,
    ) -> None:
        self.sink = sink
        self.audio_format = self.next_format = audio_format
        self._advance = advance
        self._tolerance_ms = tolerance_ms

    def start(self) -> None:
        self.sink.start(self.audio_format)

    def write(self, item_id: str, duration_ms: int, content_index: int = 0) -> None:
        audio = bytes(ms_to_bytes(duration_ms, self.audio_format))
        self.sink.write(audio, item_id=item_id, content_index=content_index)

    def play(self, duration_ms: int) -> None:
        self._advance(duration_ms / 1000)

    def reports(self, sentence: str, *expected: tuple[str, int, int]) -> None:
        """Expect (item, played ms, written ms) of each part, in order, and `playing` with it."""
        self.compare(sentence, self.sink.positions(), *expected)
        if self.sink.playing != bool(expected):
            raise _Broken(f"{sentence}: playing is {self.sink.playing}, expected {bool(expected)}")

    def compare(
        self, sentence: str, found: list[PlayedItem], *expected: tuple[str, int, int]
    ) -> None:
        seen = [(part.item_id, part.played_ms, part.written_ms) for part in found]
        fits = len(seen) == len(expected) and all(
            item == wanted_item
            and max(0, wanted_played - self._tolerance_ms) <= played <= wanted_played
            and written == wanted_written
            for (item, played, written), (wanted_item, wanted_played, wanted_written) in zip(
                seen, expected, strict=True
            )
        )
        if not fits:
            raise _Broken(
                f"{sentence}: reported {seen}, expected {list(expected)} (item, played, written)"
            )


def _try(rule: _Rule, trial: _Trial, broken: list[str]) -> None:
    if not _is_sink(trial.sink):
        broken[:] = [f"- {trial.sink!r} lacks a method or property of AudioSink"]
        return
    try:
        rule(trial)
    except _Broken as error:
        broken.append(f"- {error} [{type(trial.audio_format).__name__}]")
    except Exception as error:  # noqa: BLE001 - a sink may raise anything
        said = rule.__name__.strip("_").replace("_", " ")
        broken.append(f"- while {said} was tried, the sink raised {error!r}")


def _is_sink(sink: object) -> bool:
    return isinstance(sink, AudioSink)


def _silence_at_first(trial: _Trial) -> None:
    trial.reports("a new sink is silent")
    trial.start()
    trial.compare("a flush of a sink that got no audio returns nothing", trial.sink.flush())
    trial.sink.write(b"", item_id="a")
    trial.reports("a write without audio makes no item known")


def _positions_of_one_item(trial: _Trial) -> None:
    trial.start()
    trial.write("a", 400)
    trial.reports("audio is reported as soon as it is written", ("a", 0, 400))
    trial.play(100)
    trial.reports("played_ms counts what was heard", ("a", 100, 400))
    trial.reports("asking for positions changes nothing", ("a", 100, 400))
    trial.start()
    trial.write("a", 100)
    trial.reports("starting again in the same format changes nothing", ("a", 100, 500))
    trial.play(200)
    trial.reports("played_ms goes on over several writes", ("a", 300, 500))


def _a_tail_without_more_writes(trial: _Trial) -> None:
    trial.start()
    trial.write("a", 107)  # no multiple of a frame
    trial.reports("what was written counts in full, frame or no frame", ("a", 0, 107))
    trial.play(200)
    trial.reports("what was written plays to its end although nothing follows")
    trial.compare("what was heard to its end is not flushed", trial.sink.flush())


def _items_in_order(trial: _Trial) -> None:
    trial.start()
    trial.write("a", 100)
    trial.write("b", 200)
    trial.write("b", 100, content_index=1)
    trial.reports("queued items are reported in order", ("a", 0, 100), ("b", 0, 200), ("b", 0, 100))
    indices = [part.content_index for part in trial.sink.positions()]
    if indices != [0, 0, 1]:
        raise _Broken(f"parts are reported with their content_index: {indices} for [0, 0, 1]")
    trial.play(200)
    trial.reports("an item waits for those before it", ("b", 100, 200), ("b", 0, 100))


def _items_that_take_turns(trial: _Trial) -> None:
    trial.start()
    for item_id in ("a", "b", "a", "b"):
        trial.write(item_id, 100)
    trial.reports("items that take turns have one account each", ("a", 0, 200), ("b", 0, 200))
    trial.play(350)
    trial.reports("what has no more to play is reported no more", ("b", 150, 200))


def _an_underrun(trial: _Trial) -> None:
    trial.start()
    trial.write("a", 100)
    trial.play(300)
    trial.reports("during an underrun nothing plays")
    trial.write("a", 200)
    trial.reports("after an underrun an item goes on where it had stopped", ("a", 100, 300))
    trial.play(100)
    trial.reports("the silence of an underrun is not played_ms", ("a", 200, 300))
    trial.play(400)
    trial.write("b", 200)
    trial.play(100)
    trial.reports("an item that follows an underrun counts its own audio", ("b", 100, 200))


def _a_flush(trial: _Trial) -> None:
    trial.start()
    trial.write("a", 300)
    trial.write("b", 100)
    trial.play(100)
    found = trial.sink.flush()
    trial.compare(
        "a flush returns what was playing or queued", found, ("a", 100, 300), ("b", 0, 100)
    )
    trial.reports("after a flush nothing plays")
    trial.compare("what was flushed is forgotten", trial.sink.flush())
    trial.play(100)
    trial.write("c", 200)
    trial.play(100)
    trial.reports("what is written after a flush starts at once", ("c", 100, 200))
    trial.sink.flush()
    trial.write("c", 200)
    trial.reports("what is written after a flush counts from zero", ("c", 0, 200))


def _odd_lengths(trial: _Trial) -> None:
    trial.start()
    audio = bytes(ms_to_bytes(100, trial.audio_format))
    cut = len(audio) // 2 + sample_width(trial.audio_format) - 1  # in the midst of a sample
    for piece in (audio[:cut], audio[cut:]):
        for item_id in ("a", "b"):
            trial.sink.write(piece, item_id=item_id)
    trial.reports("a sample may come in two halves, item by item", ("a", 0, 100), ("b", 0, 100))
    trial.sink.flush()
    trial.sink.write(audio[: -sample_width(trial.audio_format)], item_id="c")
    trial.reports("milliseconds are rounded down", ("c", 0, 99))


def _a_change_of_format(trial: _Trial) -> None:
    trial.start()
    trial.write("a", 100)
    trial.audio_format = trial.next_format
    trial.start()
    trial.write("b", 200)
    sentence = "a change of format holds for what is written next"
    trial.reports(sentence, ("a", 0, 100), ("b", 0, 200))
    trial.play(200)
    trial.reports(sentence, ("b", 100, 200))


_RULES: tuple[_Rule, ...] = (
    _silence_at_first,
    _positions_of_one_item,
    _a_tail_without_more_writes,
    _items_in_order,
    _items_that_take_turns,
    _an_underrun,
    _a_flush,
    _odd_lengths,
)

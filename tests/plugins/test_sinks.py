"""Sinks that play against a clock."""

from __future__ import annotations

import array
import math
import sys
import wave
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_bus import MissingExtra
from realtime_bus.audio import AudioSink
from realtime_bus.events import AudioFormat, AudioPCM, AudioPCMA, AudioPCMU
from realtime_bus_plugins._playback import RATE_HZ, Ribbon, ToSession
from realtime_bus_plugins._playback._pcm import FromSession, load_audioop
from realtime_bus_plugins.sinks import NullSink, Track, WavSink, write_stereo_wav

BYTES_PER_MS = 48


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_ms = 5_000_000

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_ms / 1000

    def tick(self, duration_ms: int) -> None:
        """Let time pass."""
        self.now_ms += duration_ms


@pytest.fixture
def clock() -> Clock:
    """Return a clock that the test moves."""
    return Clock()


def tone(duration_ms: int, value: int = 1000) -> bytes:
    """Return PCM16 that is never silent."""
    return array.array("h", [value] * (24 * duration_ms)).tobytes()


def silence(duration_ms: int) -> bytes:
    """Return so much silence."""
    return bytes(BYTES_PER_MS * duration_ms)


def test_both_sinks_are_audio_sinks(clock: Clock) -> None:
    """The sinks satisfy the protocol that interruption asks for."""
    assert isinstance(NullSink(clock=clock), AudioSink)
    assert isinstance(WavSink(clock=clock), AudioSink)


@pytest.mark.parametrize("kind", [NullSink, WavSink])
def test_a_sink_plays_at_the_pace_of_its_clock(
    kind: type[NullSink | WavSink], clock: Clock
) -> None:
    """Positions follow the clock, and the end of the queue is the end of playing."""
    sink = kind(clock=clock)
    sink.write(tone(100), item_id="a")
    clock.tick(40)
    [part] = sink.positions()
    assert (part.played_ms, part.written_ms) == (40, 100)
    assert sink.playing
    assert sink.remaining_s == pytest.approx(0.06)
    clock.tick(60)
    assert not sink.playing
    assert sink.positions() == sink.flush() == []


def test_heard_audio_stands_at_its_real_position(clock: Clock) -> None:
    """Silence fills the time in which nothing played: before, and at an underrun."""
    sink = WavSink(clock=clock)
    sink.start(AudioPCM())
    clock.tick(10)
    sink.write(tone(20), item_id="a")
    clock.tick(50)
    sink.write(tone(20, 2000), item_id="a")
    clock.tick(100)
    expected = silence(10) + tone(20) + silence(30) + tone(20, 2000)
    assert sink.heard == expected


def test_what_was_flushed_was_not_heard(clock: Clock) -> None:
    """Heard audio ends at the flush, and what follows stands where it was played."""
    sink = WavSink(clock=clock)
    sink.write(tone(500), item_id="a")
    clock.tick(30)
    [part] = sink.flush()
    assert part.played_ms == 30
    clock.tick(20)
    sink.write(tone(10, 3000), item_id="b")
    clock.tick(10)
    assert sink.heard == tone(30) + silence(20) + tone(10, 3000)


def test_what_has_not_been_played_yet_has_not_been_heard(clock: Clock) -> None:
    """In the middle of an item only its beginning was heard."""
    sink = WavSink(clock=clock)
    sink.write(tone(100), item_id="a")
    clock.tick(25)
    assert sink.heard == tone(25)
    assert sink.track.start_s == sink.started_s


def test_closing_writes_the_file(clock: Clock, tmp_path: Path) -> None:
    """The file holds what was heard until it was closed; closing again changes nothing."""
    path = tmp_path / "heard.wav"
    with WavSink(path, clock=clock) as sink:
        sink.write(tone(100), item_id="a")
        clock.tick(60)
    sink.close()
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (24_000, 1, 2)
        assert file.readframes(file.getnframes()) == tone(60)


@pytest.mark.parametrize("audio_format", [AudioPCMU(), AudioPCMA()])
@pytest.mark.parametrize("kind", [NullSink, WavSink])
def test_g711_lasts_as_long_as_it_should(
    kind: type[NullSink | WavSink], audio_format: AudioFormat, clock: Clock
) -> None:
    """Eight bytes of G.711 are a millisecond, also in several pieces."""
    sink = kind(clock=clock)
    sink.start(audio_format)
    for _ in range(5):
        sink.write(bytes(160), item_id="a")
    clock.tick(50)
    [part] = sink.flush()
    assert (part.played_ms, part.written_ms) == (50, 100)


@pytest.mark.parametrize(
    ("audio_format", "encoder"), [(AudioPCMU(), "lin2ulaw"), (AudioPCMA(), "lin2alaw")]
)
def test_g711_is_heard_as_the_sound_it_is(
    audio_format: AudioFormat, encoder: str, clock: Clock
) -> None:
    """A tone in G.711 comes out as the same tone in PCM16 at 24 kHz."""
    at_8_khz = [round(8000 * math.sin(2 * math.pi * 200 * n / 8000)) for n in range(1600)]
    at_24_khz = [8000 * math.sin(2 * math.pi * 200 * n / 24_000) for n in range(4800)]
    encoded = getattr(load_audioop(), encoder)(array.array("h", at_8_khz).tobytes(), 2)
    sink = WavSink(clock=clock)
    sink.start(audio_format)
    for start in range(0, len(encoded), 100):
        sink.write(encoded[start : start + 100], item_id="a")
    clock.tick(1000)
    heard = array.array("h", sink.heard)
    assert len(heard) == 4800
    # away from the edges, which no filter keeps; 8-bit steps are up to 256
    assert max(abs(a - b) for a, b in zip(heard[200:-200], at_24_khz[200:-200], strict=True)) < 300


def test_a_change_of_format_keeps_positions(clock: Clock) -> None:
    """What is queued plays on when the format changes, and the new audio follows it."""
    sink = WavSink(clock=clock)
    sink.write(tone(50), item_id="a")
    sink.start(AudioPCMU())
    sink.write(bytes(400), item_id="b")
    clock.tick(70)
    [part] = sink.positions()
    assert (part.item_id, part.played_ms, part.written_ms) == ("b", 20, 50)


@given(st.binary(min_size=0, max_size=200), st.lists(st.integers(0, 40), max_size=10))
def test_samples_survive_being_split(audio: bytes, cuts: list[int]) -> None:
    """However PCM16 is cut into deltas, the whole samples come out in order."""
    converter, made, counter, counted = FromSession(), b"", FromSession(counting_only=True), 0
    rest = audio
    for cut in [*cuts, len(audio)]:
        piece, rest = rest[:cut], rest[cut:]
        made += converter.convert(piece, "a").pcm
        counted += counter.samples(piece, "a")
    whole = audio[: len(audio) // 2 * 2]
    assert made == whole
    assert counted == len(whole) // 2


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9)), max_size=20))
def test_items_that_take_turns_keep_their_halves(pieces: list[tuple[str, int]]) -> None:
    """However two items are cut and interleaved, each one's samples come out as they were sent."""
    converter, counter = FromSession(), FromSession(counting_only=True)
    sent, made, counted = {"a": b"", "b": b""}, {"a": b"", "b": b""}, {"a": 0, "b": 0}
    for item, length in pieces:
        start = len(sent[item])
        piece = bytes((start + n) % 256 for n in range(length))
        sent[item] += piece
        made[item] += converter.convert(piece, item).pcm
        counted[item] += counter.samples(piece, item)
    for item, audio in sent.items():
        assert made[item] == audio[: len(audio) // 2 * 2]
        assert counted[item] == len(audio) // 2


def voice(rate_hz: int, duration_ms: int, hz: float = 440) -> bytes:
    """Return a sine as PCM16."""
    step = 2 * math.pi * hz / rate_hz
    length = rate_hz * duration_ms // 1000
    return array.array("h", [round(9000 * math.sin(step * n)) for n in range(length)]).tobytes()


def error_db(heard: bytes, wanted: bytes) -> float:
    """Return how far below what was wanted the worst difference lies."""
    pairs = zip(array.array("h", heard), array.array("h", wanted), strict=True)
    worst = max(abs(a - b) for a, b in pairs)
    return 20 * math.log10(max(worst, 1e-3) / 9000)


@pytest.mark.parametrize("delta_ms", [1, 20, 50])
def test_a_resampled_item_sounds_the_same_in_however_many_deltas(
    clock: Clock, delta_ms: int
) -> None:
    """Where one delta ends and the next begins, nothing is to be heard of it."""
    whole = Ribbon()
    whole.start(AudioPCM(rate=16_000))
    pcm = voice(16_000, 300)
    whole.write(0, pcm, item_id="a")
    sink = WavSink(clock=clock)
    sink.start(AudioPCM(rate=16_000))
    for start in range(0, len(pcm), 32 * delta_ms):
        sink.write(pcm[start : start + 32 * delta_ms], item_id="a")
    clock.tick(300)
    assert sink.heard == whole.take(300 * 24)
    assert error_db(sink.heard[960:-960], voice(24_000, 300)[960:-960]) < -60


def test_a_resampled_item_is_heard_to_its_end_although_nothing_follows(clock: Clock) -> None:
    """The resampler waits for more, the person does not: the tail is there in time."""
    sink = WavSink(clock=clock)
    sink.start(AudioPCMU())
    sink.write(b"\x00" * 8 * 100, item_id="a")  # a plateau as loud as can be
    clock.tick(99)
    assert sink.playing
    assert min(abs(value) for value in array.array("h", sink.heard)[-24 * 20 :]) > 25_000
    clock.tick(1)
    assert not sink.playing
    assert len(sink.heard) == 4800


def test_what_was_heard_is_not_revised(clock: Clock) -> None:
    """A delta that comes late changes nothing of what was heard before it came."""
    sink = WavSink(clock=clock)
    sink.start(AudioPCM(rate=16_000))
    pcm = voice(16_000, 100)
    sink.write(pcm[: 32 * 50], item_id="a")
    clock.tick(49)
    heard = sink.heard
    sink.write(pcm[32 * 50 :], item_id="a")
    assert sink.heard == heard
    clock.tick(51)
    assert sink.heard[: len(heard)] == heard
    assert len(sink.heard) == 4800


def test_resampled_items_that_take_turns_sound_as_if_each_came_alone(clock: Clock) -> None:
    """The resampler's state belongs to the item: no clicks where another item's delta stands."""
    sink = WavSink(clock=clock)
    sink.start(AudioPCM(rate=16_000))
    sounds = {"a": voice(16_000, 200), "b": voice(16_000, 200, 300)}
    for start in range(0, 6400, 1600):
        for item, pcm in sounds.items():
            sink.write(pcm[start : start + 1600], item_id=item)
    clock.tick(400)
    turns = [sink.heard[start : start + 2400] for start in range(0, 19_200, 2400)]
    for number, (item, hz) in enumerate([("a", 440), ("b", 300)]):
        alone = WavSink(clock=clock)
        alone.start(AudioPCM(rate=16_000))
        alone.write(sounds[item], item_id=item)
        clock.tick(200)
        assert b"".join(turns[number::2]) == alone.heard
        assert error_db(alone.heard[960:-960], voice(24_000, 200, hz)[960:-960]) < -60


@given(
    rate_hz=st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]),
    cuts=st.lists(st.integers(0, 700), min_size=1, max_size=12),
)
def test_resampled_audio_is_counted_to_the_sample(rate_hz: int, cuts: list[int]) -> None:
    """However it is cut: as many samples as are due, and those that are only counted are those."""
    converter, counter, made, counted = FromSession(), FromSession(counting_only=True), 0, 0
    converter.use(AudioPCM(rate=rate_hz))
    counter.use(AudioPCM(rate=rate_hz))
    total = 0
    for cut in cuts:
        piece = bytes(cut)
        total += cut
        converted = converter.convert(piece, "a")
        made += len(converted.pcm) // 2 - converted.revised
        counted += counter.samples(piece, "a")
        assert made == counted == total // 2 * RATE_HZ // rate_hz


def test_fractions_of_samples_add_up(clock: Clock) -> None:
    """Three samples at 16 kHz are four and a half at 24 kHz: many such deltas lose nothing."""
    sink = NullSink(clock=clock)
    sink.start(AudioPCM(rate=16_000))
    for _ in range(1600):
        sink.write(bytes(2 * 3), item_id="a")
    [part] = sink.positions()
    assert part.written_ms == 300


def test_half_a_sample_does_not_spill_into_the_next_item() -> None:
    """An item that ends in the middle of a sample does not shift the next one."""
    converter = FromSession()
    assert converter.convert(b"\1\2\3", "a") == (b"\1\2", 0)
    assert converter.convert(b"\4\5", "b") == (b"\4\5", 0)


@pytest.mark.parametrize("audio_format", [AudioPCM(), AudioPCMU(), AudioPCMA()])
def test_recorded_audio_keeps_its_length(audio_format: AudioFormat) -> None:
    """A second recorded is a second in the session's format, less the 8 ms that are on the way."""
    converter = ToSession(audio_format)
    bytes_per_ms = 48 if isinstance(audio_format, AudioPCM) else 8
    lengths = [len(converter.convert(tone(20))) for _ in range(50)]
    assert sum(lengths) == bytes_per_ms * (1000 if bytes_per_ms == 48 else 992)
    assert set(lengths[1:]) == {20 * bytes_per_ms}


def test_both_sides_stand_at_their_own_time_in_one_file(tmp_path: Path) -> None:
    """The left channel is the first track, the right one the second, each from its start."""
    path = tmp_path / "both.wav"
    write_stereo_wav(
        path, Track(pcm=tone(20, 1), start_s=100.0), Track(pcm=tone(20, 2), start_s=100.01)
    )
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 24_000)
        frames = array.array("h", file.readframes(file.getnframes()))
    assert frames[0::2].tobytes() == tone(20, 1) + silence(10)
    assert frames[1::2].tobytes() == silence(10) + tone(20, 2)


def test_a_missing_codec_names_the_extra(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Where Python has no audioop, G.711 says what to install; counting needs none."""
    monkeypatch.setitem(sys.modules, "audioop", None)
    NullSink(clock=clock).start(AudioPCMU())
    with pytest.raises(MissingExtra, match=r"audioop-lts.*realtime-bus\[audio\]"):
        WavSink(clock=clock).start(AudioPCMU())


def test_pcm_of_another_rate_is_resampled(clock: Clock) -> None:
    """Some providers send PCM16 at 48 kHz; it lasts as long as it should."""
    sink = WavSink(clock=clock)
    sink.start(AudioPCM(rate=48_000))
    sink.write(bytes(2 * 48 * 100), item_id="a")
    clock.tick(30)
    [part] = sink.positions()
    assert (part.played_ms, part.written_ms) == (30, 100)

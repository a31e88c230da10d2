"""Streams of PCM16 at another rate: the same sound, to the sample, wherever the stream was cut."""

from __future__ import annotations

import math
import random
import sys
from array import array
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_bus import MissingExtra, UsageError
from realtime_bus.audio import Resampler
from realtime_bus.audio._resampler import _load

RATES = [
    (24_000, 16_000), (24_000, 8_000), (22_050, 24_000), (8_000, 16_000), (8_000, 24_000),
    (16_000, 24_000), (22_050, 16_000), (48_000, 24_000), (24_000, 48_000), (44_100, 24_000),
    (24_000, 44_100), (8_000, 44_100),
]  # fmt: skip  # a table


def samples(values: Iterable[float]) -> bytes:
    """Return sample values as PCM16, clipped."""
    return array("h", (max(-32_768, min(32_767, round(value))) for value in values)).tobytes()


def sine(hz: float, *, rate_hz: int = 24_000, ms: int = 1000, peak: int = 16_000) -> bytes:
    """Return a sine as PCM16."""
    step = 2 * math.pi * hz / rate_hz
    return samples(peak * math.sin(step * i) for i in range(rate_hz * ms // 1000))


def noise(length: int) -> bytes:
    """Return so many samples of white noise, the same every time."""
    source = random.Random(7)  # noqa: S311  # noise, not a secret
    return samples(source.gauss(0, 5000) for _ in range(length))


def loudness(pcm: bytes) -> float:
    """Return the RMS of PCM16, away from its edges."""
    values = array("h", pcm)[400:-400]
    return math.sqrt(sum(value * value for value in values) / len(values))


def below_db(pcm: bytes, other: bytes) -> float:
    """Return how far the one is below the other."""
    return 20 * math.log10(max(loudness(pcm), 1e-3) / loudness(other))


def difference(pcm: bytes, other: bytes) -> bytes:
    """Return what is left of one sound when another is taken away."""
    return samples(a - b for a, b in zip(array("h", pcm), array("h", other), strict=True))


def resampled(pcm: bytes, from_hz: int, to_hz: int, **options: int) -> bytes:
    """Return a whole sound at another rate."""
    resampler = Resampler(from_hz, to_hz, **options)
    return resampler.feed(pcm) + resampler.flush()


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_a_tone_survives_a_change_of_rate(from_hz: int, to_hz: int) -> None:
    """A 1 kHz sine comes out as the same sine, in time and level, but for the rounding."""
    wanted = sine(1000, rate_hz=to_hz)
    made = resampled(sine(1000, rate_hz=from_hz), from_hz, to_hz)
    assert len(made) == len(wanted)
    assert below_db(difference(made, wanted), wanted) < -80


@pytest.mark.parametrize("hz", [4_200, 4_600, 6_000, 10_000])
def test_what_a_lower_rate_cannot_carry_does_not_come_back_as_a_ghost(hz: int) -> None:
    """Tones above 4 kHz are 70 dB down at 8 kHz instead of folding into speech."""
    assert below_db(resampled(sine(hz), 24_000, 8_000), sine(hz)) < -70


@pytest.mark.parametrize(("from_hz", "to_hz"), [(24_000, 8_000), (8_000, 24_000)])
def test_a_telephones_whole_band_is_kept(from_hz: int, to_hz: int) -> None:
    """At 3.4 kHz, where a telephone's band ends, nothing is lost, and no image is left."""
    made = resampled(sine(3400, rate_hz=from_hz), from_hz, to_hz)
    wanted = sine(3400, rate_hz=to_hz)
    assert abs(below_db(made, wanted)) < 0.05
    assert below_db(difference(made, wanted), wanted) < -60


def test_a_full_scale_square_does_not_wrap_around() -> None:
    """Overshoot of the filter is clipped: a loud plateau never turns into its opposite."""
    square = samples([32_767] * 600 + [-32_768] * 600)
    values = array("h", resampled(square, 24_000, 16_000))
    assert min(values[20:380]) > 28_000
    assert max(values[420:780]) < -28_000


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_silence_stays_silence(from_hz: int, to_hz: int) -> None:
    """No dither is added: a meter and a detector see nothing where nothing is."""
    assert set(resampled(bytes(2 * from_hz // 10), from_hz, to_hz)) == {0}


@given(
    rates=st.sampled_from(RATES),
    length=st.integers(0, 3000),
    cuts=st.lists(st.integers(1, 1500), min_size=1, max_size=6),
)
def test_where_a_stream_is_cut_makes_no_difference(
    rates: tuple[int, int], length: int, cuts: list[int]
) -> None:
    """Pieces of any size give the same samples as the whole, and exactly as many as are due."""
    pcm = noise(length)
    pieces, made, at, turn = Resampler(*rates), b"", 0, 0
    while at < length:
        until = at + cuts[turn % len(cuts)]
        made += pieces.feed(pcm[2 * at : 2 * until])
        at, turn = until, turn + 1
    made += pieces.flush()
    assert made == resampled(pcm, *rates)
    assert len(made) // 2 == math.ceil(length * rates[1] / rates[0])


@pytest.mark.parametrize(
    ("from_hz", "to_hz", "lag_ms"),
    [(24_000, 8_000, 8), (24_000, 16_000, 4), (48_000, 24_000, 2.7), (44_100, 24_000, 3.4)],
)
def test_a_stream_in_whole_pieces_lags_by_the_margin_alone(
    from_hz: int, to_hz: int, lag_ms: float
) -> None:
    """It waits for 64 samples of the lower rate, where soxr by itself waits for 37 to 73 ms."""
    resampler, chunk, made = Resampler(from_hz, to_hz), from_hz // 50, 0
    for number in range(1, 50):
        made += len(resampler.feed(bytes(2 * chunk))) // 2
        assert number * 20 - made * 1000 / to_hz <= lag_ms


def test_the_tail_can_be_seen_before_the_end() -> None:
    """`peek` shows what `flush` would give, and changes nothing of what follows."""
    peeking, plain = Resampler(24_000, 8_000), Resampler(24_000, 8_000)
    first, second = noise(1000), noise(700)
    given_at_first = peeking.feed(first)
    assert given_at_first + peeking.peek() == resampled(first, 24_000, 8_000)
    together = given_at_first + peeking.feed(second) + peeking.flush()
    assert together == plain.feed(first) + plain.feed(second) + plain.flush()


def test_a_flushed_resampler_starts_anew() -> None:
    """After a flush the same input gives the same output again."""
    resampler, tone = Resampler(24_000, 16_000), sine(440, ms=50)
    first = resampler.feed(tone) + resampler.flush()
    assert resampler.feed(tone) + resampler.flush() == first


def test_the_same_rate_changes_nothing() -> None:
    """A resampler between equal rates hands its bytes through."""
    resampler = Resampler(24_000, 24_000)
    assert resampler.feed(b"\1\2\3\4") + resampler.peek() + resampler.flush() == b"\1\2\3\4"


def test_a_rate_of_zero_is_refused() -> None:
    """Rates must be positive, and the error names them."""
    with pytest.raises(UsageError, match="not 0 and 8000"):
        Resampler(0, 8_000)


@pytest.fixture
def without_soxr(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let soxr be missing."""
    monkeypatch.setitem(sys.modules, "soxr", None)
    _load.cache_clear()
    yield
    _load.cache_clear()


@pytest.mark.usefixtures("without_soxr")
def test_a_missing_soxr_names_the_extra() -> None:
    """Only where the rate changes; the error says what to install."""
    Resampler(24_000, 24_000)
    with pytest.raises(MissingExtra, match=r"soxr.*realtime-bus\[audio\]"):
        Resampler(24_000, 8_000)

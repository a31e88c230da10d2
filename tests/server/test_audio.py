"""Samples: rates, G.711, and streams cut anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_bus import events as ev
from realtime_bus.server import _audio as pcm

from ._sounds import difference_db, noise, samples, sine

PCM, ULAW, ALAW = ev.AudioPCM(), ev.AudioPCMU(), ev.AudioPCMA()


def cut(data: bytes, lengths: list[int]) -> list[bytes]:
    """Cut data into pieces of these lengths, again and again."""
    pieces, at, turn = [], 0, 0
    while at < len(data):
        length = lengths[turn % len(lengths)]
        pieces.append(data[at : at + length])
        at, turn = at + length, turn + 1
    return pieces


@given(lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=6))
@pytest.mark.parametrize("audio_format", [PCM, ULAW, ALAW])
def test_where_wire_audio_is_cut_makes_no_difference(
    audio_format: ev.AudioFormat, lengths: list[int]
) -> None:
    """Wire audio in pieces of any size, half samples included, converts to the same samples."""
    wire = noise(100, deviation=5000)
    whole, pieces = pcm.InputConverter(audio_format), pcm.InputConverter(audio_format)
    wanted = whole.feed(wire) + whole.flush()
    assert b"".join([*map(pieces.feed, cut(wire, lengths)), pieces.flush()]) == wanted


@pytest.mark.parametrize("audio_format", [ULAW, ALAW])
def test_g711_out_and_in_again_keeps_the_sound(audio_format: ev.AudioFormat) -> None:
    """PCM to G.711 and back is the same tone, within G.711's own noise."""
    tone = sine(1000)
    out = pcm.OutputConverter(audio_format)
    wire = out.feed(tone) + out.flush()
    assert len(wire) == 8 * 1000
    assert difference_db(pcm.to_pcm24(wire, audio_format), tone) < -35


def test_g711_codes_are_those_of_the_standard() -> None:
    """Silence is FF in µ-law and D5 in A-law, and decodes to (almost) nothing."""
    assert pcm.ulaw_encode(bytes(4)) == b"\xff\xff"
    assert pcm.alaw_encode(bytes(4)) == b"\xd5\xd5"
    assert pcm.ulaw_decode(b"\xff") == samples([0])
    assert pcm.alaw_decode(b"\xd5") == samples([8])


def test_pcm_goes_out_as_it_is() -> None:
    """PCM16 at 24 kHz needs no conversion on its way out, nor on its way to a responder."""
    assert pcm.OutputConverter().feed(b"\1\2") == b"\1\2"
    assert pcm.to_pcm24(b"\1\2\3") == b"\1\2"


def test_a_format_knows_its_rate() -> None:
    """The default is 24 kHz, G.711 is 8 kHz, and another PCM rate is taken at its word."""
    rates = [pcm.wire_rate_hz(known) for known in (None, PCM, ULAW, ALAW, ev.AudioPCM(rate=16_000))]
    assert rates == [24_000, 24_000, 8_000, 8_000, 16_000]


def test_loudness_is_in_decibels_below_full_scale() -> None:
    """A full-scale square is 0 dB, half of it 6 dB less, and silence -100 dB."""
    assert pcm.level_dbfs(samples([-32_768] * 10)) == 0
    assert pcm.level_dbfs(samples([16_384] * 10)) == pytest.approx(-6.02, abs=0.01)
    assert pcm.level_dbfs(bytes(20)) == -100

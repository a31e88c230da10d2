"""Audio as the page carries it: what a page decodes is what went in."""

from __future__ import annotations

import math
import struct

import pytest

from realtime_bus.events import AudioFormat, AudioPCM, AudioPCMA, AudioPCMU
from realtime_bus.inspector._clips import Clip, _load

from ._lines import tone

audioop = _load()[1]


def decoded(clip: Clip) -> list[list[int]]:
    """Return the samples of each second, decoded by itself; empty where it is silent."""
    seconds: list[list[int]] = []
    ends = [offset for offset in clip.chunks if offset >= 0] + [len(clip.adpcm)]
    for offset in clip.chunks:
        if offset < 0:
            seconds.append([])
            continue
        end = next(end for end in ends if end > offset)
        value, index = struct.unpack_from("<hB", clip.adpcm, offset)
        pcm, _ = audioop.adpcm2lin(bytes(clip.adpcm[offset + 4 : end]), 2, (value, index))
        seconds.append(list(struct.unpack(f"<{len(pcm) // 2}h", pcm)))
    return seconds


def clip_of(*pieces: tuple[bytes, AudioFormat], audio: bool = True) -> Clip:
    """Return a clip of these pieces."""
    clip = Clip(audio=audio)
    for pcm, audio_format in pieces:
        clip.add(pcm, audio_format, None)
    clip.finish()
    return clip


@pytest.mark.parametrize(
    ("audio", "audio_format"),
    [
        (tone(2500), AudioPCM()),
        (tone(2500, rate_hz=16_000), AudioPCM(rate=16_000)),
        (audioop.lin2ulaw(tone(2500, rate_hz=8_000), 2), AudioPCMU()),
        (audioop.lin2alaw(tone(2500, rate_hz=8_000), 2), AudioPCMA()),
    ],
    ids=["pcm", "pcm16k", "pcmu", "pcma"],
)
def test_what_is_decoded_is_what_went_in(audio: bytes, audio_format: AudioFormat) -> None:
    """In every format of the protocol, second by second, with little noise."""
    clip = clip_of((audio, audio_format))
    seconds = decoded(clip)
    assert [len(second) for second in seconds] == [16_000, 16_000, 8_000]
    wanted = struct.unpack("<40000h", tone(2500, rate_hz=16_000))
    got = [sample for second in seconds for sample in second]
    noise = sum((a - b) ** 2 for a, b in zip(wanted[500:-500], got[500:-500], strict=True))
    signal = sum(a**2 for a in wanted[500:-500])
    assert 10 * math.log10(signal / noise) > 25


def test_silence_takes_no_room() -> None:
    """A second without a sound is not there, wherever it stands."""
    silence = (bytes(3 * 48_000), AudioPCM())
    clip = clip_of(silence, (tone(1000), AudioPCM()), silence)
    # where the tone begins and ends there is a trace of it in the seconds beside
    assert [offset < 0 for offset in (clip.chunks[0], clip.chunks[3], clip.chunks[-1])] == [
        True,
        False,
        True,
    ]
    assert len(clip.adpcm) <= 3 * 8004


def test_what_is_drawn_has_two_bytes_for_ten_milliseconds() -> None:
    """The peak and the level: of a sine, their ratio is the root of two."""
    clip = clip_of((tone(1000, level=0.5), AudioPCM()), audio=False)
    assert len(clip.bins) == 200
    assert clip.chunks == []
    peak, level = clip.bins[100], clip.bins[101]
    assert peak == pytest.approx(127, abs=2)
    assert level == pytest.approx(90, abs=2)


def test_audio_that_was_left_out_keeps_its_place() -> None:
    """As silence, of its length, in every format."""
    for audio_format, length in ((AudioPCM(), 96_000), (AudioPCMU(), 16_000)):
        clip = Clip()
        clip.add(b"", audio_format, length)
        clip.add(tone(1000), AudioPCM(), None)
        clip.finish()
        assert clip.chunks[0] == -1
        assert len(clip.bins) == pytest.approx(600, abs=4)

"""Audio as the protocol carries it, and the seams where it is played and recorded.

Three formats exist, each mono: PCM16 (signed 16-bit little-endian, 24 kHz), G.711 µ-law and
A-law (8 kHz, one byte a sample). Times are in whole milliseconds, rounded down, as truncation
needs them.

A sink of your own has the methods of `AudioSink`, is fed by `feed_sink`, serves one session at a
time with `SessionSlot`, and is held to its contract by `check_sink`. A line that only acknowledges
what it has played needs no sink: give its two functions to `AcknowledgedSink`. Where a line or a
device has a rate of its own, `Resampler` changes it.
"""

from ._acknowledged import AcknowledgedSink, AudioPiece
from ._check import check_sink
from ._formats import bytes_per_ms, bytes_to_ms, ms_to_bytes, sample_width
from ._resampler import Resampler
from ._sink import (
    AudioSession,
    AudioSink,
    AudioSource,
    PlayedItem,
    SessionSlot,
    SettlingSink,
    feed_sink,
)

__all__ = [
    "AcknowledgedSink",
    "AudioPiece",
    "AudioSession",
    "AudioSink",
    "AudioSource",
    "PlayedItem",
    "Resampler",
    "SessionSlot",
    "SettlingSink",
    "bytes_per_ms",
    "bytes_to_ms",
    "check_sink",
    "feed_sink",
    "ms_to_bytes",
    "sample_width",
]

"""Sinks that play against a clock instead of on a device.

`WavSink` keeps what a person would have heard, `NullSink` keeps only the account of it. Both are
plugins: they play the session they are attached to.
"""

from ._clocked import NullSink, WavSink
from ._wav import Track, write_stereo_wav, write_wav

__all__ = ["NullSink", "Track", "WavSink", "write_stereo_wav", "write_wav"]

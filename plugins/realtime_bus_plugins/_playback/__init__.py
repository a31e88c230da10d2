"""What every sink needs: where playback stands, conversion, and being fed by a session.

No plugin: sinks and devices are built on it.
"""

from ._events import InterruptedItem, PlaybackInterrupted, PlaybackStarted
from ._feed import feed_sink, input_format, output_format
from ._pcm import RATE_HZ, FromSession, ToSession
from ._timeline import Timeline

__all__ = [
    "RATE_HZ",
    "FromSession",
    "InterruptedItem",
    "PlaybackInterrupted",
    "PlaybackStarted",
    "Timeline",
    "ToSession",
    "feed_sink",
    "input_format",
    "output_format",
]

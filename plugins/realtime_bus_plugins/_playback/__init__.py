"""What sinks, devices and the interruption share: events, where playback stands, conversion.

No plugin: `Interruption` exports the events.
"""

from ._events import InterruptedItem, PlaybackInterrupted, PlaybackStarted
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
]

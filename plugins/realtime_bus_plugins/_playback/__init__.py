"""What sinks, devices and the interruption share: events, where playback stands, conversion.

No plugin: `Interruption` exports the events.
"""

from ._events import InterruptedItem, PlaybackInterrupted, PlaybackStarted
from ._pcm import RATE_HZ, Converted, FromSession, Recoding, ToSession
from ._ribbon import Ribbon
from ._timeline import Timeline

__all__ = [
    "RATE_HZ",
    "Converted",
    "FromSession",
    "InterruptedItem",
    "PlaybackInterrupted",
    "PlaybackStarted",
    "Recoding",
    "Ribbon",
    "Timeline",
    "ToSession",
]

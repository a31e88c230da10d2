"""What sinks, devices and the interruption share: events, where playback stands, conversion.

No plugin: `Interruption` exports the events.
"""

from ._events import InterruptedItem, PlaybackInterrupted, PlaybackStarted
from ._pcm import RATE_HZ, Recoder, ToSession
from ._ribbon import Ribbon

__all__ = [
    "RATE_HZ",
    "InterruptedItem",
    "PlaybackInterrupted",
    "PlaybackStarted",
    "Recoder",
    "Ribbon",
    "ToSession",
]

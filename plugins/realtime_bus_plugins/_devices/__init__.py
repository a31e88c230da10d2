"""What microphone and loudspeaker are made of: PortAudio's streams, kept open, and what is in them.

No plugin: `devices` exports what is public.
"""

from ._keeper import DeviceLost, DeviceReopened, Keeper
from ._player import Player
from ._portaudio import Device, NoSoundDevice, Stream, load_sounddevice
from ._recorder import CHUNK_FRAMES, FRAME_MS, Filter, Passage, Recorder

__all__ = [
    "CHUNK_FRAMES",
    "FRAME_MS",
    "Device",
    "DeviceLost",
    "DeviceReopened",
    "Filter",
    "Keeper",
    "NoSoundDevice",
    "Passage",
    "Player",
    "Recorder",
    "Stream",
    "load_sounddevice",
]

"""The machine's own microphone and loudspeaker, through PortAudio (package sounddevice).

::

    speaker = Speaker()
    bus = Bus(plugins=[Microphone(), speaker, Interruption(speaker)])

Without headphones the microphone hears the loudspeaker, and the assistant interrupts itself:
use headphones, or a device that cancels echo.
"""

from ._microphone import Microphone
from ._open import Device, NoSoundDevice
from ._speaker import Speaker

__all__ = ["Device", "Microphone", "NoSoundDevice", "Speaker"]

"""What these tests send is held against the rules of the protocol; sound devices are the test's."""

import sys
from collections.abc import Iterator

import pytest

from tests._checked import protocol_is_kept

from ._portaudio import FakeStream, SoundDevice, plug_in

__all__ = ["protocol_is_kept"]


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeStream]]:
    """Give the streams that are opened from now on, on a device that takes everything."""
    monkeypatch.setitem(sys.modules, "sounddevice", SoundDevice("sounddevice"))
    FakeStream.opened.clear()
    plug_in()
    yield FakeStream.opened
    FakeStream.opened.clear()

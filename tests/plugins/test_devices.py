"""Microphone and loudspeaker, on a PortAudio of the test's own."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

import anyio
import anyio.to_thread
import pytest

from realtime_bus import MissingExtra
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, check_sink
from realtime_bus.events import AudioPCM, AudioPCMU
from realtime_bus_plugins.devices import Microphone, NoSoundDevice, Speaker
from realtime_bus_plugins.interruption import Interruption

from ._wire import Wire, session_on


class FakeStream:
    """A stream that the test drives."""

    opened: list[FakeStream] = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self, *, callback: Any, device: Any, **settings: Any) -> None:
        if device == "broken":
            raise FakeSoundDevice.PortAudioError("Invalid device")
        self.callback = callback
        self.settings = settings
        self.state = "new"
        self.opened.append(self)

    def start(self) -> None:
        """Start."""
        self.state = "started"

    def abort(self) -> None:
        """Stop."""
        self.state = "aborted"

    def close(self) -> None:
        """Close."""
        self.state = "closed"

    def play(self, duration_ms: int) -> bytes:
        """Let the device take audio."""
        out = bytearray(48 * duration_ms)
        self.callback(memoryview(out), 24 * duration_ms, None, None)
        return bytes(out)

    def record(self, audio: bytes) -> None:
        """Let the device give audio, in a thread of its own."""
        thread = threading.Thread(
            target=self.callback, args=(memoryview(audio), len(audio) // 2, None, None)
        )
        thread.start()
        thread.join()


class FakeSoundDevice(ModuleType):
    """What the plugin needs of sounddevice."""

    class PortAudioError(Exception):
        """What PortAudio complains about."""

    RawOutputStream = RawInputStream = FakeStream


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[FakeStream]:
    """Return the streams that are opened from now on."""
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSoundDevice("sounddevice"))
    FakeStream.opened.clear()
    return FakeStream.opened


def tone(duration_ms: int) -> bytes:
    """Return PCM16 that is never silent."""
    return b"\1\2" * 24 * duration_ms


def test_a_speaker_plays_its_queue_and_then_silence(streams: list[FakeStream]) -> None:
    """The device is given what was written, in order, and silence when there is no more."""
    with Speaker() as speaker:
        assert isinstance(speaker, AudioSink)
        [stream] = streams
        assert stream.settings["samplerate"] == 24_000
        speaker.write(tone(30), item_id="a")
        assert stream.play(20) == tone(20)
        [part] = speaker.positions()
        assert (part.played_ms, part.written_ms) == (20, 30)
        assert stream.play(20) == tone(10) + bytes(480)
        assert not speaker.playing
    assert stream.state == "closed"


def test_a_flushed_speaker_gives_silence(streams: list[FakeStream]) -> None:
    """After a flush the device gets nothing of what was queued."""
    with Speaker() as speaker:
        speaker.write(tone(1000), item_id="a")
        streams[0].play(40)
        [part] = speaker.flush()
        assert (part.played_ms, part.written_ms) == (40, 1000)
        assert streams[0].play(20) == bytes(960)
        speaker.write(tone(20), item_id="b")
        assert streams[0].play(20) == tone(20)


def test_a_speaker_keeps_the_contract_of_sinks(streams: list[FakeStream]) -> None:
    """Whatever its device takes in blocks of 20 ms is counted right, to within a block."""
    speakers: list[Speaker] = []

    def make_speaker() -> Speaker:
        speakers.append(Speaker())
        speakers[-1].open()
        return speakers[-1]

    def advance(seconds: float) -> None:
        for _ in range(round(seconds * 1000) // 20):
            streams[-1].play(20)

    check_sink(make_speaker, advance=advance, formats=(AudioPCM(), AudioPCMU()), tolerance_ms=20)


def test_a_speaker_decodes_g711(streams: list[FakeStream]) -> None:
    """The device stays at 24 kHz whatever the session's format is."""
    with Speaker() as speaker:
        speaker.start(AudioPCMU())
        speaker.write(b"\xff" * 160, item_id="a")
        streams[0].play(5)
        [part] = speaker.positions()
        assert (part.played_ms, part.written_ms) == (5, 20)


def test_a_device_that_cannot_be_opened_is_named(streams: list[FakeStream]) -> None:
    """The error says which device, why, and how to find another."""
    with pytest.raises(NoSoundDevice, match=r"'broken' cannot be opened.*python -m") as caught:
        Speaker("broken").open()
    assert caught.value.device == "broken"


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sounddevice the error says what to install."""
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"realtime-bus\[devices\]") as caught:
        Speaker().open()
    assert caught.value.extra == "devices"


def test_a_missing_portaudio_is_told_from_a_missing_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wheel is there, the library behind it is not: that needs another remedy."""

    def fail(name: str) -> ModuleType:
        raise OSError(f"PortAudio library not found for {name}")

    monkeypatch.setattr("realtime_bus_plugins.devices.importlib.import_module", fail)
    with pytest.raises(NoSoundDevice, match=r"PortAudio library not found.*install PortAudio"):
        Speaker().open()


@pytest.mark.anyio
async def test_a_speaker_in_a_bus_can_be_interrupted(streams: list[FakeStream]) -> None:
    """The speaker plays its session, falls silent for speech, and closes with the session."""
    speaker = Speaker()
    async with session_on(speaker, Interruption(speaker)) as (_, wire):
        wire.respond()
        wire.speak(tone(1000))
        streams[0].play(100)
        wire.interrupt()
        assert streams[0].play(20) == bytes(960)
        [cut] = wire.sent
        assert cut.audio_end_ms == 100
    assert streams[0].state == "closed"


async def opened(streams: list[FakeStream]) -> FakeStream:
    """Wait until a device is open."""
    with anyio.fail_after(5):
        while not (streams and streams[-1].state == "started"):
            await anyio.lowlevel.checkpoint()
    return streams[-1]


async def sent(wire: Wire, count: int) -> list[Any]:
    """Wait until so many events were sent."""
    with anyio.fail_after(5):
        while len(wire.frames) < count:
            await anyio.lowlevel.checkpoint()
    return wire.sent


@pytest.mark.anyio
async def test_a_microphone_streams_what_it_records(streams: list[FakeStream]) -> None:
    """Chunks from the device's thread arrive as appends, in order; the device closes at the end."""
    async with session_on(Microphone()) as (_, wire):
        stream = await opened(streams)
        for value in (b"\1\0", b"\2\0", b"\3\0"):
            stream.record(value * 480)
        events = await sent(wire, 3)
    assert [event.audio[:1] for event in events] == [b"\1", b"\2", b"\3"]
    assert {type(event) for event in events} == {ev.InputAudioBufferAppend}
    assert stream.state == "closed"


@pytest.mark.anyio
async def test_a_microphone_speaks_the_sessions_format(streams: list[FakeStream]) -> None:
    """When the session's input becomes G.711, so does what is sent."""
    async with session_on(Microphone()) as (_, wire):
        stream = await opened(streams)
        audio = ev.AudioConfig(input=ev.AudioInputConfig(format=AudioPCMU()))
        wire.feed(ev.SessionUpdated(session=ev.RealtimeSession(audio=audio)))
        stream.record(tone(20))
        [append] = await sent(wire, 1)
    assert len(append.audio) == 160


@pytest.mark.anyio
async def test_a_full_queue_drops_the_oldest_and_counts(streams: list[FakeStream]) -> None:
    """Nobody reads for a while: the newest chunks are kept."""
    microphone = Microphone(limit_s=0.04)
    chunks = microphone.chunks(AudioPCM())
    async with anyio.create_task_group() as tasks:
        heard: list[bytes] = []

        async def read_one() -> None:
            heard.append(await anext(chunks))

        tasks.start_soon(read_one)
        stream = await opened(streams)
        stream.record(b"\0\0")
    for value in range(1, 6):
        stream.record(bytes([value, 0]))
    heard += [await anext(chunks), await anext(chunks)]
    await chunks.aclose()
    assert heard == [b"\0\0", b"\4\0", b"\5\0"]
    assert microphone.dropped_chunks == 3
    assert stream.state == "closed"

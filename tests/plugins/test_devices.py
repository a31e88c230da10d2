"""Microphone and loudspeaker, on a PortAudio of the test's own."""

from __future__ import annotations

import array
import itertools
import math
import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_bus import Bus, MissingExtra, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, check_sink
from realtime_bus.events import AudioPCM, AudioPCMU
from realtime_bus.transport import PushTransport
from realtime_bus_plugins._devices import Player, _keeper
from realtime_bus_plugins.devices import (
    DeviceLost,
    DeviceReopened,
    InputLevel,
    Microphone,
    NoSoundDevice,
    Speaker,
)
from realtime_bus_plugins.interruption import Interruption

from ._portaudio import FakeStream, SoundDevice, opened, plug_in, unplug, wait_closed
from ._wire import Wire, session_on

RATES = [(24_000, 1), (48_000, 1), (44_100, 2)]


def tone(duration_ms: int) -> bytes:
    """Return PCM16 that is never silent."""
    return b"\1\2" * 24 * duration_ms


def sine(hz: float, duration_ms: int, *, rate_hz: int = 24_000, peak: int = 20_000) -> bytes:
    """Return a sine."""
    step = 2 * math.pi * hz / rate_hz
    length = rate_hz * duration_ms // 1000
    return array.array("h", [round(peak * math.sin(step * n)) for n in range(length)]).tobytes()


def only(rate_hz: int, channels: int) -> None:
    """Have a device that takes nothing else."""
    plug_in(rate_hz=rate_hz, takes=lambda rate, count: (rate, count) == (rate_hz, channels))


def left(audio: bytes, channels: int) -> array.array[int]:
    """Return one channel."""
    return array.array("h", audio)[::channels]


def largest_step(samples: array.array[int]) -> int:
    """Return the largest difference between neighbours."""
    return max(abs(b - a) for a, b in itertools.pairwise(samples))


# --- the loudspeaker ---------------------------------------------------------------------------


def test_a_speaker_plays_its_queue_and_then_silence(streams: list[FakeStream]) -> None:
    """The device is given what was written, in order, and silence when there is no more."""
    with Speaker() as speaker:
        assert isinstance(speaker, AudioSink)
        [stream] = streams
        assert (stream.settings["samplerate"], stream.settings["channels"]) == (24_000, 1)
        speaker.write(tone(30), item_id="a")
        assert stream.play(20) == tone(20)
        [part] = speaker.positions()
        assert (part.played_ms, part.written_ms) == (20, 30)
        assert stream.play(20) == tone(10) + bytes(480)
        assert not speaker.playing
    assert stream.state == "closed"


@pytest.mark.parametrize(("rate_hz", "channels"), RATES)
def test_a_flush_is_a_short_fade_and_then_silence(
    streams: list[FakeStream], rate_hz: int, channels: int
) -> None:
    """No hard cut, which clicks: 4 ms, with hardly a step larger than the sound's own."""
    only(rate_hz, channels)
    with Speaker() as speaker:
        speaker.write(sine(200, 1000), item_id="a")
        before = left(streams[0].play(40), channels)
        [part] = speaker.flush()
        assert (part.played_ms, part.written_ms) == (40, 1000)
        after = left(streams[0].play(20), channels)
        assert largest_step(before[-1:] + after) < 1.1 * largest_step(before)
        fade = rate_hz * 4 // 1000
        assert any(after[: fade - 10])
        assert not any(after[fade:])
        assert not any(left(streams[0].play(20), channels))


def test_what_had_not_begun_does_not_fade_out(streams: list[FakeStream]) -> None:
    """Nothing is heard of an item that was flushed before the device took any of it."""
    with Speaker() as speaker:
        streams[0].play(20)
        speaker.write(tone(100), item_id="a")
        assert [part.played_ms for part in speaker.flush()] == [0]
        assert not any(streams[0].play(20))


@pytest.mark.parametrize(("rate_hz", "channels"), RATES)
def test_what_is_written_after_a_flush_begins_at_once_under_the_fade(
    streams: list[FakeStream], rate_hz: int, channels: int
) -> None:
    """The fade lies over what follows, and is no part of the account."""
    only(rate_hz, channels)
    with Speaker() as speaker:
        speaker.write(b"\0\x20" * 24_000, item_id="a")
        streams[0].play(40)
        speaker.flush()
        speaker.flush()  # again: nothing was heard since
        speaker.write(b"\0\x10" * 24 * 20, item_id="b")
        heard = left(streams[0].play(20), channels)
        assert 0x2F00 <= heard[rate_hz // 24_000] <= 0x3100 or rate_hz != 24_000
        assert all(abs(value - 0x1000) < 0x40 for value in heard[rate_hz // 100 : rate_hz // 60])
        assert not speaker.playing


@pytest.mark.parametrize(("rate_hz", "channels"), RATES)
def test_a_speaker_keeps_the_contract_of_sinks(
    streams: list[FakeStream], rate_hz: int, channels: int
) -> None:
    """Whatever rate and channels the device takes: what it has taken is counted to the sample."""
    only(rate_hz, channels)
    speakers: list[Speaker] = []

    def make_speaker() -> Speaker:
        speakers.append(Speaker())
        speakers[-1].open()
        return speakers[-1]

    def advance(seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            streams[-1].play(10)

    # a device that is resampled for has silence on its way when something is written anew
    tolerance_ms = 0 if rate_hz == 24_000 else 13
    formats = (AudioPCM(), AudioPCMU(), AudioPCM(rate=16_000))
    check_sink(make_speaker, advance=advance, formats=formats, tolerance_ms=tolerance_ms)
    for speaker in speakers:
        speaker.close()


class Write(NamedTuple):
    """Audio of an item arrives."""

    item_id: str
    audio: int


class Play(NamedTuple):
    """The device takes so many frames."""

    frames: int


class Flush(NamedTuple):
    """The person interrupts."""


class Reopen(NamedTuple):
    """The device was lost, and comes back at some rate."""

    rate_hz: int


@given(
    st.sampled_from([24_000, 44_100, 48_000, 16_000, 96_000]),
    st.lists(
        st.one_of(
            st.builds(Write, st.sampled_from("ab"), st.integers(0, 3000)),
            st.builds(Play, st.integers(1, 2500)),
            st.builds(Flush),
            st.builds(Reopen, st.sampled_from([24_000, 44_100, 48_000])),
        ),
        max_size=40,
    ),
)
def test_a_position_never_goes_back(rate_hz: int, script: list[Any]) -> None:
    """At any rate, in any chunks, across underruns and devices: until a flush, and never below 0.

    Nor is anything heard of an item that the device was not given time for.
    """
    player = Player()
    player.use(rate_hz)
    last: dict[str, int] = {}
    given_ms: dict[str, float] = {}
    written: Counter[str] = Counter()
    for step in script:
        match step:
            case Write(item_id, length):
                player.write(bytes(length), item_id=item_id, content_index=0)
                written[item_id] += length
            case Play(frames):
                player.fill(bytearray(2 * frames), frames, 1)
                given_ms = {item: at + frames * 1000 / rate_hz for item, at in given_ms.items()}
            case Flush():
                told = player.positions()
                assert player.flush() == told
                assert player.flush() == player.positions() == []
                last, given_ms, written = {}, {}, Counter()
            case Reopen(other_hz):  # what was on its way is lost, and counts as heard
                rate_hz = other_hz
                player.use(rate_hz)
                given_ms = {item: at + 30 for item, at in given_ms.items()}
        for part in player.positions():
            heard_ms = given_ms.setdefault(part.item_id, 0)
            assert last.get(part.item_id, 0) <= part.played_ms <= min(heard_ms, part.written_ms)
            assert part.written_ms == written[part.item_id] // 48
            last[part.item_id] = part.played_ms
        assert player.playing == bool(player.positions())


def test_a_device_that_plays_nothing_does_not_gather_audio_without_end(
    streams: list[FakeStream],
) -> None:
    """Half an hour waits at most; the rest is counted."""
    minute = bytes(60 * 48_000)
    with Speaker() as speaker:
        for _ in range(31):
            speaker.write(minute, item_id="a")
        assert speaker.dropped_bytes == len(minute)
        assert [part.written_ms for part in speaker.flush()] == [30 * 60_000]


@pytest.mark.parametrize(("rate_hz", "channels"), RATES)
def test_a_sound_arrives_at_the_device_as_it_was(
    streams: list[FakeStream], rate_hz: int, channels: int
) -> None:
    """At the device's own rate, on all of its channels, however the deltas were cut."""
    only(rate_hz, channels)
    with Speaker() as speaker:
        pcm = sine(1000, 500)
        for start in range(0, len(pcm), 1234):
            speaker.write(pcm[start : start + 1234], item_id="a")
        played = b"".join(streams[0].play(10) for _ in range(50))
        wanted = array.array("h", sine(1000, 500, rate_hz=rate_hz))
        for channel in range(channels):
            heard = array.array("h", played)[channel::channels]
            pairs = list(zip(heard, wanted, strict=True))[400:-400]
            assert max(abs(a - b) for a, b in pairs) < 20
        assert not speaker.playing


def test_a_tap_hears_what_the_device_is_given(streams: list[FakeStream]) -> None:
    """All of it, at 24 kHz, silence too: the reference of an echo canceller."""
    heard: list[bytes] = []
    with Speaker() as speaker:
        remove = speaker.add_tap(heard.append)
        speaker.write(tone(15), item_id="a")
        streams[0].play(10)
        streams[0].play(10)
        remove()
        streams[0].play(10)
    assert b"".join(heard) == tone(15) + bytes(240)


def test_windows_shared_mode_is_asked_to_convert(streams: list[FakeStream]) -> None:
    """WASAPI has one rate alone, unless it is told to convert."""
    plug_in(host="Windows WASAPI")
    with Speaker():
        assert streams[0].settings["extra_settings"] == {"auto_convert": True}


def test_a_device_that_cannot_be_opened_is_named(streams: list[FakeStream]) -> None:
    """The error says which device, why, and how to find another; devices were looked for anew."""
    reloaded = SoundDevice.reloaded
    with pytest.raises(NoSoundDevice, match=r"'broken' cannot be opened.*python -m") as caught:
        Speaker("broken").open()
    assert caught.value.device == "broken"
    assert SoundDevice.reloaded == reloaded + 1
    with pytest.raises(NoSoundDevice, match="No output device matching 'unknown'"):
        Speaker("unknown").open()


def test_a_stream_that_does_not_start_is_closed(streams: list[FakeStream]) -> None:
    """Somebody else has the device: none of the ways that were tried stays open."""
    with pytest.raises(NoSoundDevice, match="Device unavailable"):
        Speaker("taken").open()
    assert {stream.state for stream in streams} == {"closed"}


def test_nobody_waits_for_a_speaker_that_no_session_keeps(streams: list[FakeStream]) -> None:
    """What is queued on a lost device is dropped at once, for nobody opens it again."""
    with Speaker() as speaker:
        speaker.write(tone(1000), item_id="a")
        streams[0].lose()
        assert not speaker.playing
        speaker.write(tone(1000), item_id="a")
        assert not speaker.playing


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

    name = "realtime_bus_plugins._devices._portaudio.importlib.import_module"
    monkeypatch.setattr(name, fail)
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
        assert streams[0].play(20)[192:] == bytes(960 - 192)
        [cut] = wire.sent
        assert cut.audio_end_ms == 100
    wait_closed(streams[0])


@pytest.mark.anyio
@pytest.mark.parametrize("make", [Speaker, Microphone])
async def test_a_missing_device_is_raised_where_the_session_is_opened(
    make: Callable[[], Any], streams: list[FakeStream]
) -> None:
    """Microphone and speaker alike: out of the `async with`, and the connection is closed."""
    unplug()
    closed: list[int] = []
    transport = PushTransport(
        send=lambda frame: None, close=lambda code, reason: closed.append(code)
    )
    with pytest.raises(NoSoundDevice):
        async with Bus(plugins=[make()]).session(transport):
            pass
    assert closed == [1000]


@pytest.mark.anyio
@pytest.mark.parametrize("make", [Speaker, Microphone])
async def test_opening_does_not_hold_up_the_event_loop(
    make: Callable[[], Any], streams: list[FakeStream]
) -> None:
    """While a worker thread opens the device, others go on."""
    going_on = threading.Event()

    def takes(rate_hz: int, channels: int) -> bool:
        return going_on.wait(5)

    plug_in(takes=takes)
    async with anyio.create_task_group() as tasks:

        async def go_on() -> None:
            going_on.set()

        tasks.start_soon(go_on)
        async with session_on(make()):
            pass
    assert len(streams) == 1


# --- a device that is lost ---------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing."""
    monkeypatch.setattr(_keeper, "_PAUSES_S", (0.001,))
    monkeypatch.setattr(_keeper, "_PATIENCE_S", 0.005)
    monkeypatch.setattr(_keeper, "_LOOK_EVERY_S", 0.001)


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient")
async def test_a_lost_speaker_is_told_of_and_plays_on_when_it_is_back(
    streams: list[FakeStream],
) -> None:
    """What it had not taken is heard then, even at another rate, and the account goes on."""
    speaker = Speaker("spk")
    async with session_on(speaker) as (session, wire):
        wire.respond()
        wire.speak(tone(1000))
        streams[0].play(100)
        lost = session.wait_for(DeviceLost, timeout_s=60)
        back = session.wait_for(DeviceReopened, timeout_s=60)
        only(48_000, 2)
        streams[0].lose()
        event = await lost
        assert (event.kind, event.device) == ("speaker", "spk")
        assert (await back).after_s < 30
        stream = await opened(streams, 2)
        stream.play(100)
        [part] = speaker.positions()
        assert (part.played_ms, part.written_ms) == (200, 1000)
    wait_closed(stream)


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient")
async def test_nobody_waits_for_a_speaker_that_does_not_come_back(
    streams: list[FakeStream],
) -> None:
    """After a while what is queued is dropped, and what comes with it; later it plays again."""
    speaker = Speaker()
    async with session_on(speaker) as (session, wire):
        wire.respond()
        wire.speak(tone(1000))
        unplug()
        streams[0].lose()
        with anyio.fail_after(60):
            while speaker.playing:  # noqa: ASYNC110 - that is what others do
                await anyio.sleep(0.001)
        wire.speak(tone(1000))
        assert not speaker.playing
        back = session.wait_for(DeviceReopened, timeout_s=60)
        plug_in()
        await back
        wire.speak(tone(20))
        assert speaker.playing
        assert streams[-1].play(20) == tone(20)


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient")
async def test_a_device_that_says_nothing_for_a_second_is_lost(
    streams: list[FakeStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sound server that hangs tells nobody."""
    monkeypatch.setattr(_keeper, "_STALLED_S", 0.05)
    async with session_on(Speaker()) as (session, _):
        await session.wait_for(DeviceReopened, timeout_s=60)
    assert len(streams) >= 2


@pytest.mark.anyio
async def test_a_device_that_comes_and_goes_is_not_opened_all_the_time(
    streams: list[FakeStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost as soon as it is open, again and again: the pauses become longer."""
    pauses: list[float] = []
    sleep = anyio.sleep

    async def noted(delay: float) -> None:
        if delay in _keeper._PAUSES_S:
            pauses.append(delay)
            delay = 0
        await sleep(delay)

    monkeypatch.setattr(_keeper.anyio, "sleep", noted)
    async with session_on(Microphone()):
        for number in range(1, 5):
            (await opened(streams, number)).lose()
        await opened(streams, 5)
    assert pauses == [0.1, 0.2, 0.5, 1.0]


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient")
async def test_a_speaker_that_runs_dry_gets_larger_blocks(streams: list[FakeStream]) -> None:
    """10 ms at first, for the sake of silence; 20 ms where the machine does not bear that."""
    speaker = Speaker()
    async with session_on(speaker):
        assert streams[0].settings["blocksize"] == 240
        with anyio.fail_after(60):
            while len(streams) < 2:
                for _ in range(5):
                    streams[0].play(10, status="output underflow")
                await anyio.sleep(0.002)
        stream = await opened(streams, 2)
        assert stream.settings["blocksize"] == 480
        assert speaker.underruns == 0
        stream.play(20, status="output underflow")
        assert speaker.underruns == 1


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient")
async def test_a_lost_microphone_records_on_when_it_is_back(streams: list[FakeStream]) -> None:
    """The session goes on, and so does what it is sent."""
    async with session_on(Microphone()) as (session, wire):
        lost = session.wait_for(DeviceLost, timeout_s=60)
        back = session.wait_for(DeviceReopened, timeout_s=60)
        streams[0].lose()
        assert (await lost).kind == "microphone"
        await back
        streams[-1].record(tone(20))
        [append] = await sent(wire, 1)
        assert append.audio == tone(20)


@pytest.mark.anyio
async def test_reading_a_lost_microphone_ends(streams: list[FakeStream]) -> None:
    """Whoever reads its chunks by himself is told."""
    chunks = Microphone().chunks(AudioPCM())
    async with anyio.create_task_group() as tasks:

        async def lose() -> None:
            stream = await opened(streams)
            stream.record(tone(30))
            stream.lose()

        tasks.start_soon(lose)
        assert [await anext(chunks), await anext(chunks)] == [tone(20), tone(10)]
        with pytest.raises(NoSoundDevice, match="was lost"):
            await anext(chunks)


# --- the microphone ----------------------------------------------------------------------------


async def sent(wire: Wire, count: int) -> list[Any]:
    """Wait until so many events were sent."""
    with anyio.fail_after(60):
        while len(wire.frames) < count:
            await anyio.lowlevel.checkpoint()
    return wire.sent


@pytest.mark.anyio
async def test_a_microphone_streams_what_it_records(streams: list[FakeStream]) -> None:
    """Chunks from the device's thread arrive as appends, in order; the device closes at the end."""
    async with session_on(Microphone()) as (_, wire):
        for value in (b"\1\0", b"\2\0", b"\3\0"):
            streams[0].record(value * 480)
        events = await sent(wire, 3)
    assert [event.audio[:1] for event in events] == [b"\1", b"\2", b"\3"]
    assert {type(event) for event in events} == {ev.InputAudioBufferAppend}
    wait_closed(streams[0])


@pytest.mark.anyio
@pytest.mark.parametrize(("rate_hz", "channels"), RATES[1:])
async def test_a_microphone_of_another_rate_sounds_the_same(
    streams: list[FakeStream], rate_hz: int, channels: int
) -> None:
    """One channel of them all, at 24 kHz, and no ghosts of what is above 12 kHz."""
    only(rate_hz, channels)
    async with session_on(Microphone()) as (_, wire):
        mono = array.array("h", sine(1000, 400, rate_hz=rate_hz))
        ghost = array.array("h", sine(15_000, 400, rate_hz=rate_hz, peak=10_000))
        both = array.array("h", [a + b for a, b in zip(mono, ghost, strict=True)])
        audio = array.array("h", [value for value in both for _ in range(channels)]).tobytes()
        step = 2 * channels * rate_hz // 50
        for start in range(0, len(audio), step):
            streams[0].record(audio[start : start + step])
        events = await sent(wire, 19)
    heard = array.array("h", b"".join(event.audio for event in events))
    wanted = array.array("h", sine(1000, 400))
    pairs = list(zip(heard, wanted, strict=False))[400:-400]
    assert max(abs(a - b) for a, b in pairs) < 40


@pytest.mark.anyio
async def test_a_microphone_speaks_the_sessions_format(streams: list[FakeStream]) -> None:
    """When the session's input becomes G.711, so does what is sent."""
    async with session_on(Microphone()) as (_, wire):
        audio = ev.AudioConfig(input=ev.AudioInputConfig(format=AudioPCMU()))
        wire.feed(ev.SessionUpdated(session=ev.RealtimeSession(audio=audio)))
        streams[0].record(tone(20))
        streams[0].record(tone(20))
        appends = await sent(wire, 2)
    assert [len(append.audio) for append in appends] == [160 - 64, 160]  # 8 ms are on the way


@pytest.mark.anyio
async def test_a_filter_stands_between_the_device_and_the_session(
    streams: list[FakeStream],
) -> None:
    """Frame by frame of 10 ms at 24 kHz, in the device's thread: an echo canceller."""
    microphone, seen = Microphone(), list[int]()

    def swap(frame: bytes) -> bytes:
        seen.append(len(frame))
        return b"\7\7" * (len(frame) // 2)

    remove = microphone.add_filter(swap)
    async with session_on(microphone) as (_, wire):
        streams[0].record(tone(20))
        remove()
        streams[0].record(tone(20))
        events = await sent(wire, 2)
    assert seen == [480, 480]
    assert [event.audio for event in events] == [b"\7\7" * 480, tone(20)]


@pytest.mark.anyio
async def test_what_raises_in_the_devices_thread_does_not_end_the_device(
    streams: list[FakeStream], caplog: pytest.LogCaptureFixture
) -> None:
    """A filter or a tap that fails is told of once; the sound passes as it was."""

    def fail(_: bytes) -> bytes:
        raise ValueError("no idea")

    microphone, speaker = Microphone(), Speaker()
    microphone.add_filter(fail)
    speaker.add_tap(fail)
    async with session_on(microphone, speaker) as (_, wire):
        heard = {stream.kind: stream for stream in streams}
        speaker.write(tone(20), item_id="a")
        assert heard["output"].play(10) + heard["output"].play(10) == tone(20)
        heard["input"].record(tone(20))
        [append] = await sent(wire, 1)
    assert append.audio == tone(20)
    told = [line for line in caplog.messages if "_failed" in line]
    assert sorted(line.split("'")[1] for line in told) == [
        "device.filter_failed",
        "device.tap_failed",
    ]


@pytest.mark.anyio
async def test_the_smallest_queue_holds_what_is_read_at_once(streams: list[FakeStream]) -> None:
    """However little may wait, something is heard."""
    async with session_on(Microphone(limit_s=0)) as (_, wire):
        streams[0].record(tone(20))
        [append] = await sent(wire, 1)
    assert append.audio == tone(20)


@pytest.mark.anyio
async def test_a_full_queue_drops_the_oldest_and_counts(streams: list[FakeStream]) -> None:
    """Nobody reads for a while: the newest frames are kept."""
    microphone = Microphone(limit_s=0.04)
    chunks = microphone.chunks(AudioPCM())
    async with anyio.create_task_group() as tasks:
        heard: list[bytes] = []

        async def read_one() -> None:
            heard.append(await anext(chunks))

        tasks.start_soon(read_one)
        stream = await opened(streams)
        stream.record(bytes(960))
    for value in range(1, 6):
        stream.record(bytes([value, 0]) * 480)
    heard += [await anext(chunks), await anext(chunks)]
    await chunks.aclose()
    assert [chunk[:2] for chunk in heard] == [b"\0\0", b"\4\0", b"\5\0"]
    assert microphone.dropped_ms == 60
    wait_closed(stream)


# --- when it is deaf ---------------------------------------------------------------------------


class Sink:
    """Plays or does not."""

    playing = False


@pytest.mark.anyio
async def test_a_half_duplex_microphone_is_deaf_while_the_assistant_speaks(
    streams: list[FakeStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for a while longer; what the server gets meanwhile is silence, so that time goes on."""
    now_s = [50.0]
    monkeypatch.setattr("realtime_bus_plugins.devices.time.monotonic", lambda: now_s[0])
    sink = Sink()
    async with session_on(Microphone(half_duplex=sink, tail_s=0.3)) as (_, wire):
        for playing, at_s in ((False, 50), (True, 51), (False, 51.2), (False, 51.4)):
            sink.playing, now_s[0] = playing, at_s
            streams[0].record(tone(20))
        events = await sent(wire, 4)
    assert [event.audio for event in events] == [tone(20), bytes(960), bytes(960), tone(20)]


@pytest.mark.anyio
async def test_a_muted_microphone_sends_silence(streams: list[FakeStream]) -> None:
    """The server's clock goes on, and what was said meanwhile is not heard later."""
    microphone = Microphone()
    async with session_on(microphone) as (_, wire):
        microphone.muted = True
        streams[0].record(tone(20))
        microphone.muted = False
        streams[0].record(tone(20))
        events = await sent(wire, 2)
    assert [event.audio for event in events] == [bytes(960), tone(20)]


@pytest.mark.anyio
async def test_push_to_talk_sends_what_was_said_and_asks(streams: list[FakeStream]) -> None:
    """Nothing else is sent; letting go commits it, and asks for an answer."""
    microphone = Microphone(push_to_talk=True)
    async with session_on(microphone) as (_, wire):
        streams[0].record(tone(20))
        microphone.press()
        for _ in range(5):
            streams[0].record(tone(20))
        async with anyio.create_task_group() as tasks:

            async def let_go() -> None:
                assert await microphone.release()

            tasks.start_soon(let_go)
            await sent(wire, 6)
            wire.feed(ev.InputAudioBufferCommitted(item_id="i"))
        streams[0].record(tone(20))
        events = await sent(wire, 7)
    assert [event.type for event in events] == [
        *["input_audio_buffer.append"] * 5,
        "input_audio_buffer.commit",
        "response.create",
    ]


@pytest.mark.anyio
async def test_a_touch_of_the_button_is_no_turn(streams: list[FakeStream]) -> None:
    """Less than 100 ms would be refused: it is thrown away."""
    microphone = Microphone(push_to_talk=True)
    async with session_on(microphone) as (_, wire):
        microphone.press()
        streams[0].record(tone(20))
        async with anyio.create_task_group() as tasks:

            async def let_go() -> None:
                assert not await microphone.release()

            tasks.start_soon(let_go)
            await sent(wire, 2)
            wire.feed(ev.InputAudioBufferCleared())
        assert wire.sent[-1].type == "input_audio_buffer.clear"
    with pytest.raises(UsageError, match="attached to no open session"):
        await microphone.release()


@pytest.mark.anyio
async def test_the_level_is_told_a_few_times_a_second(streams: list[FakeStream]) -> None:
    """In dB below full scale, for a meter."""
    levels: list[InputLevel] = []
    async with session_on(Microphone(level_every_s=0.1)) as (session, wire):
        session.on(InputLevel)(levels.append)
        for number in range(10):
            streams[0].record(sine(1000, 20, peak=32_767) if number < 5 else bytes(960))
        await sent(wire, 10)
        with anyio.fail_after(60):
            while len(levels) < 2:
                await anyio.lowlevel.checkpoint()
    assert [round(level.dbfs) for level in levels] == [-3, -100]

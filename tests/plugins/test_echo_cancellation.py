"""Echo cancellation, in a room that a thread plays; and whether what was heard is what is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import echo, heard
from realtime_bus import MissingExtra, UsageError
from realtime_bus_plugins.echo_cancellation import EchoCancellation, EchoCanceller

from ._wire import session_on

pytestmark = pytest.mark.anyio


class End:
    """A microphone and a speaker that note who stands between them."""

    def __init__(self) -> None:
        self.taps: list[Callable[[bytes], object]] = []
        self.filters: list[Callable[[bytes], bytes]] = []

    def add_tap(self, tap: Callable[[bytes], object]) -> Callable[[], None]:
        """Add one."""
        self.taps.append(tap)
        return self.taps.clear

    def add_filter(self, function: Callable[[bytes], bytes]) -> Callable[[], None]:
        """Add one."""
        self.filters.append(function)
        return self.filters.clear


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """Return what a canceller of the test's own is given."""
    seen: list[tuple[str, bytes]] = []

    class Frame:
        def __init__(self, data: bytearray, rate_hz: int, channels: int, samples: int) -> None:
            assert (rate_hz, channels, samples, len(data)) == (24_000, 1, 240, 480)
            self.data = data

    class Module:
        def __init__(self, *, noise_suppression: bool, **_: bool) -> None:
            assert not noise_suppression  # it does not help a detector of speech

        def set_stream_delay_ms(self, delay_ms: int) -> None:
            seen.append(("delay", b""))

        def process_reverse_stream(self, frame: Any) -> None:
            seen.append(("played", bytes(frame.data)))

        def process_stream(self, frame: Any) -> None:
            seen.append(("recorded", bytes(frame.data)))
            frame.data[:] = bytes(480)

    rtc: Any = ModuleType("livekit.rtc")
    rtc.AudioFrame, rtc.AudioProcessingModule = Frame, Module
    monkeypatch.setitem(sys.modules, "livekit", SimpleNamespace(rtc=rtc))
    monkeypatch.setitem(sys.modules, "livekit.rtc", rtc)
    return seen


async def test_it_stands_between_the_devices_while_the_session_lasts(
    frames: list[tuple[str, bytes]],
) -> None:
    """What is played is its reference, in frames of 10 ms, however it comes."""
    end = End()
    plugin = EchoCancellation(end, end)
    async with session_on(plugin):
        [tap], [apply] = end.taps, end.filters
        tap(b"\1\0" * 100)
        assert frames == []
        tap(b"\1\0" * 400)
        assert frames == [("played", b"\1\0" * 240)] * 2
        assert apply(b"\2\0" * 240) == bytes(480)
        assert frames[-1] == ("recorded", b"\2\0" * 240)
        with pytest.raises(UsageError, match="attached to a session already"):
            async with session_on(plugin):
                pass
    assert end.taps == end.filters == []


async def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it comes out where the session is opened."""
    monkeypatch.setitem(sys.modules, "livekit.rtc", None)
    with pytest.raises(MissingExtra, match=r"livekit.*realtime-bus\[aec\]"):
        async with session_on(EchoCancellation(End(), End())):
            pass


@pytest.fixture
def _canceller() -> None:
    pytest.importorskip("livekit.rtc", reason="the extra aec is not installed")


@pytest.mark.usefixtures("_canceller")
def test_an_echo_is_cancelled() -> None:
    """A leak of -20 dB after 80 ms, with reflections, is 30 dB quieter; silence stays silence."""
    assert echo.alone().erle_db > 30
    assert EchoCanceller().recorded(bytes(480)) == bytes(480)


@pytest.mark.usefixtures("_canceller")
@pytest.mark.parametrize("delay_ms", [40, 150])
def test_the_delay_of_the_echo_is_found_out(delay_ms: int) -> None:
    """From the sounds alone, within the first seconds; not while a person speaks over it."""
    played = echo.spoken(echo.ANSWER)[: 300 * echo.FRAME].reshape(-1, echo.FRAME)
    person = echo.spoken(echo.REMARKS[0] * 3)[: 300 * echo.FRAME].reshape(-1, echo.FRAME)
    for said, found in ((person, {None}), (0 * person, set(range(delay_ms, delay_ms + 20)))):
        canceller, air = EchoCanceller(), echo.Air(delay_ms=delay_ms)
        for frame, words in zip(played, said, strict=True):
            canceller.played(frame.tobytes())
            canceller.recorded((air.carry(frame) + words).astype("<i2").tobytes())
        assert canceller.delay_ms in found


@pytest.mark.usefixtures("_canceller")
@pytest.mark.parametrize(("seed", "frames"), [(1, 50), (2, 70)])
def test_both_may_begin_to_speak_at_once(seed: int, frames: int) -> None:
    """The echo is found again in the short answers that follow, however early each one ends."""
    silence = np.zeros((60, echo.FRAME), "<i2")
    answer = echo.spoken(echo.ANSWER)[: 100 * echo.FRAME].reshape(-1, echo.FRAME)
    said = echo.spoken(echo.QUESTION * 2)[: 160 * echo.FRAME].reshape(-1, echo.FRAME)
    played = np.concatenate((silence, answer, *[silence, answer[:frames]] * 6))
    words = np.concatenate((said, np.zeros((len(played) - len(said), echo.FRAME), "<i2")))
    canceller, air = EchoCanceller(), echo.Air(seed=seed)
    cleaned: list[bytes] = []
    for frame, spoken in zip(played, words, strict=True):
        canceller.played(frame.tobytes())
        heard = np.rint(air.carry(frame) + spoken).clip(-32_768, 32_767)
        cleaned.append(canceller.recorded(heard.astype("<i2").tobytes()))
    left = np.frombuffer(b"".join(cleaned[-3 * (60 + frames) :]), "<i2").astype(float)
    loudest = np.sqrt(np.mean(left[: len(left) // 1440 * 1440].reshape(-1, 1440) ** 2, axis=1))
    assert loudest.max() < 32_768 / 10 ** (60 / 20)  # the echo has -33 dBFS


@pytest.mark.slow
@pytest.mark.usefixtures("_canceller")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_assistant_does_not_interrupt_itself() -> None:
    """Loudspeaker and microphone in one room: only the person interrupts, and is heard."""
    [with_it] = await echo.conversations(
        1, minutes=0.25, cancelling=True, silence_ms=500, speed=6.0
    )
    assert with_it.by_itself == 0
    assert 0 < with_it.heard == with_it.barge_ins


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_without_cancellation_it_does() -> None:
    """The room is a real one: it takes the echo for the person."""
    [without] = await echo.conversations(
        1, minutes=0.15, cancelling=False, barging_in=False, speed=6.0
    )
    assert without.by_itself >= 2


@pytest.mark.parametrize("way", [heard.WAYS[1], heard.WAYS[5], heard.WAYS[6]], ids=heard.name)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_server_is_told_what_was_heard(way: heard.Way) -> None:
    """To the millisecond, over a socket, through every resampler: found in the audio itself."""
    found = await heard.interruptions(way, 2)
    assert len(found) == 2
    assert heard.mismatches(found) == []

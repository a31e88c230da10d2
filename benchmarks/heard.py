"""Is what the server is told what was heard? ``python -m benchmarks.heard``.

Interruptions over a real socket, by speech that the local server detects, at moments that nobody
chose: the server's `conversation.item.truncated` against what came out of the sink, found in the
audio itself. Answers are plateaus, above and below zero in turns: one begins where it is half as
loud for the first time, and ends where it is half as loud for the last, in the middle of the fade
if there is one. One that an underrun has cut in two is still one.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import anyio
import numpy as np

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.server import EnergyDetector, RealtimeServer, ResponderRequest, Speech
from realtime_bus_plugins.devices import Speaker
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted, PlaybackStarted
from realtime_bus_plugins.sinks import WavSink

from .echo import Room, rooms

LOUD = 16_000
FADE_MS = 4


class Way(NamedTuple):
    """How answers reach the ear.

    Attributes:
        audio_format: What the session speaks.
        rate_hz: The device's rate; None for a `WavSink`.
        channels: The device's channels.
    """

    audio_format: ev.AudioFormat
    rate_hz: int | None = None
    channels: int = 1


FORMATS = (ev.AudioPCM(), ev.AudioPCMU())
WAYS = [
    *(Way(audio_format) for audio_format in FORMATS),
    *(Way(audio_format, 24_000) for audio_format in FORMATS),
    *(Way(audio_format, 48_000) for audio_format in FORMATS),
    *(Way(audio_format, 44_100, 2) for audio_format in FORMATS),
]


class Plateau:
    """Answers with ten seconds of the same value, above and below zero in turns."""

    def __init__(self) -> None:
        self._sign = -1

    async def respond(self, _request: ResponderRequest) -> AsyncGenerator[Speech, None]:
        """Say it, half a second at a time, after a pause."""
        self._sign = -self._sign
        pcm = bytes(np.full(12_000, self._sign * LOUD, "<i2"))
        await anyio.sleep(0.1)
        for _ in range(20):
            yield Speech(pcm)


def plateaus_ms(samples: np.ndarray, rate_hz: int, fade_ms: float) -> list[float]:
    """Return how long the plateaus last, one for each change of sign."""
    half = LOUD / 2
    found: list[tuple[float, int, float]] = []
    for sign in (1, -1):
        over = np.concatenate(([-half], sign * samples, [-half]))
        crossed = np.nonzero((over[:-1] < half) != (over[1:] < half))[0]
        places = crossed + (half - over[crossed]) / (over[crossed + 1] - over[crossed])
        found += [
            (begin, sign, (end - begin) * 1000 / rate_hz)
            for begin, end in zip(places[::2], places[1::2], strict=True)
        ]
    together: list[float] = []
    last = 0
    for _, sign, length_ms in sorted(found):
        if sign == last:
            together[-1] += length_ms
        else:
            together.append(length_ms - fade_ms)
        last = sign
    return together


async def interruptions(way: Way, count: int, *, seed: int = 1) -> list[tuple[int, float]]:
    """Interrupt so many answers; return each one's truncation, and how much of it was heard."""
    room = Room(rate_hz=way.rate_hz or 24_000, channels=way.channels, keep=True)
    sink: Any = WavSink() if way.rate_hz is None else Speaker(0)
    cut_ms: list[int] = []
    chance = random.Random(seed)  # noqa: S311 - no secret
    server = RealtimeServer(Plateau(), detector_factory=EnergyDetector)
    async with (
        rooms(room, speed=1.0),
        server.serve() as bound,
        Bus(plugins=[sink, Interruption(sink)], raise_handler_errors=True).connect(
            bound.url_for("any"),
            output_format=way.audio_format,
            turn_detection=ev.ServerVad(silence_duration_ms=100, prefix_padding_ms=0),
        ) as session,
    ):
        started = session.wait_for(PlaybackStarted, timeout_s=10)
        session.respond()
        for _ in range(count):
            await started
            heard_ms = chance.uniform(30, 200)  # in the sink's time: a room may fall behind
            while not (heard := sink.positions()) or heard[0].played_ms < heard_ms:  # noqa: ASYNC110 - time is it
                await anyio.sleep(0.001)
            told = session.wait_for(ev.ConversationItemTruncated, timeout_s=10)
            started = session.wait_for(PlaybackStarted, timeout_s=10)
            await _speak(session)
            cut_ms.append((await told).audio_end_ms)
        await started
        end = session.wait_for(PlaybackInterrupted, timeout_s=10)
        await _speak(session)
        await end
    if way.rate_hz is None:
        return list(zip(cut_ms, plateaus_ms(_samples(sink.heard), 24_000, 0.0), strict=False))
    assert room.played is not None
    played = _samples(b"".join(room.played))[:: way.channels]
    fade_ms = (way.rate_hz * FADE_MS // 1000 + 1) / 2 * 1000 / way.rate_hz
    return list(zip(cut_ms, plateaus_ms(played, way.rate_hz, fade_ms), strict=False))


def _samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(float)


async def _speak(session: Session) -> None:
    loud = bytes(np.tile(np.array([9000, -9000], "<i2"), 24 * 80))
    await session.append_audio(loud)
    await session.append_audio(bytes(48 * 300))


def mismatches(found: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return those where the server was told something else than what was heard.

    Told are whole milliseconds, rounded down. A tenth of one is left to the eye.
    """
    return [(told, heard) for told, heard in found if not told - 0.1 <= heard < told + 1.1]


def name(way: Way) -> str:
    """Return what to call it."""
    device = "WavSink" if way.rate_hz is None else f"Speaker at {way.rate_hz} Hz x{way.channels}"
    return f"{type(way.audio_format).__name__} -> {device}"


def main() -> None:
    """Measure, and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--count", type=int, default=45, help="interruptions, for each way")
    chosen = arguments.parse_args()
    total = wrong = 0
    for way in WAYS:
        found = anyio.run(lambda: interruptions(way, chosen.count))  # noqa: B023 - run here
        bad = mismatches(found)
        total, wrong = total + len(found), wrong + len(bad)
        off = max(abs(heard - told - 0.5) for told, heard in found) if found else math.nan
        print(f"{name(way)}: {len(found)} interruptions, {len(bad)} mismatches {bad[:3]}")
        print(f"  (heard is at most {off:.2f} ms from the middle of the millisecond told)")
    print(f"together: {total} interruptions, {wrong} mismatches")


if __name__ == "__main__":
    main()

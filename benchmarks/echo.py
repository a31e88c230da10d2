"""Does the assistant interrupt itself? ``python -m benchmarks.echo``, with the extra `aec`.

A room, played by a thread: what the loudspeaker plays reaches the microphone 80 ms later at -20 dB,
with some reflections, beside the noise of the room and a person who talks into the assistant's
answers. Everything else is real: devices' plugins, echo canceller, socket, the local server's
voice and its detector of speech. The room's clock runs four times as fast as the wall's.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, NamedTuple

import anyio
import numpy as np

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.server import RealtimeServer, ServerOptions, Voice, VoiceResponder
from realtime_bus_plugins.devices import Microphone, Speaker
from realtime_bus_plugins.echo_cancellation import EchoCancellation, EchoCanceller
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted

RATE_HZ = 24_000
FRAME = 240
"""10 ms: what the room plays and records at a time."""

QUESTION = "Hello! How do I cook a risotto for four people?"
REMARKS = ("Wait, sorry. How much rice do I need?", "Stop, please.", "One moment. Which wine?")
ANSWER = (
    "With pleasure. First, warm one litre of stock in a small pot, and keep it hot. "
    "Then soften a chopped onion in butter, slowly, without any colour. "
    "Add the rice, and stir until every grain is shiny and hot. "
    "Pour in a glass of white wine, and let it boil away. "
    "Now add the stock, one ladle at a time, and keep stirring."
)
PERSON = Voice("en-us", rate_wpm=165, pitch=60)


def spoken(text: str, voice: Voice = PERSON) -> np.ndarray:
    """Return what a voice says, PCM16 at 24 kHz."""
    return np.frombuffer(b"".join(piece.pcm for piece in voice.synthesize(text)), "<i2")


class Air:
    """What a microphone hears of a loudspeaker: late, weak, and off the walls."""

    def __init__(self, *, leak_db: float = -20.0, delay_ms: int = 80, seed: int = 1) -> None:
        source = np.random.default_rng(seed)
        first = delay_ms * RATE_HZ // 1000
        late = np.sort(source.integers(1, 1800, 16))
        gains = source.standard_normal(16) * 0.5 * np.exp(-late / 500)
        self._paths = [(first, 1.0), *zip((first + late).tolist(), gains.tolist(), strict=True)]
        self._leak = 10 ** (leak_db / 20)
        self._played = np.zeros(first + 1800 + FRAME)
        self._noise = source.standard_normal(RATE_HZ) * 3

    def carry(self, played: np.ndarray) -> np.ndarray:
        """Return what is heard of it, and of what was played before, in the same 10 ms."""
        self._played = np.concatenate((self._played[FRAME:], played))
        end = len(self._played)
        heard = np.zeros(FRAME)
        for late, gain in self._paths:
            heard += gain * self._played[end - late - FRAME : end - late]
        self._noise = np.roll(self._noise, FRAME)
        return self._leak * heard + self._noise[:FRAME]


class Room:
    """One room: a loudspeaker, a microphone, and a person who is told what to say.

    Args:
        air: What the microphone hears of the loudspeaker; None for nothing.
        rate_hz: The only rate that the loudspeaker takes.
        channels: And its channels.

    Attributes:
        now_ms: The room's clock.
        last_word_ms: When the person last said something.
        played: What the loudspeaker played, 10 ms each, if it is kept.
    """

    def __init__(
        self,
        air: Air | None = None,
        *,
        rate_hz: int = RATE_HZ,
        channels: int = 1,
        keep: bool = False,
    ) -> None:
        self.rate_hz, self.channels = rate_hz, channels
        self.played: list[bytes] | None = [] if keep else None
        self.now_ms = 0
        self.last_word_ms = -10_000
        self.output: Any = None
        self.input: Any = None
        self._air = air
        self._words = np.zeros(0)

    def say(self, words: np.ndarray) -> None:
        """Let the person speak; called in the event loop."""
        self._words = np.concatenate((self._words, words))

    def pass_by(self) -> None:
        """Let 10 ms pass."""
        play, record = self.output, self.input
        if play is None:
            return
        frames = self.rate_hz // 100
        played = bytearray(2 * frames * self.channels)
        play(memoryview(played), frames, None, None)
        if self.played is not None:
            self.played.append(bytes(played))
        if record is not None:
            echo = 0 if self._air is None else self._air.carry(np.frombuffer(played, "<i2"))
            said, self._words = self._words[:FRAME], self._words[FRAME:]
            if len(said):
                self.last_word_ms = self.now_ms
            heard = np.clip(np.rint(np.pad(said, (0, FRAME - len(said))) + echo), -32_768, 32_767)
            record(memoryview(heard.astype("<i2").tobytes()), FRAME, None, None)
        self.now_ms += 10


class _Stream:
    """A stream of PortAudio's, which a room drives."""

    latency = 0.01

    def __init__(self, room: Room, way: str, callback: Callable[..., None], asked: Any) -> None:
        if way == "output" and (asked["samplerate"], asked["channels"]) != (
            room.rate_hz,
            room.channels,
        ):
            raise RuntimeError("Invalid sample rate")
        self._room, self._way, self._callback = room, way, callback

    def start(self) -> None:
        setattr(self._room, self._way, self._callback)

    def abort(self) -> None:
        setattr(self._room, self._way, None)

    def close(self) -> None:
        pass


@asynccontextmanager
async def rooms(*each: Room, speed: float = 4.0) -> AsyncGenerator[None, None]:
    """Be the machine's sound devices: device 0 is in the first room, and so on.

    The event loop gives the rooms their time, 10 ms after 10 ms: they slow down with it.
    """
    module: Any = ModuleType("sounddevice")
    module.PortAudioError = RuntimeError
    module.query_hostapis = lambda _: {"name": "a room"}
    module.query_devices = lambda device, _: {
        "hostapi": 0,
        "default_samplerate": each[device].rate_hz,
        "max_input_channels": 1,
        "max_output_channels": 2,
    }
    module.RawOutputStream = lambda device, callback, **asked: _Stream(
        each[device], "output", callback, asked
    )
    module.RawInputStream = lambda device, callback, **asked: _Stream(
        each[device], "input", callback, asked
    )
    time_to_pass = threading.Semaphore(0)
    over = False

    def run() -> None:
        while time_to_pass.acquire() and not over:
            for room in each:
                room.pass_by()

    async def let_pass() -> None:
        while True:
            await anyio.sleep(0.01 / speed)
            time_to_pass.release()

    before = sys.modules.get("sounddevice")
    sys.modules["sounddevice"] = module
    thread = threading.Thread(target=run)
    thread.start()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(let_pass)
            yield
            tasks.cancel_scope.cancel()
    finally:
        over = True
        time_to_pass.release()
        thread.join()
        del sys.modules["sounddevice"]
        if before is not None:
            sys.modules["sounddevice"] = before


class Outcome(NamedTuple):
    """What became of one conversation.

    Attributes:
        minutes: How long it took, by the room's clock.
        barge_ins: How often the person spoke into an answer.
        heard: How many of those interrupted it.
        by_itself: How often the assistant was interrupted although nobody spoke.
        dropped_ms: How much of what was recorded the machine was too slow for.
    """

    minutes: float
    barge_ins: int
    heard: int
    by_itself: int
    dropped_ms: int


async def converse(
    room: Room,
    device: int,
    url: str,
    *,
    minutes: float,
    cancelling: bool,
    barging_in: bool = True,
    silence_ms: int = 500,
    speed: float = 4.0,
) -> Outcome:
    """Hold a conversation in a room, and count interruptions.

    With ``silence_ms=200`` the assistant answers in mid-sentence: both begin to speak at once.
    """
    microphone, speaker = Microphone(device), Speaker(device)
    plugins: list[Any] = [microphone, speaker]
    if cancelling:
        plugins.append(EchoCancellation(microphone, speaker))
    bus = Bus(plugins=[*plugins, Interruption(speaker)])
    chance = random.Random(device)  # noqa: S311 - no secret
    remarks = [spoken(text) for text in REMARKS]
    heard_ms: list[int] = []
    by_itself = 0

    @bus.on(PlaybackInterrupted)
    def interrupted(_event: PlaybackInterrupted) -> None:
        nonlocal by_itself
        if room.now_ms - room.last_word_ms < 500:
            heard_ms.append(room.now_ms)
        else:
            by_itself += 1

    async def until(condition: Callable[[], bool], limit_ms: float) -> None:
        end_ms = room.now_ms + limit_ms
        while not condition() and room.now_ms < end_ms:  # noqa: ASYNC110 - the room's clock tells nobody
            await anyio.sleep(0.01 / speed)

    barge_ins = heard = 0
    detection = ev.ServerVad(silence_duration_ms=silence_ms)
    async with bus.connect(url, turn_detection=detection):
        begun_ms = room.now_ms
        end_ms = begun_ms + 60_000 * minutes
        await until(lambda: False, 500)
        room.say(spoken(QUESTION))
        while room.now_ms < end_ms:
            await until(lambda: speaker.playing, 5_000)
            await until(lambda: False, 1000 * chance.uniform(1.5, 5.0))
            if not speaker.playing:
                continue  # it has interrupted itself, or has finished
            if not barging_in:
                continue
            before = len(heard_ms)
            barge_ins += 1
            room.say(chance.choice(remarks))
            await until(lambda: len(heard_ms) > before, 3_000)  # noqa: B023 - awaited here
            heard += len(heard_ms) > before
            await until(lambda: room.now_ms - room.last_word_ms > 1_000, 5_000)
    lasted = (room.now_ms - begun_ms) / 60_000
    return Outcome(lasted, barge_ins, heard, by_itself, microphone.dropped_ms)


@asynccontextmanager
async def server(speed: float) -> AsyncGenerator[str, None]:
    """Run the local server, whose clock is the room's."""
    options = ServerOptions(pace=4 * speed)
    async with RealtimeServer(VoiceResponder(ANSWER), options=options).serve() as bound:
        yield bound.url_for("any")


async def conversations(
    count: int,
    *,
    minutes: float,
    cancelling: bool,
    barging_in: bool = True,
    silence_ms: int = 500,
    leak_db: float = -20.0,
    speed: float = 4.0,
) -> list[Outcome]:
    """Hold conversations in as many rooms at once."""
    outcomes: list[Outcome] = []
    each = [Room(Air(leak_db=leak_db, seed=number)) for number in range(count)]

    async def hold(number: int, url: str) -> None:
        outcomes.append(
            await converse(
                each[number],
                number,
                url,
                minutes=minutes,
                cancelling=cancelling,
                barging_in=barging_in,
                silence_ms=silence_ms,
                speed=speed,
            )
        )

    async with (
        rooms(*each, speed=speed),
        server(speed) as url,
        anyio.create_task_group() as tasks,
    ):
        for number in range(count):
            tasks.start_soon(hold, number, url)
    return outcomes


class Cancelled(NamedTuple):
    """What the canceller does to an echo alone.

    Attributes:
        erle_db: Echo return loss enhancement: by how much the echo became quieter.
        cpu_ms: Milliseconds of CPU for a second of audio, both directions.
    """

    erle_db: float
    cpu_ms: float


def alone(*, leak_db: float = -20.0, delay_ms: int = 80, after_s: float = 2.0) -> Cancelled:
    """Let the canceller work on the assistant's voice, and nothing else."""
    played = spoken(ANSWER, Voice("en-gb+f2", rate_wpm=170, pitch=55))
    played = played[: len(played) // FRAME * FRAME]
    air, canceller = Air(leak_db=leak_db, delay_ms=delay_ms), EchoCanceller()
    frames = played.reshape(-1, FRAME)
    echoes = [np.rint(air.carry(frame)).astype("<i2") for frame in frames]
    cleaned: list[bytes] = []
    begun_s = time.process_time()
    for frame, echo in zip(frames, echoes, strict=True):
        canceller.played(frame.tobytes())
        cleaned.append(canceller.recorded(echo.tobytes()))
    cpu_s = time.process_time() - begun_s
    begin = round(after_s * RATE_HZ)
    left = np.frombuffer(b"".join(cleaned), "<i2").astype(float)[begin:]
    echo = np.concatenate(echoes).astype(float)[begin:]
    erle_db = 10 * math.log10(np.mean(echo**2) / max(np.mean(left**2), 1e-3))
    return Cancelled(erle_db, 1000 * cpu_s / (len(played) / RATE_HZ))


def main() -> None:
    """Measure, and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minutes", type=float, default=6.0, help="of conversation, per way")
    arguments.add_argument("--rooms", type=int, default=3, help="at once")
    arguments.add_argument("--silence-ms", type=int, default=500, help="that ends a turn")
    arguments.add_argument("--leak-db", type=float, default=-20.0, help="how loud the echo is")
    chosen = arguments.parse_args()
    found = alone(leak_db=chosen.leak_db)
    print(f"the canceller alone: {found.erle_db:.1f} dB of echo return loss enhancement,")
    print(f"  {found.cpu_ms:.1f} ms of CPU for a second of audio")
    each = chosen.minutes / chosen.rooms
    for cancelling in (False, True):
        outcomes = anyio.run(
            lambda: conversations(
                chosen.rooms,
                minutes=each if cancelling else each / 4,  # noqa: B023 - run here
                cancelling=cancelling,  # noqa: B023  # awaited before the next turn
                barging_in=cancelling,  # noqa: B023  # awaited before the next turn
                silence_ms=chosen.silence_ms,
                leak_db=chosen.leak_db,
            )
        )
        minutes = sum(outcome.minutes for outcome in outcomes)
        by_itself = sum(outcome.by_itself for outcome in outcomes)
        print(f"{'with' if cancelling else 'without'} echo cancellation, {minutes:.1f} min:")
        dropped_ms = sum(outcome.dropped_ms for outcome in outcomes)
        print(f"  {by_itself} self-interruptions, {by_itself / minutes:.1f} a minute")
        print(f"  {dropped_ms} ms of what was recorded were dropped")
        if cancelling:
            heard = sum(outcome.heard for outcome in outcomes)
            print(f"  {heard} of {sum(o.barge_ins for o in outcomes)} barge-ins heard")


if __name__ == "__main__":
    main()

"""Microphone and loudspeaker on a real sound server: ``python -m benchmarks.devices``.

Starts a PulseAudio of its own with null sinks, plays through PortAudio, and listens at the sinks'
monitors. Takes a minute; needs the packages pulseaudio, pulseaudio-utils, libasound2-plugins and
libportaudio2, and the extra `devices`. Nothing of the machine's own sound is touched.
"""

from __future__ import annotations

import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import numpy as np
import soxr

from realtime_bus import Bus
from realtime_bus.audio import Resampler
from realtime_bus.server import RealtimeServer, Voice
from realtime_bus_plugins.devices import DeviceLost, DeviceReopened, Microphone, Speaker

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # until 3.13, where audioop-lts has it
    import audioop

_MONITOR_HZ = 48_000
_LOUD = 4000


class SoundServer:
    """A PulseAudio with two null sinks, and PortAudio's way to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self._keepers: list[subprocess.Popen[bytes]] = []
        # before PortAudio is loaded: it reads the first, and ALSA's pulse plugin the second
        os.environ["HOME"] = os.environ["XDG_RUNTIME_DIR"] = str(folder)
        os.environ["PULSE_SERVER"] = f"unix:{folder}/native"
        devices = "".join(
            f'pcm.{name} {{ type pulse device {name} hint {{ show on description "{name}" }} }}\n'
            for name in ("spk", "mic")
        )
        (folder / ".asoundrc").write_text(f"pcm.!default {{ type pulse }}\n{devices}")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        modules = (
            f"module-native-protocol-unix auth-anonymous=1 socket={self.folder}/native",
            f"module-null-sink sink_name=spk rate={_MONITOR_HZ}",
            f"module-null-sink sink_name=room rate={_MONITOR_HZ}",
            "module-remap-source source_name=mic master=room.monitor",
        )
        options = ("-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no")
        loads = [option for module in modules for option in ("-L", module)]
        self.process = subprocess.Popen(
            ["pulseaudio", *options, "--disable-shm=yes", "--log-level=error", *loads],  # noqa: S607  # where the system has it
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while subprocess.run(["pactl", "info"], capture_output=True, check=False).returncode:  # noqa: S607  # where the system has it
            time.sleep(0.05)
        # a null sink that nobody listens to plays in blocks of two seconds
        self._keepers = [_parec(name) for name in ("spk", "room")]
        for keeper in self._keepers:
            threading.Thread(target=_drain, args=(keeper,), daemon=True).start()

    def stop(self) -> None:
        """End it."""
        for process in (*self._keepers, self.process):
            if process is not None:
                process.send_signal(signal.SIGTERM)
                process.wait()


def _parec(name: str) -> subprocess.Popen[bytes]:
    options = ("--format=s16le", f"--rate={_MONITOR_HZ}", "--channels=1", "--raw")
    return subprocess.Popen(
        ["parec", f"--device={name}.monitor", "--latency-msec=5", *options],  # noqa: S607  # where the system has it
        stdout=subprocess.PIPE,
    )


def _drain(process: subprocess.Popen[bytes]) -> None:
    while process.stdout is not None and process.stdout.read(4096):
        pass


class Heard:
    """What was heard at the loudspeaker, and when."""

    def __init__(self) -> None:
        self.pieces: list[tuple[float, np.ndarray]] = []

    @property
    def pcm(self) -> np.ndarray:
        """All of it."""
        return np.concatenate([piece for _, piece in self.pieces])

    def largest_step(self, start_s: float, end_s: float) -> float:
        """Return the largest step between two samples, as a part of full scale."""
        heard = [piece for at_s, piece in self.pieces if start_s <= at_s <= end_s]
        return float(np.max(np.abs(np.diff(np.concatenate(heard))))) / 32_768

    def silent_since_s(self) -> float:
        """Return when the last loud sample was heard."""
        for at_s, piece in reversed(self.pieces):
            loud = np.nonzero(np.abs(piece) > _LOUD)[0]
            if len(loud):
                return at_s - (len(piece) - 1 - int(loud[-1])) / _MONITOR_HZ
        return 0.0


@contextmanager
def listening() -> Iterator[Heard]:
    """Listen at the loudspeaker."""
    heard, process = Heard(), _parec("spk")

    def read() -> None:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 65_536):
            heard.pieces.append((time.perf_counter(), np.frombuffer(data, "<i2").astype(int)))

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.3)
    try:
        yield heard
    finally:
        time.sleep(0.3)
        process.terminate()
        thread.join()
        process.wait()


def _tone(seconds: float, hz: float = 440.0) -> bytes:
    at = np.arange(round(24_000 * seconds)) / 24_000
    return bytes((20_000 * np.sin(2 * math.pi * hz * at)).astype("<i2"))


def _level(seconds: float) -> bytes:
    """Return a plateau: it is loud as long as it lasts."""
    return bytes(np.full(round(24_000 * seconds), 12_000, "<i2"))


def opening() -> None:
    """How long opening takes, and how long the event loop is held up by it."""

    async def measure() -> tuple[float, float]:
        longest_s = 0.0

        async def tick() -> None:
            nonlocal longest_s
            while True:
                before_s = time.perf_counter()
                await anyio.sleep(0.001)
                longest_s = max(longest_s, time.perf_counter() - before_s - 0.001)

        async with (
            RealtimeServer().connect_memory() as transport,
            Bus().session(transport) as session,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(tick)
            await anyio.sleep(0.05)
            longest_s, started_s = 0.0, time.perf_counter()
            microphone, speaker = Microphone("mic"), Speaker("spk")
            await microphone.prepare(session)
            await speaker.prepare(session)
            took_s = time.perf_counter() - started_s
            tasks.cancel_scope.cancel()
            microphone.attach(session)  # which closes it with the session
            speaker.close()
        return took_s, longest_s

    for which in ("first", "second"):
        took_s, longest_s = anyio.run(measure)
        held = f"event loop held up {longest_s * 1e3:.1f} ms"
        print(f"{which} opening: {took_s * 1e3:.0f} ms; {held}")


def flushing(rounds: int = 15) -> None:
    """From `flush` to silence at the loudspeaker."""
    took_us: list[float] = []
    silent_ms: list[float] = []
    steps: list[float] = []
    with Speaker("spk") as speaker:
        for _ in range(rounds):
            with listening() as heard:
                speaker.write(_tone(5), item_id="a")
                time.sleep(0.6)
                before = speaker.underruns
                flushed_s = time.perf_counter()
                speaker.flush()
                took_us.append((time.perf_counter() - flushed_s) * 1e6)
                time.sleep(0.3)
            silent_s = heard.silent_since_s()
            silent_ms.append((silent_s - flushed_s) * 1e3)
            if speaker.underruns == before:  # which leave steps of their own
                steps.append(heard.largest_step(silent_s - 0.05, silent_s + 0.2))
        latency_ms = speaker.latency_s * 1e3
        underruns = speaker.underruns
    print(
        f"flush() returns after {statistics.median(took_us):.0f} µs; silence is heard "
        f"{min(silent_ms):.0f} to {max(silent_ms):.0f} ms after it, median "
        f"{statistics.median(silent_ms):.0f} (latency by PortAudio {latency_ms:.0f} ms); "
        f"largest step {100 * max(steps):.1f} % of full scale (the tone's own "
        f"{100 * 20_000 * 2 * math.pi * 440 / _MONITOR_HZ / 32_768:.1f} %); underruns {underruns}"
    )


def draining(rounds: int = 5) -> None:
    """What is lost of the end when the speaker is closed as soon as it has played."""
    for way in ("drained", "aborted"):
        lost_ms: list[float] = []
        for _ in range(rounds):
            with listening() as heard:
                speaker = Speaker("spk")
                speaker.open()
                time.sleep(0.2)  # the sound server's own beginning is not what is asked about
                speaker.write(_level(0.7), item_id="a")
                while speaker.playing:
                    time.sleep(0.001)
                underruns = speaker.underruns
                if way == "aborted":  # as it was done before
                    stream = speaker._keeper.stream  # noqa: SLF001  # the raw stream, to look beneath
                    assert stream is not None
                    stream.close()
                speaker.close()
                time.sleep(0.2)
            if underruns:
                continue  # which lose some of their own
            loud = int(np.count_nonzero(np.abs(heard.pcm) > _LOUD))
            lost_ms.append(700 - loud / _MONITOR_HZ * 1e3)
        print(f"closed after playing, {way}: {max(lost_ms, default=math.nan):.1f} ms lost at most")


def losing(server: SoundServer) -> None:
    """The sound server is killed and started again, in the midst of a sentence."""

    async def measure() -> None:
        speaker, microphone = Speaker("spk"), Microphone("mic")
        noted: list[tuple[float, str]] = []
        bus = Bus(plugins=[microphone, speaker])

        @bus.on(DeviceLost)
        def lost(event: DeviceLost) -> None:
            noted.append((time.perf_counter() - killed_s, f"{event.kind} lost"))

        @bus.on(DeviceReopened)
        def back(event: DeviceReopened) -> None:
            noted.append((time.perf_counter() - killed_s, f"{event.kind} back"))

        async with RealtimeServer().connect_memory() as transport, bus.session(transport):
            speaker.write(_tone(2.0), item_id="a")
            await anyio.sleep(0.5)
            killed_s = time.perf_counter()
            await anyio.to_thread.run_sync(server.stop)
            await anyio.sleep(0.7)
            [part] = speaker.positions()
            noted.append((time.perf_counter() - killed_s, f"stands at {part.played_ms} ms"))
            await anyio.to_thread.run_sync(server.start)
            noted.append((time.perf_counter() - killed_s, "the server answers again"))
            with anyio.fail_after(20):
                while speaker.playing:  # noqa: ASYNC110 - that is what an application does
                    await anyio.sleep(0.01)
            noted.append((time.perf_counter() - killed_s, "played to its end"))
        for at_s, what in noted:
            print(f"  {at_s * 1e3:6.0f} ms  {what}")

    print("sound server killed in the midst of 2 s of speech:")
    anyio.run(measure)


def resampling() -> None:
    """What resampling does to tones and to speech, beside the straight lines of `audioop`."""
    speech = b"".join(piece.pcm for piece in Voice("en-us").synthesize(_TEXT))
    ideal = soxr.resample(_samples(speech), 24_000, 8_000, quality="VHQ")
    alone = _through_codec(bytes(np.rint(ideal).clip(-32_768, 32_767).astype("<i2")))
    ways: dict[str, Callable[[bytes, int, int], bytes]] = {"soxr": _soxr, "audioop": _lines}
    for name, way in ways.items():
        heard = _through_codec(way(speech, 24_000, 8_000))
        ghost = _level_db(way(_tone(1, 5_000), 24_000, 8_000)) - _level_db(_tone(1, 5_000))
        telephone = bytes(_samples(_tone(1, 3_000))[::3].astype("<i2"))  # 3 kHz at 8 kHz
        image = _band_db(way(telephone, 8_000, 24_000), 5_000, 24_000)
        edge = _level_db(way(_tone(1, 3_400), 24_000, 8_000)) - _level_db(_tone(1, 3_400))
        begun_s = time.process_time()
        for _ in range(10):
            way(speech, 24_000, 16_000)
        cpu_ms = (time.process_time() - begun_s) * 1e3 / (10 * len(speech) / 48_000)
        print(
            f"{name}: 24 to 8 kHz, 5 kHz folds back at {ghost:.0f} dB, 3.4 kHz loses "
            f"{-edge:.1f} dB; 8 to 24 kHz, an image of {image:.0f} dB; speech in G.711 has "
            f"{_snr_db(heard, ideal):.1f} dB SNR ({_snr_db(alone, ideal):.1f} by the codec alone); "
            f"24 to 16 kHz takes {cpu_ms:.1f} ms of CPU a second"
        )


_TEXT = "Speech has most of its sibilants above four kilohertz: six thick thistle sticks, she says."


def _soxr(pcm: bytes, from_hz: int, to_hz: int) -> bytes:
    resampler = Resampler(from_hz, to_hz)
    step = 2 * from_hz // 50
    made = [resampler.feed(pcm[at : at + step]) for at in range(0, len(pcm), step)]
    return b"".join([*made, resampler.flush()])


def _lines(pcm: bytes, from_hz: int, to_hz: int) -> bytes:
    return bytes(audioop.ratecv(pcm, 2, 1, from_hz, to_hz, None)[0])


def _through_codec(pcm: bytes) -> np.ndarray:
    return _samples(audioop.ulaw2lin(audioop.lin2ulaw(pcm, 2), 2))


def _samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, "<i2").astype(float)


def _level_db(pcm: bytes) -> float:
    return 20 * math.log10(max(float(np.std(_samples(pcm)[500:-500])), 1e-2))


def _band_db(pcm: bytes, hz: float, rate_hz: int) -> float:
    """Return how loud a tone is beside the loudest one."""
    samples = _samples(pcm)[1000:-1000]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    at = round(hz * len(samples) / rate_hz)
    return 20 * math.log10(float(np.max(spectrum[at - 3 : at + 4]) / np.max(spectrum)))


def _snr_db(heard: np.ndarray, wanted: np.ndarray) -> float:
    """Return the best SNR within a sample's delay: straight lines come a part of one late."""
    length = min(len(heard), len(wanted)) - 8
    ratios = [
        np.var(wanted[4 : length + 4])
        / np.var(heard[4 + d : length + 4 + d] - wanted[4 : length + 4])
        for d in (-1, 0, 1)
    ]
    return 10 * math.log10(max(ratios))


def main() -> None:
    """Measure everything."""
    resampling()
    with tempfile.TemporaryDirectory() as folder:
        server = SoundServer(Path(folder))
        server.start()
        time.sleep(2.5)  # until the null sinks have noticed that somebody listens
        try:
            steps: list[Callable[[], None]] = [opening, flushing, draining, lambda: losing(server)]
            for step in steps:
                step()
                sys.stdout.flush()
        finally:
            server.stop()


if __name__ == "__main__":
    main()

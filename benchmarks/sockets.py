"""Over a socket, beside all peers: full speed, real-time pace, barge-in, memory."""

from __future__ import annotations

import statistics
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.cli import bench
from realtime_bus.cli.bench import FLOOR, OURS, Certificate, Row, Section, Sender, figure
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted
from realtime_bus_plugins.sinks import NullSink

from .peers import LIVEKIT, PIPECAT, rows

CROWD = 400
INTERRUPTIONS = 300
LIMIT_S = 60.0


def full_speed(*, rounds: int) -> Section:
    """Measure all that is installed."""
    return bench.full_speed(rows(), rounds=rounds)


def paced(*, rounds: int) -> Section:
    """Measure 50 sessions of all that is installed."""
    return bench.paced(rows(), rounds=rounds)


def paced_tls(*, rounds: int) -> Section:
    """Measure the same with TLS: whose cost is OpenSSL's, so that the libraries' shrinks.

    Raises:
        ModuleNotFoundError: trustme is not installed; it makes the certificate.
    """
    import trustme  # noqa: PLC0415  # of the group `dev`

    with TemporaryDirectory() as folder:
        files = Certificate(Path(folder) / "chain.pem", Path(folder) / "authority.pem")
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(files.chain)
        authority.cert_pem.write_to_path(files.authority)
        return bench.paced(_but(PIPECAT), rounds=rounds, tls=files)


def crowd(*, rounds: int) -> Section:
    """Measure ours and the floor with as many sessions as a core should hold."""
    return bench.paced(_only(OURS, FLOOR), rounds=rounds, sessions=CROWD, warm=0)


def barge_in(*, rounds: int) -> Section:
    """Measure all that is installed."""
    return bench.barge_in(rows(), rounds=rounds)


def memory_idle() -> Section:
    """Measure all that is installed; not Pipecat, whose sessions are whole pipelines."""
    return bench.idle_memory(_but(PIPECAT))


def memory_queued() -> Section:
    """Measure those that read on while a handler is busy; the others leave it to the kernel."""
    return bench.queued_memory(_only(OURS, FLOOR, LIVEKIT))


def _only(*names: str) -> list[Row]:
    return [row for row in rows() if row.name in names]


def _but(name: str) -> list[Row]:
    return [row for row in rows() if row.name != name]


def silence(*, rounds: int) -> Section:
    """Measure from the frame of ``speech_started`` being read until the sink is silent."""
    taken: dict[str, list[float]] = {"p50": [], "p99": [], "max": []}
    with Sender() as sender:
        for number in range(rounds + 1):
            found = anyio.run(_interruptions, sender)
            if number:
                cuts = statistics.quantiles(found, n=100)
                for name, value in zip(taken, (cuts[49], cuts[98], max(found)), strict=True):
                    taken[name].append(value)
    return Section(
        "silence",
        f"Barge-in: from reading the frame of speech_started to silence at the sink, "
        f"{INTERRUPTIONS} interruptions, each behind 20 audio deltas whose async handler takes "
        "5 ms",
        ("ms", 1e3),
        {name: {OURS: figure(values)} for name, values in taken.items()},
        {OURS: "Interruption with a NullSink: PlaybackInterrupted.latency_s"},
        OURS,
        {},
        "median",
    )


async def _interruptions(sender: Sender) -> list[float]:
    sink = NullSink()
    bus = Bus(plugins=[sink, Interruption(sink)], drain_timeout_s=0.01)
    found: list[float] = []
    all_of_them = anyio.Event()

    @bus.on(ev.ResponseOutputAudioDelta)
    async def play(_: ev.ResponseOutputAudioDelta) -> None:
        await anyio.sleep(0.005)

    @bus.on(PlaybackInterrupted)
    def interrupted(event: PlaybackInterrupted) -> None:
        found.append(event.latency_s)
        if len(found) == INTERRUPTIONS:
            all_of_them.set()

    async with bus.connect(sender.url, api_key="none"):
        sender.tell({"do": "cycles", "count": INTERRUPTIONS, "audio": 20})
        with anyio.fail_after(LIMIT_S):
            await all_of_them.wait()
        await anyio.to_thread.run_sync(sender.hear)
    return found

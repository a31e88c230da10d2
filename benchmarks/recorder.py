"""What recording costs a session: `python -m benchmarks.recorder`.

Sessions at real-time pace over loopback sockets, from another process, in three forms: ``talk``,
where the assistant speaks without a pause (5 deltas of 200 ms of audio a second, as many of text);
``agent``, the same as a user has it, over TLS and with `Interruption`, `History` and `TurnMetrics`;
and ``suite``, the frames of the suite (60 a second, 28 % of them audio: 3.4 seconds of it).
Each session also sends a microphone's frames, 50 a second, and plays into a sink. Sides take turns
in one process, round by round, and which begins changes. Counted is the CPU time of the process,
its writing thread's and the kernel's in its name, until all is written; and what of it other
threads than the loop's took. `--smoke` takes some seconds and fails if the share has clearly left
its target.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from time import process_time, thread_time
from typing import Any

import anyio

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.cli.bench import Certificate, Sender
from realtime_bus_plugins.history import History
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.turn_metrics import TurnMetrics

FORMS = {"talk": (10, (30, 30)), "agent": (10, (30, 30)), "suite": (60, (43, 17))}
"""Frames a second, and how many of text there are to how many of audio."""

TLS_FORM = "agent"

MICROPHONE_HZ, CHUNK_BYTES = 50, 960  # 20 ms each
MISSED = 0.4  # far beyond the target of 5 %: a busy machine of two cores keeps it
SIDES: dict[str, dict[str, Any] | None] = {
    "not recorded": None,
    "recorded": {},
    "without audio": {"audio": False},
    "without texts": {"texts": False},
    "zstd": {"compress": True},
}
LIMIT_S = 60.0


def receive() -> None:
    """Take orders from stdin, answer each by two lines: ready, and the CPU time of a frame."""
    for line in sys.stdin:
        order = json.loads(line)
        folder = tempfile.mkdtemp(prefix="recordings-", dir=order["folder"])
        try:
            answer = anyio.run(received, order, folder)
            written = sum(path.stat().st_size for path in Path(folder).iterdir())
            say({**answer, "bytes": written})
        finally:
            shutil.rmtree(folder)


class Counter:
    """Counts frames that are handled, and sends those of microphones."""

    def __init__(self, expected: int) -> None:
        self.frames = 0
        self.sent = 0
        self.ended = anyio.Event()
        self._expected = expected

    def attach(self, session: Session) -> None:
        """Listen to a session."""
        session.on(ev.ResponseOutputAudioTranscriptDelta)(self.count)
        session.on(ev.ResponseOutputAudioDelta)(self.audio)

    def audio(self, event: ev.ResponseOutputAudioDelta) -> None:
        """Handle an audio delta."""
        len(event.delta)
        self.count(event)

    def count(self, _: ev.Event) -> None:
        """Handle a frame."""
        self.frames += 1
        if self.frames == self._expected:
            self.ended.set()

    async def microphones(self, sessions: list[Session]) -> None:
        """Send what microphones hear, until all frames have come."""
        due_s = anyio.current_time()
        chunk = os.urandom(CHUNK_BYTES)
        while not self.ended.is_set():
            for session in sessions:
                session.send_nowait(ev.InputAudioBufferAppend(audio=chunk))
                self.sent += 1
            due_s += 1 / MICROPHONE_HZ
            await anyio.sleep(max(0.0, due_s - anyio.current_time()))


async def received(order: dict[str, Any], folder: str) -> dict[str, Any]:
    """Hold so many sessions; return the CPU time that they take."""
    options = SIDES[order["side"]]
    rate_hz, _ = FORMS[order["form"]]
    counter = Counter(round(order["sessions"] * rate_hz * order["seconds"]))
    sessions: list[Session] = []
    async with AsyncExitStack() as stack:
        for _ in range(order["sessions"]):
            sink = NullSink()
            plugins: list[Any] = [counter, sink]
            if order["form"] == TLS_FORM:
                plugins += [Interruption(sink), History(), TurnMetrics()]
            if options is not None:
                plugins.append(Recorder(folder, sink=sink, **options))
            connected = Bus().connect(order["url"], api_key="sk-none-of-it", plugins=plugins)
            sessions.append(await stack.enter_async_context(connected))
        await anyio.sleep(0.6)
        say({"ready": True})
        started_s, loop_s = process_time(), thread_time()
        sessions[0].start_soon(counter.microphones, sessions)
        with anyio.fail_after(LIMIT_S):
            await counter.ended.wait()
        await anyio.sleep(0.6)  # what is left is being written
        took_s, loop_s = process_time() - started_s, thread_time() - loop_s
    frames = counter.frames + counter.sent
    return {"cpu_s": took_s, "threads_s": took_s - loop_s, "frames": frames}


def say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


@contextmanager
def certificate(form: str) -> Iterator[Certificate | None]:
    """Make a certificate, if the form wants one."""
    if form != TLS_FORM:
        yield None
        return
    import trustme  # noqa: PLC0415  # of the group `dev`

    with tempfile.TemporaryDirectory() as folder:
        files = Certificate(Path(folder) / "chain.pem", Path(folder) / "authority.pem")
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(files.chain)
        authority.cert_pem.write_to_path(files.authority)
        yield files


@contextmanager
def receiver(tls: Certificate | None) -> Iterator[Any]:
    trusted = {"SSL_CERT_FILE": str(tls.authority)} if tls else {}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.recorder", "--receive"],
        env=os.environ | trusted,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def hear(process: Any) -> dict[str, Any]:
    guard = threading.Timer(LIMIT_S, process.kill)
    guard.start()
    try:
        line = process.stdout.readline()
    finally:
        guard.cancel()
    if not line:
        raise SystemExit("benchmarks.recorder: the receiver ended without an answer")
    answer: dict[str, Any] = json.loads(line)
    return answer


def measure(
    sides: list[str], *, rounds: int, order: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    """Return what each side said of each round, but for the first."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with certificate(order["form"]) as tls, Sender(tls) as sender, receiver(tls) as process:
        for number in range(rounds + 1):
            for side in sides if number % 2 else sides[::-1]:
                process.stdin.write(json.dumps({**order, "side": side, "url": sender.url}) + "\n")
                process.stdin.flush()
                hear(process)
                rate_hz, mix = FORMS[order["form"]]
                pace = {"do": "pace", "rate_hz": rate_hz, "mix": mix, "seconds": order["seconds"]}
                sender.tell(pace)
                sender.hear()
                answer = hear(process)
                if number:
                    found[side].append(answer)
    return found


def shares(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Return what each side costs beyond the first, as a share of that, by round."""
    plain, *others = found
    return {
        side: [
            this["cpu_s"] / base["cpu_s"] - 1
            for this, base in zip(found[side], found[plain], strict=True)
        ]
        for side in others
    }


def main() -> int:
    """Measure, print, and return 1 if the target was clearly missed in a smoke test."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recorder", description=__doc__)
    parser.add_argument(
        "--smoke", action="store_true", help="some seconds; fail far off the target"
    )
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="whose disk is written to")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--sides", default="recorded,without audio,without texts,zstd")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.sessions, options.seconds = 3, 30, 1.0
        options.sides, options.forms = "recorded", "talk"
    share = 0.0
    for form in options.forms.split(","):
        order = {
            "form": form,
            "sessions": options.sessions,
            "seconds": options.seconds,
            "folder": options.folder,
        }
        sides = ["not recorded", *options.sides.split(",")]
        found = measure(sides, rounds=options.rounds, order=order)
        share = max(share, statistics.median(shares(found)["recorded"]))
        show(form, found, seconds=options.sessions * options.seconds)
    return int(options.smoke and share > MISSED)


def show(form: str, found: dict[str, list[dict[str, Any]]], *, seconds: float) -> None:
    print(f"{form}:")
    plain = next(iter(found))
    for side, answers in found.items():
        cpu_us = [answer["cpu_s"] / seconds * 1e6 for answer in answers]
        written = statistics.median(answer["bytes"] for answer in answers) / seconds / 1e3
        line = f"  {side:<14}{statistics.median(cpu_us):7.0f} µs a second and session"
        threads_us = statistics.median(answer["threads_s"] for answer in answers) / seconds * 1e6
        line += f" (min {min(cpu_us):.0f}; {threads_us:.0f} in threads), {written:4.0f} kB"
        if side != plain:
            values = shares({plain: found[plain], side: answers})[side]
            of_minima = min(cpu_us) / min(a["cpu_s"] for a in found[plain]) * seconds / 1e6 - 1
            line += f": {statistics.median(values):+.1%} (of the minima {of_minima:+.1%})"
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(receive() if sys.argv[1:] == ["--receive"] else main())

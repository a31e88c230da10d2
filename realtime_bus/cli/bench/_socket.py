"""Benchmarks over a loopback socket: full speed, real-time pace, barge-in, memory.

The sender is a process of its own, and so is each row: its CPU time is its library's and its
handler's, from the moment when the sessions are open until the last frame was handled. Every
process is ended by its own id, by the end of its standard input or by the time limit.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self, cast

from ._figures import Figure, Progress, Section, figure, is_installed, no_progress
from ._rows import OURS
from ._work import AUDIO_BYTES, Row

_LIMIT_S = 90.0
_QUEUED_S = 500  # so much that what the allocator had free before does not matter


class Certificate(NamedTuple):
    """Files of a server's certificate for 127.0.0.1.

    Attributes:
        chain: Its key and certificates (PEM).
        authority: Who signed it (PEM).
    """

    chain: Path
    authority: Path


class _Process:
    """A module of this package that takes orders, one line of JSON each."""

    def __init__(self, module: str, *arguments: str, **environment: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # our own module, under our own Python
            [sys.executable, "-m", f"{__package__}.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | environment,
            text=True,
        )
        self._orders = cast("IO[str]", self._process.stdin)
        self._answers = cast("IO[str]", self._process.stdout)

    def tell(self, order: dict[str, Any]) -> None:
        """Send an order."""
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for an answer.

        Raises:
            RuntimeError: The process has ended, or took too long and was ended.
        """
        guard = threading.Timer(_LIMIT_S, self._process.kill)
        guard.start()
        try:
            line = self._answers.readline()
        finally:
            guard.cancel()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for pipe in (self._orders, self._answers):
            with suppress(BrokenPipeError):  # it has ended by itself
                pipe.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Sender(_Process):
    """The sending side; its orders are those of `_sender`.

    Args:
        tls: Send with TLS.

    Attributes:
        url: Where to connect to.
    """

    def __init__(self, tls: Certificate | None = None) -> None:
        super().__init__("_sender", *([str(tls.chain)] if tls else []))
        scheme = "wss" if tls else "ws"
        self.url: str = f"{scheme}://127.0.0.1:{self.hear()['port']}/v1/realtime"


class _Receiver(_Process):
    """The receiving side, of one row."""

    def __init__(self, row: Row, tls: Certificate | None) -> None:
        # where every library looks for the authorities that it trusts
        trusted = {"SSL_CERT_FILE": str(tls.authority)} if tls else {}
        super().__init__("_receiver", pickle.dumps(row).hex(), **trusted)

    def run(
        self, sender: Sender, order: dict[str, Any], send: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Open sessions, let the sender send, and return the figures.

        Raises:
            RuntimeError: The process ended: the library could not do it.
        """
        self.tell({"url": sender.url, **order})
        self.hear()
        if send is not None:
            sender.tell(send)
            sender.hear()
        return self.hear()


class _Race:
    """Every row runs a round in turn.

    Attributes:
        rows: Who takes part.
        answers: What each said of each round; not of those that warm up.
        left_out: Who did not take part, or not to the end, and why.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        order: dict[str, Any],
        send: dict[str, Any] | None,
        *,
        rounds: int,
        warm: int = 1,
        tls: Certificate | None = None,
        progress: Progress = no_progress,
    ) -> None:
        self.rows = list(rows)
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.left_out = {
            row.name: f"{row.needs} is not installed"
            for row in self.rows
            if not is_installed(row.needs)
        }
        with ExitStack() as stack:
            sender = stack.enter_context(Sender(tls))
            receivers = {
                row.name: stack.enter_context(_Receiver(row, tls))
                for row in self.rows
                if row.name not in self.left_out
            }
            for number in range(warm + rounds):
                for name in [*receivers]:
                    try:
                        answer = receivers[name].run(sender, order, send)
                    except (RuntimeError, OSError, ValueError) as error:
                        self.left_out[name] = f"failed: {error}"
                        del receivers[name]
                        self.answers.pop(name, None)
                        continue
                    finally:
                        progress()
                    if number >= warm:
                        self.answers.setdefault(name, []).append(answer)

    def column(self, key: str, scale: float = 1.0) -> dict[str, Figure]:
        """Return one figure of each row."""
        return {
            name: figure(answer[key] * scale for answer in found)
            for name, found in self.answers.items()
            if all(key in answer for answer in found)
        }

    def section(
        self, name: str, title: str, unit: tuple[str, float], **columns: dict[str, Figure]
    ) -> Section:
        rules = {row.name: row.rule for row in self.rows}
        return Section(name, title, unit, columns, rules, OURS, self.left_out)


def full_speed(
    rows: list[Row], *, rounds: int, scale: int = 1, progress: Progress = no_progress
) -> Section:
    """Measure the CPU time of a frame when frames come as fast as they are taken.

    Raises:
        RuntimeError: A row has lost audio: it does not do the same work.
    """
    small, audio = 1280 * scale, 500 * scale
    race = _Race(
        (row for row in rows if row.connect is not None),
        {"do": "receive", "sessions": 1, "clocked": False, "frames": small + audio},
        {"do": "burst", "small": small, "audio": audio},
        rounds=rounds,
        progress=progress,
    )
    for name, found in race.answers.items():
        if any(answer["audio_bytes"] != audio * AUDIO_BYTES for answer in found):
            raise RuntimeError(f"{name} has lost audio: {found}")
    return race.section(
        "full_speed",
        "Socket to handler at full speed: CPU time of a frame. 72 % small frames, 28 % audio of "
        "13 kB, over loopback from another process; the handler counts, the audio is bytes",
        ("µs", 1e6),
        **{"CPU a frame": race.column("cpu_s", 1 / (small + audio))},
    )


def paced(
    rows: list[Row],
    *,
    rounds: int,
    sessions: int = 50,
    seconds: float = 3.0,
    warm: int = 1,
    tls: Certificate | None = None,
    progress: Progress = no_progress,
) -> Section:
    """Measure the share of a core that a session takes at real-time pace."""
    frames = int(60 * sessions * seconds)
    race = _Race(
        (row for row in rows if row.connect is not None),
        {"do": "receive", "sessions": sessions, "clocked": True, "frames": frames},
        {"do": "pace", "rate_hz": 60, "seconds": seconds},
        rounds=rounds,
        warm=warm,
        tls=tls,
        progress=progress,
    )
    return race.section(
        f"paced_{sessions}" + ("_tls" if tls else ""),
        f"Real-time pace{', TLS' if tls else ''}: {sessions} sessions of 60 frames a second in one "
        "process; the same frames, each handled, and its lateness noted, from its sending on",
        ("", 1.0),
        **{
            "% of a core a session": race.column("cpu_s", 100 / seconds / sessions),
            "CPU a frame, µs": race.column("cpu_s", 1e6 / frames),
            "p50, ms": race.column("p50_ms"),
            "p99, ms": race.column("p99_ms"),
        },
    )


def barge_in(rows: list[Row], *, rounds: int, progress: Progress = no_progress) -> Section:
    """Measure how late the start of speech is handled behind audio that is slow to play."""
    race = _Race(
        (row for row in rows if row.connect_slow is not None),
        {"do": "interrupted", "takes_s": 0.005},
        {"do": "backlog", "audio": 200},
        rounds=rounds,
        progress=progress,
    )
    return race.section(
        "barge_in",
        "Barge-in: speech_started, behind 200 audio deltas of 13 kB on the same socket, whose "
        "async handler takes 5 ms each; from sent to handled",
        ("ms", 1e3),
        **{"sent to handled": race.column("late_s")},
    )._replace(by="median")


def idle_memory(
    rows: list[Row], *, sessions: int = 100, progress: Progress = no_progress
) -> Section:
    """Measure the resident memory of an idle session, in fresh processes."""
    race = _Race(
        (row for row in rows if row.connect is not None),
        {"do": "idle", "sessions": sessions},
        None,
        rounds=1,
        warm=0,
        progress=progress,
    )
    return race.section(
        "memory_idle",
        f"Memory: resident bytes of an idle session, the mean of {sessions} in a fresh process",
        ("kB", 1e-3),
        **{"a session": race.column("session_bytes")},
    )


def queued_memory(rows: list[Row], *, progress: Progress = no_progress) -> Section:
    """Measure what a second of audio takes of the memory while it waits for its handler."""
    race = _Race(
        (row for row in rows if row.connect_slow is not None),
        {"do": "queued"},
        {"do": "backlog", "audio": 5 * _QUEUED_S},
        rounds=1,
        warm=0,
        progress=progress,
    )
    return race.section(
        "memory_queued",
        "Memory: resident bytes of a second of audio (64 kB of base64, 48 kB of PCM) that waits "
        f"for a busy handler, the mean of {_QUEUED_S} s in a fresh process",
        ("kB", 1e-3),
        **{"a second": race.column("queued_bytes", 1 / _QUEUED_S)},
    )

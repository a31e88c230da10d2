"""Benchmarks over a loopback socket: full speed, real-time pace, barge-in, memory.

The sender is a process of its own, and so is each row: its CPU time is its library's and its
handler's, from the moment when the sessions are open until the last frame was handled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from ._figures import Figure, Section, figure
from ._handler import Row
from ._processes import Certificate, Client, Sender, is_installed
from ._rows import OURS

__all__ = ["backlog", "full_speed", "idle_memory", "paced", "queued_memory"]

_QUEUED_S = 500  # so much that what the allocator had free before does not matter

Progress = Callable[[], object]
_Answers = dict[str, list[dict[str, Any]]]


def _nothing() -> None:
    """Show no progress."""


def _race(
    rows: Iterable[Row],
    order: dict[str, Any],
    send: dict[str, Any] | None,
    *,
    module: str,
    rounds: int,
    warm: int = 1,
    tls: Certificate | None = None,
    progress: Progress = _nothing,
) -> tuple[_Answers, dict[str, str]]:
    """Let every row run a round in turn; return their answers, and who was left out."""
    answers: _Answers = {}
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        sender = stack.enter_context(Sender(tls))
        clients: dict[str, Client] = {}
        for row in rows:
            if not is_installed(row.needs):
                left_out[row.name] = f"{row.needs} is not installed"
                continue
            clients[row.name] = stack.enter_context(Client(module, row, tls))
        for number in range(warm + rounds):
            for name in [*clients]:
                try:
                    answer = clients[name].run(sender, order, send)
                except (RuntimeError, OSError, ValueError) as error:
                    left_out[name] = f"failed: {error}"
                    del clients[name]
                    answers.pop(name, None)
                    continue
                finally:
                    progress()
                if number >= warm:
                    answers.setdefault(name, []).append(answer)
    return answers, left_out


def _column(answers: _Answers, key: str, scale: float = 1.0) -> dict[str, Figure]:
    return {
        name: figure(answer[key] * scale for answer in found)
        for name, found in answers.items()
        if all(key in answer for answer in found)
    }


def _section(
    name: str,
    title: str,
    unit: tuple[str, float],
    figures: dict[str, dict[str, Figure]],
    rows: Iterable[Row],
    left_out: dict[str, str],
) -> Section:
    rules = {row.name: row.rule for row in rows}
    return Section(name, title, unit, figures, rules, OURS, left_out)


def full_speed(
    rows: list[Row],
    *,
    module: str,
    rounds: int,
    scale: int = 1,
    progress: Progress = _nothing,
) -> Section:
    """Measure the CPU time of a frame when frames come as fast as they are taken."""
    small, audio = 1280 * scale, 500 * scale
    order = {"do": "receive", "sessions": 1, "clocked": False, "frames": small + audio}
    send = {"do": "burst", "small": small, "audio": audio}
    fit = [row for row in rows if row.connect is not None]
    answers, left_out = _race(fit, order, send, module=module, rounds=rounds, progress=progress)
    _check_audio(answers, audio)
    return _section(
        "full_speed",
        "Socket to handler at full speed: CPU time of a frame. 72 % small frames, 28 % audio of "
        "13 kB, over loopback from another process; the handler counts, the audio is bytes",
        ("µs", 1e6),
        {"CPU a frame": _column(answers, "cpu_s", 1 / (small + audio))},
        fit,
        left_out,
    )


def _check_audio(answers: _Answers, frames: int) -> None:
    """Hold every row to the same work."""
    for name, found in answers.items():
        for answer in found:
            if answer["audio_bytes"] != frames * 9600:
                raise RuntimeError(f"{name} has lost audio: {answer}")


def paced(
    rows: list[Row],
    *,
    module: str,
    rounds: int,
    sessions: int = 50,
    seconds: float = 3.0,
    warm: int = 1,
    tls: Certificate | None = None,
    progress: Progress = _nothing,
) -> Section:
    """Measure the share of a core that a session takes at real-time pace."""
    frames = int(60 * sessions * seconds)
    order = {"do": "receive", "sessions": sessions, "clocked": True, "frames": frames}
    send = {"do": "pace", "rate_hz": 60, "seconds": seconds}
    fit = [row for row in rows if row.connect is not None]
    answers, left_out = _race(
        fit, order, send, module=module, rounds=rounds, warm=warm, tls=tls, progress=progress
    )
    return _section(
        f"paced_{sessions}" + ("_tls" if tls else ""),
        f"Real-time pace{', TLS' if tls else ''}: {sessions} sessions of 60 frames a second in one "
        "process; the same "
        "frames, each handled, and its lateness noted, from its sending on",
        ("", 1.0),
        {
            "% of a core a session": _column(answers, "cpu_s", 100 / seconds / sessions),
            "CPU a frame, µs": _column(answers, "cpu_s", 1e6 / frames),
            "p50, ms": _column(answers, "p50_ms"),
            "p99, ms": _column(answers, "p99_ms"),
        },
        fit,
        left_out,
    )


def backlog(rows: list[Row], *, module: str, rounds: int, progress: Progress = _nothing) -> Section:
    """Measure how late the start of speech is handled behind audio that is slow to play."""
    fit = [row for row in rows if row.connect_slow is not None]
    answers, left_out = _race(
        fit,
        {"do": "interrupted", "takes_s": 0.005},
        {"do": "backlog", "audio": 200},
        module=module,
        rounds=rounds,
        progress=progress,
    )
    return _section(
        "barge_in",
        "Barge-in: speech_started, behind 200 audio deltas of 13 kB on the same socket, whose "
        "async handler takes 5 ms each; from sent to handled",
        ("ms", 1e3),
        {"sent to handled": _column(answers, "late_s")},
        fit,
        left_out,
    )._replace(by="median")


def idle_memory(
    rows: list[Row], *, module: str, sessions: int = 100, progress: Progress = _nothing
) -> Section:
    """Measure the resident memory of an idle session, in fresh processes."""
    fit = [row for row in rows if row.connect is not None]
    order = {"do": "idle", "sessions": sessions}
    answers, left_out = _race(fit, order, None, module=module, rounds=1, warm=0, progress=progress)
    return _section(
        "memory_idle",
        f"Memory: resident bytes of an idle session, the mean of {sessions} in a fresh process",
        ("kB", 1e-3),
        {"a session": _column(answers, "session_bytes")},
        fit,
        left_out,
    )


def queued_memory(rows: list[Row], *, module: str, progress: Progress = _nothing) -> Section:
    """Measure what a second of audio takes of the memory while it waits for its handler."""
    fit = [row for row in rows if row.connect_slow is not None]
    answers, left_out = _race(
        fit,
        {"do": "queued"},
        {"do": "backlog", "audio": 5 * _QUEUED_S},
        module=module,
        rounds=1,
        warm=0,
        progress=progress,
    )
    return _section(
        "memory_queued",
        "Memory: resident bytes of a second of audio (64 kB of base64, 48 kB of PCM) that waits "
        f"for a busy handler, the mean of {_QUEUED_S} s in a fresh process",
        ("kB", 1e-3),
        {"a second": _column(answers, "queued_bytes", 1 / _QUEUED_S)},
        fit,
        left_out,
    )

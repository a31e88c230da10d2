"""How fast both halves of an hour are played: ``python -m benchmarks.playback [--smoke]``.

The recording is made up: turns of twelve seconds, microphone audio 50 times a second, spoken
answers with deltas 20 times a second. The local server plays its half over a socket, `drive` sends
the other one; both wait for nothing but each other.
"""

from __future__ import annotations

import argparse
import resource
from base64 import b64encode
from functools import partial
from time import perf_counter, process_time
from typing import Any

import anyio
import msgspec

from realtime_bus.recording import Ended, Header, Line, PlaybackReport, Received, Sent, drive
from realtime_bus.server import Playback, RealtimeServer

_TURN_S = 12.0
_MICROPHONE = b64encode(bytes(960)).decode()
_VOICE = b64encode(bytes(2400)).decode()


def made_up(length_s: float) -> list[Line]:
    """Return a recording of so many seconds."""
    lines: list[Line] = [Header(t_us=0)]

    def add(t_s: float, kind: type[Received | Sent], type_: str, **fields: Any) -> None:
        raw = msgspec.Raw(msgspec.json.encode({"type": type_, **fields}))
        lines.append(kind(t_us=round(t_s * 1e6), frame=raw))

    add(0, Received, "session.created", session={"type": "realtime", "id": "sess"})
    for number in range(int(length_s / _TURN_S)):
        at_s, item = number * _TURN_S, {"item_id": f"item_{number}"}
        shown: dict[str, Any] = {"id": f"resp_{number}", "output": [], "status": "in_progress"}
        about = {**item, "response_id": shown["id"], "output_index": 0, "content_index": 0}
        delta = ("response.output_audio.delta", {**about, "delta": _VOICE})
        for k in range(int(_TURN_S * 50)):
            add(at_s + k / 50, Sent, "input_audio_buffer.append", audio=_MICROPHONE)
        add(at_s + 1, Received, "input_audio_buffer.speech_started", **item)
        add(at_s + 4, Received, "input_audio_buffer.speech_stopped", **item)
        add(at_s + 4, Received, "response.created", response=shown)
        for k in range(100):
            add(at_s + 4.5 + k / 20, Received, delta[0], **delta[1])
        add(at_s + 10, Received, "response.done", response={**shown, "status": "completed"})
    lines[1:] = sorted(lines[1:], key=lambda line: line.t_us)
    return [*lines, Ended(t_us=round(length_s * 1e6), code=1000, clean=True)]


async def play(lines: list[Line]) -> tuple[PlaybackReport, PlaybackReport]:
    """Play both halves against each other; return what became of the server's and the client's."""
    playback = Playback(lines, pace=float("inf"))
    async with RealtimeServer(playback=playback).serve() as bound:
        (client,) = await drive(lines, bound.url_for("any"), pace=float("inf"))
    return playback.reports[0], client


def main() -> None:
    """Play an hour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="two minutes in place of an hour")
    length_s = 120.0 if parser.parse_args().smoke else 3600.0
    lines = made_up(length_s)
    for backend in ("asyncio", "trio"):
        began_s, began_cpu_s = perf_counter(), process_time()
        server, client = anyio.run(partial(play, lines), backend=backend)
        took_s, cpu_s = perf_counter() - began_s, process_time() - began_cpu_s
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{backend:8} {length_s / 60:g} min in {took_s:.1f} s ({cpu_s:.1f} s CPU, both sides, "
            f"reading included), {server.played} and {client.played} frames, at most "
            f"{peak_mb:.0f} MB"
        )
        for report in (server, client):
            assert report.complete, report
            assert not report.deviations, report


if __name__ == "__main__":
    main()

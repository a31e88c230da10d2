"""How long it takes to replay an hour of conversation: ``python -m benchmarks.replay [--smoke]``.

The recording is made up and written to a temporary folder: turns of twelve seconds, microphone
audio 50 times a second, answers with audio 20 times a second, a tool call every fifth turn and an
interruption every third. It runs through a bus with tools, interruption, and a handler for audio.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal

import msgspec

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem
from realtime_bus.recording import (
    Ended,
    Flushed,
    Header,
    Recording,
    RecordingWriter,
    ReplaySink,
    run_replay,
)
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.tools import Tools

_TURN_S = 12.0
_SETTINGS = {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "server_vad"}}}}


class _Tape:
    """Writes a made-up conversation."""

    def __init__(self, path: Path) -> None:
        self._writer = RecordingWriter(path, Header(t_us=0, recording_id=path.stem))
        self._microphone = base64.b64encode(bytes(960)).decode()
        self._voice = base64.b64encode(bytes(2400)).decode()
        self._lines: list[tuple[float, Callable[[int], None]]] = []

    def write(self, length_s: float) -> None:
        """Write it all."""
        self.frame(0, "in", type="session.created", session={"id": "sess", **_SETTINGS})
        tools = {"type": "realtime", "tools": msgspec.to_builtins(_tools().definitions)}
        self.frame(0, "out", type="session.update", session=tools)
        turns = int(length_s / _TURN_S)
        for number in range(turns):
            self._turn(number, number * _TURN_S + 0.1)
            self._flush()
        self._writer.write(Ended(t_us=round(turns * _TURN_S * 1e6), code=1000, clean=True))
        self._writer.close()

    def frame(self, t_s: float, way: Literal["in", "out"], **fields: Any) -> None:
        """Put a frame on the tape."""
        frame = msgspec.json.encode({"type": fields.pop("type"), "event_id": "event_x", **fields})
        self._lines.append((t_s, lambda t_us: self._writer.frame(t_us, way, frame)))

    def _flush(self) -> None:
        for t_s, write in sorted(self._lines, key=lambda line: line[0]):
            write(round(t_s * 1e6))
        self._lines.clear()

    def _turn(self, number: int, t_s: float) -> None:
        user, item, response = f"user_{number}", f"item_{number}", f"resp_{number}"
        cut = number % 3 == 2
        calls = number % 5 == 4 and not cut  # calls of a cancelled response are answered unrun
        for step in range(int(_TURN_S * 50)):
            self.frame(
                t_s + step / 50, "out", type="input_audio_buffer.append", audio=self._microphone
            )
        vad = "input_audio_buffer.speech_"
        self.frame(t_s, "in", type=f"{vad}started", item_id=user, audio_start_ms=0)
        self.frame(t_s + 3, "in", type=f"{vad}stopped", item_id=user, audio_end_ms=3000)
        self.frame(t_s + 3, "in", type="input_audio_buffer.committed", item_id=user)
        about = {"id": response, "object": "realtime.response", "conversation_id": "conv"}
        start: dict[str, Any] = {**about, "status": "in_progress", "output": []}
        self.frame(t_s + 3.4, "in", type="response.created", response=start)
        of = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        end_s = 8.0 if cut else 11.0
        for step in range(int((end_s - 3.5) * 20)):
            now_s = t_s + 3.5 + step / 20
            self.frame(now_s, "in", type="response.output_audio.delta", **of, delta=self._voice)
            if step % 8 == 0:
                name = "response.output_audio_transcript.delta"
                self.frame(now_s, "in", type=name, **of, delta="and so on, ")
        output: list[Any] = [{"type": "message", "id": item, "role": "assistant", "content": []}]
        if cut:
            self._interruption(number, t_s + end_s, item)
        if calls:
            call = {"type": "function_call", "id": f"call_item_{number}", "call_id": f"c{number}"}
            output.append({**call, "name": "look", "arguments": "{}", "status": "completed"})
        done = {**about, "status": "cancelled" if cut else "completed", "output": output}
        self.frame(t_s + end_s + 0.1, "in", type="response.done", response=done)
        if calls:
            answer = {"type": "function_call_output", "call_id": f"c{number}", "output": "nothing"}
            at_s = t_s + end_s + 0.3
            self.frame(at_s, "out", type="conversation.item.create", item=answer)
            self.frame(at_s, "out", type="response.create")
            answer["id"] = f"answer_{number}"
            self.frame(at_s + 0.1, "in", type="conversation.item.added", item=answer)
            more: dict[str, Any] = {**about, "id": f"more_{number}", "output": []}
            created: dict[str, Any] = {**more, "status": "in_progress"}
            self.frame(at_s + 0.2, "in", type="response.created", response=created)
            self.frame(
                at_s + 0.3, "in", type="response.done", response={**more, "status": "completed"}
            )

    def _interruption(self, number: int, t_s: float, item: str) -> None:
        name = "input_audio_buffer.speech_started"
        self.frame(t_s, "in", type=name, item_id=f"cut_{number}", audio_start_ms=0)
        played = PlayedItem(item_id=item, played_ms=4400, written_ms=4500)
        self._lines.append(
            (t_s, lambda t_us: self._writer.write(Flushed(t_us=t_us, items=[played])))
        )
        cut = {"item_id": item, "content_index": 0, "audio_end_ms": 4400}
        self.frame(t_s, "out", type="conversation.item.truncate", **cut)
        self.frame(t_s + 0.05, "in", type="conversation.item.truncated", **cut)


def _tools() -> Tools:
    tools = Tools()

    @tools.tool
    async def look() -> str:  # pyright: ignore[reportUnusedFunction]  # registered
        """Look."""
        return "nothing"

    return tools


def _bus(sink: ReplaySink) -> Bus:
    bus = Bus(plugins=[sink, Interruption(sink), _tools()])

    @bus.on(ev.ResponseOutputAudioTranscriptDelta)
    async def caption(_event: ev.ResponseOutputAudioTranscriptDelta) -> None:  # pyright: ignore[reportUnusedFunction]  # registered
        pass

    return bus


def main() -> None:
    """Write the recording, and replay it on both backends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="two minutes in place of an hour")
    length_s = 120.0 if parser.parse_args().smoke else 3600.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.jsonl"
        _Tape(path).write(length_s)
        began_s = perf_counter()
        lines = sum(1 for _ in Recording(path))
        read_s = perf_counter() - began_s
        size = path.stat().st_size / 1e6
        print(f"{length_s / 60:g} min: {lines} lines, {size:.0f} MB, read in {read_s:.2f} s")
        for backend in ("asyncio", "trio"):
            began_s = process_time()
            report = run_replay(path, _bus, backend=backend)
            cpu_s = process_time() - began_s
            print(
                f"{backend:8} {report.took_s:6.2f} s ({cpu_s:.2f} s CPU), {report.frames} frames, "
                f"{length_s / report.took_s:.0f} times real time, {report.compared} acts compared, "
                f"{len(report.differences)} differences"
            )
            for difference in report.differences[:5]:
                print(f"  {difference}")


if __name__ == "__main__":
    main()

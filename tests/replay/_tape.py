"""Recordings for the tests: a kitchen's assistant on the local server, in virtual time."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink, PlayedItem
from realtime_bus.recording import Ended, Flushed, Header, RecordingWriter
from realtime_bus.server import RealtimeServer, ScriptResponder, ScriptTool, ScriptTurn
from realtime_bus.testing import run_virtual
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.recorder import Recorder
from realtime_bus_plugins.tools import Tools


class TimerSet(ev.AppEvent):
    """The kitchen has a timer."""

    label: str


class BellRang(ev.AppEvent):
    """Somebody is at the door."""

    times: int


SCRIPT = [
    ScriptTurn(
        assistant="Let me see.",
        tools=[ScriptTool(name="set_timer", arguments={"minutes": 9}, call_id="a")],
        text_only=True,
    ),
    ScriptTurn(assistant="Nine minutes.", text_only=True),
    ScriptTurn(assistant="Good bye.", text_only=True),
]


def kitchen(
    sink: AudioSink | None = None,
    *,
    takes_s: float = 2.0,
    answer: str = "timer set",
    tools_in_a_thread: bool = False,
) -> Bus:
    """Return the assistant's bus, as it is or with something changed."""
    tools = Tools()
    bus = Bus(plugins=[tools] if sink is None else [sink, Interruption(sink), tools])

    if tools_in_a_thread:

        @tools.tool(name="set_timer")
        def set_in_a_thread(minutes: float) -> str:  # pyright: ignore[reportUnusedFunction]  # registered
            """Set a timer."""
            return answer

    else:

        @tools.tool
        async def set_timer(minutes: float, session: Session) -> str:  # pyright: ignore[reportUnusedFunction]  # registered
            """Set a timer."""
            await anyio.sleep(takes_s)
            session.emit(TimerSet(label=f"{minutes:g} min"))
            return answer

    return bus


async def talk(session: Session) -> None:
    """Do what the application's main program does: ask, wait, and say good bye."""
    await session.send_text("Nine minutes, please.")
    await session.respond()
    await session.wait_for(ev.ResponseDone, timeout_s=60)
    await anyio.sleep(3)
    await session.send_text("Good bye.")
    await session.respond()


def record(
    folder: Path,
    bus: Bus,
    main: Callable[[Session], Awaitable[object]] = talk,
    *,
    script: list[ScriptTurn] | None = None,
    **settings: Any,
) -> Path:
    """Record a session with the local server; return where."""
    recorder = Recorder(folder)

    async def run() -> Path:
        server = RealtimeServer(ScriptResponder(SCRIPT if script is None else script))
        async with (
            server.connect_memory() as transport,
            bus.session(transport, plugins=[recorder], **settings) as session,
        ):
            await main(session)
        path = recorder.path_of(session)
        assert path is not None
        return path

    return run_virtual(run)


def written(path: Path, *lines: tuple[Any, ...], ends: bool = True) -> Path:
    """Write a recording by hand: (seconds, "in" or "out", frame), or (seconds, line)."""
    writer = RecordingWriter(path, Header(t_us=0, recording_id=path.stem))
    created = {"type": "session.created", "event_id": "e", "session": {"id": "s", **REALTIME}}
    writer.frame(0, "in", msgspec.json.encode(created))
    last_us = 0
    for t_s, *rest in lines:
        last_us = round(t_s * 1e6)
        if len(rest) == 1:
            writer.write(msgspec.structs.replace(rest[0], t_us=last_us))
        else:
            writer.frame(last_us, rest[0], msgspec.json.encode(rest[1]))
    if ends:
        writer.write(Ended(t_us=last_us + 500_000, code=1000, clean=True))
    writer.close()
    return path


REALTIME = {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "server_vad"}}}}


def spoken(t_s: float, number: int, *, length_s: float = 5.0) -> list[tuple[Any, ...]]:
    """Return what the server says of an answer that comes at once, as it is cut off at its end."""
    of = {"response_id": f"r{number}", "item_id": f"i{number}", "output_index": 0}
    response = {"id": f"r{number}", "conversation_id": "c", "output": []}
    audio = base64.b64encode(bytes(48 * round(length_s * 1000))).decode()
    delta = {"type": "response.output_audio.delta", **of, "content_index": 0, "delta": audio}
    created = {**response, "status": "in_progress"}
    return [
        (t_s, "in", {"type": "response.created", "event_id": "e", "response": created}),
        (t_s, "in", {**delta, "event_id": "e"}),
        (t_s, "in", {"type": "response.output_audio.done", **of, "content_index": 0}),
    ]


def speech(t_s: float) -> tuple[Any, ...]:
    """Return that somebody begins to speak."""
    name = "input_audio_buffer.speech_started"
    return (t_s, "in", {"type": name, "item_id": f"u{t_s}", "audio_start_ms": 0})


def cut(t_s: float, number: int, played_ms: int, written_ms: int = 5000) -> list[tuple[Any, ...]]:
    """Return that an answer is cut off: what the sink had heard, and what the server is told."""
    item = PlayedItem(item_id=f"i{number}", played_ms=played_ms, written_ms=written_ms)
    of = {"item_id": f"i{number}", "content_index": 0, "audio_end_ms": played_ms}
    return [
        (t_s, "out", {"type": "conversation.item.truncate", **of}),
        (t_s + 0.0002, Flushed(t_us=0, items=[item])),
        (t_s + 0.05, "in", {"type": "conversation.item.truncated", "event_id": "e", **of}),
    ]

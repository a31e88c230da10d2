"""Recordings for the tests: a kitchen's assistant on the local server, in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus._virtual_time import run_virtual
from realtime_bus.audio import AudioSink
from realtime_bus.recording import Ended, Flushed, Header, RecordingWriter, Told
from realtime_bus.server import RealtimeServer, ScriptResponder, ScriptTool, ScriptTurn
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted
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


class Tape:
    """Write what a session does, on its own clock."""

    def __init__(self, path: Path) -> None:
        self._writer = RecordingWriter(path, Header(t_us=0, recording_id="tape"))

    def attach(self, session: Session) -> None:
        began_s, writer = session.clock(), self._writer

        def t_us() -> int:
            return round((session.clock() - began_s) * 1e6)

        def told(event: ev.BusEvent) -> None:
            fields: Any = msgspec.to_builtins(event, enc_hook=repr)
            del fields["type"]
            if isinstance(event, PlaybackInterrupted):
                writer.write(Flushed(t_us=t_us(), items=[*map(_played, event.items)]))
            app = isinstance(event, ev.AppEvent)
            writer.write(Told(t_us=t_us(), type=event.type, event=fields, application=app))

        def ended() -> None:
            writer.write(Ended(t_us=t_us(), code=1000, clean=True))
            writer.close()

        session.tap(
            received=lambda frame: writer.frame(t_us(), "in", frame),
            sent=lambda frame: writer.frame(t_us(), "out", frame),
        )
        session.on(ev.BusEvent)(told)
        session.on_close(ended)


def _played(item: Any) -> Any:
    from realtime_bus.audio import PlayedItem

    written_ms = item.played_ms + item.discarded_ms
    return PlayedItem(item_id=item.item_id, played_ms=item.played_ms, written_ms=written_ms)


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
        def set_in_a_thread(minutes: float) -> str:  # pyright: ignore[reportUnusedFunction]
            """Set a timer."""
            return answer

    else:

        @tools.tool
        async def set_timer(minutes: float, session: Session) -> str:  # pyright: ignore[reportUnusedFunction]
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
    path: Path,
    bus: Bus,
    main: Callable[[Session], Awaitable[object]] = talk,
    *,
    script: list[ScriptTurn] | None = None,
    **settings: Any,
) -> Path:
    """Record a session with the local server."""

    async def run() -> None:
        server = RealtimeServer(ScriptResponder(SCRIPT if script is None else script))
        async with (
            server.connect_memory() as transport,
            bus.session(transport, plugins=[Tape(path)], **settings) as session,
        ):
            await main(session)

    run_virtual(partial(run))
    return path

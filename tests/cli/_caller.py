"""An application with many calls: `python -m tests.cli._caller URL BACKEND HOW`, to be signalled.

HOW is ``receiver``, as an application does that wants to end in good order on SIGTERM, too, or
``plain``: Python's own KeyboardInterrupt.
"""

from __future__ import annotations

import signal
import sys

import anyio
import anyio.abc

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus_plugins.history import History
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.sinks import NullSink

CALLS = 20


async def call(url: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """Speak and be spoken to, without end."""
    sink = NullSink()
    async with Bus(plugins=[sink, Interruption(sink), History()]).connect(url) as session:

        @session.on(ev.ResponseOutputAudioDelta)
        async def slow(_: ev.ResponseOutputAudioDelta) -> None:
            await anyio.sleep(0.01)

        heard = session.wait_for(ev.ResponseOutputAudioDelta)
        session.start_soon(speak, session)
        await heard
        task_status.started()
        await session.wait_closed()


async def speak(session: Session) -> None:
    """Ask for an answer, and go on speaking over it."""
    session.respond()
    while True:
        await session.append_audio(bytes(4800))
        await anyio.sleep(0.1)


async def main(url: str, how: str) -> None:
    """Call, until a signal comes."""
    async with anyio.create_task_group() as tasks:
        for _ in range(CALLS):
            await tasks.start(call, url)
        print("calling", flush=True)  # noqa: T201  # the test waits for it
        if how == "receiver":
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                print("listening", flush=True)  # noqa: T201  # so that nothing is lost
                async for _ in signals:
                    tasks.cancel_scope.cancel()
                    break


if __name__ == "__main__":
    # a shell's background job, as CI may be, ignores SIGINT, and Python then does the same
    signal.signal(signal.SIGINT, signal.default_int_handler)
    anyio.run(main, sys.argv[1], sys.argv[3], backend=sys.argv[2])

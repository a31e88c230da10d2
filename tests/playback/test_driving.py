"""The client's half of a recorded session drives a server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from realtime_bus._virtual_time import virtual_time
from realtime_bus.errors import UsageError
from realtime_bus.recording import Line, PlaybackReport, drive
from realtime_bus.server import EchoResponder, EnergyDetector, Playback, RealtimeServer
from realtime_bus.transport import MemoryTransport, memory_transport_pair

from ._agent import cook_server, recorded
from ._tape import audio, event, tape

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run in virtual time."""
    return virtual_time(request.param)


async def driven(
    lines: list[Line] | Path, server: RealtimeServer, **options: Any
) -> list[PlaybackReport]:
    """Drive a server without a socket."""
    async with AsyncExitStack() as stack:

        async def connect() -> MemoryTransport:
            return await stack.enter_async_context(server.connect_memory())

        return await drive(lines, connect, **options)


async def test_the_same_server_answers_the_same() -> None:
    """A conversation with a tool call and a barge-in, again against the server that had it."""
    lines, _ = await recorded()
    (report,) = await driven(lines, cook_server())
    assert report.complete
    # where a cut answer's captions end depends on which of two things comes first in a moment
    assert {each.path.rpartition(".")[2] for each in report.deviations} <= {"transcript"}


async def test_a_recording_drives_its_own_other_half() -> None:
    """Both halves of a recording over a transport: nothing differs on either side."""
    lines, _ = await recorded()
    playback = Playback(lines)
    (report,) = await driven(lines, RealtimeServer(playback=playback))
    assert report.deviations == (), str(report)
    assert playback.reports[0].deviations == ()
    assert report.complete
    assert playback.reports[0].complete


async def test_another_server_is_told_apart() -> None:
    """Where the person speaks over the answer stays; what is answered is told line by line."""
    lines, _ = await recorded()
    server = RealtimeServer(EchoResponder(), detector_factory=EnergyDetector)
    (report,) = await driven(lines, server, patience_s=3)
    told = str(report)
    assert "missing: response.function_call_arguments.done" in told
    assert "changed: response.output_item.added item.type" not in told  # another kind is another
    assert {each.kind for each in report.deviations} >= {"missing", "unexpected"}


@asynccontextmanager
async def double(answer: Callable[[MemoryTransport, bytes], None]) -> AsyncGenerator[Any]:
    """Yield what connects with a server that answers each frame like this."""
    ours, theirs = memory_transport_pair()

    async def connect() -> MemoryTransport:
        return theirs

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ours.run, partial(answer, ours))
        yield connect
        tasks.cancel_scope.cancel()


ASKED = tape(
    "s session.created",
    ("c session.update", {"session": {"type": "realtime"}}),
    "s session.updated",
    ("c input_audio_buffer.append", audio(100)),
    ("s input_audio_buffer.speech_started", {"item_id": "item_u"}),
    ("c conversation.item.delete", {"item_id": "item_u"}),
)


async def test_a_server_that_says_nothing_is_given_up() -> None:
    """All that makes sense without it is sent; the rest is left out, and what is missing told."""
    async with double(lambda _transport, _frame: None) as connect:
        began_s = anyio.current_time()
        (report,) = await drive(ASKED, connect, patience_s=5)
        assert 5 <= anyio.current_time() - began_s <= 30
    assert report.played == 2
    assert [f"{each.kind} {each.type}" for each in report.deviations] == [
        "missing session.created",
        "missing session.updated",
        "missing input_audio_buffer.speech_started",
        "left_out conversation.item.delete",
    ]


async def test_a_server_that_hangs_up_has_ended_it() -> None:
    """What it closed with is in the report."""
    async with double(
        lambda transport, _frame: transport.end(1011, "tired")  # as the peer sees it
    ) as connect:
        (report,) = await drive(ASKED, connect, patience_s=5)
    assert not report.complete


async def test_a_server_of_garbage_harms_nobody() -> None:
    """Frames that are none are told, a few thousand of them, and the end comes."""

    def flood(transport: MemoryTransport, _frame: bytes) -> None:
        for _ in range(2000):
            transport.send(b"{")
            transport.send(b'{"type":"session.updated","session":[[[]]]}')

    async with double(flood) as connect:
        (report,) = await drive(ASKED, connect, patience_s=5)
    assert len(report.deviations) < 1010


async def test_the_microphone_is_never_silent_while_it_waits() -> None:
    """A server that hears more slowly gets silence, not a gap; then the words go on."""
    heard: list[float] = []

    def answer(transport: MemoryTransport, frame: bytes) -> None:
        command = event(frame)
        if command["type"] == "input_audio_buffer.append":
            heard.append(len(command["audio"]) * 3 / 4 / 48)
            if sum(heard) - heard[-1] <= 3000 < sum(heard):
                transport.send(b'{"type":"input_audio_buffer.speech_started","item_id":"u"}')

    speech = [("c input_audio_buffer.append", audio(100)) for _ in range(20)]
    started = ("s input_audio_buffer.speech_started", {"item_id": "item_u"})
    lines = tape("s session.created", *speech[:10], started, *speech[10:])
    async with double(answer) as connect:
        (report,) = await drive(lines, connect, patience_s=5)
    assert report.complete
    assert sum(heard) > 3000
    assert set(heard) == {20.0, 100.0}
    assert [str(each.type) for each in report.deviations] == ["session.created"]


async def test_misuse_is_told_at_once() -> None:
    """Before anything is connected."""
    with pytest.raises(UsageError, match="nothing from a client"):
        await drive(tape("s session.created"), "ws://127.0.0.1:9/")
    with pytest.raises(UsageError, match="pace must be above 0"):
        await drive(ASKED, "ws://127.0.0.1:9/", pace=0)
    with pytest.raises(UsageError, match="api_key is empty"):
        await drive(ASKED, "ws://127.0.0.1:9/", api_key="")

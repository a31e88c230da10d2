"""A server that makes up ids, sends too much, or never says what is waited for."""

from __future__ import annotations

import gc
import io
import json
import tracemalloc
from time import process_time
from typing import Any

import anyio
import pytest

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.audio import AcknowledgedSink
from realtime_bus.codec import _decode
from realtime_bus.session import _conversation, _requests
from realtime_bus.transport import PushTransport
from realtime_bus_plugins import _turns
from realtime_bus_plugins._rules import _observed
from realtime_bus_plugins.event_log import EventLog
from realtime_bus_plugins.interruption import Interruption, PlaybackStarted
from realtime_bus_plugins.protocol_check import ProtocolCheck
from realtime_bus_plugins.sinks import NullSink, WavSink
from realtime_bus_plugins.tools import Tools, _rounds
from realtime_bus_plugins.turn_metrics import TurnMetrics

from ._wire import Clock, session_on

pytestmark = [pytest.mark.anyio, pytest.mark.breaks_rules("*")]


def made_up(number: int) -> list[dict[str, Any]]:
    """Return what a server says of a response, an item and a call that never were before."""
    place = {"response_id": f"resp_{number}", "item_id": f"item_{number}", "content_index": number}
    call = {"type": "function_call", "id": f"item_{number}", "call_id": f"call_{number}"}
    item = call | {"name": "nobody", "arguments": "{}", "status": "completed"}
    return [
        {"type": "response.created", "response": {"id": f"resp_{number}"}},
        {"type": "response.output_item.done", "response_id": f"resp_{number}", "item": item},
        {"type": "conversation.item.added", "item": item},
        {"type": "response.output_audio.delta", **place, "delta": "AAAA"},
        {"type": "response.output_audio_transcript.delta", **place, "delta": "word"},
        {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 1, "item_id": f"u_{number}"},
        {"type": "input_audio_buffer.committed", "item_id": f"u_{number}"},
        {"type": f"made.up.{number}"},
    ]


BOUNDS: dict[Any, tuple[str, ...]] = {
    _conversation: ("_MAX_ITEMS", "_MAX_RESPONSES"),
    _decode: ("_MAX_KINDS",),
    _observed: ("_MAX_KNOWN", "_MAX_UNDO"),
    _requests: ("_MAX_UNAWAITED",),
    _rounds: ("_MAX_CALLS",),
    _turns: ("_MOST_KNOWN", "_MOST_RESPONSES"),
}
"""What holds in thousands is brought down, so that it is reached soon."""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_memory_is_flat_however_many_ids_a_server_makes_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind the bounds of every plugin and of the session, more ids change nothing."""
    for module, names in BOUNDS.items():
        for name in names:
            monkeypatch.setattr(module, name, 60)
    transport, clock = PushTransport(send=len), Clock()
    sink = NullSink(clock=clock)
    log = EventLog(file=io.StringIO(), level="error")
    plugins = [ProtocolCheck(), log, sink, Interruption(sink), TurnMetrics(), Tools()]
    async with Bus(log_errors=False).session(
        transport, wait_created=False, plugins=plugins
    ) as session:
        await anyio.wait_all_tasks_blocked()

        async def flood(start: int, count: int) -> None:
            for number in range(start, start + count):
                for plain in made_up(number):
                    transport.feed(json.dumps(plain).encode())
                if number % 50 == 0:
                    clock.now_s += 10
                    await anyio.wait_all_tasks_blocked()
            gc.collect()

        tracemalloc.start()
        await flood(0, 120)
        before = tracemalloc.get_traced_memory()[0]
        await flood(120, 200)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert session.close_info is None
    assert grown < 80_000  # 400 bytes for what a response, an item and a call have left


async def test_a_response_with_too_many_calls_is_answered() -> None:
    """Calls beyond the bound are declined, each once; the others run."""
    tools, ran = Tools(), list[int]()

    @tools.tool
    async def count(n: int) -> None:
        """Count."""
        ran.append(n)

    def call(number: int) -> ev.FunctionCallItem:
        return ev.FunctionCallItem(
            id=f"i{number}", call_id=f"c{number}", name="count", arguments=f'{{"n":{number}}}'
        )

    async with session_on(tools) as (_, wire):
        response = ev.Response(id="r", conversation_id="conv", status="completed")
        wire.feed(ev.ResponseCreated(response=response))
        for number in range(500):
            wire.feed(ev.ResponseOutputItemDone(response_id="r", item=call(number)))
        calls = [call(number) for number in range(500)]
        done = ev.Response(id="r", conversation_id="conv", status="completed", output=calls)
        wire.feed(ev.ResponseDone(response=done))
        for _ in range(20):
            await anyio.wait_all_tasks_blocked()
        answered = [e.item.call_id for e in wire.sent if isinstance(e, ev.ConversationItemCreate)]
    assert sorted(answered) == sorted(f"c{number}" for number in range(500))
    assert sorted(ran) == list(range(72))  # eight at once, 64 wait


async def test_one_timer_however_much_changes_while_the_model_is_owed_a_response() -> None:
    """Each event moves the moment at which the model is asked all the same; none adds a task."""
    tools = Tools()

    @tools.tool
    async def look() -> str:
        """Look."""
        return "seen"

    started = list[str]()
    async with session_on(tools) as (session, wire):
        begin = session.start_soon

        def note(function: Any, *args: object) -> None:
            started.append(function.__name__)
            begin(function, *args)

        session.start_soon = note  # type: ignore[method-assign]  # to count
        call = ev.FunctionCallItem(id="i", call_id="c", name="look", arguments="{}")
        done = ev.Response(id="r", conversation_id="conv", status="completed", output=[call])
        wire.interrupt()
        wire.feed(ev.ResponseCreated(response=ev.Response(id="r", conversation_id="conv")))
        wire.feed(ev.ResponseDone(response=done))
        await anyio.wait_all_tasks_blocked()
        for _ in range(300):
            wire.interrupt()
        assert started.count("_wait") == 1


@pytest.mark.parametrize("make", [NullSink, WavSink])
async def test_a_sink_that_is_full_drops_what_comes(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Half an hour of audio waits at most; what is dropped is counted, and told once."""
    clock = Clock()
    sink = make(clock=clock)
    minute = bytes(60 * 48_000)
    for _ in range(40):
        sink.write(minute, item_id="a")
    assert sink.remaining_s == 30 * 60
    assert sink.dropped_bytes == 10 * len(minute)
    assert sum("nobody" in line or "anybody" in line for line in caplog.messages) == 1
    clock.now_s += 60
    sink.write(minute, item_id="a")
    assert sink.remaining_s == 30 * 60
    assert [part.written_ms for part in sink.flush()] == [31 * 60_000]


async def test_a_line_that_acknowledges_nothing_is_forgotten_slowly() -> None:
    """The account of what was sent is bounded; the rest of it is right."""
    sink = AcknowledgedSink(send=list.__class__, clear=list, piece_ms=1)
    sink.write(bytes(48 * 25_000), item_id="a")
    assert sink.playing
    sink.on_played("a", 24_000)
    (part,) = sink.positions()
    assert (part.played_ms, part.written_ms) == (24_000, 25_000)


async def test_items_that_are_queued_by_the_thousand_are_not_all_announced() -> None:
    """Of what waits in the sink, 64 items are waited for: a task each, and no more."""
    clock = Clock()
    sink = NullSink(clock=clock)
    heard = list[str]()
    async with session_on(sink, Interruption(sink)) as (session, wire):
        session.on(PlaybackStarted)(lambda event: heard.append(event.item_id))
        wire.respond()
        for number in range(500):
            wire.speak(bytes(4800), item_id=f"item_{number}")
        await anyio.wait_all_tasks_blocked()
        assert session.statistics() is not None
        clock.now_s += 3600
        wire.interrupt()
    assert len(heard) <= 64


@pytest.mark.parametrize("text", ["a-" * 4000, "api_key" * 1200, '"' * 9000, "sk-" * 3000])
async def test_a_long_text_does_not_hold_up_the_log(text: str) -> None:
    """What looks nearly like keys, over and over, is looked at in no time."""
    file = io.StringIO()
    async with session_on(EventLog(file=file, level="debug", texts=True)) as (_, wire):
        started_s = process_time()
        for _ in range(20):
            wire.feed(ev.ConversationItemDeleted(item_id=text[:500]))
            wire.feed(ev.ResponseOutputTextDelta(response_id="r", item_id=text[:512], delta=text))
        assert process_time() - started_s < 1
    assert max(map(len, file.getvalue().splitlines())) < 1000

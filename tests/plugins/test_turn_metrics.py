"""Turn metrics in a session: which events make a turn, and when it is told."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from realtime_bus import events as ev
from realtime_bus.server import RealtimeServer, Text, ToolCall
from realtime_bus_plugins.interruption import Interruption, PlaybackStarted
from realtime_bus_plugins.sinks import NullSink
from realtime_bus_plugins.turn_metrics import TurnCompleted, TurnMetrics

from .._checked import checked_bus  # noqa: TID252  # tests are no package with a name of its own
from ._wire import Clock, session_on

pytestmark = pytest.mark.anyio

SECOND = bytes(48_000)
STOPPED = ev.InputAudioBufferSpeechStopped(audio_end_ms=1000, item_id="u")


@pytest.fixture
def clock() -> Clock:
    """Return a clock that the test moves."""
    return Clock()


def collect(session: Any) -> list[TurnCompleted]:
    """Collect the session's turns."""
    turns: list[TurnCompleted] = []
    session.on(TurnCompleted)(turns.append)
    return turns


async def test_a_spoken_turn_that_is_interrupted(clock: Clock) -> None:
    """Speech, answer, heard, interrupted: all times are on the plugin's clock."""
    sink = NullSink(clock=clock)
    metrics = TurnMetrics(clock=clock)
    async with session_on(sink, Interruption(sink), metrics) as (session, wire):
        turns = collect(session)
        wire.feed(STOPPED)
        clock.now_s += 0.5
        wire.respond()
        wire.speak(SECOND)
        with anyio.fail_after(60):
            await session.wait_for(PlaybackStarted)
        clock.now_s += 0.25
        wire.interrupt()
        assert turns == []
        wire.finish()
        [turn] = turns
    assert (turn.origin, turn.item_id, turn.response_ids) == ("speech", "u", ["r"])
    assert (turn.first_audio_s, turn.audio_to_heard_s, turn.heard_s) == (0.5, 0.0, 0.5)
    assert turn.interrupted
    assert turn.barge_in_latency_s is not None
    assert 0 < turn.barge_in_latency_s < 30


async def test_a_turn_is_told_when_its_audio_has_been_played() -> None:
    """On the real clock, the turn is over a little after its response."""
    sink = NullSink()
    async with session_on(sink, Interruption(sink), TurnMetrics()) as (session, wire):
        completed = session.wait_for(TurnCompleted)
        wire.feed(STOPPED)
        wire.respond()
        wire.speak(SECOND[:2400])
        wire.finish()
        with anyio.fail_after(60):
            turn = await completed
        assert not sink.playing
    assert turn.first_audio_s is not None
    assert turn.heard_s is not None
    assert 0 <= turn.first_audio_s <= turn.heard_s < 30
    assert not turn.interrupted


async def test_open_turns_are_told_before_the_session_is_closed(clock: Clock) -> None:
    """The last turn is not lost; no event follows Closed."""
    order: list[str] = []
    async with session_on(TurnMetrics(clock=clock)) as (session, wire):
        session.on(TurnCompleted, ev.Closed)(lambda event: order.append(event.type))
        wire.feed(STOPPED)
        wire.respond()
        wire.speak(SECOND)
    assert order == ["bus.turn_completed", "bus.closed"]


async def test_idle_turns_and_calls(clock: Clock) -> None:
    """An idle timeout begins a turn; in a call the server tells what is heard."""
    async with session_on(TurnMetrics(clock=clock)) as (session, wire):
        turns = collect(session)
        wire.feed(
            ev.InputAudioBufferTimeoutTriggered(audio_start_ms=0, audio_end_ms=5000, item_id="u")
        )
        wire.respond()
        clock.now_s += 1.0
        wire.feed(ev.OutputAudioBufferStarted(response_id="r"))
        wire.finish()
        assert turns == []
        wire.feed(ev.OutputAudioBufferStopped(response_id="r"))
        wire.feed(STOPPED)
        wire.respond("r2", "b")
        wire.feed(ev.OutputAudioBufferStarted(response_id="r2"))
        wire.finish("r2", "b")
        wire.feed(ev.OutputAudioBufferCleared(response_id="r2"))
    assert [(t.origin, t.heard_s, t.interrupted) for t in turns] == [
        ("idle", 1.0, False),
        ("speech", 0.0, True),
    ]


async def test_what_is_raw_data_is_no_failure(clock: Clock) -> None:
    """A response that is no object is in no turn."""
    async with session_on(TurnMetrics(clock=clock)) as (session, wire):
        turns = collect(session)
        wire.feed(STOPPED)
        wire.respond()
        wire.transport.feed(b'{"type":"response.done","response":{"id":"r","output":3,"usage":[]}}')
        [turn] = turns
        assert (turn.usage, turn.status) == (None, None)


class Clerk:
    """A responder that calls a tool, then writes what came of it."""

    async def respond(self, request: Any) -> Any:
        """Call first, and answer once the output is there."""
        if any(isinstance(item, ev.FunctionCallOutputItem) for item in request.items):
            yield Text("It is nine.")
        elif request.items:
            yield ToolCall("time", "{}", "call_1")
        else:
            yield Text("Good evening.")


async def test_written_turns_with_the_local_server() -> None:
    """A greeting, a question with a tool call, and one out of band: two turns in all."""
    bus = checked_bus(TurnMetrics())
    turns: list[TurnCompleted] = []
    bus.on(TurnCompleted)(turns.append)
    server = RealtimeServer(Clerk())
    async with server.connect_memory() as transport, bus.session(transport) as session:
        await session.update(output_modalities=["text"])
        await session.respond()
        question = await session.send_text("What time is it?")
        await session.respond()
        await session.create_item(ev.FunctionCallOutputItem(call_id="call_1", output="21:00"))
        await session.respond()
        await session.respond(conversation="none", input=[])
    greeting, answer = turns
    assert (greeting.origin, greeting.tool_round_trips) == ("request", 0)
    assert greeting.first_text_s is not None
    assert (answer.origin, answer.item_id) == ("text", question.item.id)
    assert (len(answer.response_ids), answer.tool_round_trips) == (2, 1)
    assert answer.usage is not None
    assert (answer.usage.total_tokens or 0) > 0


async def test_a_commit_by_hand_with_the_local_server() -> None:
    """Push to talk: the turn counts from the commit, and has the committed item."""
    bus = checked_bus(TurnMetrics())
    turns: list[TurnCompleted] = []
    bus.on(TurnCompleted)(turns.append)
    server = RealtimeServer(Clerk())
    async with server.connect_memory() as transport, bus.session(transport) as session:
        await session.update(output_modalities=["text"], turn_detection=None)
        await session.append_audio(SECOND)
        committed = await session.commit_input()
        await session.respond()
    [turn] = turns
    assert (turn.origin, turn.item_id) == ("commit", committed.item_id)

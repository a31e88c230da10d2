"""What a handler in a worker can do with its session, beside asking its holder."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from benchmarks.broker import NatsServer
from realtime_bus import SessionClosed, UsageError
from realtime_bus import events as ev
from realtime_bus_plugins.fanout import RemoteSession, Whereabouts
from tests.bus._peer import speech, word
from tests.fanout.test_workers import Until, holding, worker

pytestmark = pytest.mark.anyio


class ToolRan(ev.AppEvent):
    """A tool has run in a worker."""

    name: str


async def test_handlers_wait_stream_and_listen_in_their_session(
    broker: NatsServer, app: str
) -> None:
    """`wait_for`, `stream`, `on` and `once` of one session; they end with it."""
    bus, told = worker(broker, app), Until()

    @bus.on(ev.SessionCreated)
    async def begin(_event: ev.SessionCreated, session: RemoteSession) -> None:
        told("session", session)
        words = session.stream(ev.ResponseOutputTextDelta)
        session.once(ev.ResponseOutputTextDelta)(lambda event: told("once", event.delta))
        waiting = session.wait_for("input_audio_buffer.speech_started", timeout_s=60)
        session.start_soon(read, words)
        told("started", (await waiting).audio_start_ms)

    async def read(words: Any) -> None:
        async for event in words:
            told("word", event.delta)
        told("over", True)

    async with bus, holding(broker, app) as (_, session, peer):
        (_, remote), *_ = await told.has(1)
        peer.say(word("a"), word("b"), speech(5))
        await told.has(5)
        await session.aclose()
        got = await told.has(6)
        assert [what for what in got if what[0] == "word"] == [("word", "a"), ("word", "b")]
        assert {("once", "a"), ("started", 5), ("over", True)} <= set(got[1:])
        with anyio.fail_after(60):
            while bus.sessions:  # noqa: ASYNC110  # nothing tells
                await anyio.sleep(0.01)
        with pytest.raises(SessionClosed):
            remote.start_soon(anyio.sleep, 0)


async def test_what_a_worker_publishes_is_emitted_where_the_session_is(
    broker: NatsServer, app: str
) -> None:
    """The holder's handlers get it, and through it those of all groups."""
    one, other, got, here = worker(broker, app), worker(broker, app, group="h"), Until(), Until()
    other.on(ToolRan)(got.event)

    @one.on(ev.InputAudioBufferSpeechStarted)
    async def run(_event: ev.InputAudioBufferSpeechStarted, session: RemoteSession) -> None:
        await session.publish(ToolRan(name="weather"))

    async with one, other, holding(broker, app) as (_, session, peer):
        session.on(ToolRan)(here.event)
        peer.say(speech(1))
        assert (await got.has(1))[0].name == "weather"
        assert len(here.got) == 1


async def test_trace_context_comes_along(broker: NatsServer, app: str) -> None:
    """Headers of the application's own are with each event; a state is made for each session."""
    bus, got = worker(broker, app, state=lambda session: f"state of {session.id}"), Until()

    @bus.on(ev.InputAudioBufferSpeechStarted)
    async def look(_event: ev.InputAudioBufferSpeechStarted, session: RemoteSession) -> None:
        arrival = session.arrival()
        assert arrival is not None
        got((arrival, session.state))

    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with (
        bus,
        holding(broker, app, trace=lambda _: {"traceparent": parent}) as (_, _session, peer),
    ):
        peer.say(speech(3))
        ((arrival, state),) = await got.has(1)
    assert arrival.headers["traceparent"] == parent
    assert arrival.payload == speech(3).to_json()
    assert not arrival.repeated
    assert state == "state of sess_1"


async def test_whereabouts_tell_how_it_goes(broker: NatsServer, app: str) -> None:
    """Who holds it, whether somebody speaks, and in the end how it closed."""
    async with worker(broker, app) as bus:
        async with holding(broker, app) as (fanout, _session, peer):
            remote = bus.session("sess_1")
            peer.say(speech(1))
            now = await remote.whereabouts()
            assert (now.holder, now.state, now.listening) == (fanout.holder_id, "open", True)
            peer.hang_up(1011, "server error")
        found = await bus.find("sess_1")
        assert isinstance(found, Whereabouts)
        assert (found.state, found.close_code, found.close_reason) == (
            "closed", 1011, "server error",
        )  # fmt: skip
        assert await bus.find("nobody") is None
        with pytest.raises(UsageError, match="do not come here"):
            remote.wait_for("response.done")


@pytest.mark.parametrize("name", ["a.b c*>\u00e9\U0001f600", "x" * 1000, " ", "=2E"])
async def test_a_session_is_called_in_workers_what_its_holder_calls_it(
    broker: NatsServer, app: str, name: str
) -> None:
    """Whatever its id is, a handler can give it to others, and they find it."""
    bus, got = worker(broker, app), Until()

    @bus.on(ev.InputAudioBufferSpeechStarted)
    async def look(_event: ev.InputAudioBufferSpeechStarted, session: RemoteSession) -> None:
        got(session.id, (await bus.session(session.id).whereabouts()).session_id)

    async with bus, holding(broker, app, name) as (_, _session, peer):
        peer.say(speech(1))
        assert await got.has(1) == [(name, name)]

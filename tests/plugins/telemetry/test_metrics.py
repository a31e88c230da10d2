"""Sessions as metrics: what is counted, for whom, and that counters never fall."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Generator
from typing import Any
from weakref import ref

import anyio
import pytest

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.server import RealtimeServer, Text
from realtime_bus.transport import PushTransport

from .._wire import Wire, session_on  # noqa: TID252  # tests are no package with a name of its own
from ._sdk import Told, told

pytestmark = pytest.mark.anyio

LIMITS = ev.RateLimitsUpdated(rate_limits=[])


@pytest.fixture
def sdk() -> Generator[Told]:
    """Give an SDK, and see that every span has an end."""
    with told() as found:
        yield found


def events(sdk: Told, direction: str) -> dict[str, int]:
    """Return how many events were counted, by type."""
    return {
        about["realtime_bus.event.type"]: count
        for about, count in sdk.metrics().get("realtime_bus.events", [])
        if about["realtime_bus.direction"] == direction
    }


async def test_events_by_type(sdk: Told) -> None:
    """Also those that nobody listens to, and both ways; what no protocol has counts together."""
    async with session_on(sdk.telemetry()) as (session, wire):
        wire.feed(LIMITS, LIMITS)
        session.send_nowait(ev.InputAudioBufferAppend(audio=bytes(480)))
        assert session.statistics().frames_skipped == 2
        for frame in (
            {"type": "made.up.1"},
            {"type": "made.up.2"},
            {"event_id": "e", "type": "rate_limits.updated", "rate_limits": []},
            {"type": "response.audio.done", "response_id": "r", "item_id": "i"},
            ["no", "object"],
        ):
            wire.transport.feed(json.dumps(frame).encode())
        wire.transport.feed(b"\xff" * 1000)
        wire.transport.feed(b'{"type":"' + b"x" * 1000)
        assert events(sdk, "received") == {
            "session.created": 1,
            "rate_limits.updated": 3,
            "response.audio.done": 1,
            "_OTHER": 5,
        }
        assert events(sdk, "sent") == {"input_audio_buffer.append": 1}
        statistics = session.statistics()
        assert sdk.total("realtime_bus.io", realtime_bus_direction="received") == (
            statistics.bytes_received
        )
        assert sdk.total("realtime_bus.drift", realtime_bus_drift_kind="unknown_variant") == 2


async def test_what_handlers_go_through(sdk: Told) -> None:
    """Calls, time, failures, what waits and what was dropped, by handler."""
    bus = Bus(plugins=[sdk.telemetry()], drain_timeout_s=0.0)
    began, forever = anyio.Event(), anyio.Event()

    @bus.on(ev.RateLimitsUpdated, name="plain")
    def plain(_event: ev.RateLimitsUpdated) -> None:
        raise ValueError

    @bus.on(ev.RateLimitsUpdated, name="slow", mode="queue")
    async def slow(_event: ev.RateLimitsUpdated) -> None:
        began.set()
        await forever.wait()

    wire = Wire()
    wire.begin()
    async with bus.session(wire.transport):
        wire.feed(LIMITS, LIMITS, LIMITS)
        await began.wait()
        of_plain, of_slow = ({"realtime_bus_handler": name} for name in ("plain", "slow"))
        assert sdk.total("realtime_bus.handler.calls", **of_plain) == 3
        assert sdk.total("realtime_bus.handler.failures", **of_plain) == 3
        assert sdk.total("realtime_bus.handler.time", **of_plain) > 0
        assert sdk.total("realtime_bus.handler.pending", **of_slow) == 3
        assert sdk.total("realtime_bus.handler.drops", **of_slow) == 0
    assert sdk.total("realtime_bus.handler.drops", **of_slow) == 3
    assert sdk.total("realtime_bus.handler.pending", **of_slow) == 0
    assert sdk.total("realtime_bus.handler.calls", **of_plain) == 3


async def test_counters_go_on_from_session_to_session(sdk: Told) -> None:
    """What ended sessions have counted stays, whether anybody collected meanwhile or not."""
    telemetry = sdk.telemetry()  # attached by two buses: it is the same to measure
    for number in range(1, 5):
        async with session_on(telemetry) as (_session, wire):
            wire.feed(LIMITS)
            assert sdk.total("realtime_bus.sessions") == 1
            if number % 2:
                assert events(sdk, "received")["rate_limits.updated"] == number
        assert sdk.total("realtime_bus.sessions") == 0
        assert events(sdk, "received")["rate_limits.updated"] == number
    [(about, (count, _))] = sdk.metrics()["realtime_bus.session.duration"]
    assert (about, count) == ({}, 4)


async def test_sessions_that_have_ended_are_forgotten(sdk: Told) -> None:
    """Whether anybody collects or not; what they counted is not."""
    telemetry = sdk.telemetry()
    forgotten: list[ref[Session]] = []
    for _ in range(5):
        async with session_on(telemetry) as (session, _wire):
            forgotten.append(ref(session))
        del session, _wire
    gc.collect()
    assert [session() for session in forgotten] == [None] * 5
    assert events(sdk, "received") == {"session.created": 5}


async def test_several_plugins_of_one_provider(sdk: Told) -> None:
    """Given to each call anew, they count into the same instruments."""
    for number in range(1, 4):
        async with session_on(sdk.telemetry()) as (_session, wire):
            wire.feed(LIMITS)
            assert events(sdk, "received") == {
                "session.created": number,
                "rate_limits.updated": number,
            }


async def test_complaints_are_bounded(sdk: Told) -> None:
    """Codes that a server makes up are no time series without end, in one session or in many."""
    telemetry = sdk.telemetry()
    for each in range(3):
        async with session_on(telemetry) as (_session, wire):
            for number in range(200):
                details = ev.ErrorDetails(type="t", message="m", code=f"code_{each}_{number}")
                wire.feed(ev.Error(error=details))
            wire.feed(ev.Error(error=ev.ErrorDetails(type="t", message="m", code="x" * 10_000)))
    points = sdk.metrics()["realtime_bus.errors"]
    assert len(points) == 257
    assert sum(count for _, count in points) == 603
    assert max(len(about["error.type"]) for about, _ in points) < 65


async def test_a_lost_session_is_an_error(sdk: Told) -> None:
    """One that broke is told from one that was closed."""
    wire = Wire()
    wire.begin()
    async with Bus(plugins=[sdk.telemetry()]).session(wire.transport) as session:
        wire.transport.end(1006, "gone")
        await session.wait_closed()
    [(about, _)] = sdk.metrics()["realtime_bus.session.duration"]
    assert about == {"error.type": "1006"}


class Chatty:
    """A responder that says a lot."""

    async def respond(self, _request: Any) -> Any:
        """Write many deltas."""
        for _ in range(50):
            yield Text("word ")


async def test_collecting_in_another_thread(sdk: Told) -> None:
    """An exporter collects while sessions come, go and work, and nothing is lost or raised."""
    bus = Bus(plugins=[sdk.telemetry()], raise_handler_errors=True)
    server, ended = RealtimeServer(Chatty()), threading.Event()
    failures: list[BaseException] = []

    @bus.on(ev.ResponseOutputTextDelta)
    async def hear(_event: ev.ResponseOutputTextDelta) -> None:
        await anyio.lowlevel.checkpoint()

    def collect() -> None:
        try:
            while not ended.is_set():
                sdk.metrics()
        except BaseException as error:  # noqa: BLE001  # whatever it is, the test tells it
            failures.append(error)

    exporter = threading.Thread(target=collect)
    exporter.start()
    try:
        for _ in range(3):
            async with anyio.create_task_group() as calling:
                for _ in range(4):
                    calling.start_soon(converse, bus, server)
    finally:
        ended.set()
        exporter.join()
    assert failures == []
    assert events(sdk, "received")["response.done"] == 24
    assert sdk.total("realtime_bus.sessions") == 0


async def converse(bus: Bus, server: RealtimeServer) -> None:
    """Have two responses, and handlers that come and go."""
    async with (
        server.connect_memory() as transport,
        bus.session(transport, output_modalities=["text"]) as session,
    ):
        for _ in range(2):
            session.once(ev.ResponseDone)(lambda _event: None)
            await session.respond()


async def test_a_transport_of_ones_own(sdk: Told) -> None:
    """A session whose begin was read already is measured, too."""
    transport = PushTransport(send=lambda _frame: None)
    bus = Bus(plugins=[sdk.telemetry()], raise_handler_errors=True)
    async with bus.session(transport, wait_created=False) as session:
        fed = session.wait_for(ev.RateLimitsUpdated, timeout_s=60)
        transport.feed(LIMITS.to_json())
        await fed
        assert events(sdk, "received") == {"rate_limits.updated": 1}

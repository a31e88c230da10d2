"""The server with faults on order: over sockets and in memory, as a client sees it."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import trio.testing
from anyio.abc import TaskStatus

from realtime_bus import Bus
from realtime_bus import events as ev
from realtime_bus.errors import AuthenticationError, UpgradeRefused, UsageError
from realtime_bus.server import (
    EnergyDetector,
    FaultPlan,
    RealtimeServer,
    ResponderRequest,
    ServerOptions,
    Speech,
    Text,
    faults,
)

from ._client import client_on, connected

pytestmark = pytest.mark.anyio

OVER = pytest.mark.parametrize("over", ["socket", "memory"])


class Speaker:
    """A responder that speaks ten seconds, as fast as it may."""

    async def respond(self, request: ResponderRequest) -> AsyncIterator[Speech | Text]:
        """Speak, or write."""
        for number in range(20):
            yield Speech(bytes(24_000), f"La {number} ") if request.wants_audio else Text("La ")


def server(*planned: faults.AnyFault, seed: int = 0, **options: Any) -> RealtimeServer:
    """Return a server on which this goes wrong."""
    return RealtimeServer(
        Speaker(),
        options=ServerOptions(**{"pace": float("inf"), **options}),
        detector_factory=EnergyDetector,
        faults=FaultPlan(planned, seed=seed),
    )


@contextlib.asynccontextmanager
async def client_of(served: RealtimeServer, over: str, **options: Any) -> AsyncIterator[Any]:
    """Be a client over a socket or in memory."""
    if over == "memory":
        async with served.connect_memory() as transport, client_on(transport) as client:
            yield client
    else:
        async with served.serve() as bound, connected(bound.url_for("m"), **options) as client:
            yield client


@OVER
@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_is_cut_at_an_event(over: str, reset: bool) -> None:
    """That event still comes, then nothing more, and no close frame."""
    served = server(faults.Drop(at="response.output_audio.delta", nth=3, reset=reset))
    async with client_of(served, over) as client:
        client.send(ev.ResponseCreate())
        close = await client.closed()
    assert (close.code, close.clean) == (1006, False)
    assert len(client.all(ev.ResponseOutputAudioDelta)) == 3
    assert isinstance(client.events[-1], ev.ResponseOutputAudioDelta)
    assert [fired.kind for fired in served.faults_fired] == ["drop"]
    assert (served.statistics().faults, served.statistics().failed) == (1, 0)
    if over == "socket":
        was_reset = isinstance(close.error, ConnectionResetError | anyio.BrokenResourceError)
        assert was_reset is reset


@OVER
@pytest.mark.parametrize("code", [1000, 1001, 1005, 1011, 1012, 1013, 3000])
async def test_a_connection_is_closed_at_an_event(over: str, code: int) -> None:
    """With any code, and with none, which is seen as 1005."""
    reason = "" if code == 1005 else "as ordered"
    served = server(faults.Close(on="response.create", code=code, reason=reason))
    async with client_of(served, over) as client:
        await client.get(ev.SessionCreated)
        client.send(ev.ResponseCreate())
        close = await client.closed()
    assert (close.code, close.reason, close.clean) == (code, reason, True)
    assert client.all(ev.ResponseCreated) == []


@OVER
async def test_upgrades_are_refused_so_many_times(over: str) -> None:
    """With the status that was ordered; then one is let in, and a later one is refused again."""
    served = server(
        faults.Refuse(status=503, times=2),
        faults.Refuse(status=401, connection=4),
    )
    for status, error in ((503, UpgradeRefused), (503, UpgradeRefused), (0, None)):
        if error is None:
            async with client_of(served, over) as client:
                await client.get(ev.SessionCreated)
        else:
            with pytest.raises(error) as caught:
                await client_of(served, over).__aenter__()
            assert caught.value.status == status
    with pytest.raises(AuthenticationError):
        await client_of(served, over).__aenter__()
    assert [fired.connection for fired in served.faults_fired] == [1, 2, 4]
    assert (served.statistics().refused, served.statistics().served) == (3, 1)


async def test_a_half_open_connection_answers_no_ping() -> None:
    """The client's keepalive finds it; a stalled server that still answers is not found so."""
    half_open = server(faults.HalfOpen(at="session.created"))
    async with client_of(half_open, "socket", ping_interval_s=0.05, ping_timeout_s=0.05) as client:
        close = await client.closed()
    assert (close.clean, type(close.error)) == (False, TimeoutError)
    assert client.all(ev.SessionCreated)
    stalled = server(faults.Stall(at="session.created", for_s=0.3))
    async with client_of(stalled, "socket", ping_interval_s=0.05, ping_timeout_s=0.2) as client:
        client.send(ev.SessionUpdate(session=ev.RealtimeSessionRequest()))
        await client.get(ev.SessionUpdated)
        assert client.close is None


async def test_a_stalled_session_can_be_closed() -> None:
    """The server stops in good order, whatever was held back."""
    served = server(faults.Stall(at="session.created"))
    stop = anyio.Event()

    async def serve(*, task_status: TaskStatus[str]) -> None:
        async with served.serve() as bound:
            task_status.started(bound.url_for("m"))
            await stop.wait()

    async with anyio.create_task_group() as tasks:
        async with connected(await tasks.start(serve)) as client:
            await client.get(ev.SessionCreated)
            client.send(ev.ResponseCreate())
            stop.set()
            assert (await client.closed()).code == 1001
    assert client.all(ev.ResponseCreated) == []


async def test_what_a_stalled_session_holds_is_bounded() -> None:
    """It speaks no further than ``max_outgoing_bytes``, and goes on when it may."""
    served = server(faults.Stall(on="response.create", for_s=0.2), max_outgoing_bytes=128 * 1024)
    async with client_of(served, "memory") as client:
        await client.get(ev.SessionCreated)
        client.send(ev.ResponseCreate())
        response = (await client.get(ev.ResponseDone)).response
    assert response.status == "completed"
    assert sum(len(each.delta) for each in client.all(ev.ResponseOutputAudioDelta)) == 480_000


async def test_a_server_that_reads_slowly() -> None:
    """The client's frames pile up on its side, and all of them arrive."""
    served = server(faults.SlowRead(bytes_per_s=1_000_000))
    size = 100_000
    async with client_of(served, "memory") as client:
        await client.get(ev.SessionCreated)
        begun_s = time.monotonic()
        for number in range(3):
            audio = bytes(size)
            client.send(ev.InputAudioBufferAppend(audio=audio, event_id=f"event_{number}"))
        client.send(ev.InputAudioBufferCommit())
        assert client.transport.buffered_bytes > 2 * size
        committed = await client.get(ev.InputAudioBufferCommitted)
        assert time.monotonic() - begun_s > 0.3
    assert committed.item_id


@OVER
async def test_one_session_is_told_to_go_wrong(over: str) -> None:
    """A test has it done to a session that is open, and nothing happens to the others."""
    served = server()
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(served, over))
        await client.get(ev.SessionCreated)
        (session,) = served.sessions
        other = await stack.enter_async_context(client_of(served, "memory"))
        await other.get(ev.SessionCreated)
        session.inject(faults.Duplicate(at="session.updated"))
        for each in (client, other):
            each.send(ev.SessionUpdate(session=ev.RealtimeSessionRequest()))
        await client.get(ev.SessionUpdated, nth=2)
        session.inject(faults.Close(code=1012))
        assert (await client.closed()).code == 1012
        assert (other.close, len(other.all(ev.SessionUpdated))) == (None, 1)
        with pytest.raises(UsageError, match="'refuse' is for the server's"):
            served.sessions[-1].inject(faults.Refuse())
    with pytest.raises(UsageError, match="has ended"):
        session.inject(faults.Drop())
    assert [fired.kind for fired in served.faults_fired] == ["duplicate", "close"]


async def test_each_fault_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With the seed that makes it happen again."""
    caplog.set_level(logging.INFO)
    async with client_of(server(faults.Lose(at="session.created"), seed=77), "memory") as client:
        client.send(ev.SessionUpdate(session=ev.RealtimeSessionRequest()))
        await client.get(ev.SessionUpdated)
    (line,) = (record.getMessage() for record in caplog.records if "fault" in record.getMessage())
    assert all(part in line for part in ("lose", "session.created", "77"))


def test_a_short_life() -> None:
    """``expires_at`` tells it; then comes the error, and a close with 1001; others live on."""

    async def main() -> None:
        served = server(faults.ShortLife(after_s=90, connection=1), session_life_s=600)
        for connection, life_s in ((1, 90), (2, 600)):
            begun_s, now = anyio.current_time(), time.time()
            async with (
                served.connect_memory() as transport,
                Bus(log_errors=False).session(transport) as session,
            ):
                assert session.config.expires_at == pytest.approx(now + life_s, abs=2)
                said = session.wait_for("error")
                close = await session.wait_closed()
            assert (await said).error.code == "session_expired"
            assert (close.code, anyio.current_time() - begun_s) == (1001, pytest.approx(life_s))
            assert [fired.kind for fired in served.faults_fired] == ["short_life"]
            assert served.faults_fired[0].at_s == pytest.approx(90), connection

    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(main, backend="trio", backend_options={"clock": clock})


def test_latency_and_order_of_a_whole_conversation() -> None:
    """Everything comes later, some things overtake, and a session understands all of it."""

    async def main() -> None:
        plan = FaultPlan.from_seed(
            5, kinds=[faults.Reorder, faults.Unknown, faults.Malform], within_s=1
        )
        served = RealtimeServer(
            Speaker(),
            options=ServerOptions(pace=1),
            detector_factory=EnergyDetector,
            faults=FaultPlan((*plan.faults, faults.Delay(latency_s=2, jitter_s=1)), seed=5),
        )
        async with (
            served.connect_memory() as transport,
            Bus(log_errors=False).session(transport) as session,
        ):
            begun_s = anyio.current_time()
            reply = session.respond()
            words = "".join([word async for word in reply.text()])
            assert (await reply).status == "completed"
            assert words == "".join(f"La {number} " for number in range(20))
            assert 11 < anyio.current_time() - begun_s < 14
        assert {fired.kind for fired in served.faults_fired} >= {"delay", "reorder"}

    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(main, backend="trio", backend_options={"clock": clock})


async def test_every_seed_makes_a_server_that_stands() -> None:
    """Whatever was ordered, no session fails, and the server goes on."""
    for seed in range(5):
        plan = FaultPlan.from_seed(seed, within_s=0.05)
        served = RealtimeServer(
            Speaker(),
            options=ServerOptions(pace=float("inf")),
            detector_factory=EnergyDetector,
            faults=plan,
        )
        async with served.serve() as bound:
            for _ in range(2):
                with contextlib.suppress(UpgradeRefused, AuthenticationError):
                    async with connected(bound.url_for("m"), close_timeout_s=0.05) as client:
                        client.send(ev.ResponseCreate())
                        with anyio.move_on_after(0.1):
                            await client.get(ev.ResponseDone)
            assert served.statistics().failed == 0, seed

"""Time that passes only while everybody waits, on both backends."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from realtime_bus import _virtual_time
from realtime_bus._virtual_time import Backend, VirtualTimeLoop, run_virtual, virtual_time

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs a function in virtual time."""
    backend: Backend = request.param
    return lambda function: run_virtual(function, backend=backend)


def test_a_day_passes_in_no_time(run: Run) -> None:
    """A sleep ends at its very time, and costs none."""

    async def main() -> float:
        began_s = anyio.current_time()
        await anyio.sleep(86_400)
        return anyio.current_time() - began_s

    began_s = time.monotonic()
    assert run(main) == 86_400
    assert time.monotonic() - began_s < 5


def test_timers_are_called_in_their_order_and_at_their_times(run: Run) -> None:
    """Whoever waits shorter is called first, however long nobody has anything to do between."""
    woken: list[float] = []

    async def wake_at(at_s: float) -> None:
        await anyio.sleep_until(at_s)
        assert anyio.current_time() == at_s
        woken.append(at_s)

    async def main() -> None:
        now_s = anyio.current_time()
        times = [now_s + delay_s for delay_s in (5, 0.02, 3600, 0.04, 0.021, 1e6, 1 / 3, 7e-7)]
        async with anyio.create_task_group() as tasks:
            for at_s in times:
                tasks.start_soon(wake_at, at_s)
        assert woken == sorted(times)

    run(main)


def test_deadlines_are_kept(run: Run) -> None:
    """What takes longer than it may is cancelled at its deadline, shielded ends are waited for."""

    async def main() -> None:
        began_s = anyio.current_time()
        with anyio.move_on_after(2):
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(3)
        assert anyio.current_time() - began_s == 5
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.5):
                await anyio.Event().wait()
        assert anyio.current_time() - began_s == 5.5

    run(main)


def test_what_can_run_runs_before_time_passes(run: Run) -> None:
    """A thousand steps of two tasks are one moment."""
    turns = 0

    async def play(mine: anyio.Event, at_s: float) -> None:
        nonlocal turns
        await mine.wait()
        for _ in range(500):
            await anyio.lowlevel.checkpoint()
            turns += 1
            assert anyio.current_time() == at_s

    async def main() -> None:
        begin, now_s = anyio.Event(), anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play, begin, now_s)
            tasks.start_soon(play, begin, now_s)
            tasks.start_soon(anyio.sleep, 1e-6)
            begin.set()

    run(main)
    assert turns == 1000


def test_the_clock_waits_for_a_thread(run: Run) -> None:
    """What is done in worker threads, takes no time; nobody's timer is called meanwhile."""
    go_on = threading.Event()

    async def main() -> None:
        began_s = anyio.current_time()
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await anyio.sleep(1)
                ticks += 1

        def work() -> int:
            go_on.wait(0.05)  # long enough for millions of ticks
            return ticks

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            await anyio.sleep(0.5)
            for limiter in (None, anyio.CapacityLimiter(1)):
                assert await anyio.to_thread.run_sync(work, limiter=limiter) == 0
            assert anyio.current_time() - began_s == 0.5
            tasks.cancel_scope.cancel()

    run(main)


def test_the_clock_waits_for_asyncios_own_threads() -> None:
    """`asyncio.to_thread` counts as anyio's does."""

    async def main() -> float:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 3600)
            await asyncio.to_thread(time.sleep, 0.05)
            tasks.cancel_scope.cancel()
        return anyio.current_time()

    assert run_virtual(main) == 0


def test_a_thread_that_waits_for_time_to_pass_is_not_waited_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a moment of patience the clock goes on, for others too, and without further ado."""
    monkeypatch.setattr(_virtual_time, "THREAD_PATIENCE_S", 0.05)

    def work() -> None:
        for _ in range(3):
            anyio.from_thread.run(anyio.sleep, 10)

    async def main() -> float:
        began_s = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, work)
            for _ in range(100):
                await anyio.sleep(0.1)
        return anyio.current_time() - began_s

    assert run(main) == pytest.approx(30)


def test_the_clock_does_not_run_ahead_of_a_socket(run: Run) -> None:
    """Bytes on their way over the loopback arrive before the timeout of who waits for them."""

    async def serve(stream: Any) -> None:
        async with stream:
            while True:
                try:
                    await stream.send(await stream.receive())
                except anyio.EndOfStream:
                    return

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  # not Django's
            tasks.start_soon(listener.serve, serve)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                for _ in range(50):
                    with anyio.fail_after(0.001):
                        await stream.send(b"ping")
                        assert await stream.receive() == b"ping"
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        await listener.aclose()

    run(main)


def test_without_a_timer_it_waits_for_the_world() -> None:
    """A loop that has nothing to jump to waits for a socket as any other does."""
    ours, theirs = socket.socketpair()

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        ours.setblocking(False)
        threading.Timer(0.02, theirs.send, [b"x"]).start()
        return await loop.sock_recv(ours, 1)

    with ours, theirs:
        assert run_virtual(main) == b"x"


def test_time_goes_on_in_a_run_that_fails(run: Run) -> None:
    """What is raised comes out, and the next run begins anew."""

    async def fail() -> None:
        await anyio.sleep(7)
        raise LookupError

    with pytest.raises(LookupError):
        run(fail)
    test_a_day_passes_in_no_time(run)


@pytest.mark.anyio
class TestUnderPytest:
    """It works through anyio's plugin for pytest."""

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
        """Run in virtual time."""
        return virtual_time(request.param)

    @pytest.fixture
    async def an_hour_later(self) -> float:
        """Return the time, an hour after the start."""
        await anyio.sleep(3600)
        return anyio.current_time()

    async def test_fixtures_and_tests_share_the_clock(self, an_hour_later: float) -> None:
        """A fixture's sleep costs nothing, either."""
        assert anyio.current_time() == an_hour_later
        await anyio.sleep(3600)
        assert anyio.current_time() == an_hour_later + 3600
        await anyio.to_thread.run_sync(time.sleep, 0.01)
        assert anyio.current_time() == an_hour_later + 3600


def test_it_is_a_loop_factory() -> None:
    """`asyncio.Runner` takes it, too."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(asyncio.sleep(1000))
        assert runner.get_loop().time() == 1000

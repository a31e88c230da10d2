"""The command as a process of its own: how it ends, under load, and what it refuses to begin."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.abc
import pytest

from realtime_bus import events as ev
from realtime_bus.cli import _app as app
from tests.server._client import Client, connected
from tests.server._world import speech

pytestmark = pytest.mark.anyio

CLIENTS = 20


@contextlib.asynccontextmanager
async def serving(backend: str, *options: str) -> AsyncIterator[tuple[Any, str]]:
    """Run ``realtime-bus serve`` as a process; give it, and where it listens."""
    command = [sys.executable, "-W", "error", "-m", "realtime_bus", "serve", "--port", "0"]
    command += ["--backend", backend, "--answer", "echo", *options]
    process = await anyio.open_process(command, stderr=subprocess.STDOUT)
    try:
        assert process.stdout is not None
        line = b""
        with anyio.fail_after(60):
            while b"\n" not in line:
                line += await process.stdout.receive()
        assert b"listening at ws://" in line, line
        yield process, line.split()[2].decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _talk(
    url: str, clients: list[Client], *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    """Be spoken to, and go on speaking, until the server closes."""
    async with connected(url) as client:
        clients.append(client)
        client.transport.send(
            b'{"type":"session.update","session":{"type":"realtime",'
            b'"audio":{"input":{"turn_detection":null}}}}'
        )
        client.send(ev.InputAudioBufferAppend(audio=speech(10_000)))
        client.send(ev.InputAudioBufferCommit(), ev.ResponseCreate())
        await client.get(ev.ResponseOutputAudioDelta)
        task_status.started()
        with contextlib.suppress(Exception):  # it is closed in the middle of it
            while True:
                client.send(ev.InputAudioBufferAppend(audio=speech(100)))
                await client.transport.drain()
                await anyio.sleep(0.02)
        await client.closed()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("anyio_backend", "number"),
    [("asyncio", signal.SIGINT), ("trio", signal.SIGTERM)],
    ids=str,
)
async def test_a_signal_closes_every_client_in_good_order(
    anyio_backend: str, number: signal.Signals
) -> None:
    """Twenty clients that speak and are spoken to see 1001, and the process ends with 0."""
    clients: list[Client] = []
    async with serving(anyio_backend, "--pace", "4") as (process, url):
        async with anyio.create_task_group() as tasks:
            for _ in range(CLIENTS):
                await tasks.start(_talk, url, clients)
            process.send_signal(number)
        with anyio.fail_after(60):
            assert await process.wait() == 0
    assert [client.close.code for client in clients if client.close] == [1001] * CLIENTS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("anyio_backend", "number"), [("asyncio", signal.SIGTERM), ("trio", signal.SIGINT)], ids=str
)
async def test_a_second_signal_ends_it_at_once(anyio_backend: str, number: signal.Signals) -> None:
    """Even where a client that does not hang up would be waited for."""
    async with serving(anyio_backend) as (process, url):
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(connected(url))
            await client.get(ev.SessionCreated)
            client.transport.pause()  # it reads no close frame
            process.send_signal(number)
            with anyio.move_on_after(0.3):
                await process.wait()
            assert process.returncode is None
            process.send_signal(number)
            with anyio.fail_after(60):
                assert await process.wait() == -number  # not what it ends with by itself


@pytest.mark.parametrize("key", ["", " "])
def test_an_empty_key_admits_nobody(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It comes of a shell variable that is not set; the server does not begin."""
    assert app.run(["serve", "--api-key", key]) == 2
    assert "'--api-key': it is empty" in capsys.readouterr().err

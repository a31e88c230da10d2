"""``realtime-bus demo --web``: the page's server, an agent behind it, and a page of the test's."""

from __future__ import annotations

import json
import sys
import webbrowser

import anyio
import pytest
from websockets.asyncio.client import connect

from realtime_bus import MissingExtra, RealtimeBusError, UsageError
from realtime_bus.cli._demo._web import WebOptions, run_web


@pytest.fixture
def anyio_backend() -> str:
    """Uvicorn runs on asyncio."""
    return "asyncio"


@pytest.mark.anyio
async def test_a_page_is_greeted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser is opened where the page is; the assistant speaks, and stops when it is to."""
    opened: list[str] = []
    said: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_web, WebOptions(), said.append)
            while not opened:  # noqa: ASYNC110 - a thread does it
                await anyio.sleep(0.01)
            assert said == [f"talk at {opened[0]} (end with Ctrl-C)"]
            async with connect(opened[0].replace("http", "ws") + "call") as page:
                await page.send('{"type": "hello"}')
                while not isinstance(frame := await page.recv(), bytes):
                    pass
                assert len(frame) > 1000
                await page.send('{"type": "interrupt"}')
                while '"flush"' not in str(frame := await page.recv()):
                    pass
                await page.send(json.dumps({**json.loads(frame), "type": "flushed", "position": 0}))
                await page.close()
            while not any(line.startswith("a call is over: 1000") for line in said):  # noqa: ASYNC110 - the command's lines tell nobody
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert any(line.startswith("interrupted: silent in") for line in said)


@pytest.mark.anyio
async def test_what_cannot_work_is_said() -> None:
    """A port that is taken, and an address that others reach."""
    with anyio.fail_after(60):
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as taken:
            port = taken.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
            with pytest.raises(RealtimeBusError, match=f"cannot listen at 127.0.0.1:{port}"):
                await run_web(WebOptions(port=port, open_browser=False), print)
        with pytest.raises(UsageError, match="other machines reach it"):
            await run_web(WebOptions(host="0.0.0.0", open_browser=False), print)  # noqa: S104 - refused


@pytest.mark.anyio
async def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said, before anything is opened."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtra, match=r"realtime-bus\[browser\]"):
        await run_web(WebOptions(open_browser=False), print)

"""The application of docs/telephony.md, as it stands there, with a caller."""

from __future__ import annotations

import re

import anyio
import pytest

from realtime_bus.server import EnergyDetector, RealtimeServer, ScriptResponder, ScriptTurn
from tests.docs._blocks import ROOT, blocks

from ._phone import dialled, stopped
from ._served import serving

pytestmark = pytest.mark.anyio


async def test_the_ten_lines_of_the_page_answer_a_call() -> None:
    """Only the model's name is another: the local server's address."""
    [example] = [
        block.code
        for block in blocks()
        if block.page == ROOT / "docs" / "telephony.md" and "async def answer" in block.code
    ]
    server = RealtimeServer(
        ScriptResponder([ScriptTurn(assistant="Good evening.")]), detector_factory=EnergyDetector
    )
    async with server.serve() as bound:
        scope: dict[str, object] = {}
        here, replaced = re.subn(r'"gpt-realtime[^"]*"', repr(bound.url_for("any")), example)
        assert replaced == 1
        exec(here, scope)  # noqa: S102  # our own page
        async with serving(scope["app"]) as url, dialled(f"{url}/twilio") as phone:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(phone.run)
                with anyio.fail_after(60):
                    while len(phone.playout.heard) < 8 * 200:  # noqa: ASYNC110  # time is the condition
                        await anyio.sleep(0.01)
                    await phone.send(stopped())
                    await phone.closed.wait()
    assert len(set(phone.playout.heard)) > 20, "a voice"
    assert phone.socket.close_code == 1000

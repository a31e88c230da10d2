"""The commands that look after sessions of many processes, as processes of their own."""

from __future__ import annotations

import io
import json
import sys

import anyio
import pytest
from rich.console import Console

from benchmarks.broker import NatsServer
from realtime_bus import UsageError
from realtime_bus.cli._fleet import (
    FleetOptions,
    plain,
    run_hang_up,
    run_sessions,
    run_watch,
    table_of,
)
from realtime_bus_plugins.fanout import BrokerUnreachable, Fleet, Held, Whereabouts
from tests.bus._peer import word
from tests.fanout.test_workers import holding

pytestmark = pytest.mark.anyio


def options(broker: NatsServer, app: str) -> FleetOptions:
    """Return what the commands are told."""
    return FleetOptions(app, broker.url, None)


async def test_sessions_are_listed_and_one_is_hung_up(
    broker: NatsServer, app: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a table and as JSON; hanging up ends the session where it is held."""
    odd = "sess_[bold]\x1b[2J"
    async with holding(broker, app, odd) as (_, session, _peer):
        async with Fleet(app, servers=broker.url) as fleet:
            while not fleet.sessions:
                await fleet.changed()
        await run_sessions(options(broker, app), once=False, as_json=True)
        row = json.loads(capsys.readouterr().out)
        assert (row["session_id"], row["state"]) == (odd, "open")
        await run_sessions(options(broker, app), once=True, as_json=False)
        shown = capsys.readouterr().out
        assert "sess_[bold]" in shown
        assert "\x1b[2J" not in shown
        await run_hang_up(options(broker, app), odd, code=1000, reason="enough")
        assert "has ended" in capsys.readouterr().out
        with anyio.fail_after(60):
            assert (await session.wait_closed()).reason == "enough"


@pytest.mark.slow
async def test_one_is_followed_until_it_ends(broker: NatsServer, app: str) -> None:
    """Each event is a line, both ways; the command ends with the session."""
    async with holding(broker, app) as (_, session, peer):
        async with Fleet(app, servers=broker.url) as fleet:
            while not fleet.sessions:
                await fleet.changed()
            whole = [sys.executable, "-m", "realtime_bus", "watch", app, "sess_1"]
            async with await anyio.open_process([*whole, "--broker", broker.url]) as process:
                assert process.stdout is not None
                text = b""
                with anyio.fail_after(60):
                    while b"output_text" not in text:  # from when it listens
                        peer.say(word("hello"))
                        with anyio.move_on_after(0.05):
                            text += await process.stdout.receive()
                    await session.aclose()
                    async for more in process.stdout:
                        text += more
                    assert await process.wait() == 0
        assert b"bus.closed" in text


async def test_what_is_not_there_is_said(broker: NatsServer, app: str) -> None:
    """A session that nobody knows, a name that cannot be, and a broker that is not there."""
    async with holding(broker, app):
        with pytest.raises(UsageError, match="not known"):
            await run_hang_up(options(broker, app), "nobody", code=1000, reason="")
        with pytest.raises(UsageError, match="not known"):
            await run_watch(options(broker, app), "nobody", full=False)
    with pytest.raises(UsageError, match="no application 'tpyo'"):
        await run_sessions(options(broker, "tpyo"), once=True, as_json=False)
    with pytest.raises(UsageError, match="cannot be part of a subject"):
        await run_sessions(options(broker, "a.b"), once=True, as_json=False)
    with pytest.raises(
        BrokerUnreachable, match=r"no broker with JetStream at 127\.0\.0\.1:1 within"
    ):
        async with Fleet(app, servers="nats://u:secret@127.0.0.1:1", open_timeout_s=0.2):
            pass


def test_a_narrow_terminal_has_the_ids_whole() -> None:
    """At 60 columns there is no room for who holds them; what does not fit is counted."""
    ids = ["sess_CAbcdefghijklmnopqrs", "CA0123456789abcdef0123456789abcdef", "x" * 90]
    sessions = [
        Held(Whereabouts(session_id=each, holder="h-1", since=-number), lives=True, host="host-1")
        for number, each in enumerate(ids)
    ]
    for width, holder in ((60, False), (160, True)):
        output = io.StringIO()
        table = table_of(sessions, 0.0, width=width, rows=2)
        Console(file=output, width=width).print(table)
        shown = output.getvalue()
        assert ids[0] in shown
        assert "2 of 3 sessions" in shown
        assert ("h-1" in shown) == holder
        assert max(map(len, shown.splitlines())) <= width


def test_control_characters_are_no_text() -> None:
    """Nothing that a terminal would obey is printed."""
    assert plain("a\x1b[31mb\u202ec\nd") == "a\ufffd[31mb\ufffdc\ufffdd"

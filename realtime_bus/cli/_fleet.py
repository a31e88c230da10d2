"""Looking after sessions of many processes: a live table, following one, and ending one.

What is shown comes from servers, callers and other processes: control characters are taken out, so
that none of it reaches the terminal as more than text.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from realtime_bus import UsageError
from realtime_bus_plugins.fanout import Fleet, Followed, Held

_SIDES = {"server": "<", "client": ">", "bus": "·"}
_STYLES = {"open": "green", "reconnecting": "yellow", "closed": "dim", "lost": "red"}
_REFRESH_S = 1.0
_LEAST_WIDTH = {"host": 140, "holder": 120, "model": 100, "events": 70}  # of the terminal
_WRAPPED = {"session", "now"}  # whole: an id is copied from here


class FleetOptions(NamedTuple):
    """Where an application's sessions are looked up.

    Attributes:
        app: The application's name.
        broker: The brokers' addresses, divided by commas.
        credentials: A file of NATS credentials, or None.
    """

    app: str
    broker: str
    credentials: Path | None

    def open(self) -> Fleet:
        """Return what knows them; not connected yet."""
        connect: dict[str, Any] = {}
        if self.credentials is not None:
            connect["user_credentials"] = str(self.credentials)
        return Fleet(self.app, servers=self.broker, connect=connect)


def plain(text: str) -> str:
    """Return a text without what a terminal would take for more than text."""
    return "".join(char if char.isprintable() else "�" for char in text)


def state_of(held: Held) -> str:
    """Return how a session is: ``lost`` is one that is open, but whose holder has died."""
    where = held.where
    return where.state if held.lives or where.state == "closed" else "lost"


def table_of(
    sessions: list[Held], now_s: float, *, width: int = 120, rows: int | None = None
) -> Table:
    """Return a table of sessions, those that have ended last.

    Args:
        sessions: All of them.
        now_s: In seconds since 1970.
        width: Of the terminal: a narrow one has fewer columns.
        rows: How many of them there is room for.
    """
    order = sorted(sessions, key=lambda held: (held.where.state == "closed", -held.where.since))
    shown = order[:rows]
    title = f"{len(shown)} of {len(order)} sessions" if len(shown) < len(order) else None
    every = ("session", "state", "for", "holder", "host", "model", "events", "now")
    columns = [column for column in every if width >= _LEAST_WIDTH.get(column, 0)]
    table = Table(box=None, title=title, title_justify="left")
    for column in columns:
        table.add_column(column, no_wrap=column not in _WRAPPED, overflow="fold")
    for held in shown:
        cells = _cells(held, now_s)
        table.add_row(*(cells[column] for column in columns))
    return table


def _cells(held: Held, now_s: float) -> dict[str, Text]:
    where, state = held.where, state_of(held)
    seconds = max(0, int((where.updated if state == "closed" else now_s) - where.since))
    doing = "speaks" if where.responding else "hears" if where.listening else ""
    if state == "closed":
        doing = f"{where.close_code} {where.close_reason}"
    return {
        "session": Text(plain(where.session_id)),
        "state": Text(state, _STYLES.get(state, "")),
        "for": Text(f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"),
        "holder": Text(plain(where.holder)),
        "host": Text(plain(held.host)),
        "model": Text(plain(where.model)),
        "events": Text(str(where.events)),
        "now": Text(plain(doing)),
    }


def row_of(held: Held) -> dict[str, Any]:
    """Return a session as a line of JSON has it."""
    where = held.where
    return {
        "session_id": where.session_id,
        "state": state_of(held),
        "holder": where.holder,
        "host": held.host,
        "model": where.model,
        "since": where.since,
        "events": where.events,
        "close_code": where.close_code if where.state == "closed" else None,
    }


async def run_sessions(options: FleetOptions, *, once: bool, as_json: bool) -> None:
    """Show who holds what, until that is ended; or once."""
    async with options.open() as fleet:
        if as_json:
            for held in fleet.sessions:
                typer.echo(json.dumps(row_of(held)))
            return
        console = Console()
        if once or not sys.stdout.isatty():
            console.print(table_of(fleet.sessions, time.time(), width=console.width))
            return
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                size = console.size
                table = table_of(
                    fleet.sessions, time.time(), width=size.width, rows=max(1, size.height - 3)
                )
                live.update(table, refresh=True)
                with anyio.move_on_after(_REFRESH_S):
                    await fleet.changed()
                await anyio.sleep(0.1)  # a busy fleet changes all the time


def line_of(followed: Followed, *, full: bool) -> str:
    """Return an event as a line."""
    at = time.strftime("%H:%M:%S", time.localtime(followed.published_at))
    ms = int(followed.published_at * 1000) % 1000
    payload = followed.payload.decode("utf-8", "replace")
    shown = payload if full else _short(payload)
    return plain(f"{at}.{ms:03} {_SIDES.get(followed.side, '?')} {followed.wire_name}  {shown}")


def _short(payload: str) -> str:
    _, _, rest = payload.partition(",")
    return rest if len(rest) <= 100 else f"{rest[:99]}…"


async def run_watch(options: FleetOptions, session_id: str, *, full: bool) -> None:
    """Print a session's events as they pass, until it ends."""
    async with options.open() as fleet, fleet.follow(session_id) as passing:
        where = next((h for h in fleet.sessions if h.where.session_id == session_id), None)
        if where is None or state_of(where) in {"closed", "lost"}:
            state = "not known" if where is None else state_of(where)
            raise UsageError(f"the session {plain(session_id)!r} is {state}; see: sessions")
        async for followed in passing:
            typer.echo(line_of(followed, full=full))
            if followed.wire_name == "bus.closed":
                return


async def run_hang_up(options: FleetOptions, session_id: str, *, code: int, reason: str) -> None:
    """End a session."""
    async with options.open() as fleet:
        where = next((h for h in fleet.sessions if h.where.session_id == session_id), None)
        if where is None:
            raise UsageError(f"the session {plain(session_id)!r} is not known; see: sessions")
        await fleet.session(session_id).aclose(code, reason)
        typer.echo(f"{plain(session_id)} has ended")

"""The commands that look after sessions of many processes, through their broker."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._arguments import examples, readable
from ._signals import Ended, run_until_signalled

if TYPE_CHECKING:
    from ._fleet import FleetOptions

commands = typer.Typer()


_App = Annotated[str, typer.Argument(help="The application's name, as given to NatsFanout.")]
_SessionId = Annotated[str, typer.Argument(help="The session's id.")]
_Broker = Annotated[
    str, typer.Option(help="Addresses of NATS servers, divided by commas.", envvar="NATS_URL")
]
_Credentials = Annotated[
    Path | None, typer.Option(help="A file of NATS credentials.", callback=readable)
]
_LOCAL_BROKER = "nats://127.0.0.1:4222"


def _look_after(run_it: Callable[[FleetOptions], Awaitable[None]], *options: Any) -> None:
    """Run one of the commands that look after sessions of many processes."""
    from ._fleet import FleetOptions  # noqa: PLC0415  # slow to import

    with suppress(Ended):
        run_until_signalled(functools.partial(run_it, FleetOptions(*options)), backend="asyncio")


@commands.command(
    rich_help_panel="Sessions of many processes",
    epilog=examples("sessions cook", "sessions cook --json"),
)
def sessions(
    application: _App,
    *,
    broker: _Broker = _LOCAL_BROKER,
    credentials: _Credentials = None,
    once: Annotated[bool, typer.Option("--once", help="Print the table, and exit.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON each, and exit.")] = False,
) -> None:
    """Show who holds which sessions: a live table."""
    from ._fleet import run_sessions  # noqa: PLC0415  # slow to import

    run_it = functools.partial(run_sessions, once=once, as_json=json)
    _look_after(run_it, application, broker, credentials)


@commands.command(
    rich_help_panel="Sessions of many processes", epilog=examples("watch cook sess_1")
)
def watch(
    application: _App,
    session: _SessionId,
    *,
    broker: _Broker = _LOCAL_BROKER,
    credentials: _Credentials = None,
    full: Annotated[
        bool, typer.Option("--full", help="Whole frames, not their beginnings.")
    ] = False,
) -> None:
    """Follow one session: each event as it passes, both ways, until it ends."""
    from ._fleet import run_watch  # noqa: PLC0415  # slow to import

    run_it = functools.partial(run_watch, session_id=session, full=full)
    _look_after(run_it, application, broker, credentials)


@commands.command(
    rich_help_panel="Sessions of many processes",
    epilog=examples("hang-up cook sess_1 --reason 'the shop closes'"),
)
def hang_up(  # each is an option of the command
    application: _App,
    session: _SessionId,
    *,
    broker: _Broker = _LOCAL_BROKER,
    credentials: _Credentials = None,
    code: Annotated[int, typer.Option(help="The WebSocket's close code.")] = 1000,
    reason: Annotated[str, typer.Option(help="For the other side.")] = "",
) -> None:
    """End one session, wherever it is held."""
    from ._fleet import run_hang_up  # noqa: PLC0415  # slow to import

    run_it = functools.partial(run_hang_up, session_id=session, code=code, reason=reason)
    _look_after(run_it, application, broker, credentials)

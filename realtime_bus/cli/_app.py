"""The commands and their options.

What is wrong with a command line is told at once, in one line on stderr, with exit code 2; what
goes wrong later with exit code 1. Output never fails for its encoding.
"""

from __future__ import annotations

import codecs
import functools
import io
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

import realtime_bus
from realtime_bus import RealtimeBusError

if TYPE_CHECKING:
    from realtime_bus.server import BoundServer

    from ._demo._web import WebOptions

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

_PLAIN = {"✓": "+", "✗": "x", "✂": "|", "●": "*", "○": "-", "…": ".", "→": ">", "·": "-"}


def run(arguments: Sequence[str]) -> int:
    """Run a command, and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="realtime_bus.plain")
    try:
        return app([*arguments] or ["--help"], standalone_mode=False) or 0
    except RealtimeBusError as error:
        return _fail(str(error))
    except typer.Abort:
        return _fail("aborted")
    except Exception as error:
        # typer exports no base of its usage errors, and has a click of its own by now
        told: Callable[[], str] | None = getattr(error, "format_message", None)
        if told is None:
            raise
        return _fail(told(), code=2)


def _fail(why: str, *, code: int = 1) -> int:
    typer.echo(f"realtime-bus: {why}", err=True)
    return code


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Write what an encoding lacks by its nearest character, for `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in text), error.end


codecs.register_error("realtime_bus.plain", _plainly)


def _backend(name: str) -> str:
    if name not in {"asyncio", "trio"}:
        raise typer.BadParameter(f"{name!r} is neither asyncio nor trio")
    if find_spec(name) is None:
        raise typer.BadParameter(
            f"{name} is not installed; install it with: pip install 'realtime-bus[{name}]'"
        )
    return name


def _writable(path: Path | None) -> Path | None:
    if path is not None and path.is_dir():
        raise typer.BadParameter(f"{path} is a folder")
    if path is not None and not path.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {path.parent}")
    return path


def _positive(value: float) -> float:
    if not value > 0:
        raise typer.BadParameter(f"{value:g} is not above 0")
    return value


def _show_version(wanted: bool) -> None:  # typer calls it so
    if wanted:
        typer.echo(f"realtime-bus {realtime_bus.__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[  # its callback does the work
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """The event bus for realtime voice agents."""


class View(StrEnum):
    """How a running conversation is shown."""

    auto = "auto"
    live = "live"
    plain = "plain"


class Answer(StrEnum):
    """What the local server answers with."""

    voice = "voice"
    echo = "echo"


@app.command()
def demo(  # noqa: PLR0913  # each is an option of the command
    *,
    short: Annotated[bool, typer.Option("--short", help="A shorter conversation.")] = False,
    wav: Annotated[
        Path,
        typer.Option(
            help="Where to write both sides as heard: left person, right assistant.",
            callback=_writable,
        ),
    ] = Path("realtime-bus-demo.wav"),
    speaker: Annotated[
        bool, typer.Option("--speaker", help="Play it on the sound device.")
    ] = False,
    view: Annotated[
        View, typer.Option(help="auto: live in a terminal, plain lines elsewhere.")
    ] = View.auto,
    url: Annotated[
        str | None,
        typer.Option(help="A real provider's wss:// address, or a model's name for OpenAI."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(help="The key for --url.", envvar="OPENAI_API_KEY", show_envvar=True),
    ] = None,
    backend: Annotated[str, typer.Option(help="asyncio or trio.", callback=_backend)] = "asyncio",
    web: Annotated[
        bool, typer.Option("--web", help="Talk yourself, in a web page on this machine.")
    ] = False,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="With --web: do not open the browser.")
    ] = False,
    port: Annotated[
        int, typer.Option(help="With --web: the port; 0 for any free one.", min=0, max=65535)
    ] = 0,
    host: Annotated[str, typer.Option(help="With --web: the address to listen on.")] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        typer.Option(help="With --web: a name by which other machines call this one; repeatable."),
    ] = None,
) -> None:
    """Hold a conversation in which the person interrupts the assistant, and show it live.

    Starts the local server on loopback, speaks to it in real time, and checks what came of it.
    The exit code is 0 if the conversation went as it should.
    """
    if web:
        from ._demo._web import WebOptions  # noqa: PLC0415  # comes with an extra

        names = tuple(name or ())
        raise typer.Exit(
            _talk_in_page(
                WebOptions(
                    host=host,
                    port=port,
                    names=names,
                    open_browser=not no_open,
                    url=url,
                    api_key=api_key if url is not None else None,
                )
            )
        )
    from ._demo import DemoOptions, run_demo  # noqa: PLC0415  # takes a while to import

    options = DemoOptions(
        short=short, wav=wav, speaker=speaker, view=view.value, url=url, api_key=api_key
    )
    passed = anyio.run(functools.partial(run_demo, options), backend=backend)
    raise typer.Exit(0 if passed else 1)


def _talk_in_page(options: WebOptions) -> int:
    from ._demo._web import run_web  # noqa: PLC0415  # slow to import

    try:
        anyio.run(run_web, options, typer.echo)
    except KeyboardInterrupt:
        return 0
    return 0


@app.command()
def serve(  # noqa: PLR0913  # each is an option of the command
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port; 0 for any free one.", min=0, max=65535)
    ] = 8765,
    answer: Annotated[Answer, typer.Option(help="voice speaks, echo plays back.")] = Answer.voice,
    script: Annotated[
        Path | None, typer.Option(help="A file of turns (TOML or JSON) to answer by.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="The only key that is let in; everybody if left out.")
    ] = None,
    pace: Annotated[
        float,
        typer.Option(
            help="How many times faster than real time audio is sent.", callback=_positive
        ),
    ] = 4.0,
    certfile: Annotated[
        Path | None, typer.Option(help="Speak wss with this certificate (PEM).")
    ] = None,
    keyfile: Annotated[
        Path | None, typer.Option(help="Its key, if it is not in the same file.")
    ] = None,
    self_signed: Annotated[
        Path | None,
        typer.Option(help="Speak wss with a certificate for development, made in this folder."),
    ] = None,
) -> None:
    """Run the local server: the Realtime protocol's other side, without a key or a network."""
    from realtime_bus.server import ServerOptions, serve_forever  # noqa: PLC0415  # slow to import

    options = ServerOptions(api_key=api_key, pace=pace)
    name = answer.value if script is None else "script"
    run = functools.partial(
        serve_forever,
        host,
        port,
        name,
        script=script,
        options=options,
        certfile=certfile,
        keyfile=keyfile,
        self_signed_in=self_signed,
        on_ready=_say_where,
    )
    try:
        anyio.run(run)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except OSError as error:
        raise typer.Exit(_fail(f"cannot listen at {host}:{port}: {error}")) from None


@app.command()
def bench(
    *,
    short: Annotated[bool, typer.Option("--short", help="Fewer rounds.")] = False,
    json: Annotated[
        Path | None, typer.Option(help="Also write the figures here.", callback=_writable)
    ] = None,
) -> None:
    """Measure on this machine: decoding, dispatch, socket to handler, and barge-in."""
    from .bench import run_bench  # noqa: PLC0415  # slow to import

    run_bench(short=short, json_path=json)


def _say_where(bound: BoundServer) -> None:
    typer.echo(f"listening at {bound.url_for('any')} (end with Ctrl-C)")
    if bound.ca_file is not None:
        typer.echo(f"clients are to trust {bound.ca_file} (NODE_EXTRA_CA_CERTS, SSL_CERT_FILE)")

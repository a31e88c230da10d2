"""The commands and their options.

What is wrong with a command line is told at once, in one line on stderr, with exit code 2; what
goes wrong later with exit code 1. Output never fails for its encoding.
"""

from __future__ import annotations

import codecs
import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

import realtime_bus
from realtime_bus import InvalidURL, RealtimeBusError, UsageError

from ._arguments import (
    URL_HELP,
    ApiKey,
    ApiKeyFrom,
    Backend,
    View,
    ViewOption,
    examples,
    fail,
    folder,
    key_for,
    not_empty,
    positive,
    readable,
    recorded,
    writable,
)
from ._recordings import commands as of_recordings
from ._signals import Ended, run_until_signalled
from ._supervision import commands as of_supervision

if TYPE_CHECKING:
    from realtime_bus.server import BoundServer, FaultPlan


app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

_PLAIN = dict(zip("✓✗✂●○…→·█░─", "+x|*-.>-#.-", strict=True))


def run(arguments: Sequence[str]) -> int:
    """Run a command, and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="realtime_bus.plain")
    try:
        return app([*arguments] or ["--help"], standalone_mode=False) or 0
    except BaseException as error:
        told = _told(error)
        if told is None:
            raise
        return fail(*told)
    finally:
        _let_go(sys.stdout)


def _told(error: BaseException) -> tuple[str, int] | None:
    """Return what is told of an error and the exit code, or None if it is a defect of ours."""
    match error:
        case UsageError() | InvalidURL():
            return str(error), 2
        case RealtimeBusError():
            return str(error), 1
        case BrokenPipeError():
            return "nobody reads this any more", 1
        case typer.Abort():  # Ctrl-C
            return "aborted", 130
        case BaseExceptionGroup() if error.subgroup(KeyboardInterrupt):  # the same, on trio
            return "aborted", 130
        case _:
            # typer exports no base of its usage errors, and has a click of its own by now
            told: Callable[[], str] | None = getattr(error, "format_message", None)
            return None if told is None else (_with_help(told(), error), 2)


def _with_help(said: str, error: BaseException) -> str:
    """Say where to look, unless it is said what is wrong with a value."""
    command = getattr(getattr(error, "ctx", None), "command_path", None)
    if command is None or said.startswith("Invalid value"):
        return said
    return f"{said} See: {command} --help"


def _let_go(stream: TextIO) -> None:
    """Flush what is left; where nobody takes it, Python would complain when it ends."""
    with suppress(ValueError):  # it is closed already
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Write what an encoding lacks by its nearest character, for `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in text), error.end


codecs.register_error("realtime_bus.plain", _plainly)


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


class Answer(StrEnum):
    """What the local server answers with."""

    voice = "voice"
    echo = "echo"


@app.command(epilog=examples("demo", "demo --web --url gpt-realtime-2.1"))
def demo(  # noqa: PLR0913  # each is an option of the command
    *,
    short: Annotated[bool, typer.Option("--short", help="A shorter conversation.")] = False,
    wav: Annotated[
        Path,
        typer.Option(
            help="Where to write both sides as heard: left person, right assistant.",
            callback=writable,
        ),
    ] = Path("realtime-bus-demo.wav"),
    speaker: Annotated[
        bool, typer.Option("--speaker", help="Play it on the sound device.")
    ] = False,
    view: ViewOption = View.auto,
    url: Annotated[
        str | None,
        typer.Option(help=f"{URL_HELP}; default: the local server."),
    ] = None,
    api_key: ApiKey = None,
    api_key_from: ApiKeyFrom = None,
    backend: Backend = "asyncio",
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
    from ._demo import DemoOptions, run_demo  # noqa: PLC0415  # takes a while to import

    key = key_for(api_key, api_key_from)
    if web:
        _talk_in_page(host, port, tuple(name or ()), url, key, open_browser=not no_open)
        return
    options = DemoOptions(
        short=short, wav=wav, speaker=speaker, view=view.value, url=url, api_key=key
    )
    try:
        passed = run_until_signalled(functools.partial(run_demo, options), backend=backend)
    except Ended as ended:
        raise typer.Exit(fail("ended before it was over", 128 + ended.number)) from None
    raise typer.Exit(0 if passed else 1)


def _talk_in_page(  # each is an option of the command
    host: str,
    port: int,
    names: tuple[str, ...],
    url: str | None,
    api_key: str | None,
    *,
    open_browser: bool,
) -> None:
    from ._demo._web import WebOptions, run_web  # noqa: PLC0415  # comes with an extra

    options = WebOptions(
        host=host, port=port, names=names, open_browser=open_browser, url=url, api_key=api_key
    )
    try:
        run_until_signalled(functools.partial(run_web, options, typer.echo), backend="asyncio")
    except Ended:
        raise typer.Exit(0) from None


class Echo(StrEnum):
    """What keeps the room out of a conversation."""

    auto = "auto"
    cancel = "cancel"
    half_duplex = "half-duplex"
    push_to_talk = "push-to-talk"
    headphones = "headphones"


@app.command(
    epilog=examples(
        "talk", "talk --url gpt-realtime-2.1", "talk --url wss://… --api-key-from MY_KEY"
    )
)
def talk(  # noqa: PLR0913  # each is an option of the command
    *,
    url: Annotated[str | None, typer.Option(help=f"{URL_HELP}; default: the local server.")] = None,
    api_key: ApiKey = None,
    api_key_from: ApiKeyFrom = None,
    instructions: Annotated[str | None, typer.Option(help="What the assistant is told.")] = None,
    voice: Annotated[str | None, typer.Option(help="The assistant's voice.")] = None,
    microphone: Annotated[
        str | None,
        typer.Option(help="Which microphone, by number or (part of) its name; see --devices."),
    ] = None,
    speaker: Annotated[str | None, typer.Option(help="Which loudspeaker, the same.")] = None,
    devices: Annotated[bool, typer.Option("--devices", help="List them, and exit.")] = False,
    echo: Annotated[
        Echo,
        typer.Option(help="What becomes of the loudspeaker's sound in the microphone."),
    ] = Echo.auto,
    aec: Annotated[bool, typer.Option("--aec", help="The same as --echo cancel.")] = False,
    half_duplex: Annotated[
        bool, typer.Option("--half-duplex", help="The same as --echo half-duplex.")
    ] = False,
    push_to_talk: Annotated[
        bool, typer.Option("--push-to-talk", help="The same as --echo push-to-talk.")
    ] = False,
    view: ViewOption = View.auto,
    backend: Backend = "asyncio",
) -> None:
    """Talk with the assistant: microphone, loudspeaker, and the whole agent between them.

    Needs the extra `devices`; with `aec` besides, no headphones are needed.
    """
    from realtime_bus_plugins.devices import list_devices  # noqa: PLC0415  # slow to import

    from ._talk import TalkOptions, run_talk  # noqa: PLC0415  # slow to import

    if devices:
        typer.echo("\n".join(list_devices()) or "there is no sound device")
        raise typer.Exit
    short = [
        kind
        for kind, wanted in (
            (Echo.cancel, aec),
            (Echo.half_duplex, half_duplex),
            (Echo.push_to_talk, push_to_talk),
        )
        if wanted
    ]
    if len(short) + (echo is not Echo.auto) > 1:
        raise typer.BadParameter(
            "--aec, --half-duplex, --push-to-talk and --echo exclude each other"
        )
    options = TalkOptions(
        url=url,
        api_key=key_for(api_key, api_key_from),
        instructions=instructions,
        voice=voice,
        microphone=_device(microphone),
        speaker=_device(speaker),
        echo=[*short, echo][0].value,
        view=view.value,
    )
    try:
        run_until_signalled(functools.partial(run_talk, options), backend=backend)
    except Ended:
        raise typer.Exit(0) from None


def _device(name: str | None) -> int | str | None:
    return int(name) if name is not None and name.isdigit() else name


@app.command(epilog=examples("serve", "serve --recording call.jsonl", "serve --faults 7"))
def serve(  # noqa: PLR0913  # each is an option of the command
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port; 0 for any free one.", min=0, max=65535)
    ] = 8765,
    answer: Annotated[Answer, typer.Option(help="voice speaks, echo plays back.")] = Answer.voice,
    script: Annotated[
        Path | None,
        typer.Option(help="A file of turns (TOML or JSON) to answer by.", callback=readable),
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(help="A recorded session, to answer as it was answered.", callback=recorded),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="With --recording: send its frames as they are, and tell what differs."
        ),
    ] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="The only key that is let in; everybody if left out.", callback=not_empty
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="A web page that is let in, such as https://app.example; repeatable."),
    ] = None,
    pace: Annotated[
        float | None,
        typer.Option(
            help="How many times faster than real time audio is sent; 4, and 1 for a recording.",
            callback=positive,
        ),
    ] = None,
    certfile: Annotated[
        Path | None,
        typer.Option(help="Speak wss with this certificate (PEM).", callback=readable),
    ] = None,
    keyfile: Annotated[
        Path | None,
        typer.Option(help="Its key, if it is not in the same file.", callback=readable),
    ] = None,
    self_signed: Annotated[
        Path | None,
        typer.Option(
            help="Speak wss with a certificate for development, made in this folder.",
            callback=folder,
        ),
    ] = None,
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|SEED", help="What goes wrong: a plan (TOML or JSON), or one by a seed."
        ),
    ] = None,
    backend: Backend = "asyncio",
) -> None:
    """Run the local server: the Realtime protocol's other side, without a key or a network.

    Ctrl-C and SIGTERM end it in good order: every client is closed with 1001. A second one ends
    it at once.
    """
    from realtime_bus.server import (  # noqa: PLC0415  # slow to import
        FaultPlan,
        FaultPlanError,
        Playback,
        ScriptError,
        ServerOptions,
        serve_forever,
    )

    try:
        plan = None if faults is None else FaultPlan.named(faults)
    except FaultPlanError as error:
        raise typer.BadParameter(str(error), param_hint="'--faults'") from None
    if plan is not None:
        _show_faults(plan)
    origins = tuple(allow_origin or ())
    options = ServerOptions(api_key=api_key, pace=pace or 4.0, allowed_origins=origins)
    name = _answerer(answer, script, recording)
    if exact and recording is None:
        raise typer.BadParameter("--exact is for --recording: which one?")
    playback = Playback(recording, pace=pace or 1.0) if recording and exact else None
    run = functools.partial(
        serve_forever,
        host,
        port,
        name,
        script=script,
        recording=recording,
        recording_pace=pace or 1.0,
        playback=playback,
        options=options,
        faults=plan,
        certfile=certfile,
        keyfile=keyfile,
        self_signed_in=self_signed,
        on_ready=_say_where,
    )
    try:
        run_until_signalled(run, backend=backend)
    except Ended:
        for report in () if playback is None else playback.reports:
            typer.echo(report)
        raise typer.Exit(0) from None
    except ScriptError as error:
        raise typer.Exit(fail(str(error), 2)) from None
    except OSError as error:
        raise typer.Exit(fail(f"cannot listen at {host}:{port}: {error}")) from None


@app.command(epilog=examples("bench --short"))
def bench(
    *,
    short: Annotated[bool, typer.Option("--short", help="Fewer rounds.")] = False,
    json: Annotated[
        Path | None, typer.Option(help="Also write the figures here.", callback=writable)
    ] = None,
) -> None:
    """Measure on this machine: decoding, dispatch, socket to handler, and barge-in."""
    from .bench import run_bench  # noqa: PLC0415  # slow to import

    run_bench(short=short, json_path=json)


def _answerer(answer: Answer, script: Path | None, recording: Path | None) -> str:
    """Return the name of what answers."""
    if script is not None and recording is not None:
        raise typer.BadParameter("--script and --recording exclude each other")
    return "script" if script else "recording" if recording else answer.value


def _show_faults(plan: FaultPlan) -> None:
    """Say what will go wrong, and have what does go wrong logged."""
    typer.echo(f"faults, by seed {plan.seed}: {plan}")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("realtime_bus.server.faults").setLevel(logging.INFO)


def _say_where(bound: BoundServer) -> None:
    typer.echo(f"listening at {bound.url_for('any')} (end with Ctrl-C)")
    if bound.ca_file is not None:
        typer.echo(f"clients are to trust {bound.ca_file} (NODE_EXTRA_CA_CERTS, SSL_CERT_FILE)")


app.add_typer(of_recordings)
app.add_typer(of_supervision)

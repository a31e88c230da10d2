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
import webbrowser
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

import realtime_bus
from realtime_bus import InvalidURL, RealtimeBusError, UsageError

from ._arguments import (
    folder,
    known_backend,
    needs_terminal,
    not_empty,
    positive,
    readable,
    speed_or_max,
    writable,
)
from ._signals import Ended, run_until_signalled

if TYPE_CHECKING:
    from realtime_bus.server import BoundServer, FaultPlan

    from ._fleet import FleetOptions

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

_ApiKey = Annotated[
    str | None, typer.Option(help="The key for --url; left out, OpenAI gets OPENAI_API_KEY.")
]
_ApiKeyFrom = Annotated[
    str | None,
    typer.Option(help="The environment variable that has the key for --url.", metavar="VARIABLE"),
]
_Backend = Annotated[str, typer.Option(help="asyncio or trio.", callback=known_backend)]

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
        return _fail(*told)
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
            return None if told is None else (told(), 2)


def _let_go(stream: TextIO) -> None:
    """Flush what is left; where nobody takes it, Python would complain when it ends."""
    with suppress(ValueError):  # it is closed already
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(why: str, code: int = 1) -> int:
    typer.echo(f"realtime-bus: {why}", err=True)
    return code


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
            callback=writable,
        ),
    ] = Path("realtime-bus-demo.wav"),
    speaker: Annotated[
        bool, typer.Option("--speaker", help="Play it on the sound device.")
    ] = False,
    view: Annotated[
        View,
        typer.Option(
            help="auto: live in a terminal, plain lines elsewhere.", callback=needs_terminal
        ),
    ] = View.auto,
    url: Annotated[
        str | None,
        typer.Option(help="A real provider's wss:// address, or a model's name for OpenAI."),
    ] = None,
    api_key: _ApiKey = None,
    api_key_from: _ApiKeyFrom = None,
    backend: _Backend = "asyncio",
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

    key = _key(api_key, api_key_from)
    if web:
        _talk_in_page(host, port, tuple(name or ()), url, key, open_browser=not no_open)
        return
    options = DemoOptions(
        short=short, wav=wav, speaker=speaker, view=view.value, url=url, api_key=key
    )
    try:
        passed = run_until_signalled(functools.partial(run_demo, options), backend=backend)
    except Ended as ended:
        raise typer.Exit(_fail("ended before it was over", 128 + ended.number)) from None
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


def _key(given: str | None, variable: str | None) -> str | None:
    """Return the key that was given, or that a variable has."""
    if variable is None:
        return given
    key = os.environ.get(variable)
    if not key:
        raise typer.BadParameter(f"the variable {variable} is not set")
    return key


class Echo(StrEnum):
    """What keeps the room out of a conversation."""

    auto = "auto"
    cancel = "cancel"
    half_duplex = "half-duplex"
    push_to_talk = "push-to-talk"
    headphones = "headphones"


@app.command()
def talk(  # noqa: PLR0913  # each is an option of the command
    *,
    model: Annotated[str | None, typer.Option(help="A model of OpenAI's, by its name.")] = None,
    url: Annotated[
        str | None, typer.Option(help="A provider's wss:// address; default: the local server.")
    ] = None,
    api_key: _ApiKey = None,
    api_key_from: _ApiKeyFrom = None,
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
    view: Annotated[
        View,
        typer.Option(
            help="auto: live in a terminal, plain lines elsewhere.", callback=needs_terminal
        ),
    ] = View.auto,
    backend: _Backend = "asyncio",
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
    if model is not None and url is not None:
        raise typer.BadParameter("--model and --url exclude each other: the address names a model")
    options = TalkOptions(
        url=url or model,
        api_key=_key(api_key, api_key_from),
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


@app.command()
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
        typer.Option(help="A recorded session, to answer as it was answered.", callback=readable),
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
    backend: _Backend = "asyncio",
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
        raise typer.Exit(_fail(str(error), 2)) from None
    except OSError as error:
        raise typer.Exit(_fail(f"cannot listen at {host}:{port}: {error}")) from None


@app.command()
def replay(  # noqa: PLR0913  # each is an option of the command
    file: Annotated[Path, typer.Argument(help="A recording.", callback=readable)],
    *,
    handlers: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:BUS",
            help="What to run it through: a bus, or a function that makes one, with a sink if it "
            "takes one. Left out, the conversation is shown.",
        ),
    ] = None,
    main: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="With --handlers: what the main program does with its session.",
        ),
    ] = None,
    speed: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|max",
            help="How many times faster; default: max with --handlers, else 1.",
            callback=speed_or_max,
        ),
    ] = None,
    no_compare: Annotated[
        bool, typer.Option("--no-compare", help="With --handlers: look for no differences.")
    ] = False,
    left: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What is left to the recording, such as response.create or conversation.*; "
            "repeatable.",
        ),
    ] = None,
    outside: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="An event that came from outside; repeatable."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH", help="A field that does not matter, such as item.output; repeatable."
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Also write the report here.", callback=writable)
    ] = None,
    view: Annotated[
        View,
        typer.Option(
            help="auto: live in a terminal, plain lines elsewhere.", callback=needs_terminal
        ),
    ] = View.auto,
    backend: _Backend = "asyncio",
) -> None:
    """Show a recorded conversation, or run it again through the handlers of today.

    The exit code is 1 if they do something else than was done then.
    """
    from ._replay import ReplayOptions, run_replay_command  # noqa: PLC0415  # slow to import

    if handlers is None and main is not None:
        raise typer.BadParameter("--main goes with --handlers")
    pace = speed or ("1" if handlers is None else "max")
    options = ReplayOptions(
        file=file,
        handlers=handlers,
        main=main,
        speed=None if pace == "max" else float(pace),
        compare=not no_compare,
        left=tuple(left or ()),
        outside=tuple(outside or ()),
        ignore=tuple(ignore or ()),
        json=json,
        view=view.value,
    )
    run = functools.partial(run_replay_command, options)
    try:
        same = run_until_signalled(run, backend=backend, virtual=options.speed is None)
    except Ended as ended:
        raise typer.Exit(_fail("ended before it was over", 128 + ended.number)) from None
    raise typer.Exit(0 if same else 1)


@app.command()
def drive(
    recording: Annotated[
        Path, typer.Argument(help="The recorded session.", callback=readable, metavar="FILE")
    ],
    *,
    url: Annotated[
        str, typer.Option(help="The server's address, or a model's name for OpenAI.")
    ] = "ws://127.0.0.1:8765/v1/realtime?model=any",
    api_key: _ApiKey = None,
    api_key_from: _ApiKeyFrom = None,
    pace: Annotated[
        float, typer.Option(help="How many times faster than recorded.", callback=positive)
    ] = 1.0,
    patience: Annotated[
        float,
        typer.Option(help="Seconds to wait for what the server does not say.", callback=positive),
    ] = 10.0,
    backend: _Backend = "asyncio",
) -> None:
    """Send a recorded client's half to a server, and tell how its answers differ.

    The exit code is 0 if they do not.
    """
    from realtime_bus.recording import drive as drive_server  # noqa: PLC0415  # slow to import

    key = _key(api_key, api_key_from)
    run = functools.partial(
        drive_server, recording, url, api_key=key, pace=pace, patience_s=patience
    )
    try:
        reports = run_until_signalled(run, backend=backend)
    except Ended as ended:
        raise typer.Exit(_fail("ended before it was over", 128 + ended.number)) from None
    for report in reports:
        typer.echo(report)
    same = all(report.complete and not report.deviations for report in reports)
    raise typer.Exit(0 if same else 1)


@app.command()
def inspect(
    recording: Annotated[
        Path, typer.Argument(help="What a Recorder has written.", callback=readable)
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where to write the page; default: beside the recording.",
            callback=writable,
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    no_audio: Annotated[
        bool, typer.Option("--no-audio", help="Only draw the voices: a smaller page.")
    ] = False,
) -> None:
    """Write a recorded session as one HTML page: the time line, to be looked at and listened to.

    The page needs no network, and nothing beside itself.
    """
    from realtime_bus.inspector import inspection_page  # noqa: PLC0415  # slow to import
    from realtime_bus.recording import Recording, RecordingError  # noqa: PLC0415  # the same

    try:
        found = Recording(recording)
    except RecordingError as error:
        raise typer.BadParameter(str(error), param_hint="'RECORDING'") from None
    path = output or Path(str(recording).removesuffix(".zst")).with_suffix(".html")
    writable(path)
    if path.exists() and path.samefile(recording):
        raise typer.BadParameter(f"{path} is the recording itself", param_hint="'--output'")
    page = inspection_page(found, audio=not no_audio)
    try:
        path.write_bytes(page)
    except OSError as error:
        raise typer.Exit(_fail(f"{path} was not written: {error.strerror or error}")) from None
    typer.echo(f"{path} ({len(page) / 1e6:.1f} MB)")
    if open_page and not webbrowser.open(path.resolve().as_uri()):
        raise typer.Exit(_fail(f"no browser was found; open {path} yourself"))


@app.command()
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


class Voice(StrEnum):
    """Which of the assistant's audio is exported."""

    heard = "heard"
    generated = "generated"


@app.command()
def export(
    file: Annotated[
        Path, typer.Argument(help="A recording, or the first of its files.", callback=readable)
    ],
    *,
    wav: Annotated[
        Path | None,
        typer.Option(
            help="Write both voices here: left the person, right the assistant.",
            callback=writable,
        ),
    ] = None,
    what: Annotated[
        Voice,
        typer.Option(help="With --wav: what was heard of the assistant, or all it generated."),
    ] = Voice.heard,
    json: Annotated[bool, typer.Option("--json", help="Print the conversation as JSON.")] = False,
    text: Annotated[
        bool, typer.Option("--text", help="Print it as text; the default without --wav.")
    ] = False,
) -> None:
    """Make of a recording what others can use: a WAV file, the conversation as JSON or text."""
    from realtime_bus.recording import (  # noqa: PLC0415  # only this needs it
        Recording,
        Timeline,
        conversation,
        conversation_text,
        export_wav,
    )

    if json and text:
        raise typer.BadParameter("--json and --text exclude each other")
    if wav is not None and wav.exists() and wav.samefile(file):
        raise typer.BadParameter(f"{wav} is the recording")
    recording = Recording(file)
    try:
        if wav is None:
            timeline = Timeline.of(recording)
        else:
            timeline = export_wav(recording, wav, what=what.value)
    except OSError as error:
        raise typer.Exit(_fail(f"{error.strerror or error}: {error.filename or wav}")) from None
    if json:
        typer.echo(conversation(timeline).json(), nl=False)
    elif text or wav is None:
        typer.echo(conversation_text(timeline), nl=False)


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


@app.command()
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


@app.command()
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


@app.command()
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

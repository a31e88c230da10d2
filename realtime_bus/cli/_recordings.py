"""The commands about recordings: look at one, run it again, export it."""

from __future__ import annotations

import functools
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ._arguments import (
    URL_HELP,
    ApiKey,
    ApiKeyFrom,
    Backend,
    RecordingFile,
    View,
    ViewOption,
    examples,
    fail,
    key_for,
    positive,
    speed_or_max,
    writable,
)
from ._signals import Ended, run_until_signalled

commands = typer.Typer()


@commands.command(
    rich_help_panel="Recordings",
    epilog=examples("replay call.jsonl", "replay call.jsonl --handlers agent:bus"),
)
def replay(  # noqa: PLR0913  # each is an option of the command
    file: RecordingFile,
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
    view: ViewOption = View.auto,
    backend: Backend = "asyncio",
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
        raise typer.Exit(fail("ended before it was over", 128 + ended.number)) from None
    raise typer.Exit(0 if same else 1)


@commands.command(
    rich_help_panel="Recordings", epilog=examples("drive call.jsonl --url gpt-realtime-2.1")
)
def drive(
    recording: RecordingFile,
    *,
    url: Annotated[
        str, typer.Option(help=f"{URL_HELP}.")
    ] = "ws://127.0.0.1:8765/v1/realtime?model=any",
    api_key: ApiKey = None,
    api_key_from: ApiKeyFrom = None,
    pace: Annotated[
        float, typer.Option(help="How many times faster than recorded.", callback=positive)
    ] = 1.0,
    patience: Annotated[
        float,
        typer.Option(help="Seconds to wait for what the server does not say.", callback=positive),
    ] = 10.0,
    backend: Backend = "asyncio",
) -> None:
    """Send a recorded client's half to a server, and tell how its answers differ.

    The exit code is 0 if they do not.
    """
    from realtime_bus.recording import drive as drive_server  # noqa: PLC0415  # slow to import

    key = key_for(api_key, api_key_from)
    run = functools.partial(
        drive_server, recording, url, api_key=key, pace=pace, patience_s=patience
    )
    try:
        reports = run_until_signalled(run, backend=backend)
    except Ended as ended:
        raise typer.Exit(fail("ended before it was over", 128 + ended.number)) from None
    for report in reports:
        typer.echo(report)
    same = all(report.complete and not report.deviations for report in reports)
    raise typer.Exit(0 if same else 1)


@commands.command(rich_help_panel="Recordings", epilog=examples("inspect call.jsonl --open"))
def inspect(
    recording: RecordingFile,
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
    from realtime_bus.recording import Recording  # noqa: PLC0415  # the same

    path = output or Path(str(recording).removesuffix(".zst")).with_suffix(".html")
    writable(path)
    if path.exists() and path.samefile(recording):
        raise typer.BadParameter(f"{path} is the recording itself", param_hint="'--output'")
    page = inspection_page(Recording(recording), audio=not no_audio)
    try:
        path.write_bytes(page)
    except OSError as error:
        raise typer.Exit(fail(f"{path} was not written: {error.strerror or error}")) from None
    typer.echo(f"{path} ({len(page) / 1e6:.1f} MB)")
    if open_page and not webbrowser.open(path.resolve().as_uri()):
        raise typer.Exit(fail(f"no browser was found; open {path} yourself"))


class Voice(StrEnum):
    """Which of the assistant's audio is exported."""

    heard = "heard"
    generated = "generated"


@commands.command(
    rich_help_panel="Recordings",
    epilog=examples("export call.jsonl --wav call.wav", "export call.jsonl --json > call.json"),
)
def export(
    file: RecordingFile,
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
        raise typer.Exit(fail(f"{error.strerror or error}: {error.filename or wav}")) from None
    gaps = [problem.text for problem in timeline.problems if problem.kind == "left_out"]
    gaps += ["it was cut off"] if timeline.ended is None else []
    for gap in dict.fromkeys(gaps):
        typer.echo(f"note: something is missing in the recording: {gap}", err=True)
    if json:
        typer.echo(conversation(timeline).json(), nl=False)
    elif text or wav is None:
        typer.echo(conversation_text(timeline), nl=False)

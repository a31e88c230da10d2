"""What the commands share: options, and what is told of a wrong one before anything starts.

Callbacks for typer: each returns the value, or raises what becomes exit code 2.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer


def known_backend(name: str) -> str:
    """Take the name of a backend that is installed."""
    if name not in {"asyncio", "trio"}:
        raise typer.BadParameter(f"{name!r} is neither asyncio nor trio")
    if find_spec(name) is None:
        raise typer.BadParameter(
            f"{name} is not installed; install it with: pip install 'realtime-bus[{name}]'"
        )
    return name


def not_empty(value: str | None) -> str | None:
    """Take a text that is none, or not blank."""
    if value is not None and not value.strip():
        raise typer.BadParameter("it is empty; is the variable set that it comes from?")
    return value


def writable(path: Path | None) -> Path | None:
    """Take a file that can be written, by trying; one that is not there is not left behind."""
    if path is None:
        return None
    try:
        if path.is_dir():
            raise typer.BadParameter(f"{path} is a folder")
        if not path.parent.is_dir():
            raise typer.BadParameter(f"there is no folder {path.parent}")
        is_new = not path.exists()
        if is_new or path.is_file():  # to open a pipe means something
            path.open("ab").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise typer.BadParameter(
            f"{path} cannot be written ({error.strerror or error}); name another place"
        ) from error
    return path


def readable(path: Path | None) -> Path | None:
    """Take a file that can be read."""
    if path is None:
        return None
    try:
        path.open("rb").close()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read ({error.strerror or error})") from error
    return path


def recorded(path: Path | None) -> Path | None:
    """Take a recording that this version can read."""
    from realtime_bus.recording import Recording, RecordingError  # noqa: PLC0415  # slow to import

    if path is not None and readable(path):
        try:
            Recording(path)
        except RecordingError as error:
            raise typer.BadParameter(str(error)) from None
    return path


def folder(path: Path | None) -> Path | None:
    """Take a folder that is there, or can be made, and can be written into."""
    if path is None:
        return None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{path} is no folder ({error.strerror or error})") from error
    if not os.access(path, os.W_OK):
        raise typer.BadParameter(f"nothing can be written into {path}")
    return path


def positive(value: float | None) -> float | None:
    """Take a number above 0, or none."""
    if value is not None and not value > 0:
        raise typer.BadParameter(f"{value:g} is not above 0")
    return value


def speed_or_max(text: str | None) -> str | None:
    """Take a number above 0, or ``max``."""
    if text is None or text == "max":
        return text
    try:
        speed = float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a number nor max") from None
    if not 0 < speed < float("inf"):
        raise typer.BadParameter(f"{text} is no speed")
    return text


def needs_terminal(view: str) -> str:
    """Take a view; the live one where there is a terminal to draw on."""
    if view == "live" and not sys.stdout.isatty():
        raise typer.BadParameter("the live view needs a terminal; leave it to auto, or take plain")
    return view


def examples(*arguments: str) -> str:
    """Return what stands below a command's help."""
    return "\n".join(["Examples:", *(f"[bold]realtime-bus {each}[/bold]" for each in arguments)])


def fail(why: str, code: int = 1) -> int:
    """Say what went wrong, in one line, and return the exit code."""
    typer.echo(f"realtime-bus: {why}", err=True)
    return code


def key_for(given: str | None, variable: str | None) -> str | None:
    """Return the key that was given, or that a variable has."""
    if variable is None:
        return given
    key = os.environ.get(variable)
    if not key:
        raise typer.BadParameter(f"the variable {variable} is not set")
    return key


class View(StrEnum):
    """How a running conversation is shown."""

    auto = "auto"
    live = "live"
    plain = "plain"


ApiKey = Annotated[
    str | None, typer.Option(help="The key for --url; left out, OpenAI gets OPENAI_API_KEY.")
]
ApiKeyFrom = Annotated[
    str | None,
    typer.Option(help="The environment variable that has the key for --url.", metavar="VARIABLE"),
]
Backend = Annotated[
    str,
    typer.Option(help="What it runs on.", metavar="asyncio|trio", callback=known_backend),
]
RecordingFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", help="A recording; of several files the first.", callback=recorded
    ),
]
URL_HELP = "A provider's wss:// address, or a model's name for OpenAI"
ViewOption = Annotated[
    View,
    typer.Option(help="auto: live in a terminal, plain lines elsewhere.", callback=needs_terminal),
]

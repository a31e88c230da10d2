"""Sessions that are recorded, whose other side is the test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from realtime_bus import Bus, Session
from realtime_bus.recording import Line, Recording
from realtime_bus_plugins.recorder import Recorder

from ..plugins._wire import Wire  # noqa: TID252  # tests are no package with a name of its own

T = TypeVar("T")


@asynccontextmanager
async def recorded(
    recorder: Recorder, *plugins: Any, before: tuple[Any, ...] = ()
) -> AsyncGenerator[tuple[Session, Wire]]:
    """Open a session that is recorded, and show the wire's other end."""
    wire = Wire()
    wire.begin()
    bus = Bus(plugins=[*before, recorder, *plugins], raise_handler_errors=True)
    async with bus.session(wire.transport) as session:
        yield session, wire


def only(folder: Path) -> Path:
    """Return the first file of the only recording in a folder."""
    [path] = [path for path in folder.iterdir() if path.name.count(".") < 2 or ".zst" in path.name]
    return path


def lines_of(folder: Path) -> list[Line]:
    """Return the lines of the only recording in a folder."""
    return list(Recording(only(folder)))


def of(lines: list[Line], kind: type[T]) -> list[T]:
    """Return the lines of a kind."""
    return [line for line in lines if isinstance(line, kind)]


def frames(lines: list[Line], kind: Any) -> Iterator[bytes]:
    """Yield the frames of a direction."""
    return (line.data for line in of(lines, kind))

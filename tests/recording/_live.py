"""Sessions that are recorded, whose other side is the test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from realtime_bus import Bus, Session
from realtime_bus.recording import Line, Received, Recording, Sent

from ..plugins._wire import Wire  # noqa: TID252  # tests are no package with a name of its own

_T = TypeVar("_T")


@asynccontextmanager
async def recorded(
    *plugins: Any, raises: bool = True, api_key: str | None = None
) -> AsyncGenerator[tuple[Session, Wire]]:
    """Open a session with plugins, a recorder among them, and show the wire's other end."""
    wire = Wire()
    wire.begin()
    bus = Bus(plugins=plugins, raise_handler_errors=raises)
    async with bus.session(wire.transport) as session:
        yield session, wire


def only(folder: Path) -> Path:
    """Return the first file of the only recording in a folder."""
    [path] = [path for path in folder.iterdir() if Recording(path).header.part == 0]
    return path


def lines_of(folder: Path) -> list[Line]:
    """Return the lines of the only recording in a folder."""
    return list(Recording(only(folder)))


def of(lines: list[Line], kind: type[_T]) -> list[_T]:
    """Return the lines of a kind."""
    return [line for line in lines if isinstance(line, kind)]


def data(lines: list[Line]) -> list[bytes]:
    """Return the frames, both ways."""
    return [line.data for line in lines if isinstance(line, Received | Sent)]

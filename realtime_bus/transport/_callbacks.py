"""Handlers run in the loop's callbacks, where there is no task: let them use anyio there.

Where sniffio is installed (trio brings it), anyio asks it which backend runs, and it looks for a
task unless its context variable is set. A loop's callback has the context of whoever asked for
it: so the variable has to be set there.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["asyncio_in_callbacks", "on_asyncio"]


def on_asyncio() -> bool:
    """Tell whether asyncio runs, or else trio."""
    try:
        from sniffio import current_async_library  # noqa: PLC0415 - optional
    except ImportError:
        return True  # trio depends on it
    return current_async_library() == "asyncio"


@contextmanager
def asyncio_in_callbacks() -> Generator[None]:
    """Let callbacks that are asked for inside this block use anyio."""
    try:
        from sniffio import current_async_library_cvar as library  # noqa: PLC0415 - optional
    except ImportError:
        yield
        return
    token = library.set("asyncio")
    try:
        yield
    finally:
        library.reset(token)

"""Keys as they are pressed, without Enter; none where stdin is no terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import Any

import anyio


async def pressed_keys() -> AsyncGenerator[str, None]:
    """Yield keys, until cancelled or stdin ends."""
    if not sys.stdin.isatty():
        return
    if sys.platform == "win32":
        async for key in _on_windows():
            yield key
        return
    descriptor = sys.stdin.fileno()
    with _unbuffered(descriptor):
        while True:
            await anyio.wait_readable(descriptor)
            pressed = os.read(descriptor, 64)
            if not pressed:
                return
            for key in pressed.decode(errors="ignore"):
                yield key


async def _on_windows() -> AsyncGenerator[str, None]:
    import msvcrt  # noqa: PLC0415 - of that platform

    module: Any = msvcrt  # type checkers on other platforms know nothing of it
    while True:
        while module.kbhit():
            yield module.getwch()
        await anyio.sleep(0.03)  # the console has nothing that could be awaited


@contextmanager
def _unbuffered(descriptor: int) -> Generator[None, None, None]:
    """Have a terminal give keys one by one, and not show them; Ctrl-C is a signal still."""
    if sys.platform == "win32":
        yield
        return
    import termios  # noqa: PLC0415 - not on every platform
    import tty  # noqa: PLC0415 - not on every platform

    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)

"""What the clients share: waiting for a condition, speech from files, facts for the test."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

URL, FOLDER = sys.argv[1], Path(sys.argv[2])
PIECE = 4800  # 100 ms
PATIENCE_S = 30


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until something is true; other people's clients have no event for everything."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            sys.exit(f"it never happened: {what}")
        await asyncio.sleep(0.01)


async def say(name: str, send: Callable[[bytes], Awaitable[object]]) -> None:
    """Send what a person says, with silence around it; the server's clock is the audio."""
    audio = bytes(PIECE * 2) + (FOLDER / f"{name}.pcm").read_bytes() + bytes(PIECE * 15)
    for start in range(0, len(audio), PIECE):
        await send(audio[start : start + PIECE])


def report(**facts: Any) -> None:
    """Tell the test what came of it."""
    print(json.dumps(facts))  # noqa: T201  # it is the result

"""What is behind the command ``realtime-bus serve``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio

from realtime_bus.errors import UsageError

from ._bound import BoundServer
from ._options import ServerOptions
from ._responder import EchoResponder, Responder, VoiceResponder
from ._script import ScriptResponder
from ._shell import RealtimeServer

__all__ = ["RESPONDERS", "responder_named", "serve_forever"]

RESPONDERS = ("voice", "echo", "script")
"""What a server can answer with; a script needs a file."""


def responder_named(name: str, *, script: str | Path | None = None) -> Responder:
    """Make a responder.

    Args:
        name: One of `RESPONDERS`.
        script: The file of turns, for ``"script"``.

    Raises:
        UsageError: There is no such responder, or the script is missing.
        ScriptError: The script cannot be read.
    """
    if name == "script":
        if script is None:
            raise UsageError("the script responder needs a file of turns")
        return ScriptResponder.from_file(script)
    makers: dict[str, Callable[[], Responder]] = {"voice": VoiceResponder, "echo": EchoResponder}
    if name not in makers:
        known = ", ".join(RESPONDERS)
        raise UsageError(f"there is no responder named {name!r}; known are {known}")
    return makers[name]()


async def serve_forever(
    host: str = "127.0.0.1",
    port: int = 8765,
    responder_name: str = "voice",
    *,
    script: str | Path | None = None,
    options: ServerOptions | None = None,
    on_ready: Callable[[BoundServer], None] | None = None,
) -> None:
    """Serve until cancelled.

    Args:
        host: The address to listen at.
        port: The port; 0 takes a free one.
        responder_name: Who answers: ``"voice"``, ``"echo"`` or ``"script"``.
        script: The file of turns, for ``"script"``.
        options: The server's knobs.
        on_ready: Called once it listens, with where.

    Raises:
        OSError: The address cannot be listened at.
        UsageError: There is no such responder.
    """
    responder = responder_named(responder_name, script=script)
    async with RealtimeServer(responder, options=options).serve(host, port=port) as bound:
        if on_ready is not None:
            on_ready(bound)
        await anyio.sleep_forever()

"""An application on a real ASGI server, on both backends."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import sniffio
from hypercorn.config import Config


@asynccontextmanager
async def serving(app: Any) -> AsyncGenerator[str]:
    """Serve an application on loopback; yield its ``ws://`` address. What it raises comes out."""
    if sniffio.current_async_library() == "trio":
        from hypercorn.trio import serve
    else:
        from hypercorn.asyncio import serve
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = Config()
        config.bind = [f"fd://{listening.fileno()}"]
        config.errorlog = config.accesslog = None
        config.graceful_timeout = 1
        config.websocket_max_message_size = 16 * 2**20
        port = listening.getsockname()[1]
        listening.detach()
    stop = anyio.Event()
    failures: list[Exception] = []
    async with anyio.create_task_group() as tasks:

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except Exception as error:
                failures.append(error)
                tasks.cancel_scope.cancel()  # or everybody would wait for what never comes
                raise

        async def run() -> None:
            await serve(watched, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]  # hypercorn types ASGI more narrowly

        tasks.start_soon(run)
        try:
            yield f"ws://127.0.0.1:{port}"
        finally:
            stop.set()
    if failures:
        raise failures[0]

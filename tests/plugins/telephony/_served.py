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
    """Serve an application on loopback; yield its ``ws://`` address."""
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
        stop = anyio.Event()
        port = listening.getsockname()[1]
        listening.detach()
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                await serve(app, config, shutdown_trigger=stop.wait)

            tasks.start_soon(run)
            try:
                yield f"ws://127.0.0.1:{port}"
            finally:
                stop.set()

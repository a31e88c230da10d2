"""A page of the Browser plugin, played by the test over bare ASGI: on asyncio and on trio."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

from realtime_bus_plugins.browser import Browser


class Tab:
    """One WebSocket of a page.

    Attributes:
        texts: Every message that came, as an object.
        audio: All audio that came, by where in the stream it begins.
        closed: The code with which the server closed it, or None.
    """

    def __init__(self, browser: Browser, **headers: str) -> None:
        self.texts: list[dict[str, Any]] = []
        self.audio: dict[int, bytes] = {}
        self.accepted = False
        self.closed: int | None = None
        self.reason = ""
        self.done = False
        self.reading = anyio.Event()  # a page that reads; until then, the server cannot send
        self.reading.set()
        self._browser = browser
        self._headers = {"host": "localhost:80", "origin": "http://localhost:80", **headers}
        self._inbox: list[dict[str, Any]] = [{"type": "websocket.connect"}]
        self._changed = anyio.Event()

    async def run(self) -> None:
        """Be served, until the server has done with it."""
        scope = {
            "type": "websocket",
            "path": "/call",
            "root_path": "",
            "query_string": b"",
            "headers": [(k.encode(), v.encode()) for k, v in self._headers.items() if v],
            "subprotocols": [],
        }
        try:
            await self._browser(scope, self._receive, self._send)
        finally:
            self.done = True
            self._change()

    async def until(self, is_so: Any) -> Any:
        """Wait until something is so: the server sends, or (looked at now and then) does."""
        with anyio.fail_after(60):
            while not (found := is_so()):
                with anyio.move_on_after(0.01):
                    await self._changed.wait()
        return found

    def say(self, **message: Any) -> None:
        """Send a message."""
        self.raw(text=json.dumps(message))

    def raw(self, **message: Any) -> None:
        """Send a frame: text= or bytes=."""
        self._inbox.append({"type": "websocket.receive", **message})
        self._change()

    def drop(self, code: int = 1006) -> None:
        """Lose the connection."""
        self._inbox.append({"type": "websocket.disconnect", "code": code})
        self._change()

    def latest(self, kind: str) -> dict[str, Any]:
        """Return the last message of a kind."""
        return [text for text in self.texts if text["type"] == kind][-1]

    @property
    def received(self) -> int:
        """Up to where audio has come."""
        return max((start + len(pcm) // 2 for start, pcm in self.audio.items()), default=0)

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _receive(self) -> dict[str, Any]:
        while not self._inbox:
            await self._changed.wait()
        return self._inbox.pop(0)

    async def _send(self, message: dict[str, Any]) -> None:
        await self.reading.wait()
        if message["type"] == "websocket.accept":
            self.accepted = True
        elif message["type"] == "websocket.close":
            self.closed, self.reason = message["code"], message.get("reason") or ""
            self._inbox.append({"type": "websocket.disconnect", "code": message["code"]})
        elif message.get("text"):
            self.texts.append(json.loads(message["text"]))
        else:
            start = int.from_bytes(message["bytes"][:4], "little")
            self.audio[start] = message["bytes"][4:]
        self._change()


async def arrive(tasks: TaskGroup, tab: Tab, call: str | None = None, received: int = 0) -> str:
    """Let a page come, say hello, and be told its call."""
    tasks.start_soon(tab.run)
    tab.say(type="hello", call=call, received=received)
    started = await tab.until(lambda: [t for t in tab.texts if t["type"] == "started"])
    found: str = started[-1]["call"]
    return found


@asynccontextmanager
async def tabs() -> AsyncGenerator[TaskGroup, None]:
    """Run pages; those that are still there in the end are closed."""
    async with anyio.create_task_group() as tasks:
        yield tasks
        tasks.cancel_scope.cancel()

"""A page in Chromium, and everything behind it: the Browser plugin, a session, a local server."""

from __future__ import annotations

import array
import base64
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Mount, Route

from realtime_bus import Bus, Session
from realtime_bus import events as ev
from realtime_bus.server import BoundServer, RealtimeServer, VoiceResponder
from realtime_bus_plugins.browser import Browser, BrowserCall, InterruptPressed
from realtime_bus_plugins.interruption import Interruption

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
]
ALLOWED = "--use-fake-ui-for-media-stream"
LONG = "This is quite a long answer. It goes on and on, and tells you more than you have asked for."

_TAP = """async () => {
  const { conversation } = await import("./page.js");
  Object.assign(window, { conversation, states: [] });
  conversation.addEventListener("state", ({ detail }) => states.push(detail));
  conversation.addEventListener("state", async ({ detail }) => {
    if (detail !== "connecting" || window.tap) return;
    window.tap = "coming";
    await conversation.context.audioWorklet.addModule("/tap.js");
    window.tap = new AudioWorkletNode(conversation.context, "tap");
    conversation.output.connect(window.tap);
  });
}"""
_TAKE = """() => new Promise((resolve) => {
  tap.port.onmessage = async ({ data }) => {
    const floats = data.flatMap((block) => Array.from(block));
    const samples = Int16Array.from(floats, (sample) => Math.round(sample * 32768));
    const url = await new Promise((done) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.readAsDataURL(new Blob([samples.buffer]));
    });
    resolve(url.split(",")[1]);
  };
  tap.port.postMessage("give");
})"""


class Stage:
    """What a test looks at.

    Attributes:
        url: Where the page is.
        events: Every event of every session, as handlers got it.
        spoken: What was written to the sink, by item.
        sessions: The sessions, oldest first.
        browser: The plugin.
        greets: Whether the assistant speaks first.
        down: Whether the server lets nobody in.
    """

    def __init__(self, bound: BoundServer, **options: Any) -> None:
        self.url = ""
        self.events: list[ev.Event] = []
        self.spoken: dict[str, bytearray] = {}
        self.sessions: list[Session] = []
        self.greets = True
        self.down = False
        self.browser = Browser(self._talk, **options)
        self._server = bound
        self._changed = anyio.Event()
        self._bus = Bus(raise_handler_errors=True)
        self._bus.on(ev.Event)(self._note)

    @property
    def application(self) -> Starlette:
        """The plugin as others mount it, and the test's own file beside it."""
        tap = Path(__file__).parent / "tap.js"

        async def serve_tap(request: Any) -> FileResponse:
            return FileResponse(tap)

        return Starlette(
            routes=[Route("/tap.js", serve_tap), Mount("/talk", self._door)],
        )

    async def _door(self, scope: Any, receive: Any, send: Any) -> None:
        """Let nobody in while the server is said to be down."""
        if self.down and scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
            return
        await self.browser(scope, receive, send)

    async def until(self, is_so: Callable[[], Any], timeout_s: float = 20) -> Any:
        """Wait until something is so; every event may make it so."""
        with anyio.fail_after(timeout_s):
            while not (found := is_so()):
                self._changed = anyio.Event()
                with anyio.move_on_after(0.1):  # what is no event, such as a sink's state
                    await self._changed.wait()
        return found

    def all(self, kind: type[Any]) -> list[Any]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def _note(self, event: ev.Event) -> None:
        self.events.append(event)
        if isinstance(event, ev.ResponseOutputAudioDelta):
            self.spoken.setdefault(event.item_id, bytearray()).extend(event.delta)
        self._changed.set()

    async def _talk(self, call: BrowserCall) -> None:
        interruption = Interruption(call)
        async with self._bus.connect(
            self._server.url_for("any"),
            plugins=[call, interruption],
            turn_detection=ev.ServerVad(silence_duration_ms=500),
        ) as session:
            self.sessions.append(session)

            @session.on(InterruptPressed)
            def pressed(event: InterruptPressed) -> None:
                interruption.interrupt(session)

            if self.greets:
                session.respond()
            await session.wait_closed()


@asynccontextmanager
async def stage(answer: str = LONG, **options: Any) -> AsyncGenerator[Stage, None]:
    """Serve a page whose assistant says always the same."""
    async with RealtimeServer(VoiceResponder(answer)).serve() as bound:
        built = Stage(bound, **options)
        whole = Browser(lambda call: anyio.lowlevel.checkpoint())
        whole._application = built.application  # served as `Browser.serve` does it
        async with whole.serve() as url:
            built.url = f"{url}talk/"
            yield built
            for call in built.browser.calls:
                call._page.leave()


@asynccontextmanager
async def chromium_with(
    path: str, *flags: str, microphone: Path | None = None
) -> AsyncGenerator[Any, None]:
    """Start Chromium; its microphone plays a file, or beeps."""
    from playwright.async_api import async_playwright

    spoken = [f"--use-file-for-fake-audio-capture={microphone}%noloop"] if microphone else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=[*FLAGS, *spoken, *flags]
        )
        try:
            yield browser
        finally:
            await browser.close()


async def opened(browser: Any, stage: Stage, **options: Any) -> Any:
    """Open the page, with a tap on its loudspeaker; errors in it fail the test."""
    page = await browser.new_page(**options)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    await page.goto(stage.url)
    await page.evaluate(_TAP)
    return page


async def tapped(page: Any) -> array.array[int]:
    """Return every sample that the page has played."""
    return array.array("h", base64.b64decode(await page.evaluate(_TAKE)))


async def state(page: Any, *wanted: str) -> None:
    """Wait until the page shows one of these states."""
    await page.wait_for_function(
        "(wanted) => wanted.includes(document.body.dataset.state)", arg=wanted
    )


async def went_through(page: Any, wanted: str) -> None:
    """Wait until the page has been in a state, however briefly."""
    await page.wait_for_function("(wanted) => states.includes(wanted)", arg=wanted)


def after(played: array.array[int], begin: int, audio: array.array[int]) -> int | None:
    """Return where in what was played some audio ends that begins there; None if it is not there.

    A machine that is slow may have had to pause: then silence lies between.
    """
    at = begin
    for sample in audio:
        while sample and at < len(played) and played[at] == 0:
            at += 1
        if at >= len(played) or played[at] != sample:
            return None
        at += 1
    return at


def first_sound(samples: array.array[int]) -> int:
    """Return where the first sample is that is not silent."""
    return next(n for n, sample in enumerate(samples) if sample)

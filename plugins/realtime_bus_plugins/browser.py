"""A person talks to the agent from a web page, through the application's server.

::

    async def talk(call: BrowserCall) -> None:
        plugins = [call, Interruption(call)]
        async with bus.connect("gpt-realtime", plugins=plugins) as session:
            await session.wait_closed()


    app = Starlette(routes=[Mount("/talk", Browser(talk, hosts=["example.com"]))])

`Browser` is an ASGI application: a page, and the WebSocket that it talks to. `BrowserCall` is a
plugin, microphone and loudspeaker of one page. What goes over the socket is in
``_browser/_messages.py``; the page's half is ``client.js``, a module that other pages can import.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import anyio

from realtime_bus import MissingExtra, Session, SessionClosed, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem, SessionSlot, feed_sink
from realtime_bus.log import describe, get_logger

from ._browser import (
    HEADERS,
    BadMessage,
    Captions,
    Downlink,
    Ended,
    Flushed,
    FromPage,
    Guard,
    Hello,
    Page,
    Played,
    PressedEnd,
    PressedInterrupt,
    Started,
    Turn,
    close,
    greeted,
)
from ._playback import RATE_HZ, FromSession, ToSession

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

__all__ = ["Browser", "BrowserCall", "InterruptPressed", "PageLost", "PageResumed"]

_log = get_logger("realtime_bus.browser")

_STATIC = Path(__file__).parent / "_browser" / "static"
_CHUNK_BYTES = RATE_HZ // 50 * 2  # 20 ms: what the page sends at a time
_MAX_AUDIO_BYTES = 64 * 1024
_LEAVE_S = 10.0
_BUSY = 1013

_Scope: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class InterruptPressed(ev.BusEvent, frozen=True, kw_only=True, tag="browser.interrupt_pressed"):
    """The person wants the assistant to be quiet: `Interruption.interrupt` does that."""


class PageLost(ev.BusEvent, frozen=True, kw_only=True, tag="browser.page_lost"):
    """The page's connection is lost; the call waits for it.

    Attributes:
        code: WebSocket close code; 1006 without one.
    """

    code: int


class PageResumed(ev.BusEvent, frozen=True, kw_only=True, tag="browser.page_resumed"):
    """The page has come back.

    Attributes:
        gap_s: How long it was away, in seconds.
    """

    gap_s: float


class BrowserCall:
    """Microphone and loudspeaker of one page: a plugin, and a sink for `Interruption`.

    Made by `Browser` for every page that calls, and given to the application's function. Attached
    to a session, it plays the session's audio in the page and streams the page's microphone into
    the session; the session is closed when the page has gone for good.

    What counts as played is what has left the loudspeaker, as the page tells it some forty times a
    second; after a flush it tells where exactly it fell silent (`settled`).

    Args:
        scope: The ASGI scope of the page's WebSocket.
        ahead_ms: How much audio may be under way to the page.
        limit_s: How much recorded audio may wait for the session, in seconds; the oldest goes.

    Attributes:
        id: Unguessable; by it the page resumes the call.
        scope: The ASGI scope: headers, query, and what middleware has put there (``"user"``).
        dropped_chunks: How many pieces of recorded audio were dropped, of 20 ms each.
    """

    def __init__(
        self,
        scope: Mapping[str, Any] | None = None,
        *,
        ahead_ms: int = 1000,
        limit_s: float = 2.0,
    ) -> None:
        self.id: str = secrets.token_urlsafe(16)
        self.scope: Mapping[str, Any] = {} if scope is None else scope
        self.dropped_chunks: int = 0
        self._downlink = Downlink(ahead_ms=ahead_ms)
        self._page = Page(self._downlink, self._take)
        self._captions = Captions(self._page.tell)
        self._turn = Turn()
        self._converter = FromSession()
        self._recorded: deque[bytes] = deque(maxlen=max(1, round(limit_s * 50)))
        self._filled = anyio.Event()
        self._allowance = _Allowance()
        self._settled: list[PlayedItem] = []
        self._answered = anyio.Event()
        self._session: Session | None = None
        self._slot = SessionSlot(
            self, "bus.connect(..., plugins=[call, Interruption(call)]) in Browser's function"
        )

    # --- a plugin ----------------------------------------------------------------------------

    def attach(self, session: Session) -> None:
        """Be a session's microphone and loudspeaker.

        Raises:
            UsageError: It is attached to a session already.
        """
        self._slot.take(session)
        self._session = session
        feed_sink(session, self)
        self._captions.attach(session)
        session.on(*_TURNS)(self._take_turns)
        created = anyio.Event()

        def begun(event: ev.SessionCreated) -> None:  # noqa: ARG001 - a handler
            created.set()

        if session.settings.echo is not None:
            created.set()
        session.once(ev.SessionCreated)(begun)
        session.start_soon(self._stream, session, created)
        session.start_soon(self._hang_up, session)
        session.on_close(self._detach)

    async def wait_ended(self) -> None:
        """Wait until the page has gone for good."""
        await self._page.left.wait()

    def _detach(self) -> None:
        self.flush()
        self._session = None
        self._page.tell("started", Started(call=self.id, resumed=True, ready=False))

    async def _hang_up(self, session: Session) -> None:
        await self._page.left.wait()
        await session.aclose()

    async def _stream(self, session: Session, created: anyio.Event) -> None:
        """Send what the page records, until the session ends."""
        await created.wait()
        self._page.tell("started", Started(call=self.id, resumed=True, ready=True))
        converter = ToSession(session.settings.input_format)
        while True:
            while not self._recorded:
                self._filled = anyio.Event()
                await self._filled.wait()
            wanted = session.settings.input_format
            if wanted != converter.audio_format:
                converter = ToSession(wanted)
            try:
                await session.append_audio(converter.convert(self._recorded.popleft()))
            except SessionClosed:
                return  # the session's end cancels this task, too; it may be seen here first

    def _take_turns(self, event: ev.Event) -> None:
        thinking = _TURNS[type(event)]
        if isinstance(event, ev.InputAudioBufferSpeechStarted | ev.InputAudioBufferSpeechStopped):
            person = isinstance(event, ev.InputAudioBufferSpeechStarted)
        else:
            person = self._turn.person
        turn = Turn(person=person, thinking=thinking)
        if turn != self._turn:
            self._turn = turn
            self._page.tell("turn", turn)

    # --- a sink ------------------------------------------------------------------------------

    def start(self, audio_format: ev.AudioFormat) -> None:
        """Take note of the format of the audio that follows; the page gets PCM16 in any case.

        Raises:
            MissingExtra: The format must be decoded, and audioop-lts is missing (Python 3.13).
        """
        self._converter.use(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Queue audio of an item behind what is already queued."""
        pcm = self._converter.convert(audio, (item_id, content_index))
        if not pcm:
            return
        start = self._downlink.write(pcm, item_id=item_id, content_index=content_index)
        self._captions.written(item_id, content_index, start, len(pcm) // 2)
        self._page.nudge()

    def flush(self) -> list[PlayedItem]:
        """Let the page fall silent, and return every item that was playing or queued, in order.

        What is returned is what the page had told by now; `settled` knows better.
        """
        self._settled = played = self._downlink.flush()
        self._converter.forget()
        self._answered.set()  # who still waits for an earlier flush waits in vain
        self._answered = anyio.Event()
        self._page.nudge()
        return played

    async def settled(self) -> list[PlayedItem]:
        """Wait until the page has told where it fell silent; return what was heard by then."""
        if self._settled and self._page.there:
            await self._answered.wait()
        return self._settled

    def positions(self) -> list[PlayedItem]:
        """Return the same as `flush` would, without stopping anything."""
        return self._downlink.positions()

    @property
    def playing(self) -> bool:
        """Whether something can be heard now, or is queued to be."""
        return self._downlink.playing

    # --- what the page says ------------------------------------------------------------------

    def _take(self, message: FromPage | bytes) -> None:
        self._REACTIONS[type(message)](self, message)

    def _hear(self, audio: bytes) -> None:
        if len(audio) > _MAX_AUDIO_BYTES or len(audio) % 2:
            raise BadMessage("audio comes in whole samples, and little at a time")
        if not self._allowance.grants(len(audio)):
            self.dropped_chunks += 1
            return
        for start in range(0, len(audio), _CHUNK_BYTES):
            if len(self._recorded) == self._recorded.maxlen:
                self.dropped_chunks += 1
            self._recorded.append(audio[start : start + _CHUNK_BYTES])
        self._filled.set()

    def _played(self, message: Played) -> None:
        self._downlink.played(message.position)
        self._page.nudge()  # there may be room for more

    def _flushed(self, message: Flushed) -> None:
        settled = self._downlink.flushed(message.before, message.position)
        if settled is not None:
            self._settled = settled
            self._answered.set()

    def _interrupt(self, message: PressedInterrupt) -> None:  # noqa: ARG002 - as the others
        if self._session is not None:
            self._session.emit(InterruptPressed())

    def _end(self, message: PressedEnd) -> None:
        """Do nothing: the page sees to its leaving."""

    def _again(self, message: Hello) -> None:  # noqa: ARG002 - as the others
        raise BadMessage("hello is said once")

    _REACTIONS: ClassVar[dict[type, Callable[..., None]]] = {
        bytes: _hear,
        Played: _played,
        Flushed: _flushed,
        PressedInterrupt: _interrupt,
        PressedEnd: _end,
        Hello: _again,
    }

    # --- its life, which Browser leads -------------------------------------------------------

    async def _live(
        self, websocket: WebSocket, run: Callable[[], Awaitable[None]], keep_s: float
    ) -> None:
        """Run the application's function while the page is there, or may come back."""
        async with anyio.create_task_group() as tasks:

            async def application() -> None:
                await run()
                tasks.cancel_scope.deadline = anyio.current_time() + _LEAVE_S
                done.set()

            done = anyio.Event()
            tasks.start_soon(application)
            await self._serve(websocket, Hello())
            await self._page.wait_left(keep_s)
            self._page.leave()
            tasks.cancel_scope.deadline = anyio.current_time() + _LEAVE_S
            await done.wait()
            tasks.cancel_scope.cancel()

    async def _serve(self, websocket: WebSocket, hello: Hello) -> None:
        """Talk to the page over a connection of its own, until that ends."""
        resumed = hello.call is not None
        if resumed and self._session is not None and not self._page.there:
            self._session.emit(PageResumed(gap_s=time.perf_counter() - self._page.lost_s))
        ready = self._session is not None and self._session.settings.echo is not None
        self._page.tell("started", Started(call=self.id, resumed=resumed, ready=ready))
        self._downlink.resume(hello.received)
        code = await self._page.serve(websocket)
        if not self._page.there:
            self._answered.set()
            if self._session is not None and not self._page.left.is_set() and code is not None:
                self._session.emit(PageLost(code=code))


_TURNS: dict[type[ev.Event], bool] = {
    ev.InputAudioBufferSpeechStarted: False,
    ev.InputAudioBufferSpeechStopped: True,
    ev.ResponseCreated: True,
    ev.ResponseOutputAudioDelta: False,
    ev.ResponseDone: False,
}
"""Whether an answer is being made, by what came last."""


class _Allowance:
    """How much audio a page may send: what a microphone records, and two seconds at once.

    Recorded audio costs money at a provider, and a page can send it a thousand times faster.
    """

    _RATE = 2 * RATE_HZ * 1.1  # clocks differ a little
    _BURST = 2 * RATE_HZ * 2.0

    def __init__(self) -> None:
        self._left = self._BURST
        self._since_s = time.monotonic()

    def grants(self, length_bytes: int) -> bool:
        now_s = time.monotonic()
        self._left = min(self._BURST, self._left + (now_s - self._since_s) * self._RATE)
        self._since_s = now_s
        if length_bytes > self._left:
            return False
        self._left -= length_bytes
        return True


class Browser:
    """An ASGI application: a page to talk to the agent, and the WebSocket behind it.

    Mount it where you like, in Starlette, FastAPI or anything that speaks ASGI. It serves the page
    at its root, the page's parts beside it, and the WebSocket at ``call``.

    When a page's connection is lost, its call goes on for `keep_s` seconds, and the page resumes
    it. When the page is left or reloaded, the call is over.

    Args:
        on_call: Holds one conversation: opens a session with the call as a plugin, and returns
            when it is over. It has 10 s to return when the page has gone, then it is cancelled.
        hosts: By which names the server may be called, beside loopback's; ``"*"`` for any, which
            lets any page reach it that can make its own name resolve to it.
        origins: Which pages, beside its own, may call: ``"https://www.example.com"``.
        keep_s: How long a call waits for a page whose connection is lost.
        max_calls: How many calls there may be at once; more are told to try later.
        ahead_ms: How much audio may be under way to a page.

    Raises:
        MissingExtra: Starlette is not installed.
        UsageError: An option cannot work.
    """

    def __init__(
        self,
        on_call: Callable[[BrowserCall], Awaitable[object]],
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        keep_s: float = 20.0,
        max_calls: int = 100,
        ahead_ms: int = 1000,
    ) -> None:
        if not callable(on_call):
            raise UsageError(f"{on_call!r:.80} is no function; Browser takes one that takes a call")
        self._on_call = on_call
        self._guard = Guard(hosts, origins)
        self._keep_s = keep_s
        self._max_calls = max_calls
        self._ahead_ms = ahead_ms
        self._calls: dict[str, BrowserCall] = {}
        self._application = _routes(self._called)

    @property
    def calls(self) -> list[BrowserCall]:
        """The calls there are, oldest first."""
        return [*self._calls.values()]

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Serve a request, as ASGI has it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._application(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        host, origin = headers.get(b"host", b"").decode("latin-1"), headers.get(b"origin")
        websocket = scope["type"] == "websocket"
        refusal = self._guard.refusal(
            host, origin.decode("latin-1") if origin is not None and websocket else None
        )
        if refusal is not None:
            _log.warning("a request was refused", reason=refusal)
            await _refuse(scope, receive, send, refusal)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_RAW_HEADERS]
            await send(message)

        await self._application(scope, receive, send_with_headers)

    async def _called(self, websocket: WebSocket) -> None:
        await websocket.accept()
        hello = await greeted(websocket)
        if hello is None:
            return
        known = self._calls.get(hello.call or "")
        if known is not None:
            await known._serve(websocket, hello)  # noqa: SLF001 - of this module
            return
        if len(self._calls) >= self._max_calls:
            await close(websocket, _BUSY, "all lines are busy; try again later")
            return
        call = BrowserCall(websocket.scope, ahead_ms=self._ahead_ms)
        self._calls[call.id] = call
        try:
            await call._live(websocket, lambda: self._converse(call), self._keep_s)  # noqa: SLF001 - the same
        finally:
            del self._calls[call.id]

    async def _converse(self, call: BrowserCall) -> None:
        ended = Ended()
        try:
            await self._on_call(call)
        except Exception as error:  # noqa: BLE001 - whatever the application raises, the page is told
            _log.error("a call failed", **describe(error))
            ended = Ended(reason="The assistant could not go on.", failed=True)
        call._page.finish(ended)  # noqa: SLF001 - of this module


_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def _routes(called: Callable[[WebSocket], Awaitable[None]]) -> Any:
    try:
        from starlette.routing import Mount, Router, WebSocketRoute  # noqa: PLC0415 - an extra
        from starlette.staticfiles import StaticFiles  # noqa: PLC0415 - the same
    except ImportError as error:
        raise MissingExtra("starlette", extra="browser") from error
    page = StaticFiles(directory=_STATIC, html=True)
    return Router([WebSocketRoute("/call", called), Mount("/", page)])


async def _refuse(scope: _Scope, receive: _Receive, send: _Send, refusal: str) -> None:
    from starlette.responses import PlainTextResponse  # noqa: PLC0415 - an extra

    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    await PlainTextResponse(f"{refusal}\n", status_code=403)(scope, receive, send)

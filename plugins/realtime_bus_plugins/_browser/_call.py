"""One page's call: what `Browser` gives to the application, as plugin, microphone and sink."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import anyio

from realtime_bus import Session, SessionClosed
from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem, SessionSlot, feed_sink
from realtime_bus_plugins._playback import RATE_HZ, FromSession, ToSession

from ._captions import Captions
from ._messages import (
    BadMessage,
    Flushed,
    FromPage,
    Hello,
    Played,
    PressedInterrupt,
    Turn,
)
from ._page import Page

_CHUNK_BYTES = RATE_HZ // 50 * 2  # 20 ms: what the page sends at a time, and the session gets
_MAX_CHUNKS = 100  # what waits for the session; beyond, the oldest goes
_MAX_AUDIO_BYTES = 64 * 1024


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

    Attributes:
        id: Unguessable; by it the page resumes the call.
        scope: The ASGI scope: headers, query, and what middleware has put there (``"user"``).
        dropped_chunks: How many pieces of recorded audio were dropped, of 20 ms each.
    """

    def __init__(self, page: Page, scope: Mapping[str, Any]) -> None:
        self.id: str = page.id
        self.scope: Mapping[str, Any] = scope
        self.dropped_chunks: int = 0
        self._page = page
        self._downlink = page.downlink
        self._captions = Captions(page.tell)
        self._turn = Turn()
        self._converter = FromSession()
        self._recorded: deque[bytes] = deque(maxlen=_MAX_CHUNKS)
        self._begun = bytearray()  # a chunk that is not whole yet
        self._filled = anyio.Event()
        self._allowance = _Allowance()
        self._settled: list[PlayedItem] = []
        self._answered = anyio.Event()
        self._session: Session | None = None
        self._slot = SessionSlot(
            self, "bus.connect(..., plugins=[call, Interruption(call)]) in Browser's function"
        )
        page.listen(take=self._take, came=self._came, lost=self._lost)

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
        session.on(ev.Reconnecting, ev.Reconnected)(self._show_line)
        session.start_soon(self._stream, session, created)
        session.start_soon(self._hang_up, session)
        session.on_close(self._detach)

    async def wait_ended(self) -> None:
        """Wait until the page has gone for good."""
        await self._page.left.wait()

    def _detach(self) -> None:
        self.flush()
        self._session = None
        self._page.set_ready(False)

    async def _hang_up(self, session: Session) -> None:
        await self._page.left.wait()
        await session.aclose()

    async def _stream(self, session: Session, created: anyio.Event) -> None:
        """Send what the page records, until the session ends."""
        await created.wait()
        self._page.set_ready(True)
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

    def _show_line(self, event: ev.Reconnecting | ev.Reconnected) -> None:
        self._page.set_ready(isinstance(event, ev.Reconnected))

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
        converted = self._converter.convert(audio, (item_id, content_index))
        samples = len(converted.pcm) // 2 - converted.revised
        if samples <= 0:
            return
        start = self._downlink.write(converted, item_id=item_id, content_index=content_index)
        self._captions.written(item_id, content_index, start, samples)
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
        self._begun += audio
        while len(self._begun) >= _CHUNK_BYTES:
            if len(self._recorded) == self._recorded.maxlen:
                self.dropped_chunks += 1
            self._recorded.append(bytes(self._begun[:_CHUNK_BYTES]))
            del self._begun[:_CHUNK_BYTES]
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

    def _again(self, message: Hello) -> None:  # noqa: ARG002 - as the others
        raise BadMessage("hello is said once")

    _REACTIONS: ClassVar[dict[type, Callable[..., None]]] = {
        bytes: _hear,
        Played: _played,
        Flushed: _flushed,
        PressedInterrupt: _interrupt,
        Hello: _again,
    }

    def _came(self, gap_s: float | None) -> None:
        if gap_s is not None and self._session is not None:
            self._session.emit(PageResumed(gap_s=gap_s))

    def _lost(self, code: int) -> None:
        self._answered.set()
        if self._session is not None and not self._page.left.is_set():
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
        self._since_s = 0.0

    def grants(self, length_bytes: int) -> bool:
        now_s = anyio.current_time()
        self._left = min(self._BURST, self._left + (now_s - self._since_s) * self._RATE)
        self._since_s = now_s
        if length_bytes > self._left:
            return False
        self._left -= length_bytes
        return True

"""The responses of a session: asked for one at a time, whoever asks, and read as they come.

Rules:

1. Every ``response.create`` goes through the arbiter, whether it comes from `respond` or `send`.
2. A `Reply` gets its deltas behind all interceptors, like any handler, while somebody holds or
   reads it.
3. A request whose owner was cancelled or ran out of time while it waited is taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, ClassVar, Generic, Protocol, TypeVar
from weakref import finalize

import anyio
import msgspec

from realtime_bus import events as ev
from realtime_bus.codec import encode
from realtime_bus.errors import CloseInfo, RequestError, RequestTimeout, SessionClosed
from realtime_bus.routing import Subscription, select

from ._arbiter import Arbiter, ResponseRequest, mark_request
from ._conversation import Conversation
from ._requests import error_details, rejection

__all__ = [
    "RESPONSE_TIMEOUT_S",
    "Channel",
    "Deltas",
    "Reply",
    "ReplyDeltas",
    "Responses",
    "not_sent",
]

RESPONSE_TIMEOUT_S = 120.0
"""Seconds that a reply may take if nothing else is said: longer than any spoken answer."""

_CANCEL_TIMEOUT_S = 10.0
_MAX_DELTAS = 10_000  # that a reply holds for a slow reader; the oldest go first
_T = TypeVar("_T")
_WORDS = (ev.ResponseOutputTextDelta, ev.ResponseOutputAudioTranscriptDelta)
_SOUNDS = (ev.ResponseOutputAudioDelta,)


class Channel(Protocol):
    """What responses need of their session."""

    def send_nowait(self, event: ev.ClientEvent, /) -> bool:
        """Send a command; return False if an interceptor ended it."""
        ...

    def start_soon(self, function: Callable[..., Any], /) -> None:
        """Start a task of the session."""
        ...

    def add(self, subscription: Subscription, /) -> None:
        """Add a listener."""
        ...

    def remove(self, subscription: Subscription, /) -> None:
        """Remove a listener; one that is gone already is no error."""
        ...


class Responses:
    """Asks for responses by an arbiter, and hands each `Reply` what comes of its own.

    Args:
        channel: The session's ways in and out.
        conversation: The view that the arbiter keeps up to date.
        next_event_id: Makes ids for commands.
    """

    def __init__(
        self, channel: Channel, conversation: Conversation, next_event_id: Callable[[], str]
    ) -> None:
        self._channel = channel
        self._next_event_id = next_event_id
        self._arbiter = Arbiter(self._send_create, self._send_cancel, conversation)
        self._guarding = False
        self._deltas: dict[ResponseRequest, ReplyDeltas] = {}
        self._listeners = {
            kind: Subscription(hand_out, select(kind), where=None, options={}, internal=True)
            for kind, hand_out in ((_WORDS, self._hand_out_words), (_SOUNDS, self._hand_out_sounds))
        }
        self._with_sound: set[ResponseRequest] = set()  # whose audio somebody reads
        self._listening: set[object] = set()

    # --- what is asked for -------------------------------------------------------------------

    def prepare(self, event: ev.ResponseCreate) -> ResponseRequest:
        """Make a request of what is asked for.

        Raises:
            InvalidEvent: The request would be refused; nothing was sent.
        """
        request_id = event.event_id or self._next_event_id()
        params = mark_request(event.response or ev.ResponseCreateParams(), request_id)
        request = ResponseRequest(ev.ResponseCreate(event_id=request_id, response=params))
        encode(request.event)  # it may have to wait, and a mistake should be told here
        return request

    def submit(self, request: ResponseRequest, *, replace: bool = False) -> None:
        """Send a request when its turn has come."""
        if replace and not request.out_of_band:
            self._arbiter.make_way()
        self._arbiter.submit(request, anyio.current_time())
        self._guard()

    def restored(self, given: ev.ResponseCreate, sent: ev.ResponseCreate) -> ev.ResponseCreate:
        """Return what an interceptor made of a request, with the id and mark that it is known by."""
        request_id = given.event_id or ""
        params = mark_request(sent.response or ev.ResponseCreateParams(), request_id)
        return msgspec.structs.replace(sent, event_id=request_id, response=params)

    def _send_create(self, event: ev.ResponseCreate) -> None:
        if not self._channel.send_nowait(event):
            raise not_sent(event)

    def _send_cancel(self, response_id: str | None) -> None:
        event_id = self._next_event_id()
        self._channel.send_nowait(ev.ResponseCancel(event_id=event_id, response_id=response_id))

    def asked_out_of_band(self, response: ev.Response) -> bool | None:
        """Tell where the request that a response answers asked for it; see `Conversation`."""
        return self._arbiter.asked_out_of_band(response)

    def take_back(self, request: ResponseRequest) -> bool:
        """Take a request out of the queue; return False if it has been sent already."""
        return self._arbiter.withdraw(request)

    def cancel(self, request: ResponseRequest) -> None:
        """Stop a request, however far it has come; it ends as cancelled."""
        if self.take_back(request):
            return
        if request.response_id is None:
            request.unwanted = True
        else:
            self._send_cancel(request.response_id)

    # --- what the server says ----------------------------------------------------------------

    def see(self, event: Any) -> None:
        """Take note of one of the events in `SEEN`."""
        now_s = anyio.current_time()
        if isinstance(event, ev.Error):
            error = error_details(event)
            request = self._arbiter.refused(error, now_s)
            if request is not None:
                request.settle(error=rejection(request.event, error))
        elif isinstance(event, ev.ResponseCreated | ev.ResponseDone):
            response: Any = event.response  # raw data, where it did not fit: reported as drift
            if not isinstance(getattr(response, "id", ...), str | None):
                return
            if isinstance(event, ev.ResponseDone):
                self._arbiter.done(response, now_s)
            else:
                self._arbiter.created(response, now_s)
        else:
            self._arbiter.signs_of_life(event.response_id, now_s)
            return
        self._guard()

    SEEN: ClassVar[tuple[type[ev.Event], ...]] = (
        ev.ResponseCreated,
        ev.ResponseDone,
        ev.ResponseOutputItemAdded,
        ev.ResponseOutputItemDone,
        ev.Error,
    )

    def fail_all(self, close: CloseInfo) -> None:
        """Fail every request: the session has ended."""
        message = f"the session closed with {close} before the response was done"
        self._arbiter.close(SessionClosed(message, close=close))

    def _guard(self) -> None:
        """See that a ``response.done`` that never comes holds up nobody for ever."""
        if self._arbiter.waiting and not self._guarding:
            self._guarding = True
            self._channel.start_soon(self._guard_queue)

    async def _guard_queue(self) -> None:
        try:
            while (deadline_s := self._arbiter.next_deadline_s()) is not None:
                await anyio.sleep_until(deadline_s)
                self._arbiter.advance(anyio.current_time())
        finally:
            self._guarding = False

    # --- what replies read -------------------------------------------------------------------

    def read(self, request: ResponseRequest) -> ReplyDeltas:
        """Collect the words of a response from now on, until it ends or `unread` is called."""
        deltas = self._deltas[request] = ReplyDeltas()
        self._listen()
        return deltas

    def read_audio(self, request: ResponseRequest) -> Deltas[bytes]:
        """Collect the audio of a response from now on, for one more reader."""
        sound = Deltas[bytes]()
        deltas = self._deltas.get(request)
        if deltas is None:
            sound.end()
        else:
            deltas.sounds.append(sound)
            self._with_sound.add(request)
            self._listen()
        return sound

    def unread(self, request: ResponseRequest) -> None:
        """Collect nothing more of a response, and let its readers finish."""
        deltas = self._deltas.pop(request, None)
        self._with_sound.discard(request)
        if deltas is not None:
            deltas.end()
            self._listen()

    def _listen(self) -> None:
        """Listen to words and to audio while somebody reads them."""
        for kind, readers in ((_WORDS, self._deltas), (_SOUNDS, self._with_sound)):
            is_wanted = bool(readers)
            if is_wanted != (kind in self._listening):
                change = self._channel.add if is_wanted else self._channel.remove
                change(self._listeners[kind])
                self._listening ^= {kind}

    def _hand_out_words(self, event: Any) -> None:
        request = self._arbiter.request_of(event.response_id)
        if request in self._deltas:
            self._deltas[request].words.put(event.delta)

    def _hand_out_sounds(self, event: ev.ResponseOutputAudioDelta) -> None:
        request = self._arbiter.request_of(event.response_id)
        if request in self._deltas:
            for sound in self._deltas[request].sounds:
                sound.put(event.delta)


class Deltas(Generic[_T]):
    """Deltas as they come, collected for one reader."""

    def __init__(self) -> None:
        self._queue: deque[_T] = deque(maxlen=_MAX_DELTAS)
        self._changed = anyio.Event()
        self._ended = False

    def put(self, delta: _T) -> None:
        """Add a delta."""
        self._queue.append(delta)
        self._changed.set()

    def end(self) -> None:
        """End the iteration behind what has come."""
        self._ended = True
        self._changed.set()

    async def next(self) -> _T:
        """Wait for the next delta, and take it out."""
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            if self._changed.is_set():
                self._changed = anyio.Event()
            await self._changed.wait()
        return self._queue.popleft()


class ReplyDeltas:
    """What has come of one response and was not read yet.

    Attributes:
        words: Text, or the transcript of speech.
        sounds: Audio, once for each reader.
    """

    def __init__(self) -> None:
        self.words: Deltas[str] = Deltas()
        self.sounds: list[Deltas[bytes]] = []

    def end(self) -> None:
        """End every iteration."""
        self.words.end()
        for sound in self.sounds:
            sound.end()


class _Reading(Generic[_T]):
    """An iterator, not a generator, so that it may be left; it holds its reply meanwhile."""

    def __init__(self, reply: Reply, deltas: Deltas[_T]) -> None:
        self._reply = reply
        self._deltas = deltas

    def __aiter__(self) -> AsyncIterator[_T]:
        return self

    async def __anext__(self) -> _T:
        return await self._deltas.next()


class Reply:
    """What `Session.respond` returns.

    ``await reply`` gives the finished `events.Response`, whatever its status. Text and audio can
    be read while they come; what came before reading began is not lost, except audio, which is
    kept only from the call of `audio` on.

    If whoever awaits it is cancelled, or runs out of time, while the request still waits for
    its turn, the request is taken back.
    """

    def __init__(
        self, responses: Responses, request: ResponseRequest, *, timeout_s: float | None
    ) -> None:
        self._responses = responses
        self._request = request
        self._timeout_s = timeout_s
        self._settled = anyio.Event()
        self._deltas = responses.read(request)
        finalize(self, responses.unread, request).atexit = False
        settled = self._settled.set

        def on_settled() -> None:
            responses.unread(request)
            settled()

        request.on_settled = on_settled

    @property
    def id(self) -> str | None:
        """The response's id, known from ``response.created`` on."""
        return self._request.response_id

    @property
    def done(self) -> bool:
        """Whether the response has ended, or was refused."""
        return self._request.settled

    def __await__(self) -> Generator[Any, Any, ev.Response]:
        return self._response().__await__()

    async def _response(self) -> ev.Response:
        try:
            await self._until_settled(self._timeout_s)
        finally:
            if not self.done:  # cancelled, or out of time
                self._responses.take_back(self._request)
                self._responses.unread(self._request)
        if self._request.error is not None:
            raise self._request.error
        return self._request.response or ev.Response()

    async def _until_settled(self, timeout_s: float | None) -> None:
        try:
            with anyio.fail_after(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            raise RequestTimeout(
                f"the response was not done within {timeout_s:g} s; "
                "give respond() a longer timeout_s, or None to wait as long as it takes",
                event_type=self._request.event.type,
                event_id=self._request.request_id,
                timeout_s=timeout_s or 0.0,
            ) from None

    def text(self) -> AsyncIterator[str]:
        """Return an iterator of the words as they come: text, or the transcript of speech."""
        return _Reading(self, self._deltas.words)

    def audio(self) -> AsyncIterator[bytes]:
        """Return an iterator of the audio as it comes, in the response's output format."""
        return _Reading(self, self._responses.read_audio(self._request))

    async def cancel(self) -> None:
        """Stop the response: take it out of the queue, or have the server cancel it.

        One that has ended already is left alone.

        Raises:
            RequestTimeout: The server did not end it within ten seconds.
        """
        if not self.done:
            self._responses.cancel(self._request)
            await self._until_settled(_CANCEL_TIMEOUT_S)

    def __repr__(self) -> str:
        state = "done" if self.done else "active" if self.id else "waiting"
        return f"<Reply {self.id or self._request.request_id} {state}>"


def not_sent(event: ev.ClientEvent) -> RequestError:
    """Make the exception for a command that an interceptor ended."""
    return RequestError(
        f"{event.type} was not sent: an outgoing interceptor ended it",
        event_type=event.type,
        event_id=event.event_id or "",
    )

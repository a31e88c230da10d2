"""The responses of a session: asked for one at a time, whoever asks, and read as they come.

Rules:

1. Every ``response.create`` goes through the arbiter, whether it comes from `respond` or `send`.
2. A `Reply` gets its deltas behind all interceptors, like any handler, while somebody holds or
   reads it.
3. A request whose owner was cancelled or ran out of time while it waited is taken back.
4. While requests wait, every frame of a response is looked at: it is a sign of life. Otherwise
   those that nobody listens to are skipped.
5. Where it is not known yet whose a response is, what comes of it is kept for the one who may have
   asked for it, and handed out once that is sure.
6. Words and audio that a session's end has cut off do not end as if they were finished: behind
   what has come, the reader gets `SessionClosed`, unless the session ended in order. A lost
   connection does the same with `ConnectionLost`, whatever comes after.
7. A slow reader loses the oldest deltas beyond the bounds of a `Backlog`: counted, and told once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, ClassVar, Generic, TypeVar
from weakref import finalize

import anyio
import msgspec

from realtime_bus import events as ev
from realtime_bus.codec import encode
from realtime_bus.errors import (
    CloseInfo,
    ConnectionLost,
    RequestError,
    RequestTimeout,
    SessionClosed,
)
from realtime_bus.events import REALTIME
from realtime_bus.routing import (
    Backlog,
    HandlerOptions,
    Subscription,
    reading_goes_on,
    select,
    weight_bytes,
)

from ._arbiter import Arbiter, ResponseRequest, mark_request
from ._conversation import ConversationState
from ._pipeline import Pipeline
from ._requests import error_details, lost_with, rejection

RESPONSE_TIMEOUT_S = 120.0
"""Seconds that a reply may take if nothing else is said: longer than any spoken answer."""

_CANCEL_TIMEOUT_S = 10.0
_T = TypeVar("_T")
_WORDS = (ev.ResponseOutputTextDelta, ev.ResponseOutputAudioTranscriptDelta)
_SOUNDS = (ev.ResponseOutputAudioDelta,)
_LIFE = tuple(
    cls
    for name, cls in REALTIME.server.items()
    if name.startswith("response.") and name not in {"response.created", "response.done"}
)
_TURNS = (
    ev.InputAudioBufferSpeechStarted,
    ev.InputAudioBufferSpeechStopped,
    ev.InputAudioBufferTimeoutTriggered,
)
_MAY_END_TURN = (ev.InputAudioBufferCommitted, ev.InputAudioBufferCleared, ev.SessionUpdated)


class Responses:
    """Asks for responses by an arbiter, and hands each `Reply` what comes of its own.

    Args:
        pipeline: The session's ways in and out.
        conversation: The view that the arbiter keeps up to date.
        next_event_id: Makes ids for commands.
        others_wait: Tells whether requests of another kind await an answer.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        conversation: ConversationState,
        next_event_id: Callable[[], str],
        others_wait: Callable[[], bool],
    ) -> None:
        self._pipeline = pipeline
        self._next_event_id = next_event_id
        self._others_wait = others_wait
        self._arbiter = Arbiter(self._send_create, self._send_cancel, conversation)
        self._alarm: anyio.CancelScope | None = None  # wakes the guard
        self._deltas: dict[ResponseRequest, ReplyDeltas] = {}
        narrowed = HandlerOptions(narrowed=True)
        self._listeners = {
            kind: Subscription(hand_out, select(kind), where=None, options=narrowed, internal=True)
            for kind, hand_out in (
                (_WORDS, self._hand_out),
                (_SOUNDS, self._hand_out),
                (_LIFE, self._see_life),
            )
        }
        self._with_sound: set[ResponseRequest] = set()  # whose audio somebody reads
        self._listening: set[object] = set()

    # --- what is asked for -------------------------------------------------------------------

    def prepare(self, event: ev.ResponseCreate, *, while_speaking: bool = False) -> ResponseRequest:
        """Make a request of what is asked for.

        Raises:
            InvalidEvent: The request would be refused; nothing was sent.
        """
        request_id = event.event_id or self._next_event_id()
        params = mark_request(event.response or ev.ResponseCreateParams(), request_id)
        event = ev.ResponseCreate(event_id=request_id, response=params)
        request = ResponseRequest(event, while_speaking=while_speaking)
        encode(request.event)  # it may have to wait, and a mistake should be told here
        return request

    def submit(self, request: ResponseRequest, *, replace: bool = False) -> None:
        """Send a request when its turn has come."""
        if replace and not request.out_of_band:
            self._arbiter.make_way()
        self._arbiter.submit(request, anyio.current_time())
        self._guard()

    def restored(self, given: ev.ResponseCreate, sent: ev.ResponseCreate) -> ev.ResponseCreate:
        """Return what an interceptor made of a request, with the id and mark that it has."""
        request_id = given.event_id or ""
        params = mark_request(sent.response or ev.ResponseCreateParams(), request_id)
        return msgspec.structs.replace(sent, event_id=request_id, response=params)

    def _send_create(self, event: ev.ResponseCreate) -> None:
        if not self._pipeline.outgoing.send_nowait(event):
            raise not_sent(event)

    def _send_cancel(self, response_id: str | None) -> None:
        event_id = self._next_event_id()
        self._pipeline.outgoing.send_nowait(
            ev.ResponseCancel(event_id=event_id, response_id=response_id)
        )

    def asked_out_of_band(self, response: ev.Response) -> bool | None:
        """Tell where the request that a response answers asked for it; see `ConversationState`."""
        return self._arbiter.asked_out_of_band(response)

    def cancel_sent(self, _given: ev.ResponseCancel, sent: ev.ResponseCancel) -> None:
        """Note a ``response.cancel``, whoever sends it."""
        self._arbiter.cancel_sent(sent)

    def take_back(self, request: ResponseRequest) -> bool:
        """Take a request out of the queue; return False if it has been sent already."""
        taken = self._arbiter.withdraw(request)
        self._guard()
        return taken

    def ran_out_of_time(self, request: ResponseRequest) -> None:
        """Expect no answer to a request any more."""
        self._arbiter.ran_out_of_time(request)

    def cancel(self, request: ResponseRequest) -> None:
        """Stop a request, however far it has come; it ends as cancelled."""
        if self.take_back(request):
            return
        request.unwanted = True
        if request.response_id is not None:
            self._send_cancel(request.response_id)

    # --- what the server says ----------------------------------------------------------------

    def see(self, event: Any) -> None:
        """Take note of one of the events in `SEEN`."""
        now_s = anyio.current_time()
        if isinstance(event, ev.Error):
            error = error_details(event)
            request = self._arbiter.refused(error, now_s, alone=not self._others_wait())
            if request is not None:
                request.settle(error=rejection(request.event, error))
        elif isinstance(event, _TURNS):
            self._arbiter.turn_changed(now_s)
        elif isinstance(event, _MAY_END_TURN):
            self._arbiter.advance(now_s)
        else:
            response: Any = event.response  # raw data, where it did not fit: reported as drift
            if not isinstance(getattr(response, "id", ...), str | None):
                return
            if isinstance(event, ev.ResponseDone):
                self._arbiter.done(response, now_s)
            else:
                self._arbiter.created(response, now_s)
        self._guard()

    SEEN: ClassVar[tuple[type[ev.Event], ...]] = (
        ev.ResponseCreated,
        ev.ResponseDone,
        ev.Error,
        *_TURNS,
        *_MAY_END_TURN,
    )

    def _see_life(self, event: Any) -> None:
        found = getattr(event, "response_id", None)  # some events name only their item
        response_id = found if isinstance(found, str) and found else None
        self._arbiter.signs_of_life(response_id, anyio.current_time())

    @property
    def idle(self) -> bool:
        """Whether no response is asked for."""
        return self._arbiter.idle

    def connection_lost(self, close: CloseInfo) -> list[ev.ResponseCreate]:
        """Fail what had begun; return the requests that will be sent again."""

        def fail(request: ResponseRequest) -> Exception:
            return lost_with(request.event, close)

        again = self._arbiter.connection_lost(fail)
        self._listen()
        return [request.event for request in again]

    def connection_restored(self, *, answer_due: bool) -> None:
        """Send what waits, over another connection.

        Args:
            answer_due: Whether to ask for the answer to speech that the last one owed.
        """
        if answer_due:
            self._arbiter.submit(self.prepare(ev.ResponseCreate()), anyio.current_time())
        self._arbiter.connection_restored(anyio.current_time())
        self._guard()

    def fail_all(self, close: CloseInfo) -> None:
        """Fail every request: the session has ended."""
        message = f"the session closed with {close} before the response was done"
        self._arbiter.close(SessionClosed(message, close=close))

    def _guard(self) -> None:
        """See that what never comes holds up nobody for ever."""
        self._listen()
        deadline_s = self._arbiter.next_deadline_s()
        if deadline_s is None:
            return
        if self._alarm is None:
            self._alarm = anyio.CancelScope(deadline=deadline_s)
            self._pipeline.start_soon(self._guard_queue)
        elif deadline_s < self._alarm.deadline:
            self._alarm.deadline = deadline_s

    async def _guard_queue(self) -> None:
        try:
            while self._alarm is not None:
                with self._alarm:
                    await anyio.sleep_forever()
                # a clock may stop a rounding error short of what it was set to
                now_s = max(anyio.current_time(), self._alarm.deadline)
                self._arbiter.advance(now_s)
                self._listen()
                deadline_s = self._arbiter.next_deadline_s()
                self._alarm = None if deadline_s is None else anyio.CancelScope(deadline=deadline_s)
        finally:
            self._alarm = None

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
            sound.end(_cut_off(request))
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
            deltas.end(request.response_id, _cut_off(request))
            self._listen()

    def _listen(self) -> None:
        """Listen to words and audio while somebody reads them, and to all while requests wait."""
        wanted = (
            (_WORDS, self._deltas),
            (_SOUNDS, self._with_sound),
            (_LIFE, self._arbiter.waiting),
        )
        for kind, readers in wanted:
            is_wanted = bool(readers)
            if is_wanted != (kind in self._listening):
                change = self._pipeline.add if is_wanted else self._pipeline.remove
                change(self._listeners[kind])
                self._listening ^= {kind}

    def _hand_out(self, event: Any) -> None:
        request = self._arbiter.request_of(event.response_id)
        perhaps = self._arbiter.perhaps_of(event.response_id) if request is None else None
        found = request if request in self._deltas else perhaps
        deltas = self._deltas.get(found) if found is not None else None
        if deltas is None:
            return
        if found is request:
            deltas.put(event)
        else:
            deltas.keep(event)
        if deltas.dropped and not deltas.told:
            deltas.told = True
            self._pipeline.emit(
                ev.Overflow(
                    handler="Reply",
                    event_type=event.type,
                    policy="drop_oldest",
                    dropped=deltas.dropped,
                )
            )


class Deltas(Generic[_T]):
    """Deltas as they come, collected for one reader."""

    def __init__(self) -> None:
        self._queue = Backlog[_T]()
        self._changed = anyio.Event()
        self._ended = False
        self._error: Exception | None = None

    @property
    def dropped(self) -> int:
        """How many its reader has lost."""
        return self._queue.dropped

    def put(self, delta: _T, length: int) -> None:
        """Add a delta of so many bytes or characters."""
        self._queue.put(delta, length)
        self._changed.set()

    def end(self, error: Exception | None) -> None:
        """End the iteration behind what has come, with an error if something is missing."""
        self._ended, self._error = True, error
        self._changed.set()

    async def next(self) -> _T:
        """Wait for the next delta, and take it out."""
        while not self._queue:
            if self._ended:
                raise self._error or StopAsyncIteration
            if self._changed.is_set():
                self._changed = anyio.Event()
            with reading_goes_on():
                await self._changed.wait()
        return self._queue.take()


class ReplyDeltas:
    """What is read of one response: its words once, its audio by anybody who asks."""

    def __init__(self) -> None:
        self.words: Deltas[str] = Deltas()
        self.sounds: list[Deltas[bytes]] = []
        self._kept = Backlog[Any]()
        self.told = False

    @property
    def dropped(self) -> int:
        """How many deltas slow readers have lost."""
        sounds = sum(sound.dropped for sound in self.sounds)
        return self._kept.dropped + self.words.dropped + sounds

    def keep(self, event: Any) -> None:
        """Keep a delta of a response that is perhaps not this one."""
        self._kept.put(event, weight_bytes(event))

    def put(self, event: Any) -> None:
        """Add a delta, behind those that were kept."""
        if self._kept:
            self._put_kept(event.response_id)
        if not isinstance(event, _SOUNDS):
            self.words.put(event.delta, len(event.delta))
            return
        for sound in self.sounds:
            sound.put(event.delta, len(event.delta))

    def _put_kept(self, response_id: str | None) -> None:
        kept, self._kept = self._kept, Backlog[Any]()
        while kept:
            event = kept.take()
            if event.response_id == response_id:
                self.put(event)

    def end(self, response_id: str | None, error: Exception | None) -> None:
        """End every iteration; the response is known by now."""
        self._put_kept(response_id)
        self.words.end(error)
        for sound in self.sounds:
            sound.end(error)


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
    kept only from the call of `audio` on. Reading raises `SessionClosed` where a connection that
    broke, or closed with an error's code, has cut the answer off.

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
        given_up = finalize(self, responses.unread, request)
        given_up.atexit = False
        settled = self._settled.set

        def on_settled() -> None:
            given_up.detach()  # the request's error may hold this reply, by its traceback
            responses.unread(request)
            settled()

        request.on_settled = on_settled

    @property
    def id(self) -> str | None:
        """The response's id, known from ``response.created`` on."""
        return self._request.response_id

    @property
    def dropped(self) -> int:
        """How many deltas readers of it have lost, which were 10 000 or 16 MiB behind."""
        return self._deltas.dropped

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
            with anyio.fail_after(timeout_s), reading_goes_on():
                await self._settled.wait()
        except TimeoutError:
            self._responses.ran_out_of_time(self._request)
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


def _cut_off(request: ResponseRequest) -> SessionClosed | ConnectionLost | None:
    """Return what a reader of the request's response gets at the end, if that cut it off."""
    error = request.error
    if isinstance(error, ConnectionLost):
        return error
    return error if isinstance(error, SessionClosed) and not error.close.in_order else None


def not_sent(event: ev.ClientEvent) -> RequestError:
    """Make the exception for a command that an interceptor ended."""
    return RequestError(
        f"{event.type} was not sent: an outgoing interceptor ended it",
        event_type=event.type,
        event_id=event.event_id or "",
    )

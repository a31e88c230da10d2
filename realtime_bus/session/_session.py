"""One live conversation: what an application holds in its hands.

A facade: its parts are `Pipeline` (frames in, events to handlers, commands out), `Lifecycle` (tasks
and the end), `Requests` (who waits for which answer), `Responses` (the arbiter of
``response.create``), `ConversationState`, `HistoryState` and `ActiveSettings` (what is known), and
`Recovery` (the next connection). The conversation and its history see an event first of all;
settings, requests and responses see it behind the interceptors, before any handler.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio
import msgspec
from typing_extensions import TypeVar as TypeVarWithDefault
from typing_extensions import Unpack

from realtime_bus import events as ev
from realtime_bus.codec import MAX_APPEND_BYTES, narrow
from realtime_bus.errors import (
    CloseInfo,
    RequestError,
    RequestRejected,
    RequestTimeout,
    UsageError,
)
from realtime_bus.events import WireProtocol, translation
from realtime_bus.history import HistoryState
from realtime_bus.routing import (
    EventStream,
    HandlerStatistics,
    Interceptor,
    OnFor,
    Selection,
    StreamFor,
    Subscription,
    WaitFor,
    WaitForFor,
    reading_goes_on,
    registering,
)

from ._conversation import ConversationState
from ._handover import Parts
from ._pipeline import Pipeline
from ._policy import FATAL_CODES, Reconnect
from ._recovery import Opener, Recovery
from ._requests import ANSWERED, ITEM_ID_PREFIX, Pending, Requests, error_details
from ._requests import SEEN as ANSWERS
from ._responses import RESPONSE_TIMEOUT_S, Reply, Responses, not_sent
from ._settings import (
    ActiveSettings,
    SessionKind,
    SessionSettings,
    TranslationSettings,
    settings_request,
)

StateT = TypeVarWithDefault("StateT", default=Any)
_A = TypeVar("_A", bound=ev.Event)
_PIECE_BYTES = 240_000  # five seconds of PCM16: a larger append only delays what follows it

REQUEST_TIMEOUT_S = 10.0
"""Seconds that a server may take to answer a request, if nothing else is said."""

_SEVERE_CODES = FATAL_CODES | {"session_expired"}
_EXPECTED_CODES = frozenset({"response_cancel_not_active"})  # what normal races bring

assert _PIECE_BYTES <= MAX_APPEND_BYTES  # noqa: S101  # a relation of constants, not of input


class SessionStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a session has been through.

    Attributes:
        frames_received: Frames that the transport delivered.
        bytes_received: Their length in bytes.
        frames_skipped: Those of them whose type nobody listens to; they were not decoded.
        frames_sent: Frames that were handed to the transport.
        bytes_sent: Their length in bytes.
        drift: How often something did not fit, by (event type, path, kind).
        handlers: Each handler's figures.
    """

    frames_received: int
    bytes_received: int
    frames_skipped: int
    frames_sent: int
    bytes_sent: int
    drift: dict[tuple[str, str, str], int]
    handlers: list[HandlerStatistics]


class Session(Generic[StateT]):
    """One live conversation: a transport, the bus's routing for it, sending, awaiting.

    Made by `Bus.connect` and `Bus.session`; not by hand.

    Attributes:
        id: The server's id of the session, ``sess_…``, once it is known.
        state: The application's own object of this call, as given to `Bus.connect`.
        config: What the server last said is in force, or None before it did.
        settings: The same through typed accessors.
        conversation: What belongs to the conversation, what is active, who speaks.
        last_error: What the server last complained about, or None.
        history: What was said, item by item; None unless it is kept: see `keep_history`.
    """

    def __init__(self, pipeline: Pipeline, *, kind: SessionKind, state: StateT) -> None:
        self.id: str | None = None
        self.state: StateT = state
        self.config: Any = None
        self.settings: ActiveSettings = ActiveSettings()
        self.conversation: ConversationState = ConversationState(self._asked_out_of_band)
        self.last_error: ev.ErrorDetails | None = None
        self.history: HistoryState | None = None
        self._busy: list[Callable[[], bool]] = []
        self._recovery: Recovery | None = None
        self._kind: SessionKind = kind
        # others may talk in the same conversation (a call's sideband), or it may be restored
        self._token = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._pipeline = pipeline
        self._lifecycle = pipeline.lifecycle
        pipeline.router.session = self
        self._requests = Requests()
        self._responses = Responses(
            pipeline,
            self.conversation,
            self._next_event_id,
            others_wait=lambda: len(self._requests) > 0,
        )
        self._observe()

    def _observe(self) -> None:
        """Let the parts see events: the conversation at once, the others before any handler."""
        self._pipeline.observe(ConversationState.SEEN, self.conversation.see)
        settings = (ev.SessionCreated, ev.SessionUpdated)
        of_translation = (translation.SessionCreated, translation.SessionUpdated)
        as_it_was_read = Selection(frozenset((*settings, *of_translation)))
        self._pipeline.add(
            Subscription(self._see_settings, as_it_was_read, where=None, options={}, internal=True)
        )
        self._pipeline.handle((ev.Error,), self._see_error)
        self._pipeline.handle(ANSWERS, self._requests.observe)
        self._pipeline.handle(Responses.SEEN, self._responses.see)
        self._pipeline.outgoing.on_sent(ANSWERED, self._requests.sent, self._requests.unsent)
        self._pipeline.outgoing.on_sent((ev.ResponseCancel,), self._responses.cancel_sent)
        self._pipeline.outgoing.restore(ev.ResponseCreate, self._responses.restored)
        self._lifecycle.on_end(self._requests.fail_all)
        self._lifecycle.on_end(self._responses.fail_all)

    def _see_settings(self, event: Any) -> None:
        self.config = event.session
        self.settings = ActiveSettings(narrow(event).session)
        self._kind = self.settings.kind or self._kind
        if isinstance(event, ev.SessionCreated | translation.SessionCreated):
            self.id = getattr(self.settings.echo, "id", None)
            self._pipeline.log = self._pipeline.log.bind(session_id=self.id)

    def _accept(self, event: Any) -> None:
        """Take what another connection's server says of itself."""
        self.conversation.see(event)
        if self.history is not None:
            self.history.see(event)
        self._see_settings(event)

    def recover(
        self,
        policy: Reconnect,
        openers: Sequence[Opener],
        protocol: WireProtocol,
        *,
        restores: bool,
    ) -> None:
        """Outlive the connection from now on. Called by the bus."""
        parts = Parts(
            pipeline=self._pipeline,
            conversation=self.conversation,
            requests=self._requests,
            responses=self._responses,
            history=self.history,
            busy=self._busy,
            config=lambda: self.config,
            settings=lambda: self.settings,
            accept=self._accept,
            next_event_id=self._next_event_id,
            next_item_id=self._next_item_id,
        )
        self._recovery = Recovery(policy, openers, protocol, parts, restores=restores)

    def _see_error(self, event: ev.Error) -> None:
        error = self.last_error = error_details(event)
        if not self._pipeline.options.log_errors:
            return
        write = self._pipeline.log.warning
        if error.code in _EXPECTED_CODES:
            write = self._pipeline.log.debug
        elif {error.code, error.type} & _SEVERE_CODES:
            write = self._pipeline.log.error
        suppressed = self._pipeline.errors.due(str(error.code), str(error.type))
        if suppressed is None:
            return
        write(
            "the server reports an error",
            code=error.code,
            message=error.message,
            param=error.param,
            event_id=error.event_id,
            error_type=error.type,
            **suppressed,
        )

    def _asked_out_of_band(self, response: ev.Response) -> bool | None:
        return self._responses.asked_out_of_band(response)

    # --- handlers of this session alone ------------------------------------------------------

    if TYPE_CHECKING:
        on: OnFor[Session[Any]]
        """Register a handler for this session; see `Bus.on`."""
        once: OnFor[Session[Any]]
        """Register a handler for one event of this session; see `Bus.once`."""
        wait_for: WaitForFor
        """Return an awaitable of the next event that fits; it listens from this call on."""
        stream: StreamFor
        """Return an async iterator of the events that fit; it listens from this call on."""
    else:

        def on(self, *selectors, where=None, **options):
            """Register a handler for this session; see `Bus.on`."""
            return registering(self._pipeline.add, selectors, where, options, once=False)

        def once(self, *selectors, where=None, **options):
            """Register a handler for one event of this session; see `Bus.once`."""
            return registering(self._pipeline.add, selectors, where, options, once=True)

        def wait_for(self, *selectors, where=None, timeout_s=None):
            """Return an awaitable of the next event that fits; it listens from this call on."""
            return WaitFor(self._pipeline, selectors, where=where, timeout_s=timeout_s)

        def stream(self, *selectors, where=None):
            """Return an async iterator of the events that fit; it listens from this call on."""
            return EventStream(self._pipeline, selectors, where=where)

    def off(self, function: Callable[..., Any]) -> None:
        """Take a handler or interceptor out of this session.

        A handler that is registered with the bus is taken out of this session alone.

        Raises:
            UsageError: It is not registered here.
        """
        self._pipeline.off(function)

    # --- the seam for plugins ----------------------------------------------------------------

    def intercept(
        self, selector: object, interceptor: Interceptor, *, narrowed: bool = False
    ) -> None:
        """See incoming events before any handler does.

        Args:
            selector: Classes, wire names or patterns, as for `on`; a tuple for several.
            interceptor: A plain function of (event, session). What it returns goes on to the
                next interceptor and to the handlers; None ends the event. To delay one, keep
                it, return None, and call `inject` with it later.
            narrowed: Whether all fields of its events are of their types, also where a server's
                are not; see `realtime_bus.narrow`. What handlers get is another matter: each has
                an option of its own.

        Raises:
            UsageError: The selector stands for nothing, or the function cannot intercept.
        """
        self._pipeline.router.intercept(selector, interceptor, narrowed=narrowed)

    def intercept_outgoing(self, selector: object, interceptor: Interceptor) -> None:
        """See events before they are sent; the same rules as for `intercept`.

        An interceptor that raises refuses the event: whoever sends it gets the exception.

        Raises:
            UsageError: The selector stands for nothing, or the function cannot intercept.
        """
        self._pipeline.outgoing.intercept(selector, interceptor)

    def tap(
        self,
        *,
        received: Callable[[bytes], object] | None = None,
        sent: Callable[[bytes], object] | None = None,
        aside: Callable[[bytes, bool], object] | None = None,
        named: Callable[[dict[str, str]], object] | None = None,
    ) -> None:
        """See every frame as it is, in both directions; called in a plugin's ``attach``.

        Frames that nobody listens to are seen, too, and are not decoded for it.

        Args:
            received: Called with each frame from the server, before its event reaches anybody.
            sent: Called with each frame that is about to be handed to the connection.
            aside: Called with each frame of a lost connection's replacement that only the library
                sees, and whether it was sent: those that restore the conversation there. One that
                `received` was called with, too, is found to be such while it is dispatched.
            named: Called when the next server has given items other ids than handlers know them
                by: with handlers' ids by that server's, all of them.

        Raises:
            UsageError: Frames have come already.
        """
        self._pipeline.taps.tap(received, sent, aside, named)

    def run_within(self, manager: Callable[[], AbstractContextManager[object]]) -> None:
        """Run the session's handlers inside a context manager; called in a plugin's ``attach``.

        It is for context variables. It is entered around each frame's way to the plain handlers,
        and where async handlers' tasks begin, which keep what is set there. Tasks of
        `start_soon` keep what is set where that is called.

        Args:
            manager: Returns a context manager, a new one each time; neither may wait, and what it
                costs is added to each frame.

        Raises:
            UsageError: Frames have come already.
        """
        self._pipeline.taps.run_within(manager)

    def inject(self, event: ev.Event, *, behind: Interceptor | None = None) -> None:
        """Deliver an event that was held back, or one of your own making.

        Args:
            event: What handlers are to get. It goes on behind the interceptor that held it; one
                that none has held meets all of them.
            behind: The interceptor to go on behind, for an event made in place of one held back.

        Raises:
            UsageError: It is not an event.
        """
        if not isinstance(event, ev.Event):
            raise UsageError(f"{event!r:.80} is not an event")
        self._pipeline.inject(event, behind)

    def emit(self, event: ev.BusEvent) -> None:
        """Deliver an event of the application's or a plugin's own to those who listen, at once.

        Raises:
            UsageError: It is no such event.
        """
        if not isinstance(event, ev.BusEvent):
            raise UsageError(
                f"{event!r:.80} is no event of your own; derive it from events.AppEvent"
            )
        self._pipeline.emit(event)

    def keep_history(self) -> HistoryState:
        """Keep what is said from now on, unless that is kept already, and return it.

        A conversation that can reconnect keeps it: it is what the next connection is told.
        """
        if self.history is None:
            self.history = HistoryState()
            self._pipeline.observe(HistoryState.SEEN, self.history.see)
        return self.history

    def note_heard(
        self, item_id: str, *, content_index: int = 0, heard_ms: int, generated_ms: int
    ) -> None:
        """Note how much of an item's audio was heard when it was cut off, as its sink says."""
        if self.history is not None:
            self.history.heard(
                item_id, content_index=content_index, heard_ms=heard_ms, generated_ms=generated_ms
            )

    def busy_while(self, is_busy: Callable[[], bool]) -> None:
        """Replace the connection before its limit at a moment when this is false, if there is one.

        Args:
            is_busy: Tells whether somebody would notice, such as while something plays.
        """
        self._busy.append(is_busy)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run an async function in the session's task group; it is cancelled at its end.

        One that raises is reported like a handler that raises.

        Raises:
            SessionClosed: The session is over.
        """
        self._lifecycle.start_soon(function, *args)

    def on_close(self, callback: Callable[[], Any]) -> None:
        """Call a plain function when the session has ended."""
        self._lifecycle.on_close(callback)

    @property
    def frame(self) -> bytes:
        """The frame being dispatched; valid in inline handlers and interceptors."""
        return self._pipeline.frame

    @property
    def url(self) -> str:
        """Where it was first connected to, without the query; empty for a transport of your own."""
        return self._pipeline.url

    @property
    def frame_time_s(self) -> float:
        """When it was delivered, on the clock of `time.perf_counter`, in seconds."""
        return self._pipeline.frame_time_s

    @property
    def clock(self) -> Callable[[], float]:
        """Reads the event loop's time in seconds, as `anyio.current_time` does, but sooner.

        What is decided by time goes by it: in a test, or when a recording is replayed, it may be
        virtual.
        """
        return self._pipeline.clock

    # --- sending -----------------------------------------------------------------------------

    def send_nowait(self, event: ev.ClientEvent) -> bool:
        """Check an event, encode it and hand it to the transport, without waiting.

        A ``response.create`` is sent when its turn has come; see `respond`.

        Returns:
            Whether it was taken: False if an interceptor ended it.

        Raises:
            InvalidEvent: The server would refuse it; nothing was sent.
            SessionClosed: The session has ended.
        """
        if not isinstance(event, ev.ResponseCreate):
            return self._pipeline.outgoing.send_nowait(event)
        if self.close_info is not None:
            raise self._lifecycle.closed_error("send")
        request = self._responses.prepare(event)
        self._responses.submit(request)
        if request.error is None:
            return True
        if isinstance(request.error, RequestError):
            return False
        raise request.error

    async def send(self, event: ev.ClientEvent) -> bool:
        """Send an event, and wait while too much is still unsent; see `send_nowait`."""
        taken = self.send_nowait(event)
        await self._pipeline.outgoing.drain()
        return taken

    def _next_event_id(self) -> str:
        """Return an id for a client event that no other one has."""
        return f"rb_{self._token}_{next(self._numbers)}"

    def _next_item_id(self) -> str:
        return f"{ITEM_ID_PREFIX}{self._token}_{next(self._numbers)}"

    async def request(
        self, event: ev.ClientEvent, *, timeout_s: float | None = REQUEST_TIMEOUT_S
    ) -> ev.Event:
        """Send an event and wait for the one that confirms it.

        Args:
            event: A client event that has an answer; one without ``event_id`` is given one.
            timeout_s: Seconds to wait; None for as long as it takes.

        Raises:
            RequestRejected: The server answered with an error.
            RequestTimeout: It did not answer in time.
            RequestError: An outgoing interceptor ended the event; it was not sent.
            SessionClosed: The session has ended, or ended meanwhile.
            InvalidEvent: The event would be refused; it was not sent.
            UsageError: The event has no answer that could be awaited.
        """
        if type(event) not in ANSWERED:
            hint = "use respond()" if isinstance(event, ev.ResponseCreate) else "use send()"
            name = getattr(event, "type", None) or repr(event)[:80]
            raise UsageError(f"{name} has no single answer that could be awaited; {hint}")
        if event.event_id is None:
            event = msgspec.structs.replace(event, event_id=self._next_event_id())
        settled = anyio.Event()
        pending = Pending(event, settled.set)
        self._requests.expect(pending)
        try:
            with anyio.move_on_after(timeout_s), reading_goes_on():
                if not (await self._pipeline.outgoing.send(event) or settled.is_set()):
                    raise not_sent(event)
                await settled.wait()
        finally:
            self._requests.abandon(pending)
        if timeout_s is not None and not settled.is_set():
            raise RequestTimeout(
                f"the server did not answer {event.type} within {timeout_s:g} s",
                event_type=event.type,
                event_id=event.event_id or "",
                timeout_s=timeout_s,
            )
        if pending.answer is None:
            raise cast("Exception", pending.error)  # settled means that one of the two is there
        return pending.answer

    async def _ask(self, event: ev.ClientEvent, _answer: type[_A]) -> _A:
        return cast("_A", await self.request(event))

    def _refuse(self, verb: str, *kinds: SessionKind) -> None:
        """Say at once that this kind of session has no such verb.

        Raises:
            UsageError: Its kind is one of these.
        """
        if self._kind in kinds:
            other = "; use update_translation()" if verb == "update" else ""
            raise UsageError(f"a {self._kind} session has no {verb}(){other}")

    # --- requests ----------------------------------------------------------------------------

    async def update(
        self, session: ev.SessionRequest | None = None, **settings: Unpack[SessionSettings]
    ) -> ev.SessionUpdated:
        """Change settings, and return the server's confirmation with all that is in force.

        Args:
            session: A whole request object; or give single settings by name.
            **settings: See `SessionSettings`, and `TranscriptionSettings` in a session that only
                transcribes.

        Raises:
            RequestRejected: The server refused; nothing changed.
            UsageError: There is no such setting, or both an object and settings were given.
        """
        self._refuse("update", "translation")
        if session is not None and settings:
            raise UsageError("update() takes a session object or single settings, not both")
        wanted = settings_request(settings, self._kind) if session is None else session
        return await self._ask(ev.SessionUpdate(session=wanted), ev.SessionUpdated)

    async def update_translation(
        self,
        session: translation.TranslationSessionRequest | None = None,
        **settings: Unpack[TranslationSettings],
    ) -> translation.SessionUpdated:
        """Change the settings of a translation session, and return what is in force.

        Raises:
            RequestRejected: The server refused; nothing changed.
            UsageError: This session does not translate, or there is no such setting.
        """
        self._refuse("update_translation", "realtime", "transcription")
        if session is not None and settings:
            raise UsageError(
                "update_translation() takes a session object or single settings, not both"
            )
        wanted = settings_request(settings, "translation") if session is None else session
        return await self._ask(
            translation.SessionUpdate(session=wanted), translation.SessionUpdated
        )

    async def append_audio(self, audio: bytes) -> None:
        """Send audio, in the session's input format, split where it is long.

        Nothing confirms it; waits while too much is still unsent.
        """
        append: Callable[..., ev.ClientEvent] = ev.InputAudioBufferAppend
        if self._kind == "translation":
            append = translation.SessionInputAudioBufferAppend
        for start in range(0, len(audio), _PIECE_BYTES):
            await self._pipeline.outgoing.send(append(audio=audio[start : start + _PIECE_BYTES]))

    async def commit_input(self) -> ev.InputAudioBufferCommitted:
        """Make a user message of the input buffer; at least 100 ms must be there."""
        self._refuse("commit_input", "translation")
        return await self._ask(ev.InputAudioBufferCommit(), ev.InputAudioBufferCommitted)

    async def clear_input(self) -> ev.InputAudioBufferCleared:
        """Discard what is in the input buffer."""
        self._refuse("clear_input", "translation")
        return await self._ask(ev.InputAudioBufferClear(), ev.InputAudioBufferCleared)

    async def create_item(
        self, item: ev.Item, *, previous_item_id: str | None = None
    ) -> ev.ConversationItemAdded:
        """Add an item to the conversation: at its end, or behind another one.

        Args:
            item: A message, function call output and so on; one without id is given one.
            previous_item_id: The item to put it behind; ``"root"`` puts it first.
        """
        self._refuse("create_item", "transcription", "translation")
        if isinstance(item, msgspec.Struct) and getattr(item, "id", "") is None:
            item = msgspec.structs.replace(item, id=self._next_item_id())
        event = ev.ConversationItemCreate(item=item, previous_item_id=previous_item_id)
        return await self._ask(event, ev.ConversationItemAdded)

    async def send_text(self, text: str) -> ev.ConversationItemAdded:
        """Add a user message of text; it starts no response: see `respond`."""
        message = ev.MessageItem(role="user", content=[ev.InputText(text=text)])
        return await self.create_item(message)

    async def retrieve_item(self, item_id: str) -> ev.ConversationItemRetrieved:
        """Fetch an item with its audio."""
        self._refuse("retrieve_item", "translation")
        event = ev.ConversationItemRetrieve(item_id=item_id)
        return await self._ask(event, ev.ConversationItemRetrieved)

    async def delete_item(self, item_id: str) -> ev.ConversationItemDeleted:
        """Take an item out of the conversation."""
        self._refuse("delete_item", "translation")
        event = ev.ConversationItemDelete(item_id=item_id)
        return await self._ask(event, ev.ConversationItemDeleted)

    async def truncate_item(
        self, item_id: str, *, audio_end_ms: int, content_index: int = 0
    ) -> ev.ConversationItemTruncated:
        """Cut an assistant's audio to what was heard; its transcript leaves the context."""
        self._refuse("truncate_item", "transcription", "translation")
        event = ev.ConversationItemTruncate(
            item_id=item_id, content_index=content_index, audio_end_ms=audio_end_ms
        )
        return await self._ask(event, ev.ConversationItemTruncated)

    # --- responses ---------------------------------------------------------------------------

    def respond(
        self,
        params: ev.ResponseCreateParams | None = None,
        *,
        replace: bool = False,
        while_speaking: bool = False,
        timeout_s: float | None = RESPONSE_TIMEOUT_S,
        **fields: Any,
    ) -> Reply:
        """Ask for a response; while another one is active, wait for its end first.

        So does it while the server's turn detection hears somebody speak; and where the server
        answers speech by itself, that answer comes first, too. One out of band waits for nothing.

        Args:
            params: Everything about it; or give single fields of `events.ResponseCreateParams`
                by name, such as ``instructions=...`` or ``conversation="none"``.
            replace: Cancel the active response instead of waiting for its end.
            while_speaking: Do not wait for the person, whoever speaks.
            timeout_s: Seconds that awaiting the reply may take, the time in the queue included;
                None for as long as it takes.
            **fields: Fields of `events.ResponseCreateParams`.

        Returns:
            A `Reply`: await it for the finished response, or read it while it comes.

        Raises:
            InvalidEvent: The request would be refused; nothing was sent.
            UsageError: What was given are no parameters of a response, or this session has none.
            SessionClosed: The session has ended.
        """
        self._refuse("respond", "transcription", "translation")
        if self.close_info is not None:
            raise self._lifecycle.closed_error("respond")
        request = self._responses.prepare(
            ev.ResponseCreate(response=_params(params, fields)), while_speaking=while_speaking
        )
        reply = Reply(self._responses, request, timeout_s=timeout_s)  # reads before anything comes
        self._responses.submit(request, replace=replace)
        return reply

    @property
    def active_response_id(self) -> str | None:
        """The response of the default conversation that is being generated, or None."""
        return self.conversation.active_response_id

    async def cancel_response(self, response_id: str | None = None) -> None:
        """Stop a response; if none is active, that is no error.

        Args:
            response_id: Which one; None for the active one of the default conversation.
        """
        self._refuse("cancel_response", "transcription", "translation")
        wanted = response_id or self.active_response_id
        if wanted is None:
            return
        try:
            await self.request(ev.ResponseCancel(response_id=wanted))
        except RequestRejected as error:
            if error.code != "response_cancel_not_active":
                raise

    # --- the end, and figures ----------------------------------------------------------------

    @property
    def close_info(self) -> CloseInfo | None:
        """How the session ended, or None while it is open."""
        return self._lifecycle.close_info

    @property
    def reconnecting(self) -> bool:
        """Whether there is no connection at the moment; what is sent waits for the next one."""
        return self._recovery is not None and self._recovery.active

    async def wait_closed(self) -> CloseInfo:
        """Wait until the session has ended, and return how."""
        return await self._lifecycle.wait_closed()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection, and wait until both sides have.

        Args:
            code: WebSocket close code: 1000, or 3000 to 4999 for one of your own.
            reason: For the other side; shortened to 123 bytes of UTF-8.

        Raises:
            UsageError: The code may not be sent.
        """
        await self._lifecycle.aclose(code, reason)

    def statistics(self) -> SessionStatistics:
        """Return what the session has been through so far."""
        pipeline = self._pipeline
        return SessionStatistics(
            frames_received=pipeline.frames_received,
            bytes_received=pipeline.bytes_received,
            frames_skipped=pipeline.frames_skipped,
            frames_sent=pipeline.outgoing.frames_sent,
            bytes_sent=pipeline.outgoing.bytes_sent,
            drift=pipeline.drift_counts,
            handlers=pipeline.router.statistics(),
        )


def _params(params: object, fields: dict[str, Any]) -> ev.ResponseCreateParams:
    """Return the parameters of a response, however they were given."""
    if params is None:
        unknown = fields.keys() - {*ev.ResponseCreateParams.__struct_fields__}
        if unknown:
            known = ", ".join(ev.ResponseCreateParams.__struct_fields__)
            raise UsageError(f"respond() has no {min(unknown)!r}; known are {known}")
        return ev.ResponseCreateParams(**fields)
    if not isinstance(params, ev.ResponseCreateParams):
        raise UsageError(
            f"respond() got {params!r:.40}; it takes events.ResponseCreateParams, or fields by "
            "name such as respond(instructions=...). To say something as the user, send_text() "
            "first"
        )
    if fields:
        raise UsageError("respond() takes a params object or single fields, not both")
    return params

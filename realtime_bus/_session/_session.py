"""One live conversation: what an application holds in its hands."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import msgspec
from typing_extensions import Unpack

from .. import events as ev
from .._bus._options import HandlerOptions
from .._bus._subscription import Subscription
from .._errors import CloseInfo, RequestTimeout, SessionClosed
from ..codec import MAX_APPEND_BYTES
from ._arbiter import Arbiter, ResponseTask, mark_request
from ._core import SessionCore
from ._fields import SessionFields, session_request
from ._log_errors import log_error
from ._reply import Reply
from ._requests import CONFIRMING, ITEM_ID_PREFIX, Pending, Requests, rejection
from ._waiting import EventStream, WaitFor

if TYPE_CHECKING:
    from .._bus._bus import Bus
    from .._bus._typed import OnFor, StreamFor, WaitForFor
    from ..events._vocabulary import Vocabulary
    from ..transport import Transport

__all__ = ["Session"]

_A = TypeVar("_A", bound=ev.Event)
_PIECE_BYTES = 240_000  # five seconds of PCM16: a larger append only delays what follows it
_DEFAULT_TIMEOUT_S = 10.0

assert _PIECE_BYTES <= MAX_APPEND_BYTES  # noqa: S101  # a relation of constants, not of input


class Session(SessionCore):
    """One live conversation: a transport, the bus's routing for it, sending, awaiting.

    Made by `Bus.connect` and `Bus.session`; not by hand.

    Attributes:
        id: The server's id of the session, ``sess_…``, once it is known.
        config: What the server last said is in force, or None before it did.
        last_error: What the server last complained about, or None.
    """

    def __init__(self, bus: Bus, transport: Transport, vocabulary: Vocabulary) -> None:
        super().__init__(bus, transport, vocabulary)
        self.id: str | None = None
        self.config: Any = None
        self.last_error: ev.ErrorDetails | None = None
        self._numbers = itertools.count(1)
        self._requests = Requests()
        self._arbiter = Arbiter(self.send_nowait)
        self._created = anyio.Event()
        self._watching = False
        self._close_waiters.append(self._fail_waiting)
        self._observe()

    def _observe(self) -> None:
        """Listen to what the session itself needs to know; before any handler does."""
        watched: tuple[tuple[Callable[[Any], None], tuple[type[ev.Event], ...]], ...] = (
            (self._see_session, (ev.SessionCreated, ev.SessionUpdated)),
            (self._see_session, (ev.translation.SessionCreated, ev.translation.SessionUpdated)),
            (self._see_response, (ev.ResponseCreated, ev.ResponseDone)),
            (self._see_progress, (ev.ResponseOutputItemAdded, ev.ResponseOutputItemDone)),
            (self._see_error, (ev.Error,)),
            (self._requests.observe, tuple(CONFIRMING)),
        )
        for see, classes in watched:
            self._router.add(Subscription(see, frozenset(classes), where=None, options={}))

    # --- what the session needs to know ------------------------------------------------------

    def _see_session(self, event: Any) -> None:
        self.config = event.session
        if isinstance(event, ev.SessionCreated | ev.translation.SessionCreated):
            self.id = getattr(event.session, "id", None)
            self._created.set()

    def _see_response(self, event: Any) -> None:
        see = self._arbiter.done if isinstance(event, ev.ResponseDone) else self._arbiter.created
        see(event.response, monotonic(), echoes=b'"metadata"' in self.frame)

    def _see_progress(self, event: Any) -> None:
        self._arbiter.signs_of_life(event.response_id, monotonic())

    def _see_error(self, event: ev.Error) -> None:
        self.last_error = event.error
        if self.bus.log_errors:
            log_error(event.error)
        task = self._arbiter.refused(event.error, monotonic())
        if task is not None:
            task.settle(error=rejection(task.event, event.error))
        self._requests.observe(event)

    def _fail_waiting(self, close: CloseInfo) -> None:
        self._requests.fail_all(close)
        reason = f" ({close.reason})" if close.reason else ""
        self._arbiter.close(
            SessionClosed(
                f"the session closed with {close.code}{reason} before the response was done",
                close=close,
            )
        )
        self._created.set()

    async def wait_created(self) -> None:
        """Wait for ``session.created``, or for the end if that comes first."""
        await self._created.wait()

    # --- handlers of this session alone ------------------------------------------------------

    if TYPE_CHECKING:
        on: OnFor
        """Register a handler for this session; see `Bus.on`."""
        once: OnFor
        """Register a handler for one event of this session; see `Bus.once`."""
        wait_for: WaitForFor
        """Return an awaitable of the next event that fits; it listens from this call on."""
        stream: StreamFor
        """Return an async iterator of the events that fit; it listens from this call on."""
    else:

        def on(self, *selectors, where=None, **options):
            """Register a handler for this session; see `Bus.on`."""
            return self._register(selectors, where, options, once=False)

        def once(self, *selectors, where=None, **options):
            """Register a handler for one event of this session; see `Bus.once`."""
            return self._register(selectors, where, options, once=True)

        def wait_for(self, *selectors, where=None, timeout_s=None):
            """Return an awaitable of the next event that fits; it listens from this call on."""
            return WaitFor(self, selectors, where=where, timeout_s=timeout_s)

        def stream(self, *selectors, where=None):
            """Return an async iterator of the events that fit; it listens from this call on."""
            return EventStream(self, selectors, where=where)

    def _register(
        self,
        selectors: tuple[object, ...],
        where: Callable[[Any], bool] | None,
        options: HandlerOptions,
        *,
        once: bool,
    ) -> Callable[[Any], Any]:
        def register(handler: Any) -> Any:
            self._router.add(
                Subscription.build(handler, selectors, where=where, options=options, once=once)
            )
            return handler

        return register

    def off(self, handler: Callable[..., Any]) -> None:
        """Take out a handler that was registered with this session's `on` or `once`.

        Raises:
            RegistrationError: It is not registered here.
        """
        self._router.off(handler)

    # --- requests ----------------------------------------------------------------------------

    def next_event_id(self) -> str:
        """Return an id for a client event, unique in this session."""
        return f"rb_{next(self._numbers)}"

    async def request(
        self, event: ev.ClientEvent, *, timeout_s: float | None = _DEFAULT_TIMEOUT_S
    ) -> ev.Event:
        """Send an event and wait for the one that confirms it.

        Args:
            event: Any client event that has an answer; one without ``event_id`` is given one.
            timeout_s: Seconds to wait; None for as long as it takes.

        Raises:
            RequestRejected: The server answered with an error.
            RequestTimeout: It did not answer in time.
            SessionClosed: The session has ended, or ended meanwhile.
            InvalidEvent: The event would be refused; it was not sent.
        """
        if event.event_id is None:
            event = msgspec.structs.replace(event, event_id=self.next_event_id())
        settled = anyio.Event()
        pending = Pending(event, settled.set)
        self._requests.add(pending)
        try:
            with anyio.fail_after(timeout_s):
                await self.send(event)
                await settled.wait()
        except TimeoutError:
            raise _timed_out(event, timeout_s or 0.0) from None
        finally:
            self._requests.forget(pending)
        return _outcome(pending)

    async def _ask(self, event: ev.ClientEvent, answer: type[_A]) -> _A:
        return cast("_A", await self.request(event))

    # --- verbs -------------------------------------------------------------------------------

    async def update(
        self, session: ev.SessionRequest | None = None, **fields: Unpack[SessionFields]
    ) -> ev.SessionUpdated:
        """Change settings, and return the server's confirmation with all that is in force.

        Args:
            session: A whole request object; or give single settings by name.
            **fields: See `SessionFields`.

        Raises:
            RequestRejected: The server refused; nothing changed.
        """
        request = session if session is not None else session_request(fields)
        return await self._ask(ev.SessionUpdate(session=request), ev.SessionUpdated)

    async def append_audio(self, audio: bytes) -> None:
        """Send audio, in the session's input format, split where it is long.

        Nothing confirms it; waits while too much is still unsent.
        """
        for start in range(0, len(audio), _PIECE_BYTES):
            await self.send(ev.InputAudioBufferAppend(audio=audio[start : start + _PIECE_BYTES]))

    async def commit(self) -> ev.InputAudioBufferCommitted:
        """Make a user message of the input buffer; at least 100 ms must be there."""
        return await self._ask(ev.InputAudioBufferCommit(), ev.InputAudioBufferCommitted)

    async def clear(self) -> ev.InputAudioBufferCleared:
        """Discard what is in the input buffer."""
        return await self._ask(ev.InputAudioBufferClear(), ev.InputAudioBufferCleared)

    async def create_item(
        self, item: ev.Item, *, previous_item_id: str | None = None
    ) -> ev.ConversationItemAdded:
        """Add an item to the conversation: at its end, or behind another one.

        Args:
            item: A message, function call output and so on; one without id is given one.
            previous_item_id: The item to put it behind; ``"root"`` puts it first.
        """
        if isinstance(item, msgspec.Struct) and getattr(item, "id", "") is None:
            item = msgspec.structs.replace(item, id=f"{ITEM_ID_PREFIX}{next(self._numbers)}")
        event = ev.ConversationItemCreate(item=item, previous_item_id=previous_item_id)
        return await self._ask(event, ev.ConversationItemAdded)

    async def send_text(self, text: str) -> ev.ConversationItemAdded:
        """Add a user message of text; it starts no response: see `respond`."""
        return await self.create_item(ev.MessageItem(role="user", content=[ev.InputText(text=text)]))

    async def retrieve_item(self, item_id: str) -> ev.ConversationItemRetrieved:
        """Fetch an item with its audio."""
        event = ev.ConversationItemRetrieve(item_id=item_id)
        return await self._ask(event, ev.ConversationItemRetrieved)

    async def delete_item(self, item_id: str) -> ev.ConversationItemDeleted:
        """Take an item out of the conversation."""
        event = ev.ConversationItemDelete(item_id=item_id)
        return await self._ask(event, ev.ConversationItemDeleted)

    async def truncate_item(
        self, item_id: str, *, audio_end_ms: int, content_index: int = 0
    ) -> ev.ConversationItemTruncated:
        """Cut an assistant's audio to what was heard; its transcript leaves the context."""
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
        timeout_s: float | None = None,
        **fields: Any,
    ) -> Reply:
        """Ask for a response; while another one is active, wait for its end first.

        Args:
            params: Everything about it; or give single fields of `events.ResponseCreateParams`
                by name, such as ``instructions=...`` or ``conversation="none"``.
            replace: Cancel the active response instead of waiting for its end.
            timeout_s: Seconds that awaiting the reply may take; None for as long as it takes.
            **fields: Fields of `events.ResponseCreateParams`.

        Returns:
            A `Reply`: await it for the finished response, or read it while it comes.

        Raises:
            InvalidEvent: The request would be refused; nothing was sent.
            SessionClosed: The session has ended.
        """
        if self._close is not None:
            raise self._closed_error("respond")
        request_id = self.next_event_id()
        wanted = mark_request(params or ev.ResponseCreateParams(**fields), request_id)
        task = ResponseTask(ev.ResponseCreate(event_id=request_id, response=wanted))
        reply = Reply(cast("Any", self), task, timeout_s=timeout_s)
        self._submit(task, replace=replace)
        return reply

    def _submit(self, task: ResponseTask, *, replace: bool) -> None:
        if replace and self._arbiter.active_id is not None and not task.out_of_band:
            self.send_nowait(ev.ResponseCancel(event_id=self.next_event_id()))
        self._arbiter.submit(task, monotonic())
        if self._arbiter.waiting and not self._watching:
            self._watching = True
            self.start_soon(self._watch_responses)

    async def _watch_responses(self) -> None:
        """See that a ``response.done`` that never comes holds up nobody for ever."""
        try:
            while (deadline_s := self._arbiter.next_deadline_s()) is not None:
                await anyio.sleep(max(deadline_s - monotonic(), 0.01))
                self._arbiter.advance(monotonic())
        finally:
            self._watching = False

    @property
    def active_response_id(self) -> str | None:
        """The response of the default conversation that is being generated, or None."""
        return self._arbiter.active_id

    async def cancel(self, response_id: str | None = None) -> None:
        """Stop a response; if none is active, that is no error.

        Args:
            response_id: Which one; None for the active one of the default conversation.
        """
        if response_id is None and self._arbiter.active_id is None:
            return
        event = ev.ResponseCancel(response_id=response_id or self._arbiter.active_id)
        try:
            await self.request(event)
        except Exception as error:
            if getattr(error, "code", None) != "response_cancel_not_active":
                raise

    async def cancel_task(self, task: ResponseTask) -> None:
        """Stop a response that was asked for, wherever it is on its way."""
        if task.settled:
            return
        if self._arbiter.withdraw(task):
            cancelled = ev.StatusDetails(type="cancelled", reason="client_cancelled")
            task.settle(response=ev.Response(status="cancelled", status_details=cancelled))
            return
        if task.response_id is None:
            created = anyio.Event()
            task.on_created = created.set
            settled, task.on_settled = task.on_settled, _both(task.on_settled, created.set)
            await created.wait()
            task.on_settled = settled
        if not task.settled:
            await self.cancel(task.response_id)


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        first()
        second()

    return call


def _timed_out(event: ev.ClientEvent, timeout_s: float) -> RequestTimeout:
    return RequestTimeout(
        f"the server did not answer {event.type} within {timeout_s:g} s",
        event_type=event.type,
        event_id=event.event_id or "",
        timeout_s=timeout_s,
    )


def _outcome(pending: Pending) -> ev.Event:
    if pending.error is not None:
        raise pending.error
    if pending.answer is None:
        raise _timed_out(cast("Any", pending.event), 0.0)
    return pending.answer

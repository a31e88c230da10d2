"""A session that another process holds, as a worker sees it: its events, and what can be asked.

Rules:

1. Only the holder speaks to the server. Every verb is a command to it, with an id, and its answer;
   errors come back as the same exceptions that `Session` raises.
2. A command is sent again, under its id, until an answer comes: the holder does it once.
3. The id of a command that a handler gives follows from the event that it handles. So a handler
   that gets an event again, here or in another worker, and asks the same thing in the same order,
   gets the first one's answer, if that was a success.
4. Where nobody answers, the buckets say why: the session has ended, its holder has died, or it is
   only away for a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import anyio
import msgspec
from typing_extensions import TypeVar as TypeVarWithDefault
from typing_extensions import Unpack

from realtime_bus import (
    CloseInfo,
    InvalidEvent,
    RequestRejected,
    RequestTimeout,
    SessionSettings,
    TranslationSettings,
    UsageError,
    decode,
    encode,
)
from realtime_bus import events as ev
from realtime_bus.feed import Feed, OnFor, StreamFor, WaitForFor, current_delivery, settings_request

from ._broker import Broker
from ._nats import broker_errors, heeding
from ._subjects import escape
from ._wire import Answer, Command, HolderLost, SessionGone, Verb, Whereabouts, error_from, to_json

StateT = TypeVarWithDefault("StateT", default=Any)
_A = TypeVar("_A", bound=ev.Event)

_RESEND_S: Final = 2.0
_MARGIN_S: Final = 2.0  # for the way there and back, beside what the server may take
_UNKNOWN_S: Final = 3.0  # a session may be younger than its entry
_UNHEARD_OF_S: Final = 0.5  # … which is less likely if nothing was heard of it
_ANSWER: Final = msgspec.json.Decoder(Answer)
_WHEREABOUTS: Final = msgspec.json.Decoder(Whereabouts)

REQUEST_TIMEOUT_S: Final = 10.0
RESPONSE_TIMEOUT_S: Final = 60.0


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """How an event came to this worker.

    Attributes:
        key: Names the event: the same whenever and wherever it is delivered.
        sequence: Its number in its session, from 1.
        stream_sequence: Its number in the stream, from which a replay can start.
        published_at: When its holder had it, in seconds since 1970.
        repeated: Whether another worker may have had it, too.
        headers: All of its headers, such as trace context.
        payload: The frame as the server sent it; of an event of the bus its JSON.
    """

    key: str
    sequence: int
    stream_sequence: int
    published_at: float
    repeated: bool
    headers: dict[str, str]
    payload: bytes


class RemoteSession(Generic[StateT]):
    """A session that another process holds.

    Made by `RemoteBus`; not by hand.

    Attributes:
        id: The session's id.
        state: The application's own object of this call, in this worker.
        protocol: What it speaks.
        holder: The process that holds it, as far as events have said.
        missing: Events that were never published, or got lost: holes in their numbers.
    """

    def __init__(
        self, broker: Broker, session_id: str, *, token: str, group: str, state: StateT
    ) -> None:
        self.id: str = session_id
        self.state: StateT = state
        self.protocol: ev.ProtocolName = "realtime"
        self.holder: str = ""
        self.missing: int = 0
        self._broker = broker
        self._token = token
        self._group = group
        self._feed: Feed[Any] | None = None
        self._arrivals: dict[str, Arrival] = {}

    def __repr__(self) -> str:
        return f"<RemoteSession {self.id}>"

    # --- its events --------------------------------------------------------------------------

    if TYPE_CHECKING:
        on: OnFor[RemoteSession[Any]]
        """Register a handler for this session in this worker; see `Session.on`."""
        once: OnFor[RemoteSession[Any]]
        """Register a handler for one event of this session; see `Session.once`."""
        wait_for: WaitForFor
        """Return an awaitable of the next event that fits; it listens from this call on."""
        stream: StreamFor
        """Return an async iterator of the events that fit; it listens from this call on."""
    else:

        def on(self, *selectors, where=None, **options):
            """Register a handler for this session in this worker; see `Session.on`."""
            return self._events().registering(selectors, where, options, once=False)

        def once(self, *selectors, where=None, **options):
            """Register a handler for one event of this session; see `Session.once`."""
            return self._events().registering(selectors, where, options, once=True)

        def wait_for(self, *selectors, where=None, timeout_s=None):
            """Return an awaitable of the next event that fits; it listens from this call on."""
            return self._events().wait_for(selectors, where, timeout_s)

        def stream(self, *selectors, where=None):
            """Return an async iterator of the events that fit; it listens from this call on."""
            return self._events().stream(selectors, where)

    def off(self, function: Callable[..., Any]) -> None:
        """Take a handler out of this session.

        Raises:
            UsageError: It is not registered here.
        """
        if not self._events().off(function):
            raise UsageError(f"{function!r:.80} is not registered here")

    def emit(self, event: ev.BusEvent) -> None:
        """Deliver an event of your own to those who listen in this worker, at once.

        Raises:
            UsageError: It is no such event.
        """
        if not isinstance(event, ev.BusEvent):
            raise UsageError(
                f"{event!r:.80} is no event of your own; derive it from events.AppEvent"
            )
        self._events().emit(event)

    def start_soon(self, function: Callable[..., Any], *args: object) -> None:
        """Run an async function for as long as this worker has the session.

        Raises:
            SessionClosed: It has it no more.
        """
        self._events().start_soon(function, *args)

    def arrival(self) -> Arrival | None:
        """Return how the event came that is being handled here; None outside of a handler."""
        handling = current_delivery()
        return None if handling is None else self._arrivals.get(handling.key)

    def _events(self) -> Feed[Any]:
        if self._feed is None:
            raise UsageError(
                f"the events of {self.id} do not come here: this session was made by "
                "RemoteBus.session(), to talk to it"
            )
        return self._feed

    # --- commands ----------------------------------------------------------------------------

    async def request(
        self, event: ev.ClientEvent, *, timeout_s: float | None = REQUEST_TIMEOUT_S
    ) -> ev.Event:
        """Have the holder send an event, and return what confirms it; see `Session.request`.

        Raises:
            RequestRejected: The server answered with an error.
            RequestTimeout: The server, or the holder, did not answer in time.
            SessionGone: The session has ended.
            HolderLost: The process that held it has died.
            InvalidEvent: The event would be refused; it was not sent.
            UsageError: It is no event that a client sends, or has no answer.
        """
        answer = await self._ask("request", event, timeout_s=timeout_s)
        found = decode(bytes(answer), protocol=self.protocol)
        if isinstance(found, ev.UnknownEvent | ev.InvalidFrame):
            raise UsageError(f"the holder's answer cannot be read here: {found!r:.200}")
        return found

    async def send(self, event: ev.ClientEvent) -> bool:
        """Have the holder send an event; False if an interceptor there has ended it."""
        return bytes(await self._ask("send", event, timeout_s=REQUEST_TIMEOUT_S)) == b"true"

    async def _expect(self, event: ev.ClientEvent, _answer: type[_A]) -> _A:
        return cast("_A", await self.request(event))

    async def update(
        self, session: ev.SessionRequest | None = None, **settings: Unpack[SessionSettings]
    ) -> ev.SessionUpdated:
        """Change settings; see `Session.update`."""
        if session is not None and settings:
            raise UsageError("update() takes a session object or single settings, not both")
        wanted: Any = settings_request(settings, "realtime") if session is None else session
        return await self._expect(ev.SessionUpdate(session=wanted), ev.SessionUpdated)

    async def update_translation(
        self, **settings: Unpack[TranslationSettings]
    ) -> ev.translation.SessionUpdated:
        """Change the settings of a translation session; see `Session.update_translation`."""
        wanted: Any = settings_request(settings, "translation")
        event = ev.translation.SessionUpdate(session=wanted)
        return await self._expect(event, ev.translation.SessionUpdated)

    async def create_item(
        self, item: ev.Item, *, previous_item_id: str | None = None
    ) -> ev.ConversationItemAdded:
        """Add an item to the conversation; see `Session.create_item`."""
        if isinstance(item, msgspec.Struct) and getattr(item, "id", "") is None:
            item = msgspec.structs.replace(item, id=f"rb_{self._command_id(b'item')[-24:]}")
        event = ev.ConversationItemCreate(item=item, previous_item_id=previous_item_id)
        return await self._expect(event, ev.ConversationItemAdded)

    async def send_text(self, text: str) -> ev.ConversationItemAdded:
        """Add a user message of text; it starts no response: see `respond`."""
        return await self.create_item(
            ev.MessageItem(role="user", content=[ev.InputText(text=text)])
        )

    async def send_tool_output(self, call_id: str, output: str) -> ev.ConversationItemAdded:
        """Add what a tool that ran here has returned; it starts no response: see `respond`."""
        return await self.create_item(ev.FunctionCallOutputItem(call_id=call_id, output=output))

    async def delete_item(self, item_id: str) -> ev.ConversationItemDeleted:
        """Take an item out of the conversation."""
        event = ev.ConversationItemDelete(item_id=item_id)
        return await self._expect(event, ev.ConversationItemDeleted)

    async def respond(
        self,
        params: ev.ResponseCreateParams | None = None,
        *,
        replace: bool = False,
        while_speaking: bool = False,
        timeout_s: float | None = RESPONSE_TIMEOUT_S,
        **fields: Any,
    ) -> ev.Response:
        """Ask for a response, and return it when it is finished; see `Session.respond`.

        Raises:
            RequestRejected: The server refused.
            RequestTimeout: It was not finished in time.
            SessionGone: The session has ended.
            HolderLost: The process that held it has died.
            UsageError: What was given are no parameters of a response.
        """
        if params is not None and fields:
            raise UsageError("respond() takes a params object or single fields, not both")
        unknown = fields.keys() - {*ev.ResponseCreateParams.__struct_fields__}
        if unknown:
            raise UsageError(f"respond() has no {min(unknown)!r}")
        wanted = params if params is not None else ev.ResponseCreateParams(**fields)
        answer = await self._ask(
            "respond",
            ev.ResponseCreate(response=wanted),
            timeout_s=timeout_s,
            replace=replace,
            while_speaking=while_speaking,
        )
        framed = b'{"type":"response.done","response":%b}' % bytes(answer)
        done = decode(framed, protocol=self.protocol)
        if not isinstance(done, ev.ResponseDone):
            raise UsageError(f"the holder's answer cannot be read here: {done!r:.200}")
        return done.response

    async def cancel_response(self, response_id: str | None = None) -> None:
        """Stop a response; if none is active, that is no error."""
        try:
            await self.request(ev.ResponseCancel(response_id=response_id))
        except RequestRejected as error:
            if error.code != "response_cancel_not_active":
                raise

    async def publish(self, event: ev.AppEvent) -> None:
        """Have the holder emit an application's event: there and in workers, who listens gets it.

        Raises:
            UsageError: The holder does not know its class.
        """
        await self._ask("emit", event, timeout_s=REQUEST_TIMEOUT_S)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Have the holder close the session, and wait for that; one that has ended is no error."""
        with suppress(SessionGone):
            await self._ask("close", None, timeout_s=REQUEST_TIMEOUT_S, code=code, reason=reason)

    async def whereabouts(self) -> Whereabouts:
        """Ask the holder how the session goes.

        Raises:
            SessionGone: The session has ended.
            HolderLost: The process that held it has died.
            RequestTimeout: Nobody has answered.
        """
        answer = await self._ask("state", None, timeout_s=REQUEST_TIMEOUT_S, fresh=True)
        return _WHEREABOUTS.decode(bytes(answer))

    # --- over the wire -----------------------------------------------------------------------

    def _command_id(self, payload: bytes) -> str:
        """Return what a command is called: the same when the same event is handled again."""
        handling = current_delivery()
        if handling is None or not handling.key:
            return f"c-{token_hex(12)}"
        known = (self._group, handling.handler, handling.key, str(next(handling.numbers)))
        digest = blake2b(payload, digest_size=12)
        for part in known:
            digest.update(part.encode() + b"\0")
        return f"d-{digest.hexdigest()}"

    async def _ask(
        self,
        verb: Verb,
        event: ev.Event | None,
        *,
        timeout_s: float | None,
        fresh: bool = False,
        **fields: Any,
    ) -> msgspec.Raw:
        """Send a command until it is answered, and return the result."""
        payload = b"null"
        if isinstance(event, ev.ClientEvent):
            payload = encode(event)  # complains here if it cannot be sent
        elif event is not None:
            payload = event.to_json()
        command_id = f"c-{token_hex(12)}" if fresh else self._command_id(verb.encode() + payload)
        data = to_json(
            Command(
                id=command_id, verb=verb, event=msgspec.Raw(payload), timeout_s=timeout_s, **fields
            )
        )
        event_type = verb if event is None else event.type
        most_bytes = self._broker.client.max_payload
        if len(data) > most_bytes:
            raise InvalidEvent(
                f"{event_type} makes a command of {len(data)} bytes, and the broker takes "
                f"{most_bytes} (max_payload): give it to the process that holds the session",
                event_type=event_type,
                param="",
            )
        until_s = monotonic() + (3600.0 if timeout_s is None else timeout_s + _MARGIN_S)
        began_s = monotonic()
        while (left_s := until_s - monotonic()) > 0:
            if current_delivery() is not None and self._feed and not self._feed.may_handle():
                await anyio.sleep_forever()  # until it is left: another worker has it by now
            answer = await self._try(data, min(_RESEND_S, left_s))
            if answer is not None:
                if answer.failure is not None:
                    raise self._understood(answer)
                return answer.result
            await self._why_nobody(event_type, command_id, monotonic() - began_s)
        refused = f"; the broker says: {self._broker.refused}" if self._broker.refused else ""
        raise RequestTimeout(
            f"the process that holds {self.id} did not answer {event_type} in time{refused}",
            event_type=event_type,
            event_id=command_id,
            timeout_s=timeout_s or 0.0,
        )

    def _understood(self, answer: Answer) -> Exception:
        failure = answer.failure
        assert failure is not None  # noqa: S101  # the caller has looked
        if failure.kind == "SessionClosed":
            close = CloseInfo(code=failure.code, reason=failure.reason, clean=failure.clean)
            return SessionGone(failure.message, close=close)
        return error_from(failure)

    async def _try(self, data: bytes, timeout_s: float) -> Answer | None:
        """Send a command once; None if no answer came."""
        from nats.errors import NoRespondersError  # noqa: PLC0415  # of the extra

        try:
            message = await heeding(
                self._broker.client.request(
                    self._broker.names.command(self._token), data, timeout=timeout_s
                )
            )
        except NoRespondersError:
            return None
        except broker_errors():
            await anyio.sleep(0.05)
            return None
        try:
            return _ANSWER.decode(message.data)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the holder's answer cannot be read here: {error}") from None

    async def _why_nobody(self, event_type: str, command_id: str, waited_s: float) -> None:
        """Find out why there is no answer; return if there may still be one.

        Raises:
            SessionGone: The session has ended, or is not known.
            HolderLost: Its holder has died.
        """
        try:
            where = await find_session(self._broker, self._token)
            holder = self.holder if where is None else where.holder
            lives = bool(holder) and await is_alive(self._broker, holder)
        except broker_errors():
            await anyio.sleep(0.2)
            return
        if where is not None and where.state == "closed":
            raise SessionGone(f"{self.id} closed with {where.close}", close=where.close)
        if where is None and waited_s > (_UNKNOWN_S if lives else _UNHEARD_OF_S):
            raise SessionGone(
                f"no process holds {self.id}",
                close=CloseInfo(code=1006, reason="not held", clean=False),
            )
        if where is not None and not lives:
            raise HolderLost(
                f"the process {holder} that held {self.id} has died",
                event_type=event_type,
                event_id=command_id,
                holder=holder,
            )
        await anyio.sleep(0.05)


async def find_session(broker: Broker, token: str) -> Whereabouts | None:
    """Return what a session's entry says; None if there is none."""
    from nats.js.errors import NotFoundError  # noqa: PLC0415  # of the extra

    try:
        entry = await broker.sessions.get(token)
    except NotFoundError:
        return None
    try:
        return _WHEREABOUTS.decode(entry.value or b"")
    except (ValueError, RecursionError):
        return None


async def is_alive(broker: Broker, holder: str) -> bool:
    """Tell whether a process has a lease."""
    from nats.js.errors import NotFoundError  # noqa: PLC0415  # of the extra

    try:
        await broker.leases.get(f"holder.{escape(holder)}")
    except NotFoundError:
        return False
    return True

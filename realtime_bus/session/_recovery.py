"""A session that outlives its connection: the next one is opened, told all, and takes over.

Rules:

1. A connection that broke, or that the server closed for a reason of its own (`RECOVERABLE`), is
   replaced: the session's handlers, plugins and tasks live on. A refused key, a quota and the like
   end the session at once, as a close in good order does.
2. Tries follow each other with exponential back-off and jitter, over all addresses in turn, up to a
   number and a time. A connection that breaks soon after it took over does not begin them anew.
3. What was under way: settings, new and deleted items are sent again, and so is a
   ``response.create`` that no ``response.created`` has answered; all else fails with
   `ConnectionLost`, as does a reply whose response had begun. Whatever may arrive twice by that is
   told in `events.Reconnected`. An answer to speech that was due is asked for.
4. Before the server's limit the same is done while the old connection still serves: the next one
   takes over at a quiet moment, between two frames, or at the last moment when none comes. The old
   one may then still bring transcripts, and nothing else.
5. A truncation of an item that the server was given back as text replaces that text by what was
   heard of it: there is no audio to cut. It is confirmed in the place of the server.
6. What a server says before it takes over is held, up to `_MAX_HELD_BYTES`; beyond, it is left.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import anyio
import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from realtime_bus import events as ev
from realtime_bus.codec import Decoder, decode, encode, narrow
from realtime_bus.errors import (
    AuthenticationError,
    CloseInfo,
    ConnectError,
    ConnectionLost,
    HostUnreachable,
    SessionClosed,
    TransportClosed,
    UpgradeRefused,
)
from realtime_bus.events import WireProtocol
from realtime_bus.history import HistoryState
from realtime_bus.log import text_of
from realtime_bus.routing import Drifted, handler_name
from realtime_bus.transport import Transport

from ._conversation import ConversationState
from ._link import ABANDONED, Connection, Gap, Link
from ._pipeline import Pipeline
from ._policy import FATAL_CODES, RECOVERABLE, Reconnect
from ._requests import Requests, lost_with
from ._responses import Responses
from ._restore import ItemNames, Restoration, as_item
from ._settings import ActiveSettings

_MAY_PASS = frozenset({408, 425, 429})  # HTTP refusals that are worth another try, besides 5xx
_CHECK_S = 0.1  # between two looks whether the moment is quiet
_FIRST_S = 1.0  # that the first item may take to show whether ids are taken
_MAX_HELD_BYTES = 16 * 1024 * 1024  # of what a server says before it has taken over
_NO_TIME_S = 1e11  # what is later than that is no time in seconds: the year 5138
_BUFFER = (ev.InputAudioBufferAppend, ev.InputAudioBufferCommit, ev.InputAudioBufferClear)
_ITEMS = (ev.ConversationItemAdded, ev.ConversationItemCreated, ev.ConversationItemDone)
_LATE = (
    ev.ConversationItemInputAudioTranscriptionDelta,
    ev.ConversationItemInputAudioTranscriptionCompleted,
    ev.ConversationItemInputAudioTranscriptionFailed,
    ev.ConversationItemInputAudioTranscriptionSegment,
)


class Opener(NamedTuple):
    """One address to connect to.

    Attributes:
        url: Without its query.
        open: Opens a connection.
    """

    url: str
    open: Callable[[], Awaitable[Transport]]


class _Held:
    """Frames of a connection that has not taken over yet."""

    def __init__(self) -> None:
        self.frames: deque[bytes] = deque()
        self.size_bytes = 0

    def put(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.size_bytes += len(frame)

    @property
    def too_much(self) -> bool:
        return self.size_bytes > _MAX_HELD_BYTES


class _Standby(NamedTuple):
    """A connection that could take over."""

    connection: Connection
    restoration: Restoration
    held: _Held
    url: str


class _Loss(NamedTuple):
    """What an outage has cost, and what is to be sent again."""

    lost: list[ev.Lost]
    again: list[Any]
    resent: list[str]
    answer_due: bool


class Recovery:
    """Replaces the connection of one session.

    Args:
        policy: What may be done.
        openers: The addresses, the first one's being the one that is connected.
        protocol: What is spoken there.
        restores: Whether the server forgets: in a call's sideband the conversation lives on.
        parts: What takes note: the session's.
    """

    def __init__(
        self,
        policy: Reconnect,
        openers: Sequence[Opener],
        protocol: WireProtocol,
        parts: Parts,
        *,
        restores: bool,
    ) -> None:
        self._policy = policy
        self._openers = openers
        self._protocol = protocol
        self._parts = parts
        self._restores = restores
        self._link: Link = parts.pipeline.link
        self._names = ItemNames()
        self._given: dict[str, Any] = {}  # what the server was given back of each item, as text
        self._hidden: dict[str, tuple[type, ...]] = {}  # what handlers do not see, by its id there
        self._has_audio = False  # which was not committed
        self._fatal: ev.ErrorDetails | None = None
        self._tries = 0  # of this outage, and of those that it followed soon
        self._turn = 0  # whose it is among the addresses
        self._live_since_s = anyio.current_time()
        self._limit_s: float | None = None  # when the server will end the session
        self._life_s = 0.0  # how long that is from its beginning
        self._scope: anyio.CancelScope | None = None
        self._replaced = anyio.Event()  # set when another connection has taken over
        self._link.recover_by(
            self.recover, may_recover=self._may_recover, new_gap=self._gap, stop=self._stop
        )
        self._note_limit(parts.config())
        parts.pipeline.handle((ev.Error,), self._see_error)
        parts.pipeline.on_sent(_BUFFER, self._see_audio)
        if policy.rollover_before_s is not None:
            parts.pipeline.start_soon(self._watch_limit)

    @property
    def active(self) -> bool:
        """Whether the session has no connection at the moment."""
        return self._link.gap is not None and self._parts.pipeline.lifecycle.close_info is None

    def _see_error(self, event: Any) -> None:
        if {getattr(event.error, "code", None), getattr(event.error, "type", None)} & FATAL_CODES:
            self._fatal = event.error

    def _see_audio(self, _given: object, sent: object) -> None:
        self._has_audio = isinstance(sent, ev.InputAudioBufferAppend) and not self.active

    def _may_recover(self, close: CloseInfo) -> bool:
        return close.code in RECOVERABLE and self._fatal is None

    def _gap(self) -> Gap:
        policy = self._policy
        return Gap(
            max_events=policy.max_gap_events,
            max_bytes=policy.max_gap_bytes,
            keep_audio=policy.gap_audio == "keep",
        )

    def _stop(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    # --- a lost connection -------------------------------------------------------------------

    async def recover(self, close: CloseInfo) -> bool:
        """Replace a connection that has ended; return False if that is not to be, or fails."""
        if not self._may_recover(close):
            if self._fatal is not None and close.code in RECOVERABLE:
                why = f"the server said {self._fatal.code or self._fatal.type}"
                self._give_up(close, None, 0, why)
            return False
        gap = self._link.open_gap()
        loss = self._lose(close)
        if anyio.current_time() - self._live_since_s >= self._policy.max_delay_s:
            self._tries = self._turn = 0
        first_try = self._tries
        standby: _Standby | None = None
        with anyio.CancelScope() as self._scope:
            retrying = self._retrying(close, gap)
            try:
                await self._calm_down(close)
                standby = await retrying(self._attempt)
            except SessionClosed:  # it was left meanwhile
                return False
            except Exception as error:  # noqa: BLE001  # what an application's own dial raises is told, too
                self._give_up(close, error, self._tries - first_try, text_of(error))
            finally:
                # tenacity keeps its actions, and with them this session, in its thread
                retrying.iter_state.reset()
        self._scope = None
        if standby is None:
            return False
        if self._link.closing:  # just when it was ready
            await standby.connection.aclose()
            return False
        self._take_over(standby, loss, cause="lost", attempts=self._tries - first_try, gap=gap)
        return True

    def _give_up(
        self, close: CloseInfo, error: Exception | None, attempts: int, reason: str
    ) -> None:
        pipeline = self._parts.pipeline
        pipeline.log.error("the connection is lost for good", attempts=attempts, reason=reason)
        pipeline.emit(
            ev.ReconnectFailed(attempts=attempts, error=error, code=close.code, reason=reason)
        )

    def _retrying(self, close: CloseInfo, gap: Gap) -> AsyncRetrying:
        policy = self._policy

        def before_sleep(state: RetryCallState) -> None:
            failed = None if state.outcome is None else state.outcome.exception()
            delay_s = 0.0 if state.next_action is None else state.next_action.sleep
            self._announce(close, delay_s, "" if failed is None else text_of(failed))

        def is_over(_state: RetryCallState) -> bool:
            waited_s = anyio.current_time() - gap.since_s
            return self._tries >= policy.attempts or waited_s >= policy.max_outage_s

        wait = wait_random_exponential(multiplier=policy.first_delay_s, max=policy.max_delay_s)
        return AsyncRetrying(
            sleep=anyio.sleep,
            wait=wait,
            stop=is_over,
            retry=retry_if_exception(self._is_worth_another),
            before_sleep=before_sleep,
            reraise=True,
        )

    async def _calm_down(self, close: CloseInfo) -> None:
        """Wait before the first try of an outage, if the last one is not long ago (rule 2)."""
        policy = self._policy
        delay_s = 0.0
        if self._tries:
            longest_s = min(policy.max_delay_s, policy.first_delay_s * 2 ** min(self._tries, 32))
            delay_s = random.uniform(0, longest_s)  # noqa: S311  # jitter, no secret
        self._announce(close, delay_s, str(close))
        await anyio.sleep(delay_s)

    def _announce(self, close: CloseInfo, delay_s: float, reason: str) -> None:
        pipeline, url = self._parts.pipeline, self._next.url
        pipeline.log.warning(
            "the connection is lost", reason=reason, next_try_s=round(delay_s, 2), url=url
        )
        pipeline.emit(
            ev.Reconnecting(
                attempt=self._tries + 1, delay_s=delay_s, code=close.code, reason=reason, url=url
            )
        )

    def _is_worth_another(self, error: BaseException) -> bool:
        if isinstance(error, UpgradeRefused):
            passes = error.status in _MAY_PASS or error.status >= 500
            return passes or len(self._openers) > 1
        return isinstance(error, HostUnreachable)

    @property
    def _next(self) -> Opener:
        return self._openers[self._turn % len(self._openers)]

    def _lose(self, close: CloseInfo) -> _Loss:
        """Tell the parts that the connection is gone; return what that means for the next."""
        parts, gap = self._parts, self._link.open_gap()
        lost: list[ev.Lost] = []
        if parts.conversation.user_speaking:
            lost.append(ev.Lost(what="audio", why="somebody was speaking"))
        elif self._awaits_commit:
            lost.append(ev.Lost(what="audio", why="it was not committed"))
        active = parts.conversation.active_response_id
        if active is not None:
            lost.append(ev.Lost(what="response", id=active, why="it was cut off"))
        answer_due = parts.conversation.connection_lost()
        waiting = {id(event) for event in gap.events()}
        again, failed = parts.requests.connection_lost(
            close, lambda event: id(event) in waiting, self._confirmed
        )
        lost += [
            ev.Lost(what="request", id=event.event_id or "", why=f"{event.type} was not answered")
            for event in failed
        ]
        asked = parts.responses.connection_lost(close)
        resent = [event.event_id or event.type for event in (*again, *asked)]
        return _Loss(lost, again, resent, answer_due)

    @property
    def _awaits_commit(self) -> bool:
        """Whether nobody but the application can know that somebody speaks."""
        return self._has_audio and not self._parts.settings().detects_turns

    def _confirmed(self, command: ev.ClientEvent) -> ev.Event | None:
        """Return what confirms a command whose own confirmation was lost, or None."""
        history = self._parts.history
        if history is None or not isinstance(command, ev.ConversationItemCreate):
            return None
        item: Any = command.item
        if isinstance(item, ev.FunctionCallOutputItem):
            answered = {call.call_id for call in history.calls() if call.output is not None}
            known = item.call_id in answered
        else:
            known = item.id is not None and history.get(item.id) is not None
        return ev.ConversationItemAdded(item=item) if known else None

    # --- the next one ------------------------------------------------------------------------

    async def _attempt(self) -> _Standby:
        """Open a connection, and tell it all.

        Raises:
            ConnectError: There is none, or it was closed again.
        """
        opener = self._next
        self._tries += 1
        self._turn += 1
        connection = Connection(await opener.open())
        parts = self._parts
        read_frame = Decoder(self._protocol).decode
        ready = anyio.Event()
        held = _Held()

        def send(command: ev.ClientEvent) -> None:
            connection.transport.send(encode(command))  # the last one's names are not its own

        settings = parts.requests.settings if self._restores else None
        restoration = Restoration(
            settings, self._items(), send=send, next_event_id=parts.next_event_id
        )

        def take(frame: bytes) -> None:
            if not restoration.see(narrow(read_frame(frame))):
                held.put(frame)
            if restoration.done or held.too_much:
                ready.set()
            if held.too_much:
                connection.deliver = lambda _frame: None

        async def read() -> None:
            try:
                await connection.run()
            finally:
                ready.set()

        connection.deliver = take
        standby = _Standby(connection, restoration, held, opener.url)
        taken = False
        try:
            parts.pipeline.start_soon(read)  # which a session that was left meanwhile refuses
            timeout_s = self._policy.restore_timeout_s
            first_s = min(_FIRST_S, timeout_s / 2)
            for within_s in (first_s, timeout_s - first_s):
                with anyio.move_on_after(within_s):
                    await ready.wait()
                restoration.hurry()
            self._check(standby)
            restoration.give_up()
            taken = True
        finally:
            if not taken:
                await connection.aclose()
        return standby

    def _items(self) -> list[Any]:
        history = self._parts.history
        return [] if history is None or not self._restores else list(history)

    def _check(self, standby: _Standby) -> None:
        """Refuse a connection that is of no use.

        Raises:
            ConnectError: It was closed again, or its server says nothing.
        """
        url, error, close = standby.url, standby.restoration.error, standby.connection.close
        if error is not None and {error.code, error.type} & FATAL_CODES:
            raise ConnectError(f"{url}: {error.message}", url=url)
        if close is not None:
            said = f"{url} closed the connection with {close}"
            if close.code == 3000:  # the key was refused after an accepted upgrade
                raise AuthenticationError(said, url=url, close_code=close.code)
            raise (HostUnreachable if close.code in RECOVERABLE else ConnectError)(said, url=url)
        if standby.held.too_much:
            raise HostUnreachable(
                f"{url} sent more than {_MAX_HELD_BYTES} bytes before it could take over", url=url
            )
        if standby.restoration.created is None:
            within = f"within {self._policy.restore_timeout_s:g} s"
            raise HostUnreachable(f"{url} did not send session.created {within}", url=url)

    def _take_over(
        self,
        standby: _Standby,
        loss: _Loss,
        *,
        cause: Literal["lost", "rollover"],
        attempts: int,
        gap: Gap | None = None,
    ) -> None:
        """Go over to another connection, between two frames."""
        parts, restoration, held = self._parts, standby.restoration, standby.held
        waiting = [] if self._link.gap is None else self._link.gap.events()
        before = self._exchange(standby)
        self._has_audio = any(isinstance(event, ev.InputAudioBufferAppend) for event in waiting)
        cuts = self._send_on(loss.again, waiting, before.close or ABANDONED)
        dropped = 0 if gap is None else gap.dropped_audio
        if dropped:
            why = f"{dropped} pieces from the microphone came while there was no connection"
            loss.lost.append(ev.Lost(what="audio", why=why))
        parts.pipeline.emit(
            ev.Reconnected(
                cause=cause,
                session_id=getattr(restoration.created.session, "id", None),
                url=standby.url,
                attempts=attempts,
                gap_s=0.0 if gap is None else anyio.current_time() - gap.since_s,
                restored=restoration.restored,
                lost=[*loss.lost, *restoration.lost],
                resent=loss.resent,
            )
        )
        for event in cuts:
            self._cut(event)
        while held.frames:
            parts.pipeline.deliver(held.frames.popleft())
        standby.connection.deliver = parts.pipeline.deliver
        parts.responses.connection_restored(answer_due=loss.answer_due and self._can_answer)
        self._replaced.set()
        self._replaced = anyio.Event()

    def _exchange(self, standby: _Standby) -> Connection:
        """Put a connection in the place of the current one, and return that one."""
        parts, restoration = self._parts, standby.restoration
        standby.connection.deliver = standby.held.put  # until the takeover is over
        before = self._link.replace(standby.connection)
        before.deliver = partial(self._late, self._names)
        parts.pipeline.start_soon(before.aclose)
        self._names = restoration.names
        self._hidden = dict.fromkeys(restoration.unfinished, (ev.ConversationItemDone,))
        self._given = {item_id: restoration.given[item_id] for item_id in restoration.restored}
        parts.pipeline.names = self._names or None
        if self._restores:
            parts.conversation.restored(self._given)
            if parts.history is not None:
                parts.history.restored(self._given)
        for event in (restoration.created, restoration.updated):
            if event is not None:
                parts.accept(event)
        parts.pipeline.intercept_outgoing_once(ev.ConversationItemTruncate, self._truncate)
        parts.pipeline.route_through(self._inward)
        self._live_since_s = anyio.current_time()
        self._note_limit(parts.config())
        return before

    def _send_on(self, again: list[Any], waiting: list[Any], close: CloseInfo) -> list[Any]:
        """Send what the last connection left; return the truncations of what was given back."""
        for item_id in [*self._given]:
            self._bring_up_to_date(item_id)
        cuts: list[Any] = []
        for event in (*again, *waiting):
            if isinstance(event, ev.ConversationItemTruncate) and event.item_id in self._given:
                cuts.append(event)
            elif isinstance(event, ev.ResponseCancel):  # there is nothing left to cancel
                self._parts.requests.fail(event, lost_with(event, close))
            elif not isinstance(event, ev.ResponseCreate):
                try:
                    self._parts.pipeline.send_again(event)
                except ConnectionLost as error:  # this one is lost already, and too much waits
                    self._parts.requests.fail(event, error)
                except TransportClosed:
                    break  # the session is about to end, and to tell whoever waits
        return cuts

    @property
    def _can_answer(self) -> bool:
        """Whether the server knows what somebody said last."""
        spoken = [item.id for item in self._items() if item.role == "user"]
        return bool(spoken) and spoken[-1] in self._given

    # --- what has changed for whoever knows the old connection -------------------------------

    def _inward(self, route: Callable[[Any], None]) -> Callable[[Any], None] | None:
        """Return what stands before routing; None if nothing needs to."""
        names, hidden = self._names, self._hidden
        if not names and not hidden:
            return None

        def through(event: Any) -> None:
            narrowed: Any = event.narrowed if isinstance(event, Drifted) else event
            if hidden and self._is_hidden(narrowed):
                if not hidden:
                    self._parts.pipeline.route_through(self._inward)
            elif isinstance(event, Drifted):
                route(Drifted(*map(names.inward, event)))
            else:
                route(names.inward(event))

        return through

    def _is_hidden(self, event: Any) -> bool:
        """Tell whether an event only says what became of an item that was given back."""
        deleted = isinstance(event, ev.ConversationItemDeleted)
        named: Any = event if deleted else getattr(event, "item", None)
        item_id: Any = getattr(named, "item_id" if deleted else "id", None)
        kinds = self._hidden.get(item_id) if isinstance(item_id, str) else None
        if kinds is None or not isinstance(event, kinds):
            return False
        if isinstance(event, kinds[-1]):
            del self._hidden[item_id]
        return True

    def _late(self, names: ItemNames, frame: bytes) -> None:
        """Take what a connection still brings that was replaced: transcripts alone."""
        event = narrow(decode(frame, protocol=self._protocol.name))
        if isinstance(event, _LATE):
            self._parts.pipeline.emit(names.inward(event))

    def _truncate(self, event: ev.ConversationItemTruncate, _session: object) -> Any:
        """Cut an item that was given back as text, by giving back less of it (rule 5)."""
        if event.item_id not in self._given or self.active:
            return event
        self._parts.requests.sent(event, event)
        self._cut(event)
        return None

    def _cut(self, event: ev.ConversationItemTruncate) -> None:
        """Confirm a truncation in the place of the server."""
        cut = ev.ConversationItemTruncated(
            item_id=event.item_id,
            content_index=event.content_index,
            audio_end_ms=event.audio_end_ms,
        )
        self._parts.pipeline.emit(cut)
        self._bring_up_to_date(event.item_id)

    def _bring_up_to_date(self, item_id: str) -> None:
        """Replace an item that was given back, if it has changed since: it was cut off."""
        history, parts = self._parts.history, self._parts
        item = None if history is None else history.get(item_id)
        made: Any = None if item is None else as_item(item)
        if history is None or item is None or made == self._given[item_id]:
            return
        before = self._names.there(item_id)
        self._hidden[before] = (*self._hidden.get(before, ()), ev.ConversationItemDeleted)
        parts.pipeline.route_through(self._inward)
        there = parts.next_item_id()
        if not isinstance(made, str):  # behind the one that it replaces: that is surely there
            self._hidden[there] = _ITEMS
            self._tell(
                ev.ConversationItemCreate(
                    event_id=parts.next_event_id(),
                    item=msgspec.structs.replace(made, id=there),
                    previous_item_id=item_id,
                )
            )
        self._tell(ev.ConversationItemDelete(event_id=parts.next_event_id(), item_id=item_id))
        del self._given[item_id]
        if not isinstance(made, str):
            self._given[item_id] = made
            self._names.add(item_id, there)
            parts.pipeline.names = self._names
            parts.pipeline.route_through(self._inward)

    def _tell(self, command: ev.ClientEvent) -> None:
        """Send a command of nobody's; if the connection is lost, the next one is told anyway."""
        try:
            self._link.connection.transport.send(self._parts.pipeline.encode(command))
        except TransportClosed:
            return

    # --- before the limit --------------------------------------------------------------------

    def _note_limit(self, config: Any) -> None:
        """Note when the server will end the session, on our clock."""
        expires_at = getattr(config, "expires_at", None)
        left_s = self._policy.session_limit_s
        if left_s is None and isinstance(expires_at, int) and 0 < expires_at < _NO_TIME_S:
            left_s = expires_at - time.time()
        self._limit_s = None if left_s is None else anyio.current_time() + left_s
        self._life_s = max(0.0, left_s or 0.0)

    async def _watch_limit(self) -> None:
        """Replace each connection before its limit, at a quiet moment, as long as there is one."""
        with anyio.CancelScope() as scope:
            self._parts.pipeline.lifecycle.on_end(lambda _close: scope.cancel())
            while True:
                replaced, limit_s = self._replaced, self._limit_s
                before_s = min(self._policy.rollover_before_s or 0.0, self._life_s / 4)
                at_s = float("inf") if limit_s is None else limit_s - before_s
                with anyio.CancelScope(deadline=at_s):
                    await replaced.wait()
                if not replaced.is_set() and limit_s is not None:
                    margin_s = min(self._policy.rollover_margin_s, before_s / 4)
                    await self._roll_over(replaced, limit_s, limit_s - margin_s)
                    await replaced.wait()

    async def _roll_over(self, replaced: anyio.Event, limit_s: float, forced_s: float) -> None:
        """Replace the connection at a quiet moment; leave it to `recover` if it is lost before."""
        delay_s = self._policy.first_delay_s
        standby: _Standby | None = None
        try:
            while not replaced.is_set() and anyio.current_time() < limit_s:
                forced = anyio.current_time() >= forced_s
                if self._link.closing or self.active or not (forced or self._quiet):
                    await anyio.sleep(_CHECK_S)
                elif standby is None:
                    standby = await self._stand_by(delay_s)
                    delay_s = min(2 * delay_s, self._policy.max_delay_s)
                elif standby.connection.close is not None or standby.held.too_much:
                    await standby.connection.aclose()
                    standby = None
                elif not self._is_up_to_date(standby):
                    await anyio.sleep(_CHECK_S / 10)
                else:
                    self._roll(standby, forced=not self._quiet)
                    standby = None
                    return
        finally:
            if standby is not None:
                await standby.connection.aclose()

    async def _stand_by(self, delay_s: float) -> _Standby | None:
        """Open the next connection beside this one; None, after a while, if that fails."""
        tries = self._tries
        try:
            return await self._attempt()
        except SessionClosed:  # it was left meanwhile
            raise
        except Exception as error:  # noqa: BLE001  # an application's own dial may raise anything
            log = self._parts.pipeline.log
            log.warning("the next connection cannot be opened yet", reason=text_of(error))
            await anyio.sleep(delay_s)
        finally:
            self._tries = tries
        return None

    def _is_up_to_date(self, standby: _Standby) -> bool:
        """Tell whether a connection knows the conversation as it is; if not, tell it."""
        if standby.restoration.done:
            standby.restoration.update(self._items())
        return standby.restoration.done

    def _roll(self, standby: _Standby, *, forced: bool) -> None:
        loss = _Loss([], [], [], answer_due=False)
        if forced:
            close = CloseInfo(code=1001, reason="the session's limit was near", clean=True)
            loss = self._lose(close)
        self._take_over(standby, loss, cause="rollover", attempts=1)

    @property
    def _quiet(self) -> bool:
        """Whether nobody would notice: nothing is said, played, awaited or worked on."""
        parts = self._parts
        return (
            parts.conversation.quiet
            and not len(parts.requests)
            and parts.responses.idle
            and not self._awaits_commit
            and not self._busy
            and not (parts.history is not None and parts.history.has_open_calls)
        )

    @property
    def _busy(self) -> bool:
        """Whether somebody says so; one who raises is reported, and not asked again."""
        for is_busy in [*self._parts.busy]:
            try:
                if is_busy():
                    return True
            except Exception as error:  # noqa: BLE001  # an application's own
                self._parts.busy.remove(is_busy)
                self._parts.pipeline.report_failure(handler_name(is_busy), None, error)
        return False


class Parts(NamedTuple):
    """What of a session takes part when its connection is replaced.

    Attributes:
        pipeline: Frames in, commands out.
        conversation: What is active, and who speaks.
        requests: Who waits for which answer.
        responses: Those under way.
        history: What was said, or None if that is not kept.
        busy: Tell whether somebody is, such as a loudspeaker.
        config: Returns what the server says is in force.
        settings: Returns the same through typed accessors.
        accept: Takes a connection's ``session.created`` and ``session.updated``.
        next_event_id: Makes ids for commands.
        next_item_id: Makes ids for items.
    """

    pipeline: Pipeline
    conversation: ConversationState
    requests: Requests
    responses: Responses
    history: HistoryState | None
    busy: list[Callable[[], bool]]
    config: Callable[[], Any]
    settings: Callable[[], ActiveSettings]
    accept: Callable[[Any], None]
    next_event_id: Callable[[], str]
    next_item_id: Callable[[], str]

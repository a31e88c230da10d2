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
4. Before the server's limit the same is done while the old connection still serves: `Rollover`
   says when. `Handover` is how, in both cases.
5. What a server says before it takes over is held, up to `MAX_HELD_BYTES`; beyond, it is left.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from realtime_bus import events as ev
from realtime_bus.codec import Decoder, encode, narrow
from realtime_bus.errors import (
    AuthenticationError,
    CloseInfo,
    ConnectError,
    HostUnreachable,
    SessionClosed,
    TransportClosed,
    UpgradeRefused,
)
from realtime_bus.events import WireProtocol
from realtime_bus.log import text_of
from realtime_bus.transport import Transport

from ._handover import MAX_HELD_BYTES, Handover, Held, Parts, Standby
from ._link import ABANDONED, Connection, Gap, Link
from ._policy import FATAL_CODES, RECOVERABLE, Reconnect
from ._restore import Restoration
from ._rollover import Rollover

_MAY_PASS = frozenset({408, 425, 429})  # HTTP refusals that are worth another try, besides 5xx
_FIRST_S = 1.0  # that the first item may take to show whether ids are taken
_MAX_UNSENT_BYTES = 8 * 1024 * 1024  # beyond, what the server is given back waits for the line
_BUFFER = (ev.InputAudioBufferAppend, ev.InputAudioBufferCommit, ev.InputAudioBufferClear)


class Opener(NamedTuple):
    """One address to connect to.

    Attributes:
        url: Without its query.
        open: Opens a connection.
    """

    url: str
    open: Callable[[], Awaitable[Transport]]


class _Loss(NamedTuple):
    """What an outage has cost, and what is to be sent again."""

    lost: list[ev.Lost]
    again: list[Any]
    resent: list[str]
    answer_due: bool


class _Notes:
    """Tells a recording what a restoration says and hears, in the order in which that happened.

    Whether a frame concerns it is known only after what it sends in return.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: list[tuple[bytes, bool]] | None = None

    def add(self, frame: bytes, *, sent: bool) -> None:
        if self._waiting is None:
            self._link.aside(frame, sent)
        else:
            self._waiting.append((frame, sent))

    def see(self, frame: bytes, see: Callable[[], bool]) -> bool:
        """Let the restoration see a frame; return whether it concerned nobody else."""
        before, self._waiting = self._waiting, []
        concerned = False
        try:
            concerned = see()
        finally:
            later, self._waiting = self._waiting, before
            for noted, sent in [(frame, False)] * concerned + later:
                self.add(noted, sent=sent)
        return concerned


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
        self._handover = Handover(parts, protocol, restores=restores)
        self._has_audio = False  # which was not committed
        self._fatal: ev.ErrorDetails | None = None
        self._tries = 0  # of this outage, and of those that it followed soon
        self._turn = 0  # whose it is among the addresses
        self._live_since_s = anyio.current_time()
        self._scope: anyio.CancelScope | None = None
        self._link.recover_by(
            self.recover, may_recover=self._may_recover, new_gap=self._gap, stop=self._stop
        )
        self._rollover = Rollover(
            policy,
            parts,
            self._handover,
            stand_by=self._stand_by,
            take_over=self._roll,
            awaits_commit=lambda: self._awaits_commit,
        )
        self._rollover.note_limit(parts.config())
        parts.pipeline.handle((ev.Error,), self._see_error)
        parts.pipeline.outgoing.on_sent(_BUFFER, self._see_audio)
        if policy.rollover_before_s is not None:
            parts.pipeline.start_soon(self._rollover.watch)

    @property
    def active(self) -> bool:
        """Whether the session has no connection at the moment."""
        return self._parts.disconnected

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
        standby: Standby | None = None
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

    async def _attempt(self) -> Standby:
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
        held = Held()

        notes = _Notes(self._link)

        def send(command: ev.ClientEvent) -> None:
            frame = encode(command)  # the last one's names are not its own
            notes.add(frame, sent=True)
            with suppress(TransportClosed):  # then its end tells
                connection.transport.send(frame)

        settings = parts.requests.settings if self._restores else None
        restoration = Restoration(
            settings,
            self._handover.items(),
            send=send,
            has_room=lambda: connection.transport.buffered_bytes < _MAX_UNSENT_BYTES,
            next_event_id=parts.next_event_id,
        )

        def take(frame: bytes) -> None:
            if not notes.see(frame, lambda: restoration.see(narrow(read_frame(frame)))):
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
        standby = Standby(connection, restoration, held, opener.url)
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

    def _check(self, standby: Standby) -> None:
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
                f"{url} sent more than {MAX_HELD_BYTES} bytes before it could take over", url=url
            )
        if standby.restoration.created is None:
            within = f"within {self._policy.restore_timeout_s:g} s"
            raise HostUnreachable(f"{url} did not send session.created {within}", url=url)

    def _take_over(
        self,
        standby: Standby,
        loss: _Loss,
        *,
        cause: Literal["lost", "rollover"],
        attempts: int,
        gap: Gap | None = None,
    ) -> None:
        """Go over to another connection, between two frames."""
        parts, restoration, held = self._parts, standby.restoration, standby.held
        waiting = [] if self._link.gap is None else self._link.gap.events()
        before = self._handover.exchange(standby)
        self._live_since_s = anyio.current_time()
        self._rollover.note_limit(parts.config())
        self._has_audio = any(isinstance(event, ev.InputAudioBufferAppend) for event in waiting)
        cuts = self._handover.send_on(loss.again, waiting, before.close or ABANDONED)
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
            self._handover.cut(event)
        while held.frames:
            parts.pipeline.taps.deliver(held.frames.popleft())
        standby.connection.deliver = parts.pipeline.taps.deliver
        parts.responses.connection_restored(
            answer_due=loss.answer_due and self._handover.can_answer
        )
        self._rollover.replaced()

    # --- before the server's limit -----------------------------------------------------------

    async def _stand_by(self, delay_s: float) -> Standby | None:
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

    def _roll(self, standby: Standby, forced: bool) -> None:
        loss = _Loss([], [], [], answer_due=False)
        if forced or self._parts.requests.any_unanswered:
            close = CloseInfo(code=1001, reason="the session's limit was near", clean=True)
            loss = self._lose(close)
        self._take_over(standby, loss, cause="rollover", attempts=1)

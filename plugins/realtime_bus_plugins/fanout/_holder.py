"""The process that holds sessions: it answers commands, and says where the sessions are.

Rules:

1. Only the holder speaks to the server. A command succeeds once: what is asked again under the
   same id gets the first one's answer, which is kept for the last `_KEPT` commands of each session;
   no more than that are under way. One that has failed may be tried again.
2. A process has a lease, and each of its sessions an entry that names it: both are renewed. An
   entry of a session that has ended says how, for a while.
3. Commands of one session begin in the order in which they came, and run side by side.
"""

from __future__ import annotations

import os
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic, time
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from realtime_bus import RequestError, Session, UsageError, decode_client
from realtime_bus import events as ev

from ._broker import Broker
from ._nats import broker_errors
from ._wire import Answer, Command, Failure, Holder, Whereabouts, failure_from, to_json

_KEPT: Final = 512
_ALL_S: Final = 240.0  # less than a third of what entries live
_TOO_LARGE: Final = "it was done, but its answer is larger than the broker takes (max_payload)"
_COMMAND: Final = msgspec.json.Decoder(Command)


class _Done:
    """A command that was begun, and its answer once it is known."""

    __slots__ = ("answer", "is_there")

    def __init__(self) -> None:
        self.answer: bytes = b""
        self.is_there = anyio.Event()


def _failed(kind: str, message: str) -> bytes:
    return to_json(Answer(failure=Failure(kind=kind, message=message)))


class HeldSession:
    """One session, as others may ask about it.

    Attributes:
        session: The session.
        token: Its name in subjects and keys.
        where: What its entry says.
        changed: Whether the entry should be written.
    """

    def __init__(self, session: Session[Any], token: str, where: Whereabouts) -> None:
        self.session: Session[Any] = session
        self.token: str = token
        self.where: Whereabouts = where
        self.changed: bool = True
        self._done: OrderedDict[str, _Done] = OrderedDict()

    async def answer(self, data: bytes) -> bytes:
        """Do what a command says, if that was not done before, and return the answer."""
        try:
            command = _COMMAND.decode(data)
        except (ValueError, RecursionError) as error:
            return _failed("UsageError", f"this is no command: {error}")
        begun = self._done.get(command.id)
        if begun is None:
            if len(self._done) >= _KEPT:
                if not next(iter(self._done.values())).is_there.is_set():
                    return _failed("RequestError", f"{_KEPT} commands of it are under way already")
                self._done.popitem(last=False)
            begun = self._done[command.id] = _Done()
            try:
                begun.answer = to_json(Answer(result=msgspec.Raw(await self._do(command))))
            except Exception as error:  # noqa: BLE001  # whatever it is, the other side is told
                begun.answer = to_json(Answer(failure=failure_from(error)))
                self._done.pop(command.id, None)  # it may be tried again
            except BaseException:
                begun.answer = _failed("SessionClosed", "the holder is leaving")
                raise
            finally:
                begun.is_there.set()
        await begun.is_there.wait()
        return begun.answer

    async def _do(self, command: Command) -> bytes:
        return await _VERBS[command.verb](self, command)

    def _client_event(self, command: Command) -> ev.ClientEvent:
        event = decode_client(bytes(command.event), protocol=self.where.protocol)
        if not isinstance(event, ev.ClientEvent):
            raise UsageError(f"{event!r:.200} is no event that a client sends")
        return event

    async def _request(self, command: Command) -> bytes:
        answered = await self.session.request(
            self._client_event(command), timeout_s=command.timeout_s
        )
        return answered.to_json()

    async def _send(self, command: Command) -> bytes:
        return b"true" if await self.session.send(self._client_event(command)) else b"false"

    async def _respond(self, command: Command) -> bytes:
        event = self._client_event(command)
        if not isinstance(event, ev.ResponseCreate):
            raise UsageError(f"{event.type} asks for no response")
        params = event.response if isinstance(event.response, ev.ResponseCreateParams) else None
        reply = self.session.respond(
            params,
            replace=command.replace,
            while_speaking=command.while_speaking,
            timeout_s=command.timeout_s,
        )
        return msgspec.json.encode(await reply, enc_hook=str)

    async def _close(self, command: Command) -> bytes:
        await self.session.aclose(command.code, command.reason)
        return b"null"

    async def _state(self, _command: Command) -> bytes:
        return to_json(self.look())

    async def _emit(self, command: Command) -> bytes:
        event = read_own_event(bytes(command.event))
        if not isinstance(event, ev.AppEvent):
            raise UsageError("the process that holds the session knows no such application event")
        self.session.emit(event)
        return b"null"

    def look(self) -> Whereabouts:
        """Return the entry as it is now."""
        where, session = self.where, self.session
        close = session.close_info
        where.updated = time()
        where.responding = session.active_response_id is not None
        where.listening = bool(session.conversation.user_speaking)
        where.model = session.settings.model or where.model
        if close is not None:
            where.state = "closed"
            where.close_code, where.close_clean = close.code, close.clean
            where.close_reason = close.reason
        else:
            where.state = "reconnecting" if session.reconnecting else "open"
        return where


_VERBS: Final[dict[str, Callable[[HeldSession, Command], Awaitable[bytes]]]] = {
    "request": HeldSession._request,  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its own methods
    "send": HeldSession._send,  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
    "respond": HeldSession._respond,  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
    "close": HeldSession._close,  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
    "state": HeldSession._state,  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
    "emit": HeldSession._emit,  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same
}


class Holding:
    """The sessions that this process holds.

    Args:
        broker: Open while `run` runs.
        holder_id: What this process is called.
        lease: Fills in what changes in its lease.
    """

    def __init__(
        self, broker: Broker, holder_id: str, *, lease: Callable[[Holder], object]
    ) -> None:
        self._broker = broker
        self._lease = lease
        self._holder = Holder(
            id=holder_id, host=socket.gethostname(), pid=os.getpid(), since=time()
        )
        self._held: dict[str, HeldSession] = {}
        self._ended: dict[str, bytes] = {}  # their last entries: the broker may be away for long
        self._tasks: TaskGroup | None = None
        self._all_written_s = -_ALL_S
        self._renewed_s = 0.0
        self._wakeup = anyio.Event()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, held: HeldSession) -> None:
        """Answer for a session from now on."""
        self._held[held.token] = held
        if self._tasks is not None:
            self._tasks.start_soon(self._listen, held)
        self._wakeup.set()

    def remove(self, held: HeldSession) -> None:
        """Say how a session has ended, and answer for it no more."""
        if self._held.get(held.token) is held:
            del self._held[held.token]
        self._ended[held.token] = to_json(held.look())
        self._wakeup.set()

    async def _listen(self, held: HeldSession) -> None:
        tasks = self._tasks
        if tasks is None:
            return

        async def on_command(message: Any) -> None:
            tasks.start_soon(self._answer, held, message)

        closed = anyio.Event()
        held.session.on_close(closed.set)
        with suppress(*broker_errors()):
            subscription = await self._broker.client.subscribe(
                self._broker.names.command(held.token),
                queue="holder",  # of two sessions that share a name by mistake, one does it
                cb=on_command,
            )
            await closed.wait()
            await subscription.unsubscribe()

    async def _answer(self, held: HeldSession, message: Any) -> None:
        answer = await held.answer(message.data)
        client = self._broker.client
        if len(answer) > client.max_payload:
            answer = _failed("UsageError", _TOO_LARGE)
        if message.reply:
            with suppress(*broker_errors()):
                await client.publish(message.reply, answer)

    async def run(self) -> None:
        """Answer commands, and renew leases, until cancelled."""
        period_s = self._broker.lease_s / 3
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._broker.on_change(self._on_change)
            for held in self._held.values():
                tasks.start_soon(self._listen, held)
            while True:
                self._wakeup = anyio.Event()
                every = monotonic() - self._all_written_s > _ALL_S
                with suppress(*broker_errors()):
                    await self._write(every=every)
                    if every:
                        self._all_written_s = monotonic()
                with anyio.move_on_after(period_s):
                    await self._wakeup.wait()

    def _on_change(self, there: bool) -> None:  # a listener's only argument
        if there:
            self._all_written_s = -_ALL_S  # it may have forgotten them
            self._wakeup.set()

    async def _write(self, *, every: bool) -> None:
        """Renew the lease, and write the entries that have changed, or all of them."""
        if not self._broker.connected:
            return
        await self._renew()
        for token, entry in list(self._ended.items()):
            await self._put(token, entry)
            if self._ended.get(token) is entry:  # another round may have written it as well
                del self._ended[token]
        for held in list(self._held.values()):
            if every or held.changed:
                held.changed = False
                await self._put(held.token, to_json(held.look()))

    async def _put(self, token: str, entry: bytes) -> None:
        """Write an entry; among many the lease is not forgotten."""
        if monotonic() - self._renewed_s > self._broker.lease_s / 3:
            await self._renew()
        await self._broker.sessions.put(token, entry)

    async def _renew(self) -> None:
        self._holder.sessions = len(self._held)
        self._lease(self._holder)
        await self._broker.leases.put(f"holder.{self._holder.id}", to_json(self._holder))
        self._renewed_s = monotonic()

    async def leave(self) -> None:
        """Give the lease back, and write how the last sessions have ended."""
        with anyio.move_on_after(2, shield=True), suppress(*broker_errors()):
            await self._write(every=False)
            await self._broker.leases.delete(f"holder.{self._holder.id}")


def read_own_event(
    payload: bytes, classes: Callable[[str], type[ev.BusEvent] | None] | None = None
) -> ev.BusEvent:
    """Read an event that was never on the wire; one whose class is not known here keeps its frame.

    An exception in it comes out as a `RequestError` with the same words: none is made anew.

    Args:
        payload: Its JSON.
        classes: Finds the class of a wire name; `own_class` if left out.
    """
    try:
        name = msgspec.json.decode(payload, type=_Named).type
    except (ValueError, RecursionError) as error:
        return ev.InvalidFrame(reason=str(error), frame=payload)
    cls = (classes or own_class)(name)
    if cls is not None:
        with suppress(ValueError, RecursionError, TypeError):
            return msgspec.json.decode(payload, type=cls, dec_hook=_exceptions)
    return ev.UnknownEvent(event_type=name, frame=payload)


def own_class(
    name: str, wanted: Callable[[type[ev.BusEvent]], bool] = lambda _cls: False
) -> type[ev.BusEvent] | None:
    """Return the class of a wire name; of several that share it, one that is wanted."""
    found = [cls for cls in ev.own_events() if cls.__struct_config__.tag == name]
    return next(filter(wanted, found), found[0] if found else None)


class _Named(msgspec.Struct):
    type: str


def _exceptions(kind: Any, value: Any) -> Any:
    if issubclass(kind, BaseException):
        return RequestError(str(value), event_type="", event_id="")
    raise NotImplementedError(kind)

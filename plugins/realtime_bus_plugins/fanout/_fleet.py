"""All sessions of an application, for whoever looks after them: who holds what, live."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import asynccontextmanager, suppress
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio
import msgspec

from realtime_bus import UsageError

from ._broker import Broker
from ._nats import broker_errors
from ._remote_session import RemoteSession
from ._subjects import SIDES, Names, escape
from ._watched import Seen
from ._wire import KEY, SEQUENCE, TIME, Holder, Whereabouts

_MAX_BEHIND = 10_000


class Held(NamedTuple):
    """A session and its holder, as the buckets say.

    Attributes:
        where: The session's entry.
        lives: Whether its holder has a lease.
        host: Which machine the holder is on; empty if it is dead.
    """

    where: Whereabouts
    lives: bool
    host: str


class Followed(NamedTuple):
    """An event as it passes, for whoever watches.

    Attributes:
        side: ``server``, ``client`` or ``bus``.
        wire_name: Of the event.
        payload: The frame as it was.
        key: Names the event.
        sequence: Its number in its session: what a client has sent is counted by itself.
        published_at: When its holder had it, in seconds since 1970.
    """

    side: str
    wire_name: str
    payload: bytes
    key: str
    sequence: int
    published_at: float


class Fleet:
    """All sessions of an application, while this block lasts.

    ::

        async with Fleet("support") as fleet:
            for held in fleet.sessions:
                print(held.where.session_id, held.host)

    Args:
        app: The application's name, as given to `NatsFanout`.
        servers: Addresses of brokers.
        connect: Further arguments of ``nats.connect``: credentials, keys, TLS.
        open_timeout_s: Seconds that connecting may take.

    Raises:
        UsageError: The name cannot be one.
    """

    def __init__(
        self,
        app: str,
        *,
        servers: str | list[str] = "nats://127.0.0.1:4222",
        connect: Mapping[str, Any] | None = None,
        open_timeout_s: float = 10.0,
    ) -> None:
        self._broker = Broker(
            Names(app),
            servers,
            makes=False,
            options=connect or {},
            open_timeout_s=open_timeout_s,
        )
        self._entries: Mapping[str, Seen] = {}
        self._leases: Mapping[str, Seen] = {}
        self._changed = anyio.Event()

    async def __aenter__(self) -> Self:
        """Connect, and read what there is.

        Raises:
            MissingExtra: nats-py is not installed.
            UsageError: This is trio; or there is no such application.
            BrokerUnreachable: No broker answered in time.
        """
        broker = self._broker
        tasks = await broker.open()
        entries = broker.watched(broker.sessions, ">", self._note)
        leases = broker.watched(broker.leases, "holder.*", self._note)
        self._entries, self._leases = entries.known, leases.known
        try:
            for watched in (entries, leases):
                tasks.start_soon(watched.follow)
                await watched.complete.wait()
        except BaseException:
            await broker.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._broker.aclose()

    def _note(self) -> None:
        self._changed.set()

    async def changed(self) -> None:
        """Wait until something is known anew; leases that run out tell nobody."""
        self._changed = anyio.Event()
        await self._changed.wait()

    @property
    def sessions(self) -> list[Held]:
        """The sessions that are known, the youngest first, and those that ended a while ago."""
        holders = self._holders()
        found: list[Held] = []
        for seen in self._entries.values():
            where = _read(seen.value)
            if where is not None:
                holder = holders.get(where.holder)
                found.append(Held(where, holder is not None, holder.host if holder else ""))
        return sorted(found, key=lambda held: -held.where.since)

    @property
    def holders(self) -> list[Holder]:
        """The processes that hold sessions and live."""
        return list(self._holders().values())

    def _holders(self) -> dict[str, Holder]:
        oldest_s = monotonic() - self._broker.lease_s  # seen after it was written: it is gone
        found: dict[str, Holder] = {}
        for seen in self._leases.values():
            if seen.at_s >= oldest_s or not self._broker.connected:
                try:
                    holder = msgspec.json.decode(seen.value, type=Holder)
                except (ValueError, RecursionError):
                    continue
                found[holder.id] = holder
        return found

    def session(self, session_id: str) -> RemoteSession[Any]:
        """Return a session to talk to; nothing is asked yet."""
        return RemoteSession(
            self._broker, session_id, token=escape(session_id), group="fleet", state=None
        )

    @asynccontextmanager
    async def follow(self, session_id: str) -> AsyncGenerator[AsyncIterable[Followed]]:
        """See a session's events as they pass, both ways; whoever is too slow loses some.

        Raises:
            UsageError: The id is empty.
        """
        if not session_id:
            raise UsageError("which session? give its id")
        names, token = self._broker.names, escape(session_id)
        send, receive = anyio.create_memory_object_stream[Followed](_MAX_BEHIND)

        async def on_message(message: Any) -> None:
            parts = message.subject.split(".", 3)
            headers: dict[str, str] = message.headers or {}
            number, at_us = headers.get(SEQUENCE, ""), headers.get(TIME, "")
            followed = Followed(
                parts[2],
                parts[3],
                message.data,
                headers.get(KEY, ""),
                int(number) if number.isdecimal() else 0,
                int(at_us) / 1e6 if at_us.isdecimal() else 0.0,
            )
            try:
                send.send_nowait(followed)
            except anyio.WouldBlock:
                return  # who looks on must not hold up anything

        client = self._broker.client
        subscriptions: list[Any] = []
        with send, receive:
            try:
                for side in SIDES:
                    subject = names.live(token, side)
                    subscriptions.append(await client.subscribe(subject, cb=on_message))
                await self._broker.settle()
                yield receive
            finally:
                with anyio.CancelScope(shield=True), suppress(*broker_errors()):
                    for subscription in subscriptions:
                        await subscription.unsubscribe()


def _read(value: bytes) -> Whereabouts | None:
    try:
        return msgspec.json.decode(value, type=Whereabouts)
    except (ValueError, RecursionError):
        return None

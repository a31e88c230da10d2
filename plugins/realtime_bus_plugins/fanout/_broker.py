"""The connection to the broker: the only file that makes one.

What is opened, once for an application: the stream of events, the stream of dead letters, and three
buckets: leases (entries go by themselves when they are not renewed), sessions (where each is), and
groups (who reads what). What is there already is taken as it is: an operator may have made it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Literal

import anyio
import msgspec
from anyio.abc import TaskGroup

from realtime_bus import UsageError
from realtime_bus.log import Repeats, get_logger

from ._nats import (
    Client,
    JetStream,
    KeyValue,
    broker_errors,
    close_client,
    heeding,
    load_nats,
    retrying,
)
from ._subjects import Names
from ._watched import Seen, Watched
from ._wire import BrokerUnreachable

_SESSIONS_TTL_S: Final = 900.0
_ANSWER_S: Final = 2.0  # for one request; a cluster that changes its leader may lose it
_MAY_PASS: Final = frozenset({10005, 10058})  # not all servers are up yet; another one was quicker


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the streams and buckets are made where they are not there yet.

    Attributes:
        partitions: Into how many parts a group's work is shared at most.
        replicas: On how many servers of a cluster all of it is kept: 1, 3 or 5.
        storage: Where: what is in memory is gone with the server.
        max_age_s: Seconds that events are kept for replay.
        max_bytes: How much the stream of events may hold; -1 for no limit.
        duplicate_window_s: Seconds within which a second event of the same id is no event.
        lease_s: Seconds after which a process that says nothing counts as dead.
    """

    partitions: int = 32
    replicas: int = 1
    storage: Literal["file", "memory"] = "file"
    max_age_s: float = 86_400.0
    max_bytes: int = -1
    duplicate_window_s: float = 120.0
    lease_s: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.partitions <= 1024:
            raise UsageError(f"partitions={self.partitions!r} must be 1 to 1024")
        if self.lease_s < 1:
            raise UsageError(
                f"lease_s={self.lease_s!r} must be 1 or more: brokers count in seconds"
            )


class Broker:
    """A connection to NATS with JetStream, and what an application has there.

    Args:
        names: Of the application.
        servers: ``nats://`` or ``tls://`` addresses; in one string they are divided by commas.
        settings: For what is not there yet.
        makes: Whether what is not there is made.
        options: Further keyword arguments of ``nats.connect``: credentials, keys, TLS.
        open_timeout_s: Seconds that all of it may take.

    Attributes:
        partitions: Into how many parts the stream divides its sessions.
        lease_s: How long a lease holds.
        made_at: When the stream was made: one that is made anew counts from 1 again.
        refused: What the broker has last said that this process may not do.
    """

    def __init__(
        self,
        names: Names,
        servers: str | list[str],
        *,
        settings: StreamSettings | None = None,
        makes: bool = True,
        options: Mapping[str, Any],
        open_timeout_s: float,
    ) -> None:
        self.names: Names = names
        self._settings = settings or StreamSettings()
        self._chosen = settings is not None
        self._makes = makes
        self.partitions: int = self._settings.partitions
        self.lease_s: float = self._settings.lease_s
        every = servers.split(",") if isinstance(servers, str) else servers
        self._servers: list[str] = [each.strip() for each in every]
        self._options = options
        self._open_timeout_s = open_timeout_s
        self.refused: str = ""
        self.made_at: object = None
        self._log = get_logger().bind(app=names.app)
        self._errors = Repeats()
        self._said: dict[str, None] = {}  # while it was opened
        self._listeners: list[Callable[[bool], object]] = []
        self._client: Client | None = None
        self._tasks: TaskGroup | None = None
        self._sessions: KeyValue | None = None
        self._leases: KeyValue | None = None
        self._groups: KeyValue | None = None

    @property
    def client(self) -> Client:
        """nats-py's connection.

        Raises:
            UsageError: It is not open.
        """
        if self._client is None:
            raise UsageError("the broker is not connected: enter `async with` first")
        return self._client

    @property
    def js(self) -> JetStream:
        """Its JetStream."""
        return self.client.jetstream(timeout=_ANSWER_S)

    @property
    def sessions(self) -> KeyValue:
        """Where each session is."""
        assert self._sessions is not None  # noqa: S101  # opened with the client
        return self._sessions

    @property
    def leases(self) -> KeyValue:
        """Who lives."""
        assert self._leases is not None  # noqa: S101  # opened with the client
        return self._leases

    @property
    def groups(self) -> KeyValue:
        """Who reads what."""
        assert self._groups is not None  # noqa: S101  # opened with the client
        return self._groups

    @property
    def connected(self) -> bool:
        """Whether the broker can be reached now."""
        return self._client is not None and self._client.is_connected

    def on_change(self, listener: Callable[[bool], object]) -> None:
        """Call a function with whether the broker is there, whenever that changes."""
        self._listeners.append(listener)

    async def open(self) -> TaskGroup:
        """Connect, and see that streams and buckets are there; return what runs until `aclose`.

        Raises:
            MissingExtra: nats-py is not installed.
            UsageError: This is trio, for which there is no nats-py; it is open already; an option
                is wrong; or the broker will not make the streams so.
            BrokerUnreachable: No broker answered in time, or it has no JetStream.
        """
        nats = load_nats()
        from nats.aio.client import Client as NatsClient  # noqa: PLC0415  # of the extra

        if self._client is not None:
            raise UsageError("this is open already; make another one")
        self._said.clear()
        self._client = client = NatsClient()
        try:
            with anyio.fail_after(self._open_timeout_s):
                await heeding(client.connect(**self._arguments(self._on_gone, self._on_back)))
                await heeding(self._set_up(nats))
            self._tasks = anyio.create_task_group()
            await self._tasks.__aenter__()
        except broker_errors() as error:
            await self.aclose()
            said = "; ".join([*self._said, repr(error)])  # that credentials are wrong, say
            raise BrokerUnreachable(
                f"no broker with JetStream at {_shown(self._servers)} within "
                f"{self._open_timeout_s:g} s: {said:.300}",
                url=_shown(self._servers),
            ) from error
        except BaseException:
            await self.aclose()
            raise
        return self._tasks

    def _arguments(self, gone: Any, back: Any = None) -> dict[str, Any]:
        return {
            "name": f"realtime-bus {self.names.app}",
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.25,
            "ping_interval": 5,
            "max_outstanding_pings": 2,
            **self._options,
            "servers": self._servers,
            "allow_reconnect": back is not None,
            "error_cb": self._on_error,
            "disconnected_cb": gone,
            "reconnected_cb": back,
        }

    async def dial(self, gone: Callable[[], Awaitable[None]]) -> Client:
        """Make a connection for one who must know exactly what was sent over it.

        It does not reconnect: nats-py would send what it still holds before anything else, and so
        break the order of what is sent again.

        Args:
            gone: Called when it is lost.
        """
        from nats.aio.client import Client as NatsClient  # noqa: PLC0415  # of the extra

        client: Client = NatsClient()
        try:
            with anyio.fail_after(self._open_timeout_s):
                await client.connect(**self._arguments(gone))
        except BaseException:
            await close_client(client)
            raise
        return client

    async def _set_up(self, nats: Any) -> None:
        """See that everything is there; a cluster may be without a leader for seconds."""
        while True:
            try:
                return await self._look_or_make(nats)
            except nats.js.errors.ServiceUnavailableError as error:
                if error.err_code is None:  # nobody hears: there is no JetStream
                    raise
                self._note(error)
            except broker_errors() as error:
                self._note(error)
            await anyio.sleep(0.2)

    async def _look_or_make(self, nats: Any) -> None:
        api, names, wanted = nats.js.api, self.names, self._settings
        kept = {"num_replicas": wanted.replicas, "storage": api.StorageType(wanted.storage)}
        source, destination = names.transform(wanted.partitions)
        events = await self._stream(
            nats,
            api.StreamConfig(
                name=names.stream,
                subjects=names.published,
                subject_transform=api.SubjectTransform(src=source, dest=destination),
                duplicate_window=wanted.duplicate_window_s,
                max_age=wanted.max_age_s,
                max_bytes=wanted.max_bytes,
                allow_direct=True,
                **kept,
            ),
        )
        self.partitions = _partitions(names, events.config)
        dead = api.StreamConfig(name=names.dead_stream, subjects=[names.dead], **kept)
        if names.dead not in ((await self._stream(nats, dead)).config.subjects or ()):
            raise UsageError(f"the stream {names.dead_stream!r} was made for something else")
        for attribute, bucket, ttl_s in (
            ("_sessions", names.sessions_bucket, max(_SESSIONS_TTL_S, 3 * wanted.lease_s)),
            ("_leases", names.leases_bucket, wanted.lease_s),
            ("_groups", names.groups_bucket, None),
        ):
            try:
                found = await self.js.key_value(bucket)
            except nats.js.errors.NotFoundError:
                found = await self.js.create_key_value(
                    api.KeyValueConfig(
                        bucket=bucket, ttl=ttl_s, replicas=wanted.replicas, storage=kept["storage"]
                    )
                )
            setattr(self, attribute, found)
        self.lease_s = (await self.leases.status()).ttl or wanted.lease_s
        self.made_at = events.created
        if self._chosen:
            self._compare(events.config)

    def _compare(self, found: Any) -> None:
        """Say what was chosen here in vain: who came first has made it otherwise."""
        there = {
            "partitions": self.partitions,
            "replicas": found.num_replicas,
            "storage": str(getattr(found.storage, "value", found.storage)),
            "max_age_s": found.max_age,
            "max_bytes": found.max_bytes,
            "duplicate_window_s": found.duplicate_window,
            "lease_s": self.lease_s,
        }
        other = {name: it for name, it in there.items() if getattr(self._settings, name) != it}
        if other:
            self._log.warning("what is there was made otherwise than settings= says", **other)

    async def _stream(self, nats: Any, wanted: Any) -> Any:
        """Return what the broker says of a stream, which is made if it is not there.

        Raises:
            UsageError: There is none, and none is to be made; or the broker will not make it.
        """
        try:
            return await self.js.stream_info(wanted.name)
        except nats.js.errors.NotFoundError:
            if not self._makes:
                raise UsageError(
                    f"no application {self.names.app!r} has published anything at "
                    f"{_shown(self._servers)}"
                ) from None
        try:
            return await self.js.add_stream(wanted)
        except nats.js.errors.ServiceUnavailableError:
            raise
        except nats.js.errors.APIError as error:
            if error.err_code in _MAY_PASS:
                raise
            raise UsageError(
                f"the broker will not make the stream {wanted.name!r}: {error.description}"
            ) from error

    def _note(self, error: Exception) -> None:
        if len(self._said) < 3:
            self._said[str(error) or repr(error)] = None

    async def settle(self) -> None:
        """Return when the broker has read what was sent before.

        A request, and not nats-py's `flush`: one that was cancelled, or whose answer comes late,
        ends the task that reads the connection.
        """
        await self.js.stream_info(self.names.stream)

    async def _on_error(self, error: Exception) -> None:
        if self._tasks is None:
            self._note(error)
        if "permissions violation" in str(error):
            self.refused = str(error)
        suppressed = self._errors.due("broker", str(error))
        if suppressed is not None:
            self._log.warning(
                "the broker's connection has trouble", error=repr(error), **suppressed
            )

    async def _on_gone(self) -> None:
        for listener in list(self._listeners):
            listener(False)

    async def _on_back(self) -> None:
        if self._tasks is not None and self._makes:
            self._tasks.start_soon(self._look_again, self.made_at)
        for listener in list(self._listeners):
            listener(True)

    async def _look_again(self, made_at: object) -> None:
        """See that all is there still: what was kept in memory is gone."""
        try:
            await retrying(partial(self._look_or_make, load_nats()))
        except UsageError as error:
            told = str(error)  # a line, not a traceback
            self._log.error("the broker lacks what was there", error=told)
        if self.made_at != made_at:
            self._log.error("the broker has lost what was there, and begins anew")
            for listener in list(self._listeners):
                listener(True)

    async def aclose(self) -> None:
        """End what runs, and close the connection; what is unsent is given a moment."""
        tasks, self._tasks = self._tasks, None
        try:
            if tasks is not None:
                tasks.cancel_scope.cancel()
                await tasks.__aexit__(None, None, None)  # what a block raises comes out as it is
        finally:
            client, self._client = self._client, None
            if client is not None:
                await close_client(client)

    @asynccontextmanager
    async def watch(
        self, bucket: KeyValue, keys: str, changed: Callable[[], object]
    ) -> AsyncGenerator[Mapping[str, Seen]]:
        """Know a part of a bucket while this block lasts; `changed` is called after each change.

        The entries are complete when the block begins. After the broker was away they are read
        anew: then those that have gone meanwhile are forgotten.
        """
        async with anyio.create_task_group() as tasks:
            watched = self.watched(bucket, keys, changed)
            tasks.start_soon(watched.follow)
            await watched.complete.wait()
            yield watched.known
            tasks.cancel_scope.cancel()

    def watched(self, bucket: KeyValue, keys: str, changed: Callable[[], object]) -> Watched:
        """Return what knows a part of a bucket while its `follow` runs."""
        watched = Watched(bucket, keys, changed)
        self.on_change(watched.note)
        return watched


def _partitions(names: Names, config: Any) -> int:
    """Return into how many parts a stream divides its sessions.

    Raises:
        UsageError: It was made for something else.
    """
    transform = getattr(config, "subject_transform", None)
    destination = str(transform.dest) if transform is not None else ""
    start = f"{names.app}.{{{{partition("
    if destination.startswith(start):
        number = destination[len(start) :].split(",", 1)[0]
        if number.isdigit() and destination == names.transform(int(number))[1]:
            return int(number)
    raise UsageError(
        f"the stream {names.stream!r} was made for something else: its subject transform is "
        f"{destination!r}, and not {names.transform(32)[1]!r}"
    )


def _shown(servers: list[str]) -> str:
    return ", ".join(each.rsplit("@", 1)[-1].split("?", 1)[0] for each in servers)

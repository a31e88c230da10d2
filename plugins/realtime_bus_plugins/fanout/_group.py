"""A worker among others: who lives, who owns which partition, and what changes hands.

Rules, beside those of `_shares`:

1. A worker renews its lease three times in `lease_s`. One that could not renew its own for
   `lease_s` stops at once what it does. One whose lease was not renewed for ``1.1 * lease_s``
   counts as dead, if the bucket has no newer one either: who looks may itself have been held up.
   Each goes by its own monotonic clock, counted from what it has seen; no time of day is compared.
2. While the broker is away nobody is counted as dead; after it is back, everybody has a lease's
   time to say so.
3. A partition changes hands by one update of its record, which names the next epoch. Then the next
   epoch's consumer is made, from where the last one's floor was, and the last one is removed:
   whatever its owner still does, it gets no more events.
4. Events up to `newest` of the record may have been handled before. Who hands over says there what
   came to it, and what may have come to those before it; after one that did not, it is all that
   the stream has.
5. A worker that leaves finishes what it has in hand, and hands over.
6. When the broker has lost its stream, and another one is made, everything begins anew.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic, time
from typing import Final, Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup

from realtime_bus import UsageError
from realtime_bus.log import get_logger

from ._broker import Broker
from ._nats import broker_errors, retrying
from ._shares import Record, next_record, plan
from ._subjects import escape
from ._watched import Seen
from ._wire import Holder, to_json

_DEAD_AFTER: Final = 1.1  # leases
_RECORD: Final = msgspec.json.Decoder(Record)


class Start(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where a group began to read: a number of the stream, or a time."""

    sequence: int = 0
    time: str = ""


class Worker(Protocol):
    """What a group asks of its worker."""

    def begin(self, partition: int, consumer: str, record: Record, *, careful: int) -> None:
        """Read a partition from now on; up to `careful` one event at a time."""
        ...

    def floor(self, partition: int) -> int | None:
        """Return up to where all is done, if the partition is this worker's own."""
        ...

    def lose(self, partition: int) -> None:
        """Stop at once: another one has it."""
        ...

    async def finish(self, partition: int) -> tuple[int, int] | None:
        """Take no more, and finish what is in hand.

        Returns:
            Up to where all is done, and up to where events have come, here or to others; None if
            the partition is not read here.
        """
        ...


class Group:
    """This worker's part in its group.

    Args:
        broker: Open while it runs.
        name: The group's.
        worker_id: What this process is called.
        worker: What reads.
        start: Where the group begins, if it has not begun.
    """

    def __init__(
        self,
        broker: Broker,
        name: str,
        worker_id: str,
        worker: Worker,
        *,
        start: Start,
    ) -> None:
        self._broker = broker
        self._name = name
        self._id = worker_id
        self._worker = worker
        self._start_at = start
        self._start = Start()
        self._made_at = broker.made_at
        self._changed = anyio.Event()
        self._mine: dict[int, tuple[Record, int]] = {}  # with the revision of the record
        self._broken: set[int] = set()
        self._releasing: set[int] = set()
        self._renewed_s = monotonic()
        self._grace_until_s = monotonic() + broker.lease_s  # others may not be known yet
        self._leaving = False
        self._left = False
        self._looking = anyio.CancelScope()
        self._renewing = anyio.CancelScope()
        self._life = anyio.CancelScope()
        self._back = anyio.Event()
        self._log = get_logger().bind(app=broker.names.app, group=name, worker=worker_id)

    @property
    def partitions(self) -> frozenset[int]:
        """Which partitions are this worker's."""
        return frozenset(self._mine)

    def consumer(self, partition: int, epoch: int) -> str:
        """Return what an epoch's consumer is called."""
        return f"{self._name}-{partition}-{epoch}"

    def broken(self, partition: int) -> None:
        """Say that a partition's consumer has ended: the next one is made."""
        if partition in self._mine:
            self._broken.add(partition)
        self.wake()

    def wake(self) -> None:
        """Look again what there is to do."""
        self._changed.set()

    # --- living ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take part until cancelled."""
        self._broker.on_change(self._on_change)
        while True:
            self._made_at = self._broker.made_at
            with anyio.CancelScope() as self._life:
                await self._take_part()
            for partition in list(self._mine):
                self._lose(partition)
            if not self._start_at.time:
                self._start_at = Start(sequence=1)  # all that is in the new stream is new

    async def _take_part(self) -> None:
        broker = self._broker
        self._start = await self._find_start()
        async with (
            anyio.create_task_group() as tasks,
            broker.watch(broker.leases, f"member.{self._name}.*", self.wake) as members,
            broker.watch(broker.groups, f"{self._name}.p.*", self.wake) as records,
        ):
            await retrying(self._renew)
            tasks.start_soon(self._keep_lease)
            tasks.start_soon(self._remove_consumers_of_the_past, records)
            while True:
                self._changed = anyio.Event()
                pause_s = broker.lease_s / 3
                with suppress(*broker_errors()), anyio.CancelScope() as self._looking:
                    pause_s = min(pause_s, await self._look(members, records, tasks))
                with anyio.move_on_after(pause_s):
                    await self._changed.wait()

    def _on_change(self, there: bool) -> None:  # a listener's only argument
        self._renewing.cancel()
        if self._made_at != self._broker.made_at:
            self._life.cancel()
        if there:
            self._back.set()
            self._grace_until_s = monotonic() + self._broker.lease_s
            self._broken |= self._mine.keys()  # what was on its way is lost
            self.wake()
        else:
            self._looking.cancel()  # no answer will come

    async def _keep_lease(self) -> None:
        lease_s = self._broker.lease_s
        while True:
            self._stop_without_lease()
            self._back = anyio.Event()
            with anyio.move_on_after(lease_s / 3) as self._renewing, suppress(*broker_errors()):
                await self._renew()
            self._stop_without_lease()
            with anyio.move_on_after(lease_s / 3):
                await self._back.wait()

    def holds_lease(self) -> bool:
        """Tell whether this worker may handle what it has in hand."""
        return monotonic() - self._renewed_s < self._broker.lease_s

    def _stop_without_lease(self) -> None:
        """Let go of everything, if others may be at it by now: also of what a new lease follows."""
        if not self.holds_lease() and self._mine:
            self._log.error("no lease for too long: this worker stops")
            for partition in list(self._mine):
                self._lose(partition)

    async def _renew(self) -> None:
        if self._left:
            return
        began_s = monotonic()
        lease = Holder(
            id=self._id,
            host=socket.gethostname(),
            pid=os.getpid(),
            since=time(),
            sessions=len(self._mine),
        )
        await self._broker.leases.put(f"member.{self._name}.{self._id}", to_json(lease))
        self._stop_without_lease()  # the last one ran out meanwhile: handlers wait to be left
        self._renewed_s = began_s

    async def _find_start(self) -> Start:
        """Return where the group begins: what is written of it, or else what is written now."""
        key = f"{self._name}.start"
        groups = self._broker.groups

        async def find() -> Start:
            from nats.js.errors import KeyNotFoundError  # noqa: PLC0415  # of the extra

            try:
                found = await groups.get(key)
            except KeyNotFoundError:
                with suppress(*broker_errors()):  # another worker was quicker
                    await groups.create(key, to_json(await first_of(self._broker, self._start_at)))
                found = await groups.get(key)
            return msgspec.json.decode(found.value or b"{}", type=Start)

        found: Start = await retrying(find)
        return found

    # --- what there is to do -----------------------------------------------------------------

    async def _look(
        self, members: Mapping[str, Seen], records: Mapping[str, Seen], tasks: TaskGroup
    ) -> float:
        """Change what is to be changed; return in how many seconds the next lease runs out."""
        lease_s, now_s = self._broker.lease_s, monotonic()
        if self._leaving or not self._broker.connected or not self.holds_lease():
            return lease_s
        start = len(f"member.{self._name}.")
        ends_in_s = {
            key[start:]: seen.at_s + _DEAD_AFTER * lease_s - now_s for key, seen in members.items()
        }
        living = {self._id} | {worker for worker, left_s in ends_in_s.items() if left_s > 0}
        known = {
            int(key.rsplit(".", 1)[1]): (read_record(seen.value), seen.revision)
            for key, seen in records.items()
            if key.rsplit(".", 1)[1].isdigit()
        }
        for partition, (_, revision) in list(self._mine.items()):
            record, newer = known.get(partition, (Record(), 0))
            if newer > revision and record.worker != self._id:
                self._lose(partition)
        known |= self._mine  # the watcher may be behind
        owners = {partition: record.worker for partition, (record, _) in known.items()}
        wanted = plan(self._id, living, self._broker.partitions, owners)
        ours = {each for each, owner in owners.items() if owner == self._id}
        for partition in {*wanted.release} - self._releasing:
            self._releasing.add(partition)
            tasks.start_soon(self._release, partition, *known[partition])
        take = (self._broken & self._mine.keys()) | ({*wanted.take, *ours} - self._mine.keys())
        async with anyio.create_task_group() as changing:
            for partition in take - self._releasing:
                record, revision = known.get(partition, (Record(), 0))
                lease = members.get(f"member.{self._name}.{record.worker}")
                foreign = record.worker not in ("", self._id)
                if not foreign or now_s > self._grace_until_s:
                    changing.start_soon(
                        self._try_to_take, partition, record, revision, foreign, lease
                    )
        return min((left_s for left_s in ends_in_s.values() if left_s > 0), default=lease_s)

    async def _try_to_take(
        self,
        partition: int,
        record: Record,
        revision: int,
        died: bool,  # of a task
        lease: Seen | None,
    ) -> None:
        with suppress(*broker_errors()):  # then the next look does it
            if not (died and await self._lives(record.worker, lease)):
                await self._take(partition, record, revision, died=died)

    async def _lives(self, worker: str, lease: Seen | None) -> bool:
        """Tell whether a worker has renewed its lease since we have seen it."""
        from nats.js.errors import KeyNotFoundError  # noqa: PLC0415  # of the extra

        if escape(worker) != worker:
            return False  # nobody is called so: whoever may write wrote it
        try:
            entry = await self._broker.leases.get(f"member.{self._name}.{worker}")
        except KeyNotFoundError:
            return False
        return lease is None or (entry.revision or 0) > lease.revision

    def _lose(self, partition: int) -> None:
        self._mine.pop(partition, None)
        self._broken.discard(partition)
        self._worker.lose(partition)

    async def _take(self, partition: int, found: Record, revision: int, *, died: bool) -> None:
        """Begin the next epoch of a partition, unless another worker is quicker."""
        from nats.js.errors import (  # noqa: PLC0415  # of the extra
            KeyWrongLastSequenceError,
            NotFoundError,
        )

        js, stream = self._broker.js, self._broker.names.stream
        old = self.consumer(partition, found.epoch)
        floor, delivered = max(found.floor, self._start.sequence - 1, 0), 0
        if found.epoch:
            with suppress(NotFoundError):
                info = await js.consumer_info(stream, old)
                floor = max(floor, info.ack_floor.stream_seq if info.ack_floor else 0)
                delivered = info.delivered.stream_seq if info.delivered else 0
        floor = max(floor, self._worker.floor(partition) or 0)
        newest = found.newest
        if found.worker:  # nothing was handed over, and what the broker knows may be older
            newest = max(newest, await self._last_of_stream())
        record = next_record(
            found, self._id, floor=floor, newest=newest, delivered=delivered, died=died
        )
        try:
            revision = await self._broker.groups.update(
                f"{self._name}.p.{partition}", to_json(record), last=revision
            )
        except KeyWrongLastSequenceError:
            return  # the watcher will say whose it is
        consumer = self.consumer(partition, record.epoch)
        await make_consumer(
            self._broker,
            consumer,
            subjects=self._broker.names.handled(partition),
            start=Start(sequence=floor + 1) if floor else self._start,
        )
        self._broken.discard(partition)
        self._mine[partition] = record, revision
        self._worker.begin(partition, consumer, record, careful=delivered if died else 0)
        if found.epoch:
            with suppress(*broker_errors()):
                await js.delete_consumer(stream, old)

    async def _last_of_stream(self) -> int:
        """Return the number up to which anybody may have had events."""
        info = await self._broker.js.stream_info(self._broker.names.stream)
        return int(info.state.last_seq)

    async def _remove_consumers_of_the_past(self, records: Mapping[str, Seen]) -> None:
        """Remove what a worker that died in `_take` has left: consumers of former epochs."""
        js, stream, offset = self._broker.js, self._broker.names.stream, 0
        with suppress(*broker_errors()):  # then the next worker does it
            while found := await js.consumers_info(stream, offset=offset):
                offset += len(found)
                for info in found:
                    group, _, rest = info.name.rpartition("-")[0].rpartition("-")
                    seen = records.get(f"{group}.p.{rest}")  # only of this group
                    epoch = info.name.rpartition("-")[2]
                    if seen is None or not epoch.isdigit():
                        continue
                    if int(epoch) < read_record(seen.value).epoch:
                        with suppress(*broker_errors()):
                            await js.delete_consumer(stream, info.name)

    async def _release(self, partition: int, record: Record, revision: int) -> None:
        self._mine.pop(partition, None)
        try:
            finished = await self._worker.finish(partition)
            with suppress(*broker_errors()):  # then the next look does it
                # None: it was finished before, and the bucket was not told
                floor, newest = finished or (record.floor, await self._last_of_stream())
                freed = Record(epoch=record.epoch, floor=max(floor, record.floor), newest=newest)
                await self._broker.groups.update(
                    f"{self._name}.p.{partition}", to_json(freed), last=revision
                )
        finally:
            self._releasing.discard(partition)

    async def leave(self) -> None:
        """Finish what is in hand, hand over, and give the lease back."""
        self._leaving = True
        async with anyio.create_task_group() as leaving:
            for partition in sorted(self._mine):
                leaving.start_soon(self._hand_over, partition)
        self._left = True
        with suppress(*broker_errors()):
            await self._broker.leases.delete(f"member.{self._name}.{self._id}")

    async def _hand_over(self, partition: int) -> None:
        with suppress(*broker_errors()):
            entry = await self._broker.groups.get(f"{self._name}.p.{partition}")
            record = read_record(entry.value or b"")
            if record.worker == self._id:
                await self._release(partition, record, entry.revision or 0)


def read_record(value: bytes) -> Record:
    """Read a partition's record; one that cannot be read counts as new."""
    try:
        return _RECORD.decode(value)
    except (ValueError, RecursionError):
        return Record()


def read_start(start: object) -> Start:
    """Return where reading begins; ``"new"`` is number 0.

    Args:
        start: ``"new"``, ``"all"``, a number of the stream, or a time with its zone.

    Raises:
        UsageError: It is something else.
    """
    if start in ("new", "all"):
        return Start(sequence=int(start == "all"))
    if isinstance(start, datetime) and start.tzinfo is not None:
        return Start(time=start.astimezone(UTC).isoformat())
    if isinstance(start, int) and not isinstance(start, bool) and start > 0:
        return Start(sequence=start)
    raise UsageError(
        f"start={start!r:.80} is neither 'new', 'all', a sequence number of the stream nor a "
        "datetime with a time zone"
    )


async def first_of(broker: Broker, start: Start) -> Start:
    """Return where reading begins, now that the broker is open."""
    if start.sequence or start.time:
        return start
    info = await broker.js.stream_info(broker.names.stream)
    return Start(sequence=info.state.last_seq + 1)


async def make_consumer(
    broker: Broker,
    name: str,
    *,
    subjects: list[str],
    start: Start,
    inactive_s: float | None = None,
) -> None:
    """Make a consumer that acknowledges all up to a number."""
    from nats.js import api  # noqa: PLC0415  # of the extra

    policy = api.DeliverPolicy.BY_START_TIME if start.time else api.DeliverPolicy.BY_START_SEQUENCE
    config = api.ConsumerConfig(
        durable_name=name,
        filter_subjects=subjects,
        deliver_policy=policy,
        opt_start_seq=None if start.time else max(start.sequence, 1),
        opt_start_time=datetime.fromisoformat(start.time) if start.time else None,
        ack_policy=api.AckPolicy.ALL,
        ack_wait=3600.0,  # redelivery is ours: from the floor, in order
        max_ack_pending=-1,  # so is the bound
        inactive_threshold=inactive_s,
    )
    await broker.js.add_consumer(broker.names.stream, config)

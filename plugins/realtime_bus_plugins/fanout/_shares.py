"""Who works on what: pure.

Rules:

1. Sessions are divided into partitions by the broker. A partition has one owner at a time, so a
   session is handled by one worker at a time, and in order.
2. Every living worker has its share: all partitions divided by the workers, the first of them (by
   name) one more where that leaves a rest.
3. Who has more than its share hands over; who has less takes what is free: what was handed over,
   was never owned, or belongs to a worker that has died. Two that want the same one are told apart
   by the bucket, which takes an update of the last revision only.
4. A partition whose owner died with events in its hands is read on carefully: one event at a time
   until that place is passed, so that an event that kills its worker can be told from the others.
   One at which workers have died `strikes` times is given up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec


class Record(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the bucket says of a partition.

    Attributes:
        worker: Its owner; empty where it was handed over.
        epoch: How often it has changed hands; each epoch has a consumer of its own.
        floor: Everything up to this sequence number of the stream was done when the epoch began.
        newest: Events up to here may have come to owners before this epoch.
        strikes: How many owners have died at that floor in a row.
    """

    worker: str = ""
    epoch: int = 0
    floor: int = 0
    newest: int = 0
    strikes: int = 0


class Plan(NamedTuple):
    """What a worker should do."""

    take: list[int]
    release: list[int]


def share_of(worker: str, workers: Collection[str], partitions: int) -> int:
    """Return how many partitions a worker should have."""
    order = sorted(workers)
    every, rest = divmod(partitions, len(order))
    return every + (order.index(worker) < rest)


def plan(worker: str, workers: Collection[str], partitions: int, owners: Mapping[int, str]) -> Plan:
    """Return which partitions a worker should take, and which it should hand over.

    Args:
        worker: Whose plan it is; one of `workers`.
        workers: Those that live.
        partitions: How many there are.
        owners: Who has which, the dead included; those without an owner are left out, or empty.
    """
    share = share_of(worker, workers, partitions)
    mine = [each for each in range(partitions) if owners.get(each) == worker]
    if len(mine) > share:
        return Plan([], mine[share:])
    free = [each for each in range(partitions) if owners.get(each, "") not in workers]
    start = sorted(workers).index(worker) * len(free) // len(workers)  # so that few want the same
    return Plan((free[start:] + free[:start])[: share - len(mine)], [])


def next_record(
    found: Record | None, worker: str, *, floor: int, newest: int, delivered: int, died: bool
) -> Record:
    """Return the record of a partition's next epoch.

    Args:
        found: The last one's, or None.
        worker: The next owner.
        floor: Everything up to here is done.
        newest: Events up to here may have come to somebody.
        delivered: Everything up to here had been handed out.
        died: Whether the last owner did not hand over.
    """
    last = found or Record()
    strikes = 0
    if died and delivered > floor:
        strikes = last.strikes + 1 if floor == last.floor else 1
    elif not died and last.worker == worker:
        strikes = last.strikes  # it goes on itself
    return Record(worker=worker, epoch=last.epoch + 1, floor=floor, newest=newest, strikes=strikes)

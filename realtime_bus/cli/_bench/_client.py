"""The receiving side of the benchmarks over a socket: one library, a process of its own.

Called with a module that has `rows()`, and the name of a row. Orders come as lines of JSON on
stdin; each is answered by ``{"ready": true}`` when its sessions are open, and by the figures at
its end. The end of stdin ends the process.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import statistics
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, TypeVar

import anyio
import structlog

from ._handler import Backlog, Row, Tally

__all__ = ["main"]

_LIMIT_S = 60.0
_ANSWERS = 1  # standard output; what Python writes there goes to standard error instead

_Connect = TypeVar("_Connect", bound=Callable[..., Any])


def _fit(connect: _Connect | None) -> _Connect:
    """Return what opens a session; the caller asks only rows that have it."""
    if connect is None:
        msg = "this row takes no part in this benchmark"
        raise LookupError(msg)
    return connect


async def _receive(row: Row, order: dict[str, Any]) -> dict[str, Any]:
    """Take all that comes, and tell the CPU time that it took."""
    connect = _fit(row.connect)
    tally = Tally(expected=order["frames"], clocked=order["clocked"])
    async with AsyncExitStack() as stack:
        for _ in range(order["sessions"]):
            await stack.enter_async_context(connect(order["url"], tally))
        await anyio.sleep(order.get("settle_s", 0.05))
        gc.collect()
        _say({"ready": True})
        started_s = process_time()
        with anyio.fail_after(_LIMIT_S):
            await tally.ended.wait()
        took_s = process_time() - started_s
    return {"cpu_s": took_s, "frames": tally.frames, "audio_bytes": tally.audio_bytes} | _late(
        tally.late_ns
    )


def _late(late_ns: list[int]) -> dict[str, float]:
    if not late_ns:
        return {}
    cuts = statistics.quantiles(late_ns, n=100)
    return {"p50_ms": cuts[49] / 1e6, "p99_ms": cuts[98] / 1e6, "max_ms": max(late_ns) / 1e6}


async def _interrupted(row: Row, order: dict[str, Any]) -> dict[str, Any]:
    """Tell how late the start of speech was handled."""
    connect = _fit(row.connect_slow)
    backlog = Backlog(takes_s=order["takes_s"])
    async with connect(order["url"], backlog):
        await anyio.sleep(0.05)
        gc.collect()
        _say({"ready": True})
        with anyio.fail_after(_LIMIT_S):
            await backlog.heard.wait()
    return {"late_s": backlog.late_ns / 1e9}


async def _idle(row: Row, order: dict[str, Any]) -> dict[str, Any]:
    """Tell what open sessions take of the memory."""
    connect = _fit(row.connect)
    tally = Tally()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(connect(order["url"], tally))  # what only one pays
        before = _resident_bytes()
        for _ in range(order["sessions"]):
            await stack.enter_async_context(connect(order["url"], tally))
        await anyio.sleep(0.2)
        after = _resident_bytes()
        _say({"ready": True})
    return {"session_bytes": (after - before) / order["sessions"]}


async def _queued(row: Row, order: dict[str, Any]) -> dict[str, Any]:
    """Tell what audio takes of the memory while its handler is busy with the first of it."""
    connect = _fit(row.connect_slow)
    backlog = Backlog(takes_s=3600)
    async with connect(order["url"], backlog):
        await anyio.sleep(0.1)
        before = _resident_bytes()
        _say({"ready": True})
        with anyio.fail_after(_LIMIT_S):
            await backlog.heard.wait()  # speech comes behind all the audio
        after = _resident_bytes()
    return {"queued_bytes": after - before}


def _resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


_ORDERS: dict[str, Callable[[Row, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "receive": _receive,
    "interrupted": _interrupted,
    "idle": _idle,
    "queued": _queued,
}


def _say(answer: dict[str, Any]) -> None:
    # not sys.stdout, to which libraries log
    os.write(_ANSWERS, json.dumps(answer).encode() + b"\n")


def main() -> None:
    """Take orders until stdin ends."""
    sys.stdout = sys.stderr
    # what libraries log of the odd server they meet here
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    module, name = sys.argv[1:]
    row: Row = next(row for row in importlib.import_module(module).rows() if row.name == name)
    uvloop = row.backend == "uvloop"
    for line in sys.stdin:
        order = json.loads(line)
        _say(
            anyio.run(
                partial(_ORDERS[order["do"]], row, order),
                backend="trio" if row.backend == "trio" else "asyncio",
                backend_options={"use_uvloop": True} if uvloop else {},
            )
        )


if __name__ == "__main__":
    main()

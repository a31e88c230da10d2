"""The receiving side of the benchmarks over a socket: one library, a process of its own.

Called with a pickled row. Orders come as lines of JSON on stdin; each is answered by
``{"ready": true}`` when its sessions are open, and by the figures at its end. The end of stdin
ends the process.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import statistics
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import anyio
import structlog

from ._work import Backlog, Row, Tally

_LIMIT_S = 60.0
_ANSWERS = 1  # standard output; what Python writes there goes to standard error instead


async def _receive(row: Row, order: dict[str, Any]) -> dict[str, Any]:
    """Take all that comes, and tell the CPU time that it took."""
    assert row.connect is not None  # noqa: S101  # only rows that have it are asked
    tally = Tally(expected=order["frames"], clocked=order["clocked"])
    async with AsyncExitStack() as stack:
        for _ in range(order["sessions"]):
            await stack.enter_async_context(row.connect(order["url"], tally))
        await anyio.sleep(0.05)
        gc.collect()
        _say({"ready": True})
        started_s = process_time()
        with anyio.fail_after(_LIMIT_S):
            await tally.ended.wait()
        took_s = process_time() - started_s
    found = {"cpu_s": took_s, "frames": tally.frames, "audio_bytes": tally.audio_bytes}
    if tally.late_ns:
        cuts = statistics.quantiles(tally.late_ns, n=100)
        found |= {"p50_ms": cuts[49] / 1e6, "p99_ms": cuts[98] / 1e6}
    return found


async def _interrupted(row: Row, order: dict[str, Any]) -> dict[str, Any]:
    """Tell how late the start of speech was handled."""
    assert row.connect_slow is not None  # noqa: S101  # as above
    backlog = Backlog(takes_s=order["takes_s"])
    async with row.connect_slow(order["url"], backlog):
        await anyio.sleep(0.05)
        gc.collect()
        _say({"ready": True})
        with anyio.fail_after(_LIMIT_S):
            await backlog.heard.wait()
    return {"late_s": backlog.late_ns / 1e9}


async def _idle(row: Row, order: dict[str, Any]) -> dict[str, Any]:
    """Tell what open sessions take of the memory."""
    assert row.connect is not None  # noqa: S101  # as above
    tally = Tally()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(row.connect(order["url"], tally))  # what only one pays
        before = _resident_bytes()
        for _ in range(order["sessions"]):
            await stack.enter_async_context(row.connect(order["url"], tally))
        await anyio.sleep(0.2)
        after = _resident_bytes()
        _say({"ready": True})
    return {"session_bytes": (after - before) / order["sessions"]}


async def _queued(row: Row, order: dict[str, Any]) -> dict[str, Any]:
    """Tell what audio takes of the memory while its handler is busy with the first of it."""
    assert row.connect_slow is not None  # noqa: S101  # as above
    backlog = Backlog(takes_s=3600)
    async with row.connect_slow(order["url"], backlog):
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


def _main() -> None:
    sys.stdout = sys.stderr
    # what libraries log of the odd server they meet here
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    row: Row = pickle.loads(bytes.fromhex(sys.argv[1]))  # noqa: S301  # from who started us
    for line in sys.stdin:
        order = json.loads(line)
        _say(
            anyio.run(
                partial(_ORDERS[order["do"]], row, order),
                backend="trio" if row.backend == "trio" else "asyncio",
                backend_options={"use_uvloop": True} if row.backend == "uvloop" else {},
            )
        )


if __name__ == "__main__":
    _main()

"""Ending in good order: SIGINT and SIGTERM cancel what runs, once; the second ends the process.

After the first signal the system's own handling is back, so that a second one ends the process at
once, whatever it is doing (exit code -2 or -15, to a shell 130 or 143). Where a loop cannot
receive signals (asyncio on Windows), SIGINT alone does the same, as KeyboardInterrupt.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

_T = TypeVar("_T")

_ENDING = (signal.SIGINT, signal.SIGTERM)


class Ended(Exception):  # noqa: N818  # nothing went wrong: somebody wanted it so
    """A signal has ended what ran, in good order.

    Attributes:
        number: Which.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def run_until_signalled(
    run: Callable[[], Awaitable[_T]], *, backend: str, virtual: bool = False
) -> _T:
    """Run an async function in a loop of its own.

    Args:
        run: What to run.
        backend: asyncio or trio.
        virtual: Whether time passes only while everybody waits.

    Raises:
        Ended: A signal came first. What ran was cancelled, and has ended.
    """
    backend_options: dict[str, Any] = {}
    if virtual:
        from realtime_bus.testing import virtual_time  # noqa: PLC0415  # slow to import

        backend_options = virtual_time("trio" if backend == "trio" else "asyncio")[1]
    try:
        outcome = anyio.run(_watched, run, backend=backend, backend_options=backend_options)
    except KeyboardInterrupt:
        raise Ended(signal.SIGINT) from None
    if isinstance(outcome, Ended):
        raise outcome
    return outcome


async def _watched(run: Callable[[], Awaitable[_T]]) -> _T | Ended:
    ended: list[Ended] = []
    outcome: list[_T] = []
    failure: list[Exception] = []  # raised as it is, in no exception group
    async with anyio.create_task_group() as tasks:
        await tasks.start(_watch, ended, tasks.cancel_scope)
        try:
            outcome.append(await run())
        except Exception as error:  # noqa: BLE001  # whatever it is: see above
            failure.append(error)
        tasks.cancel_scope.cancel()
    if failure:
        raise failure[0]
    return ended[0] if ended else outcome[0]


async def _watch(
    ended: list[Ended], scope: anyio.CancelScope, *, task_status: TaskStatus[None]
) -> None:
    with suppress(NotImplementedError), anyio.open_signal_receiver(*_ENDING) as signals:
        task_status.started()
        async for number in signals:
            ended.append(Ended(number))
            break
    if not ended:
        task_status.started()
        return
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
    scope.cancel()

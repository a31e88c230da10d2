"""The connections of one listener: who is welcomed, who stays, and how all leave.

The rules
---------
* A connection is a stranger until its handshake is accepted; who was refused and has not hung up
  is one, too. There are at most `MAX_STRANGERS`, and one more makes the oldest go: those who
  connect and say nothing lock nobody out.
* Where the system has no room for one more connection (file descriptors), it is the same.
* At the end nobody is welcomed any more, strangers are cut, and each session is closed with 1001,
  behind what was said to it before. Who has not gone after `GOODBYE_S` is cut.
* The end is the same for whoever cancels the server: the tasks are shielded from it, and go in
  their own time, which is bounded.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from anyio import CancelScope, create_task_group, move_on_after

from realtime_bus.log import get_logger

from ._session import ServerSession

if TYPE_CHECKING:
    from anyio.abc import ByteStream, Listener, TaskGroup, TaskStatus

_log = get_logger("realtime_bus.server")

MAX_STRANGERS = 100
"""Connections without a session, those that are told HTTP 503 among them."""

GOODBYE_S = 3.0
"""How long clients may take to read what was sent, and to agree that the server stops."""

_BREATH_S = 0.1
"""Between two tries to accept, where the system has refused one."""


class Guest:
    """One connection.

    Args:
        guests: All of them.
        scope: What its task runs in.
    """

    def __init__(self, guests: Guests, scope: CancelScope) -> None:
        self._guests = guests
        self._scope = scope

    def admit(self) -> None:
        """Let it stay: its handshake was accepted."""
        self._guests.admit(self._scope)


class Guests:
    """The connections of one listener, or the one of a session in memory."""

    def __init__(self) -> None:
        self._strangers: dict[CancelScope, None] = {}
        self._admitted: set[CancelScope] = set()
        self._sessions: dict[ServerSession, None] = {}
        self._door = CancelScope()
        self._leaving = False
        self._changed = anyio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[TaskGroup, None]:
        """Yield the group for the connections' tasks; leaving the context sends everybody home.

        What the block raises comes out as it was raised, in no exception group.
        """
        leave = anyio.Event()

        async def hold(*, task_status: TaskStatus[TaskGroup]) -> None:
            with CancelScope(shield=True):
                async with create_task_group() as tasks:
                    task_status.started(tasks)
                    await leave.wait()
                    await self._say_goodbye()
                    tasks.cancel_scope.cancel()

        outer = create_task_group()
        await outer.__aenter__()
        try:
            yield await outer.start(hold)
        finally:
            leave.set()
            await outer.__aexit__(None, None, None)

    async def listen(
        self,
        listener: Listener[Any],
        welcome: Callable[[ByteStream], Awaitable[None]],
        tasks: TaskGroup,
    ) -> None:
        """Accept connections until the end; each is welcomed in a task of its own."""
        with self._door:
            while True:
                try:
                    await listener.serve(welcome, tasks)
                except* (OSError, anyio.BrokenResourceError) as errors:
                    _log.warning(
                        "a connection could not be accepted", error=repr(errors.exceptions)
                    )
                for _ in range(1 + len(self._strangers) // 4):
                    self._cut_the_oldest()
                await anyio.sleep(_BREATH_S)

    @contextmanager
    def arriving(self) -> Generator[Guest, None, None]:
        """Be a connection's task, from its first byte to its last; it may be cut in between."""
        if len(self._strangers) >= MAX_STRANGERS:
            self._cut_the_oldest()
        with CancelScope() as scope:
            self._strangers[scope] = None
            if self._leaving:
                scope.cancel()
            try:
                yield Guest(self, scope)
            finally:
                self._strangers.pop(scope, None)
                self._admitted.discard(scope)
                self._note()

    @contextmanager
    def staying(self, session: ServerSession) -> Generator[None, None, None]:
        """Have a session that is to be closed at the end."""
        self._sessions[session] = None
        if self._leaving:
            self._close(session)
        try:
            yield
        finally:
            del self._sessions[session]

    def admit(self, scope: CancelScope) -> None:
        """Take a stranger for one who stays."""
        if self._strangers.pop(scope, scope) is None:  # else it has been cut meanwhile
            self._admitted.add(scope)

    def _cut_the_oldest(self) -> None:
        oldest = next(iter(self._strangers), None)
        if oldest is not None:
            del self._strangers[oldest]
            oldest.cancel()

    # The end

    async def _say_goodbye(self) -> None:
        self._leaving = True
        self._door.cancel()
        # a task that is cancelled before its first step closes no socket
        await anyio.lowlevel.checkpoint()
        while self._strangers:
            self._cut_the_oldest()
        for session in self._sessions:
            self._close(session)
        with move_on_after(GOODBYE_S):
            while self._admitted:
                await self._changed.wait()

    def _close(self, session: ServerSession) -> None:
        session.close(1001, "the server is stopping")

    def _note(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

"""Eager handlers that wait when told to, and ways to feed them."""

from __future__ import annotations

import asyncio
import sys
from asyncio import current_task
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, Session
from realtime_bus import events as ev

from ._peer import Peer, quiet, speech

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
begins_at_once = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="tasks start eagerly since Python 3.12; it is a mailbox here"
)

Started = ev.InputAudioBufferSpeechStarted
Stopped = ev.InputAudioBufferSpeechStopped


class BrokenError(Exception):
    """What handlers raise here."""


class Waiter:
    """A handler that waits at some events until it is told to go on.

    Attributes:
        begun: The numbers of the events that it has begun with.
        ended: The numbers of those that it has finished.
        cancelled: Those at which it was cancelled.
        go: What it waits for.
    """

    def __init__(self, session: Session | Bus, *waits_at: int, **options: Any) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self.go = anyio.Event()
        self.waits_at = waits_at
        session.on(Started, mode="eager", name="waiter", **options)(self)

    async def __call__(self, event: Started) -> None:
        """Begin, perhaps wait, and end."""
        self.begun.append(event.audio_start_ms)
        try:
            if event.audio_start_ms in self.waits_at:
                await self.go.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(event.audio_start_ms)
            raise
        self.ended.append(event.audio_start_ms)


async def first(peer: Peer) -> None:
    """Send event 0, and wait until it was handled: a plain mailbox has its worker then."""
    peer.say(speech(0))
    await quiet()


async def in_callback(function: Callable[..., Any], *args: Any) -> None:
    """Call a function from a callback of asyncio's loop, where no task is the current one."""
    loop = asyncio.get_running_loop()
    called = loop.create_future()

    def call() -> None:
        assert current_task() is None
        function(*args)
        called.set_result(current_task())

    loop.call_soon(call)
    assert await called is None


def figures(session: Session) -> tuple[int, int, int, int]:
    """Return the first handler's figures: delivered, failed, dropped, pending."""
    (first, *_) = session.statistics().handlers
    return first.delivered, first.failed, first.dropped, first.pending

"""A feed: events from elsewhere reach handlers as a session's do, and settle."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from realtime_bus import CloseInfo, SessionClosed
from realtime_bus import events as ev
from realtime_bus.feed import BusOptions, Feed, Handlers, Redelivery, current_delivery

from ._peer import speech, word

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


class Fed:
    """A feed, and what became of what it was given."""

    def __init__(self, feed: Feed[str]) -> None:
        self.feed = feed
        self.settled: list[int] = []
        self._changed = anyio.Event()

    def give(self, number: int) -> None:
        """Feed one event."""
        self.feed.frame(
            speech(number).to_json(), key=f"k{number}", settled=lambda: self._note(number)
        )

    def _note(self, number: int) -> None:
        self.settled.append(number)
        self._changed.set()
        self._changed = anyio.Event()

    async def until_settled(self, count: int) -> list[int]:
        """Wait until so many have settled."""
        with anyio.fail_after(10):
            while len(self.settled) < count:
                await self._changed.wait()
        return self.settled


@asynccontextmanager
async def feeding(handlers: Handlers[str], **options: Any) -> AsyncGenerator[Fed]:
    """Open a feed of a session that is a text."""
    given = {"redelivery": Redelivery(attempts=3, first_delay_s=0), **options}
    async with anyio.create_task_group() as tasks:
        feed = Feed(handlers, "sess_1", tasks=tasks, **given)
        yield Fed(feed)
        feed.leave(CloseInfo())


@pytest.fixture
def handlers() -> Handlers[str]:
    """Return the handlers of an application that has none yet."""
    return Handlers((), BusOptions())


async def test_an_event_settles_when_all_handlers_are_done(handlers: Handlers[str]) -> None:
    """The slowest decides; events settle in any order."""
    gate = anyio.Event()

    @handlers.on(Started, mode="parallel")
    async def slow(event: Started) -> None:
        if event.audio_start_ms == 1:
            await gate.wait()

    @handlers.on(Started)
    def quick(_event: Started, session: str) -> None:
        assert session == "sess_1"

    async with feeding(handlers) as fed:
        for number in range(4):
            fed.give(number)
        assert await fed.until_settled(3) == [0, 2, 3]
        gate.set()
        assert await fed.until_settled(4) == [0, 2, 3, 1]


async def test_what_nobody_wants_settles_at_once(handlers: Handlers[str]) -> None:
    """No handler, another type, a predicate that says no."""
    handlers.on(Started, where=lambda event: event.audio_start_ms > 5)(lambda _event: None)
    async with feeding(handlers) as fed:
        done: list[bool] = []
        fed.feed.frame(word("x").to_json(), key="a", settled=lambda: done.append(True))
        fed.give(1)
        assert (done, fed.settled) == ([True], [1])


async def test_a_failing_handler_is_tried_again_in_order(handlers: Handlers[str]) -> None:
    """Plain or async: what is behind waits; after the last attempt the event is kept elsewhere."""
    tried: list[tuple[str, int]] = []
    kept: list[tuple[str, int, str]] = []

    def failing(name: str) -> Callable[[Started], None]:
        def handle(event: Started) -> None:
            tried.append((name, event.audio_start_ms))
            if event.audio_start_ms == 1:
                raise ValueError(name)

        return handle

    async def asynchronous(event: Started) -> None:
        failing("async")(event)

    handlers.on(Started, name="plain")(failing("plain"))
    handlers.on(Started, name="async")(asynchronous)

    async def keep(handler: str, event: Any, error: Exception, key: str) -> None:
        assert isinstance(error, ValueError)
        kept.append((handler, event.audio_start_ms, key))

    async with feeding(handlers, keep=keep) as fed:
        for number in range(3):
            fed.give(number)
        assert sorted(await fed.until_settled(3)) == [0, 1, 2]
    for name in ("plain", "async"):
        assert [n for who, n in tried if who == name] == [0, 1, 1, 1, 2]
    assert sorted(kept) == [("async", 1, "k1"), ("plain", 1, "k1")]
    figures = {each.handler: each for each in handlers._registry.statistics()}
    assert (figures["async"].delivered, figures["async"].failed) == (3, 3)


@pytest.mark.parametrize(
    "options",
    [{"mode": "latest"}, {"max_pending": 1}, {"max_pending": 1, "overflow": "drop_newest"}],
)
async def test_what_a_mailbox_drops_settles(handlers: Handlers[str], options: Any) -> None:
    """A handler that asked to skip events is done with those that it skips."""
    gate, begun = anyio.Event(), anyio.Event()

    @handlers.on(Started, **options)
    async def slow(_event: Started) -> None:
        begun.set()
        await gate.wait()

    async with feeding(handlers) as fed:
        fed.give(0)
        await begun.wait()
        for number in range(1, 5):
            fed.give(number)
        assert len(fed.settled) == 3
        gate.set()
        await fed.until_settled(5)


async def test_what_is_cut_off_never_settles(handlers: Handlers[str]) -> None:
    """Left, a feed cancels its handlers and tells its listeners; nothing comes after that."""
    begun = anyio.Event()

    @handlers.on(Started)
    async def stuck(_event: Started) -> None:
        begun.set()
        await anyio.sleep_forever()

    async with feeding(handlers) as fed:
        waiting = fed.feed.wait_for(("response.done",), None, None)
        fed.give(0)
        fed.give(1)
        await begun.wait()
        fed.feed.leave(CloseInfo(code=1001))
        fed.give(2)
        assert fed.settled == []
        with pytest.raises(SessionClosed):
            await waiting
        with pytest.raises(SessionClosed):
            fed.feed.start_soon(anyio.sleep, 0)


async def test_a_mailbox_that_pauses_holds_its_feed(handlers: Handlers[str]) -> None:
    """Whoever reads is told to stop, and to go on."""
    gate, told = anyio.Event(), []

    @handlers.on(Started, max_pending=2, overflow="pause")
    async def slow(_event: Started) -> None:
        await gate.wait()

    async with feeding(handlers, on_held=told.append) as fed:
        for number in range(5):
            fed.give(number)
        assert fed.feed.held
        gate.set()
        await fed.until_settled(5)
        assert told == [True, False]


async def test_a_handler_knows_which_delivery_it_has(handlers: Handlers[str]) -> None:
    """By key, by its own name, and counting what it asks for, from one again at each attempt."""
    seen: list[tuple[str, str, int]] = []

    @handlers.on(Started, name="h")
    async def handle(_event: Started) -> None:
        found = current_delivery()
        assert found is not None
        seen.append((found.key, found.handler, next(found.numbers)))
        if len(seen) < 2:
            raise ValueError("again")

    async with feeding(handlers) as fed:
        fed.give(4)
        await fed.until_settled(1)
    assert seen == [("k4", "h", 1), ("k4", "h", 1)]
    assert current_delivery() is None


async def test_what_is_no_longer_ours_is_not_begun(handlers: Handlers[str]) -> None:
    """Without the right to handle it, an event waits for the feed's end."""
    ours, got = [True], []
    handlers.on(Started)(lambda event: got.append(event.audio_start_ms))
    async with feeding(handlers, may_handle=lambda: ours[0]) as fed:
        fed.give(0)
        await fed.until_settled(1)
        ours[0] = False
        fed.give(1)
        await anyio.wait_all_tasks_blocked()
        assert (got, fed.settled) == ([0], [0])

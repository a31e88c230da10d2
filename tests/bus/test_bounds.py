"""What waits for a slow handler or reader is bounded in bytes, not only in number."""

from __future__ import annotations

import tracemalloc
from typing import Any

import anyio
import pytest
from msgspec import UNSET

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.routing import _backlog, _streams

from ._peer import Peer, joined, quiet, sound, word

pytestmark = pytest.mark.anyio

Sound = ev.ResponseOutputAudioDelta
SECOND = bytes(48_000)  # of PCM16; its frame is 64 kB


class Slow:
    """A handler of audio that takes one event and holds on to it until it is told to go on."""

    def __init__(self, session: Session, **options: Any) -> None:
        self.heard: list[int] = []
        self.go = anyio.Event()
        session.on(Sound, name="slow", **options)(self)

    async def __call__(self, event: Sound) -> None:
        """Take an event and hold on to it."""
        self.heard.append(event.output_index - 1000)
        await self.go.wait()


def second(number: int, audio: bytes = SECOND) -> Sound:
    """Make a second of audio that tests can tell from others; all are of one length."""
    place: dict[str, Any] = {"output_index": 1000 + number, "content_index": 0}
    return Sound(response_id="r", item_id="i", **place, delta=audio)


FRAME_BYTES = len(second(0).to_json())


async def fill(peer: Peer, count: int) -> None:
    """Let one event be taken, and send others behind it."""
    peer.say(second(0))
    await quiet()
    for number in range(1, count):
        peer.say(second(number))


@pytest.mark.parametrize("mode", ["queue", "eager", "parallel"])
async def test_a_slow_handler_of_audio_holds_16_mib(mode: Any) -> None:
    """By default the oldest audio goes when more than that waits; counted, and told once."""
    options = {"limit": 1} if mode == "parallel" else {}
    async with joined() as (session, peer):
        reports = session.stream(ev.Overflow)
        slow = Slow(session, mode=mode, **options)
        await fill(peer, 400)
        (figures,) = session.statistics().handlers
        fit = 16 * 1024 * 1024 // FRAME_BYTES
        assert figures.pending == fit + 1  # and one in its hands
        assert figures.pending_bytes == fit * FRAME_BYTES
        assert figures.dropped == 399 - fit
        slow.go.set()
        await quiet()
        assert session.statistics().handlers[0].pending_bytes == 0
    assert slow.heard == [0, *range(400 - fit, 400)]
    (report,) = [event async for event in reports]
    assert (report.handler, report.policy, report.dropped) == ("slow", "drop_oldest", 1)
    assert report.pending_bytes == fit * FRAME_BYTES


async def test_drop_newest_keeps_the_oldest_bytes() -> None:
    """``drop_newest`` refuses what would be too much."""
    async with joined() as (session, peer):
        slow = Slow(session, max_pending_bytes=2 * FRAME_BYTES, overflow="drop_newest")
        await fill(peer, 6)
        slow.go.set()
        await quiet()
        assert session.statistics().handlers[0].dropped == 3
    assert slow.heard == [0, 1, 2]


async def test_pause_stops_reading_at_so_many_bytes() -> None:
    """``pause`` makes the transport wait until half of the bytes are gone; nothing is lost."""
    async with joined() as (session, peer):
        slow = Slow(session, max_pending_bytes=2 * FRAME_BYTES, overflow="pause")
        await fill(peer, 4)
        assert peer.transport.paused
        slow.go.set()
        await quiet()
        assert not peer.transport.paused
        assert session.statistics().handlers[0].dropped == 0
    assert slow.heard == [0, 1, 2, 3]


async def test_one_that_is_larger_than_the_bound_waits_alone() -> None:
    """A single event is never too large to wait; all others go for it."""
    async with joined() as (session, peer):
        slow = Slow(session, max_pending_bytes=10_000)
        await fill(peer, 4)
        slow.go.set()
        await quiet()
        assert session.statistics().handlers[0].dropped == 2
    assert slow.heard == [0, 3]


async def test_small_frames_weigh_nothing() -> None:
    """Frames up to 2 KiB are bounded by their number alone, also among large ones."""
    async with joined() as (session, peer):
        slow = Slow(session, max_pending_bytes=FRAME_BYTES)
        await fill(peer, 2)
        peer.say(*(second(number, b"") for number in range(2, 50)))
        assert session.statistics().handlers[0].pending_bytes == FRAME_BYTES
        peer.say(second(50))
        slow.go.set()
        await quiet()
    assert slow.heard == [0, *range(2, 51)]


async def test_an_event_of_its_own_weighs_nothing_beside_audio() -> None:
    """What is emitted in the middle of a large frame is no part of it."""

    class Mark(ev.AppEvent): ...

    async with joined() as (session, peer):
        go = anyio.Event()

        @session.on(Mark, max_pending_bytes=1000)
        async def slow(_event: Mark) -> None:
            await go.wait()

        session.on(Sound)(lambda _: session.emit(Mark()))
        session.intercept(Mark, lambda event, _: event)
        await fill(peer, 10)
        assert session.statistics().handlers[0].dropped == 0
        go.set()


async def test_failures_weigh_what_their_tracebacks_keep() -> None:
    """A slow handler of failures holds no more of the audio that others failed at."""
    async with joined() as (session, peer):
        go = anyio.Event()

        @session.on(ev.HandlerFailed, max_pending_bytes=3 * FRAME_BYTES)
        async def slow(_event: ev.HandlerFailed) -> None:
            await go.wait()

        def fail(event: Sound) -> None:
            raise ValueError

        session.on(Sound)(fail)
        await fill(peer, 10)
        figures = session.statistics().handlers[0]
        assert figures.pending_bytes <= 3 * FRAME_BYTES
        assert figures.dropped > 0
        go.set()


async def test_what_is_injected_weighs_what_it_holds() -> None:
    """An event that was held back counts by the audio in it, for no frame is at hand."""
    held = list[ev.Event]()
    async with joined() as (session, peer):
        slow = Slow(session, max_pending_bytes=2 * FRAME_BYTES + 500)
        session.intercept(Sound, lambda event, _: held.append(event))
        await fill(peer, 6)
        session.inject(held[0])
        await quiet()
        for event in held[1:]:
            session.inject(event)
        assert session.statistics().handlers[0].pending_bytes <= 2 * FRAME_BYTES + 500
        slow.go.set()
        await quiet()
    assert slow.heard == [0, 4, 5]


async def test_drifted_audio_is_counted_like_other() -> None:
    """An event of which something did not fit weighs what its frame does."""
    async with joined() as (session, peer):
        slow = Slow(session, max_pending_bytes=2 * FRAME_BYTES, narrowed=True)
        peer.say(second(0))
        await quiet()
        for number in range(1, 6):
            peer.say(second(number).to_json().replace(b'"item_id":"i"', b'"item_id":["i"]'))
        assert 0 < session.statistics().handlers[0].pending_bytes <= 2 * FRAME_BYTES
        slow.go.set()
        await quiet()
    assert slow.heard[0] == 0
    assert len(slow.heard) == 2


async def test_a_stream_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reader of a stream loses the oldest audio; counted, and told once a stretch."""
    monkeypatch.setattr(_backlog, "MAX_BYTES", 3 * FRAME_BYTES)
    async with joined() as (session, peer):
        reports = session.stream(ev.Overflow)
        async with session.stream(Sound) as stream:
            await fill(peer, 8)
            assert stream.dropped == 5
            assert [(await anext(stream)).output_index for _ in range(3)] == [1005, 1006, 1007]
            await fill(peer, 8)
    assert [report.dropped async for report in reports] == [1, 6]


async def test_a_stream_of_everything_survives_its_own_overflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The report of an overflow may itself go into the stream that is full."""
    monkeypatch.setattr(_streams, "MAX_EVENTS", 3)
    async with joined() as (session, peer):
        everything = session.stream("*")
        await fill(peer, 8)
        assert everything.dropped == 6


async def test_a_reply_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audio and words that nobody reads go, the oldest first; counted, and told once."""
    monkeypatch.setattr(_backlog, "MAX_BYTES", 100_000)
    async with joined() as (session, peer):
        reports = session.stream(ev.Overflow)
        reply = session.respond()
        audio, words = reply.audio(), reply.text()
        found = ev.Response(id="resp_1", metadata=UNSET)
        peer.say(ev.ResponseCreated(response=found))
        peer.say(*(sound(bytes([n]) * 48_000) for n in range(6)))
        peer.say(*(word(str(n) * 40_000) for n in range(6)), ev.ResponseDone(response=found))
        assert [chunk[0] async for chunk in audio] == [4, 5]
        assert [text[0] async for text in words] == ["4", "5"]
        assert reply.dropped == 8
        await reply
    (report,) = [event async for event in reports]
    assert report.handler == "Reply"


async def test_held_events_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of events without audio that interceptors have ended, so many bytes are kept."""
    monkeypatch.setattr(_backlog, "MAX_BYTES", 100_000)
    async with joined() as (session, peer):
        session.intercept(ev.ResponseOutputTextDelta, lambda event, _: None)
        tracemalloc.start()
        peer.say(*(word(str(n % 10) * 40_000) for n in range(100)))
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert held < 200_000


def test_a_bound_in_bytes_is_checked_like_other_options() -> None:
    """It is a positive integer, and nothing for handlers without a mailbox of many."""
    bus = Bus()

    async def handler(event: ev.Event) -> None: ...

    with pytest.raises(UsageError, match="max_pending_bytes=0 must be a positive integer"):
        bus.on("*", max_pending_bytes=0)(handler)
    with pytest.raises(UsageError, match="mode='latest' keeps one event"):
        bus.on("*", mode="latest", max_pending_bytes=5)(handler)
    with pytest.raises(UsageError, match="no mailbox"):
        bus.on("*", max_pending_bytes=5)(print)

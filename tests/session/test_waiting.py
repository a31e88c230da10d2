"""Waiting for events in the middle of a program."""

from __future__ import annotations

import anyio
import pytest

from realtime_bus import SessionClosed, UsageError
from realtime_bus import events as ev
from realtime_bus.routing import _streams

from ..bus._peer import joined, quiet, speech, word  # noqa: TID252  # tests are no package with a name of its own

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


async def test_waiting_subscribes_when_it_is_called() -> None:
    """An event between the call of `wait_for` and the await is not missed."""
    async with joined() as (session, peer):
        waiting = session.wait_for(Started)
        peer.say(speech(1), speech(2))
        assert (await waiting).audio_start_ms == 1
        assert (await waiting).audio_start_ms == 1


async def test_waiting_for_one_that_fits() -> None:
    """A predicate chooses; names, patterns and several classes do as in `on`."""
    async with joined() as (session, peer):
        waiting = session.wait_for(
            "input_audio_buffer.speech_started", where=lambda event: event.audio_start_ms > 1
        )
        either = session.wait_for(ev.ResponseDone, ev.ResponseOutputTextDelta)
        peer.say(speech(1), word("a"), speech(2))
        assert (await waiting).audio_start_ms == 2
        assert (await either).type == "response.output_text.delta"


async def test_waiting_has_a_timeout() -> None:
    """`wait_for` with ``timeout_s`` gives up and says what did not come."""
    async with joined() as (session, _):
        with pytest.raises(TimeoutError, match=r"no InputAudioBufferSpeechStarted within 0\.01 s"):
            await session.wait_for(Started, timeout_s=0.01)


async def test_waiting_ends_with_the_session() -> None:
    """Whoever waits when the session ends gets `SessionClosed` with the reason."""
    async with joined() as (session, peer):
        waiting = session.wait_for(Started)
        peer.hang_up(1001, "60 minutes")
        with pytest.raises(SessionClosed) as caught:
            await waiting
    assert caught.value.close.reason == "60 minutes"


async def test_cancelled_waiting_leaves_no_trace() -> None:
    """After a cancelled await nothing listens any more."""
    async with joined() as (session, peer):
        with anyio.move_on_after(0):
            await session.wait_for("response.output_text.delta")
        peer.say(word("a"))
        assert session.statistics().frames_skipped == 1


async def test_a_mistake_fails_at_the_call() -> None:
    """`wait_for` and `stream` check their selectors when they are called."""
    async with joined() as (session, _):
        with pytest.raises(UsageError, match="did you mean"):
            session.wait_for("response.dnoe")  # type: ignore[call-overload]  # the mistake
        with pytest.raises(UsageError, match="give at least one event"):
            session.stream()  # type: ignore[call-overload]  # the mistake


async def test_a_stream_gives_events_as_they_come() -> None:
    """`stream` listens from its call on, and waits for what has not come yet."""
    heard = list[int]()
    async with joined() as (session, peer):
        stream = session.stream(Started)
        peer.say(speech(1))

        async def later() -> None:
            await quiet()
            peer.say(speech(2), speech(3))

        session.start_soon(later)
        async for event in stream:
            heard.append(event.audio_start_ms)
            if len(heard) == 3:
                break
    assert heard == [1, 2, 3]


async def test_a_stream_ends_with_the_session() -> None:
    """When the session ends in order, a stream gives what has come and stops."""
    async with joined() as (session, peer):
        stream = session.stream(Started)
        peer.say(speech(1))
        peer.hang_up(1001)
        assert [event.audio_start_ms async for event in stream] == [1]


@pytest.mark.parametrize("code", [1006, 1011])
async def test_a_stream_that_is_cut_off_says_so(code: int) -> None:
    """When the connection breaks, or an error closes it, a stream ends with `SessionClosed`."""
    async with joined() as (session, peer):
        stream = session.stream(Started)
        peer.say(speech(1))
        peer.hang_up(code)
        assert (await anext(stream)).audio_start_ms == 1  # what has come before
        with pytest.raises(SessionClosed, match=f"closed with {code} .* in the middle of a stream"):
            await anext(stream)
        with pytest.raises(SessionClosed):  # whoever asks again
            await anext(stream)
        stream.close()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_stream_that_is_closed_wakes_its_reader() -> None:
    """`aclose` forgets what was not read, and ends a reader that waits."""
    async with joined() as (session, peer):
        stream = session.stream(Started)
        session.start_soon(stream.aclose)
        assert [event async for event in stream] == []
        peer.say(speech(1))
        assert [event async for event in stream] == []


async def test_a_stream_in_a_block_ends_with_it() -> None:
    """``async with`` around a stream stops listening at its end."""
    async with joined() as (session, peer):
        async with session.stream("response.output_text.delta") as words:
            peer.say(word("a"))
            assert (await anext(words)).delta == "a"
        peer.say(word("b"))
        assert session.statistics().frames_skipped == 1


async def test_two_readers_share_a_stream() -> None:
    """Each event of a stream goes to one of its readers, and none is forgotten."""
    heard = list[int]()
    async with joined() as (session, peer):
        stream = session.stream(Started)

        async def read() -> None:
            heard.append((await anext(stream)).audio_start_ms)

        async with anyio.create_task_group() as readers:
            readers.start_soon(read)
            readers.start_soon(read)
            await quiet()
            peer.say(speech(1), speech(2))
    assert sorted(heard) == [1, 2]


async def test_a_reader_that_is_far_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream holds so many events; then the oldest go, and are counted."""
    monkeypatch.setattr(_streams, "MAX_EVENTS", 2)
    async with joined() as (session, peer):
        stream = session.stream(Started)
        peer.say(*map(speech, range(5)))
        peer.hang_up(1000)
        assert stream.dropped == 3
        assert [event.audio_start_ms async for event in stream] == [3, 4]


async def test_closing_can_be_waited_for() -> None:
    """`wait_for` of `Closed` gives the event, though the session is over by then."""
    async with joined() as (session, peer):
        waiting = session.wait_for(ev.Closed)
        peer.hang_up(1000, "bye")
        assert (await waiting).reason == "bye"

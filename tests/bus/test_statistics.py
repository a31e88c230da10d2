"""Figures of handlers, sessions and the bus."""

from __future__ import annotations

import anyio
import pytest

from realtime_bus import Bus
from realtime_bus import events as ev

from ._peer import joined, quiet, speech, word

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


async def test_a_handlers_figures() -> None:
    """Each handler counts what it finished, what waits, what it lost and where it failed."""
    go = anyio.Event()
    async with joined() as (session, peer):

        @session.on(Started, max_pending=2, name="listener")
        async def listen(event: Started) -> None:
            if event.audio_start_ms == 0:
                raise ValueError
            await go.wait()

        peer.say(speech(0))
        await quiet()
        peer.say(speech(1))
        await quiet()
        peer.say(speech(2), speech(3), speech(4))
        (figures,) = session.statistics().handlers
        assert (figures.handler, figures.delivered, figures.pending) == ("listener", 1, 3)
        assert (figures.dropped, figures.failed) == (1, 1)
        assert 0 < figures.slowest_s < 10
        go.set()
        await quiet()
        assert figures.delivered == 1  # a snapshot stays as it was
        assert session.statistics().handlers[0].delivered == 4
        assert session.statistics().handlers[0].pending == 0


async def test_a_predicate_that_raises_counts_as_failed() -> None:
    """An event at which the predicate raised was not delivered, and counts as a failure."""
    async with joined() as (session, peer):
        session.on(Started, where=lambda event: 1 // event.audio_start_ms > 0)(lambda event: None)
        peer.say(speech(0), speech(1), speech(2))
        (figures,) = session.statistics().handlers
    assert (figures.delivered, figures.failed) == (1, 1)


async def test_the_sessions_own_listeners_are_not_shown() -> None:
    """What the library itself subscribes to is no part of the figures."""
    async with joined() as (session, _):
        waiting = session.wait_for(Started)
        async with session.stream(Started):
            assert session.statistics().handlers == []
    del waiting


async def test_a_sessions_figures() -> None:
    """A session counts frames and bytes each way, and how often something did not fit."""
    async with joined() as (session, peer):
        before = session.statistics()
        peer.say(b'{"type":"new.event"}', b"nonsense", b"nonsense")
        session.send_nowait(ev.InputAudioBufferClear())
        after = session.statistics()
    assert after.frames_received - before.frames_received == 3
    assert after.bytes_received - before.bytes_received == 20 + 16
    assert (after.frames_sent, after.bytes_sent) == (1, len('{"type":"input_audio_buffer.clear"}'))
    assert sorted(after.drift.values()) == [1, 2]


async def test_frames_that_nobody_wants_are_not_decoded() -> None:
    """A frame whose type has no listener is counted as unheard, and its faults go unnoticed."""
    async with joined() as (session, peer):
        peer.say(word("a"), b'{"type":"response.output_text.delta","delta":5}')
        assert session.statistics().frames_skipped == 2
        assert session.statistics().drift == {}
        session.on("response.output_text.delta")(lambda event: None)
        peer.say(word("b"))
        assert session.statistics().frames_skipped == 2
        session.intercept("response.output_audio.delta", lambda event, session: event)
        peer.say(b'{"type":"response.output_audio.delta","delta":""}')
        assert session.statistics().frames_skipped == 2


async def test_off_makes_a_type_unheard_again() -> None:
    """After its last listener has gone, a type is not decoded any more."""
    async with joined() as (session, peer):
        async with session.stream("response.output_text.delta"):
            peer.say(word("a"))
        peer.say(word("b"))
        assert session.statistics().frames_skipped == 1


async def test_the_bus_sums_over_sessions_open_and_ended() -> None:
    """The bus's figures of a handler are those of all sessions together, counted once each."""
    bus = Bus()
    bus.on(Started, name="listener")(lambda event: None)
    async with joined(bus) as (_, first):
        first.say(speech(), speech())
        async with joined(bus) as (_, second):
            second.say(speech())
            assert bus.statistics().sessions == 2
            assert bus.statistics().handlers[0].delivered == 3
        assert bus.statistics().sessions == 1
        assert bus.statistics().handlers[0].delivered == 3
    (figures,) = bus.statistics().handlers
    assert (bus.statistics().sessions, figures.handler, figures.delivered) == (0, "listener", 3)
    assert figures.pending == 0


async def test_what_was_lost_at_the_end_is_in_the_bus_figures() -> None:
    """Events dropped because their session ended are counted, one in a handler's hands as well."""
    bus = Bus(drain_timeout_s=0)

    @bus.on(Started)
    async def stuck(event: Started) -> None:
        await anyio.sleep_forever()

    async with joined(bus) as (_, peer):
        peer.say(speech(), speech(), speech())
        await quiet()
    (figures,) = bus.statistics().handlers
    assert (figures.delivered, figures.dropped, figures.pending) == (0, 3, 0)


class Namesake:
    """Has a method that can be named."""

    def listen(self, event: Started) -> None:
        """Do nothing."""


async def test_the_default_name_is_the_qualified_name() -> None:
    """A handler without a name of its own is called by its module and qualified name."""
    async with joined() as (session, _):
        session.on(Started)(Namesake().listen)
        (figures,) = session.statistics().handlers
    assert figures.handler == f"{__name__}.Namesake.listen"


async def test_a_function_that_takes_itself_out_is_counted_at_the_event_at_hand() -> None:
    """What a plain function did is in the bus's figures, though it left before it ended."""
    bus = Bus()
    async with joined(bus) as (session, peer):

        @bus.on(Started)
        def leave(event: Started) -> None:
            session.off(leave)

        peer.say(speech(1), speech(2))
        assert session.statistics().handlers == []
    (total,) = bus.statistics().handlers
    assert (total.delivered, total.pending) == (1, 0)

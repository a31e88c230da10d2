"""Handlers that come and go."""

from __future__ import annotations

import anyio
import pytest

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev

from ._peer import joined, quiet, speech, word

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


async def test_once_on_the_bus_is_once_over_all_sessions() -> None:
    """A handler registered with `Bus.once` runs for the first event of whichever session."""
    bus, heard = Bus(), list[int]()
    bus.once(Started)(lambda event: heard.append(event.audio_start_ms))
    async with joined(bus) as (_, left), joined(bus) as (_, right):
        right.say(speech(1))
        left.say(speech(2))
        right.say(speech(3))
    assert heard == [1]


async def test_once_on_a_session() -> None:
    """A handler registered with `Session.once` runs once, though two events come in a row."""
    heard = list[int]()
    async with joined() as (session, peer):

        @session.once(Started)
        async def first(event: Started) -> None:
            heard.append(event.audio_start_ms)

        peer.say(speech(1), speech(2))
    assert heard == [1]


async def test_once_with_a_predicate_waits_for_an_event_that_fits() -> None:
    """Events that the predicate refuses do not use a `once` handler up."""
    heard = list[int]()
    async with joined() as (session, peer):
        session.once(Started, where=lambda event: event.audio_start_ms > 1)(
            lambda event: heard.append(event.audio_start_ms)
        )
        peer.say(speech(1), speech(2), speech(3))
    assert heard == [2]


async def test_a_once_handler_that_causes_its_own_event_runs_once() -> None:
    """An event that comes while a `once` handler runs does not start it again."""
    heard = list[int]()
    async with joined() as (session, peer):

        @session.once(Started)
        def first(event: Started) -> None:
            heard.append(event.audio_start_ms)
            session.inject(speech(2))

        peer.say(speech(1))
    assert heard == [1]


async def test_off_takes_every_registration_of_a_handler() -> None:
    """After `Bus.off` a handler gets nothing more, in sessions that are open as well."""
    bus, heard = Bus(), list[str]()

    def listen(event: ev.Event) -> None:
        heard.append(event.type)

    bus.on(Started)(listen)
    bus.on("input_audio_buffer.speech_stopped")(listen)
    async with joined(bus) as (_, peer):
        peer.say(speech())
        bus.off(listen)
        peer.say(speech())
        peer.say(ev.InputAudioBufferSpeechStopped(audio_end_ms=1, item_id="i"))
    assert heard == ["input_audio_buffer.speech_started"]


async def test_off_takes_effect_at_once() -> None:
    """A handler that an earlier handler of the same event takes out does not get that event."""
    heard = list[str]()
    async with joined() as (session, peer):

        @session.on(Started)
        def first(event: Started) -> None:
            session.off(inline)
            session.off(queued)

        @session.on(Started)
        def inline(event: Started) -> None:
            heard.append("inline")

        @session.on(Started)
        async def queued(event: Started) -> None:
            heard.append("queued")

        peer.say(speech())
    assert heard == []


async def test_what_waits_is_still_handled_after_off() -> None:
    """Events that are in a mailbox when its handler is taken out are not lost."""
    heard, go = list[int](), anyio.Event()
    async with joined() as (session, peer):

        @session.on(Started)
        async def slow(event: Started) -> None:
            await go.wait()
            heard.append(event.audio_start_ms)

        peer.say(speech(1), speech(2))
        await quiet()
        session.off(slow)
        peer.say(speech(3))
        go.set()
    assert heard == [1, 2]


async def test_a_session_can_leave_a_handler_of_the_bus_out() -> None:
    """`Session.off` with a handler of the bus silences it in that session alone."""
    bus, heard = Bus(), list[int]()

    @bus.on(Started)
    def listen(event: Started) -> None:
        heard.append(event.audio_start_ms)

    async with joined(bus) as (first, one), joined(bus) as (_, two):
        first.off(listen)
        one.say(speech(1))
        two.say(speech(2))
    assert heard == [2]


async def test_a_handler_registered_in_the_middle_reaches_open_sessions() -> None:
    """`Bus.on` takes effect in sessions that are open already."""
    bus, heard = Bus(), list[int]()
    async with joined(bus) as (_, peer):
        peer.say(speech(1))
        bus.on(Started)(lambda event: heard.append(event.audio_start_ms))
        peer.say(speech(2))
    assert heard == [2]


async def test_off_of_a_stranger_is_an_error() -> None:
    """Taking out what was never registered is a mistake, and says so."""

    def stranger(event: ev.Event) -> None: ...

    with pytest.raises(UsageError, match="stranger is not registered with this bus"):
        Bus().off(stranger)
    async with joined() as (session, _):
        with pytest.raises(UsageError, match="stranger is not registered here"):
            session.off(stranger)


async def test_off_takes_interceptors_out() -> None:
    """`Session.off` knows interceptors of both ways, and one function that is both at once."""
    trace = list[str]()

    def note(event: ev.Event, _session: Session) -> ev.Event:
        trace.append(event.type)
        return event

    async with joined() as (session, peer):
        session.intercept(Started, note)
        session.intercept("*", note)
        session.intercept_outgoing("*", note)
        peer.say(speech())
        session.send_nowait(ev.InputAudioBufferClear())
        assert trace == [speech().type, speech().type, "input_audio_buffer.clear"]
        session.off(note)
        peer.say(speech())
        session.send_nowait(ev.InputAudioBufferClear())
        with pytest.raises(UsageError, match="note is not registered here"):
            session.off(note)
    assert len(trace) == 3


async def test_off_takes_effect_in_the_middle_of_an_event() -> None:
    """An interceptor may take itself out; the event at hand goes its way."""
    heard = list[int]()
    async with joined() as (session, peer):

        def once(event: Started, session: Session) -> None:
            session.off(once)

        session.intercept(Started, once)
        session.on(Started)(lambda event: heard.append(event.audio_start_ms))
        peer.say(speech(1), speech(2))
    assert heard == [2]


async def test_frames_that_nobody_wants_any_more_are_skipped() -> None:
    """With its last handler or interceptor gone, a type of event is not decoded."""
    async with joined() as (session, peer):

        def listen(event: ev.Event) -> None: ...

        def pass_on(event: ev.Event, session: Session) -> ev.Event:
            return event

        session.on(word("").type)(listen)
        session.intercept(ev.ResponseOutputTextDelta, pass_on)
        for function, skipped in ((None, 0), (listen, 0), (pass_on, 1)):
            if function is not None:
                session.off(function)
            peer.say(word("a"))
            assert session.statistics().frames_skipped == skipped


async def test_the_bus_takes_out_handlers_alone() -> None:
    """Interceptors belong to sessions: `Bus.off` says that it does not know them."""
    bus = Bus()

    def hold(event: ev.Event, session: Session) -> None: ...

    async with joined(bus) as (session, _):
        session.intercept(Started, hold)
        with pytest.raises(UsageError, match="hold is not registered with this bus"):
            bus.off(hold)

"""The seam for plugins: events can be dropped, replaced and delayed on their way."""

# ruff: noqa: D103  # the samples say by their names what they are

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from realtime_bus import InvalidEvent, Session, UsageError
from realtime_bus import events as ev

from ._peer import joined, speech, word

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


async def test_an_interceptor_runs_before_any_handler() -> None:
    """Interceptors see an event first, however late they were registered."""
    trace = list[str]()
    async with joined() as (session, peer):
        session.on(Started)(lambda event: trace.append("handler"))

        def intercept(event: ev.Event, session: Session) -> ev.Event:
            trace.append(f"interceptor of {session.id}")
            return event

        session.intercept(Started, intercept)
        peer.say(speech())
    assert trace == ["interceptor of sess_1", "handler"]


async def test_an_event_can_be_dropped() -> None:
    """None from an interceptor ends the event: no other interceptor, no handler."""
    heard = list[int]()
    async with joined() as (session, peer):
        session.intercept(Started, lambda event, session: None if event.audio_start_ms else event)
        session.intercept(Started, lambda event, session: heard.append(-1) or event)
        session.on("*")(
            lambda event: heard.append(event.audio_start_ms) if isinstance(event, Started) else None
        )
        peer.say(speech(0), speech(1))
    assert heard == [-1, 0]


async def test_an_event_can_be_replaced() -> None:
    """What an interceptor returns goes to the next one and to the handlers."""
    heard = list[Any]()

    def next_number(event: Any, _session: Session) -> Any:
        return msgspec.structs.replace(event, audio_start_ms=event.audio_start_ms + 1)

    async with joined() as (session, peer):
        session.intercept(Started, next_number)
        session.intercept((Started, "response.done"), next_number)
        session.on(Started)(lambda event: heard.append(event.audio_start_ms))
        peer.say(speech(1))
    assert heard == [3]


async def test_an_event_may_become_one_of_another_type() -> None:
    """A replacement goes to the handlers of its own type."""
    heard = list[str]()
    async with joined() as (session, peer):
        session.intercept(ev.UnknownEvent, lambda event, session: word("translated"))
        session.on("response.output_text.delta")(lambda event: heard.append(event.delta))
        session.on(ev.UnknownEvent)(lambda event: heard.append("unknown"))
        peer.say(b'{"type":"some.dialect.delta"}')
    assert heard == ["translated"]


async def test_an_event_can_be_delayed() -> None:
    """An event that was kept is delivered by `inject`, past the interceptors."""
    heard, kept = list[int](), list[ev.Event]()
    async with joined() as (session, peer):
        session.intercept(Started, lambda event, session: kept.append(event))
        session.on(Started)(lambda event: heard.append(event.audio_start_ms))
        peer.say(speech(1))
        assert heard == []
        session.inject(kept[0])
        assert heard == [1]
        assert session.frame == speech(1).to_json()


async def test_happenings_can_be_intercepted_too() -> None:
    """The bus's own events pass the interceptors as a server's do."""
    heard = list[str]()
    async with joined() as (session, peer):
        session.intercept("bus.unknown_event", lambda event, session: None)
        session.on(ev.BusEvent)(lambda event: heard.append(event.type))
        peer.say(b'{"type":"new"}')
    assert heard == ["bus.drift", "bus.closed"]


async def test_an_interceptor_that_returns_nonsense_is_reported() -> None:
    """What is no event is not delivered: the failure is reported and the event goes on."""
    heard = list[int]()
    async with joined() as (session, peer):
        failed = session.wait_for(ev.HandlerFailed)
        session.intercept(Started, lambda event, session: True)  # type: ignore[arg-type, return-value]  # the mistake
        session.on(Started)(lambda event: heard.append(event.audio_start_ms))
        peer.say(speech(1))
        assert "returned True; an interceptor returns the event" in str((await failed).error)
    assert heard == [1]


async def asynchronous(event: Any, session: Any) -> Any: ...
def alone(event: Any) -> Any: ...


REFUSED: list[tuple[Any, str]] = [
    (asynchronous, "asynchronous is async, and nothing may be awaited on an event's way"),
    (alone, "alone cannot be called with (event, session)"),
    (5, "5 is not callable; give a function of (event, session)"),
]


@pytest.mark.parametrize(("interceptor", "message"), REFUSED)
async def test_a_wrong_interceptor_is_refused(interceptor: Any, message: str) -> None:
    """An interceptor that cannot work fails where it is registered, on both ways."""
    async with joined() as (session, _):
        for register, event in (
            (session.intercept, "error"),
            (session.intercept_outgoing, "session.update"),
        ):
            with pytest.raises(UsageError) as caught:
                register(event, interceptor)
            assert message in str(caught.value)


async def test_an_outgoing_event_can_be_dropped_and_replaced() -> None:
    """What we send passes the outgoing interceptors, in the order of their registration."""
    async with joined() as (session, peer):
        session.intercept_outgoing(
            "input_audio_buffer.*",
            lambda event, session: None if isinstance(event, ev.InputAudioBufferClear) else event,
        )
        session.intercept_outgoing(
            ev.InputAudioBufferAppend,
            lambda event, session: ev.InputAudioBufferAppend(audio=event.audio[::-1]),
        )
        session.send_nowait(ev.InputAudioBufferClear())
        await session.append_audio(b"1234")
        session.send_nowait(ev.ResponseCancel())
    assert peer.sent == [ev.InputAudioBufferAppend(audio=b"4321"), ev.ResponseCancel()]


async def test_an_outgoing_interceptor_can_refuse() -> None:
    """What an outgoing interceptor raises comes out where the event was sent."""

    def refuse(event: Any, session: Any) -> Any:
        raise PermissionError("not today")

    async with joined() as (session, peer):
        session.intercept_outgoing(ev.ResponseCancel, refuse)
        with pytest.raises(PermissionError, match="not today"):
            await session.send(ev.ResponseCancel())
        assert peer.sent == []


async def test_what_an_interceptor_made_is_checked_before_it_leaves() -> None:
    """A replacement is held against its type like any other event that we send."""
    async with joined() as (session, _):
        session.intercept_outgoing(
            ev.ResponseCancel,
            lambda event, session: ev.ConversationItemDelete(item_id=5),  # type: ignore[arg-type]  # the mistake
        )
        with pytest.raises(InvalidEvent) as caught:
            session.send_nowait(ev.ResponseCancel())
    assert caught.value.param == "item_id"


async def test_each_direction_has_its_own_events() -> None:
    """An event that goes the other way is refused, with what to use instead."""
    async with joined() as (session, _):
        with pytest.raises(UsageError, match=r"use session\.intercept_outgoing"):
            session.intercept(ev.SessionUpdate, lambda event, session: event)
        with pytest.raises(UsageError, match="cannot be intercepted on its way out"):
            session.intercept_outgoing(ev.SessionUpdated, lambda event, session: event)

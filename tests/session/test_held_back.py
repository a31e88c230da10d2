"""Events that an interceptor holds back, drops on their way out, or makes up."""

from __future__ import annotations

import anyio
import pytest

from realtime_bus import Bus, RequestError, Session
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport

pytestmark = pytest.mark.anyio

_FRAME = (
    b'{"type":"input_audio_buffer.speech_started","event_id":"e","audio_start_ms":1,"item_id":"i"}'
)


async def test_an_event_that_was_held_goes_on_behind_its_holder() -> None:
    """An injected event is seen by the interceptors after the one that held it, and by handlers."""
    held: list[ev.Event] = []
    seen: list[str] = []

    def hold(event: ev.Event, session: Session) -> None:
        held.append(event)

    def after(event: ev.Event, session: Session) -> ev.Event:
        seen.append("after")
        return event

    transport = PushTransport(send=lambda frame: None)
    async with Bus().session(transport, wait_created=False) as session:
        session.intercept(ev.InputAudioBufferSpeechStarted, hold)
        session.intercept(ev.InputAudioBufferSpeechStarted, after)
        session.on(ev.InputAudioBufferSpeechStarted)(lambda event: seen.append("handler"))
        transport.feed(_FRAME)
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        session.inject(held[0], behind=hold)
        assert seen == ["after", "handler"]
        session.inject(held[0])
        assert seen == ["after", "handler"] * 2


@pytest.mark.breaks_rules("wait-for-session-created")
async def test_a_request_that_an_interceptor_ends_fails_at_once() -> None:
    """Awaiting a request that was never sent raises, instead of waiting for an answer."""
    transport = PushTransport(send=lambda frame: None)
    async with Bus().session(transport, wait_created=False) as session:
        session.intercept_outgoing("*", lambda event, session: None)
        with pytest.raises(RequestError, match="interceptor"):
            await session.clear_input()
        with pytest.raises(RequestError, match="interceptor"):
            await session.respond()


async def test_a_plugins_own_happening_can_be_handled() -> None:
    """A class that a plugin derives from BusEvent is registered for and emitted like ours."""

    class TeaIsReady(ev.BusEvent, frozen=True, kw_only=True, tag="tea.ready"):
        cups: int

    bus = Bus()
    cups: list[int] = []
    bus.on(TeaIsReady)(lambda event: cups.append(event.cups))
    transport = PushTransport(send=lambda frame: None)
    async with bus.session(transport, wait_created=False) as session:
        session.emit(TeaIsReady(cups=2))
    assert cups == [2]
